//! One training step, in the order of the paper: carry, segment, loss, backward, both optimizers.
//!
//! [`Step::run`] is the step. Its halves are [`forward`], which reads like the paper's pseudocode, and [`Step::apply`], which
//! changes the weights. What a recipe may add is one file each: the batch in parts (`accumulate`), several chains for each
//! puzzle (`chains`), noise in the state (`noise`), longer thoughts now and then (`exploration`), trial and error (`commit`), a
//! [`curriculum`] of depths.

mod accumulate;
pub(crate) mod chains;
mod commit;
pub mod curriculum;
pub(crate) mod exploration;
mod gradients;
mod guard;
pub(crate) mod noise;
mod share;
mod vitals;

use burn::{
    backend::Autodiff,
    tensor::{Int, Tensor},
};
use hrm_backend::{HrmBackend, ops};
use hrm_model::{
    Cycles, Hrm, SegmentOutput,
    act::{self, Carry, PuzzleBatch},
    diagnose::finite,
    loss::{ActLoss, Answers, IGNORE_LABEL, LossKind, LossSettings},
};

use crate::{
    distributed::{CollectiveError, Team},
    optim::{Optimizer, SignSgd},
};

pub use commit::Commitment;
pub use gradients::{Gradients, StepGradients};
pub(crate) use guard::advice;
pub use guard::{Guard, Skipped};
pub(crate) use vitals::explain;
pub use vitals::{Signs, Vitals};

use guard::guarded;
use share::Share;

/// What the recipe says about a step.
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
    /// What a puzzle that ends unsolved in this step goes on with; `None` if it makes room for another one.
    pub commitment: Option<Commitment>,
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
            commitment: None,
            cycles: None,
            grad_clip: None,
            lr,
            puzzle_emb_lr: lr,
        }
    }
}

/// A step, with what it needs besides the model, the carry and the data.
#[derive(Debug)]
pub struct Step<'a, B: HrmBackend> {
    /// What the recipe says.
    pub settings: StepSettings,
    /// Of all parameters but the puzzle embedding.
    pub optimizer: &'a mut Optimizer<B>,
    /// Of the puzzle embedding.
    pub sign_sgd: SignSgd,
    /// The workers that share the step.
    pub team: &'a Team<B>,
    /// How a step whose loss or gradients are not finite is kept from doing harm.
    pub guard: Guard,
    /// Whether someone asked this worker to stop, which the others learn with the sums.
    pub stop: bool,
}

/// What a step gives.
#[derive(Debug)]
pub struct Done<B: HrmBackend> {
    /// The model after the step.
    pub model: Hrm<Autodiff<B>>,
    /// To be passed to the next step.
    pub carry: Carry<B>,
    /// Sums over the batch, see [`Metrics::from_values`](hrm_model::loss::Metrics::from_values), `[10]`.
    pub metrics: Tensor<B, 1>,
    /// The numbers that tell whether the step was a good one.
    pub vitals: Vitals<B>,
    /// Whether it changed nothing because it was a bad one; `None` if only the device knows.
    pub skipped: Option<bool>,
    /// How many workers had been asked to stop, `[1]`.
    pub stop: Tensor<B, 1>,
}

impl<'a, B: HrmBackend> Step<'a, B> {
    /// A step of one worker, guarded as the backend allows without waiting.
    pub fn new(
        settings: StepSettings,
        optimizer: &'a mut Optimizer<B>,
        sign_sgd: SignSgd,
        team: &'a Team<B>,
    ) -> Self {
        Self { settings, optimizer, sign_sgd, team, guard: Guard::of::<B>(), stop: false }
    }

