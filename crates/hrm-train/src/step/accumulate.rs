//! A batch in parts, for devices that cannot hold the activations of the whole.

use burn::{
    backend::Autodiff,
    tensor::{Int, Tensor},
};
use hrm_backend::HrmBackend;
use hrm_model::{
    Hrm,
    act::{Carry, PuzzleBatch},
};

use super::{Computed, Gradients, StepGradients, StepSettings, forward};

/// Forward and backward on each part of the batch, one after the other: a share of the carry's slots with their rows.
/// Gradients and metrics are sums over the batch, so those of the parts add up to those of the whole; only the order of
/// additions differs.
pub(super) fn gradients<B: HrmBackend>(
    model: &Hrm<Autodiff<B>>,
    carry: Carry<B>,
    batch: PuzzleBatch<B>,
    min_steps: Option<Tensor<B, 1, Int>>,
    settings: &StepSettings,
) -> Computed<B> {
    if settings.accumulate == 1 {
        return forward(model, carry, batch, min_steps, settings).backward(model);
    }
    let [slots] = carry.steps.dims();
    let len = slots.div_ceil(settings.accumulate);
    let (mut carries, mut metrics) = (Vec::new(), Vec::new());
    let mut model_grads = Gradients::default();
    let mut puzzle_rows = Vec::new();
    for start in (0..slots).step_by(len) {
        let len = len.min(slots - start);
        let min_steps = min_steps.clone().map(|steps| steps.narrow(0, start, len));
        let (carry, batch) = (carry.rows(start, len), batch.rows(start, len));
        let part = forward(model, carry, batch, min_steps, settings).backward(model);
        model_grads.add(part.grads.model);
        puzzle_rows.extend(part.grads.puzzle_rows);
        carries.push(part.carry);
        metrics.push(part.metrics);
    }
    Computed {
        carry: Carry::cat(carries),
        metrics: Tensor::stack::<2>(metrics, 0).sum_dim(0).squeeze_dim(0),
        grads: StepGradients {
            model: model_grads,
            puzzle_rows: (!puzzle_rows.is_empty()).then(|| Tensor::cat(puzzle_rows, 0)),
        },
    }
}
