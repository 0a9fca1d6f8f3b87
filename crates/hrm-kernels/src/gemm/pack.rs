//! Copying a panel of a matrix into the order in which the micro-kernel reads it.

use crate::simd::GemmSimd;

/// Rows by which a prefetch is ahead.
const AHEAD: usize = 16;

/// Packs `cols <= NR` columns of B into `[depth][NR]`, zero-padded.
///
/// # Safety
/// The source is readable at every (p, j) under its strides, `dst` writable for `depth * NR` floats.
#[inline(always)]
pub(crate) unsafe fn pack_b_panel<S: GemmSimd>(
    s: S,
    src: *const f32,
    row_stride: usize,
    col_stride: usize,
    depth: usize,
    cols: usize,
    dst: *mut f32,
) {
    // SAFETY: the caller's promise, here and in all blocks.
    unsafe {
        for vector in 0..S::NV {
            let (first, lanes) = (vector * S::N, cols.saturating_sub(vector * S::N).min(S::N));
            pack(
                s,
                src.add(if lanes == 0 { 0 } else { first * col_stride }),
                row_stride,
                col_stride,
                depth,
                lanes,
                dst.add(first),
                S::NR,
            );
        }
    }
}

/// Packs `rows <= MR` rows of A into `[depth][MR]`, zero-padded.
///
/// # Safety
/// The source is readable at every (i, p) under its strides, `dst` writable for `depth * MR + N` floats.
#[inline(always)]
pub(crate) unsafe fn pack_a_panel<S: GemmSimd>(
    s: S,
    src: *const f32,
    row_stride: usize,
    col_stride: usize,
    depth: usize,
    rows: usize,
    dst: *mut f32,
) {
    const { assert!(S::MR <= S::N) };
    // SAFETY: the caller's promise.
    unsafe { pack(s, src, col_stride, row_stride, depth, rows, dst, S::MR) };
}

/// `dst[p * dst_stride + lane] = src[p * depth_stride + lane * lane_stride]` for `depth` values of p and `lanes <= N`, in order of p, each
/// time writing a whole vector whose tail is zero.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn pack<S: GemmSimd>(
    s: S,
    src: *const f32,
    depth_stride: usize,
    lane_stride: usize,
    depth: usize,
    lanes: usize,
    dst: *mut f32,
    dst_stride: usize,
) {
    // SAFETY: the caller's promise, here and in all blocks.
    unsafe {
        if lanes == 0 {
            for p in 0..depth {
                s.store(dst.add(p * dst_stride), s.splat(0.0));
            }
        } else if lane_stride == 1 {
            for p in 0..depth {
                s.prefetch(src.wrapping_add((p + AHEAD) * depth_stride));
                s.store(dst.add(p * dst_stride), s.load_n(src.add(p * depth_stride), lanes));
            }
        } else if depth_stride == 1 {
            let mut p = 0;
            while p + S::N <= depth {
                for lane in 0..lanes {
                    s.prefetch(src.wrapping_add(p + AHEAD * 4 + lane * lane_stride));
                }
                s.transpose(src.add(p), lane_stride, lanes, S::N, dst.add(p * dst_stride), dst_stride);
                p += S::N;
            }
            if p < depth {
                s.transpose(src.add(p), lane_stride, lanes, depth - p, dst.add(p * dst_stride), dst_stride);
            }
        } else {
            for p in 0..depth {
                s.store(dst.add(p * dst_stride), s.splat(0.0));
                for lane in 0..lanes {
                    *dst.add(p * dst_stride + lane) = *src.add(p * depth_stride + lane * lane_stride);
                }
            }
        }
    }
}
