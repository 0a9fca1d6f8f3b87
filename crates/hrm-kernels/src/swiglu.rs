//! The gated activation of the feed-forward layer.

use crate::math::sigmoid;
use crate::scratch::{Shared, floats, for_each_range};
use crate::simd::{GemmSimd, Isa, Kernel, dispatch};
use std::ops::Range;

/// `out = silu(gate) * up`, gate in the first half of each row.
///
/// # Shapes
/// `gate_up` `[rows, 2 * inter]`, `out` `[rows, inter]`
pub fn swiglu(gate_up: &[f32], inter: usize, out: &mut [f32]) {
    let isa = Isa::best();
    let rows = check(gate_up, inter, out.len(), "out");
    let out = Shared::new(out);
    for_each_range(rows, inter * 2, |rows| dispatch(isa, Forward { gate_up, inter, out, rows }));
}

/// Gradient of [`swiglu`].
///
/// # Shapes
/// `gate_up`, `dgate_up` `[rows, 2 * inter]`, `dout` `[rows, inter]`
pub fn swiglu_backward(gate_up: &[f32], dout: &[f32], inter: usize, dgate_up: &mut [f32]) {
    let isa = Isa::best();
    let rows = check(gate_up, inter, dout.len(), "dout");
    assert_eq!(
        dgate_up.len(),
        gate_up.len(),
        "swiglu_backward: gate_up has {} floats, dgate_up {}",
        gate_up.len(),
        dgate_up.len()
    );
    let dgate_up = Shared::new(dgate_up);
    for_each_range(rows, inter * 3, |rows| dispatch(isa, Backward { gate_up, dout, inter, dgate_up, rows }));
}

fn check(gate_up: &[f32], inter: usize, out: usize, name: &str) -> usize {
    assert!(
        inter > 0 && gate_up.len().is_multiple_of(floats(&[2, inter])),
        "swiglu: {} floats are not rows of 2 x {inter}",
        gate_up.len()
    );
    let rows = gate_up.len() / (2 * inter);
    assert_eq!(
        out,
        rows * inter,
        "swiglu: {name} [{rows}, {inter}] needs {} floats, got {out}",
        rows * inter
    );
    rows
}

struct Forward<'a> {
    gate_up: &'a [f32],
    inter: usize,
    out: Shared<f32>,
    rows: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        for row in self.rows {
            // SAFETY: `row` is a row of both slices, whose lengths the caller checked; tasks have disjoint rows.
            unsafe {
                let gate = self.gate_up.as_ptr().add(row * 2 * self.inter);
                let up = gate.add(self.inter);
                let out = self.out.get().add(row * self.inter);
                let mut i = 0;
                while i < self.inter {
                    let n = S::N.min(self.inter - i);
                    let (g, u) = (s.load_n(gate.add(i), n), s.load_n(up.add(i), n));
                    s.store_n(out.add(i), s.mul(s.mul(g, sigmoid(s, g)), u), n);
                    i += n;
                }
            }
        }
    }
}

/// [`swiglu`] of a tile that holds gates in the first half of each row and ups in the second, half as wide each.
///
/// # Safety
/// `tile` is readable for `rows` rows of `2 * half` floats, `out` writable for `cols <= half` floats in as many rows of its stride.
#[inline(always)]
pub(crate) unsafe fn swiglu_tile<S: GemmSimd>(
    s: S,
    tile: *const f32,
    half: usize,
    rows: usize,
    cols: usize,
    (out, stride): (*mut f32, usize),
) {
    for row in 0..rows {
        let mut i = 0;
        while i < cols {
            let n = S::N.min(cols - i);
            // SAFETY: the caller's promise.
            unsafe {
                let gate = tile.add(row * 2 * half + i);
                let (g, u) = (s.load_n(gate, n), s.load_n(gate.add(half), n));
                s.store_n(out.add(row * stride + i), s.mul(s.mul(g, sigmoid(s, g)), u), n);
            }
            i += n;
        }
    }
}

struct Backward<'a> {
    gate_up: &'a [f32],
    dout: &'a [f32],
    inter: usize,
    dgate_up: Shared<f32>,
    rows: Range<usize>,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let one = s.splat(1.0);
        for row in self.rows {
            // SAFETY: as in `Forward`.
            unsafe {
                let gate = self.gate_up.as_ptr().add(row * 2 * self.inter);
                let up = gate.add(self.inter);
                let dout = self.dout.as_ptr().add(row * self.inter);
                let dgate = self.dgate_up.get().add(row * 2 * self.inter);
                let dup = dgate.add(self.inter);
                let mut i = 0;
                while i < self.inter {
                    let n = S::N.min(self.inter - i);
                    let (g, u) = (s.load_n(gate.add(i), n), s.load_n(up.add(i), n));
                    let d = s.load_n(dout.add(i), n);
                    let sig = sigmoid(s, g);
                    // silu' = sig (1 + g (1 - sig))
                    let slope = s.mul(sig, s.fma(g, s.sub(one, sig), one));
                    s.store_n(dgate.add(i), s.mul(s.mul(d, u), slope), n);
                    s.store_n(dup.add(i), s.mul(d, s.mul(g, sig)), n);
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

    #[test]
    fn matches_reference() {
        for isa in Isa::available() {
            for &(rows, inter) in tried(&[(1, 1), (3, 17), (5, 256), (2, 1000)]) {
                let gate_up: Vec<f32> = random(rows * 2 * inter, 1).iter().map(|x| x * 4.0).collect();
                let dout = random(rows * inter, 2);
                let (mut out, mut grad) = (vec![0.0; rows * inter], vec![0.0; gate_up.len()]);
                with(&ISA, isa, || {
                    swiglu(&gate_up, inter, &mut out);
                    swiglu_backward(&gate_up, &dout, inter, &mut grad);
                });
                for row in 0..rows {
                    for i in 0..inter {
                        let (gi, ui) = (row * 2 * inter + i, row * 2 * inter + inter + i);
                        let (g, u) = (f64::from(gate_up[gi]), f64::from(gate_up[ui]));
                        let d = f64::from(dout[row * inter + i]);
                        let sig = 1.0 / (1.0 + (-g).exp());
                        // Relative to the terms of the sum where there is one.
                        let close = |got: f32, want: f64, size: f64| {
                            assert!(
                                (f64::from(got) - want).abs() <= 1e-6 * size.abs() + 1e-30,
                                "{isa:?}: {got} is not {want}"
                            );
                        };
                        close(out[row * inter + i], g * sig * u, g * sig * u);
                        let slope = |g: f64| d * u * sig * (1.0 + g * (1.0 - sig));
                        close(grad[gi], slope(g), d.abs() * u.abs() * sig * (1.0 + g.abs() * (1.0 - sig)));
                        close(grad[ui], d * g * sig, d * g * sig);
                    }
                }
            }
        }
    }

    #[test]
    fn does_not_depend_on_threads() {
        let rows = unless_miri(500, 5);
        let (x, d) = (random(rows * 600, 1), random(rows * 300, 2));
        in_pools(|| {
            let (mut y, mut g) = (vec![0.0; d.len()], vec![0.0; x.len()]);
            swiglu(&x, 300, &mut y);
            swiglu_backward(&x, &d, 300, &mut g);
            [y, g].concat()
        });
    }
}
