//! The micro-kernel: a tile of the result held in registers while the reduction runs.

use super::Store;
use crate::simd::GemmSimd;

/// Floats of the largest micro-tile, rounded up.
pub(crate) const LARGEST: usize = 512;

/// Rows of the right operand by which the prefetch is ahead.
const AHEAD: usize = 8;

/// A tile of up to `MR` rows and `NR` columns: `c[i][j] (+)= sum over p of a[i, p] * b[p][j]`.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// `1..=MR`.
    pub(crate) rows: usize,
    /// `1..=NR`.
    pub(crate) cols: usize,
    /// Length of the reduction.
    pub(crate) depth: usize,
    /// Left operand.
    pub(crate) a: Left,
    /// Right operand, rows of `NR` floats.
    pub(crate) b: *const f32,
    /// Result.
    pub(crate) c: *mut f32,
    /// Distance between rows of the result.
    pub(crate) c_stride: usize,
    /// What happens to the values that it holds.
    pub(crate) store: Store,
}

/// The left operand of a tile.
#[derive(Clone, Copy)]
pub(crate) enum Left {
    /// Element (i, p) is at `p * stride + i`.
    ByDepth(*const f32, usize),
    /// Element (i, p) is at `i * NR + p`.
    ByRow(*const f32),
}

/// Computes a tile. Every element is one chain of fused multiply-adds over `p`, whatever the tile's size. Instruction sets compile this once
/// each ([`GemmSimd::tile`]).
///
/// # Safety
/// `a` is readable at `rows` x `depth` positions, `b` for `NR` floats in each of `depth` rows, `c` readable and writable for `cols` floats in
/// `rows` rows.
#[inline(always)]
pub(crate) unsafe fn tile<S: GemmSimd>(s: S, tile: &Tile) {
    macro_rules! by_rows {
        ($packed:literal, $nv:literal: $($r:literal)*) => {
            match tile.rows {
                // SAFETY: the caller's promise.
                $($r if $r <= S::MR => unsafe { kernel::<S, $r, $nv, $packed>(s, tile) },)*
                _ => unreachable!("micro-tile of {} rows", tile.rows),
            }
        };
    }
    match (matches!(tile.a, Left::ByDepth(..)), S::NV == 1 || tile.cols <= S::N) {
        (true, false) => by_rows!(true, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (true, true) => by_rows!(true, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (false, false) => by_rows!(false, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (false, true) => by_rows!(false, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

#[inline(always)]
unsafe fn kernel<S: GemmSimd, const R: usize, const NV: usize, const PACKED: bool>(s: S, tile: &Tile) {
    let Tile { cols, depth, mut b, c, c_stride, store, .. } = *tile;
    let (mut a, a_stride) = match tile.a {
        Left::ByDepth(a, stride) => (a, stride),
        Left::ByRow(a) => (a, 1),
    };
    let mut sums = [[s.splat(0.0); NV]; R];
    for i in 0..R {
        for j in 0..NV {
            s.prefetch(c.wrapping_add(i * c_stride + j * S::N));
        }
    }
    for _ in 0..depth {
        for j in 0..NV {
            s.prefetch(b.wrapping_add(AHEAD * S::NR + j * S::N));
        }
        let mut right = [s.splat(0.0); NV];
        for j in 0..NV {
            // SAFETY: the caller's promise.
            right[j] = unsafe { s.load(b.wrapping_add(j * S::N)) };
        }
        if PACKED {
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
                let left = s.splat(unsafe { *a.wrapping_add(i * S::NR) });
                for j in 0..NV {
                    sums[i][j] = s.fma(left, right[j], sums[i][j]);
                }
            }
        }
        a = a.wrapping_add(a_stride);
        b = b.wrapping_add(S::NR);
    }
    if cols == NV * S::N {
        // SAFETY: the caller's promise.
        unsafe { finish(s, &sums, c, c_stride, store) };
        return;
    }
    // A narrow tile goes through memory, so that the sums of a full one stay in registers.
    let mut whole = [0.0f32; LARGEST];
    const { assert!(R * NV * S::N <= LARGEST) };
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
