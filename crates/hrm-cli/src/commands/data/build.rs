//! Datasets of any task: from files, and generated.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    registry::{Family, Shape},
    task::{self, AnyTask, GenerateOptions, Record, Split},
};

use super::{Folder, OnLeak, at, examples, settle};
use crate::terminal::{Working, count};

/// Generates puzzles of a shape and says so. `nouns` are what a puzzle is called, and what is promised of all of them.
pub fn generate(
    shape: Shape,
    options: &GenerateOptions,
    wanted: (usize, usize),
    folder: &Folder,
    (noun, promise): (&str, &str),
) -> Result<Split<Record>> {
    folder.check()?;
    let start = Instant::now();
    let working = Working::on(format!("generating {} of {shape}", count(wanted.0 + wanted.1, noun)));
    let made = shape.task().split(options, folder.seed(), wanted).map_err(anyhow::Error::msg)?;
    drop(working);
    say!(
        "generated {} and {} of {shape} in {:.1} s; {promise}",
        count(made.train.len(), &format!("training {noun}")),
        count(made.test.len(), &format!("test {noun}")),
        start.elapsed().as_secs_f64()
    );
    Ok(made)
}

/// Files of puzzles of one family.
pub struct Files<'a> {
    pub family: Family,
    /// What a puzzle is called.
    pub noun: &'static str,
    pub source: &'a Path,
    pub extra: &'a [PathBuf],
    pub test: Option<&'a Path>,
    pub subsample: Option<usize>,
    pub min_rating: Option<f64>,
    /// Rows and columns of the puzzles in a folder.
    pub size: Option<(usize, usize)>,
    pub on_leak: OnLeak,
}

impl Files<'_> {
    /// Reads and selects training puzzles, and reads test puzzles.
    pub fn read(&self, folder: &Folder) -> Result<(AnyTask, Split<Record>)> {
        folder.check()?;
        let all = self.all(self.source)?;
        let (shape, read) = (all.0, all.1.len());
        let mut kept = all.1;
        let mut below = String::new();
        if let Some(least) = self.min_rating {
            if let Some(index) = kept.iter().position(|record| record.rating.is_none()) {
                bail!(
                    "{}: puzzle {} has no rating, but a minimum rating of {least} was asked for",
                    self.source.display(),
                    index + 1
                );
            }
            kept.retain(|record| record.rating.is_some_and(|rating| rating >= least));
            below = format!("{} below the minimum rating, ", read - kept.len());
        }
        let mut train = match (self.subsample, self.family.draws_as_it_reads()) {
            (None, _) => kept,
            (size, true) => {
                task::reservoir(kept.into_iter().map(Ok::<_, anyhow::Error>), size, folder.seed())?
            }
            (Some(size), false) => task::draw(kept, size, folder.seed()).0,
        };
        say!("{}: {} read, {below}{} kept", self.source.display(), count(read, self.noun), train.len());
        for path in self.extra {
            let (_, more) = self.all(path)?;
            say!("{}: {}", path.display(), count(more.len(), self.noun));
            train.extend(more);
        }
        let test =
            self.test.map(|path| self.all(path)).transpose()?.map(|(_, test)| test).unwrap_or_default();
        let task = shape.task();
        let leaks = task.leaks(&train, &test).map_err(anyhow::Error::msg)?;
        settle(self.on_leak, &mut train, &leaks)?;
        Ok((task, Split { train, test }))
    }

    /// Every puzzle of a file or folder, and what they are.
    fn all(&self, path: &Path) -> Result<(Shape, Vec<Record>)> {
        let puzzles = examples::read(path, self.family, self.size)?;
        let Some(first) = puzzles.first() else {
            bail!("{}: no {} in it; expected CSV with a column `question`", path.display(), self.noun);
        };
        Ok((first.shape, puzzles.into_iter().map(|puzzle| puzzle.record).collect()))
    }
}

/// Writes `DIR/train` and `DIR/test`: `copies` images beside each training puzzle, and `hints` easier versions of it.
pub fn save(
    folder: &Folder,
    source: &Path,
    task: &AnyTask,
    Split { train, test }: &Split<Record>,
    (copies, hints): (usize, usize),
) -> Result<()> {
    let easier = task::with_hints(task, train, hints, folder.seed()).with_context(at(source))?;
    let all = [train.as_slice(), &easier].concat();
    let (data, solved) = task::dataset(task, &all, copies, folder.seed()).with_context(at(source))?;
    if solved > 0 {
        say!("{solved} solved here, which came without an answer");
    }
    let held_out =
        if test.is_empty() { None } else { Some(task.dataset(test, 0, 0).with_context(at(source))?) };
    folder.save(&data, held_out.as_ref())
}
