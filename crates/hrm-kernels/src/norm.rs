//! RMS normalisation without a weight, alone or of the sum of a residual connection.

use crate::scratch::{Shared, for_each_range};
use crate::simd::{GemmSimd, Isa, Kernel, dispatch};
use std::ops::Range;

/// `y = u / sqrt(mean(u^2) + eps)` for each row, with `u = x + r` or `u = x`.
///
/// `inv_rms`, where given, receives `1 / sqrt(mean(u^2) + eps)`; with the output it is all that [`rms_norm_backward`] needs.
///
/// # Shapes
/// `x`, `r`, `out` `[rows, hidden]`, `inv_rms` `[rows]`
pub fn rms_norm(
    x: &[f32],
    r: Option<&[f32]>,
    hidden: usize,
    eps: f32,
    out: &mut [f32],
    inv_rms: Option<&mut [f32]>,
) {
    let isa = Isa::best();
    let rows = rows_of("rms_norm", x.len(), hidden);
    assert_eq!(out.len(), x.len(), "rms_norm: x has {} floats, out {}", x.len(), out.len());
    if let Some(r) = r {
        assert_eq!(r.len(), x.len(), "rms_norm: x has {} floats, r {}", x.len(), r.len());
    }
    if let Some(inv_rms) = &inv_rms {
        assert_eq!(inv_rms.len(), rows, "rms_norm: {rows} rows, inv_rms has {}", inv_rms.len());
    }
    let out = Shared::new(out);
    let inv_rms = inv_rms.map(Shared::new);
    for_each_range(rows, hidden, |rows| dispatch(isa, Forward { x, r, hidden, eps, out, inv_rms, rows }));
}

/// Gradient of [`rms_norm`]: `du = inv_rms * (dy - y * mean(dy * y))`, the gradient of `x` and of `r` alike.
///
/// # Shapes
/// `y`, `dy`, `du` `[rows, hidden]`, `inv_rms` `[rows]`
pub fn rms_norm_backward(y: &[f32], inv_rms: &[f32], dy: &[f32], hidden: usize, du: &mut [f32]) {
    let isa = Isa::best();
    let rows = rows_of("rms_norm_backward", y.len(), hidden);
    assert_eq!(inv_rms.len(), rows, "rms_norm_backward: {rows} rows, inv_rms has {}", inv_rms.len());
    assert_eq!(dy.len(), y.len(), "rms_norm_backward: y has {} floats, dy {}", y.len(), dy.len());
    assert_eq!(du.len(), y.len(), "rms_norm_backward: y has {} floats, du {}", y.len(), du.len());
    let du = Shared::new(du);
    for_each_range(rows, hidden, |rows| dispatch(isa, Backward { y, inv_rms, dy, hidden, du, rows }));
}

fn rows_of(name: &str, len: usize, hidden: usize) -> usize {
    assert!(hidden > 0 && len.is_multiple_of(hidden), "{name}: {len} floats are not rows of {hidden}");
    len / hidden
}

struct Forward<'a> {
    x: &'a [f32],
    r: Option<&'a [f32]>,
    hidden: usize,
    eps: f32,
    out: Shared<f32>,
    inv_rms: Option<Shared<f32>>,
    rows: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let h = self.hidden;
        for row in self.rows {
            // SAFETY: `row` is a row of all the slices, whose lengths the caller checked; tasks have disjoint rows.
            unsafe {
                let x = self.x.as_ptr().add(row * h);
                let out = self.out.get().add(row * h);
                let mut sums = [s.splat(0.0); 2];
                let mut i = 0;
                while i < h {
                    let n = S::N.min(h - i);
                    let mut u = s.load_n(x.add(i), n);
                    if let Some(r) = self.r {
                        u = s.add(u, s.load_n(r.as_ptr().add(row * h + i), n));
                        s.store_n(out.add(i), u, n);
                    }
                    let which = (i / S::N) & 1;
                    sums[which] = s.fma(u, u, sums[which]);
                    i += n;
                }
                let mean = s.sum(s.add(sums[0], sums[1])) / h as f32;
                let inv = 1.0 / (mean + self.eps).sqrt();
                if let Some(inv_rms) = self.inv_rms {
                    *inv_rms.get().add(row) = inv;
                }
                let u = if self.r.is_some() { out.cast_const() } else { x };
                let mut i = 0;
                while i < h {
                    let n = S::N.min(h - i);
                    s.store_n(out.add(i), s.mul(s.load_n(u.add(i), n), s.splat(inv)), n);
                    i += n;
                }
            }
        }
    }
}

