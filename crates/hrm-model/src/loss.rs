//! Cross-entropies and the loss of an ACT segment.

use burn::tensor::{Bool, DType, Int, Tensor, activation, backend::Backend};
use hrm_backend::{HrmBackend, functions};
use serde::{Deserialize, Serialize};

use crate::SegmentOutput;

/// Label of a cell that is not asked for.
pub const IGNORE_LABEL: i64 = -100;

/// Which function turns logits into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// `s(x) / sum s(x)` with `s(x) = x + 1` for `x >= 0` and `1 / (1 - x)` below (Prieto et al. 2025, arXiv
    /// 2501.04697), in the widest float type of the backend.
    #[serde(alias = "stablemax_cross_entropy")]
    Stablemax,
    /// The usual softmax, in fp32.
    #[serde(alias = "softmax_cross_entropy")]
    Softmax,
}

impl LossKind {
    /// Cross-entropy of each cell, 0 where the label is [`IGNORE_LABEL`], in fp32.
    ///
    /// # Shapes
    /// - `logits`: `[cells, vocab_size]`; `labels`, output: `[cells]`
    pub fn cross_entropy<B: HrmBackend>(
        self,
        logits: Tensor<B, 2>,
        labels: Tensor<B, 1, Int>,
    ) -> Tensor<B, 1> {
        let (ignored, log_probabilities, index) = self.log_probabilities(logits, labels);
        negative(log_probabilities.gather(1, index), ignored)
    }

    /// The same and, beside it, the cross-entropy against smoothed labels (Szegedy et al. 2016, arXiv 1512.00567,
    /// section 7): the share `smoothing` of the target is spread evenly over the vocabulary.
    ///
    /// # Shapes
    /// - as [`cross_entropy`](Self::cross_entropy)
    pub fn smoothed_cross_entropy<B: HrmBackend>(
        self,
        logits: Tensor<B, 2>,
        labels: Tensor<B, 1, Int>,
        smoothing: f64,
    ) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let (ignored, log_probabilities, index) = self.log_probabilities(logits, labels);
        let uniform = negative(log_probabilities.clone().mean_dim(1), ignored.clone());
        let plain = negative(log_probabilities.gather(1, index), ignored);
        (plain.clone(), plain * (1.0 - smoothing) + uniform * smoothing)
    }

    /// Which labels are ignored `[cells]`, the logarithms of the probabilities `[cells, vocab_size]`, and the labels as
    /// an index into them `[cells, 1]`.
    fn log_probabilities<B: HrmBackend>(
        self,
        logits: Tensor<B, 2>,
        labels: Tensor<B, 1, Int>,
    ) -> (Tensor<B, 1, Bool>, Tensor<B, 2>, Tensor<B, 2, Int>) {
        let ignored = labels.clone().equal_elem(IGNORE_LABEL);
        let index = labels.mask_fill(ignored.clone(), 0).unsqueeze_dim::<2>(1);
        let log_probabilities = match self {
            Self::Stablemax => log_stablemax(logits.cast(B::WIDEST_FLOAT)),
            Self::Softmax => activation::log_softmax(logits.cast(DType::F32), 1),
        };
        (ignored, log_probabilities, index)
    }
}

/// The negative of a column, 0 where ignored, in fp32.
///
/// # Shapes
/// - `column`: `[cells, 1]`; `ignored`, output: `[cells]`
fn negative<B: Backend>(column: Tensor<B, 2>, ignored: Tensor<B, 1, Bool>) -> Tensor<B, 1> {
    column.squeeze_dim::<1>(1).neg().mask_fill(ignored, 0.0).cast(DType::F32)
}

/// How the loss of a segment is made of its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossSettings {
    /// Which cross-entropy.
    pub kind: LossKind,
    /// Share of the target that is spread evenly over the vocabulary; 0 for none.
    pub label_smoothing: f64,
    /// Weight of the losses of `q_halt` and `q_continue` beside the cross-entropy: 0.5 in HRM and TRM, 0.05 in SiC
    /// (arXiv 2601.19085).
    pub halt_weight: f64,
    /// Segment `t` of a sequence, counted from 1, weighs `supervision_decay^(t - 1)` (CGAR, arXiv 2511.08653: 0.7); 1
    /// for all the same.
    pub supervision_decay: f64,
    /// Whether the cross-entropy asks only for cells that the puzzle does not give.
    pub blanks_only: bool,
}

