//! The micro-kernel: a tile of the result held in registers while the reduction runs.

use super::Store;
use crate::simd::GemmSimd;

/// The left operand of a tile. A `row_stride` that is a constant where the kernel is inlined costs nothing.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) data: *const f32,
    pub(crate) row_stride: usize,
    pub(crate) depth_stride: usize,
}

/// A tile of up to `MR` rows and `NR` columns: `c[i][j] (+)= sum over p of a[i, p] * b[p][j]`; `b` and `c` come with the distance between their
/// rows. Every element is one chain of fused multiply-adds over `p`, whatever the tile's size.
///
/// # Safety
/// `a` is readable at `rows` x `depth` positions, `b` for `NR` floats (`N` where `cols <= N`) in each of `depth` rows, `c` readable and writable for `cols` floats in `rows` rows;
/// `1 <= rows <= MR`, `1 <= cols <= NR`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn tile<S: GemmSimd>(
    s: S,
    rows: usize,
    cols: usize,
    depth: usize,
    a: Left,
    b: (*const f32, usize),
    c: (*mut f32, usize),
    store: Store,
) {
    macro_rules! by_rows {
        ($nv:literal: $($r:literal)*) => {
            match rows {
                // SAFETY: the caller's promise.
                $($r if $r <= S::MR => unsafe { kernel::<S, $r, $nv>(s, cols, depth, a, b, c, store) },)*
                _ => unreachable!("micro-tile of {rows} rows"),
            }
        };
    }
    if S::NV == 1 || cols <= S::N {
        by_rows!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    } else {
        by_rows!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

#[inline(always)]
unsafe fn kernel<S: GemmSimd, const R: usize, const NV: usize>(
    s: S,
    cols: usize,
    depth: usize,
    a: Left,
    (b, b_stride): (*const f32, usize),
    (c, c_stride): (*mut f32, usize),
    store: Store,
) {
    let mut sums = [[s.splat(0.0); NV]; R];
    let Left {
        data: mut a,
        row_stride,
        depth_stride,
    } = a;
    let mut b = b;
    for _ in 0..depth {
        let mut right = [s.splat(0.0); NV];
        for j in 0..NV {
            // SAFETY: the caller's promise.
            right[j] = unsafe { s.load(b.add(j * S::N)) };
        }
        for i in 0..R {
            // SAFETY: the caller's promise.
            let left = s.splat(unsafe { *a.add(i * row_stride) });
            for j in 0..NV {
                sums[i][j] = s.fma(left, right[j], sums[i][j]);
            }
        }
        a = a.wrapping_add(depth_stride);
        b = b.wrapping_add(b_stride);
    }
    for i in 0..R {
        // SAFETY: the caller's promise.
        unsafe {
            let row = c.add(i * c_stride);
            if cols == NV * S::N {
                for j in 0..NV {
                    let p = row.add(j * S::N);
                    let v = if store == Store::Add {
                        s.add(s.load(p), sums[i][j])
                    } else {
                        sums[i][j]
                    };
                    s.store(p, v);
                }
            } else {
                for j in 0..NV {
                    let p = row.add(j * S::N);
                    let n = cols.saturating_sub(j * S::N).min(S::N);
                    let v = if store == Store::Add {
                        s.add(s.load_n(p, n), sums[i][j])
                    } else {
                        sums[i][j]
                    };
                    s.store_n(p, v, n);
                }
            }
        }
    }
}
