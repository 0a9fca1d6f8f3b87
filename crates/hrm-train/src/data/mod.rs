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
use serde::{Deserialize, Serialize};

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
    /// Puzzles of further sizes to train on (`data.also`).
    also: Vec<Self>,
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

    /// What the puzzles of the further sizes are.
    pub fn further_shapes(&self) -> impl Iterator<Item = Shape> {
        self.also.iter().map(|data| data.shape)
    }

    /// Examples to train on: puzzles of all sizes, or pairs of ARC tasks, augmentations not counted.
    pub fn train_examples(&self) -> usize {
        self.also.iter().map(Self::train_examples).sum::<usize>() + self.own_train_examples()
    }

    fn own_train_examples(&self) -> usize {
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

    /// The sampler of a fresh run, or one that goes on where another stopped.
    ///
    /// # Errors
    /// If the data cannot fill a batch, or the state is that of other data.
    pub fn sampler(&self, recipe: &Recipe, state: Option<Drawn>) -> Result<Sampler, DataError> {
        let sizes = self.also.len() + 1;
        let states: Vec<Option<SamplerState>> = match state {
            None => vec![None; sizes],
            Some(Drawn { own, also }) => std::iter::once(own).chain(also).map(Some).collect(),
        };
        if states.len() != sizes {
            let (expected, got) = (sizes.to_string(), states.len().to_string());
            return Err(SamplerError::State { field: "sizes of puzzles", expected, got }.into());
        }
        let each = std::iter::once(self).chain(&self.also).zip(states);
        Ok(Sampler(each.map(|(data, state)| data.of_size(recipe, state)).collect::<Result<_, _>>()?))
    }

    fn of_size(&self, recipe: &Recipe, state: Option<SamplerState>) -> Result<OfSize, SamplerError> {
        let config = self.sampler_config(recipe);
        match &self.source {
            Source::Rows(Rows { train, .. }) => {
                let train = Arc::clone(train);
                let sampler = match state {
                    None => TrainSampler::new(train, config),
                    Some(state) => TrainSampler::restore(train, config, state),
                };
                sampler.map(OfSize::Rows)
            }
            Source::Arc { data, .. } => {
                let data = Arc::clone(data);
                let sampler = match state {
                    None => ArcSampler::new(data, config),
                    Some(state) => ArcSampler::restore(data, config, state),
                };
                sampler.map(OfSize::Arc)
            }
        }
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
            Source::Arc { .. } => self.own_train_examples(),
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

/// Draws training batches of any task, endlessly; of each size, the recipe's own first.
#[derive(Debug, Clone)]
pub struct Sampler(Vec<OfSize>);

#[derive(Debug, Clone)]
enum OfSize {
    /// From rows of tokens.
    Rows(TrainSampler),
    /// From ARC tasks.
    Arc(ArcSampler),
}

/// Where a [`Sampler`] stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    #[serde(flatten)]
    own: SamplerState,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    also: Vec<SamplerState>,
}

impl Drawn {
    /// Batches drawn of all sizes; `None` if a sampler has passed over its puzzles more often than it has drawn.
    pub fn batches(&self) -> Option<u64> {
        let each = || std::iter::once(&self.own).chain(&self.also);
        let sound = each().all(|state| state.iteration <= state.batches);
        sound.then(|| each().fold(0, |sum, state| state.batches.saturating_add(sum)))
    }
}

impl Sampler {
    /// The next batch of a size: always full, never ends.
    pub fn next_batch(&mut self, size: usize) -> Batch {
        match &mut self.0[size] {
            OfSize::Rows(sampler) => sampler.next_batch(),
            OfSize::Arc(sampler) => sampler.next_batch(),
        }
    }

    /// Where the sampler stands, after the last batch drawn.
    pub fn state(&self) -> Drawn {
        let mut states = self.0.iter().map(|sampler| match sampler {
            OfSize::Rows(sampler) => sampler.state(),
            OfSize::Arc(sampler) => sampler.state(),
        });
        Drawn { own: states.next().expect("the recipe's own size"), also: states.collect() }
    }

    /// Batches of one pass over the training puzzles of the recipe's own size.
    pub fn batches_per_epoch(&self) -> f64 {
        match &self.0[0] {
            OfSize::Rows(sampler) => sampler.batches_per_epoch(),
            OfSize::Arc(sampler) => sampler.batches_per_epoch(),
        }
    }
}

#[cfg(test)]
mod tests;
