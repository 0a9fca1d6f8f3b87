//! Test-time adaptation to ARC tasks that a model has not seen: rows of their own in the puzzle embedding, trained, with the
//! weights or without, on the demonstrations of the tasks under their augmentations. Many tasks share a batch.
//!
//! A task that the model knows starts from its trained rows, any other from the mean of all trained ones. When to stop is found
//! by leaving out one demonstration of each task: the steps after which the answers to those are best are taken anew with all
//! demonstrations.

use std::{sync::Arc, time::Instant};

use burn::{
    backend::Autodiff,
    tensor::{Int, Tensor, TensorData},
};
use hrm_backend::HrmBackend;
use hrm_data::{
    puzzles::arc::{ArcData, ArcSampler, ArcTask},
    sampler::{SamplerConfig, SamplerError},
};
use hrm_infer::{
    evaluate::{Alone, EvalSettings, Evaluation, evaluate},
    to_device,
};
use hrm_model::{
    Hrm, ModelConfig,
    loss::{LossKind, Metrics},
    weights::WeightsError,
};
use serde::Serialize;
use thiserror::Error;

use crate::{
    distributed::{CollectiveError, Team},
    optim::{AdamConfig, Optimizer, SignSgd},
    step::{Step, StepSettings, exploration},
};

/// How a model is adapted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptOptions {
    /// Steps at most; 0 only gives the tasks their rows.
    pub steps: u64,
    /// Rows of a batch.
    pub batch: usize,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Learning rate of the rows.
    pub puzzle_emb_lr: f64,
    /// Decay of weights and rows.
    pub weight_decay: f64,
    /// Train the rows only.
    pub freeze: bool,
    /// Find the number of steps by leaving out the last demonstration of each task that has two or more.
    pub leave_one_out: bool,
    /// With `leave_one_out`: look at the answers after so many steps each.
    pub check_every: u64,
    /// Stop by then, whatever is done.
    pub deadline: Option<Instant>,
    /// Seed of the batches.
    pub seed: u64,
}

impl Default for AdaptOptions {
    fn default() -> Self {
        Self {
            steps: 0,
            batch: 64,
            lr: 3e-4,
            puzzle_emb_lr: 1e-2,
            weight_decay: 0.1,
            freeze: false,
            leave_one_out: false,
            check_every: 50,
            deadline: None,
            seed: 0,
        }
    }
}

/// What an adaptation did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AdaptReport {
    /// Tasks whose rows the model had.
    pub known: usize,
    /// Tasks that began with the mean of all rows.
    pub unknown: usize,
    /// Steps on all demonstrations.
    pub steps: u64,
    /// Mean cross-entropy of the last ten of them.
    pub loss: Option<f64>,
    /// Share of right answers to the demonstrations that were left out, after each check: steps and share.
    pub left_out: Vec<(u64, f64)>,
    /// Whether the time was up before the steps were done.
    pub out_of_time: bool,
}