impl LossSettings {
    /// The labels that the cross-entropy asks for.
    ///
    /// # Shapes
    /// - all: `[batch, seq_len]`
    pub fn labels<B: Backend>(
        &self,
        inputs: Tensor<B, 2, Int>,
        labels: Tensor<B, 2, Int>,
    ) -> Tensor<B, 2, Int> {
        match self.blanks_only {
            true => labels.clone().mask_fill(inputs.equal(labels), IGNORE_LABEL),
            false => labels,
        }
    }
}

/// The originals' loss.
impl From<LossKind> for LossSettings {
    fn from(kind: LossKind) -> Self {
        Self { kind, label_smoothing: 0.0, halt_weight: 0.5, supervision_decay: 1.0, blanks_only: false }
    }
}

/// Logarithm of stablemax over the last axis, in the input's type.
///
/// # Shapes
/// - all: `[rows, vocab_size]`
pub fn log_stablemax<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let positive = x.clone().greater_equal_elem(0.0);
    // The branch not taken must stay finite, or its gradient would be 0 * infinity.
    let below = (x.clone().mask_fill(positive.clone(), 0.0).neg() + (1.0 + 1e-30)).recip();
    let s = below.mask_where(positive, x + 1.0);
    (s.clone() / s.sum_dim(1)).log()
}

/// Binary cross-entropy with logits, per element.
///
/// # Shapes
/// - all: `[batch]`
pub fn binary_cross_entropy<B: HrmBackend>(logits: Tensor<B, 1>, targets: Tensor<B, 1>) -> Tensor<B, 1> {
    // -log sigmoid(x) = max(-x, 0) + log(1 + exp(-|x|)), and the same at -x, so both outcomes share the logarithm.
    let negative = logits.clone().lower_elem(0.0);
    let below = logits.clone().neg();
    let common = functions::log1p(below.clone().mask_where(negative.clone(), logits.clone()).exp());
    let hit = below.mask_fill(negative.clone().bool_not(), 0.0) * targets.clone();
    let miss = logits.mask_fill(negative, 0.0) * (targets.neg() + 1.0);
    hit + miss + common
}

/// How many of a batch's sequences and cells a segment got right.
#[derive(Debug, Clone)]
pub struct Correctness<B: Backend> {
    /// Share of the asked-for cells that are right, per row, `[batch]`.
    pub cell_accuracy: Tensor<B, 1>,
    /// Rows with every asked-for cell right (also those that ask for none), `[batch]`.
    pub exact: Tensor<B, 1, Bool>,
    /// Rows that ask for at least one cell, `[batch]`.
    pub asked: Tensor<B, 1, Bool>,
}

impl<B: Backend> Correctness<B> {
    /// Compares predictions with labels.
    ///
    /// # Shapes
    /// - `predictions`, `labels`: `[batch, seq_len]`
    pub fn new(predictions: Tensor<B, 2, Int>, labels: Tensor<B, 2, Int>) -> Self {
        let asked_cells = labels.clone().not_equal_elem(IGNORE_LABEL);
        let right = predictions.equal(labels).bool_and(asked_cells.clone());
        let asked = asked_cells.int().sum_dim(1).squeeze_dim::<1>(1);
        let right = right.int().sum_dim(1).squeeze_dim::<1>(1);
        let divisor = asked.clone().clamp_min(1).float();
        Self {
            cell_accuracy: right.clone().float() / divisor.clone(),
            exact: right.equal(asked.clone()),
            asked: asked.greater_elem(0),
        }
    }

