//! Examples of any task, from any file or folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    arc::{self, ArcTask, Pair},
    dataset::Dataset,
    maze,
    render::{self, Picture, Style},
    sudoku::{Board, ConstraintGraph, Record, RecordReader, decode_tokens, encode_tokens},
    task::{AnyTask, Family, Shape},
};

/// An input with its label, if that is known.
pub struct Example {
    pub shape: Shape,
    pub input: Vec<u8>,
    pub label: Option<Vec<u8>>,
    /// The stated difficulty.
    pub rating: Option<f64>,
}

impl Example {
    /// The task, which every shape but ARC has.
    pub fn task(&self) -> Result<AnyTask> {
        self.shape.task().with_context(|| format!("{} is no single puzzle", self.shape))
    }

    /// The example as text: givens and answer told apart.
    pub fn text(&self, style: Style) -> Result<String> {
        match self.shape {
            Shape::Arc => Ok(render::arc_task(&self.arc("example"), style)),
            Shape::Sudoku(_) => {
                let puzzle = decode_tokens(&self.input)?;
                let answer = self.label.as_deref().map(decode_tokens).transpose()?;
                Ok(render::attempt(&puzzle, Some(&puzzle), answer.as_ref().unwrap_or(&puzzle), style))
            }
            _ => self.told(|task| task.render(&self.input, self.label.as_deref(), style)),
        }
    }

    /// The example as a picture.
    pub fn picture(&self) -> Result<Picture> {
        match self.shape {
            Shape::Arc => Ok(render::arc_task_picture(&self.arc("example"))),
            _ => self.told(|task| task.picture(&self.input, self.label.as_deref(), self.label.as_deref())),
        }
    }

    /// The constraint graph of a Sudoku for Graphviz, coloured as far as the board is filled.
    pub fn graph(&self) -> Result<String> {
        let Shape::Sudoku(geometry) = self.shape else {
            bail!("only a Sudoku has a constraint graph to write as .dot, got a {}", self.shape)
        };
        let board = decode_tokens(self.label.as_deref().unwrap_or(&self.input))?;
        Ok(ConstraintGraph::new(geometry).to_dot(Some(&board)))
    }

    pub fn told<T>(&self, of: impl Fn(&AnyTask) -> Result<T, String>) -> Result<T> {
        of(&self.task()?).map_err(anyhow::Error::msg)
    }

    /// The pair of a canvas, as a task of its own.
    fn arc(&self, id: &str) -> ArcTask {
        let grid = |tokens: &[u8]| arc::decode(tokens).map(|(grid, _)| grid);
        let pair = Pair {
            input: grid(&self.input).unwrap_or_default(),
            output: self.label.as_deref().and_then(grid),
        };
        ArcTask { id: id.to_owned(), train: vec![pair], test: Vec::new() }
    }

    /// As a Sudoku with its solution.
    pub fn record(&self) -> Result<Record> {
        let solution: Option<Board> = self.label.as_deref().map(decode_tokens).transpose()?;
        let puzzle = decode_tokens(&self.input)?;
        Ok(Record { source: String::new(), puzzle, solution, rating: self.rating })
    }
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

/// The shape of a dataset's rows: from their sizes, the task and, for mazes that are no squares, the size stated. `None` if no
/// task is named and the sizes are those of none.
pub fn shape_of(
    folder: &Path,
    dataset: &Dataset,
    task: Option<Family>,
    size: Option<(usize, usize)>,
) -> Result<Option<Shape>> {
    let (seq_len, vocab) = (dataset.metadata().seq_len, dataset.metadata().vocab_size);
    let stated = size.map(|(rows, cols)| Shape::Maze { rows, cols });
    if let (Some(shape), Some(task)) = (stated, task.filter(|task| *task != Family::Maze)) {
        bail!("--size: only a {shape} has rows and columns to state, got --task {task}");
    }
    let place = folder.display();
    let shape = stated.or_else(|| Shape::of(seq_len, vocab, task));
    let advice = "mazes that are no squares need their `--size ROWSxCOLS`";
    match (shape, task) {
        (Some(Shape::Maze { rows, cols }), _) => maze::check_shape(dataset, (rows, cols))
            .with_context(|| format!("{place}: no {rows}x{cols} mazes; {advice}"))?,
        // Nothing else has the vocabulary of a maze and no square number of tokens.
        (None, None | Some(Family::Maze)) if vocab == maze::SYMBOLS.len() + 1 => {
            bail!("{place}: {seq_len} tokens, vocabulary {vocab}: {advice}")
        }
        (None, Some(task)) => {
            bail!(
                "{place}: {seq_len} tokens, vocabulary {vocab}, is no dataset of task {task}; name another --task"
            )
        }
        _ => {}
    }
    Ok(shape)
}

/// The first of each group of a dataset, of which the others are images.
pub fn firsts(dataset: &Dataset, shape: Shape) -> impl Iterator<Item = Example> + '_ {
    dataset.sets().iter().flat_map(move |set| {
        (0..set.groups()).map(move |group| {
            let example = set.examples_of(set.puzzles_of(group).start).start;
            let (input, label) = (set.input(example).to_vec(), set.label(example).to_vec());
            Example { shape, input, label: Some(label), rating: None }
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
pub fn read(path: &Path, task: Family, size: Option<(usize, usize)>) -> Result<Vec<Example>> {
    if path.is_dir() {
        let folder = dataset_folders(path)?.swap_remove(0);
        let dataset = Dataset::load(&folder)?;
        let shape = shape_of(&folder, &dataset, Some(task), size)?.context("a dataset of the task")?;
        return Ok(firsts(&dataset, shape).collect());
    }
    no_size_of_file(path, size)?;
    match task {
        Family::Sudoku => {
            let example = |record: Record| Example {
                shape: Shape::Sudoku(record.puzzle.geometry()),
                input: encode_tokens(&record.puzzle),
                label: record.solution.as_ref().map(encode_tokens),
                rating: record.rating,
            };
            RecordReader::open(path)?.map(|record| Ok(example(record?))).collect()
        }
        Family::Maze => {
            let example = |record: maze::Record| Example {
                shape: Shape::Maze { rows: record.maze.rows(), cols: record.maze.cols() },
                label: record.answer.or_else(|| record.maze.label()),
                input: record.maze.tokens().to_vec(),
                rating: record.rating,
            };
            Ok(maze::read_records(path)?.into_iter().map(example).collect())
        }
        Family::Arc => bail!("{}: ARC tasks are no single puzzles", path.display()),
        Family::Killer | Family::Samurai | Family::Queens => lines(path, task),
    }
}

/// A text with one puzzle a line; `#` starts a comment where no puzzle can.
fn lines(path: &Path, task: Family) -> Result<Vec<Example>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let example = |text: &str| -> Result<Example, String> {
        let shape = Shape::of_text(task, text)?;
        let puzzle = shape.task().ok_or_else(|| format!("there is no {shape}"))?;
        let input = puzzle.parse(text)?;
        let label = puzzle.solutions(&input)?.unique().ok();
        Ok(Example { shape, input, label, rating: None })
    };
    let mut examples = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && (task == Family::Samurai || !line.starts_with('#')) {
            let place = || format!("{}, line {}", path.display(), index + 1);
            examples.push(example(line).map_err(anyhow::Error::msg).with_context(place)?);
        }
    }
    Ok(examples)
}
