//! Evaluation as the original does it: every sequence runs a fixed number of segments, the last one counts.

use std::time::Instant;

use burn::tensor::Tensor;
use hrm_backend::HrmBackend;
use hrm_data::dataset::EvalBatches;
use hrm_model::{
    Hrm,
    act::PuzzleBatch,
    loss::{self, Correctness, LossKind, Metrics},
};
use serde::{Deserialize, Serialize};

use crate::{
    data,
    distributed::{CollectiveError, Team},
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
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Runs `model` for `max_steps` segments on every batch.
pub fn evaluate<B: HrmBackend>(
    model: &Hrm<B>,
    batches: EvalBatches,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
) -> EvalReport {
    evaluate_in_team(model, batches, loss, max_steps, device, &Team::alone(device.clone()))
        .unwrap_or_else(|error| unreachable!("nobody to lose: {error}"))
}

/// [`evaluate`] by several workers, each on its rows of every batch. All get the whole report.
///
/// # Errors
/// If a worker is lost.
pub fn evaluate_in_team<B: HrmBackend>(
    model: &Hrm<B>,
    batches: EvalBatches,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
    team: &Team<B>,
) -> Result<EvalReport, CollectiveError> {
    let start = Instant::now();
    let mut sum = Metrics::default();
    for batch in batches {
        let own = team.rows(batch.batch.rows);
        // The rows that only fill up the last batch do not count.
        let valid = batch.valid_rows.clamp(own.start, own.end) - own.start;
        let share = (valid > 0 && max_steps > 0).then(|| {
            let batch: PuzzleBatch<B> = data::to_device(&batch.batch.slice(own), device);
            let labels = batch.labels.clone().narrow(0, 0, valid);
            let mut carry = model.empty_carry(batch.labels.dims()[0]).admit(model, batch);
            let mut last = None;
            for _ in 0..max_steps {
                let (next, output) = model.segment(carry);
                carry = next;
                last = Some(output);
            }
            let mut output = last.expect("at least one segment");
            output.logits = output.logits.narrow(0, 0, valid);
            output.q_halt = output.q_halt.narrow(0, 0, valid);
            output.q_continue = output.q_continue.narrow(0, 0, valid);
            let steps = carry.steps.narrow(0, 0, valid);
            let correctness = Correctness::new(output.predictions(), labels.clone());
            let act_loss = loss::act_loss(loss, &output, labels, &correctness, None);
            let all = steps.clone().greater_equal_elem(0);
            Metrics::tensor(&act_loss, &correctness, output.q_halt, all, steps)
        });
        let share = share.unwrap_or_else(|| Tensor::<B, 1>::zeros([Metrics::VALUES], device));
        let metrics = team.sum(vec![share])?.remove(0);
        sum += Metrics::from_values(&metrics.into_data().iter::<f64>().collect::<Vec<_>>());
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
        seconds: start.elapsed().as_secs_f64(),
    })
}
