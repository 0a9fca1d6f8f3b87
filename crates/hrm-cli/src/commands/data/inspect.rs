//! `hrm data inspect`, also `hrm inspect data`: what is in a dataset or a file of puzzles.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Result;
use hrm_data::{
    dataset::Dataset,
    puzzles::arc,
    reader::Puzzle,
    registry::{Family, Shape},
    task::Record,
};
use hrm_model::summary::thousands;

use super::{examples, rectangle};
use crate::{
    puzzles::families,
    terminal::{count, stdout_style},
};

/// What a dataset or a puzzle file holds: sizes, symmetry, difficulty, and a look at the first puzzles
///
/// Works on folders in the reference's format, on Sudoku and maze CSV, on texts with one Killer, Samurai or queens puzzle a
/// line, and on ARC tasks.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm data inspect data/sudoku-4x4
  hrm data inspect puzzles.csv --show 4
  hrm data inspect mazes.csv.gz --task maze
  hrm data inspect arc1-training.json.gz --task arc")]
pub struct Args {
    /// A dataset folder, or a file of puzzles
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// What the puzzles are [default: of a folder, what its sizes say; of a file, sudoku]
    #[arg(long, value_name = "TASK", value_parser = families())]
    task: Option<Family>,
    /// Rows and columns of mazes in a folder [default: as many rows as columns]
    #[arg(long, value_name = "ROWSxCOLS", value_parser = rectangle)]
    size: Option<(usize, usize)>,
    /// Puzzles to draw
    #[arg(long, value_name = "N", default_value_t = 2)]
    show: usize,
    /// Puzzles whose symmetry and difficulty are looked at
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sample: usize,
    /// Draw without colours
    #[arg(long)]
    plain: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, out: &mut impl Write) -> Result<()> {
        let is_dataset = self.path.is_dir() && self.task != Some(Family::Arc)
            || examples::dataset_folders(&self.path).is_ok();
        if is_dataset {
            for folder in examples::dataset_folders(&self.path)? {
                self.dataset(out, &folder)?;
            }
            return Ok(());
        }
        let task = self.task.unwrap_or_default();
        writeln!(out, "{}", self.path.display())?;
        if task == Family::Arc {
            return self.arc_tasks(out);
        }
        let found = examples::read(&self.path, task, self.size)?;
        let answers = found.iter().filter(|puzzle| puzzle.record.label.is_some()).count();
        writeln!(out, "  {}, {answers} with an answer", count(found.len(), "puzzle"))?;
        let mut shapes: BTreeMap<String, usize> = BTreeMap::new();
        for puzzle in &found {
            *shapes.entry(puzzle.shape.to_string()).or_default() += 1;
        }
        for (shape, n) in shapes {
            writeln!(out, "  {n} of {shape}")?;
        }
        if let Some(shape) = found.first().map(|puzzle| puzzle.shape) {
            let (seq_len, vocab) = shape.tokens();
            writeln!(out, "  {seq_len} tokens each, vocabulary {vocab}")?;
            self.statistics(out, shape, &found[..found.len().min(self.sample)], found.len())?;
        }
        self.draw(out, &found)
    }

    fn dataset(&self, out: &mut impl Write, folder: &Path) -> Result<()> {
        let dataset = Dataset::load(folder)?;
        let metadata = dataset.metadata();
        writeln!(out, "{}", folder.display())?;
        writeln!(
            out,
            "  {} in {}, {} tokens each, vocabulary {}, {}",
            count(dataset.examples(), "example"),
            count(dataset.groups(), "group"),
            metadata.seq_len,
            metadata.vocab_size,
            count(metadata.num_puzzle_identifiers, "puzzle identifier")
        )?;
        writeln!(
            out,
            "  pad {}, ignored label {}, blank identifier {}",
            metadata.pad_id,
            metadata.ignore_label_id.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            metadata.blank_identifier_id
        )?;
        for set in dataset.sets() {
            writeln!(
                out,
                "  set {}: {}, {}, {}",
                set.name(),
                count(set.examples(), "example"),
                count(set.puzzles(), "puzzle"),
                count(set.groups(), "group")
            )?;
        }
        let Some(shape) = examples::shape_of(folder, &dataset, self.task, self.size)? else {
            writeln!(out, "  what the puzzles are cannot be told from these sizes")?;
            return Ok(());
        };
        writeln!(out, "  puzzles: {shape}")?;
        let found: Vec<Puzzle> = examples::firsts(&dataset, shape).take(self.sample.max(self.show)).collect();
        let sample = &found[..found.len().min(self.sample)];
        self.statistics(out, shape, sample, dataset.groups())?;
        self.draw(out, &found)
    }

    /// Symmetry and difficulty of a sample of `total` puzzles of one shape.
    fn statistics(&self, out: &mut impl Write, shape: Shape, sample: &[Puzzle], total: usize) -> Result<()> {
        if sample.len() < total {
            writeln!(out, "  of the first {} of {total}:", sample.len())?;
        }
        let task = shape.task();
        let (symmetries, what) = task.symmetries();
        writeln!(out, "  symmetries: {} ({what})", thousands(symmetries as usize))?;
        if task.has_rules() {
            let class = |puzzle: &Puzzle| puzzle.task.class(&puzzle.record.input).map_err(anyhow::Error::msg);
            let classes = sample.iter().map(class).collect::<Result<HashSet<_>>>()?;
            writeln!(out, "  {} are different up to these", classes.len())?;
        }
        let records: Vec<Record> = sample.iter().map(|puzzle| puzzle.record.clone()).collect();
        if let Some(table) = task.difficulty(&records) {
            writeln!(out, "\n{}", table.trim_end())?;
            return Ok(());
        }
        let mut measured: Vec<(&str, Vec<f64>)> = Vec::new();
        for Puzzle { task, record, .. } in sample {
            let label = record.label.as_deref().unwrap_or_default();
            for (name, value) in task.measures(&record.input, label).unwrap_or_default() {
                match measured.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, values)) => values.push(value),
                    None => measured.push((name, vec![value])),
                }
            }
        }
        for (name, values) in &mut measured {
            values.sort_by(f64::total_cmp);
            if let (Some(least), Some(most)) = (values.first(), values.last()) {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let median = values[values.len() / 2];
                writeln!(out, "  {name}: {least:.0} to {most:.0}, mean {mean:.1}, median {median:.0}")?;
            }
        }
        Ok(())
    }

    fn draw(&self, out: &mut impl Write, found: &[Puzzle]) -> Result<()> {
        let style = stdout_style(self.plain);
        for (index, example) in found.iter().take(self.show).enumerate() {
            writeln!(out, "\nexample {}\n{}", index + 1, examples::text(example, style)?.trim_end())?;
        }
        Ok(())
    }

    fn arc_tasks(&self, out: &mut impl Write) -> Result<()> {
        type Numbers = fn(&arc::ArcTask) -> Vec<usize>;
        let tasks = arc::load(&self.path)?;
        writeln!(out, "  {}", count(tasks.len(), "task"))?;
        let (symmetries, what) = Shape::Arc(arc::Arc::default()).task().symmetries();
        writeln!(out, "  symmetries: {} ({what})", thousands(symmetries as usize))?;
        let numbers: [(&str, Numbers); 4] = [
            ("demonstrations", |task| vec![task.train.len()]),
            ("tests", |task| vec![task.test.len()]),
            ("cells of an input", |task| task.pairs().map(|pair| pair.input.cells().len()).collect()),
            ("cells of an output", |task| {
                task.pairs().filter_map(|pair| Some(pair.output.as_ref()?.cells().len())).collect()
            }),
        ];
        for (name, of) in numbers {
            let values: Vec<usize> = tasks.iter().flat_map(of).collect();
            if let (Some(least), Some(most)) = (values.iter().min(), values.iter().max()) {
                let mean = values.iter().sum::<usize>() as f64 / values.len() as f64;
                writeln!(out, "  {name}: {least} to {most}, mean {mean:.1}")?;
            }
        }
        let style = stdout_style(self.plain);
        for task in tasks.iter().take(self.show) {
            writeln!(out, "\n{}", arc::draw::task(task, style).trim_end())?;
        }
        Ok(())
    }
}
