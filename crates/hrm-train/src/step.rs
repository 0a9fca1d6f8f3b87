//! One training step, in the order of the paper: carry, segment, loss, backward, both optimizers.

use burn::{
    module::Module,
    tensor::{Int, Tensor},
};
use hrm_backend::HrmAutodiffBackend;
use hrm_model::{
    Cycles, Hrm, SegmentOutput,
    act::{self, Carry, PuzzleBatch},
    diagnose::finite,
    loss::{self, Correctness, LossKind, LossSettings, Metrics},
};

use crate::{
    accumulate, chains,
    gradients::Gradients,
    optim::{Optimizer, SignSgd},
};

/// What a step needs besides the model, the carry and the data.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// How the loss is made up.
    pub loss: LossSettings,
    /// The loss is divided by this.
    pub global_batch: usize,
    /// Parts that the batch is computed in, one after the other; the step is that of the whole.
    pub accumulate: usize,
    /// Chains for each puzzle, side by side in the carry, of which the best is trained; 1 for no chains.
    pub chains: usize,
    /// How deep the segments of this step are; `None` for as deep as the model is.
    pub cycles: Option<Cycles>,
    /// Largest global gradient norm; `None` for no clipping.
    pub grad_clip: Option<f64>,
    /// Learning rate of the model.
    pub lr: f64,
    /// Learning rate of the puzzle embedding.
    pub puzzle_emb_lr: f64,
}

impl StepSettings {
    /// The paper's step, with one learning rate for all.
    pub fn new(loss: LossKind, global_batch: usize, lr: f64) -> Self {
        Self {
            loss: loss.into(),
            global_batch,
            accumulate: 1,
            chains: 1,
            cycles: None,
            grad_clip: None,
            lr,
            puzzle_emb_lr: lr,
        }
    }
}

/// What a step gives besides the new model.
#[derive(Debug, Clone)]
pub struct StepOutput<A: HrmAutodiffBackend> {
    /// To be passed to the next step.
    pub carry: Carry<A::InnerBackend>,
    /// Sums over the batch, see [`Metrics::from_values`], `[10]`.
    pub metrics: Tensor<A::InnerBackend, 1>,
    /// Logits and Q values of the segment.
    pub output: SegmentOutput<A::InnerBackend>,
    /// What `q_continue` was trained towards, `[batch]`; `None` for a model without a value of going on.
    pub q_continue_target: Option<Tensor<A::InnerBackend, 1>>,
}

/// The gradients of a step, before they are applied.
#[derive(Debug)]
pub struct StepGradients<A: HrmAutodiffBackend> {
    /// Of the model's parameters.
    pub model: Gradients<A::InnerBackend>,
    /// Of the rows of the puzzle embedding that the batch used, `[batch, puzzle_emb_ndim]`.
    pub puzzle_rows: Option<Tensor<A::InnerBackend, 2>>,
}

