//! How the modules take turns in a segment, and which of their updates get a gradient.
//!
//! A new variant is one file here and one value of [`RecurrenceKind`].

mod hierarchical;
mod tiny;
mod transformer;

use burn::tensor::{Tensor, backend::Backend};
use hrm_backend::HrmBackend;

use crate::{Hrm, RecurrenceKind, State, layers::RotaryTables};

pub use hierarchical::Hierarchical;
pub use tiny::Tiny;
pub use transformer::Transformer;

/// The updates of a segment in two parts: those that are only computed, and those that are differentiated.
pub trait Recurrence<B: HrmBackend> {
    /// The first updates, which get no gradient: training runs them without automatic differentiation.
    fn early_updates(&self, cell: &Cell<'_, B>, state: State<B>) -> State<B>;

    /// The last updates, which training differentiates.
    fn last_updates(&self, cell: &Cell<'_, B>, state: State<B>) -> State<B>;
}

impl RecurrenceKind {
    /// The recurrence of a kind.
    pub fn of<B: HrmBackend>(self) -> &'static dyn Recurrence<B> {
        match self {
            Self::Hrm => &Hierarchical,
            Self::Trm => &Tiny,
            Self::Transformer => &Transformer,
        }
    }
}

/// What an update needs besides the state: the modules, the input, the positions.
pub struct Cell<'a, B: Backend> {
    pub(crate) model: &'a Hrm<B>,
    /// `[batch, total_len, hidden]`
    pub(crate) input: Tensor<B, 3>,
    pub(crate) rotary: Option<RotaryTables<B>>,
}

impl<'a, B: HrmBackend> Cell<'a, B> {
    /// A cell for the segments of one input.
    pub(crate) fn new(model: &'a Hrm<B>, input: Tensor<B, 3>) -> Self {
        Self { model, input, rotary: model.rotary() }
    }

    /// High-level and low-level cycles.
    pub fn cycles(&self) -> (usize, usize) {
        (self.model.config().h_cycles, self.model.config().l_cycles)
    }

    /// A new `z_l` from `z_l`, `z_h` and the input.
    pub fn update_l(&self, state: &State<B>) -> Tensor<B, 3> {
        let injection = state.z_h.clone() + self.input.clone();
        self.model.l_level.forward(state.z_l.clone(), injection, self.rotary.as_ref())
    }

    /// A new `z_h` from `z_h` and `z_l`.
    pub fn update_h(&self, state: &State<B>) -> Tensor<B, 3> {
        let module = self.model.h_level.as_ref().unwrap_or(&self.model.l_level);
        module.forward(state.z_h.clone(), state.z_l.clone(), self.rotary.as_ref())
    }

    /// A new `z_h` from `z_h` and the input.
    pub fn update_alone(&self, state: &State<B>) -> Tensor<B, 3> {
        self.model.l_level.forward(state.z_h.clone(), self.input.clone(), self.rotary.as_ref())
    }
}