    /// Without some rows, for which no answer is right: they are not counted.
    #[must_use]
    pub fn without(self, rows: Tensor<B, 1, Bool>) -> Self {
        let others = rows.bool_not();
        Self { exact: self.exact.bool_and(others.clone()), asked: self.asked.bool_and(others), ..self }
    }
}

/// The parts of a segment's loss, of each sequence, in fp32.
#[derive(Debug, Clone)]
pub struct ActLoss<B: Backend> {
    /// Cross-entropy, averaged over the cells of the row, `[batch]`.
    pub lm: Tensor<B, 1>,
    /// The same against smoothed labels, where they are asked for, `[batch]`.
    pub smoothed_lm: Option<Tensor<B, 1>>,
    /// Binary cross-entropy of `q_halt` against exact correctness, `[batch]`.
    pub q_halt: Tensor<B, 1>,
    /// Binary cross-entropy of `q_continue` against its target, `[batch]`; `None` in evaluation.
    pub q_continue: Option<Tensor<B, 1>>,
    halt_weight: f64,
    supervision_decay: f64,
}

impl<B: Backend> ActLoss<B> {
    /// The same loss with a weight for each sequence, `[batch]`.
    #[must_use]
    pub fn weighted(self, weights: &Tensor<B, 1>) -> Self {
        let weigh = |part: Tensor<B, 1>| part * weights.clone();
        Self {
            lm: weigh(self.lm),
            smoothed_lm: self.smoothed_lm.map(weigh),
            q_halt: weigh(self.q_halt),
            q_continue: self.q_continue.map(weigh),
            ..self
        }
    }

    /// What is minimised, after division by the global batch: the sum over the batch of
    /// `lm + halt_weight (q_halt + q_continue)`, with smoothed labels and weights of segments as the settings say, `[1]`.
    ///
    /// # Shapes
    /// - `steps` (this segment counted): `[batch]`
    pub fn total(&self, steps: Tensor<B, 1, Int>) -> Tensor<B, 1> {
        let weights = (self.supervision_decay != 1.0)
            .then(|| ((steps.float() - 1.0) * self.supervision_decay.ln()).exp());
        let sum = |part: &Tensor<B, 1>| match &weights {
            None => part.clone().sum(),
            Some(weights) => (part.clone() * weights.clone()).sum(),
        };
        let q = match &self.q_continue {
            None => sum(&self.q_halt),
            Some(q_continue) => sum(&self.q_halt) + sum(q_continue),
        };
        sum(self.smoothed_lm.as_ref().unwrap_or(&self.lm)) + q * self.halt_weight
    }
}

/// The loss of an ACT segment, with the labels that the cross-entropy asks for ([`LossSettings::labels`]).
///
/// # Shapes
/// - `labels`: `[batch, seq_len]`; `q_continue_target`: `[batch]`
pub fn act_loss<B: HrmBackend>(
    settings: impl Into<LossSettings>,
    output: &SegmentOutput<B>,
    labels: Tensor<B, 2, Int>,
    correctness: &Correctness<B>,
    q_continue_target: Option<Tensor<B, 1>>,
) -> ActLoss<B> {
    let LossSettings { kind, label_smoothing, halt_weight, supervision_decay, .. } = settings.into();
    let [batch, seq_len, vocab_size] = output.logits.dims();
    let cells = batch * seq_len;
    let logits = output.logits.clone().reshape([cells, vocab_size]);
    let asked = labels.clone().not_equal_elem(IGNORE_LABEL).int().sum_dim(1).squeeze_dim::<1>(1);
    let divisor = asked.clamp_min(1).float();
    let labels = labels.reshape([cells]);
    let per_row = |per_cell: Tensor<B, 1>| {
        per_cell.reshape([batch, seq_len]).sum_dim(1).squeeze_dim::<1>(1) / divisor.clone()
    };
    let (lm, smoothed_lm) = if label_smoothing > 0.0 {
        let (plain, smoothed) = kind.smoothed_cross_entropy(logits, labels, label_smoothing);
        (per_row(plain), Some(per_row(smoothed)))
    } else {
        (per_row(kind.cross_entropy(logits, labels)), None)
    };
    let exact = correctness.exact.clone().float();
    ActLoss {
        lm,
        smoothed_lm,
        q_halt: binary_cross_entropy(output.q_halt.clone(), exact),
        q_continue: q_continue_target.map(|target| binary_cross_entropy(output.q_continue.clone(), target)),
        halt_weight,
        supervision_decay,
    }
}

