use hrm_backend::HrmBackend;

use super::{Cell, Recurrence};
use crate::State;

/// A plain transformer under the same outer loop: `z_h = module(z_h + input)`, once a segment, with its gradient. The
/// baseline of the ARC Prize's analysis of HRM (arcprize.org/blog/hrm-analysis): no hierarchy and no inner cycles.
/// `z_l` stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct Transformer;

impl<B: HrmBackend> Recurrence<B> for Transformer {
    fn early_updates(&self, _: &Cell<'_, B>, state: State<B>) -> State<B> {
        state
    }

    fn last_updates(&self, cell: &Cell<'_, B>, mut state: State<B>) -> State<B> {
        state.z_h = cell.update_alone(&state);
        state
    }
}