struct Backward<'a> {
    y: &'a [f32],
    inv_rms: &'a [f32],
    dy: &'a [f32],
    hidden: usize,
    du: Shared<f32>,
    rows: Range<usize>,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let h = self.hidden;
        for row in self.rows {
            // SAFETY: as in `Forward`.
            unsafe {
                let y = self.y.as_ptr().add(row * h);
                let dy = self.dy.as_ptr().add(row * h);
                let du = self.du.get().add(row * h);
                let mut sums = [s.splat(0.0); 2];
                let mut i = 0;
                while i < h {
                    let n = S::N.min(h - i);
                    let which = (i / S::N) & 1;
                    sums[which] = s.fma(s.load_n(y.add(i), n), s.load_n(dy.add(i), n), sums[which]);
                    i += n;
                }
                let mean = s.splat(s.sum(s.add(sums[0], sums[1])) / h as f32);
                let inv = s.splat(self.inv_rms[row]);
                let mut i = 0;
                while i < h {
                    let n = S::N.min(h - i);
                    let v = s.fnma(s.load_n(y.add(i), n), mean, s.load_n(dy.add(i), n));
                    s.store_n(du.add(i), s.mul(v, inv), n);
                    i += n;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ISA, in_pools, random, tried, unless_miri, with};

    fn close(got: f32, want: f64, size: f64) {
        assert!((f64::from(got) - want).abs() < 5e-7 * size.max(1.0), "{got} is not {want}");
    }

    #[test]
    fn matches_reference() {
        for isa in Isa::available() {
            for &(rows, h) in tried(&[(1, 1), (7, 17), (3, 5), (7, 16), (5, 100), (33, 512), (4, 513)]) {
                let (x, r, dy) = (random(rows * h, 1), random(rows * h, 2), random(rows * h, 3));
                for residual in [false, true] {
                    let r = residual.then_some(&r[..]);
                    let (mut y, mut inv, mut du) =
                        (vec![0.0; rows * h], vec![0.0; rows], vec![0.0; rows * h]);
                    with(&ISA, isa, || {
                        rms_norm(&x, r, h, 1e-5, &mut y, Some(&mut inv));
                        rms_norm_backward(&y, &inv, &dy, h, &mut du);
                    });
                    for row in 0..rows {
                        let at = |i: usize| row * h + i;
                        let u: Vec<f64> = (0..h)
                            .map(|i| f64::from(x[at(i)]) + r.map_or(0.0, |r| f64::from(r[at(i)])))
                            .collect();
                        let scale = 1.0 / (u.iter().map(|u| u * u).sum::<f64>() / h as f64 + 1e-5).sqrt();
                        let mean =
                            (0..h).map(|i| f64::from(dy[at(i)]) * u[i] * scale).sum::<f64>() / h as f64;
                        for i in 0..h {
                            close(y[at(i)], u[i] * scale, (u[i] * scale).abs());
                            let want = scale * (f64::from(dy[at(i)]) - u[i] * scale * mean);
                            close(du[at(i)], want, scale * (dy[at(i)].abs() + 3.0) as f64 * 2.0);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn does_not_depend_on_threads() {
        let rows = unless_miri(600, 5);
        let (x, r) = (random(rows * 300, 1), random(rows * 300, 2));
        in_pools(|| {
            let (mut y, mut inv, mut du) = (vec![0.0; x.len()], vec![0.0; rows], vec![0.0; x.len()]);
            rms_norm(&x, Some(&r), 300, 1e-5, &mut y, Some(&mut inv));
            rms_norm_backward(&y, &inv, &r, 300, &mut du);
            [y, inv, du].concat()
        });
    }
}
