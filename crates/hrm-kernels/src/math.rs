//! Elementary functions on vectors, to about one unit in the last place.

use crate::simd::Simd;

/// `e^x`, about 1e-7 relative: 0 where the result would not be a normal number (below -87.33), infinite above 88.73, NaN kept.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts so that r is exact to the last bit (Cephes' expf).
    // Subnormal results would cost a hundred times as much as others, and become 0.
    let lowest = s.splat(-87.33);
    let whole = s.min(s.splat(89.0), x);
    let x = s.max(lowest, whole);
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fnma(n, s.splat(0.693_359_4), x);
    let r = s.fnma(n, s.splat(-2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    p = s.fma(p, r, s.splat(1.398_199_9e-3));
    p = s.fma(p, r, s.splat(8.333_452e-3));
    p = s.fma(p, r, s.splat(4.166_579_6e-2));
    p = s.fma(p, r, s.splat(1.666_666_5e-1));
    p = s.fma(p, r, s.splat(0.5));
    let y = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    s.gt(lowest, whole, s.splat(0.0), s.ldexp(y, n))
}

/// `1 / (1 + e^-x)`, at least 1e-38, so that nothing here is subnormal.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let x = s.max(s.splat(-87.0), s.min(s.splat(87.0), x));
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// `atan2(y, x)` for `x >= 0`, with `atan2(0, 0) = 0`.
#[inline(always)]
pub(crate) fn atan2_right<S: Simd>(s: S, y: S::V, x: S::V) -> S::V {
    // Cephes' atanf, its range reduction folded into the one division: atan(a / x) = offset + atan(num / den), |num / den| <= tan(pi / 8).
    let zero = s.splat(0.0);
    let a = s.abs(y);
    let steep = s.mul(x, s.splat(2.414_213_6));
    let middle = s.mul(x, s.splat(0.414_213_57));
    let num = s.gt(a, steep, s.sub(zero, x), s.gt(a, middle, s.sub(a, x), a));
    let den = s.gt(a, steep, a, s.gt(a, middle, s.add(a, x), x));
    let offset = s.gt(
        a,
        steep,
        s.splat(std::f32::consts::FRAC_PI_2),
        s.gt(a, middle, s.splat(std::f32::consts::FRAC_PI_4), zero),
    );
    // Both zero: 0 / 1.
    let den = s.gt(den, zero, den, s.splat(1.0));
    let t = s.div(num, den);
    let z = s.mul(t, t);
    let mut p = s.splat(8.053_744_5e-2);
    p = s.fma(p, z, s.splat(-1.387_768_6e-1));
    p = s.fma(p, z, s.splat(1.997_771_1e-1));
    p = s.fma(p, z, s.splat(-3.333_295e-1));
    let atan = s.fma(s.mul(p, z), t, t);
    s.copysign(s.add(offset, atan), y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{GemmSimd, Isa, Kernel, dispatch};
    use crate::testing::unless_miri;

    struct Apply<'a> {
        f: u8,
        x: &'a [f32],
        y: &'a [f32],
        out: &'a mut [f32],
    }

    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: GemmSimd>(self, s: S) {
            let mut i = 0;
            while i < self.x.len() {
                let n = S::N.min(self.x.len() - i);
                // SAFETY: `i + n` is at most the length of all three.
                unsafe {
                    let (x, y) = (s.load_n(self.x.as_ptr().add(i), n), s.load_n(self.y.as_ptr().add(i), n));
                    let v = match self.f {
                        0 => exp(s, x),
                        1 => sigmoid(s, x),
                        _ => atan2_right(s, x, y),
                    };
                    s.store_n(self.out.as_mut_ptr().add(i), v, n);
                }
                i += n;
            }
        }
    }

    fn apply(isa: Isa, f: u8, x: &[f32], y: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        dispatch(isa, Apply { f, x, y, out: &mut out });
        out
    }

    #[test]
    fn exp_and_sigmoid_are_accurate() {
        let x: Vec<f32> = (0..2_000_001)
            .step_by(unless_miri(1, 10_000))
            .map(|i| (f64::from(i) * 1.76e-4 / 2.0 - 87.3) as f32)
            .collect();
        let x: Vec<f32> = x.into_iter().filter(|x| *x < 88.7).collect();
        for isa in Isa::available() {
            for (f, name) in [(0, "exp"), (1, "sigmoid")] {
                let mut worst = 0.0f64;
                for (x, y) in x.iter().zip(apply(isa, f, &x, &x)) {
                    let e = f64::from(*x).exp();
                    let exact = if f == 0 { e } else { e / (1.0 + e) };
                    if f == 1 && *x < -87.0 {
                        assert!(y > 1e-38 && y < 2e-38);
                        continue;
                    }
                    worst = worst.max((f64::from(y) - exact).abs() / exact);
                }
                println!("{isa:?} {name}: {worst:.2e}");
                assert!(worst < 2e-7, "{isa:?} {name}: {worst:e}");
            }
        }
    }

    #[test]
    fn exp_at_the_ends() {
        let x = [-f32::INFINITY, -200.0, -87.4, 0.0, 88.7, 88.8, f32::INFINITY, f32::NAN];
        for isa in Isa::available() {
            let y = apply(isa, 0, &x, &x);
            assert!(y[..3].iter().all(|y| *y == 0.0), "{isa:?} {y:?}");
            assert_eq!(y[3], 1.0);
            assert!(
                y[4].is_finite() && y[5].is_infinite() && y[6].is_infinite() && y[7].is_nan(),
                "{isa:?} {y:?}"
            );
        }
    }

    #[test]
    fn atan2_is_accurate() {
        let (mut ys, mut xs) = (Vec::new(), Vec::new());
        for i in (0..4000).step_by(unless_miri(1, 100)) {
            for scale in [1e-30f32, 1e-8, 1e-3, 1.0, 1e4, 1e15] {
                let angle = (f64::from(i) - 2000.0) / 2000.0 * std::f64::consts::FRAC_PI_2;
                ys.push((angle.sin()) as f32 * scale);
                xs.push((angle.cos().max(0.0)) as f32 * scale);
                ys.push((f64::from(i) - 2000.0) as f32 * scale * 1e-3);
                xs.push(1.0);
            }
        }
        for isa in Isa::available() {
            let mut worst = 0.0f64;
            for ((y, x), v) in ys.iter().zip(&xs).zip(apply(isa, 2, &ys, &xs)) {
                let exact = f64::from(*y).atan2(f64::from(*x));
                if exact.abs() > 1e-37 {
                    worst = worst.max(((f64::from(v) - exact) / exact).abs());
                } else {
                    assert!(v.abs() <= 1e-37, "{isa:?} atan2({y}, {x}) = {v}");
                }
            }
            println!("{isa:?} atan2: {worst:.2e}");
            assert!(worst < 2e-7, "{isa:?}: {worst:e}");
            let edge = apply(isa, 2, &[0.0, -0.0, 1.0, -1.0, 0.0, f32::NAN], &[0.0, 0.0, 0.0, 0.0, 3.0, 1.0]);
            use std::f32::consts::FRAC_PI_2;
            assert_eq!(edge[..5], [0.0, 0.0, FRAC_PI_2, -FRAC_PI_2, 0.0]);
            assert!(edge[5].is_nan());
        }
    }
}
