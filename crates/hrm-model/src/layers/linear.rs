use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{HrmBackend, ops};

use crate::init::{Initializer, lecun_std, param, trunc_normal_param};

/// A projection with fp32 master weights that are cast to the input's type.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`, as PyTorch stores it.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`, only where the original has one (the q head).
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// Truncated LeCun normal weights, no bias.
    pub fn new(init: &mut Initializer<'_>, input: usize, output: usize, device: &B::Device) -> Self {
        let weight = trunc_normal_param(init, lecun_std(input), [output, input], device);
        Self { weight, bias: None }
    }

    /// Zero weights and a constant bias.
    pub fn constant(input: usize, output: usize, bias: f32, device: &B::Device) -> Self {
        Self {
            weight: param(vec![0.0; input * output], [output, input], device),
            bias: Some(param(vec![bias; output], [output], device)),
        }
    }
}

impl<B: HrmBackend> Linear<B> {
    /// # Shapes
    /// - `x`: `[rows, in]`; output: `[rows, out]`
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = x.dtype();
        let y = ops::linear(x, self.weight.val());
        match &self.bias {
            None => y,
            Some(bias) => y + bias.val().cast(dtype).unsqueeze(),
        }
    }
}
