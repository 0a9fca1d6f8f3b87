use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{HrmBackend, ops};

use crate::init::Initializer;

use super::{Linear, RotaryTables};

/// Bidirectional multi-head self-attention with one projection for queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `[3 * hidden, hidden]`: queries, keys, values.
    pub qkv_proj: Linear<B>,
    /// `[hidden, hidden]`
    pub o_proj: Linear<B>,
    heads: usize,
}

impl<B: Backend> Attention<B> {
    /// `hidden` must be a multiple of `heads`.
    pub fn new(init: &mut Initializer<'_>, hidden: usize, heads: usize, device: &B::Device) -> Self {
        Self {
            qkv_proj: Linear::new(init, hidden, 3 * hidden, device),
            o_proj: Linear::new(init, hidden, hidden, device),
            heads,
        }
    }
}

impl<B: HrmBackend> Attention<B> {
    /// # Shapes
    /// - `x`, output: `[batch, seq, hidden]`
    pub fn forward(&self, x: Tensor<B, 3>, rotary: Option<&RotaryTables<B>>) -> Tensor<B, 3> {
        let [batch, seq, hidden] = x.dims();
        let qkv = self.qkv_proj.forward(x.reshape([batch * seq, hidden]));
        let rotary = rotary.map(|tables| (tables.cos.clone(), tables.sin.clone()));
        let out = ops::attention(qkv.reshape([batch, seq, 3 * hidden]), rotary, self.heads);
        self.o_proj.forward(out.reshape([batch * seq, hidden])).reshape([batch, seq, hidden])
    }
}
