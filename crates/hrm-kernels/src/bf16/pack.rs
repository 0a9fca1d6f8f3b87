//! Rounding to bfloat16 and laying out in tiles.

use super::{DEPTH, TILE, WORDS};
use crate::gemm::Matrix;
use half::bf16;
use std::ops::Range;

/// Packs rows of `a`, columns `depth`, into panels of 16 rows, each of tiles `[depth / 32][16][16]` of pairs, zero-padded: a tile has a row for
/// each row of `a`, or, where `transpose` holds, for each pair.
///
/// # Safety
/// `dst` is writable for `panels` panels that are `panel_words` apart, in each a tile for each 32 columns, begun or whole.
pub(super) unsafe fn pack_panels(
    a: Matrix<'_>,
    first_row: usize,
    panels: usize,
    depth: Range<usize>,
    transpose: bool,
    dst: *mut f32,
    panel_words: usize,
) {
    let tiles = depth.len().div_ceil(DEPTH);
    // In the order of memory: where rows run along it, tile after tile of neighbouring panels.
    let across = a.part(0, 0).1 == 1;
    for i in 0..panels * tiles {
        let (panel, tile) = if across { (i % panels, i / panels) } else { (i / tiles, i % tiles) };
        let row = first_row + panel * TILE;
        let rows = row.min(a.rows())..(row + TILE).min(a.rows());
        let start = depth.start + tile * DEPTH;
        // SAFETY: the caller's promise.
        unsafe {
            let dst = dst.add(panel * panel_words + tile * WORDS);
            pack_tile(a, rows, start..depth.end.min(start + DEPTH), transpose, dst);
        }
    }
}

/// Packs one tile of one panel.
unsafe fn pack_tile(a: Matrix<'_>, rows: Range<usize>, depth: Range<usize>, transpose: bool, dst: *mut f32) {
    let (data, row_stride, depth_stride) = a.part(rows.start, depth.start);
    let rows = rows.len();
    debug_assert!(rows <= TILE);
    #[cfg(target_arch = "x86_64")]
    let fast = rows > 0 && has_bf16();
    let depth = depth.len();
    debug_assert!(depth <= DEPTH);
    #[cfg(target_arch = "x86_64")]
    if fast && depth_stride == 1 {
        // SAFETY: a tile's room is the caller's promise, the source is inside the matrix.
        return unsafe { x86::tile_along(data.as_ptr(), row_stride, rows, depth, transpose, dst) };
    } else if fast && row_stride == 1 {
        // SAFETY: as above.
        return unsafe { x86::tile_across(data.as_ptr(), depth_stride, rows, depth, transpose, dst) };
    }
    for row in 0..TILE {
        for pair in 0..TILE {
            let at = |p: usize| {
                if row < rows && p < depth {
                    u32::from(bf16::from_f32(data[row * row_stride + p * depth_stride]).to_bits())
                } else {
                    0
                }
            };
            let word = at(2 * pair) | at(2 * pair + 1) << 16;
            let index = if transpose { pair * TILE + row } else { row * TILE + pair };
            // SAFETY: a tile's room is the caller's promise.
            unsafe { *dst.add(index) = f32::from_bits(word) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::TILE;
    use std::arch::x86_64::*;

    fn mask(n: usize) -> __mmask16 {
        ((1u32 << n.min(16)) - 1) as __mmask16
    }

    /// A tile whose reduction index runs along memory.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn tile_along(
        src: *const f32,
        stride: usize,
        rows: usize,
        depth: usize,
        transpose: bool,
        dst: *mut f32,
    ) {
        let (low, high) = (mask(depth), mask(depth.saturating_sub(16)));
        let mut words = [_mm512_setzero_ps(); TILE];
        for (row, words) in words.iter_mut().enumerate() {
            if row < rows {
                // SAFETY: the caller's promise: `depth` floats in each of `rows` rows.
                let (a, b) = unsafe {
                    let p = src.wrapping_add(row * stride);
                    (_mm512_maskz_loadu_ps(low, p), _mm512_maskz_loadu_ps(high, p.wrapping_add(16)))
                };
                *words = round_pair(a, b);
            }
        }
        // SAFETY: the caller's promise: a tile's room.
        unsafe { finish(words, transpose, dst) };
    }

    /// A tile whose rows run along memory.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn tile_across(
        src: *const f32,
        stride: usize,
        rows: usize,
        depth: usize,
        transpose: bool,
        dst: *mut f32,
    ) {
        // Positions of a row-wise interleave of two vectors of 16 halves.
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
            18, 2, 17, 1, 16, 0,
        );
        let rows = mask(rows);
        let mut words = [_mm512_setzero_ps(); TILE];
        for (pair, words) in words.iter_mut().enumerate() {
            // SAFETY: the caller's promise: `rows` floats at each of `depth` positions.
            let (a, b) = unsafe {
                let p = src.wrapping_add(2 * pair * stride);
                let even = if 2 * pair < depth { rows } else { 0 };
                let odd = if 2 * pair + 1 < depth { rows } else { 0 };
                (_mm512_maskz_loadu_ps(even, p), _mm512_maskz_loadu_ps(odd, p.wrapping_add(stride)))
            };
            let halves = _mm512_castps_si512(round_pair(a, b));
            *words = _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves));
        }
        // SAFETY: the caller's promise: a tile's room.
        unsafe { finish(words, !transpose, dst) };
    }

    /// 32 halves: `a`, then `b`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    fn round_pair(a: __m512, b: __m512) -> __m512 {
        // SAFETY: both are 512 bits without invalid values.
        unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(b, a)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn finish(words: [__m512; TILE], transpose: bool, dst: *mut f32) {
        let words = if transpose { crate::simd::transpose16(words) } else { words };
        for (row, words) in words.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_mask_storeu_ps(dst.wrapping_add(row * TILE), !0, words) };
        }
    }
}
