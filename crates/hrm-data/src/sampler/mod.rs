//! The reference's group sampler (`puzzle_dataset.py`), endless and resumable.
//!
//! An *iteration* goes through every set once. Within a set the groups are shuffled (`epochs_per_iteration` shuffles, one
//! after the other) and visited in that order: one random puzzle of the group, and of it as many random examples, without
//! replacement, as the batch has room for. What does not fit is dropped, not carried over; so is a short last batch.

use std::ops::Range;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::dataset::{Batch, Dataset, PuzzleSet, mask_labels};
use crate::random::{self, Purpose, stream};
use crate::task::{Augmentation, draw_hints};

/// What a [`TrainSampler`] draws.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplerConfig {
    /// Rows of a batch.
    pub batch_size: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// How examples are varied.
    pub augmentation: Augmentation,
    /// Passes over the groups before a short batch is dropped. More than one lets a batch be larger than the dataset, and
    /// drops fewer examples of a small one.
    pub epochs_per_iteration: usize,
    /// Rows in a million that come with hints: a number of blank cells, uniform from 1 to all but one, is filled in from the
    /// label, drawn anew each time. For Sudoku, where token 1 is a blank.
    #[serde(default)]
    pub hints: u32,
    /// Rows in a million in which one blank cell is filled in with a wrong value, beside the hints: what a model sees that guessed wrong.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wrong_hints: u32,
    /// Parts of the dataset that are visited more or less often than once an epoch, in the order of its groups, all of which
    /// they cover. Empty for every group once an epoch.
    #[serde(default)]
    pub mixture: Vec<Part>,
}

/// A number of consecutive groups, of which an epoch visits a number, one after the other in random order: each is visited
/// as often as any other of its part, give or take one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Groups.
    pub groups: usize,
    /// Visits in one epoch.
    pub visits: usize,
}

/// Marks the streams of a mixture among those of plain orders, whose second counter is the number of a set.
const MIXED: u64 = 1 << 32;

impl SamplerConfig {
    /// No augmentation, no hints, one epoch per iteration, which visits every group once.
    pub const fn new(batch_size: usize, seed: u64) -> Self {
        Self {
            batch_size,
            seed,
            augmentation: Augmentation::None,
            epochs_per_iteration: 1,
            hints: 0,
            wrong_hints: 0,
            mixture: Vec::new(),
        }
    }
}

impl SamplerConfig {
    /// Groups visited in one epoch of a set.
    fn visits(&self, set: &PuzzleSet) -> usize {
        match self.mixture.is_empty() {
            true => set.groups(),
            false => self.mixture.iter().fold(0usize, |sum, part| sum.saturating_add(part.visits)),
        }
    }

    /// The groups that an epoch of a mixture visits, part by part. The visits of a part go through all of its groups in one
    /// random order after the other; an epoch takes up where the one before ended.
    fn mixed_order(&self, epoch: u64) -> Vec<u32> {
        let mut order = Vec::new();
        let mut first_group = 0;
        for (number, part) in (1..).zip(&self.mixture) {
            let (groups, visits) = (part.groups as u64, part.visits as u64);
            let mut at = epoch.wrapping_mul(visits);
            let end = at.wrapping_add(visits);
            while at < end {
                let (round, from) = (at / groups, at % groups);
                let count = (groups - from).min(end - at);
                let mut rng = stream(self.seed, Purpose::GroupOrder, round, MIXED + number);
                let all = random::permutation(&mut rng, part.groups);
                let some = &all[from as usize..(from + count) as usize];
                order.extend(some.iter().map(|group| first_group + group));
                at += count;
            }
            first_group += part.groups as u32;
        }
        order
    }
}

