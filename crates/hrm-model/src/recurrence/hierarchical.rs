use hrm_backend::HrmBackend;

use super::{Cell, Recurrence};
use crate::State;

/// HRM (arXiv 2506.21734, section 2): `h_cycles` times `l_cycles` updates of `z_l` by the low-level module and one of
/// `z_h` by the high-level module. Only the last update of each gets a gradient.
#[derive(Debug, Clone, Copy)]
pub struct Hierarchical;

impl<B: HrmBackend> Recurrence<B> for Hierarchical {
    fn early_updates(&self, cell: &Cell<'_, B>, mut state: State<B>) -> State<B> {
        let (h_cycles, l_cycles) = cell.cycles();
        for h in 1..=h_cycles {
            for l in 1..=l_cycles {
                if (h, l) != (h_cycles, l_cycles) {
                    state.z_l = cell.update_l(&state);
                }
            }
            if h != h_cycles {
                state.z_h = cell.update_h(&state);
            }
        }
        state
    }

    fn last_updates(&self, cell: &Cell<'_, B>, mut state: State<B>) -> State<B> {
        state.z_l = cell.update_l(&state);
        state.z_h = cell.update_h(&state);
        state
    }
}
