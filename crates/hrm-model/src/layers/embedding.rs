use burn::{
    module::{Module, Param},
    tensor::{DType, Int, Tensor, backend::Backend},
};
use hrm_backend::{HrmBackend, ops};

use crate::init::{Initializer, lecun_std, trunc_normal_param};

/// A table of vectors, one per token (or per position).
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[entries, width]`.
    pub embedding_weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> Embedding<B> {
    /// Truncated normal entries of standard deviation `1 / sqrt(width)`.
    pub fn new(init: &mut Initializer<'_>, entries: usize, width: usize, device: &B::Device) -> Self {
        let std = lecun_std(width);
        Self { embedding_weight: trunc_normal_param(init, std, [entries, width], device) }
    }
}

impl<B: HrmBackend> Embedding<B> {
    /// The vectors of some tokens, in `dtype`.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, seq]`; output: `[batch, seq, width]`
    pub fn forward(&self, tokens: Tensor<B, 2, Int>, dtype: DType) -> Tensor<B, 3> {
        let [batch, seq] = tokens.dims();
        let table = self.embedding_weight.val();
        let width = table.dims()[1];
        ops::embedding(table, tokens.reshape([batch * seq]), dtype).reshape([batch, seq, width])
    }
}
