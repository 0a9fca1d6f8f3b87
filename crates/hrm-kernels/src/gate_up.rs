//! The feed-forward layer's first product with its activation in one pass: gate and up of a column meet in one tile, so the wide intermediate
//! `[rows, 2 * inter]` is never written. For forward passes that keep nothing for a gradient.

use crate::bf16::{Bf16Engine, PackedBf16, gemm_swiglu_blocks};
use crate::gemm::{Matrix, PackedMatrix, gemm_swiglu_tiles, tile};
use crate::scratch::floats;
use crate::simd::Isa;

/// The fused gate and up weight, packed for [`gemm_swiglu`].
#[derive(Clone, Debug)]
pub struct PackedGateUp {
    packed: PackedMatrix,
    inter: usize,
}

impl PackedGateUp {
    /// Packs the weight of the fused projection.
    ///
    /// # Shapes
    /// `weight` `[2 * inter, hidden]`, gate first
    pub fn pack(weight: &[f32], inter: usize, hidden: usize) -> Self {
        let rows = in_turn(weight, inter, hidden, tile(Isa::best()).nr / 2);
        let packed = PackedMatrix::pack_weight(&rows, rows.len() / hidden, hidden);
        PackedGateUp { packed, inter }
    }
}

/// The fused gate and up weight in bfloat16, packed for [`gemm_swiglu_bf16`].
#[derive(Clone, Debug)]
pub struct PackedGateUpBf16 {
    packed: PackedBf16,
    inter: usize,
}

impl PackedGateUpBf16 {
    /// Packs the weight of the fused projection.
    ///
    /// # Shapes
    /// `weight` `[2 * inter, hidden]`, gate first
    pub fn pack(weight: &[f32], inter: usize, hidden: usize) -> Self {
        let rows = in_turn(weight, inter, hidden, 16);
        let packed = PackedBf16::pack_weight(&rows, rows.len() / hidden, hidden);
        PackedGateUpBf16 { packed, inter }
    }
}

/// `half` rows of gate, `half` rows of up, and so on, the last ones filled up with zeros.
fn in_turn(weight: &[f32], inter: usize, hidden: usize, half: usize) -> Vec<f32> {
    assert!(hidden > 0 && inter > 0, "gate_up: empty weight");
    let len = floats(&[2, inter, hidden]);
    assert_eq!(
        weight.len(),
        len,
        "gate_up: weight [2 x {inter}, {hidden}] needs {len} floats, got {}",
        weight.len()
    );
    let (gate, up) = weight.split_at(inter * hidden);
    let mut rows = Vec::with_capacity(inter.div_ceil(half) * 2 * half * hidden);
    for start in (0..inter).step_by(half) {
        let part = start * hidden..inter.min(start + half) * hidden;
        for side in [gate, up] {
            rows.extend_from_slice(&side[part.clone()]);
            rows.resize(rows.len() + half * hidden - part.len(), 0.0);
        }
    }
    rows
}

/// `out = silu(x gate^T) * (x up^T)`.
///
/// # Shapes
/// `x` `[m, hidden]`, `out` `[m, inter]`
pub fn gemm_swiglu(x: Matrix<'_>, weight: &PackedGateUp, out: &mut [f32]) {
    check(x, weight.packed.k(), weight.inter, out);
    gemm_swiglu_tiles(x, &weight.packed, weight.inter, out);
}

/// [`gemm_swiglu`] with operands rounded to bfloat16.
///
/// # Shapes
/// `x` `[m, hidden]`, `out` `[m, inter]`
pub fn gemm_swiglu_bf16(x: Matrix<'_>, weight: &PackedGateUpBf16, out: &mut [f32]) {
    check(x, weight.packed.k(), weight.inter, out);
    gemm_swiglu_blocks(Bf16Engine::best(), x, &weight.packed, weight.inter, out);
}

fn check(x: Matrix<'_>, hidden: usize, inter: usize, out: &[f32]) {
    assert_eq!(
        x.cols(),
        hidden,
        "gemm_swiglu: x is {}x{}, the weight has {hidden} columns",
        x.rows(),
        x.cols()
    );
    let len = floats(&[x.rows(), inter]);
    assert_eq!(
        out.len(),
        len,
        "gemm_swiglu: out [{}, {inter}] needs {len} floats, got {}",
        x.rows(),
        out.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::gemm_bf16;
    use crate::gemm::{Store, gemm};
    use crate::swiglu::swiglu;
    use crate::testing::{ISA, in_pools, random, tried, unless_miri, with};

    const SHAPES: [(usize, usize, usize); 5] =
        [(1, 1, 3), (15, 17, 33), (82, 40, 64), (33, 256, 100), (50, 70, 600)];

    #[test]
    fn is_the_product_and_then_swiglu() {
        for &(m, inter, hidden) in tried(&SHAPES) {
            let (x, w) = (random(m * hidden, 1), random(2 * inter * hidden, 2));
            let w: Vec<f32> = w.iter().map(|w| w * 0.3).collect();
            let (mx, mw) = (Matrix::new(&x, m, hidden), Matrix::new(&w, 2 * inter, hidden));
            let (mut gate_up, mut want, mut got) =
                (vec![0.0; m * 2 * inter], vec![0.0; m * inter], vec![f32::NAN; m * inter]);
            let close = |got: &[f32], want: &[f32], name: &str| {
                for (got, want) in got.iter().zip(want) {
                    assert!(
                        (got - want).abs() <= 2e-5 * want.abs() + 2e-5,
                        "{name} {m}x{inter}x{hidden}: {got} is not {want}"
                    );
                }
            };
            for isa in Isa::available() {
                with(&ISA, isa, || {
                    gemm(mx, mw.transposed(), &mut gate_up, Store::Set);
                    swiglu(&gate_up, inter, &mut want);
                    gemm_swiglu(mx, &PackedGateUp::pack(&w, inter, hidden), &mut got);
                });
                if hidden <= 512 && isa != Isa::Portable {
                    assert!(got == want, "{isa:?} {m}x{inter}x{hidden}: not the same bits");
                }
                close(&got, &want, isa.name());
            }
            gemm_bf16(mx, mw.transposed(), &mut gate_up, Store::Set);
            swiglu(&gate_up, inter, &mut want);
            got.fill(f32::NAN);
            gemm_swiglu_bf16(mx, &PackedGateUpBf16::pack(&w, inter, hidden), &mut got);
            close(&got, &want, "bf16");
        }
    }

    #[test]
    fn does_not_depend_on_threads() {
        let (m, inter, hidden) = (unless_miri(300, 40), unless_miri(200, 20), unless_miri(96, 24));
        let (x, w) = (random(m * hidden, 1), random(2 * inter * hidden, 2));
        let (single, half) =
            (PackedGateUp::pack(&w, inter, hidden), PackedGateUpBf16::pack(&w, inter, hidden));
        in_pools(|| {
            let (mut a, mut b) = (vec![0.0; m * inter], vec![0.0; m * inter]);
            gemm_swiglu(Matrix::new(&x, m, hidden), &single, &mut a);
            gemm_swiglu_bf16(Matrix::new(&x, m, hidden), &half, &mut b);
            [a, b].concat()
        });
    }
}
