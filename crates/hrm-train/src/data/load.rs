//! The data that a recipe names: generated, or read from files.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use hrm_data::{
    arc::{self, ArcData, ArcError, ArcOptions, ArcTask},
    dataset::{Augmentation, Dataset, DatasetError, Metadata, Part, SamplerError},
    maze::{self, Kind},
    random::{self, Purpose, stream},
    sudoku::{
        Board, BoardError, Geometry,
        dataset::{
            BuildError, BuildOptions, GenerateOptions, Leaks, from_records, generate_split, select_records,
        },
        records::{Record, RecordError, RecordReader},
    },
    task::{self, AnyTask, Family, Mazes, Shape, SplitError, Task, queens::Queens},
    variants::{
        killer::{self, KillerTask},
        samurai::{self, SamuraiTask},
    },
};
use thiserror::Error;

use super::{Rows, Source, TaskData};
use crate::config::{DataConfig, DataSource, MazeKind, OnLeak};

/// What can go wrong with a recipe's data.
#[derive(Debug, Error)]
pub enum DataError {
    /// A box of a Sudoku.
    #[error("data.box_rows, data.box_cols: {0}")]
    Geometry(#[from] BoardError),
    /// A size that the task does not have.
    #[error("{keys}: there is no {task} of this size: {why}")]
    Size {
        /// The settings.
        keys: &'static str,
        /// The task.
        task: Family,
        /// Why.
        why: String,
    },
    /// A puzzle file.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Puzzles that make no data set.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A maze file.
    #[error(transparent)]
    MazeRecord(#[from] maze::RecordError),
    /// Mazes that make no data set.
    #[error("mazes: {0}")]
    Mazes(#[from] maze::BuildError),
    /// ARC tasks that cannot be read.
    #[error(transparent)]
    Arc(#[from] ArcError),
    /// ARC tasks that make no data set.
    #[error(transparent)]
    ArcBuild(#[from] arc::BuildError),
    /// Not enough different puzzles.
    #[error("data.train_examples, data.test_examples: {0}")]
    Split(#[from] SplitError),
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is no puzzle with one solution.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A file without a puzzle.
    #[error("{path}: expected at least one puzzle, got none")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A data set on disk.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A data set of other puzzles.
    #[error("{path}: expected rows of {expected} ({shape}), got {got}; {keys} say what the puzzles are")]
    Shape {
        /// The folder.
        path: PathBuf,
        /// What the recipe says.
        shape: Shape,
        /// Tokens and vocabulary of that.
        expected: String,
        /// Tokens and vocabulary there.
        got: String,
        /// The settings that say the shape.
        keys: &'static str,
    },
    /// Mazes of as many cells, but other rows and columns.
    #[error("{path}: no {shape}: {why}; {keys} say what the puzzles are")]
    MazeShape {
        /// The folder.
        path: PathBuf,
        /// What the recipe says.
        shape: Shape,
        /// What does not fit.
        why: Box<maze::BuildError>,
        /// The settings that say the shape.
        keys: &'static str,
    },
    /// Batches.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A test file that training puzzles give away.
    #[error(
        "{train}: {what}, in {test} ({example}): an evaluation on those would not be held out; use another file, or \
         data.on_leak = \"drop\" to leave these training puzzles out, \"allow\" to keep them"
    )]
    Leak {
        /// The test file.
        test: PathBuf,
        /// The training file.
        train: String,
        /// How many puzzles leak, and how.
        what: String,
        /// One of them.
        example: String,
    },
    /// Not enough puzzles to hold some out.
    #[error("{path}: data.test_examples = {wanted}: only {available} puzzles are left to hold out")]
    TooFew {
        /// The file.
        path: PathBuf,
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
}

/// What a model has to know of its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Number of token values.
    pub vocab_size: usize,
    /// Tokens of a row.
    pub seq_len: usize,
    /// Rows of the puzzle embedding; `None` for ARC tasks whose files are not there: each augmentation of each has its own.
    pub num_puzzle_identifiers: Option<usize>,
    /// What the puzzles are.
    pub shape: Shape,
}

/// The sizes of a recipe's data, without making a puzzle; only a dataset on disk and ARC tasks are looked at.
///
/// # Errors
/// If a size does not exist, a dataset is absent or of other sizes, or files that are there are malformed.
pub fn sizes(config: &DataConfig) -> Result<Sizes, DataError> {
    let (shape, (seq_len, vocab_size)) = shape(config)?;
    let of = |metadata: &Metadata| Sizes {
        vocab_size: metadata.vocab_size,
        seq_len: metadata.seq_len,
        num_puzzle_identifiers: Some(metadata.num_puzzle_identifiers),
        shape,
    };
    let mut files = [&config.path, &config.test_path].into_iter().chain(&config.extra_paths);
    let all_there = files.all(|path| path.is_empty() || Path::new(path).exists());
    Ok(match (config.task, config.source) {
        (_, DataSource::Dataset) => {
            of(read_dataset(&Path::new(&config.path).join("train"), shape)?.metadata())
        }
        (Family::Arc, _) if all_there => of(&load(config)?.metadata()),
        (Family::Arc, _) => Sizes { vocab_size, seq_len, num_puzzle_identifiers: None, shape },
        _ => Sizes { vocab_size, seq_len, num_puzzle_identifiers: Some(1), shape },
    })
}

/// Loads or makes the data of a recipe.
///
/// # Errors
/// If a file is absent or malformed, a size does not exist, or held-out puzzles are equivalent to training puzzles.
pub fn load(config: &DataConfig) -> Result<TaskData, DataError> {
    let (shape, _) = shape(config)?;
    let mut warnings = Vec::new();
    let source = match (config.task, config.source) {
        (_, DataSource::Dataset) => Source::Rows(load_dataset(config, shape)?),
        (Family::Arc, _) => load_arc(config, &mut warnings)?,
        (Family::Sudoku, _) => Source::Rows(sudoku(config, &mut warnings)?),
        (Family::Maze, _) => Source::Rows(mazes(config, &mut warnings)?),
        (Family::Killer, DataSource::Generate) => {
            let task = KillerTask::new(geometry(config)?).map_err(size("data.box_rows", config.task))?;
            let (train, test) = killer::generate_split(
                task.geometry(),
                config.seed,
                config.train_examples,
                config.test_examples,
            )
            .map_err(size("data.box_rows", config.task))?;
            let found = train.len() + test.len();
            if test.len() < config.test_examples {
                let wanted = config.train_examples + config.test_examples;
                return Err(SplitError { tries: found as u64, found, wanted }.into());
            }
            let pairs =
                |made: Vec<killer::Generated>| made.into_iter().map(|g| (g.puzzle, g.solution)).collect();
            Source::Rows(examples(config, &task, pairs(train), pairs(test))?)
        }
        (Family::Samurai, DataSource::Generate) => {
            let generator =
                samurai::Generator::new(config.seed).with_clues(config.min_clues, config.max_clues);
            let generate = |index| {
                let made = generator.generate(index);
                (made.puzzle, made.solution)
            };
            Source::Rows(generated(config, &SamuraiTask, generate)?)
        }
        (Family::Queens, DataSource::Generate) => {
            let queens = Queens::new(config.grid_rows).map_err(size("data.grid_rows", config.task))?;
            Source::Rows(generated(config, &queens, |index| queens.generate(config.seed, index))?)
        }
        (Family::Killer | Family::Samurai | Family::Queens, _) => {
            Source::Rows(text(config, shape, &mut warnings)?)
        }
    };
    Ok(TaskData { shape, warnings, source })
}

/// What the puzzles are, with the tokens of a row and the number of token values.
fn shape(config: &DataConfig) -> Result<(Shape, (usize, usize)), DataError> {
    let shape = match config.task {
        Family::Sudoku => Shape::Sudoku(geometry(config)?),
        Family::Maze => Shape::Maze { rows: config.grid_rows, cols: config.grid_cols },
        Family::Arc => Shape::Arc,
        Family::Killer => Shape::Killer(geometry(config)?),
        Family::Samurai => Shape::Samurai,
        Family::Queens => Shape::Queens(config.grid_rows),
    };
    match (shape, shape.sizes()) {
        (_, Some(sizes)) => Ok((shape, sizes)),
        (Shape::Killer(geometry), None) => {
            let why = killer::Generator::new(geometry, 0).map_or_else(|e| e.to_string(), |_| String::new());
            Err(DataError::Size { keys: "data.box_rows, data.box_cols", task: config.task, why })
        }
        (_, None) => {
            let why = Queens::new(config.grid_rows).map_or_else(|e| e.to_string(), |_| String::new());
            Err(DataError::Size { keys: "data.grid_rows", task: config.task, why })
        }
    }
}

fn geometry(config: &DataConfig) -> Result<Geometry, DataError> {
    Ok(Geometry::new(config.box_rows, config.box_cols)?)
}

/// Turns an error about a size into one that names the setting.
fn size<E: Display>(keys: &'static str, task: Family) -> impl Fn(E) -> DataError {
    move |error| DataError::Size { keys, task, why: error.to_string() }
}

/// Puzzles number 0, 1, 2, ... of a generator, no two of them images of each other.
fn generated<T: Task + Sync>(
    config: &DataConfig,
    task: &T,
    generate: impl Fn(u64) -> (T::Puzzle, T::Solution) + Sync,
) -> Result<Rows, DataError>
where
    T::Puzzle: Send,
    T::Solution: Send,
{
    let class = |(puzzle, _): &(T::Puzzle, T::Solution)| task.class(puzzle);
    let split = task::split(generate, class, config.train_examples, config.test_examples)?;
    examples(config, task, split.train, split.test)
}

fn examples<T: Task>(
    config: &DataConfig,
    task: &T,
    train: Vec<(T::Puzzle, T::Solution)>,
    test: Vec<(T::Puzzle, T::Solution)>,
) -> Result<Rows, DataError> {
    let augmentation = if config.augment { task.augmentation() } else { Augmentation::None };
    let dataset = |examples: &[_]| Ok::<_, DataError>(Arc::new(task::dataset(task, examples, 0, 0)?));
    Ok(Rows::new(dataset(&train)?, dataset(&test)?, augmentation))
}

impl Rows {
    const fn new(train: Arc<Dataset>, test: Arc<Dataset>, augmentation: Augmentation) -> Self {
        Self { train, test, augmentation, hints: 0, mixture: Vec::new() }
    }
}

fn sudoku(config: &DataConfig, warnings: &mut Vec<String>) -> Result<Rows, DataError> {
    let geometry = geometry(config)?;
    let (files, test) = match config.source {
        DataSource::Generate => {
            let split = generate_split(&GenerateOptions {
                geometry,
                seed: config.seed,
                train: config.train_examples,
                test: config.test_examples,
                clues: (config.max_clues > 0).then_some((config.min_clues, config.max_clues)),
            })?;
            (vec![split.train], split.test)
        }
        _ => sudoku_csv(config, warnings)?,
    };
    let mixture = mixture(&files.iter().map(Vec::len).collect::<Vec<_>>(), &config.extra_shares);
    let options = BuildOptions { seed: config.seed, ..BuildOptions::default() };
    let dataset = |records: &[Record]| -> Result<Arc<Dataset>, DataError> {
        Ok(Arc::new(from_records(records, &options)?.0))
    };
    let augmentation =
        if config.augment { Augmentation::SudokuSymmetry { geometry } } else { Augmentation::None };
    let rows = Rows::new(dataset(&files.concat())?, dataset(&test)?, augmentation);
    Ok(Rows { hints: hints(config), mixture, ..rows })
}

/// Rows in a million with hints.
fn hints(config: &DataConfig) -> u32 {
    (config.hint_prob * 1e6).round() as u32
}

/// An epoch goes once through the first file; the others come in so often that they make up their shares of the rows.
fn mixture(puzzles: &[usize], shares: &[f64]) -> Vec<Part> {
    let (Some((&first, extra)), false) = (puzzles.split_first(), shares.is_empty()) else {
        return Vec::new();
    };
    let of_first = 1.0 - shares.iter().sum::<f64>();
    let visits = |share: f64| ((first as f64 * share / of_first).round() as usize).max(1);
    let extra = extra.iter().zip(shares).map(|(&groups, &share)| Part { groups, visits: visits(share) });
    std::iter::once(Part { groups: first, visits: first }).chain(extra).collect()
}

/// A dataset on disk, whose rows must be puzzles of a shape.
fn read_dataset(path: &Path, shape: Shape) -> Result<Dataset, DataError> {
    let dataset = Dataset::load(path)?;
    let got = (dataset.metadata().seq_len, dataset.metadata().vocab_size);
    let expected = shape.sizes().unwrap_or(got);
    // A larger vocabulary does no harm.
    if got.0 != expected.0 || got.1 < expected.1 {
        let text = |(seq_len, vocab): (usize, usize)| format!("{seq_len} tokens of {vocab} kinds");
        let (path, expected, got) = (path.to_owned(), text(expected), text(got));
        return Err(DataError::Shape { path, shape, expected, got, keys: keys(shape) });
    }
    // 10x40 and 20x20 cells are as many: only the mazes themselves tell.
    if let Shape::Maze { rows, cols } = shape {
        maze::check_shape(&dataset, (rows, cols)).map_err(|why| DataError::MazeShape {
            path: path.to_owned(),
            shape,
            why: Box::new(why),
            keys: keys(shape),
        })?;
    }
    Ok(dataset)
}

/// The settings that say what a shape is.
const fn keys(shape: Shape) -> &'static str {
    match shape {
        Shape::Sudoku(_) | Shape::Killer(_) => "data.task, data.box_rows and data.box_cols",
        Shape::Maze { .. } | Shape::Queens(_) => "data.task, data.grid_rows and data.grid_cols",
        Shape::Arc | Shape::Samurai => "data.task",
    }
}

fn load_dataset(config: &DataConfig, shape: Shape) -> Result<Rows, DataError> {
    let root = Path::new(&config.path);
    let load = |path: &Path| read_dataset(path, shape);
    let train = load(&root.join("train"))?;
    let test = match config.test_path.as_str() {
        "" => load(&root.join("test"))?,
        path => load(Path::new(path))?,
    };
    let augmentation = match shape {
        _ if !config.augment => Augmentation::None,
        Shape::Maze { rows, cols } => maze_augmentation(&train, rows, cols),
        other => other.task().map_or(Augmentation::None, |task| task.augmentation()),
    };
    let rows = Rows::new(Arc::new(train), Arc::new(test), augmentation);
    Ok(Rows { hints: hints(config), ..rows })
}

/// The training puzzles, file by file, and the test puzzles.
fn sudoku_csv(
    config: &DataConfig,
    warnings: &mut Vec<String>,
) -> Result<(Vec<Vec<Record>>, Vec<Record>), DataError> {
    let path = PathBuf::from(&config.path);
    let select = |path: &Path, count: usize, min_rating: u32| -> Result<Vec<Record>, DataError> {
        let options = BuildOptions {
            seed: config.seed,
            subsample: (count > 0).then_some(count),
            min_rating: (min_rating > 0).then_some(f64::from(min_rating)),
            augmentations: 0,
        };
        let found = select_records(RecordReader::open(path)?, &options)?.0;
        if found.is_empty() { Err(DataError::Empty { path: path.to_owned() }) } else { Ok(found) }
    };
    let mut files = Vec::new();
    let (test_path, test) = if config.test_path.is_empty() {
        // Hold puzzles out of the first file: those that come first in the draw's order. What gives them away is not trained on.
        let all = select(&path, 0, config.min_rating)?;
        let held_out = config.test_examples.max(1);
        if all.len() <= held_out {
            return Err(DataError::TooFew { path, wanted: held_out, available: all.len().saturating_sub(1) });
        }
        let test: Vec<Record> = {
            let options = BuildOptions { seed: config.seed, subsample: Some(held_out), ..Default::default() };
            select_records(all.iter().cloned().map(Ok), &options)?.0
        };
        let chosen: HashSet<Board> = test.iter().map(|r| r.puzzle.clone()).collect();
        let mut train: Vec<Record> = all.into_iter().filter(|r| !chosen.contains(&r.puzzle)).collect();
        let known = Leaks::between(&train, &test).all();
        retain_others(&mut train, &known.into_iter().map(|leak| leak.0).collect());
        if config.train_examples > 0 {
            train.truncate(config.train_examples);
        }
        files.push(train);
        (path, test)
    } else {
        let test_path = PathBuf::from(&config.test_path);
        files.push(select(&path, config.train_examples, config.min_rating)?);
        let test = select(&test_path, config.test_examples, 0)?;
        (test_path, test)
    };
    for path in &config.extra_paths {
        files.push(select(Path::new(path), 0, 0)?);
    }
    for (name, train) in std::iter::once(&config.path).chain(&config.extra_paths).zip(&mut files) {
        let found = Leaks::between(train, &test);
        let (what, pairs) = (found.to_string(), found.all());
        let between = Between { train: name, test: &test_path };
        settle(config.on_leak, train, &pairs, &between, &what, warnings)?;
    }
    Ok((files, test))
}

/// The files of a leak.
struct Between<'a> {
    train: &'a str,
    test: &'a Path,
}

/// Deals with training puzzles that give test puzzles away, as pairs of a training and a test index: stops, leaves them out, or
/// keeps them, which both are told.
fn settle<T>(
    on_leak: OnLeak,
    train: &mut Vec<T>,
    leaks: &[(usize, usize)],
    between: &Between<'_>,
    what: &str,
    warnings: &mut Vec<String>,
) -> Result<(), DataError> {
    let Some(&(of_train, of_test)) = leaks.first() else { return Ok(()) };
    let example = format!("puzzle {} there is puzzle {} here, for one", of_train + 1, of_test + 1);
    settle_by(on_leak, between, what, example, warnings)?;
    if on_leak == OnLeak::Drop {
        retain_others(train, &leaks.iter().map(|leak| leak.0).collect());
    }
    Ok(())
}

/// A leak as an error, or told as a warning.
fn settle_by(
    on_leak: OnLeak,
    between: &Between<'_>,
    what: &str,
    example: String,
    warnings: &mut Vec<String>,
) -> Result<(), DataError> {
    let Between { train, test } = between;
    let told = format!("{train}: {what}, in {} ({example})", test.display());
    match on_leak {
        OnLeak::Refuse => {
            let (test, train, what) = (test.to_path_buf(), (*train).to_owned(), what.to_owned());
            return Err(DataError::Leak { test, train, what, example });
        }
        OnLeak::Drop => warnings.push(format!("left out of {told}")),
        OnLeak::Allow => warnings.push(format!("{told}: evaluations on those are not held out")),
    }
    Ok(())
}

/// Leaves out the items at some places.
fn retain_others<T>(items: &mut Vec<T>, places: &HashSet<usize>) {
    let mut place = 0;
    items.retain(|_| {
        place += 1;
        !places.contains(&(place - 1))
    });
}

fn mazes(config: &DataConfig, warnings: &mut Vec<String>) -> Result<Rows, DataError> {
    let (rows, cols) = (config.grid_rows, config.grid_cols);
    let (train, test) = match config.source {
        DataSource::Generate => generate_mazes(config)?,
        _ => {
            let class = |record: &maze::Record| record.maze.canonical();
            files(config, |path| Ok(maze::read_records(path)?), class, warnings)?
        }
    };
    let shape = Shape::Maze { rows, cols };
    let dataset = |records: &[maze::Record], path: &str| -> Result<Dataset, DataError> {
        if let Some(other) = records.iter().find(|r| (r.maze.rows(), r.maze.cols()) != (rows, cols)) {
            let got = Shape::Maze { rows: other.maze.rows(), cols: other.maze.cols() }.to_string();
            let (path, expected) = (PathBuf::from(path), format!("{} cells", rows * cols));
            return Err(DataError::Shape { path, shape, expected, got, keys: keys(shape) });
        }
        Ok(maze::from_records(records, 0)?.0)
    };
    let train = dataset(&train, &config.path)?;
    let test = dataset(&test, if config.test_path.is_empty() { &config.path } else { &config.test_path })?;
    let augmentation =
        if config.augment { maze_augmentation(&train, rows, cols) } else { Augmentation::None };
    Ok(Rows::new(Arc::new(train), Arc::new(test), augmentation))
}

/// Canonical labels stay canonical; labels of another convention go through the symmetry with their maze.
fn maze_augmentation(train: &Dataset, rows: usize, cols: usize) -> Augmentation {
    let mut examples =
        train.sets().iter().flat_map(|set| (0..set.examples()).map(move |i| (set.input(i), set.label(i))));
    let canonical = examples.all(|(input, label)| {
        maze::decode_tokens(rows, cols, input).is_ok_and(|maze| maze.label().as_deref() == Some(label))
    });
    match canonical {
        true => Mazes { rows, cols }.augmentation(),
        false => Augmentation::Dihedral { rows, cols },
    }
}

fn generate_mazes(config: &DataConfig) -> Result<(Vec<maze::Record>, Vec<maze::Record>), DataError> {
    let (rows, cols) = (config.grid_rows, config.grid_cols);
    let hard = Kind::Hard { rows, cols, min_distance: config.min_path };
    let unique = Kind::Unique { rows, cols, shortest: config.min_path, longest: config.max_path };
    let (wanted_train, wanted_test) = (config.train_examples, config.test_examples);
    let parts: &[(Kind, usize, usize)] = &match config.maze_kind {
        MazeKind::Hard => vec![(hard, wanted_train, wanted_test)],
        MazeKind::Unique => vec![(unique, wanted_train, wanted_test)],
        MazeKind::Mixed => {
            let (train, test) = (wanted_train / 2, wanted_test / 2);
            vec![(hard, wanted_train - train, wanted_test - test), (unique, train, test)]
        }
    };
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for &(kind, wanted_train, wanted_test) in parts {
        let options =
            maze::GenerateOptions { kind, seed: config.seed, train: wanted_train, test: wanted_test };
        let split = maze::generate_split(&options)?;
        train.extend(split.train);
        test.extend(split.test);
    }
    // Each part is disjoint in itself; a maze of one part could in principle be of the other kind as well.
    let found = maze::leaks(test.iter().map(|r| &r.maze), train.iter().map(|r| &r.maze));
    retain_others(&mut train, &found.into_iter().map(|(index, _)| index).collect());
    Ok((train, test))
}

/// Puzzles of `data.path` and `data.test_path`, or held out of the former: those that come first in a random order, and
/// nothing of their class remains to be trained on.
fn files<R, C: std::hash::Hash + Eq>(
    config: &DataConfig,
    read: impl Fn(&Path) -> Result<Vec<R>, DataError>,
    class: impl Fn(&R) -> C,
    warnings: &mut Vec<String>,
) -> Result<(Vec<R>, Vec<R>), DataError> {
    let some = |path: &str| -> Result<(PathBuf, Vec<R>), DataError> {
        let path = PathBuf::from(path);
        let found = read(&path)?;
        if found.is_empty() { Err(DataError::Empty { path }) } else { Ok((path, found)) }
    };
    // The same draw for any subset of a file: a random order, of which the first stay, in the order of the file.
    let draw = |records: Vec<R>, count: usize| -> (Vec<R>, Vec<R>) {
        let order = random::permutation(&mut stream(config.seed, Purpose::Subsample, 0, 0), records.len());
        let chosen: HashSet<u32> = order.into_iter().take(count).collect();
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for (index, record) in records.into_iter().enumerate() {
            if chosen.contains(&(index as u32)) { first.push(record) } else { rest.push(record) }
        }
        (first, rest)
    };
    let subset = |records, count| if count == 0 { records } else { draw(records, count).0 };
    let (path, all) = some(&config.path)?;
    if !config.test_path.is_empty() {
        let (test_path, test) = some(&config.test_path)?;
        let (mut train, test) = (subset(all, config.train_examples), subset(test, config.test_examples));
        let classes: HashMap<C, usize> = test.iter().map(&class).zip(0..).collect();
        let known = |index: usize| Some((index, *classes.get(&class(&train[index]))?));
        let leaks: Vec<(usize, usize)> = (0..train.len()).filter_map(known).collect();
        let what = format!("{} equivalent to puzzles of the test set", leaks.len());
        let between = Between { train: &config.path, test: &test_path };
        settle(config.on_leak, &mut train, &leaks, &between, &what, warnings)?;
        return Ok((train, test));
    }
    let held_out = config.test_examples.max(1);
    if all.len() <= held_out {
        return Err(DataError::TooFew { path, wanted: held_out, available: all.len().saturating_sub(1) });
    }
    let (test, mut train) = draw(all, held_out);
    let classes: HashSet<C> = test.iter().map(&class).collect();
    train.retain(|record| !classes.contains(&class(record)));
    Ok((subset(train, config.train_examples), test))
}

/// Puzzles of any task from text, one a line; each is solved, and must have one solution.
fn text(config: &DataConfig, shape: Shape, warnings: &mut Vec<String>) -> Result<Rows, DataError> {
    let Some(task) = shape.task() else { return Err(DataError::Empty { path: PathBuf::from(&config.path) }) };
    let read = |path: &Path| read_lines(path, &task);
    let class = |(input, _): &TokenRow| task.class(input).unwrap_or_else(|_| input.clone());
    let (train, test) = files(config, read, class, warnings)?;
    let augmentation = if config.augment { task.augmentation() } else { Augmentation::None };
    let dataset = |rows: Vec<TokenRow>| {
        let (inputs, labels): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Ok::<_, DataError>(Arc::new(task::dataset_of_rows(&task, &inputs, &labels)?))
    };
    Ok(Rows::new(dataset(train)?, dataset(test)?, augmentation))
}

/// Input and label tokens of a puzzle.
type TokenRow = (Vec<u8>, Vec<u8>);

fn read_lines(path: &Path, task: &AnyTask) -> Result<Vec<TokenRow>, DataError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with("# "));
    let row = |(index, line): (usize, &str)| {
        let fail = |why: String| DataError::Line { path: path.to_owned(), line: index + 1, why };
        let input = task.parse(line).map_err(fail)?;
        let label = task.solutions(&input).map_err(fail)?.unique();
        Ok((input, label.map_err(|why| fail(format!("the puzzle {why}")))?))
    };
    lines.map(row).collect()
}

