use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{HrmBackend, ops};

use super::{Attention, RotaryTables, SwiGlu};
use crate::{ModelConfig, init::Initializer};

/// A post-norm transformer block: `x = rms_norm(x + attention(x))`, `x = rms_norm(x + swiglu(x))`.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Attention over prefix and sequence.
    pub self_attn: Attention<B>,
    /// Feed-forward layer.
    pub mlp: SwiGlu<B>,
    eps: f64,
}

impl<B: Backend> Block<B> {
    /// A block of the configured sizes.
    pub fn new(config: &ModelConfig, init: &mut Initializer<'_>, device: &B::Device) -> Self {
        Self {
            self_attn: Attention::new(init, config.hidden_size, config.num_heads, device),
            mlp: SwiGlu::new(init, config.hidden_size, config.intermediate_size(), device),
            eps: config.rms_norm_eps,
        }
    }
}

impl<B: HrmBackend> Block<B> {
    /// # Shapes
    /// - `x`, output: `[batch, seq, hidden]`
    pub fn forward(&self, x: Tensor<B, 3>, rotary: Option<&RotaryTables<B>>) -> Tensor<B, 3> {
        let shape @ [batch, seq, hidden] = x.dims();
        let rows = [batch * seq, hidden];
        let attended = self.self_attn.forward(x.clone(), rotary);
        let x = ops::add_rms_norm(x.reshape(rows), attended.reshape(rows), self.eps);
        ops::add_rms_norm(x.clone(), self.mlp.forward(x), self.eps).reshape(shape)
    }
}
