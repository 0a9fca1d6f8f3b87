//! The losses of a segment and what is reported of it, in plain Burn: the default of [`HrmBackend::answers`] and
//! [`HrmBackend::act_loss`], forward and backward.

use burn::tensor::{
    Bool, DType, Int, Tensor, activation,
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

use crate::{HrmBackend, functions};

/// Label of a cell that is not asked for.
pub const IGNORE_LABEL: i64 = -100;

/// Columns of [`answers`](crate::ops::answers).
pub const ANSWERS: usize = 6;

/// How many numbers [`act_loss`](crate::ops::act_loss) reports.
pub const METRICS: usize = 10;

/// Which cross-entropy a cell has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellLoss {
    /// Stablemax (arXiv 2501.04697) in the widest float type of the backend; else softmax in fp32.
    pub stablemax: bool,
    /// Share of the target that is spread evenly over the vocabulary.
    pub smoothing: f64,
}

/// How the losses of a sequence are added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentWeights {
    /// Weight of the losses of both Q values beside the cross-entropy.
    pub halt: f64,
    /// Segment `t`, counted from 1, weighs `decay^(t - 1)`.
    pub decay: f64,
}

/// What the loss of a segment is made of; all of `[batch]` but the answers.
#[derive(Debug, Clone)]
pub struct Segment<A, F, I> {
    /// From [`answers`](crate::ops::answers), `[batch, ANSWERS]`.
    pub answers: A,
    /// Value of halting, fp32.
    pub q_halt: F,
    /// Value of going on, fp32.
    pub q_continue: F,
    /// What `q_continue` is trained towards; `None` if it is not.
    pub target: Option<F>,
    /// Weights of the sequences; `None` for 1.
    pub weights: Option<F>,
    /// 1 for sequences that are reported, else 0.
    pub counted: F,
    /// Segments so far, this one counted.
    pub steps: I,
}

/// The same of a backend's primitives.
pub type SegmentOf<B> = Segment<FloatTensor<B>, FloatTensor<B>, IntTensor<B>>;

impl<A, F, I> Segment<A, F, I> {
    /// The same of other tensors.
    pub fn map<A2, F2, I2>(
        self,
        answers: impl FnOnce(A) -> A2,
        float: impl Fn(F) -> F2,
        int: impl FnOnce(I) -> I2,
    ) -> Segment<A2, F2, I2> {
        Segment {
            answers: answers(self.answers),
            q_halt: float(self.q_halt),
            q_continue: float(self.q_continue),
            target: self.target.map(&float),
            weights: self.weights.map(&float),
            counted: float(self.counted),
            steps: int(self.steps),
        }
    }
}

type Typed<B> = Segment<Tensor<B, 2>, Tensor<B, 1>, Tensor<B, 1, Int>>;

/// Logarithm of stablemax over the last axis, in the input's type.
///
/// # Shapes
/// - all: `[rows, vocab_size]`
pub fn log_stablemax<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let s = stable(x);
    (s.clone() / s.sum_dim(1)).log()
}

/// `x + 1` for `x >= 0`, `1 / (1 - x)` below.
fn stable<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let positive = x.clone().greater_equal_elem(0.0);
    // The branch that is not taken stays finite.
    let below = (x.clone().mask_fill(positive.clone(), 0.0).neg() + (1.0 + 1e-30)).recip();
    below.mask_where(positive, x + 1.0)
}

/// Binary cross-entropy with logits, per element.
///
/// # Shapes
/// - all: `[batch]`
pub fn binary_cross_entropy<B: HrmBackend>(logits: Tensor<B, 1>, targets: Tensor<B, 1>) -> Tensor<B, 1> {
    // -log sigmoid(x) = max(-x, 0) + log(1 + exp(-|x|)), and the same at -x, so both outcomes share the logarithm.
    let common = functions::log1p(logits.clone().abs().neg().exp());
    let hit = logits.clone().neg().clamp_min(0.0) * targets.clone();
    let miss = logits.clamp_min(0.0) * (targets.neg() + 1.0);
    hit + miss + common
}