/// Why a model cannot be adapted.
#[derive(Debug, Error)]
pub enum AdaptError {
    /// Tasks on another canvas.
    #[error("the model reads {expected} tokens, the tasks have {got}")]
    Canvas {
        /// Of the model.
        expected: usize,
        /// Of the tasks.
        got: usize,
    },
    /// Rows that the model has not.
    #[error("expected rows of the puzzle embedding below {known}, got {got}")]
    Row {
        /// Rows of the model.
        known: usize,
        /// The row.
        got: u32,
    },
    /// A table that does not fit the model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Demonstrations that make no batch.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// Workers that cannot be reached.
    #[error(transparent)]
    Team(#[from] CollectiveError),
}

/// The name of the puzzle embedding.
const TABLE: &str = "puzzle_emb.weights";

/// A model for the tasks of `data`, whose identifiers become the rows of its puzzle embedding. `rows` says for each identifier from
/// 1 on which row of `model` it starts from; `None` for the mean of all.
///
/// # Errors
/// If tasks and model do not fit together.
pub fn adapt<B: HrmBackend>(
    model: &Hrm<B>,
    data: &Arc<ArcData>,
    rows: &[Option<u32>],
    options: AdaptOptions,
) -> Result<(Hrm<B>, AdaptReport), AdaptError> {
    let config = model.config();
    if config.seq_len != data.seq_len() {
        return Err(AdaptError::Canvas { expected: config.seq_len, got: data.seq_len() });
    }
    let of_task = |task| data.identifiers_of(task).filter_map(|id| rows.get(id as usize - 1).copied());
    let known = (0..data.tasks().len()).filter(|&task| of_task(task).any(|row| row.is_some())).count();
    let mut report = AdaptReport { known, unknown: data.tasks().len() - known, ..AdaptReport::default() };
    let start = with_rows(model, data.identifiers(), rows)?;
    if options.steps == 0 {
        return Ok((start.inner(), report));
    }
    let mut run = Run { options, report: &mut report };
    let mut steps = options.steps;
    if options.leave_one_out
        && let Some(left_out) = leave_one_out(data)
    {
        let best = run.check(start.clone(), &Arc::new(left_out), steps)?;
        steps = best.unwrap_or(steps);
    }
    let adapted = run.train(start, data, steps)?;
    Ok((adapted.inner(), report))
}

/// The model with a puzzle embedding of `identifiers` rows: 0 for the blank one, then those of `rows`.
fn with_rows<B: HrmBackend>(
    model: &Hrm<B>,
    identifiers: usize,
    rows: &[Option<u32>],
) -> Result<Hrm<Autodiff<B>>, AdaptError> {
    let (mut config, mut weights): (ModelConfig, _) = (model.config().clone(), model.state_dict());
    let width = config.puzzle_emb_ndim;
    if let Some(table) = weights.remove(TABLE).filter(|_| width > 0) {
        let table: Vec<f32> = table.iter::<f32>().collect();
        let trained = table.chunks_exact(width).skip(1);
        let mut mean = vec![0.0; width];
        for row in trained.clone() {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let count = trained.len().max(1) as f32;
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut new = vec![0.0; width];
        for row in rows.iter().copied().chain(std::iter::repeat(None)).take(identifiers.saturating_sub(1)) {
            match row.map(|row| (row, table.chunks_exact(width).nth(row as usize))) {
                None => new.extend_from_slice(&mean),
                Some((_, Some(row))) => new.extend_from_slice(row),
                Some((got, None)) => {
                    return Err(AdaptError::Row { known: config.num_puzzle_identifiers, got });
                }
            }
        }
        let rows = new.len() / width;
        weights.insert(TABLE.to_owned(), TensorData::new(new, [rows, width]));
        config.num_puzzle_identifiers = rows;
    }
    Ok(Hrm::from_state_dict(&config, weights, &model.device())?)
}

/// The same tasks and identifiers, with the last demonstration of each in the place of its tests; `None` if no task has two.
fn leave_one_out(data: &ArcData) -> Option<ArcData> {
    let mut any = false;
    let tasks = data.tasks().iter().map(|task| {
        let mut train = task.train.clone();
        let test = if train.len() > 1 { train.pop().into_iter().collect() } else { Vec::new() };
        any |= !test.is_empty();
        ArcTask { id: task.id.clone(), train, test }
    });
    let tasks: Vec<ArcTask> = tasks.collect();
    any.then(|| data.with_pairs(tasks))
}

struct Run<'a> {
    options: AdaptOptions,
    report: &'a mut AdaptReport,
}

impl Run<'_> {
    fn is_late(&self) -> bool {
        self.options.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Trains on `data` and looks at its tests; the steps after which they are answered best, if the time allowed a look. A
    /// third of the time until the deadline is for this.
    fn check<B: HrmBackend>(
        &mut self,
        model: Hrm<Autodiff<B>>,
        data: &Arc<ArcData>,
        steps: u64,
    ) -> Result<Option<u64>, AdaptError> {
        let settings = EvalSettings {
            loss: LossKind::Stablemax,
            max_steps: model.config().halt_max_steps,
            course_steps: 0,
        };
        let begin = Instant::now();
        let until =
            self.options.deadline.map(|deadline| begin + deadline.saturating_duration_since(begin) / 3);
        let mut best: Option<(f64, f64, u64)> = None;
        let every = self.options.check_every.max(1);
        let mut report = AdaptReport::default();
        let mut inner =
            Run { options: AdaptOptions { deadline: until, ..self.options }, report: &mut report };
        let mut left_out = Vec::new();
        inner.steps(model, data, steps, |step, model| {
            if step % every != 0 && step != steps {
                return true;
            }
            let puzzles = Evaluation::of_arc(data, Some(1), self.options.batch, 0);
            let Ok((answers, _)) = evaluate(&model.inner(), puzzles, settings, &Alone);
            left_out.push((step, answers.exact_accuracy));
            // The right answers count; of equally many, the loss.
            if best.is_none_or(|(exact, loss, _)| (exact, -loss) < (answers.exact_accuracy, -answers.lm_loss))
            {
                best = Some((answers.exact_accuracy, answers.lm_loss, step));
            }
            // Five looks without a better one are enough.
            best.is_none_or(|(.., found)| step - found < 5 * every)
        })?;
        self.report.left_out = left_out;
        Ok(best.map(|(.., step)| step))
    }

    fn train<B: HrmBackend>(
        &mut self,
        model: Hrm<Autodiff<B>>,
        data: &Arc<ArcData>,
        steps: u64,
    ) -> Result<Hrm<Autodiff<B>>, AdaptError> {
        self.steps(model, data, steps, |_, _| true)
    }

    /// Steps on the demonstrations, until `go_on` says no, or the time is up.
    fn steps<B: HrmBackend>(
        &mut self,
        mut model: Hrm<Autodiff<B>>,
        data: &Arc<ArcData>,
        steps: u64,
        mut go_on: impl FnMut(u64, &Hrm<Autodiff<B>>) -> bool,
    ) -> Result<Hrm<Autodiff<B>>, AdaptError> {
        let options = self.options;
        let device = model.device();
        let pairs: usize = (0..data.tasks().len()).map(|task| data.training_pairs(task).len()).sum();
        let epochs_per_iteration = (8 * options.batch).div_ceil(pairs.max(1));
        let sampler =
            SamplerConfig { epochs_per_iteration, ..SamplerConfig::new(options.batch, options.seed) };
        let mut sampler = ArcSampler::new(Arc::clone(data), sampler)?;
        let AdaptOptions { weight_decay, .. } = options;
        // Parameters without a group stay as they are.
        let mut optimizer = match options.freeze {
            true => Optimizer::new(Vec::new()),
            false => Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay }),
        };
        let team = Team::alone(device.clone());
        let settings = StepSettings {
            puzzle_emb_lr: options.puzzle_emb_lr,
            ..StepSettings::new(LossKind::Stablemax, options.batch, options.lr)
        };
        let mut carry = model.inner().empty_carry(options.batch);
        let mut last = Vec::new();
        for step in 1..=steps {
            if self.is_late() {
                self.report.out_of_time = true;
                break;
            }
            let batch = to_device(&sampler.next_batch(), &device);
            let at = (options.seed, step);
            let min_steps =
                exploration::min_steps(model.config(), false, at, options.batch, 0..options.batch);
            let min_steps = min_steps.map(|draws| {
                let draws = TensorData::new(draws, [options.batch]).convert::<B::IntElem>();
                Tensor::<B, 1, Int>::from_data(draws, &device)
            });
            let done = Step::new(settings, &mut optimizer, SignSgd { weight_decay }, &team)
                .run(model, carry, batch, min_steps)?;
            (model, carry) = (done.model, done.carry);
            let values: Vec<f64> = done.metrics.into_data().iter::<f64>().collect();
            last.push(Metrics::from_values(&values).lm_loss / options.batch as f64);
            last.drain(..last.len().saturating_sub(10));
            self.report.steps = step;
            if !go_on(step, &model) {
                break;
            }
        }
        self.report.loss = (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64);
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hrm_data::{
        grid::Grid,
        puzzles::arc::{ArcOptions, Pair},
    };
    use hrm_testing::for_each_backend;
    use rand::SeedableRng;