fn load_arc(config: &DataConfig, warnings: &mut Vec<String>) -> Result<Source, DataError> {
    let mut training: Vec<ArcTask> = Vec::new();
    for path in std::iter::once(&config.path).chain(&config.extra_paths).filter(|path| !path.is_empty()) {
        training.extend(arc::load(Path::new(path))?);
    }
    let test_path = PathBuf::from(&config.test_path);
    let mut evaluation = arc::load(&test_path)?;
    if config.test_examples > 0 {
        evaluation.truncate(config.test_examples);
    }
    let found = arc::leaks(&training, &evaluation);
    if let Some(leak) = found.first() {
        let example = format!("task {} there is task {} here, for one", leak.training, leak.evaluation);
        let what = format!("{} with pairs of evaluation tasks", found.len());
        let between = Between { train: &config.path, test: &test_path };
        settle_by(config.on_leak, &between, &what, example, warnings)?;
    }
    if config.on_leak == OnLeak::Drop {
        let names: HashSet<&str> = found.iter().map(|leak| leak.training.as_str()).collect();
        training.retain(|task| !names.contains(task.id.as_str()));
    }
    if config.train_examples > 0 {
        training.truncate(config.train_examples);
    }
    let options = ArcOptions {
        seed: config.seed,
        augmentations: config.augmentations,
        train_on_evaluation_demonstrations: config.evaluation_demonstrations,
    };
    let data = ArcData::new(training, evaluation, options)?;
    Ok(Source::Arc { data: Arc::new(data), votes: (config.votes > 0).then_some(config.votes) })
}
