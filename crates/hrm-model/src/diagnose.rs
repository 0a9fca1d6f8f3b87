//! Where in a model a number stopped being finite.

use std::{cell::RefCell, fmt};

use burn::{
    module::Param,
    tensor::{Bool, DType, Tensor, backend::Backend},
};
use hrm_backend::HrmBackend;

use crate::{
    Hrm,
    act::Carry,
    layers::{ReasoningModule, RotaryTables},
    named::{NamedVisitor, visit_named},
    recurrence::Cell,
};

/// What is larger than this is as good as infinite; fp32 ends at 3.4e38.
const LARGEST: f64 = 3e38;

/// Which elements are neither infinite nor not a number. A comparison, as GPUs may compute as if there were no NaN.
pub fn finite<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, D, Bool> {
    tensor.cast(DType::F32).abs().lower_equal_elem(LARGEST)
}

fn all_finite<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> bool {
    finite(tensor).all().into_data().iter::<bool>().all(|all| all)
}

/// The first thing in a segment that is not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NonFinite {
    /// A weight, by the original's name.
    Weight(String),
    /// The state that the segment started from.
    State,
    /// What a layer gave.
    Activation {
        /// The layer.
        layer: String,
        /// In which of the segment's updates, counted from 1; `None` outside of them.
        update: Option<usize>,
    },
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weight(name) => write!(f, "the weight {name} is not finite"),
            Self::State => write!(f, "the carried state is not finite"),
            Self::Activation { layer, update: None } => write!(f, "the output of {layer} is not finite"),
            Self::Activation { layer, update: Some(update) } => {
                write!(f, "the output of {layer} is not finite from update {update} of the segment on")
            }
        }
    }
}

/// Watches the updates of a segment.
#[derive(Debug, Default)]
pub(crate) struct Probe(RefCell<Progress>);

#[derive(Debug, Default)]
struct Progress {
    updates: usize,
    found: Option<NonFinite>,
}

impl Probe {
    /// As [`ReasoningModule::forward`], with a look at what each block gives.
    pub(crate) fn forward<B: HrmBackend>(
        &self,
        level: &str,
        module: &ReasoningModule<B>,
        input: Tensor<B, 3>,
        rotary: Option<&RotaryTables<B>>,
    ) -> Tensor<B, 3> {
        let mut progress = self.0.borrow_mut();
        progress.updates += 1;
        let update = Some(progress.updates);
        module.layers.iter().enumerate().fold(input, |x, (index, block)| {
            let x = block.forward(x, None, rotary);
            if progress.found.is_none() && !all_finite(x.clone()) {
                let layer = format!("{level}.layers.{index}");
                progress.found = Some(NonFinite::Activation { layer, update });
            }
            x
        })
    }
}

impl<B: HrmBackend> Hrm<B> {
    /// Looks for what is not finite in the segment that a carry is about to run: the weights first, then the state, then
    /// the layers in the order in which they compute. `None` if everything is finite.
    pub fn first_non_finite(&self, carry: &Carry<B>) -> Option<NonFinite> {
        let layer = |layer: &str| NonFinite::Activation { layer: layer.to_owned(), update: None };
        if let Some(name) = self.first_non_finite_weight() {
            return Some(NonFinite::Weight(name));
        }
        let Carry { state, batch, .. } = carry.clone();
        if !all_finite(state.z_h.clone()) || !all_finite(state.z_l.clone()) {
            return Some(NonFinite::State);
        }
        let rows = self.puzzle_rows(batch.puzzle_identifiers);
        let input = self.input_embeddings(batch.inputs, rows);
        if !all_finite(input.clone()) {
            return Some(layer("the input embedding"));
        }
        let probe = Probe::default();
        let recurrence = self.config().recurrence.of::<B>();
        let cell = Cell::probed(self, input, &probe);
        let state = recurrence.early_updates(&cell, state);
        let state = recurrence.last_updates(&cell, state);
        if let Some(found) = probe.0.into_inner().found {
            return Some(found);
        }
        let output = self.heads(state.z_h);
        if !all_finite(output.logits) {
            return Some(layer("lm_head"));
        }
        (!all_finite(output.q_halt) || !all_finite(output.q_continue)).then(|| layer("q_head"))
    }

    fn first_non_finite_weight(&self) -> Option<String> {
        struct Search(Option<String>);
        impl<B: Backend> NamedVisitor<B> for Search {
            fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>) {
                if self.0.is_none() && !all_finite(param.val()) {
                    self.0 = Some(name);
                }
            }
        }
        let mut search = Search(None);
        visit_named(self, &mut search);
        search.0
    }
}
