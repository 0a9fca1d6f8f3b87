//! Batches of ARC, made from the original tasks as they are asked for.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::data::{ArcData, write_pair};
use crate::dataset::{Batch, EvalBatch, mask_labels};
use crate::random::{self, Purpose, stream};
use crate::sampler::{Draws, Layout, SamplerConfig, SamplerError, SamplerState, sample_batch};
use crate::task::Augmentation;

/// Draws training batches, endlessly, with the rule of [`TrainSampler`](crate::sampler::TrainSampler): groups in random order,
/// of each one random augmentation, of it as many random examples as the batch has room for. All examples but one of each
/// puzzle drawn are translated at random.
#[derive(Clone, Debug)]
pub struct ArcSampler {
    data: Arc<ArcData>,
    groups: Groups,
    state: SamplerState,
    order: Vec<u32>,
}

/// The tasks that have training examples. Puzzle `p` has the identifier `p + 1`; its examples are numbered from `p * stride`.
#[derive(Clone, Debug)]
struct Groups {
    /// For each group: its task, its first puzzle, the end of its puzzles, its examples.
    of: Vec<(usize, u32, u32, usize)>,
    stride: usize,
}

impl Layout for Groups {
    fn puzzles_of(&self, group: usize) -> Range<usize> {
        self.of.get(group).map_or(0..0, |&(_, first, end, _)| first as usize..end as usize)
    }

    fn examples_of(&self, puzzle: usize) -> Range<usize> {
        let group = self.of.partition_point(|&(_, first, ..)| first as usize <= puzzle).saturating_sub(1);
        let size = self.of.get(group).map_or(0, |&(.., size)| size);
        puzzle * self.stride..puzzle * self.stride + size
    }
}

impl ArcSampler {
    /// A sampler at the beginning of its first iteration. The augmentation of the configuration must be
    /// [`Augmentation::None`]: the data bring their own.
    ///
    /// # Errors
    /// [`SamplerError`] if a size is zero, a batch cannot be filled, or another augmentation is asked for.
    pub fn new(data: Arc<ArcData>, config: SamplerConfig) -> Result<Self, SamplerError> {
        let (batch_size, epochs) = (config.batch_size, config.epochs_per_iteration);
        for (what, size) in [("a batch size", batch_size), ("epochs per iteration", epochs)] {
            if size == 0 {
                return Err(SamplerError::Zero { what });
            }
        }
        if config.augmentation != Augmentation::None {
            let why = "ARC tasks bring their own; set the sampler's augmentation to none".to_owned();
            return Err(SamplerError::Augmentation { why });
        }
        if config.hints > 0 || !config.mixture.is_empty() {
            let why = "hints and mixtures are for Sudoku; leave them out for ARC".to_owned();
            return Err(SamplerError::Augmentation { why });
        }
        let group = |task: usize| {
            let ids = data.identifiers_of(task);
            (task, ids.start - 1, ids.end - 1, data.training_pairs(task).len())
        };
        let of: Vec<_> = (0..data.tasks().len()).map(group).filter(|&(.., size)| size > 0).collect();
        let examples: usize = of.iter().map(|&(.., size)| size).sum();
        if of.len().checked_mul(epochs).is_none_or(|visits| visits > u32::MAX as usize) {
            return Err(SamplerError::TooManyEpochs { groups: of.len(), epochs });
        }
        if examples.saturating_mul(epochs) < batch_size {
            let (set, needed) = ("all".to_owned(), batch_size.div_ceil(examples.max(1)));
            return Err(SamplerError::TooFewExamples { set, examples, epochs, batch_size, needed });
        }
        let groups = Groups { stride: of.iter().map(|&(.., size)| size).max().unwrap_or(1), of };
        let state = SamplerState {
            config,
            groups: groups.of.len(),
            examples,
            iteration: 0,
            set: 0,
            position: 0,
            batches: 0,
        };
        let mut sampler = Self { data, groups, state, order: Vec::new() };
        sampler.shuffle_groups();
        Ok(sampler)
    }

