//! Cross-entropies and the loss of an ACT segment.

use burn::tensor::{Bool, Int, Tensor, backend::Backend};
pub use hrm_backend::losses::{IGNORE_LABEL, log_stablemax};
use hrm_backend::{CellLoss, HrmBackend, Segment, SegmentWeights, losses, ops};
use serde::{Deserialize, Serialize};

use crate::SegmentOutput;

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
        self.smoothed_cross_entropy(logits, labels, 0.0).0
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
        // Each cell is a sequence.
        let labels = labels.unsqueeze_dim::<2>(1);
        let how = CellLoss { stablemax: self == Self::Stablemax, smoothing };
        let answers = ops::answers(logits.unsqueeze_dim::<3>(1), labels.clone(), labels, &how);
        (column(&answers, 0), column(&answers, 1))
    }
}

fn column<B: Backend>(answers: &Tensor<B, 2>, index: usize) -> Tensor<B, 1> {
    answers.clone().narrow(1, index, 1).squeeze_dim(1)
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

/// What the answers of a segment are worth, of each sequence.
#[derive(Debug, Clone)]
pub struct Answers<B: Backend>(Tensor<B, 2>);

impl<B: HrmBackend> Answers<B> {
    /// Those of a segment, with the labels that are right and those that the cross-entropy asks for ([`LossSettings::labels`]).
    ///
    /// # Shapes
    /// - `labels`, `asked`: `[batch, seq_len]`
    pub fn new(
        settings: &LossSettings,
        output: &SegmentOutput<B>,
        labels: Tensor<B, 2, Int>,
        asked: Tensor<B, 2, Int>,
    ) -> Self {
        let stablemax = settings.kind == LossKind::Stablemax;
        let how = CellLoss { stablemax, smoothing: settings.label_smoothing };
        Self(ops::answers(output.logits.clone(), labels, asked, &how))
    }

    /// The cross-entropy, averaged over the cells that are asked for, `[batch]`.
    pub fn lm(&self) -> Tensor<B, 1> {
        column(&self.0, 0)
    }

    /// 1 for sequences that are right in every cell that has a label (also those without any), else 0, `[batch]`.
    pub fn exact(&self) -> Tensor<B, 1> {
        column(&self.0, 3)
    }

    /// Without some rows, `[batch]`, for which no answer is right: they are not counted.
    #[must_use]
    pub fn without(self, rows: Tensor<B, 1, Bool>) -> Self {
        let flags = Tensor::<B, 1, Int>::arange(0..losses::ANSWERS as i64, &rows.device());
        let flags = flags.clone().equal_elem(3).bool_or(flags.equal_elem(4));
        let shape = self.0.shape();
        let rows = rows.unsqueeze_dim::<2>(1).expand(shape.clone());
        let flags = flags.unsqueeze_dim::<2>(0).expand(shape);
        Self(self.0.mask_fill(rows.bool_and(flags), 0.0))
    }
}

/// The loss of an ACT segment.
#[derive(Debug, Clone)]
pub struct ActLoss<B: Backend> {
    /// What the answers are worth.
    pub answers: Answers<B>,
    q_halt: Tensor<B, 1>,
    q_continue: Tensor<B, 1>,
    target: Option<Tensor<B, 1>>,
    weights: Option<Tensor<B, 1>>,
    how: SegmentWeights,
}

impl<B: HrmBackend> ActLoss<B> {
    /// Of a segment: `q_halt` against exactness, `q_continue` against its target, `[batch]`, which evaluation has none of.
    pub fn new(
        settings: &LossSettings,
        output: &SegmentOutput<B>,
        answers: Answers<B>,
        q_continue_target: Option<Tensor<B, 1>>,
    ) -> Self {
        Self {
            answers,
            q_halt: output.q_halt.clone(),
            q_continue: output.q_continue.clone(),
            target: q_continue_target,
            weights: None,
            how: SegmentWeights { halt: settings.halt_weight, decay: settings.supervision_decay },
        }
    }

    /// The same loss with a weight for each sequence, `[batch]`.
    #[must_use]
    pub fn weighted(self, weights: Tensor<B, 1>) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// What is minimised, after division by the global batch, `[1]`: the sum over the batch of
    /// `lm + halt_weight (q_halt + q_continue)`, with smoothed labels and weights of segments as the settings say. And the
    /// [`Metrics`] as one small tensor, `[10]`, to be read back when convenient.
    ///
    /// # Shapes
    /// - `halted`, `steps` (this segment counted): `[batch]`
    pub fn sums(self, halted: Tensor<B, 1, Bool>, steps: Tensor<B, 1, Int>) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let Self { answers: Answers(answers), q_halt, q_continue, target, weights, how } = self;
        let counted = halted.float();
        ops::act_loss(Segment { answers, q_halt, q_continue, target, weights, counted, steps }, &how)
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
    /// What is minimised, before division by the global batch, see [`ActLoss::sums`].
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
    /// How many numbers [`ActLoss::sums`] reports.
    pub const VALUES: usize = losses::METRICS;
    /// Where it has the loss.
    pub const LOSS: usize = 8;

    /// Reads the values that [`ActLoss::sums`] reports, in order.
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
