//! Adaptive computation time (section 2, "ACT"): the carry between segments, halting, and its Q target.

use burn::tensor::{BasicOps, Bool, Int, Tensor, backend::Backend};
use hrm_backend::{HrmBackend, functions, ops};

use crate::{Hrm, ModelConfig, SegmentOutput, State, loss::IGNORE_LABEL};

/// The data of a batch of puzzles.
#[derive(Debug, Clone)]
pub struct PuzzleBatch<B: Backend> {
    /// Tokens, `[batch, seq_len]`.
    pub inputs: Tensor<B, 2, Int>,
    /// Tokens, [`IGNORE_LABEL`] where none is asked for, `[batch, seq_len]`.
    pub labels: Tensor<B, 2, Int>,
    /// Rows of the puzzle embedding, `[batch]`.
    pub puzzle_identifiers: Tensor<B, 1, Int>,
}

impl<B: Backend> PuzzleBatch<B> {
    /// `len` rows from row `start` on.
    pub fn rows(&self, start: usize, len: usize) -> Self {
        Self {
            inputs: self.inputs.clone().narrow(0, start, len),
            labels: self.labels.clone().narrow(0, start, len),
            puzzle_identifiers: self.puzzle_identifiers.clone().narrow(0, start, len),
        }
    }

    /// The rows at some positions, in their order.
    ///
    /// # Shapes
    /// - `rows`: any number of positions
    pub fn select(self, rows: Tensor<B, 1, Int>) -> Self {
        Self {
            inputs: self.inputs.select(0, rows.clone()),
            labels: self.labels.select(0, rows.clone()),
            puzzle_identifiers: self.puzzle_identifiers.select(0, rows),
        }
    }

    /// The rows of all parts, in order.
    pub fn cat(parts: Vec<Self>) -> Self {
        Self {
            inputs: cat(&parts, |part| part.inputs.clone()),
            labels: cat(&parts, |part| part.labels.clone()),
            puzzle_identifiers: cat(&parts, |part| part.puzzle_identifiers.clone()),
        }
    }
}

/// What lives from one segment to the next: one slot per sequence, each at its own step.
#[derive(Debug, Clone)]
pub struct Carry<B: Backend> {
    /// The recurrent states.
    pub state: State<B>,
    /// Segments run so far, `[batch]`.
    pub steps: Tensor<B, 1, Int>,
    /// Slots that are done and take a new puzzle at the next [`admit`](Self::admit), `[batch]`.
    pub halted: Tensor<B, 1, Bool>,
    /// The puzzles that the slots work on.
    pub batch: PuzzleBatch<B>,
}

impl<B: Backend> Carry<B> {
    /// `len` slots from slot `start` on.
    pub fn rows(&self, start: usize, len: usize) -> Self {
        Self {
            state: State {
                z_h: self.state.z_h.clone().narrow(0, start, len),
                z_l: self.state.z_l.clone().narrow(0, start, len),
            },
            steps: self.steps.clone().narrow(0, start, len),
            halted: self.halted.clone().narrow(0, start, len),
            batch: self.batch.rows(start, len),
        }
    }

    /// The slots at some positions, in their order.
    ///
    /// # Shapes
    /// - `slots`: any number of positions
    pub fn select(self, slots: Tensor<B, 1, Int>) -> Self {
        Self {
            state: State {
                z_h: self.state.z_h.select(0, slots.clone()),
                z_l: self.state.z_l.select(0, slots.clone()),
            },
            steps: self.steps.select(0, slots.clone()),
            halted: self.halted.int().select(0, slots.clone()).bool(),
            batch: self.batch.select(slots),
        }
    }

    /// The slots of all parts, in order.
    pub fn cat(parts: Vec<Self>) -> Self {
        Self {
            state: State {
                z_h: cat(&parts, |part| part.state.z_h.clone()),
                z_l: cat(&parts, |part| part.state.z_l.clone()),
            },
            steps: cat(&parts, |part| part.steps.clone()),
            halted: cat(&parts, |part| part.halted.clone()),
            batch: PuzzleBatch::cat(parts.into_iter().map(|part| part.batch).collect()),
        }
    }
}

