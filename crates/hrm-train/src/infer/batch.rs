//! The carry of a changing set of attempts.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use hrm_model::{
    Hrm, State,
    act::{Carry, PuzzleBatch},
};

use super::Query;

/// A carry at step 0.
pub(super) fn fresh<B: Backend>(model: &Hrm<B>, queries: &[Query]) -> Carry<B> {
    let device = model.device();
    let tokens: Vec<i32> = queries.iter().flat_map(|q| &q.tokens).map(|&t| i32::from(t)).collect();
    let identifiers: Vec<i32> = queries.iter().map(|q| q.identifier as i32).collect();
    let shape = [queries.len(), model.config().seq_len];
    Carry::fresh(
        model,
        Tensor::from_data(TensorData::new(tokens, shape), &device),
        Tensor::from_data(TensorData::new(identifiers, [queries.len()]), &device),
    )
}

/// The slots of a carry at some positions.
pub(super) fn keep<B: Backend>(carry: Carry<B>, slots: &[usize]) -> Carry<B> {
    let index = index(slots, &carry.steps.device());
    Carry {
        state: State {
            z_h: carry.state.z_h.select(0, index.clone()),
            z_l: carry.state.z_l.select(0, index.clone()),
        },
        steps: carry.steps.select(0, index.clone()),
        halted: carry.halted.int().select(0, index.clone()).bool(),
        batch: PuzzleBatch {
            inputs: carry.batch.inputs.select(0, index.clone()),
            labels: carry.batch.labels.select(0, index.clone()),
            puzzle_identifiers: carry.batch.puzzle_identifiers.select(0, index),
        },
    }
}

/// The slots of one carry, then those of another.
pub(super) fn join<B: Backend>(one: Carry<B>, other: Carry<B>) -> Carry<B> {
    Carry {
        state: State {
            z_h: Tensor::cat(vec![one.state.z_h, other.state.z_h], 0),
            z_l: Tensor::cat(vec![one.state.z_l, other.state.z_l], 0),
        },
        steps: Tensor::cat(vec![one.steps, other.steps], 0),
        halted: Tensor::cat(vec![one.halted.int(), other.halted.int()], 0).bool(),
        batch: PuzzleBatch {
            inputs: Tensor::cat(vec![one.batch.inputs, other.batch.inputs], 0),
            labels: Tensor::cat(vec![one.batch.labels, other.batch.labels], 0),
            puzzle_identifiers: Tensor::cat(
                vec![one.batch.puzzle_identifiers, other.batch.puzzle_identifiers],
                0,
            ),
        },
    }
}

/// Positions as a tensor.
pub(super) fn index<B: Backend>(slots: &[usize], device: &B::Device) -> Tensor<B, 1, Int> {
    let index: Vec<i32> = slots.iter().map(|&slot| slot as i32).collect();
    Tensor::from_data(TensorData::new(index, [slots.len()]), device)
}
