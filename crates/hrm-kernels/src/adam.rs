//! The AdamATan2 optimizer's update.

use crate::math::atan2_right;
use crate::scratch::{Shared, for_each_range};
use crate::simd::{GemmSimd, Isa, Kernel, dispatch};
use std::ops::Range;

/// The constants of one AdamATan2 update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamAtan2Step {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

/// One update in place:
/// `p *= 1 - lr wd; m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v); p -= lr / (1 - b1^t) atan2(m, sqrt(v) / sqrt(1 - b2^t))`.
///
/// # Shapes
/// `p`, `g`, `m`, `v` all of one length
pub fn adam_atan2_step(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    AdamAtan2Step { lr, beta1, beta2, weight_decay, step }: AdamAtan2Step,
) {
    let isa = Isa::best();
    let len = p.len();
    assert!(
        g.len() == len && m.len() == len && v.len() == len,
        "adam_atan2_step: p has {len} floats, g {}, m {}, v {}",
        g.len(),
        m.len(),
        v.len()
    );
    assert!(step > 0, "adam_atan2_step: steps count from 1");
    let t = step as f64;
    let (p, m, v) = (Shared::new(p), Shared::new(m), Shared::new(v));
    for_each_range(len.div_ceil(16), 16 * 4, |blocks| {
        let range = blocks.start * 16..len.min(blocks.end * 16);
        dispatch(
            isa,
            Step {
                p,
                g,
                m,
                v,
                range,
                keep: (1.0 - lr * weight_decay) as f32,
                to_m: (1.0 - beta1) as f32,
                to_v: (1.0 - beta2) as f32,
                rate: (lr / (1.0 - beta1.powf(t))) as f32,
                root: (1.0 / (1.0 - beta2.powf(t)).sqrt()) as f32,
            },
        );
    });
}

struct Step<'a> {
    p: Shared<f32>,
    g: &'a [f32],
    m: Shared<f32>,
    v: Shared<f32>,
    range: Range<usize>,
    keep: f32,
    to_m: f32,
    to_v: f32,
    rate: f32,
    root: f32,
}

impl Kernel for Step<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let mut i = self.range.start;
        while i < self.range.end {
            let n = S::N.min(self.range.end - i);
            // SAFETY: the range is inside all four slices, which are of one length; tasks have disjoint ranges.
            unsafe {
                let (p, m, v) = (self.p.get().add(i), self.m.get().add(i), self.v.get().add(i));
                let grad = s.load_n(self.g.as_ptr().add(i), n);
                let (old_m, old_v) = (s.load_n(m, n), s.load_n(v, n));
                let new_m = s.fma(s.splat(self.to_m), s.sub(grad, old_m), old_m);
                let new_v = s.fma(s.splat(self.to_v), s.sub(s.mul(grad, grad), old_v), old_v);
                s.store_n(m, new_m, n);
                s.store_n(v, new_v, n);
                let angle = atan2_right(s, new_m, s.mul(s.sqrt(new_v), s.splat(self.root)));
                let kept = s.mul(s.load_n(p, n), s.splat(self.keep));
                s.store_n(p, s.fnma(s.splat(self.rate), angle, kept), n);
            }
            i += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ISA, in_pools, random, tried, unless_miri, with};

    const CONSTANTS: AdamAtan2Step =
        AdamAtan2Step { lr: 1e-2, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, step: 1 };

    #[test]
    fn matches_reference() {
        for isa in Isa::available() {
            for &len in tried(&[1, 15, 16, 100, 5001]) {
                let (mut p, mut m, mut v) = (random(len, 1), vec![0.0; len], vec![0.0; len]);
                let (mut p64, mut m64, mut v64) =
                    (p.iter().map(|p| f64::from(*p)).collect::<Vec<_>>(), vec![0.0; len], vec![0.0; len]);
                for t in 1..=5 {
                    let mut g = random(len, 10 + t);
                    g.iter_mut().step_by(7).for_each(|g| *g = 0.0);
                    let c = AdamAtan2Step { step: t, ..CONSTANTS };
                    with(&ISA, isa, || adam_atan2_step(&mut p, &g, &mut m, &mut v, c));
                    for i in 0..len {
                        let g = f64::from(g[i]);
                        p64[i] *= 1.0 - c.lr * c.weight_decay;
                        m64[i] += (1.0 - c.beta1) * (g - m64[i]);
                        v64[i] += (1.0 - c.beta2) * (g * g - v64[i]);
                        let x = f64::sqrt(v64[i]) / (1.0 - c.beta2.powf(t as f64)).sqrt();
                        p64[i] -= c.lr / (1.0 - c.beta1.powf(t as f64)) * f64::atan2(m64[i], x);
                        for (got, want) in [(p[i], p64[i]), (m[i], m64[i]), (v[i], v64[i])] {
                            assert!(
                                (f64::from(got) - want).abs() < 5e-7 * want.abs().max(1.0),
                                "{isa:?}: {got} is not {want}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_zero_gradient_only_decays() {
        let (mut p, mut m, mut v) = (vec![2.0; 20], vec![0.0; 20], vec![0.0; 20]);
        adam_atan2_step(&mut p, &[0.0; 20], &mut m, &mut v, CONSTANTS);
        assert_eq!(p, [2.0 * (1.0 - 1e-3) as f32; 20]);
    }

    #[test]
    fn does_not_depend_on_threads() {
        let g = random(unless_miri(100_001, 201), 1);
        in_pools(|| {
            let (mut p, mut m, mut v) = (random(g.len(), 2), vec![0.0; g.len()], vec![0.0; g.len()]);
            adam_atan2_step(&mut p, &g, &mut m, &mut v, CONSTANTS);
            [p, m, v].concat()
        });
    }
}
