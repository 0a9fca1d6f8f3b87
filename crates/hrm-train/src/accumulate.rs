//! A batch in parts, for devices that cannot hold the activations of the whole.

use burn::tensor::{Int, Tensor, backend::AutodiffBackend};
use hrm_backend::HrmAutodiffBackend;
use hrm_model::{
    SegmentOutput,
    act::{Carry, PuzzleBatch},
};

use crate::{
    gradients::Gradients,
    step::{StepGradients, StepOutput},
};

/// Minimum numbers of segments, if there is exploration, `[batch]`.
type MinSteps<A> = Option<Tensor<<A as AutodiffBackend>::InnerBackend, 1, Int>>;

/// Runs `step` on `parts` parts of its input one after the other, each a share of the carry's slots with their rows of the
/// batch. Gradients and metrics are sums over the batch, so those of the parts add up to those of the whole; only the order
/// of additions differs.
pub(crate) fn in_parts<A: HrmAutodiffBackend>(
    parts: usize,
    carry: Carry<A::InnerBackend>,
    batch: PuzzleBatch<A::InnerBackend>,
    min_steps: MinSteps<A>,
    step: impl Fn(
        Carry<A::InnerBackend>,
        PuzzleBatch<A::InnerBackend>,
        MinSteps<A>,
    ) -> (StepOutput<A>, StepGradients<A>),
) -> (StepOutput<A>, StepGradients<A>) {
    let [slots] = carry.steps.dims();
    let len = slots.div_ceil(parts);
    let mut outputs = Vec::new();
    let mut model_grads = Gradients::default();
    let mut puzzle_rows = Vec::new();
    for start in (0..slots).step_by(len) {
        let len = len.min(slots - start);
        let min_steps = min_steps.clone().map(|steps| steps.narrow(0, start, len));
        let (output, grads) = step(carry.rows(start, len), batch.rows(start, len), min_steps);
        model_grads.add(grads.model);
        puzzle_rows.extend(grads.puzzle_rows);
        outputs.push(output);
    }
    let puzzle_rows = (!puzzle_rows.is_empty()).then(|| Tensor::cat(puzzle_rows, 0));
    (whole(outputs), StepGradients { model: model_grads, puzzle_rows })
}

fn whole<A: HrmAutodiffBackend>(parts: Vec<StepOutput<A>>) -> StepOutput<A> {
    let mut carries = Vec::new();
    let mut metrics = Vec::new();
    let (mut logits, mut q_halt, mut q_continue) = (Vec::new(), Vec::new(), Vec::new());
    let mut targets = Vec::new();
    for part in parts {
        carries.push(part.carry);
        metrics.push(part.metrics);
        logits.push(part.output.logits);
        q_halt.push(part.output.q_halt);
        q_continue.push(part.output.q_continue);
        targets.extend(part.q_continue_target);
    }
    StepOutput {
        carry: Carry::cat(carries),
        metrics: Tensor::stack::<2>(metrics, 0).sum_dim(0).squeeze_dim(0),
        output: SegmentOutput {
            logits: Tensor::cat(logits, 0),
            q_halt: Tensor::cat(q_halt, 0),
            q_continue: Tensor::cat(q_continue, 0),
        },
        q_continue_target: (!targets.is_empty()).then(|| Tensor::cat(targets, 0)),
    }
}
