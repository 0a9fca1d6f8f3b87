use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{HrmBackend, ops};

use crate::init::Initializer;

use super::Linear;

/// Gated feed-forward layer (Shazeer 2020, arXiv 2002.05202): `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct SwiGlu<B: Backend> {
    /// `[2 * inter, hidden]`: gate, then up.
    pub gate_up_proj: Linear<B>,
    /// `[hidden, inter]`
    pub down_proj: Linear<B>,
}

impl<B: Backend> SwiGlu<B> {
    /// `inter` is the width between the projections.
    pub fn new(init: &mut Initializer<'_>, hidden: usize, inter: usize, device: &B::Device) -> Self {
        Self {
            gate_up_proj: Linear::new(init, hidden, 2 * inter, device),
            down_proj: Linear::new(init, inter, hidden, device),
        }
    }
}

impl<B: HrmBackend> SwiGlu<B> {
    /// # Shapes
    /// - `x`, output: `[rows, hidden]`
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = self.gate_up_proj.weight.val().cast(x.dtype());
        self.down_proj.forward(ops::linear_swiglu(x, weight))
    }
}
