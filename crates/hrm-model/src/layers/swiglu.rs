use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{HrmBackend, ops};

use crate::{GatedUnit, ModelConfig, init::Initializer};

use super::Linear;

/// Gated feed-forward layer (Shazeer 2020, arXiv 2002.05202): `down(silu(gate(x)) * up(x))`, or with another
/// [`GatedUnit`] between the projections.
#[derive(Module, Debug)]
pub struct SwiGlu<B: Backend> {
    /// `[2 * inter, hidden]`: gate, then up.
    pub gate_up_proj: Linear<B>,
    /// `[hidden, inter]`
    pub down_proj: Linear<B>,
    #[module(skip)]
    unit: GatedUnit,
    eps: f64,
}

impl<B: Backend> SwiGlu<B> {
    /// A layer on vectors of `width`.
    pub fn new(config: &ModelConfig, width: usize, init: &mut Initializer<'_>, device: &B::Device) -> Self {
        let inter = config.swiglu_width(width);
        Self {
            gate_up_proj: Linear::new(init, width, 2 * inter, device),
            down_proj: Linear::new(init, inter, width, device),
            unit: config.gated_unit,
            eps: config.rms_norm_eps,
        }
    }
}

impl<B: HrmBackend> SwiGlu<B> {
    /// # Shapes
    /// - `x`, output: `[rows, width]`
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.down_proj.forward(match self.unit {
            GatedUnit::Swiglu => ops::linear_swiglu(x, self.gate_up_proj.weight.val()),
            GatedUnit::NormedSwiglu => ops::normed_swiglu(self.gate_up_proj.forward(x), self.eps),
        })
    }
}
