//! Evaluation as the original does it: every sequence runs a fixed number of segments, the last one counts.

use std::time::Instant;

use hrm_backend::HrmBackend;
use hrm_model::{
    Hrm, InitState,
    act::PuzzleBatch,
    loss::{self, Correctness, LossKind, Metrics},
};
use serde::{Deserialize, Serialize};

use crate::{
    data::{self, Evaluation, TaskScores},
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
    mut puzzles: Evaluation,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
) -> EvalReport {
    let start = Instant::now();
    let noise = (model.config().init_state == InitState::Random).then(|| Noise::new(model, 0));
    let mut sum = Metrics::default();
    while let Some(rows) = puzzles.next() {
        let valid = rows.valid_rows;
        let batch: PuzzleBatch<B> = data::to_device(&rows.batch, device);
        let labels = batch.labels.clone();
        let carry = model.empty_carry(rows.batch.rows);
        // The initial state of the first attempt of inference, the same for all puzzles.
        let mut carry = match &noise {
            None => carry.admit(model, batch),
            Some(noise) => {
                let keys = vec![Key { chain: 0, step: 0 }; rows.batch.rows];
                carry.admit_from(noise.initial_states(model, &keys, 1), batch)
            }
        };
        let mut last = None;
        for _ in 0..max_steps {
            let (next, output) = model.segment(carry);
            carry = next;
            last = Some(output);
        }
        let Some(mut output) = last else { continue };
        // The rows that only fill up the last batch do not count.
        output.logits = output.logits.narrow(0, 0, valid);
        output.q_halt = output.q_halt.narrow(0, 0, valid);
        output.q_continue = output.q_continue.narrow(0, 0, valid);
        let labels = labels.narrow(0, 0, valid);
        let steps = carry.steps.narrow(0, 0, valid);
        let predictions = output.predictions();
        let answers: Vec<u8> = predictions.to_data().iter::<i64>().map(token).collect();
        puzzles.judge(&rows, &answers, &output.q_halt.to_data().iter().collect::<Vec<f32>>());
        let correctness = Correctness::new(predictions, labels.clone());
        let act_loss = loss::act_loss(loss, &output, labels, &correctness, None);
        let all = steps.clone().greater_equal_elem(0);
        let metrics = Metrics::tensor(&act_loss, &correctness, output.q_halt, all, steps);
        let metrics = Metrics::from_values(&metrics.into_data().iter::<f64>().collect::<Vec<_>>());
        sum += metrics;
    }
    let count = sum.count.max(1.0);
    EvalReport {
        examples: sum.count as u64,
        lm_loss: sum.lm_loss / count,
        q_halt_loss: sum.q_halt_loss / count,
        token_accuracy: sum.accuracy / count,
        exact_accuracy: sum.exact_accuracy / count,
        q_halt_accuracy: sum.q_halt_accuracy / count,
        mean_steps: sum.steps / count,
        task: puzzles.scores(),
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Tokens are below the vocabulary size, which the dataset format bounds by 256.
fn token(token: i64) -> u8 {
    u8::try_from(token).unwrap_or(u8::MAX)
}