    use super::*;

    for_each_backend!(
        known_tasks_keep_their_rows_and_new_ones_get_the_mean,
        demonstrations_are_learned_and_the_same_seed_gives_the_same,
        frozen_weights_stay_and_rows_move,
        a_left_out_demonstration_says_when_to_stop,
        the_deadline_is_kept,
    );

    /// Tasks that paint every cell in one colour.
    fn tasks(count: u8) -> Vec<ArcTask> {
        let pair = |colour: u8, n: u8| {
            let input = Grid::new(2, 2, vec![n % 10, 0, (n + 1) % 10, 3]).unwrap();
            Pair { output: Some(input.map(|_| colour)), input }
        };
        let task = |colour: u8| ArcTask {
            id: format!("paint-{colour}"),
            train: (0..3).map(|n| pair(colour, n)).collect(),
            test: vec![Pair { output: None, ..pair(colour, 7) }],
        };
        (1..=count).map(task).collect()
    }

    fn data(count: u8) -> Arc<ArcData> {
        let options = ArcOptions { augmentations: 1, canvas: 3, ..ArcOptions::default() };
        Arc::new(ArcData::new(Vec::new(), tasks(count), options).unwrap())
    }

    fn model<B: HrmBackend>(identifiers: usize) -> Hrm<B> {
        let mut config = ModelConfig::trm(12, 9)
            .with_hidden_size(16)
            .with_num_heads(2)
            .with_layers(0, 1)
            .with_cycles(1, 1)
            .with_puzzle_emb_ndim(16);
        (config.num_puzzle_identifiers, config.halt_max_steps) = (identifiers, 2);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        config.init::<B>(&mut rng, &Default::default()).unwrap()
    }

