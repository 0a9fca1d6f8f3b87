//! The data that a recipe names: generated, or read from files.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use hrm_data::{
    dataset::{Dataset, DatasetError, Metadata},
    puzzles::arc::{self, ArcData, ArcError, ArcOptions, ArcTask},
    reader::{self, ReadError, Reader},
    registry::{Family, Shape},
    sampler::{Part, SamplerError},
    task::{self, AnyTask, Augmentation, BuildError, GenerateOptions, Leaks, Record, Size},
};
use thiserror::Error;

use super::{Rows, Source, TaskData};
use crate::recipe::{DataConfig, DataSource, OnLeak};

/// What can go wrong with a recipe's data.
#[derive(Debug, Error)]
pub enum DataError {
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
    Read(#[from] ReadError),
    /// Puzzles that make no data set.
    #[error("{path}: {source}")]
    Build {
        /// Where they come from.
        path: String,
        /// Why not.
        source: BuildError,
    },
    /// ARC tasks that cannot be read.
    #[error(transparent)]
    Arc(#[from] ArcError),
    /// ARC tasks that make no data set.
    #[error(transparent)]
    ArcBuild(#[from] arc::BuildError),
    /// Puzzles that cannot be made, or not so many.
    #[error("data.train_examples, data.test_examples: {0}")]
    Generate(String),
    /// A file without a puzzle.
    #[error("{path}: expected at least one puzzle, got none")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A data set on disk.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Other puzzles than the recipe says.
    #[error("{path}: expected rows of {expected} ({shape}), got {got}; {keys} say what the puzzles are")]
    Shape {
        /// The file or folder.
        path: PathBuf,
        /// What the recipe says.
        shape: Shape,
        /// Tokens and vocabulary of that.
        expected: String,
        /// Tokens and vocabulary there, or what is there.
        got: String,
        /// The settings that say the shape.
        keys: &'static str,
    },
    /// A data set of as many tokens that are other puzzles.
    #[error("{path}: no {shape}: {why}; {keys} say what the puzzles are")]
    Puzzles {
        /// The folder.
        path: PathBuf,
        /// What the recipe says.
        shape: Shape,
        /// What does not fit.
        why: String,
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
#[derive(Debug, Clone, Copy, PartialEq)]
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
    let shape = shape(config)?;
    let (seq_len, vocab_size) = shape.tokens();
    let of = |metadata: &Metadata| Sizes {
        vocab_size: metadata.vocab_size,
        seq_len: metadata.seq_len,
        num_puzzle_identifiers: Some(metadata.num_puzzle_identifiers),
        shape,
    };
    let mut files = [&config.path, &config.test_path].into_iter().chain(&config.extra_paths);
    let all_there = files.all(|path| path.is_empty() || Path::new(path).exists());
    Ok(match config.source {
        DataSource::Dataset => of(read_dataset(&Path::new(&config.path).join("train"), shape)?.0.metadata()),
        DataSource::Json if all_there => of(&load(config)?.metadata()),
        DataSource::Json => Sizes { vocab_size, seq_len, num_puzzle_identifiers: None, shape },
        _ => Sizes { vocab_size, seq_len, num_puzzle_identifiers: Some(1), shape },
    })
}

/// Loads or makes the data of a recipe.
///
/// # Errors
/// If a file is absent or malformed, a size does not exist, or held-out puzzles are equivalent to training puzzles.
pub fn load(config: &DataConfig) -> Result<TaskData, DataError> {
    let shape = shape(config)?;
    let mut warnings = Vec::new();
    let source = match config.source {
        DataSource::Dataset => Source::Rows(load_dataset(config, shape)?),
        DataSource::Json => load_arc(config, &mut warnings)?,
        DataSource::Generate => Source::Rows(generated(config, shape)?),
        DataSource::Csv | DataSource::Text => Source::Rows(files(config, shape, &mut warnings)?),
    };
    let also = config.also.iter().map(|also| load(&also.section(config))).collect::<Result<_, _>>()?;
    Ok(TaskData { shape, warnings, source, also })
}

/// What the puzzles are.
fn shape(config: &DataConfig) -> Result<Shape, DataError> {
    let boxes = Some((config.box_rows, config.box_cols));
    let size = Size { rows: config.grid_rows, cols: config.grid_cols, boxes };
    Shape::of_size(config.task, size).map_err(|why| DataError::Size {
        keys: "data.box_rows, data.box_cols, data.grid_rows, data.grid_cols",
        task: config.task,
        why,
    })
}

/// The settings that say what a shape is.
const KEYS: &str = "data.task, data.box_rows and data.box_cols, data.grid_rows and data.grid_cols";

/// What to make, of what a recipe says.
fn options(config: &DataConfig) -> GenerateOptions {
    GenerateOptions {
        kind: (config.task == Family::Maze).then(|| config.maze_kind.to_string()),
        givens: (config.max_clues > 0).then_some((config.min_clues, config.max_clues)),
        min_path: Some(config.min_path),
        max_path: Some(config.max_path),
        spare_bundled: true,
        ..GenerateOptions::default()
    }
}

fn generated(config: &DataConfig, shape: Shape) -> Result<Rows, DataError> {
    let task = shape.task();
    let made = task
        .split(&options(config), config.seed, (config.train_examples, config.test_examples))
        .map_err(DataError::Generate)?;
    rows(config, &task, ("generated puzzles", &made.train), ("generated puzzles", &made.test))
}

/// Records as data sets.
fn rows(
    config: &DataConfig,
    task: &AnyTask,
    (train_path, train): (&str, &[Record]),
    (test_path, test): (&str, &[Record]),
) -> Result<Rows, DataError> {
    let dataset = |path: &str, records: &[Record]| {
        let dataset = task.dataset(records, 0, config.seed);
        dataset.map(Arc::new).map_err(|source| DataError::Build { path: path.to_owned(), source })
    };
    let (train, test) = (dataset(train_path, train)?, dataset(test_path, test)?);
    let task = task.of_dataset(&train).map_err(DataError::Generate)?;
    Ok(Rows::new(config, task, train, test))
}

impl Rows {
    fn new(config: &DataConfig, task: AnyTask, train: Arc<Dataset>, test: Arc<Dataset>) -> Self {
        let augmentation = if config.augment { Augmentation::Task(task) } else { Augmentation::None };
        let [hints, wrong_hints] =
            [config.hint_prob, config.wrong_hint_prob].map(|share| (share * 1e6).round() as u32);
        Self { train, test, augmentation, hints, wrong_hints, mixture: Vec::new() }
    }
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

/// A dataset on disk, whose rows must be puzzles of a shape, with their task.
fn read_dataset(path: &Path, shape: Shape) -> Result<(Dataset, AnyTask), DataError> {
    let dataset = Dataset::load(path)?;
    let got = (dataset.metadata().seq_len, dataset.metadata().vocab_size);
    let expected = shape.tokens();
    // A larger vocabulary does no harm.
    if got.0 != expected.0 || got.1 < expected.1 {
        let text = |(seq_len, vocab): (usize, usize)| format!("{seq_len} tokens of {vocab} kinds");
        let (path, expected, got) = (path.to_owned(), text(expected), text(got));
        return Err(DataError::Shape { path, shape, expected, got, keys: KEYS });
    }
    let task = shape.task().of_dataset(&dataset);
    let task = task.map_err(|why| DataError::Puzzles { path: path.to_owned(), shape, why, keys: KEYS })?;
    Ok((dataset, task))
}

fn load_dataset(config: &DataConfig, shape: Shape) -> Result<Rows, DataError> {
    let root = Path::new(&config.path);
    let (train, task) = read_dataset(&root.join("train"), shape)?;
    let (test, _) = match config.test_path.as_str() {
        "" => read_dataset(&root.join("test"), shape)?,
        path => read_dataset(Path::new(path), shape)?,
    };
    Ok(Rows::new(config, task, Arc::new(train), Arc::new(test)))
}

/// A file of puzzles, of which `count` are drawn (0 for all).
fn read(config: &DataConfig, shape: Shape, path: &str, count: usize) -> Result<Vec<Record>, DataError> {
    let path = PathBuf::from(path);
    let size = shape.tokens();
    let records = reader::puzzles(Reader::open(config.task, &path)?).map(|puzzle| {
        let puzzle = puzzle?;
        if puzzle.shape.tokens() != size || puzzle.shape.size() != shape.size() {
            let (expected, got) = (format!("{} cells", size.0), puzzle.shape.to_string());
            return Err(DataError::Shape { path: path.clone(), shape, expected, got, keys: KEYS });
        }
        Ok(puzzle.record)
    });
    let found = match config.task.draws_as_it_reads() {
        true => task::reservoir(records, (count > 0).then_some(count), config.seed)?,
        false => subset(config, records.collect::<Result<_, _>>()?, count),
    };
    if found.is_empty() { Err(DataError::Empty { path }) } else { Ok(found) }
}

/// Some of the puzzles of a file, 0 for all.
fn subset(config: &DataConfig, records: Vec<Record>, count: usize) -> Vec<Record> {
    if count == 0 { records } else { task::draw(records, count, config.seed).0 }
}

/// Puzzles of `data.path`, `data.extra_paths` and `data.test_path`. Without the last, puzzles are held out of the first file,
/// and nothing that gives them away remains to be trained on.
fn files(config: &DataConfig, shape: Shape, warnings: &mut Vec<String>) -> Result<Rows, DataError> {
    let task = shape.task();
    let leaks = |train: &[Record], test: &[Record]| task.leaks(train, test).map_err(DataError::Generate);
    let mut files = Vec::new();
    let (test_path, test) = match config.test_path.as_str() {
        "" => {
            let mut train = read(config, shape, &config.path, 0)?;
            let wanted = config.test_examples.max(1);
            if train.len() <= wanted {
                let (path, available) = (PathBuf::from(&config.path), train.len().saturating_sub(1));
                return Err(DataError::TooFew { path, wanted, available });
            }
            let as_it_reads = config.task.draws_as_it_reads();
            let test = match as_it_reads {
                true => {
                    task::reservoir(train.iter().cloned().map(Ok::<_, DataError>), Some(wanted), config.seed)?
                }
                false => task::draw(train.clone(), wanted, config.seed).0,
            };
            // The held-out puzzles give themselves away.
            leaks(&train, &test)?.drop_from(&mut train);
            match config.train_examples {
                0 => {}
                count if as_it_reads => train.truncate(count),
                count => train = subset(config, train, count),
            }
            files.push(train);
            (&config.path, test)
        }
        path => {
            files.push(read(config, shape, &config.path, config.train_examples)?);
            (&config.test_path, read(config, shape, path, config.test_examples)?)
        }
    };
    for path in &config.extra_paths {
        files.push(read(config, shape, path, 0)?);
    }
    for (name, train) in std::iter::once(&config.path).chain(&config.extra_paths).zip(&mut files) {
        let between = Between { train: name, test: Path::new(test_path) };
        settle(config.on_leak, train, &leaks(train, &test)?, &between, warnings)?;
    }
    let mixture = mixture(&files.iter().map(Vec::len).collect::<Vec<_>>(), &config.extra_shares);
    let rows = rows(config, &task, (&config.path, &files.concat()), (test_path, &test))?;
    Ok(Rows { mixture, ..rows })
}

/// The files of a leak.
struct Between<'a> {
    train: &'a str,
    test: &'a Path,
}

/// Deals with training puzzles that give test puzzles away: stops, leaves them out, or keeps them, which both are told.
fn settle(
    on_leak: OnLeak,
    train: &mut Vec<Record>,
    leaks: &Leaks,
    between: &Between<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), DataError> {
    let pairs = leaks.all();
    let Some(&(of_train, of_test)) = pairs.first() else { return Ok(()) };
    let example = format!("puzzle {} there is puzzle {} here, for one", of_train + 1, of_test + 1);
    settle_by(on_leak, between, &leaks.to_string(), example, warnings)?;
    if on_leak == OnLeak::Drop {
        leaks.drop_from(train);
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
        // As many columns: `shape` has checked it.
        canvas: config.grid_rows,
    };
    let data = ArcData::new(training, evaluation, options)?;
    Ok(Source::Arc { data: Arc::new(data), votes: (config.votes > 0).then_some(config.votes) })
}