    /// The step: one segment of the carry, its loss and gradients, then both optimizers.
    ///
    /// Halted slots take their row of `batch` first. `min_steps` (`[batch]`) are the exploration's minimum numbers of
    /// segments, `None` for no exploration.
    ///
    /// # Errors
    /// If a worker is lost.
    pub fn run(
        self,
        model: Hrm<Autodiff<B>>,
        carry: Carry<B>,
        batch: PuzzleBatch<B>,
        min_steps: Option<Tensor<B, 1, Int>>,
    ) -> Result<Done<B>, CollectiveError> {
        let computed = accumulate::gradients(&model, carry, batch, min_steps, &self.settings);
        self.apply(model, computed)
    }

    /// The second half of [`run`](Self::run): the sums over all workers, then the dense optimizer on the parameters and sparse
    /// SignSGD on the rows of the puzzle embedding, unless the step is a bad one.
    ///
    /// # Errors
    /// If a worker is lost.
    pub fn apply(self, model: Hrm<Autodiff<B>>, computed: Computed<B>) -> Result<Done<B>, CollectiveError> {
        let Self { settings, optimizer, sign_sgd, team, guard, stop } = self;
        let Computed { carry, metrics, grads } = computed;
        let identifiers = carry.batch.puzzle_identifiers.clone();
        let stop = Tensor::full([1], f32::from(u8::from(stop)), &model.device());
        let share = Share { metrics, grads, identifiers, stop };
        let Share { metrics, grads, identifiers, stop } =
            share.sum(team, settings.global_batch * settings.chains)?;
        let vitals = Vitals::of(&metrics, &grads);
        let (model, signs) = guarded(model, optimizer, &vitals, guard, |mut model, optimizer, good| {
            if let (Some(table), Some(rows)) = (&mut model.puzzle_emb, grads.puzzle_rows) {
                table.weights = table.weights.clone().map(|weights| {
                    let shape = weights.shape();
                    let old = weights.inner();
                    let new = sign_sgd.step(settings.puzzle_emb_lr, old.clone(), identifiers, rows);
                    let flat = |t: Tensor<B, 2>| t.flatten::<1>(0, 1);
                    let new = match good {
                        None => new,
                        Some(good) => ops::if_good(good, flat(new), flat(old)).reshape(shape),
                    };
                    Tensor::from_inner(new).set_require_grad(false)
                });
            }
            let grads = match settings.grad_clip {
                None => grads.model,
                Some(max_norm) => grads.model.clip(max_norm),
            };
            optimizer.step(settings.lr, model, grads, good)
        });
        let skipped = signs.map(|signs| !signs.finite());
        Ok(Done { model, carry, metrics, vitals, skipped, stop })
    }
}

/// What the first half of a step gives.
#[derive(Debug)]
pub struct Computed<B: HrmBackend> {
    /// To be passed to the next step.
    pub carry: Carry<B>,
    /// Sums over the batch, `[10]`.
    pub metrics: Tensor<B, 1>,
    /// The gradients of the loss.
    pub grads: StepGradients<B>,
}

/// A segment and its loss, before the backward pass.
#[derive(Debug)]
pub struct Forward<B: HrmBackend> {
    /// Summed over the batch and divided by its size, `[1]`.
    pub loss: Tensor<Autodiff<B>, 1>,
    /// Logits and Q values of the segment.
    pub output: SegmentOutput<Autodiff<B>>,
    /// What `q_continue` is trained towards, `[batch]`; `None` for a model without a value of going on or of conflict.
    pub q_continue_target: Option<Tensor<B, 1>>,
    /// The rows of the puzzle embedding that the batch uses, `[batch, puzzle_emb_ndim]`.
    puzzle_rows: Option<Tensor<Autodiff<B>, 2>>,
    /// To be passed to the next step.
    pub carry: Carry<B>,
    /// Sums over the batch, `[10]`.
    pub metrics: Tensor<B, 1>,
}