    fn table<B: HrmBackend>(model: &Hrm<B>) -> Vec<f32> {
        model.state_dict()[TABLE].iter::<f32>().collect()
    }

    fn with_table<B: HrmBackend>(model: &Hrm<B>, of: impl Fn(usize) -> f32) -> Hrm<B> {
        let config = model.config();
        let values = (0..config.num_puzzle_identifiers * 16).map(|i| of(i / 16)).collect::<Vec<f32>>();
        let mut weights = model.state_dict();
        let shape = [config.num_puzzle_identifiers, 16];
        weights.insert(TABLE.to_owned(), TensorData::new(values, shape));
        Hrm::from_state_dict(config, weights, &model.device()).unwrap()
    }

    fn known_tasks_keep_their_rows_and_new_ones_get_the_mean<B: HrmBackend>() {
        let model = with_table(&model::<B>(4), |row| [9.0, 1.0, 2.0, 6.0][row]);
        let data = data(2);
        let rows = [Some(3), None, Some(1), None];
        let (adapted, report) = adapt(&model, &data, &rows, AdaptOptions::default()).unwrap();
        let firsts: Vec<f32> = table(&adapted).chunks(16).map(|row| row[0]).collect();
        assert_eq!(firsts, [0.0, 6.0, 3.0, 1.0, 3.0]);
        assert_eq!((report.known, report.unknown, report.steps), (2, 0, 0));
        let error = adapt(&model, &data, &[Some(4)], AdaptOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "expected rows of the puzzle embedding below 4, got 4");
        let other = Arc::new(ArcData::new(Vec::new(), tasks(1), ArcOptions::default()).unwrap());
        let error = adapt(&model, &other, &[], AdaptOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "the model reads 9 tokens, the tasks have 900");
    }

    fn demonstrations_are_learned_and_the_same_seed_gives_the_same<B: HrmBackend>() {
        let (model, data) = (model::<B>(2), data(2));
        let options = AdaptOptions { steps: 40, batch: 16, lr: 3e-3, ..AdaptOptions::default() };
        let few = AdaptOptions { steps: 10, ..options };
        let (_, before) = adapt(&model, &data, &[], few).unwrap();
        let (one, after) = adapt(&model, &data, &[], options).unwrap();
        assert!(after.loss.unwrap() < 0.8 * before.loss.unwrap(), "{before:?} {after:?}");
        let (two, again) = adapt(&model, &data, &[], options).unwrap();
        assert_eq!((table(&one), after), (table(&two), again));
    }

    fn frozen_weights_stay_and_rows_move<B: HrmBackend>() {
        let (model, data) = (model::<B>(2), data(1));
        let options = AdaptOptions { steps: 3, batch: 8, freeze: true, ..AdaptOptions::default() };
        let (adapted, _) = adapt(&model, &data, &[], options).unwrap();
        let (mut before, mut after) = (model.state_dict(), adapted.state_dict());
        let (_, moved) = (before.remove(TABLE), after.remove(TABLE).unwrap());
        assert!(moved.iter::<f32>().any(|value| value != 0.0));
        for (name, weights) in before {
            assert!(weights.iter::<f32>().eq(after[&name].iter::<f32>()), "{name}");
        }
    }

    fn a_left_out_demonstration_says_when_to_stop<B: HrmBackend>() {
        let (model, data) = (model::<B>(2), data(2));
        let options = AdaptOptions {
            steps: 12,
            batch: 8,
            leave_one_out: true,
            check_every: 4,
            ..AdaptOptions::default()
        };
        let (_, report) = adapt(&model, &data, &[], options).unwrap();
        let looks: Vec<u64> = report.left_out.iter().map(|(step, _)| *step).collect();
        assert_eq!(looks, [4, 8, 12]);
        assert!(looks.contains(&report.steps));
        // The pairs that are left out are those of the demonstrations, under the same identifiers.
        let held = leave_one_out(&data).unwrap();
        assert_eq!(held.evaluation()[1].test[0], data.tasks()[1].train[2]);
        assert_eq!((held.evaluation()[1].train.len(), held.identifiers()), (2, data.identifiers()));
    }

    fn the_deadline_is_kept<B: HrmBackend>() {
        let (model, data) = (model::<B>(2), data(1));
        let deadline = Some(Instant::now() + Duration::from_millis(300));
        let options = AdaptOptions {
            steps: 1_000_000,
            batch: 8,
            // A left out demonstration might end it sooner.
            leave_one_out: false,
            deadline,
            ..AdaptOptions::default()
        };
        let start = Instant::now();
        let (_, report) = adapt(&model, &data, &[], options).unwrap();
        assert!(report.out_of_time && start.elapsed() < Duration::from_secs(60), "{report:?}");
    }
}
