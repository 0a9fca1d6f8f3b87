//! Winner takes all (SiC, arXiv 2601.19085): several chains from different initial states work on each puzzle, and the
//! loss goes through the one that is best. At inference one chain does.
//!
//! Chains of a puzzle stand side by side: slot `puzzle * chains + chain`. They share their halting, which the winner decides,
//! and the winner's `z_h`; each keeps its own `z_l`, so that they go on differing.

use burn::{
    backend::Autodiff,
    tensor::{Bool, Int, Tensor, backend::Backend},
};
use hrm_backend::HrmBackend;
use hrm_model::{State, act::PuzzleBatch, loss::ActLoss};

/// A segment after its chains have been compared.
#[derive(Debug)]
pub(super) struct Judged<B: HrmBackend> {
    /// Of the winners; the other chains have none.
    pub act_loss: ActLoss<Autodiff<B>>,
    pub state: State<B>,
    /// Slots whose puzzle is done, `[puzzles * chains]`.
    pub halted: Tensor<B, 1, Bool>,
    /// Of these the slots that metrics count: one for each puzzle, `[puzzles * chains]`.
    pub counted: Tensor<B, 1, Bool>,
}

/// Lets the winner of each puzzle's chains decide; with one chain for each puzzle, all win.
pub(super) fn judge<B: HrmBackend>(
    chains: usize,
    act_loss: ActLoss<Autodiff<B>>,
    state: State<B>,
    halted: Tensor<B, 1, Bool>,
) -> Judged<B> {
    let Some(winners) = winners(act_loss.answers.lm().inner(), chains) else {
        return Judged { act_loss, state, counted: halted.clone(), halted };
    };
    let halted = winners.share(halted);
    Judged {
        act_loss: act_loss.weighted(Tensor::from_inner(winners.mask.clone())),
        state: winners.share_state(state),
        counted: halted.clone().bool_and(winners.mask.greater_elem(0.5)),
        halted,
    }
}

/// The winner of each puzzle.
#[derive(Debug, Clone)]
struct Winners<B: Backend> {
    /// 1 for the slot of the winner, 0 for others, `[puzzles * chains]`.
    mask: Tensor<B, 1>,
    /// The slot of the winner of each slot's puzzle, `[puzzles * chains]`.
    slots: Tensor<B, 1, Int>,
}

/// The winners by loss, the first of equal ones; `None` if there is one chain only.
///
/// # Shapes
/// - `losses`: `[puzzles * chains]`
fn winners<B: Backend>(losses: Tensor<B, 1>, chains: usize) -> Option<Winners<B>> {
    if chains == 1 {
        return None;
    }
    let [slots] = losses.dims();
    let device = losses.device();
    let best = losses.reshape([slots / chains, chains]).argmin(1); // [puzzles, 1]
    let first = Tensor::<B, 1, Int>::arange(0..(slots / chains) as i64, &device) * chains as i64;
    let best = best.squeeze_dim::<1>(1) + first;
    let winners = spread_steps(best, chains);
    let mask = winners.clone().equal(Tensor::arange(0..slots as i64, &device)).float();
    Some(Winners { mask, slots: winners })
}

impl<B: Backend> Winners<B> {
    /// What holds for the winner, for all chains of its puzzle.
    fn share(&self, of_slots: Tensor<B, 1, Bool>) -> Tensor<B, 1, Bool> {
        of_slots.int().select(0, self.slots.clone()).greater_elem(0)
    }

    /// The winner's `z_h` for all chains of its puzzle.
    fn share_state(&self, state: State<B>) -> State<B> {
        State { z_h: state.z_h.select(0, self.slots.clone()), z_l: state.z_l }
    }
}

/// Each puzzle of a batch once for each chain.
pub fn spread<B: Backend>(batch: PuzzleBatch<B>, chains: usize) -> PuzzleBatch<B> {
    if chains == 1 {
        return batch;
    }
    PuzzleBatch {
        inputs: repeat(batch.inputs, chains),
        labels: repeat(batch.labels, chains),
        puzzle_identifiers: spread_steps(batch.puzzle_identifiers, chains),
    }
}

/// Each number once for each chain.
pub fn spread_steps<B: Backend>(steps: Tensor<B, 1, Int>, chains: usize) -> Tensor<B, 1, Int> {
    if chains == 1 {
        return steps;
    }
    repeat(steps.unsqueeze_dim::<2>(1), chains).squeeze_dim::<1>(1)
}

/// Each row `chains` times in a row.
fn repeat<B: Backend>(rows: Tensor<B, 2, Int>, chains: usize) -> Tensor<B, 2, Int> {
    let [puzzles, width] = rows.dims();
    rows.unsqueeze_dim::<3>(1).repeat_dim(1, chains).reshape([puzzles * chains, width])
}

#[cfg(test)]
mod tests {
    use hrm_testing::for_each_backend;

    use super::*;

    for_each_backend!(the_best_chain_of_each_puzzle_wins,);

    fn the_best_chain_of_each_puzzle_wins<B: HrmBackend>() {
        let device = B::Device::default();
        let losses = Tensor::<B, 1>::from_floats([3.0, 1.0, 2.0, 5.0, 5.0, 9.0], &device);
        assert!(winners(losses.clone(), 1).is_none());
        let winners = winners(losses, 3).unwrap_or_else(|| panic!("three chains"));
        let mask: Vec<f32> = winners.mask.to_data().iter().collect();
        assert_eq!(mask, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        let halted = Tensor::<B, 1>::from_floats([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], &device).greater_elem(0.5);
        let shared: Vec<f32> = winners.share(halted).float().to_data().iter().collect();
        assert_eq!(shared, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let z = Tensor::<B, 1>::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &device).reshape([6, 1, 1]);
        let state = winners.share_state(State { z_h: z.clone(), z_l: z });
        let values = |z: Tensor<B, 3>| z.to_data().iter().collect::<Vec<f32>>();
        assert_eq!(values(state.z_h), [1.0, 1.0, 1.0, 3.0, 3.0, 3.0]);
        assert_eq!(values(state.z_l), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let steps = Tensor::<B, 1, Int>::from_ints([7, 8], &device);
        let spread: Vec<i64> = spread_steps(steps, 3).to_data().iter().collect();
        assert_eq!(spread, [7, 7, 7, 8, 8, 8]);
    }
}