    /// A sampler that goes on where another stopped.
    ///
    /// # Errors
    /// [`SamplerError`] as [`ArcSampler::new`], and if the state is of other data or another configuration.
    pub fn restore(
        data: Arc<ArcData>,
        config: SamplerConfig,
        state: SamplerState,
    ) -> Result<Self, SamplerError> {
        let mut sampler = Self::new(data, config.clone())?;
        let fail = |field, expected: String, got: String| Err(SamplerError::State { field, expected, got });
        let now = &sampler.state;
        if state.config != config {
            return fail("configuration", format!("{config:?}"), format!("{:?}", state.config));
        }
        if (state.groups, state.examples) != (now.groups, now.examples) {
            let text = |s: &SamplerState| format!("{} tasks with {} examples", s.groups, s.examples);
            return fail("data", text(now), text(&state));
        }
        if state.set != 0 || state.position > sampler.order.len() {
            let got = format!("set {}, position {}", state.set, state.position);
            return fail("position", format!("set 0, position up to {}", sampler.order.len()), got);
        }
        sampler.state = state;
        sampler.shuffle_groups();
        Ok(sampler)
    }

    /// Where the sampler stands, after the last batch drawn.
    pub fn state(&self) -> SamplerState {
        self.state.clone()
    }

    const fn config(&self) -> &SamplerConfig {
        &self.state.config
    }

    /// The data drawn from.
    pub const fn data(&self) -> &Arc<ArcData> {
        &self.data
    }

    /// Batches of one iteration, rounded down: tasks have different numbers of examples, and what does not fit a batch is
    /// dropped.
    pub const fn batches_per_iteration(&self) -> usize {
        let config = &self.state.config;
        self.state.examples * config.epochs_per_iteration / config.batch_size
    }

    /// Batches of one pass over the tasks.
    pub fn batches_per_epoch(&self) -> f64 {
        self.batches_per_iteration() as f64 / self.state.config.epochs_per_iteration as f64
    }

    fn shuffle_groups(&mut self) {
        let config = &self.state.config;
        let mut rng = stream(config.seed, Purpose::GroupOrder, self.state.iteration, 0);
        self.order.clear();
        for _ in 0..config.epochs_per_iteration {
            self.order.extend(random::permutation(&mut rng, self.groups.of.len()));
        }
    }

    /// The next batch: always full, never ends.
    pub fn next_batch(&mut self) -> Batch {
        let SamplerConfig { batch_size, seed, .. } = *self.config();
        loop {
            let (iteration, start) = (self.state.iteration, self.state.position);
            let mut draws = Draws(stream(seed, Purpose::BatchDraw, iteration, start as u64));
            let (next, picks) = sample_batch(&self.groups, &self.order, start, batch_size, &mut draws);
            if picks.len() < batch_size {
                // A short batch is dropped, as in the reference.
                self.state.position = 0;
                self.state.iteration += 1;
                self.shuffle_groups();
                continue;
            }
            self.state.position = next;
            self.state.batches += 1;
            let seq_len = self.data.seq_len();
            let mut batch = Batch {
                rows: batch_size,
                seq_len,
                inputs: vec![0; batch_size * seq_len],
                labels: vec![0; batch_size * seq_len],
                puzzle_identifiers: picks.iter().map(|pick| pick.puzzle as i32 + 1).collect(),
            };
            let rows =
                batch.inputs.par_chunks_exact_mut(seq_len).zip(batch.labels.par_chunks_exact_mut(seq_len));
            rows.zip(&picks).with_min_len(8).for_each(|((input, label), pick)| {
                let Some((task, transform)) = self.data.puzzle(pick.puzzle as u32 + 1) else { return };
                let mut pairs = self.data.training_pairs(task);
                let count = pairs.len() as u64;
                let index = pick.example - pick.puzzle * self.groups.stride;
                // One draw per visit says which example stays in the corner, one per example how far it moves.
                let visit = (iteration, (pick.position as u64) << 16);
                let mut corner = stream(seed, Purpose::Augmentation, visit.0, visit.1);
                let stays = random::below_u64(&mut corner, count) == index as u64;
                let mut rng = stream(seed, Purpose::Augmentation, visit.0, visit.1 | (index as u64 + 1));
                if let Some(pair) = pairs.nth(index) {
                    write_pair(pair, &transform, (!stays).then_some(&mut rng), input, label);
                    mask_labels(label, Some(0));
                }
            });
            return batch;
        }
    }
}

/// All tests of the evaluation tasks under all augmentations, in order: task, augmentation, test. Nothing is translated. The
/// last batch is padded; all batches have the same number of rows.
#[derive(Clone, Debug)]
pub struct ArcEvalBatches {
    data: Arc<ArcData>,
    batch_size: usize,
    /// Task, identifier within it, test.
    next: (usize, u32, usize),
    done: usize,
    total: usize,
    votes: u32,
    /// Tasks from this one on are left out.
    end: usize,
}

