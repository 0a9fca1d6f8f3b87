//! Exploration of ACT (section 2): some sequences must think for a random number of segments before they may halt.

use std::ops::Range;

use hrm_model::ModelConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Minimum numbers of segments in a step of the slots `own` of all `slots`, a function of the seed, the step and the slot;
/// `None` if no slot ever has one. With `fixed_steps`, all slots run to the last segment.
pub fn min_steps(
    config: &ModelConfig,
    fixed_steps: bool,
    (seed, step): (u64, u64),
    slots: usize,
    own: Range<usize>,
) -> Option<Vec<i32>> {
    let explores_ever = config.halt_exploration_prob > 0.0 || fixed_steps;
    if !explores_ever || config.halt_max_steps < 2 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    let draws: Vec<i32> = (0..slots)
        .map(|_| {
            let explores = rng.random_bool(config.halt_exploration_prob);
            let steps = rng.random_range(2..=config.halt_max_steps as i32);
            match (fixed_steps, explores) {
                (true, _) => config.halt_max_steps as i32,
                (false, true) => steps,
                (false, false) => 0,
            }
        })
        .collect();
    Some(draws[own].to_vec())
}