/// Why a sampler cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// A size of zero.
    #[error("expected {what} of at least 1, got 0")]
    Zero {
        /// The setting.
        what: &'static str,
    },
    /// A set that never fills a batch.
    #[error(
        "set {set:?} fills no batch: {examples} examples per epoch x {epochs} epochs per iteration, batch size {batch_size}; \
             use a batch size of at most {examples}, or at least {needed} epochs per iteration"
    )]
    TooFewExamples {
        /// The set.
        set: String,
        /// Examples that an epoch is sure to offer.
        examples: usize,
        /// Epochs per iteration.
        epochs: usize,
        /// Rows of a batch.
        batch_size: usize,
        /// Epochs per iteration that would do.
        needed: usize,
    },
    /// More visits to groups in one iteration than can be numbered.
    #[error("expected groups x epochs per iteration of at most {limit}, got {groups} x {epochs}; use fewer epochs per iteration", limit = u32::MAX)]
    TooManyEpochs {
        /// Groups of the largest set.
        groups: usize,
        /// Epochs per iteration.
        epochs: usize,
    },
    /// An augmentation that does not fit the dataset.
    #[error("augmentation does not fit the dataset: {why}")]
    Augmentation {
        /// What does not fit.
        why: String,
    },
    /// Hints where there are no blanks.
    #[error(
        "expected at most 1000000 rows in a million with hints, and none with this augmentation ({augmentation}); got {got}"
    )]
    Hints {
        /// Rows in a million.
        got: u32,
        /// The augmentation.
        augmentation: String,
    },
    /// Parts that are not those of the dataset.
    #[error(
        "expected parts of at least 1 group and 1 visit that cover the {groups} groups of the only set, got {got}"
    )]
    Mixture {
        /// Groups of the dataset.
        groups: usize,
        /// The parts.
        got: String,
    },
    /// A state that belongs to another run.
    #[error("cannot restore the sampler: expected {field} {expected}, the saved state has {got}")]
    State {
        /// What differs.
        field: &'static str,
        /// The value now.
        expected: String,
        /// The saved value.
        got: String,
    },
}

/// Where a [`TrainSampler`] stands: enough to continue exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplerState {
    /// What is drawn; must be the same when restored.
    pub config: SamplerConfig,
    /// Groups of the dataset, as a guard against another dataset.
    pub groups: usize,
    /// Examples of the dataset, as a guard against another dataset.
    pub examples: usize,
    /// Iterations completed.
    pub iteration: u64,
    /// Set within the iteration.
    pub set: usize,
    /// Position in the order of the set's groups.
    pub position: usize,
    /// Batches drawn since the beginning.
    pub batches: u64,
}

/// Draws training batches, endlessly.
#[derive(Clone, Debug)]
pub struct TrainSampler {
    dataset: Arc<Dataset>,
    state: SamplerState,
    /// The order of the groups for the state's iteration and set.
    order: Vec<u32>,
}

impl TrainSampler {
    /// A sampler at the beginning of its first iteration.
    ///
    /// # Errors
    /// [`SamplerError`] if a size is zero, a set cannot fill a batch, or the augmentation does not fit the dataset.
    pub fn new(dataset: Arc<Dataset>, config: SamplerConfig) -> Result<Self, SamplerError> {
        if config.batch_size == 0 {
            return Err(SamplerError::Zero { what: "a batch size" });
        }
        if config.epochs_per_iteration == 0 {
            return Err(SamplerError::Zero { what: "epochs per iteration" });
        }
        if let Some(why) = config.augmentation.obstacle(dataset.metadata()) {
            return Err(SamplerError::Augmentation { why });
        }
        let most = config.hints.max(config.wrong_hints);
        if most > 1_000_000 || (most > 0 && !config.augmentation.allows_hints()) {
            let augmentation = format!("{:?}", config.augmentation);
            return Err(SamplerError::Hints { got: most, augmentation });
        }
        let covered: usize = config.mixture.iter().map(|part| part.groups).sum();
        let is_whole = covered == dataset.groups() && dataset.sets().len() == 1;
        let has_empty = config.mixture.iter().any(|part| part.groups == 0 || part.visits == 0);
        if !config.mixture.is_empty() && (!is_whole || has_empty) {
            let (groups, got) = (dataset.groups(), format!("{:?}", config.mixture));
            return Err(SamplerError::Mixture { groups, got });
        }
        for set in dataset.sets() {
            let (groups, epochs) = (config.visits(set), config.epochs_per_iteration);
            if groups.checked_mul(epochs).is_none_or(|visits| visits > u32::MAX as usize) {
                return Err(SamplerError::TooManyEpochs { groups, epochs });
            }
            let smallest = |group| set.puzzles_of(group).map(|p| set.examples_of(p).len()).min().unwrap_or(0);
            let examples: usize = match config.mixture.is_empty() {
                true => (0..set.groups()).map(smallest).sum(),
                // At least one for each visit.
                false => groups,
            };
            if examples.saturating_mul(config.epochs_per_iteration) < config.batch_size {
                return Err(SamplerError::TooFewExamples {
                    set: set.name().to_owned(),
                    examples,
                    epochs: config.epochs_per_iteration,
                    batch_size: config.batch_size,
                    needed: config.batch_size.div_ceil(examples.max(1)),
                });
            }
        }
        let (groups, examples) = (dataset.groups(), dataset.examples());
        let state = SamplerState { config, groups, examples, iteration: 0, set: 0, position: 0, batches: 0 };
        let mut sampler = Self { dataset, state, order: Vec::new() };
        sampler.shuffle_groups();
        Ok(sampler)
    }