impl ArcEvalBatches {
    /// Batches of `batch_size` rows, but of no more than there are rows, and of at least one. At most `votes` augmentations of
    /// each task are asked, the task itself first; all if `None`.
    pub fn new(data: Arc<ArcData>, batch_size: usize, votes: Option<usize>) -> Self {
        let votes = votes.map_or(u32::MAX, |n| u32::try_from(n.max(1)).unwrap_or(u32::MAX));
        let end = data.tasks().len();
        let mut batches = Self { batch_size, data, next: (0, 0, 0), done: 0, total: 0, votes, end };
        batches.count_rows();
        batches
    }

    /// The same for the first `tasks` of the evaluation tasks.
    #[must_use]
    pub fn limit(mut self, tasks: usize) -> Self {
        let first = self.data.tasks().len() - self.data.evaluation().len();
        self.end = first + tasks.min(self.data.evaluation().len());
        self.count_rows();
        self
    }

    /// Counts the rows; batches are no larger than that.
    fn count_rows(&mut self) {
        let votes = self.votes as usize;
        let rows = |task: usize| {
            self.data.evaluation_pairs(task).len() * self.data.identifiers_of(task).len().min(votes)
        };
        self.total = (0..self.end).map(rows).sum();
        self.batch_size = self.batch_size.min(self.total).max(1);
    }

    /// Number of batches from the start to the end.
    pub const fn total(&self) -> usize {
        self.total.div_ceil(self.batch_size)
    }

    /// Rows from the start to the end, padding left out.
    pub const fn rows(&self) -> usize {
        self.total
    }

    fn next_row(&mut self) -> Option<(usize, u32, usize)> {
        loop {
            let (task, aug, test) = self.next;
            if task >= self.end {
                return None;
            }
            let ids = self.data.identifiers_of(task);
            let pairs = self.data.evaluation_pairs(task).len();
            if pairs == 0 || aug >= (ids.len() as u32).min(self.votes) {
                self.next = (task + 1, 0, 0);
                continue;
            }
            self.next = if test + 1 < pairs { (task, aug, test + 1) } else { (task, aug + 1, 0) };
            return Some((task, ids.start + aug, test));
        }
    }
}

impl Iterator for ArcEvalBatches {
    type Item = EvalBatch;

