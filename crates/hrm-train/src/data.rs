//! The edge between plain data and tensors, and the data sets that a recipe names.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::{Tensor, TensorData, backend::Backend};
use hrm_data::{
    dataset::{
        Augmentation, Batch, Dataset, DatasetError, EvalBatches, SamplerConfig, SamplerError, SamplerState,
        TrainSampler,
    },
    sudoku::{
        Board, BoardError, Geometry,
        dataset::{
            BuildError, BuildOptions, GenerateOptions, from_records, generate_split, leaks, select_records,
        },
        records::{Record, RecordError, RecordReader},
    },
};
use hrm_model::act::PuzzleBatch;
use thiserror::Error;

use crate::config::{DataConfig, DataSource, Recipe};

/// What can go wrong with a recipe's data.
#[derive(Debug, Error)]
pub enum DataError {
    /// A box of a Sudoku.
    #[error("data.box_rows, data.box_cols: {0}")]
    Geometry(#[from] BoardError),
    /// A puzzle file.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Puzzles that make no data set.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A data set on disk.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Batches.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A test file that gives away training puzzles.
    #[error(
        "{test}: {count} of its puzzles are equivalent under symmetry to puzzles of {train}: an evaluation on them \
         would not be held out; use another test file"
    )]
    Leak {
        /// The test file.
        test: PathBuf,
        /// The training file.
        train: PathBuf,
        /// Leaking puzzles.
        count: usize,
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

/// A batch on a device.
pub fn to_device<B: Backend>(batch: &Batch, device: &B::Device) -> PuzzleBatch<B> {
    let tokens = |values: &[i32]| {
        TensorData::new(values.to_vec(), [batch.rows, batch.seq_len]).convert::<B::IntElem>()
    };
    let identifiers = TensorData::new(batch.puzzle_identifiers.clone(), [batch.rows]).convert::<B::IntElem>();
    PuzzleBatch {
        inputs: Tensor::from_data(tokens(&batch.inputs), device),
        labels: Tensor::from_data(tokens(&batch.labels), device),
        puzzle_identifiers: Tensor::from_data(identifiers, device),
    }
}

/// The training and held-out puzzles of a recipe.
#[derive(Debug, Clone)]
pub struct TaskData {
    /// Puzzles to train on.
    pub train: Arc<Dataset>,
    /// Puzzles to evaluate on.
    pub test: Arc<Dataset>,
    /// What training does to each puzzle each time.
    pub augmentation: Augmentation,
}

impl TaskData {
    /// The sampler of a fresh run.
    ///
    /// # Errors
    /// If the data cannot fill a batch.
    pub fn sampler(&self, recipe: &Recipe) -> Result<TrainSampler, DataError> {
        Ok(TrainSampler::new(Arc::clone(&self.train), self.sampler_config(recipe))?)
    }

    /// A sampler that goes on where another stopped.
    ///
    /// # Errors
    /// If the state is that of other data.
    pub fn sampler_from(&self, recipe: &Recipe, state: SamplerState) -> Result<TrainSampler, DataError> {
        Ok(TrainSampler::restore(Arc::clone(&self.train), self.sampler_config(recipe), state)?)
    }

    /// Sequential batches of the held-out puzzles, at most `limit` of them (0 for all).
    pub fn eval_batches(&self, batch_size: usize, limit: usize) -> EvalBatches {
        eval_batches(&self.test, batch_size, limit)
    }

    fn sampler_config(&self, recipe: &Recipe) -> SamplerConfig {
        let batch_size = recipe.train.global_batch_size;
        // A small set is gone through several times per iteration, so that batches may straddle its end and
        // no more than an eighth of it is dropped with the short last batch.
        let epochs_per_iteration = (8 * batch_size).div_ceil(self.train.examples().max(1));
        SamplerConfig {
            batch_size,
            seed: recipe.train.seed,
            augmentation: self.augmentation,
            epochs_per_iteration,
        }
    }
}

/// Sequential batches of a data set, at most `limit` puzzles (0 for all), none larger than the set.
pub fn eval_batches(dataset: &Arc<Dataset>, batch_size: usize, limit: usize) -> EvalBatches {
    let dataset = if limit == 0 { Arc::clone(dataset) } else { Arc::new(dataset.head(limit)) };
    let batch_size = batch_size.min(dataset.examples());
    EvalBatches::new(dataset, batch_size)
}

/// Loads or makes the data of a recipe.
///
/// # Errors
/// If a file is absent or malformed, or held-out puzzles are equivalent to training puzzles.
pub fn load(config: &DataConfig) -> Result<TaskData, DataError> {
    if config.source == DataSource::Dataset {
        return load_dataset(config);
    }
    let geometry = Geometry::new(config.box_rows, config.box_cols)?;
    let (train, test) = match config.source {
        DataSource::Generate => {
            let split = generate_split(&GenerateOptions {
                geometry,
                seed: config.seed,
                train: config.train_examples,
                test: config.test_examples,
                clues: (config.max_clues > 0).then_some((config.min_clues, config.max_clues)),
            })?;
            (split.train, split.test)
        }
        _ => load_csv(config)?,
    };
    let options = BuildOptions { seed: config.seed, ..BuildOptions::default() };
    let dataset = |records: &[Record]| -> Result<Arc<Dataset>, DataError> {
        Ok(Arc::new(from_records(records, &options)?.0))
    };
    let augmentation =
        if config.augment { Augmentation::SudokuSymmetry { geometry } } else { Augmentation::None };
    Ok(TaskData { train: dataset(&train)?, test: dataset(&test)?, augmentation })
}

fn load_dataset(config: &DataConfig) -> Result<TaskData, DataError> {
    let root = Path::new(&config.path);
    let train = Arc::new(Dataset::load(&root.join("train"))?);
    let test = match config.test_path.as_str() {
        "" => Dataset::load(&root.join("test"))?,
        path => Dataset::load(Path::new(path))?,
    };
    let geometry = Geometry::new(config.box_rows, config.box_cols)?;
    let is_sudoku = train.metadata().seq_len == geometry.side() * geometry.side();
    let augmentation = if config.augment && is_sudoku {
        Augmentation::SudokuSymmetry { geometry }
    } else {
        Augmentation::None
    };
    Ok(TaskData { train, test: Arc::new(test), augmentation })
}

fn load_csv(config: &DataConfig) -> Result<(Vec<Record>, Vec<Record>), DataError> {
    let path = PathBuf::from(&config.path);
    let select = |path: &Path, count: usize, min_rating: u32| -> Result<Vec<Record>, DataError> {
        let options = BuildOptions {
            seed: config.seed,
            subsample: (count > 0).then_some(count),
            min_rating: (min_rating > 0).then_some(f64::from(min_rating)),
            augmentations: 0,
        };
        Ok(select_records(RecordReader::open(path)?, &options)?.0)
    };
    if !config.test_path.is_empty() {
        let test_path = PathBuf::from(&config.test_path);
        let train = select(&path, config.train_examples, config.min_rating)?;
        let test = select(&test_path, config.test_examples, 0)?;
        let leaking = leaking(&train, &test).len();
        if leaking > 0 {
            return Err(DataError::Leak { test: test_path, train: path, count: leaking });
        }
        return Ok((train, test));
    }
    // Hold puzzles out of the one file: those that come first in the draw's order, minus the equivalent ones.
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
    let equivalent: HashSet<usize> = leaking(&test, &train).into_iter().collect();
    let mut index = 0;
    train.retain(|_| {
        index += 1;
        !equivalent.contains(&(index - 1))
    });
    if config.train_examples > 0 {
        train.truncate(config.train_examples);
    }
    Ok((train, test))
}

/// Indices of the records in `second` that are equivalent to one in `first`.
fn leaking(first: &[Record], second: &[Record]) -> Vec<usize> {
    leaks(first.iter().map(|r| &r.puzzle), second.iter().map(|r| &r.puzzle))
        .into_iter()
        .map(|(index, _)| index)
        .collect()
}
