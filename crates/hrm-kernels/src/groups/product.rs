//! Small matrix products on one thread, for operands that lie in the caches: no packing of the left side, one register tile at a time.

use crate::simd::{GemmSimd, Simd};

/// `c[i][j] (+)= sum over p of a[i, p] * b[p][j]`. In pairs, an element of both operands is a word of two bfloat16 values, and the
/// product that of both.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// Rows, columns (a multiple of 16) and length of the reduction, in elements of the operands.
    pub(crate) shape: [usize; 3],
    /// Left operand: element (i, p) is at `i * strides[0] + p * strides[1]`.
    pub(crate) a: *const f32,
    pub(crate) a_strides: [usize; 2],
    /// Right operand and the distance between its rows.
    pub(crate) b: *const f32,
    pub(crate) b_stride: usize,
    /// Result and the distance between its rows.
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    /// Whether the product is added to what the result holds.
    pub(crate) add: bool,
}

/// One element of the left operand times a vector of the right one.
pub(crate) trait Step<S: Simd>: Copy {
    /// `a * b + c`.
    fn step(self, s: S, a: S::V, b: S::V, c: S::V) -> S::V;
}

/// Single precision.
#[derive(Clone, Copy)]
pub(crate) struct Single;

impl<S: Simd> Step<S> for Single {
    #[inline(always)]
    fn step(self, s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.fma(a, b, c)
    }
}

/// Computes a product. Each element is one chain over the reduction, whatever the shape. Instruction sets compile this once each
/// ([`GemmSimd::small_product`]).
///
/// # Safety
/// Operands are readable and the result writable (readable, to add to it) at every position that the shape and the strides name.
#[inline(always)]
pub(crate) unsafe fn product<S: GemmSimd, K: Step<S>>(s: S, k: K, p: &Product) {
    let [rows, cols, _] = p.shape;
    debug_assert!(cols.is_multiple_of(16));
    let mut col = 0;
    while col < cols {
        let vectors = (cols - col) / S::N;
        // As many sums as registers hold beside the operands, and enough of them to hide the latency of an addition.
        macro_rules! columns {
            ($v:literal: $($r:literal)*) => {{
                let most = const { [$($r),*][0] };
                let mut row = 0;
                while row < rows {
                    let count = most.min(rows - row);
                    match count {
                        // SAFETY: the caller's promise.
                        $($r => unsafe { tile::<S, K, $r, $v>(s, k, p, row, col) },)*
                        _ => unreachable!("a tile of {count} rows"),
                    }
                    row += count;
                }
                col += $v * S::N;
            }};
        }
        match (S::N == 16, vectors) {
            (true, 4..) => columns!(4: 6 5 4 3 2 1),
            (true, 2..) => columns!(2: 12 11 10 9 8 7 6 5 4 3 2 1),
            (true, _) => columns!(1: 12 11 10 9 8 7 6 5 4 3 2 1),
            (false, _) => columns!(2: 6 5 4 3 2 1),
        }
    }
}

#[inline(always)]
unsafe fn tile<S: GemmSimd, K: Step<S>, const R: usize, const V: usize>(
    s: S,
    k: K,
    p: &Product,
    row: usize,
    col: usize,
) {
    let [a_row, a_step] = p.a_strides;
    let mut a = p.a.wrapping_add(row * a_row);
    let mut b = p.b.wrapping_add(col);
    let c = p.c.wrapping_add(row * p.c_stride + col);
    let mut sums = [[s.splat(0.0); V]; R];
    if p.add {
        for i in 0..R {
            for j in 0..V {
                // SAFETY: the caller's promise.
                sums[i][j] = unsafe { s.load(c.wrapping_add(i * p.c_stride + j * S::N)) };
            }
        }
    }
    for _ in 0..p.shape[2] {
        let mut right = [s.splat(0.0); V];
        for j in 0..V {
            // SAFETY: the caller's promise.
            right[j] = unsafe { s.load(b.wrapping_add(j * S::N)) };
        }
        for i in 0..R {
            // SAFETY: the caller's promise.
            let left = s.splat(unsafe { *a.wrapping_add(i * a_row) });
            for j in 0..V {
                sums[i][j] = k.step(s, left, right[j], sums[i][j]);
            }
        }
        a = a.wrapping_add(a_step);
        b = b.wrapping_add(p.b_stride);
    }
    for i in 0..R {
        for j in 0..V {
            // SAFETY: the caller's promise.
            unsafe { s.store(c.wrapping_add(i * p.c_stride + j * S::N), sums[i][j]) };
        }
    }
}
