use hrm_backend::HrmBackend;

use super::{Cell, Recurrence};
use crate::State;

/// TRM (arXiv 2510.04871, figure 3): one module in both roles, `h_cycles` cycles of `l_cycles` updates of `z_l` (the
/// latent) and one of `z_h` (the answer). The whole last cycle gets a gradient.
#[derive(Debug, Clone, Copy)]
pub struct Tiny;

impl<B: HrmBackend> Recurrence<B> for Tiny {
    fn early_updates(&self, cell: &Cell<'_, B>, state: State<B>) -> State<B> {
        let (h_cycles, _) = cell.cycles();
        (1..h_cycles).fold(state, |state, _| cycle(cell, state))
    }

    fn last_updates(&self, cell: &Cell<'_, B>, state: State<B>) -> State<B> {
        cycle(cell, state)
    }
}

fn cycle<B: HrmBackend>(cell: &Cell<'_, B>, mut state: State<B>) -> State<B> {
    let (_, l_cycles) = cell.cycles();
    for _ in 0..l_cycles {
        state.z_l = cell.update_l(&state);
    }
    state.z_h = cell.update_h(&state);
    state
}
