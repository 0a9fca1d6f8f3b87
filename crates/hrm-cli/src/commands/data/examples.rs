//! Puzzles of any task, from any file or folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hrm_data::{
    dataset::Dataset,
    reader::{self, Puzzle},
    registry::{Family, Shape},
    render::Style,
    task::{Record, Size},
};

use crate::puzzles;

/// A puzzle as text: givens and answer told apart.
pub fn text(Puzzle { task, record, .. }: &Puzzle, style: Style) -> Result<String> {
    let drawn = match &record.label {
        Some(label) => task.frame(&record.input, &record.input, label, style),
        None => task.render(&record.input, None, style),
    };
    drawn.map_err(anyhow::Error::msg)
}

/// The folders with a `dataset.json`: this one, or `train` and `test` in it.
pub fn dataset_folders(path: &Path) -> Result<Vec<PathBuf>> {
    let is_dataset = |folder: &PathBuf| folder.join("dataset.json").exists();
    let folders: Vec<PathBuf> = if is_dataset(&path.to_owned()) {
        vec![path.to_owned()]
    } else {
        ["train", "test"].map(|name| path.join(name)).into_iter().filter(is_dataset).collect()
    };
    if folders.is_empty() {
        bail!(
            "{}: no dataset here; expected dataset.json in the folder, or in train/ and test/ below it",
            path.display()
        );
    }
    Ok(folders)
}

/// The shape of a dataset's rows: from their sizes, the task and, for puzzles that are no squares, the size stated. `None` if no
/// task is named and the sizes are those of none.
pub fn shape_of(
    folder: &Path,
    dataset: &Dataset,
    task: Option<Family>,
    size: Option<(usize, usize)>,
) -> Result<Option<Shape>> {
    let (seq_len, vocab) = (dataset.metadata().seq_len, dataset.metadata().vocab_size);
    let place = folder.display();
    let advice = "mazes that are no squares need their `--size ROWSxCOLS`";
    let stated = match size {
        None => None,
        Some((rows, cols)) => {
            if let Some(task) = task.filter(|task| *task != Family::Maze) {
                bail!("--size: only a {rows}x{cols} maze has rows and columns to state, got --task {task}");
            }
            let shape = Shape::of_size(Family::Maze, Size::new(rows, cols)).map_err(anyhow::Error::msg)?;
            if shape.tokens().0 != seq_len || shape.tokens().1 > vocab {
                bail!(
                    "{place}: no {rows}x{cols} mazes; {advice}: expected {rows} x {cols} tokens, vocabulary {}, got \
                     {seq_len} tokens, vocabulary {vocab}",
                    shape.tokens().1
                );
            }
            Some(shape)
        }
    };
    let Some(shape) = stated.or_else(|| Shape::of(seq_len, vocab, task)) else {
        // Nothing else has the vocabulary of a maze and no square number of tokens.
        let is_maze =
            Shape::of_size(Family::Maze, Size::new(1, 1)).is_ok_and(|maze| maze.tokens().1 == vocab);
        if is_maze && task.is_none_or(|task| task == Family::Maze) {
            bail!("{place}: {seq_len} tokens, vocabulary {vocab}: {advice}")
        }
        if let Some(task) = task {
            bail!(
                "{place}: {seq_len} tokens, vocabulary {vocab}, is no dataset of task {task}; name another --task"
            )
        }
        return Ok(None);
    };
    if let Err(why) = shape.task().of_dataset(dataset) {
        bail!("{place}: no {shape}s; {advice}: {why}");
    }
    Ok(Some(shape))
}

/// The first of each group of a dataset, of which the others are images.
pub fn firsts(dataset: &Dataset, shape: Shape) -> impl Iterator<Item = Puzzle> + '_ {
    let task = shape.task();
    dataset.sets().iter().flat_map(move |set| {
        let task = task.clone();
        (0..set.groups()).map(move |group| {
            let example = set.examples_of(set.puzzles_of(group).start).start;
            let source = format!("{} {}", set.name(), example + 1);
            let (input, label) = (set.input(example).to_vec(), Some(set.label(example).to_vec()));
            Puzzle { shape, task: task.clone(), record: Record { source, input, label, rating: None } }
        })
    })
}

/// Files say themselves how large their mazes are.
pub fn no_size_of_file(path: &Path, size: Option<(usize, usize)>) -> Result<()> {
    match size {
        None => Ok(()),
        Some(_) => {
            bail!("--size: {} is a file, which says it itself; only a folder needs it", path.display())
        }
    }
}

/// Every puzzle of a file or folder (of `train` and `test`, the former).
pub fn read(path: &Path, task: Family, size: Option<(usize, usize)>) -> Result<Vec<Puzzle>> {
    if path.is_dir() {
        let folder = dataset_folders(path)?.swap_remove(0);
        let dataset = Dataset::load(&folder)?;
        let shape = shape_of(&folder, &dataset, Some(task), size)?.context("a dataset of the task")?;
        return Ok(firsts(&dataset, shape).collect());
    }
    no_size_of_file(path, size)?;
    reader::puzzles(puzzles::open(task, path)?).map(|puzzle| Ok(puzzle?)).collect()
}
