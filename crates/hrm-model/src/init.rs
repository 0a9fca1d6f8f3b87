//! Initial weights, drawn on the host.

use std::f64::consts::PI;

use burn::{
    module::{Param, ParamId},
    tensor::{Tensor, TensorData, backend::Backend},
};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Standard deviation of LeCun's initialisation: `1 / sqrt(fan_in)`.
pub fn lecun_std(fan_in: usize) -> f64 {
    (fan_in as f64).sqrt().recip()
}

/// Where initial weights come from.
pub struct Initializer<'a> {
    rng: Option<&'a mut dyn Rng>,
}

impl<'a> Initializer<'a> {
    /// Draws from a generator.
    pub fn random(rng: &'a mut dyn Rng) -> Self {
        Self { rng: Some(rng) }
    }

    /// Zeros: for a model whose weights are about to be loaded.
    pub fn zeros() -> Self {
        Self { rng: None }
    }

    /// Samples of a normal distribution truncated at two (corrected) standard deviations, whose standard
    /// deviation after truncation is `std`: the bounds are those of `comp_std = 1.1368472343 std`, as in JAX
    /// and in the original code.
    pub fn trunc_normal(&mut self, std: f64, count: usize) -> Vec<f32> {
        const BOUND: f64 = 2.0;
        const MASS: f64 = 0.954_499_736_103_641_6; // P(-2 < x < 2)
        let Some(rng) = &mut self.rng else {
            return vec![0.0; count];
        };
        let density = (-0.5 * BOUND * BOUND).exp() / (2.0 * PI).sqrt();
        let comp_std = std / (1.0 - 2.0 * BOUND * density / MASS).sqrt();
        let mut sample = || {
            loop {
                let x: f64 = StandardNormal.sample(rng);
                if x.abs() <= BOUND {
                    return (x * comp_std) as f32;
                }
            }
        };
        (0..count).map(|_| sample()).collect()
    }
}

/// A trainable parameter of truncated normal values.
pub fn trunc_normal_param<B: Backend, const D: usize>(
    init: &mut Initializer<'_>,
    std: f64,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    param(init.trunc_normal(std, shape.iter().product()), shape, device)
}

/// A trainable parameter of given values.
pub fn param<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::initialized(ParamId::new(), tensor.require_grad())
}

/// A saved but untrained parameter of given values.
pub fn buffer<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::initialized(ParamId::new(), tensor).set_require_grad(false)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn moments_match_the_reference() {
        // Measured on the original: shared/parity/components.json, trunc_normal.
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let n = 400_000;
        let x: Vec<f64> =
            Initializer::random(&mut rng).trunc_normal(0.125, n).into_iter().map(f64::from).collect();
        let mean = x.iter().sum::<f64>() / n as f64;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let kurtosis = x.iter().map(|v| (v - mean).powi(4)).sum::<f64>() / n as f64 / var / var;
        let bound = 2.0 * 1.136_847_234_338_556_5 * 0.125;
        let inside = x.iter().filter(|v| v.abs() < bound / 2.0).count() as f64 / n as f64;
        assert!(mean.abs() < 1e-3, "mean {mean}");
        assert!((var.sqrt() - 0.125).abs() < 5e-4, "std {}", var.sqrt());
        assert!((kurtosis - 2.365).abs() < 0.02, "kurtosis {kurtosis}");
        assert!((inside - 0.7150).abs() < 3e-3, "inside half the bound {inside}");
        assert!(x.iter().all(|v| v.abs() <= bound * (1.0 + 1e-6)));
    }
}