    /// A sampler that continues where `state` was taken.
    ///
    /// # Errors
    /// [`SamplerError::State`] if the state was taken with another dataset or another configuration; otherwise as
    /// [`TrainSampler::new`].
    pub fn restore(
        dataset: Arc<Dataset>,
        config: SamplerConfig,
        state: SamplerState,
    ) -> Result<Self, SamplerError> {
        let mut sampler = Self::new(dataset, config)?;
        let now = &sampler.state;
        let differs = |field, expected: &dyn ToString, got: &dyn ToString| {
            Err(SamplerError::State { field, expected: expected.to_string(), got: got.to_string() })
        };
        if now.config != state.config {
            return differs(
                "the configuration",
                &format!("{:?}", now.config),
                &format!("{:?}", state.config),
            );
        }
        if now.groups != state.groups {
            return differs("a dataset with groups:", &now.groups, &state.groups);
        }
        if now.examples != state.examples {
            return differs("a dataset with examples:", &now.examples, &state.examples);
        }
        if state.set >= sampler.dataset.sets().len() {
            return differs("a set below", &sampler.dataset.sets().len(), &state.set);
        }
        // The saved augmentation has words only.
        let config = sampler.state.config;
        sampler.state = SamplerState { config, ..state };
        sampler.shuffle_groups();
        if sampler.state.position > sampler.order.len() {
            return differs("a position of at most", &sampler.order.len(), &sampler.state.position);
        }
        Ok(sampler)
    }

    /// Where the sampler stands, after the last batch drawn.
    pub fn state(&self) -> SamplerState {
        self.state.clone()
    }

    /// Batches of one iteration (all sets, `epochs_per_iteration` passes). Exact if all puzzles of a set have the same
    /// number of examples, as in Sudoku and mazes; otherwise the expectation, rounded down.
    pub fn batches_per_iteration(&self) -> usize {
        let config = &self.state.config;
        let batches = |set: &PuzzleSet| {
            let visits = config.visits(set) * config.epochs_per_iteration;
            let size = set.examples_of(0).len();
            if (0..set.puzzles()).all(|p| set.examples_of(p).len() == size) {
                return visits / config.batch_size.div_ceil(size.max(1));
            }
            (visits as f64 * set.examples() as f64 / set.puzzles() as f64) as usize / config.batch_size
        };
        self.dataset.sets().iter().map(batches).sum()
    }

    /// Batches of one pass over the groups: [`TrainSampler::batches_per_iteration`] over `epochs_per_iteration`.
    pub fn batches_per_epoch(&self) -> f64 {
        self.batches_per_iteration() as f64 / self.state.config.epochs_per_iteration as f64
    }

