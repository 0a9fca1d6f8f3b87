//! The data of a recipe, whatever its task.

mod load;

use std::sync::Arc;

use hrm_data::{
    dataset::{Batch, Dataset, Metadata},
    puzzles::arc::{ArcData, ArcSampler},
    registry::Shape,
    sampler::{Part, SamplerConfig, SamplerError, SamplerState, TrainSampler},
    task::Augmentation,
};
use hrm_infer::evaluate::Evaluation;

pub use hrm_infer::structure;
pub use load::{DataError, Sizes, load, sizes};

use crate::recipe::Recipe;

/// The training and held-out puzzles of a recipe.
#[derive(Debug, Clone)]
pub struct TaskData {
    /// What the puzzles are.
    pub shape: Shape,
    /// What the recipe allows but its user should know: test puzzles that are given away, for example.
    pub warnings: Vec<String>,
    source: Source,
}

/// Where batches come from.
#[derive(Debug, Clone)]
enum Source {
    /// Rows of tokens in memory.
    Rows(Rows),
    /// ARC tasks, whose augmentations are made when they are asked for.
    Arc {
        data: Arc<ArcData>,
        /// Augmentations of each test that vote; `None` for all.
        votes: Option<usize>,
    },
}

#[derive(Debug, Clone)]
struct Rows {
    train: Arc<Dataset>,
    test: Arc<Dataset>,
    augmentation: Augmentation,
    /// Rows in a million with hints.
    hints: u32,
    /// Rows in a million with a wrong hint.
    wrong_hints: u32,
    /// How often the parts of the training set are visited.
    mixture: Vec<Part>,
}

impl TaskData {
    /// Sizes of the training set. Where files are mixed, `total_groups` counts the visits of an epoch: one of each puzzle of
    /// the first file, and what goes with them.
    pub fn metadata(&self) -> Metadata {
        match &self.source {
            Source::Rows(rows) => {
                let metadata = rows.train.metadata().clone();
                let visits: usize = rows.mixture.iter().map(|part| part.visits).sum();
                let total_groups = if visits == 0 { metadata.total_groups } else { visits };
                Metadata { total_groups, ..metadata }
            }
            Source::Arc { data, .. } => data.metadata(true),
        }
    }

    /// Examples to train on: puzzles, or pairs of ARC tasks, augmentations not counted.
    pub fn train_examples(&self) -> usize {
        match &self.source {
            Source::Rows(rows) => rows.train.examples(),
            Source::Arc { data, .. } => {
                (0..data.tasks().len()).map(|task| data.training_pairs(task).len()).sum()
            }
        }
    }

    /// Examples to evaluate on: puzzles, or tests of ARC tasks, augmentations not counted.
    pub fn test_examples(&self) -> usize {
        match &self.source {
            Source::Rows(rows) => rows.test.examples(),
            Source::Arc { data, .. } => data.evaluation().iter().map(|task| task.test.len()).sum(),
        }
    }

    /// The held-out puzzles; `None` for ARC, whose tests are augmented when they are asked for.
    pub const fn held_out(&self) -> Option<&Arc<Dataset>> {
        match &self.source {
            Source::Rows(rows) => Some(&rows.test),
            Source::Arc { .. } => None,
        }
    }

    /// The tasks of ARC; `None` for any other.
    pub const fn arc(&self) -> Option<&Arc<ArcData>> {
        match &self.source {
            Source::Rows(_) => None,
            Source::Arc { data, .. } => Some(data),
        }
    }

    /// The puzzles that are trained on; `None` for ARC.
    pub const fn training(&self) -> Option<&Arc<Dataset>> {
        match &self.source {
            Source::Rows(rows) => Some(&rows.train),
            Source::Arc { .. } => None,
        }
    }

