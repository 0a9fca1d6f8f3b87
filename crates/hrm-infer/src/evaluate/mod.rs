//! Evaluation as the original does it: every sequence runs a fixed number of segments, the last one counts. What happens on
//! the way can be kept as well: which puzzles are right after how many segments, and where the model would have halted.

mod held_out;
mod tables;

use std::{
    convert::Infallible,
    ops::Range,
    time::{Duration, Instant},
};

use burn::tensor::{DType, Tensor, backend::Backend};
use hrm_backend::HrmBackend;
use hrm_data::dataset::Batch;
use hrm_model::{
    Hrm, InitState,
    act::PuzzleBatch,
    loss::{self, ActLoss, LossKind, Metrics},
};
use serde::{Deserialize, Serialize};

use crate::{
    noise::{Key, Noise},
    to_device,
};

pub use held_out::{ArcScores, Evaluation, TaskScores};
pub use tables::{
    GroupRow, HaltingTable, StepRow, by_difficulty, by_steps, equal_groups, half_decades, halting,
};

/// How good a model is on a set of puzzles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Puzzles.
    pub examples: u64,
    /// Mean cross-entropy over puzzles, each the mean over its cells.
    pub lm_loss: f64,
    /// Mean binary cross-entropy of the halting value.
    pub q_halt_loss: f64,
    /// Mean over puzzles of the share of right cells.
    pub token_accuracy: f64,
    /// Share of puzzles right in every cell.
    pub exact_accuracy: f64,
    /// For which share the sign of `q_halt` tells exactness.
    pub q_halt_accuracy: f64,
    /// Mean number of segments.
    pub mean_steps: f64,
    /// How good the answers are by the rules of the task, whatever the labels say.
    #[serde(flatten)]
    pub task: TaskScores,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// What became of one puzzle, segment by segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Whether every cell is right after 1, 2, ... segments.
    pub exact: Vec<bool>,
    /// The first segment after which the model prefers to halt; `None` if it never does.
    pub halts: Option<usize>,
}

/// Who answers the puzzles of an evaluation: one process, or several workers, each its rows of every batch.
pub trait Workers<B: Backend> {
    /// What can go wrong between them.
    type Error;

    /// The rows of a batch of `batch` that are this worker's.
    fn rows(&self, batch: usize) -> Range<usize>;

    /// The sum of each tensor over all workers, in one message.
    ///
    /// # Shapes
    /// - each: `[elements]`
    ///
    /// # Errors
    /// If a worker is lost.
    fn sum(&self, tensors: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>, Self::Error>;

    /// This worker's rows in their place among everybody's, the rest zero: summed, the rows of all workers in order.
    ///
    /// # Shapes
    /// - `rows`: `[self.rows(batch), ...]`; output: `[batch * ...]`
    fn in_place<const D: usize>(&self, rows: Tensor<B, D>, batch: usize) -> Tensor<B, 1> {
        let (own, device) = (self.rows(batch), rows.device());
        let width: usize = rows.dims()[1..].iter().product();
        let rows = rows.cast(DType::F32).reshape([own.len() * width]);
        let zeros = |rows: usize| (rows > 0).then(|| Tensor::zeros([rows * width], (&device, DType::F32)));
        let parts = [zeros(own.start), Some(rows), zeros(batch - own.end)];
        Tensor::cat(parts.into_iter().flatten().collect(), 0)
    }
}

/// One process that answers everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl<B: Backend> Workers<B> for Alone {
    type Error = Infallible;

    fn rows(&self, batch: usize) -> Range<usize> {
        0..batch
    }

    fn sum(&self, tensors: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>, Infallible> {
        Ok(tensors)
    }
}

/// How an evaluation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalSettings {
    /// The loss that is reported.
    pub loss: LossKind,
    /// Segments after which the answers count.
    pub max_steps: usize,
    /// Segments that the course of a puzzle goes on to, at least `max_steps`; 0 for no courses.
    pub course_steps: usize,
}

