//! Random initial states and noise in the state (EqR, arXiv 2605.21488), drawn by [`hrm_infer::noise`].

use burn::tensor::{Int, Tensor};
use hrm_backend::HrmBackend;
use hrm_infer::noise::{Key, Noise};
use hrm_model::{
    Hrm,
    act::{Carry, PuzzleBatch},
};

/// Gives halted slots their puzzles and initial states, and all slots noise of a standard deviation. The step that follows
/// admits nobody else.
///
/// # Shapes
/// - `keys`: one for each slot
pub fn admit<B: HrmBackend>(
    noise: &Noise<B>,
    model: &Hrm<B>,
    carry: Carry<B>,
    batch: PuzzleBatch<B>,
    keys: &[Key],
    (chains, deviation): (usize, f32),
) -> Carry<B> {
    let carry = carry.admit_from(noise.initial_states(model, keys, chains), batch);
    let state = noise.add_to(carry.state, keys, &vec![deviation; keys.len()]);
    let halted = Tensor::<B, 1, Int>::zeros([keys.len()], &model.device()).bool();
    Carry { state, halted, ..carry }
}