    /// The next batch: always full, never ends.
    pub fn next_batch(&mut self) -> Batch {
        loop {
            let set = &self.dataset.sets()[self.state.set];
            let batch_size = self.state.config.batch_size;
            let mut draws = Draws(stream(
                self.state.config.seed,
                Purpose::BatchDraw,
                self.state.iteration,
                (self.state.set as u64) << 32 | self.state.position as u64,
            ));
            let (next, picks) = sample_batch(set, &self.order, self.state.position, batch_size, &mut draws);
            if picks.len() == batch_size {
                let batch = self.assemble(&picks);
                self.state.position = next;
                self.state.batches += 1;
                return batch;
            }
            // A short batch is dropped, as in the reference. Each set fills at least one batch: `new` checked.
            self.state.position = 0;
            self.state.set += 1;
            if self.state.set == self.dataset.sets().len() {
                self.state.set = 0;
                self.state.iteration += 1;
            }
            self.shuffle_groups();
        }
    }

    /// The order of the groups is a pure function of (seed, iteration, set).
    fn shuffle_groups(&mut self) {
        let config = &self.state.config;
        self.order.clear();
        if config.mixture.is_empty() {
            let mut rng =
                stream(config.seed, Purpose::GroupOrder, self.state.iteration, self.state.set as u64);
            let groups = self.dataset.sets()[self.state.set].groups();
            for _ in 0..config.epochs_per_iteration {
                self.order.extend(random::permutation(&mut rng, groups));
            }
            return;
        }
        let first = self.state.iteration.wrapping_mul(config.epochs_per_iteration as u64);
        for epoch in 0..config.epochs_per_iteration {
            let epoch = first.wrapping_add(epoch as u64);
            let mut order = config.mixed_order(epoch);
            random::shuffle(&mut stream(config.seed, Purpose::GroupOrder, epoch, MIXED), &mut order);
            self.order.extend(order);
        }
    }

    fn assemble(&self, picks: &[Pick]) -> Batch {
        let config = &self.state.config;
        let metadata = self.dataset.metadata();
        let set = &self.dataset.sets()[self.state.set];
        // Examples are numbered through all sets, so that no two of an epoch share a stream.
        let before: usize = self.dataset.sets()[..self.state.set].iter().map(PuzzleSet::examples).sum();
        let first_epoch = self.state.iteration.wrapping_mul(config.epochs_per_iteration as u64);
        let mut batch = Batch::padding(metadata, picks.len());
        let rows = batch
            .inputs
            .par_chunks_exact_mut(batch.seq_len)
            .zip(batch.labels.par_chunks_exact_mut(batch.seq_len));
        rows.zip(picks).with_min_len(32).for_each(|((input, label), pick)| {
            let coordinate = match config.mixture.is_empty() {
                true => {
                    let epoch = first_epoch.wrapping_add((pick.position / set.groups()) as u64);
                    (config.seed, epoch, (before + pick.example) as u64)
                }
                // An epoch may visit an example twice: the visit is what is new each time.
                false => (config.seed, self.state.iteration, MIXED << 30 | pick.position as u64),
            };
            config.augmentation.apply(
                coordinate,
                (set.input(pick.example), set.label(pick.example)),
                (&mut *input, &mut *label),
            );
            if config.hints > 0 || config.wrong_hints > 0 {
                let (seed, a, b) = coordinate;
                let rng = &mut stream(seed, Purpose::Hints, a, b);
                give_hints(rng, config.hints, input, label);
                give_wrong_hint(rng, config.wrong_hints, &config.augmentation, input, label);
            }
            mask_labels(label, metadata.ignore_label_id);
        });
        for (id, pick) in batch.puzzle_identifiers.iter_mut().zip(picks) {
            *id = set.puzzle_identifiers()[pick.puzzle] as i32;
        }
        batch
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The token of a blank cell.
const BLANK: i32 = 1;

/// The cells that the puzzle leaves open and the solution fills.
fn blanks(input: &[i32], label: &[i32]) -> Vec<usize> {
    (0..input.len()).filter(|&i| input[i] == BLANK && label[i] > BLANK).collect()
}

/// With `per_million` in a million: fills in a number of blank cells, uniform from 1 to all but one. What is known of a cell
/// is its label, so the hints are right and a unique solution stays the only one.
fn give_hints(rng: &mut ChaCha8Rng, per_million: u32, input: &mut [i32], label: &[i32]) {
    if random::below(rng, 1_000_000) >= per_million {
        return;
    }
    for cell in draw_hints(rng, blanks(input, label)) {
        input[cell] = label[cell];
    }
}

/// With `per_million` in a million: fills in a blank cell with a wrong value, one that no given rules out at first sight. There may be no such
/// value; so many draws look for one.
fn give_wrong_hint(
    rng: &mut ChaCha8Rng,
    per_million: u32,
    augmentation: &Augmentation,
    input: &mut [i32],
    label: &[i32],
) {
    const DRAWS: usize = 16;
    if per_million == 0 || random::below(rng, 1_000_000) >= per_million {
        return;
    }
    let blanks = blanks(input, label);
    let values = label.iter().max().map_or(0, |&most| (most - BLANK).max(0)) as u32;
    if blanks.is_empty() || values < 2 {
        return;
    }
    for _ in 0..DRAWS {
        let cell = blanks[random::below(rng, blanks.len() as u32) as usize];
        let value = BLANK + 1 + random::below(rng, values) as i32;
        if value == label[cell] {
            continue;
        }
        input[cell] = value;
        if augmentation.could_give(input) {
            return;
        }
        input[cell] = BLANK;
    }
}

/// One row of a batch before it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) example: usize,
    pub(crate) puzzle: usize,
    /// Position in the order of groups.
    pub(crate) position: usize,
}

/// The random decisions of the sampler, apart so that a test can dictate them.
pub(crate) trait Decide {
    /// A puzzle of a group.
    fn puzzle(&mut self, puzzles: Range<usize>) -> usize;
    /// `count` different numbers below `size`, in random order.
    fn examples(&mut self, size: usize, count: usize) -> Vec<usize>;
}

pub(crate) struct Draws(pub(crate) ChaCha8Rng);

impl Decide for Draws {
    fn puzzle(&mut self, puzzles: Range<usize>) -> usize {
        match puzzles.len() {
            1 => puzzles.start,
            n => puzzles.start + random::below_u64(&mut self.0, n as u64) as usize,
        }
    }