    /// The sampler of a fresh run.
    ///
    /// # Errors
    /// If the data cannot fill a batch.
    pub fn sampler(&self, recipe: &Recipe) -> Result<Sampler, DataError> {
        let config = self.sampler_config(recipe);
        Ok(match &self.source {
            Source::Rows(rows) => Sampler::Rows(TrainSampler::new(Arc::clone(&rows.train), config)?),
            Source::Arc { data, .. } => Sampler::Arc(ArcSampler::new(Arc::clone(data), config)?),
        })
    }

    /// A sampler that goes on where another stopped.
    ///
    /// # Errors
    /// If the state is that of other data.
    pub fn sampler_from(&self, recipe: &Recipe, state: SamplerState) -> Result<Sampler, DataError> {
        let config = self.sampler_config(recipe);
        let restored: Result<Sampler, SamplerError> = match &self.source {
            Source::Rows(rows) => {
                TrainSampler::restore(Arc::clone(&rows.train), config, state).map(Sampler::Rows)
            }
            Source::Arc { data, .. } => {
                ArcSampler::restore(Arc::clone(data), config, state).map(Sampler::Arc)
            }
        };
        Ok(restored?)
    }

    /// Sequential batches of the held-out puzzles, at most `limit` of them (0 for all), and the judge of their answers. Of
    /// ARC, `limit` counts tasks.
    pub fn evaluation(&self, batch_size: usize, limit: usize) -> Evaluation {
        match &self.source {
            Source::Rows(rows) => Evaluation::of_rows(&rows.test, Some(self.shape), batch_size, limit),
            Source::Arc { data, votes } => Evaluation::of_arc(data, *votes, batch_size, limit),
        }
    }

    /// Sequential batches of the first `limit` training puzzles, without augmentation; `None` for ARC, whose training pairs
    /// have no vote.
    pub fn training_evaluation(&self, batch_size: usize, limit: usize) -> Option<Evaluation> {
        match &self.source {
            Source::Rows(rows) => Some(Evaluation::of_rows(&rows.train, Some(self.shape), batch_size, limit)),
            Source::Arc { .. } => None,
        }
    }

    fn sampler_config(&self, recipe: &Recipe) -> SamplerConfig {
        let batch_size = recipe.train.global_batch_size;
        // A small set is gone through several times per iteration, so that batches may straddle its end and
        // no more than an eighth of it is dropped with the short last batch.
        let examples = match &self.source {
            Source::Rows(_) => self.metadata().total_groups,
            Source::Arc { .. } => self.train_examples(),
        };
        let epochs_per_iteration = (8 * batch_size).div_ceil(examples.max(1));
        let config =
            SamplerConfig { epochs_per_iteration, ..SamplerConfig::new(batch_size, recipe.train.seed) };
        match &self.source {
            Source::Rows(Rows { augmentation, hints, wrong_hints, mixture, .. }) => SamplerConfig {
                augmentation: augmentation.clone(),
                hints: *hints,
                wrong_hints: *wrong_hints,
                mixture: mixture.clone(),
                ..config
            },
            Source::Arc { .. } => config,
        }
    }
}

/// Draws training batches of any task, endlessly.
#[derive(Debug, Clone)]
pub enum Sampler {
    /// From rows of tokens.
    Rows(TrainSampler),
    /// From ARC tasks.
    Arc(ArcSampler),
}

impl Sampler {
    /// The next batch: always full, never ends.
    pub fn next_batch(&mut self) -> Batch {
        match self {
            Self::Rows(sampler) => sampler.next_batch(),
            Self::Arc(sampler) => sampler.next_batch(),
        }
    }

    /// Where the sampler stands, after the last batch drawn.
    pub fn state(&self) -> SamplerState {
        match self {
            Self::Rows(sampler) => sampler.state(),
            Self::Arc(sampler) => sampler.state(),
        }
    }

    /// Batches of one pass over the training puzzles.
    pub fn batches_per_epoch(&self) -> f64 {
        match self {
            Self::Rows(sampler) => sampler.batches_per_epoch(),
            Self::Arc(sampler) => sampler.batches_per_epoch(),
        }
    }
}

#[cfg(test)]
mod tests;
