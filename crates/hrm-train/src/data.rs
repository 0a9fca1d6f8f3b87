//! The edge between plain data and tensors, and the data sets that a recipe names.

use std::{path::Path, sync::Arc};

use burn::tensor::{Tensor, TensorData, backend::Backend};
use hrm_data::dataset::Batch;
use hrm_model::act::PuzzleBatch;

/// A batch on a device.
pub fn to_device<B: Backend>(batch: &Batch, device: &B::Device) -> PuzzleBatch<B> {
    let tokens =
        |values: &[i32]| TensorData::new(values.to_vec(), [batch.rows, batch.seq_len]).convert::<B::IntElem>();
    let identifiers =
        TensorData::new(batch.puzzle_identifiers.clone(), [batch.rows]).convert::<B::IntElem>();
    PuzzleBatch {
        inputs: Tensor::from_data(tokens(&batch.inputs), device),
        labels: Tensor::from_data(tokens(&batch.labels), device),
        puzzle_identifiers: Tensor::from_data(identifiers, device),
    }
}