    fn examples(&mut self, size: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..size).collect();
        // The first `count` steps of a Fisher-Yates shuffle.
        for i in 0..count.min(size.saturating_sub(1)) {
            let j = i + random::below_u64(&mut self.0, (size - i) as u64) as usize;
            all.swap(i, j);
        }
        all.truncate(count);
        all
    }
}

/// The tree that batches are drawn from: groups of puzzles of examples, each numbered.
pub(crate) trait Layout {
    /// The puzzles of a group.
    fn puzzles_of(&self, group: usize) -> Range<usize>;
    /// The examples of a puzzle.
    fn examples_of(&self, puzzle: usize) -> Range<usize>;
}

impl Layout for PuzzleSet {
    fn puzzles_of(&self, group: usize) -> Range<usize> {
        Self::puzzles_of(self, group)
    }

    fn examples_of(&self, puzzle: usize) -> Range<usize> {
        Self::examples_of(self, puzzle)
    }
}

/// The reference's `_sample_batch`: fills a batch from the groups in `order` from `start` on; returns where to go on.
pub(crate) fn sample_batch(
    set: &impl Layout,
    order: &[u32],
    start: usize,
    batch_size: usize,
    draws: &mut impl Decide,
) -> (usize, Vec<Pick>) {
    let mut position = start;
    let mut picks = Vec::new();
    while position < order.len() && picks.len() < batch_size {
        let puzzle = draws.puzzle(set.puzzles_of(order[position] as usize));
        let examples = set.examples_of(puzzle);
        let count = examples.len().min(batch_size - picks.len());
        let chosen = draws.examples(examples.len(), count);
        picks.extend(chosen.iter().map(|&i| Pick { example: examples.start + i, puzzle, position }));
        position += 1;
    }
    (position, picks)
}

#[cfg(test)]
mod tests;