/// Its gradient with respect to the logits: `sigmoid(x) - t`, without a difference of numbers that are nearly the same.
fn binary_cross_entropy_backward<B: HrmBackend>(logits: Tensor<B, 1>, targets: Tensor<B, 1>) -> Tensor<B, 1> {
    let negative = logits.clone().lower_elem(0.0);
    let small = logits.abs().neg().exp();
    let share = small.clone() / (small + 1.0);
    let above = targets.clone().neg() + 1.0 - share.clone();
    above.mask_where(negative, share - targets)
}

fn is_asked<B: Backend, const D: usize>(labels: Tensor<B, D, Int>) -> Tensor<B, D, Bool> {
    labels.not_equal_elem(IGNORE_LABEL)
}

/// The type that a cross-entropy is computed in.
fn wide<B: HrmBackend>(how: &CellLoss) -> DType {
    if how.stablemax { B::WIDEST_FLOAT } else { DType::F32 }
}

/// See [`HrmBackend::answers`].
pub fn answers<B: HrmBackend>(
    logits: Tensor<B, 3>,
    labels: Tensor<B, 2, Int>,
    asked: Tensor<B, 2, Int>,
    how: &CellLoss,
) -> Tensor<B, 2> {
    let [batch, seq, vocab] = logits.dims();
    let predictions = logits.clone().argmax(2).squeeze_dim::<2>(2);
    let logits = logits.reshape([batch * seq, vocab]).cast(wide::<B>(how));
    let logs = if how.stablemax { log_stablemax(logits) } else { activation::log_softmax(logits, 1) };
    let ignored = is_asked(asked.clone()).bool_not();
    let index = asked.mask_fill(ignored.clone(), 0).reshape([batch * seq, 1]);
    let count = |cells: Tensor<B, 2, Bool>| cells.int().sum_dim(1);
    let divisor = count(ignored.clone().bool_not()).float(); // [batch, 1]
    let per_row = |column: Tensor<B, 2>| {
        let cells = column.neg().reshape([batch, seq]).mask_fill(ignored.clone(), 0.0).cast(DType::F32);
        cells.sum_dim(1) / divisor.clone().clamp_min(1.0)
    };
    let plain = per_row(logs.clone().gather(1, index));
    let smoothed = match how.smoothing > 0.0 {
        false => plain.clone(),
        true => plain.clone() * (1.0 - how.smoothing) + per_row(logs.mean_dim(1)) * how.smoothing,
    };
    let has_label = is_asked(labels.clone());
    let right = count(predictions.equal(labels).bool_and(has_label.clone()));
    let labelled = count(has_label);
    let accuracy = right.clone().float() / labelled.clone().clamp_min(1).float();
    let exact = right.equal(labelled.clone()).float();
    Tensor::cat(vec![plain, smoothed, accuracy, exact, labelled.greater_elem(0).float(), divisor], 1)
}

/// See [`HrmBackend::answers_backward`].
pub fn answers_backward<B: HrmBackend>(
    logits: Tensor<B, 3>,
    asked: Tensor<B, 2, Int>,
    answers: Tensor<B, 2>,
    how: &CellLoss,
    danswers: Tensor<B, 2>,
) -> Tensor<B, 3> {
    let [batch, seq, vocab] = logits.dims();
    let (cells, dtype, wide) = (batch * seq, logits.dtype(), wide::<B>(how));
    let x = logits.reshape([cells, vocab]).cast(wide);
    let divisor = answers.narrow(1, 5, 1).clamp_min(1.0);
    let column = |index: usize| danswers.clone().narrow(1, index, 1) / divisor.clone();
    let of_cells = |rows: Tensor<B, 2>| rows.expand([batch, seq]).reshape([cells, 1]).cast(wide);
    // The loss is -own log p(label) - even sum_j log p(j).
    let own = of_cells(column(0) + column(1) * (1.0 - how.smoothing));
    let even = of_cells(column(1) * (how.smoothing / vocab as f64));
    let ignored = is_asked(asked.clone()).bool_not().reshape([cells, 1]).expand([cells, vocab]);
    let tokens = Tensor::<B, 1, Int>::arange(0..vocab as i64, &x.device()).unsqueeze_dim::<2>(0);
    let is_label = asked.reshape([cells, 1]).expand([cells, vocab]).equal(tokens.expand([cells, vocab]));
    let aims = is_label.float().cast(wide) * own.clone() + even.clone();
    let all = own + even * vocab as f64;
    let gradient = match how.stablemax {
        false => activation::softmax(x, 1) * all - aims,
        true => {
            let s = stable(x.clone());
            // s' / s: s below 0, where s' = s^2.
            let slope = s.clone().mask_where(x.greater_equal_elem(0.0), s.clone().recip());
            slope * (s.clone() / s.sum_dim(1) * all - aims)
        }
    };
    gradient.mask_fill(ignored, 0.0).cast(dtype).reshape([batch, seq, vocab])
}