/// Sums over the sequences of a segment that halted, as the original reports them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Metrics {
    /// Sequences that halted.
    pub count: f64,
    /// Sum of their cell accuracies.
    pub accuracy: f64,
    /// How many are right in every cell.
    pub exact_accuracy: f64,
    /// For how many the sign of `q_halt` tells exactness.
    pub q_halt_accuracy: f64,
    /// Sum of their segments.
    pub steps: f64,
    /// Sum over all rows of the cross-entropy.
    pub lm_loss: f64,
    /// Sum over all rows.
    pub q_halt_loss: f64,
    /// Sum over all rows; 0 in evaluation.
    pub q_continue_loss: f64,
    /// What is minimised, before division by the global batch, see [`ActLoss::total`].
    pub loss: f64,
    /// Sum over the sequences that halted of the chance of being right that `q_halt` promises.
    pub q_halt: f64,
}

impl std::ops::AddAssign for Metrics {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.accuracy += other.accuracy;
        self.exact_accuracy += other.exact_accuracy;
        self.q_halt_accuracy += other.q_halt_accuracy;
        self.steps += other.steps;
        self.lm_loss += other.lm_loss;
        self.q_halt_loss += other.q_halt_loss;
        self.q_continue_loss += other.q_continue_loss;
        self.loss += other.loss;
        self.q_halt += other.q_halt;
    }
}

impl Metrics {
    /// How many numbers [`tensor`](Self::tensor) has.
    pub const VALUES: usize = 10;
    /// Where [`tensor`](Self::tensor) has the loss.
    pub const LOSS: usize = 8;

    /// The metrics of a segment as one small tensor, to be read back when convenient: see
    /// [`from_values`](Self::from_values).
    ///
    /// # Shapes
    /// - `halted`, `steps`: `[batch]`; output: `[10]`
    pub fn tensor<B: Backend>(
        loss: &ActLoss<B>,
        correctness: &Correctness<B>,
        q_halt: Tensor<B, 1>,
        halted: Tensor<B, 1, Bool>,
        steps: Tensor<B, 1, Int>,
    ) -> Tensor<B, 1> {
        let counted = halted.bool_and(correctness.asked.clone());
        let weight = counted.clone().float();
        let says_exact = q_halt.clone().greater_equal_elem(0.0);
        let q_right = says_exact.equal(correctness.exact.clone()).bool_and(counted.clone());
        let sum = |mask: Tensor<B, 1, Bool>| mask.float().sum();
        Tensor::cat(
            vec![
                weight.clone().sum(),
                (correctness.cell_accuracy.clone() * weight.clone()).sum(),
                sum(correctness.exact.clone().bool_and(counted)),
                sum(q_right),
                (steps.clone().float() * weight.clone()).sum(),
                loss.lm.clone().sum(),
                loss.q_halt.clone().sum(),
                match &loss.q_continue {
                    Some(q_continue) => q_continue.clone().sum(),
                    None => Tensor::zeros([1], &loss.lm.device()),
                },
                loss.total(steps),
                (activation::sigmoid(q_halt) * weight).sum(),
            ],
            0,
        )
    }

    /// Reads the values of [`tensor`](Self::tensor), in order.
    pub fn from_values<E: burn::tensor::Element>(values: &[E]) -> Self {
        let mut values = values.iter().map(|v| v.elem::<f64>());
        let mut next = || values.next().unwrap_or(f64::NAN);
        Self {
            count: next(),
            accuracy: next(),
            exact_accuracy: next(),
            q_halt_accuracy: next(),
            steps: next(),
            lm_loss: next(),
            q_halt_loss: next(),
            q_continue_loss: next(),
            loss: next(),
            q_halt: next(),
        }
    }
}
