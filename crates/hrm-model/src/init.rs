//! Initial weights, drawn on the host.

use std::f64::consts::{PI, SQRT_2};

use burn::{
    module::{Param, ParamId},
    tensor::{Tensor, TensorData, backend::Backend},
};
use rand::{Rng, RngExt};

/// Standard deviation of LeCun's initialisation: `1 / sqrt(fan_in)`.
pub fn lecun_std(fan_in: usize) -> f64 {
    (fan_in as f64).sqrt().recip()
}

/// Samples of a normal distribution truncated at two (corrected) standard deviations whose standard deviation
/// after truncation is `std`, as JAX and the original code draw them: uniform between the bounds' error
/// functions, mapped back, scaled by `comp_std = 1.1368472343 std`.
pub fn trunc_normal(rng: &mut impl Rng, std: f64, count: usize) -> Vec<f32> {
    const BOUND: f64 = 2.0;
    let edge = erf(BOUND / SQRT_2);
    let mass = edge; // P(-2 < x < 2)
    let density = (-0.5 * BOUND * BOUND).exp() / (2.0 * PI).sqrt();
    let comp_std = std / (1.0 - 2.0 * BOUND * density / mass).sqrt();
    (0..count)
        .map(|_| {
            let u = rng.random_range(-edge..edge);
            let x = SQRT_2 * inverse_erf(u) * comp_std;
            x.clamp(-BOUND * comp_std, BOUND * comp_std) as f32
        })
        .collect()
}

/// A trainable parameter of truncated normal values.
pub fn trunc_normal_param<B: Backend, const D: usize>(
    rng: &mut impl Rng,
    std: f64,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    param(trunc_normal(rng, std, shape.iter().product()), shape, device)
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

/// Error function by its Maclaurin series, exact to f64 for the |x| < 2 needed here.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        let add = term / (2 * n + 1) as f64;
        sum += add;
        if add.abs() < 1e-17 {
            break;
        }
    }
    2.0 / PI.sqrt() * sum
}

/// Inverse error function: Winitzki's approximation, then Newton's method to f64.
fn inverse_erf(y: f64) -> f64 {
    const A: f64 = 0.147;
    let log = (1.0 - y * y).ln();
    let t = 2.0 / (PI * A) + log / 2.0;
    let mut x = y.signum() * ((t * t - log / A).sqrt() - t).max(0.0).sqrt();
    for _ in 0..3 {
        x -= (erf(x) - y) / (2.0 / PI.sqrt() * (-x * x).exp());
    }
    x
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn inverse_erf_inverts() {
        for i in -95..=95 {
            let y = f64::from(i) / 100.0;
            assert!((erf(inverse_erf(y)) - y).abs() < 1e-14, "at {y}");
        }
    }

    #[test]
    fn moments_match_the_reference() {
        // Measured on the original: shared/parity/components.json, trunc_normal.
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let n = 400_000;
        let x: Vec<f64> = trunc_normal(&mut rng, 0.125, n).into_iter().map(f64::from).collect();
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
