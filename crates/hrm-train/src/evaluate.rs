//! Evaluation as the original does it: every sequence runs a fixed number of segments, the last one counts.

use std::time::Instant;

use burn::tensor::Tensor;
use hrm_backend::HrmBackend;
use hrm_data::dataset::Batch;
use hrm_model::{
    Hrm, InitState,
    act::PuzzleBatch,
    loss::{self, Correctness, LossKind, Metrics},
};
use serde::{Deserialize, Serialize};

use crate::{
    data::{self, Evaluation, TaskScores},
    distributed::{CollectiveError, Team},
    noise::{Key, Noise},
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

/// Runs `model` for `max_steps` segments on every batch of `puzzles`.
pub fn evaluate<B: HrmBackend>(
    model: &Hrm<B>,
    puzzles: Evaluation,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
) -> EvalReport {
    evaluate_in_team(model, puzzles, loss, max_steps, device, &Team::alone(device.clone()))
        .unwrap_or_else(|error| unreachable!("nobody to lose: {error}"))
}

/// [`evaluate`] by several workers, each on its rows of every batch. The answers are gathered, so that all judge them by
/// the rules of the task and have the whole report.
///
/// # Errors
/// If a worker is lost.
pub fn evaluate_in_team<B: HrmBackend>(
    model: &Hrm<B>,
    mut puzzles: Evaluation,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
    team: &Team<B>,
) -> Result<EvalReport, CollectiveError> {
    let start = Instant::now();
    let noise = (model.config().init_state == InitState::Random).then(|| Noise::new(model, 0));
    let mut sum = Metrics::default();
    while max_steps > 0
        && let Some(rows) = puzzles.next()
    {
        let (all, valid) = (rows.batch.rows, rows.valid_rows);
        let own = team.rows(all);
        // The rows that only fill up the last batch do not count.
        let own_valid = valid.clamp(own.start, own.end) - own.start;
        let cells = rows.batch.seq_len;
        let parts = match own.is_empty() {
            true => [Metrics::VALUES, all * cells, all].map(|len| Tensor::zeros([len], device)),
            false => {
                let share = rows.batch.slice(own);
                let (metrics, predictions, q_halt) =
                    answer(model, &share, own_valid, noise.as_ref(), loss, max_steps, device);
                [metrics, team.in_place(predictions, all), team.in_place(q_halt, all)]
            }
        };
        let sums = team.sum(parts.into())?;
        let mut sums = sums.into_iter().map(|sum| sum.into_data().iter::<f64>().collect::<Vec<_>>());
        let mut next = || sums.next().expect("as many sums as summands");
        sum += Metrics::from_values(&next());
        let answers: Vec<u8> = next()[..valid * cells].iter().map(|value| token(*value as i64)).collect();
        let q_halt: Vec<f32> = next()[..valid].iter().map(|value| *value as f32).collect();
        puzzles.judge(&rows, &answers, &q_halt);
    }
    let count = sum.count.max(1.0);
    Ok(EvalReport {
        examples: sum.count as u64,
        lm_loss: sum.lm_loss / count,
        q_halt_loss: sum.q_halt_loss / count,
        token_accuracy: sum.accuracy / count,
        exact_accuracy: sum.exact_accuracy / count,
        q_halt_accuracy: sum.q_halt_accuracy / count,
        mean_steps: sum.steps / count,
        task: puzzles.scores(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The metrics of the first `valid` rows after `max_steps` segments, and the answer and `q_halt` of every row.
///
/// # Shapes
/// - output: `[sums]`, `[rows, seq_len]` (tokens as floats), `[rows]`
fn answer<B: HrmBackend>(
    model: &Hrm<B>,
    rows: &Batch,
    valid: usize,
    noise: Option<&Noise<B>>,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
) -> (Tensor<B, 1>, Tensor<B, 2>, Tensor<B, 1>) {
    let batch: PuzzleBatch<B> = data::to_device(rows, device);
    let labels = batch.labels.clone();
    let carry = model.empty_carry(rows.rows);
    // The initial state of the first attempt of inference, the same for all puzzles.
    let carry = match noise {
        None => carry.admit(model, batch),
        Some(noise) => {
            let keys = vec![Key { chain: 0, step: 0 }; rows.rows];
            carry.admit_from(noise.initial_states(model, &keys, 1), batch)
        }
    };
    let (mut carry, mut output) = model.segment(carry);
    for _ in 1..max_steps {
        (carry, output) = model.segment(carry);
    }
    let (predictions, q_halt) = (output.predictions(), output.q_halt.clone());
    if valid == 0 {
        return (Tensor::zeros([Metrics::VALUES], device), predictions.float(), q_halt);
    }
    output.logits = output.logits.narrow(0, 0, valid);
    output.q_halt = output.q_halt.narrow(0, 0, valid);
    output.q_continue = output.q_continue.narrow(0, 0, valid);
    let labels = labels.narrow(0, 0, valid);
    let steps = carry.steps.narrow(0, 0, valid);
    let correctness = Correctness::new(predictions.clone().narrow(0, 0, valid), labels.clone());
    let act_loss = loss::act_loss(loss, &output, labels, &correctness, None);
    let all = steps.clone().greater_equal_elem(0);
    let metrics = Metrics::tensor(&act_loss, &correctness, output.q_halt, all, steps);
    (metrics, predictions.float(), q_halt)
}

/// Tokens are below the vocabulary size, which the dataset format bounds by 256.
fn token(token: i64) -> u8 {
    u8::try_from(token).unwrap_or(u8::MAX)
}