/// One ACT segment of the carry and its loss. See [`Step::run`] for the arguments.
pub fn forward<B: HrmBackend>(
    model: &Hrm<Autodiff<B>>,
    carry: Carry<B>,
    batch: PuzzleBatch<B>,
    min_steps: Option<Tensor<B, 1, Int>>,
    settings: &StepSettings,
) -> Forward<B> {
    let model = &match settings.cycles {
        None => model.clone(),
        Some(cycles) => model.clone().with_cycles(cycles),
    };
    let inner = model.inner().with_converted_blocks();
    let carry = carry.admit(&inner, batch);
    let PuzzleBatch { inputs, labels, puzzle_identifiers } = carry.batch.clone();

    let puzzle_rows = inner
        .puzzle_rows(puzzle_identifiers)
        .map(|rows| Tensor::<Autodiff<B>, 2>::from_inner(rows).require_grad());
    let embeddings = model.input_embeddings(Tensor::from_inner(inputs), puzzle_rows.clone());
    let (state, output) = model.forward_truncated(&inner, carry.state, embeddings.clone());

    let steps = carry.steps + 1;
    let config = model.config();
    let (q_halt, q_continue) = (output.q_halt.clone().inner(), output.q_continue.clone().inner());
    let (halted, last) = act::halt(config, steps.clone(), q_halt, q_continue, min_steps);
    let contradicted = config.contradicted(carry.batch.inputs.clone(), labels.clone());
    let q_continue_target = match &contradicted {
        Some(contradicted) => Some(contradicted.clone().float()),
        None => (!config.no_act_continue).then(|| {
            let (_, next) = inner.forward(state.clone(), embeddings.inner());
            act::q_continue_target(&next, last)
        }),
    };

    let mut asked = settings.loss.labels(carry.batch.inputs.clone(), labels.clone());
    if let Some(rows) = contradicted.clone() {
        // Nothing can be learned from an answer that the givens exclude, but that they do.
        asked = asked.clone().mask_fill(rows.unsqueeze_dim::<2>(1).expand(asked.shape()), IGNORE_LABEL);
    }
    let mut answers =
        Answers::new(&settings.loss, &output, Tensor::from_inner(labels), Tensor::from_inner(asked));
    if let Some(rows) = contradicted.clone() {
        answers = answers.without(Tensor::from_inner(rows));
    }
    let (lm, exact) = (answers.lm().inner(), answers.exact().inner());
    let target = q_continue_target.clone().map(Tensor::from_inner);
    let act_loss = ActLoss::new(&settings.loss, &output, answers, target);
    let chains::Judged { act_loss, state, halted, counted } =
        chains::judge(settings.chains, act_loss, state, halted);
    // Such a sequence would not recover: its slot takes a new puzzle.
    let sound = finite(lm);
    let halted = halted.bool_or(sound.clone().bool_not());
    let (total, metrics) = act_loss.sums(Tensor::from_inner(counted), Tensor::from_inner(steps.clone()));
    let mut carry = Carry { state, steps, halted, batch: carry.batch };
    if let (Some(commitment), Some(contradicted)) = (settings.commitment, contradicted) {
        let solved = exact.greater_elem(0.5);
        let unsolved = carry.halted.clone().bool_and(solved.bool_or(contradicted).bool_not()).bool_and(sound);
        carry = commitment.go_on(config, carry, output.logits.clone().inner(), unsolved);
    }
    Forward {
        loss: total / settings.global_batch as f64,
        output,
        q_continue_target,
        puzzle_rows,
        carry,
        metrics: metrics.inner(),
    }
}

impl<B: HrmBackend> Forward<B> {
    /// Differentiates the loss.
    pub fn backward(self, model: &Hrm<Autodiff<B>>) -> Computed<B> {
        let Self { loss, puzzle_rows, carry, metrics, .. } = self;
        let mut grads = loss.backward();
        let puzzle_rows = puzzle_rows.and_then(|rows| rows.grad_remove(&mut grads));
        Computed { carry, metrics, grads: StepGradients { model: Gradients::of(model, grads), puzzle_rows } }
    }
}