/// Runs `model` on every batch of `puzzles`: the report about the answers after `max_steps` segments, and the course of every
/// puzzle, in their order, if courses are asked for. All workers judge all answers, so that each has the whole report.
///
/// # Errors
/// If a worker is lost.
pub fn evaluate<B: HrmBackend, W: Workers<B>>(
    model: &Hrm<B>,
    mut puzzles: Evaluation,
    settings: EvalSettings,
    workers: &W,
) -> Result<(EvalReport, Vec<Course>), W::Error> {
    let start = Instant::now();
    let device = &model.device();
    let EvalSettings { max_steps, course_steps, .. } = settings;
    let recorded = if course_steps == 0 { 0 } else { course_steps.max(max_steps) };
    // Time spent on what the report is not about.
    let mut beyond = Duration::ZERO;
    let noise = (model.config().init_state == InitState::Random).then(|| Noise::new(model, 0));
    let mut sum = Metrics::default();
    let mut courses = Vec::new();
    while max_steps > 0
        && let Some(rows) = puzzles.next()
    {
        let (all, valid) = (rows.batch.rows, rows.valid_rows);
        let own = workers.rows(all);
        // The rows that only fill up the last batch do not count.
        let own_valid = valid.clamp(own.start, own.end) - own.start;
        let cells = rows.batch.seq_len;
        let mut parts = match own.is_empty() {
            true => [Metrics::VALUES, all * cells, all, all * recorded * RECORD]
                .map(|len| Tensor::zeros([len], device))
                .into(),
            false => {
                let share = Share { rows: &rows.batch.slice(own), valid: own_valid, noise: noise.as_ref() };
                let answers = share.answer(model, settings.loss, max_steps, recorded, device);
                beyond += answers.beyond;
                let mut parts = vec![
                    answers.metrics,
                    workers.in_place(answers.predictions, all),
                    workers.in_place(answers.q_halt, all),
                ];
                parts.extend(answers.record.map(|record| workers.in_place(record, all)));
                parts
            }
        };
        if recorded == 0 {
            parts.truncate(3);
        }
        let sums = workers.sum(parts)?;
        let mut sums = sums.into_iter().map(|sum| sum.into_data().iter::<f64>().collect::<Vec<_>>());
        let mut next = || sums.next().expect("as many sums as summands");
        sum += Metrics::from_values(&next());
        let answers: Vec<u8> = next()[..valid * cells].iter().map(|value| token(*value as i64)).collect();
        let q_halt: Vec<f32> = next()[..valid].iter().map(|value| *value as f32).collect();
        puzzles.judge(&rows, &answers, &q_halt);
        if recorded > 0 {
            let record = next();
            courses.extend(record.chunks_exact(recorded * RECORD).take(valid).map(|row| {
                Course {
                    exact: row.chunks_exact(RECORD).map(|step| step[0] > 0.5).collect(),
                    halts: row
                        .chunks_exact(RECORD)
                        .position(|step| model.config().halts(step[1] as f32, step[2] as f32))
                        .map(|index| index + 1),
                }
            }));
        }
    }
    let count = sum.count.max(1.0);
    let report = EvalReport {
        examples: sum.count as u64,
        lm_loss: sum.lm_loss / count,
        q_halt_loss: sum.q_halt_loss / count,
        token_accuracy: sum.accuracy / count,
        exact_accuracy: sum.exact_accuracy / count,
        q_halt_accuracy: sum.q_halt_accuracy / count,
        mean_steps: sum.steps / count,
        task: puzzles.scores(),
        seconds: (start.elapsed() - beyond).as_secs_f64(),
    };
    Ok((report, courses))
}

/// What is recorded of a row after each segment: whether it is exact, `q_halt`, `q_continue`.
const RECORD: usize = 3;

/// The rows of a batch that one worker answers.
struct Share<'a, B: HrmBackend> {
    rows: &'a Batch,
    /// Of them the first ones that are no filling.
    valid: usize,
    noise: Option<&'a Noise<B>>,
}

struct Answers<B: HrmBackend> {
    /// Sums over the valid rows, `[Metrics::VALUES]`.
    metrics: Tensor<B, 1>,
    /// Tokens as floats, `[rows, seq_len]`.
    predictions: Tensor<B, 2>,
    /// `[rows]`
    q_halt: Tensor<B, 1>,
    /// `[rows, recorded * RECORD]`
    record: Option<Tensor<B, 2>>,
    /// Time spent on segments after the one that the report is about.
    beyond: Duration,
}

impl<B: HrmBackend> Share<'_, B> {
    /// Answers after `max_steps` segments, with a record of the first `recorded` ones.
    fn answer(
        &self,
        model: &Hrm<B>,
        loss: LossKind,
        max_steps: usize,
        recorded: usize,
        device: &B::Device,
    ) -> Answers<B> {
        let Self { rows, valid, noise } = *self;
        let model = &model.clone().with_converted_blocks();
        let batch: PuzzleBatch<B> = to_device(rows, device);
        let labels = batch.labels.clone();
        let settings = loss.into();
        let carry = model.empty_carry(rows.rows);
        // The initial state of the first attempt of inference, the same for all puzzles.
        let carry = match noise {
            None => carry.admit(model, batch),
            Some(noise) => {
                let keys = vec![Key { chain: 0, step: 0 }; rows.rows];
                carry.admit_from(noise.initial_states(model, &keys, 1), batch)
            }
        };
        let mut record = Vec::new();
        let mut step = |carry| {
            let (carry, output) = model.segment(carry);
            if record.len() < recorded {
                let exact = loss::Answers::new(&settings, &output, labels.clone(), labels.clone()).exact();
                let values = [exact, output.q_halt.clone(), output.q_continue.clone()];
                record.push(Tensor::stack::<2>(values.to_vec(), 1)); // [rows, RECORD]
            }
            (carry, output)
        };
        let (mut carry, mut output) = step(carry);
        for _ in 1..max_steps {
            (carry, output) = step(carry);
        }
        let mut beyond = Duration::ZERO;
        if recorded > max_steps {
            // Waits for the device, so that each part has its own time.
            let _ = output.q_halt.to_data();
            let start = Instant::now();
            let (mut carry, mut last) = step(carry.clone());
            for _ in max_steps + 1..recorded {
                (carry, last) = step(carry);
            }
            let _ = last.q_halt.into_data();
            beyond = start.elapsed();
        }
        let record = (!record.is_empty()).then(|| Tensor::cat(record, 1));
        let (predictions, q_halt) = (output.predictions(), output.q_halt.clone());
        let metrics = match valid {
            0 => Tensor::zeros([Metrics::VALUES], device),
            _ => {
                output.logits = output.logits.narrow(0, 0, valid);
                output.q_halt = output.q_halt.narrow(0, 0, valid);
                output.q_continue = output.q_continue.narrow(0, 0, valid);
                let labels = labels.narrow(0, 0, valid);
                let steps = carry.steps.narrow(0, 0, valid);
                let answers = loss::Answers::new(&settings, &output, labels.clone(), labels);
                let all = steps.clone().greater_equal_elem(0);
                ActLoss::new(&settings, &output, answers, None).sums(all, steps).1
            }
        };
        Answers { metrics, predictions: predictions.float(), q_halt, record, beyond }
    }
}

/// Tokens are below the vocabulary size, which the dataset format bounds by 256.
fn token(token: i64) -> u8 {
    u8::try_from(token).unwrap_or(u8::MAX)
}
