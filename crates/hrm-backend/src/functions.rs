//! Elementary functions whose error does not depend on a GPU's driver.
//!
//! Vulkan, WebGPU and Metal let a driver be wrong by 4096 units in the last place in `atan2`, and by 2^-21 in the logarithm of
//! a number near 1, which is all of `log(1 + x)` for a small `x`; Mesa's `atan2` is off by 2e-5. And Burn's sigmoid, `exp(-log(1 +
//! exp(-x)))`, passes each error on through two more functions. What is here is made of `+ - * /`, which every driver rounds
//! correctly or nearly so, and `exp`. `tests/functions.rs` measures all of it on each backend.

use std::f64::consts::FRAC_PI_2;

use burn::tensor::{Tensor, backend::Backend};

use crate::HrmBackend;

/// `1 / (1 + exp(-x))`.
pub fn sigmoid<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    // exp(87) is still finite: beyond it, the derivative would be 0 * infinity.
    (x.clamp_min(-87.0).neg().exp() + 1.0).recip()
}

/// `log(1 + x)` for `x` in 0 to 1, with a small relative error however small `x` is.
pub fn log1p<B: HrmBackend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    if B::EXACT_FUNCTIONS { x.log1p() } else { series::log1p(x) }
}

/// The angle of the point `(x, y)` for `x >= 0`: `atan2(y, x)`, and 0 in the origin.
pub fn angle<B: HrmBackend, const D: usize>(y: Tensor<B, D>, x: Tensor<B, D>) -> Tensor<B, D> {
    if B::EXACT_FUNCTIONS {
        // Not every backend follows IEEE 754 in atan2(0, 0).
        let zero = y.clone().equal_elem(0.0);
        y.atan2(x).mask_fill(zero, 0.0)
    } else {
        series::angle(y, x)
    }
}

/// The versions for backends whose own functions are loose. They hold on every backend.
pub mod series {
    use super::*;

    /// See [`log1p`](super::log1p).
    pub fn log1p<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
        // log(1 + x) = 2 atanh(s) with s = x / (2 + x) in 0 to 1/3; its series s + s^3/3 + s^5/5 + ... to s^17.
        let s = x.clone() / (x + 2.0);
        let square = s.clone().square();
        let tail = horner(square, (1..=8).map(|k| 1.0 / f64::from(2 * k + 1)));
        (s.clone() + s * tail) * 2.0
    }

    /// See [`angle`](super::angle).
    pub fn angle<B: Backend, const D: usize>(y: Tensor<B, D>, x: Tensor<B, D>) -> Tensor<B, D> {
        // By masks, not by minimum and maximum, which on some devices drop a NaN that should show.
        let height = y.clone().abs();
        let steep = height.clone().greater(x.clone());
        let smaller = height.clone().mask_where(steep.clone(), x.clone());
        // In the origin the quotient is 0 over anything.
        let larger = x.mask_where(steep.clone(), height).clamp_min(f64::from(f32::MIN_POSITIVE));
        let t = smaller / larger;
        let tail = horner(t.clone().square(), ATAN);
        let angle = t.clone() + t * tail;
        let angle = angle.clone().mask_where(steep, angle.neg() + FRAC_PI_2);
        angle.clone().mask_where(y.lower_elem(0.0), angle.neg())
    }

    /// `(atan(t) / t - 1) / t^2` as a polynomial in `t^2` for `t` in 0 to 1, minimax by Remez's algorithm: atan is then right to
    /// 1.7e-8 of its value.
    const ATAN: [f64; 8] = [
        -0.33333152735503047,
        0.19993772828140238,
        -0.14211055286745894,
        0.10666004631876029,
        -0.07552214339336244,
        0.04321186191284914,
        -0.016367928880199202,
        0.0029206924951123087,
    ];

    /// `c0 x + c1 x^2 + c2 x^3 + ...`
    fn horner<B: Backend, const D: usize>(
        x: Tensor<B, D>,
        coefficients: impl IntoIterator<Item = f64, IntoIter: DoubleEndedIterator>,
    ) -> Tensor<B, D> {
        let mut coefficients = coefficients.into_iter().rev();
        let first = coefficients.next().unwrap_or_default();
        coefficients.fold(x.clone() * first, |sum, c| (sum + c) * x.clone())
    }
}