/// Forward and backward: one ACT segment of the carry, its loss and gradients.
///
/// Halted slots take their row of `batch` first. `min_steps` (`[batch]`) are the exploration's minimum numbers
/// of segments, `None` for no exploration.
pub fn gradients<A: HrmAutodiffBackend>(
    model: &Hrm<A>,
    carry: Carry<A::InnerBackend>,
    batch: PuzzleBatch<A::InnerBackend>,
    min_steps: Option<Tensor<A::InnerBackend, 1, Int>>,
    settings: &StepSettings,
) -> (StepOutput<A>, StepGradients<A>) {
    if settings.accumulate > 1 {
        let whole = StepSettings { accumulate: 1, ..*settings };
        return accumulate::in_parts(
            settings.accumulate,
            carry,
            batch,
            min_steps,
            |carry, batch, min_steps| gradients(model, carry, batch, min_steps, &whole),
        );
    }
    let model = &match settings.cycles {
        None => model.clone(),
        Some(cycles) => model.clone().with_cycles(cycles),
    };
    let inner = model.inner().with_converted_blocks();
    let carry = carry.admit(&inner, batch);
    let PuzzleBatch { inputs, labels, puzzle_identifiers } = carry.batch.clone();

    let rows =
        inner.puzzle_rows(puzzle_identifiers).map(|rows| Tensor::<A, 2>::from_inner(rows).require_grad());
    let embeddings = model.input_embeddings(Tensor::from_inner(inputs), rows.clone());
    let (state, output) = model.forward_truncated(&inner, carry.state, embeddings.clone());
    let segment = SegmentOutput {
        logits: output.logits.clone().inner(),
        q_halt: output.q_halt.clone().inner(),
        q_continue: output.q_continue.clone().inner(),
    };

    let steps = carry.steps + 1;
    let config = model.config();
    let (halted, last) =
        act::halt(config, steps.clone(), segment.q_halt.clone(), segment.q_continue.clone(), min_steps);
    let q_continue_target = (!config.no_act_continue).then(|| {
        let (_, next) = inner.forward(state.clone(), embeddings.inner());
        act::q_continue_target(&next, last)
    });

    let correctness = Correctness::new(output.predictions(), Tensor::from_inner(labels.clone()));
    let target = q_continue_target.clone().map(Tensor::from_inner);
    let act_loss = loss::act_loss(settings.loss, &output, Tensor::from_inner(labels), &correctness, target);
    let (act_loss, state, halted, counted) =
        match chains::winners(act_loss.lm.clone().inner(), settings.chains) {
            None => (act_loss, state, halted.clone(), halted),
            Some(winners) => {
                let halted = winners.share(halted);
                let counted = halted.clone().bool_and(winners.mask.clone().greater_elem(0.5));
                let act_loss = act_loss.weighted(&Tensor::from_inner(winners.mask.clone()));
                (act_loss, winners.share_state(state), halted, counted)
            }
        };
    let total = act_loss.total(Tensor::from_inner(steps.clone()));
    // Such a sequence would not recover: its slot takes a new puzzle.
    let halted = halted.bool_or(finite(act_loss.lm.clone().inner()).bool_not());
    let metrics = Metrics::tensor(
        &act_loss,
        &correctness,
        output.q_halt,
        Tensor::from_inner(counted),
        Tensor::from_inner(steps.clone()),
    )
    .inner();

    let mut grads = (total / settings.global_batch as f64).backward();
    let puzzle_rows = rows.and_then(|rows| rows.grad_remove(&mut grads));
    let carry = Carry { state, steps, halted, batch: carry.batch };
    (
        StepOutput { carry, metrics, output: segment, q_continue_target },
        StepGradients { model: Gradients::of(model, grads), puzzle_rows },
    )
}

/// Both optimizers: the dense one on the parameters, sparse SignSGD on the puzzle embedding.
pub fn apply_gradients<A: HrmAutodiffBackend>(
    mut model: Hrm<A>,
    grads: StepGradients<A>,
    identifiers: Tensor<A::InnerBackend, 1, Int>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    sign_sgd: SignSgd,
    settings: &StepSettings,
) -> Hrm<A> {
    if let (Some(table), Some(rows)) = (&mut model.puzzle_emb, grads.puzzle_rows) {
        table.weights = table.weights.clone().map(|weights| {
            let new = sign_sgd.step(settings.puzzle_emb_lr, weights.inner(), identifiers, rows);
            Tensor::from_inner(new).set_require_grad(false)
        });
    }
    let grads = match settings.grad_clip {
        None => grads.model,
        Some(max_norm) => grads.model.clip(max_norm),
    };
    optimizer.step(settings.lr, model, grads)
}

/// One step: [`gradients`], then [`apply_gradients`].
pub fn train_step<A: HrmAutodiffBackend>(
    model: Hrm<A>,
    carry: Carry<A::InnerBackend>,
    batch: PuzzleBatch<A::InnerBackend>,
    min_steps: Option<Tensor<A::InnerBackend, 1, Int>>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    sign_sgd: SignSgd,
    settings: &StepSettings,
) -> (Hrm<A>, StepOutput<A>)
where
    Hrm<A>: Module<A>,
{
    let (output, grads) = gradients(&model, carry, batch, min_steps, settings);
    let identifiers = output.carry.batch.puzzle_identifiers.clone();
    let model = apply_gradients(model, grads, identifiers, optimizer, sign_sgd, settings);
    (model, output)
}