fn column<B: Backend>(answers: &Tensor<B, 2>, index: usize) -> Tensor<B, 1> {
    answers.clone().narrow(1, index, 1).squeeze_dim(1)
}

fn times<B: Backend>(x: Tensor<B, 1>, by: Option<&Tensor<B, 1>>) -> Tensor<B, 1> {
    match by {
        None => x,
        Some(by) => x * by.clone(),
    }
}

/// What each sequence weighs for its segment; `None` for 1.
fn decays<B: Backend>(steps: Tensor<B, 1, Int>, how: &SegmentWeights) -> Option<Tensor<B, 1>> {
    (how.decay != 1.0).then(|| ((steps.float() - 1.0) * how.decay.ln()).exp())
}

/// See [`HrmBackend::act_loss`].
pub fn act_loss<B: HrmBackend>(segment: Typed<B>, how: &SegmentWeights) -> (Tensor<B, 1>, Tensor<B, 1>) {
    let Segment { answers, q_halt, q_continue, target, weights, counted, steps } = segment;
    let (exact, asked) = (column(&answers, 3), column(&answers, 4));
    let weigh = |part: Tensor<B, 1>| times(part, weights.as_ref());
    let halt_loss = weigh(binary_cross_entropy(q_halt.clone(), exact.clone()));
    let continue_loss = target.map(|target| weigh(binary_cross_entropy(q_continue, target)));
    let q = match &continue_loss {
        None => halt_loss.clone(),
        Some(continue_loss) => halt_loss.clone() + continue_loss.clone(),
    };
    let minimised = weigh(column(&answers, 1)) + q * how.halt;
    let loss = times(minimised, decays(steps.clone(), how).as_ref()).sum();
    let counted = counted * asked;
    let says_exact = q_halt.clone().greater_equal_elem(0.0);
    let tells = says_exact.equal(exact.clone().greater_elem(0.5)).float();
    let metrics = vec![
        counted.clone().sum(),
        (column(&answers, 2) * counted.clone()).sum(),
        (exact * counted.clone()).sum(),
        (tells * counted.clone()).sum(),
        (steps.float() * counted.clone()).sum(),
        weigh(column(&answers, 0)).sum(),
        halt_loss.sum(),
        continue_loss.map_or_else(|| loss.zeros_like(), |part| part.sum()),
        loss.clone(),
        (activation::sigmoid(q_halt) * counted).sum(),
    ];
    (loss, Tensor::cat(metrics, 0))
}

/// See [`HrmBackend::act_loss_backward`].
pub fn act_loss_backward<B: HrmBackend>(
    segment: Typed<B>,
    how: &SegmentWeights,
    dloss: Tensor<B, 1>,
) -> (Tensor<B, 2>, Tensor<B, 1>, Tensor<B, 1>) {
    let Segment { answers, q_halt, q_continue, target, weights, steps, .. } = segment;
    let slope = dloss.expand(q_halt.shape());
    let slope = times(times(slope, decays(steps, how).as_ref()), weights.as_ref());
    let of_q = slope.clone() * how.halt;
    let dq_halt = binary_cross_entropy_backward(q_halt, column(&answers, 3)) * of_q.clone();
    let dq_continue = match target {
        None => q_continue.zeros_like(),
        Some(target) => binary_cross_entropy_backward(q_continue, target) * of_q,
    };
    let rows = 0..answers.dims()[0];
    let danswers = answers.zeros_like().slice_assign([rows, 1..2], slope.unsqueeze_dim::<2>(1));
    (danswers, dq_halt, dq_continue)
}