    fn next(&mut self) -> Option<EvalBatch> {
        let rows: Vec<_> = (0..self.batch_size).map_while(|_| self.next_row()).collect();
        if rows.is_empty() {
            return None;
        }
        let seq_len = self.data.seq_len();
        let mut batch = Batch {
            rows: self.batch_size,
            seq_len,
            inputs: vec![0; self.batch_size * seq_len],
            labels: vec![crate::dataset::IGNORE_LABEL; self.batch_size * seq_len],
            puzzle_identifiers: vec![0; self.batch_size],
        };
        for (row, &(task, identifier, test)) in rows.iter().enumerate() {
            let tokens = row * seq_len..(row + 1) * seq_len;
            let Some((_, transform)) = self.data.puzzle(identifier) else { continue };
            let pair = &self.data.evaluation_pairs(task)[test];
            let label = &mut batch.labels[tokens.clone()];
            write_pair(pair, &transform, None, &mut batch.inputs[tokens], label);
            mask_labels(label, Some(0));
            batch.puzzle_identifiers[row] = identifier as i32;
        }
        let first_example = self.done;
        self.done += rows.len();
        Some(EvalBatch { batch, valid_rows: rows.len(), set: 0, first_example })
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::ArcOptions;
    use super::super::{decode, load};
    use super::*;
    use crate::grid::Grid;
    use crate::puzzles::arc::{ArcTask, Pair};
    use crate::testdata::data_dir;
    use std::collections::HashSet;

    fn task(id: &str, size: u8) -> ArcTask {
        let pair = |n: u8| {
            let input = Grid::new(2, 3, (0..6).map(|i| (i * n + size) % 10).collect()).unwrap();
            Pair { output: Some(input.map(|c| (c + 1) % 10)), input }
        };
        ArcTask { id: id.to_owned(), train: (1..=size).map(pair).collect(), test: vec![pair(9)] }
    }

    fn data() -> Arc<ArcData> {
        let options = ArcOptions { seed: 1, augmentations: 10, ..ArcOptions::default() };
        Arc::new(
            ArcData::new(vec![task("a", 2), task("b", 4)], vec![task("c", 3), task("d", 2)], options)
                .unwrap(),
        )
    }

    #[test]
    fn batches_hold_images_of_training_pairs() {
        let data = data();
        let mut sampler = ArcSampler::new(data.clone(), SamplerConfig::new(7, 5)).unwrap();
        let mut identifiers = HashSet::new();
        let (mut corner, mut moved) = (0, 0);
        for _ in 0..200 {
            let batch = sampler.next_batch();
            for row in 0..batch.rows {
                let identifier = batch.puzzle_identifiers[row] as u32;
                let (task, transform) = data.puzzle(identifier).unwrap();
                identifiers.insert(identifier);
                let (input, offset) = decode(batch.input(row)).unwrap();
                let (output, same) = decode(batch.label(row)).unwrap();
                assert_eq!(offset, same);
                let undo = transform.inverse();
                let pair = Pair { input: undo.apply(&input), output: Some(undo.apply(&output)) };
                assert!(data.training_pairs(task).any(|p| *p == pair));
                if offset == (0, 0) {
                    corner += 1
                } else {
                    moved += 1
                }
                assert!(batch.label(row).iter().all(|&l| l == -100 || l > 0));
            }
        }
        assert_eq!(identifiers.len(), data.identifiers() - 1, "every augmentation comes up");
        assert!(corner > 300 && moved > 700, "{corner} in the corner, {moved} moved");
    }

    #[test]
    fn resumes_exactly_and_refuses_other_states() {
        let data = data();
        let config = SamplerConfig { epochs_per_iteration: 3, ..SamplerConfig::new(6, 5) };
        let mut sampler = ArcSampler::new(data.clone(), config.clone()).unwrap();
        for _ in 0..17 {
            sampler.next_batch();
        }
        let mut again = ArcSampler::restore(data.clone(), config.clone(), sampler.state()).unwrap();
        for _ in 0..9 {
            assert_eq!(again.next_batch(), sampler.next_batch());
        }
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let expected = sampler.next_batch();
        assert_eq!(single.install(|| again.next_batch()), expected);
        let mut state = sampler.state();
        state.groups = 9;
        assert!(matches!(
            ArcSampler::restore(data.clone(), config.clone(), state),
            Err(SamplerError::State { .. })
        ));
        let mut state = sampler.state();
        state.position = 1000;
        assert!(ArcSampler::restore(data.clone(), config.clone(), state).is_err());
        let none = |config| ArcSampler::new(data.clone(), config).unwrap_err().to_string();
        assert!(none(SamplerConfig::new(0, 1)).contains("at least 1"));
        assert!(none(SamplerConfig::new(1000, 1)).contains("fills no batch"));
        let mazes = crate::puzzles::maze::Mazes::new(30, 30);
        let augmentation = Augmentation::Task(crate::task::AnyTask::new(mazes));
        assert!(none(SamplerConfig { augmentation, ..config }).contains("bring their own"));
    }

    #[test]
    fn evaluation_asks_every_test_of_every_augmentation() {
        let data = data();
        for (votes, expected) in [(None, 22usize), (Some(4), 8), (Some(0), 2)] {
            let batches = ArcEvalBatches::new(data.clone(), 5, votes);
            assert_eq!((batches.rows(), batches.total()), (expected, expected.div_ceil(5)));
            let batches: Vec<_> = batches.collect();
            assert_eq!(batches.iter().map(|b| b.valid_rows).sum::<usize>(), expected);
            for batch in &batches {
                assert_eq!(batch.batch.rows, 5.min(expected));
                for row in 0..batch.batch.rows {
                    let identifier = batch.batch.puzzle_identifiers[row] as u32;
                    let Some((task, transform)) = data.puzzle(identifier) else {
                        assert!(row >= batch.valid_rows && batch.batch.label(row).iter().all(|&l| l == -100));
                        continue;
                    };
                    assert!(task >= 2);
                    let (input, offset) = decode(batch.batch.input(row)).unwrap();
                    assert_eq!(offset, (0, 0));
                    assert_eq!(transform.inverse().apply(&input), data.tasks()[task].test[0].input);
                }
            }
        }
    }

    #[test]
    #[ignore = "measures: run with --ignored --nocapture"]
    fn throughput() {
        let Some(dir) = data_dir() else { return };
        let file = |name: &str| load(&dir.join(format!("arc/{name}.json.gz"))).unwrap();
        let options = ArcOptions { augmentations: 100, ..ArcOptions::default() };
        let data = Arc::new(ArcData::new(file("arc1-training"), file("arc1-evaluation"), options).unwrap());
        let mut sampler = ArcSampler::new(data, SamplerConfig::new(768, 1)).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            sampler.next_batch();
        }
        println!("{:.0} batches of 768 a second", 100.0 / start.elapsed().as_secs_f64());
    }
}
