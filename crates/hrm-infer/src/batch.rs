//! The edge between rows of tokens and tensors.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use hrm_backend::HrmBackend;
use hrm_data::dataset::Batch;
use hrm_model::{
    Hrm,
    act::{Carry, PuzzleBatch},
};

use crate::Query;

/// A batch on a device.
pub fn to_device<B: Backend>(batch: &Batch, device: &B::Device) -> PuzzleBatch<B> {
    let tokens = |values: &[i32]| {
        TensorData::new(values.to_vec(), [batch.rows, batch.seq_len]).convert::<B::IntElem>()
    };
    let identifiers = TensorData::new(batch.puzzle_identifiers.clone(), [batch.rows]).convert::<B::IntElem>();
    PuzzleBatch {
        inputs: Tensor::from_data(tokens(&batch.inputs), device),
        labels: Tensor::from_data(tokens(&batch.labels), device),
        puzzle_identifiers: Tensor::from_data(identifiers, device),
    }
}

/// A carry at step 0.
pub(super) fn fresh<B: HrmBackend>(model: &Hrm<B>, queries: &[Query]) -> Carry<B> {
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

/// Positions as a tensor.
pub(super) fn index<B: Backend>(slots: &[usize], device: &B::Device) -> Tensor<B, 1, Int> {
    let index: Vec<i32> = slots.iter().map(|&slot| slot as i32).collect();
    Tensor::from_data(TensorData::new(index, [slots.len()]), device)
}

/// Tokens with other ones in a row.
///
/// # Shapes
/// - `tokens`: `[batch, seq_len]`; `row`: `[seq_len]`
pub(super) fn with_row<B: Backend>(tokens: Tensor<B, 2, Int>, at: usize, row: &[u8]) -> Tensor<B, 2, Int> {
    let row: Vec<i32> = row.iter().map(|&token| i32::from(token)).collect();
    let cells = tokens.dims()[1];
    let row = Tensor::from_data(TensorData::new(row, [1, cells]).convert::<B::IntElem>(), &tokens.device());
    tokens.slice_assign([at..at + 1, 0..cells], row)
}
