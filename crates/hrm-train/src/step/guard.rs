//! Steps whose loss or gradients are not finite change nothing: they are skipped, counted and explained.
//!
//! On the CPU a step's [`Vitals`] are read before its update, which costs nothing there. A GPU works behind the program,
//! which would have to wait at every step; there the update is computed in any case, and by a flag on the device it keeps the
//! old weights and moments ([`Guard::Mask`]). The program learns of it when it reads the metrics, and from then on waits
//! for each step until one is good again.

use std::path::PathBuf;

use burn::{backend::Autodiff, tensor::Tensor};
use hrm_backend::HrmBackend;
use hrm_model::{Hrm, diagnose::finite};
use serde::{Deserialize, Serialize};

use super::{Signs, Vitals};
use crate::optim::Optimizer;

/// How a bad step is kept from doing harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Its vitals are read before the update.
    Read,
    /// The update is computed and thrown away on the device, without waiting for it.
    Mask,
}

impl Guard {
    /// The one that does not wait for the device.
    pub const fn of<B: HrmBackend>() -> Self {
        if B::ASYNCHRONOUS { Self::Mask } else { Self::Read }
    }
}

/// Runs `update`, unless the step is bad: then model and optimizer stay as they are. Gives the vitals if they were read; if not, `update`
/// gets a flag, `[1]`, and keeps all that it would change where that is 0.
pub(super) fn guarded<B: HrmBackend>(
    model: Hrm<Autodiff<B>>,
    optimizer: &mut Optimizer<B>,
    vitals: &Vitals<B>,
    guard: Guard,
    update: impl FnOnce(Hrm<Autodiff<B>>, &mut Optimizer<B>, Option<&Tensor<B, 1>>) -> Hrm<Autodiff<B>>,
) -> (Hrm<Autodiff<B>>, Option<Signs>) {
    if guard == Guard::Read {
        let signs = vitals.read();
        let model = if signs.finite() { update(model, optimizer, None) } else { model };
        return (model, Some(signs));
    }
    let good = finite(vitals.values.clone()).all().float();
    (update(model, optimizer, Some(&good)), None)
}

/// The skipped steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Skipped {
    /// All of them.
    pub total: u64,
    /// The last ones, without a good step between them.
    pub in_a_row: u64,
}

impl Skipped {
    /// Counts a step.
    pub fn count(&mut self, good: bool) {
        if good {
            self.in_a_row = 0;
        } else {
            self.total += 1;
            self.in_a_row += 1;
        }
    }
}

/// What to do about a run that gave up.
pub(crate) fn advice(steps: u64, step: u64, why: &str, diagnostics: Option<&PathBuf>) -> String {
    let look = diagnostics
        .map(|path| format!(" The state is in {0}: hrm inspect checkpoint {0}.", path.display()))
        .unwrap_or_default();
    format!(
        "{steps} steps in a row, up to step {step}, had a loss or gradients that are not finite: {why}. The weights are \
         those of before them.{look} Start a new run with a lower train.lr, a longer train.lr_warmup_steps, \
         train.grad_clip = 1 or model.forward_dtype = \"f32\"; resuming repeats the same steps"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_step_ends_the_row() {
        let mut skipped = Skipped::default();
        for good in [false, false, true, false] {
            skipped.count(good);
        }
        assert_eq!(skipped, Skipped { total: 3, in_a_row: 1 });
    }
}
