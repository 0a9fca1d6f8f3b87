//! The micro-kernel: a tile of the result held in registers while the reduction runs.

use super::Store;
use crate::simd::GemmSimd;

/// Rows of the right operand by which the prefetch is ahead.
const AHEAD: usize = 8;

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
    for i in 0..R {
        for j in 0..NV {
            s.prefetch(c.wrapping_add(i * c_stride + j * S::N));
        }
    }
    for _ in 0..depth {
        for j in 0..NV {
            s.prefetch(b.wrapping_add(AHEAD * b_stride + j * S::N));
        }
        let mut right = [s.splat(0.0); NV];
        for j in 0..NV {
            // SAFETY: the caller's promise.
            right[j] = unsafe { s.load(b.wrapping_add(j * S::N)) };
        }
        if row_stride == 1 {
            // SAFETY: the caller's promise.
            let left = unsafe { &*a.cast::<[f32; R]>() };
            for i in 0..R {
                let left = s.splat(left[i]);
                for j in 0..NV {
                    sums[i][j] = s.fma(left, right[j], sums[i][j]);
                }
            }
        } else {
            for i in 0..R {
                // SAFETY: the caller's promise.
                let left = s.splat(unsafe { *a.wrapping_add(i * row_stride) });
                for j in 0..NV {
                    sums[i][j] = s.fma(left, right[j], sums[i][j]);
                }
            }
        }
        a = a.wrapping_add(depth_stride);
        b = b.wrapping_add(b_stride);
    }
    if cols == NV * S::N {
        // SAFETY: the caller's promise.
        unsafe { finish(s, &sums, c, c_stride, store) };
        return;
    }
    // A narrow tile goes through memory, so that the sums of a full one stay in registers.
    let mut whole = [0.0f32; 512];
    const { assert!(R * NV * S::N <= 512) };
    // SAFETY: `whole` is a tile of this size; then the caller's promise.
    unsafe {
        finish(s, &sums, whole.as_mut_ptr(), NV * S::N, Store::Set);
        for i in 0..R {
            for j in 0..cols.div_ceil(S::N) {
                let n = S::N.min(cols - j * S::N);
                let p = c.wrapping_add(i * c_stride + j * S::N);
                let mut v = s.load(whole.as_ptr().wrapping_add((i * NV + j) * S::N));
                if store == Store::Add {
                    v = s.add(s.load_n(p, n), v);
                }
                s.store_n(p, v, n);
            }
        }
    }
}

/// Stores a full tile.
#[inline(always)]
unsafe fn finish<S: GemmSimd, const R: usize, const NV: usize>(
    s: S,
    sums: &[[S::V; NV]; R],
    c: *mut f32,
    c_stride: usize,
    store: Store,
) {
    if store == Store::Add {
        for i in 0..R {
            for j in 0..NV {
                let p = c.wrapping_add(i * c_stride + j * S::N);
                // SAFETY: the caller's promise.
                unsafe { s.store(p, s.add(s.load(p), sums[i][j])) };
            }
        }
    } else {
        for i in 0..R {
            for j in 0..NV {
                // SAFETY: the caller's promise.
                unsafe { s.store(c.wrapping_add(i * c_stride + j * S::N), sums[i][j]) };
            }
        }
    }
}
