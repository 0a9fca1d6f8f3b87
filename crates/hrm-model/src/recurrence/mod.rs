//! How the modules take turns in a segment, and which of their updates get a gradient.
//!
//! A new variant is one file here and one value of [`RecurrenceKind`].

mod hierarchical;
mod tiny;
mod transformer;

use burn::tensor::{Tensor, backend::Backend};
use hrm_backend::{HrmBackend, ops};

use crate::{Hrm, RecurrenceKind, State, diagnose::Probe, layers::ReasoningModule};

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

/// What an update needs besides the state: the modules and the input.
pub struct Cell<'a, B: Backend> {
    pub(crate) model: &'a Hrm<B>,
    /// `[batch, total_len, hidden]`
    pub(crate) input: Tensor<B, 3>,
    probe: Option<&'a Probe>,
}

impl<'a, B: HrmBackend> Cell<'a, B> {
    /// A cell for the segments of one input.
    pub(crate) fn new(model: &'a Hrm<B>, input: Tensor<B, 3>) -> Self {
        Self { model, input, probe: None }
    }

    /// The same, watched by a probe.
    pub(crate) fn probed(model: &'a Hrm<B>, input: Tensor<B, 3>, probe: &'a Probe) -> Self {
        Self { probe: Some(probe), ..Self::new(model, input) }
    }

    /// High-level and low-level cycles.
    pub fn cycles(&self) -> (usize, usize) {
        (self.model.config().h_cycles, self.model.config().l_cycles)
    }

    /// A new `z_l` from `z_l`, `z_h` and the input.
    pub fn update_l(&self, state: &State<B>) -> Tensor<B, 3> {
        let injection = ops::add(state.z_h.clone(), self.input.clone());
        self.run("L_level", &self.model.l_level, state.z_l.clone(), injection)
    }

    /// A new `z_h` from `z_h` and `z_l`.
    pub fn update_h(&self, state: &State<B>) -> Tensor<B, 3> {
        let (level, module) = match &self.model.h_level {
            Some(module) => ("H_level", module),
            None => ("L_level", &self.model.l_level),
        };
        self.run(level, module, state.z_h.clone(), state.z_l.clone())
    }

    /// A new `z_h` from `z_h` and the input.
    pub fn update_alone(&self, state: &State<B>) -> Tensor<B, 3> {
        self.run("L_level", &self.model.l_level, state.z_h.clone(), self.input.clone())
    }

    fn run(
        &self,
        level: &str,
        module: &ReasoningModule<B>,
        z: Tensor<B, 3>,
        injection: Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let rotary = self.model.rotary.as_ref();
        match self.probe {
            None => module.forward(z, injection, rotary),
            Some(probe) => probe.forward(level, module, z + injection, rotary),
        }
    }
}