impl<B: HrmBackend> Carry<B> {
    /// A carry at step 0 on some puzzles without known answers: the start of inference.
    ///
    /// # Shapes
    /// - `inputs`: `[batch, seq_len]`; `puzzle_identifiers`: `[batch]`
    pub fn fresh(model: &Hrm<B>, inputs: Tensor<B, 2, Int>, puzzle_identifiers: Tensor<B, 1, Int>) -> Self {
        let labels = inputs.full_like(IGNORE_LABEL);
        let [batch, _] = inputs.dims();
        model.empty_carry(batch).admit(model, PuzzleBatch { inputs, labels, puzzle_identifiers })
    }

    /// Gives every halted slot its row of `batch`, the initial state and step 0. Rows offered to running
    /// slots are discarded.
    pub fn admit(self, model: &Hrm<B>, batch: PuzzleBatch<B>) -> Self {
        let [slots] = self.halted.dims();
        self.admit_from(model.initial_state(slots), batch)
    }

    /// As [`admit`](Self::admit), from other initial states, one for each slot.
    pub fn admit_from(self, initial: State<B>, batch: PuzzleBatch<B>) -> Self {
        let halted = self.halted;
        let replace_rows = |old: Tensor<B, 2, Int>, new: Tensor<B, 2, Int>| {
            let mask = halted.clone().reshape([-1, 1]).expand(old.shape());
            old.mask_where(mask, new)
        };
        Self {
            state: State {
                z_h: ops::replace_rows(self.state.z_h, halted.clone(), initial.z_h),
                z_l: ops::replace_rows(self.state.z_l, halted.clone(), initial.z_l),
            },
            steps: self.steps.mask_fill(halted.clone(), 0),
            batch: PuzzleBatch {
                inputs: replace_rows(self.batch.inputs, batch.inputs),
                labels: replace_rows(self.batch.labels, batch.labels),
                puzzle_identifiers: self
                    .batch
                    .puzzle_identifiers
                    .mask_where(halted.clone(), batch.puzzle_identifiers),
            },
            halted,
        }
    }
}

/// One tensor of each part, one after the other along the batch.
fn cat<B: Backend, T, const D: usize, K: BasicOps<B>>(
    parts: &[T],
    of: impl Fn(&T) -> Tensor<B, D, K>,
) -> Tensor<B, D, K> {
    Tensor::cat(parts.iter().map(of).collect(), 0)
}

/// Which sequences stop after a training segment: at the last step, or where halting is worth more than going
/// on (than 0 with `no_act_continue`, and with `conflict` also where the givens contradict each other), but (exploration) not before a sequence's minimum number of steps.
///
/// # Shapes
/// - `steps` (this segment counted), `q_halt`, `q_continue`, `min_steps`: `[batch]`
/// - output: stopped, and which are at the last step
pub fn halt<B: Backend>(
    config: &ModelConfig,
    steps: Tensor<B, 1, Int>,
    q_halt: Tensor<B, 1>,
    q_continue: Tensor<B, 1>,
    min_steps: Option<Tensor<B, 1, Int>>,
) -> (Tensor<B, 1, Bool>, Tensor<B, 1, Bool>) {
    let last = steps.clone().greater_equal_elem(config.halt_max_steps as i64);
    if config.halt_max_steps <= 1 {
        return (last.clone(), last);
    }
    let wants = match config.no_act_continue {
        true if config.conflict => q_halt.max_pair(q_continue).greater_elem(0.0),
        true => q_halt.greater_elem(0.0),
        false => q_halt.greater(q_continue),
    };
    let halted = last.clone().bool_or(wants);
    let halted = match min_steps {
        None => halted,
        Some(min_steps) => halted.bool_and(steps.greater_equal(min_steps)),
    };
    (halted, last)
}

/// The target of `q_continue`: the value of the better action after one more segment, or of halting where
/// there is no choice left.
///
/// # Shapes
/// - all: `[batch]`
pub fn q_continue_target<B: Backend>(next: &SegmentOutput<B>, last: Tensor<B, 1, Bool>) -> Tensor<B, 1> {
    let better = next.q_halt.clone().max_pair(next.q_continue.clone());
    functions::sigmoid(better.mask_where(last, next.q_halt.clone()))
}
