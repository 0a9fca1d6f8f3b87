use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, backend::Backend},
};

use crate::init;

/// The sparse per-puzzle table. It is no parameter of the dense optimizer: a training step looks up the rows
/// of its batch, takes their gradient, and updates only those rows (sparse SignSGD).
#[derive(Module, Debug)]
pub struct PuzzleEmbedding<B: Backend> {
    /// `[identifiers, puzzle_emb_ndim]`, zero at first.
    pub weights: Param<Tensor<B, 2>>,
}

impl<B: Backend> PuzzleEmbedding<B> {
    /// A table of zeros.
    pub fn new(identifiers: usize, ndim: usize, device: &B::Device) -> Self {
        Self { weights: init::buffer(vec![0.0; identifiers * ndim], [identifiers, ndim], device) }
    }

    /// The rows of some puzzles.
    ///
    /// # Shapes
    /// - `identifiers`: `[batch]`; output: `[batch, puzzle_emb_ndim]`
    pub fn lookup(&self, identifiers: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        self.weights.val().select(0, identifiers)
    }
}

/// Rows as prefix tokens: zero-padded to a multiple of `hidden` and cut into `len` tokens.
///
/// # Shapes
/// - `rows`: `[batch, ndim]`; output: `[batch, len, hidden]`
pub(crate) fn prefix_tokens<B: Backend>(rows: Tensor<B, 2>, len: usize, hidden: usize) -> Tensor<B, 3> {
    let [batch, ndim] = rows.dims();
    let rows = if ndim == len * hidden {
        rows
    } else {
        let padding = Tensor::zeros([batch, len * hidden - ndim], (&rows.device(), rows.dtype()));
        Tensor::cat(vec![rows, padding], 1)
    };
    rows.reshape([batch, len, hidden])
}
