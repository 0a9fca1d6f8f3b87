//! Matrix products of bfloat16 operands, summed in single precision.
//!
//! Inputs and outputs stay `f32`; operands are rounded to bfloat16 (nearest, ties to even) while they are packed. On processors with AMX a
//! product is done in tiles of 16 x 16 x 32, at several times the single-precision rate; with AVX512-BF16 in vectors; elsewhere in plain
//! arithmetic on the rounded values, for tests and portability rather than for speed.
//!
//! Both operands are packed in tiles of 1 KiB: 16 rows of 16 pairs of consecutive reduction indices. A tile of A has a row for each row of the
//! matrix, a tile of B a row for each pair (what AMX calls VNNI layout).

mod engine;
mod pack;

pub use engine::Bf16Engine;

use crate::gemm::{Matrix, Store};
use crate::scratch::{Buffer, Shared, floats, for_each_task, with_scratch};
use crate::simd::{GemmSimd, Isa, Kernel, dispatch};
use crate::swiglu::swiglu_tile;
use std::ops::Range;

/// Rows, columns and pairs of a tile.
const TILE: usize = 16;
/// Reduction indices of a tile.
const DEPTH: usize = 2 * TILE;
/// 32-bit words of a tile.
const WORDS: usize = TILE * TILE;
/// Rows and columns of the block of results that an engine computes at once.
const BLOCK: usize = 2 * TILE;
/// Tiles of reduction that are packed and multiplied at a time.
const KC_TILES: usize = 16;
/// Blocks of rows that a task takes, at most.
const MC_BLOCKS: usize = 8;
/// Words of B packed at a time when it is not packed beforehand.
const PACK_WORDS: usize = 4 << 20;
/// Multiply-adds below which a product stays on the calling thread.
const SERIAL_BELOW: usize = if cfg!(miri) { 1 << 10 } else { 1 << 20 };

/// A right-hand side rounded to bfloat16 and laid out in tiles, to use many times.
#[derive(Clone, Debug)]
pub struct PackedBf16 {
    k: usize,
    n: usize,
    data: Buffer,
}

impl PackedBf16 {
    /// Packs the right-hand side `[k, n]` of a product.
    pub fn pack(b: Matrix<'_>) -> Self {
        let mut data = Buffer::zeroed(packed_b_words(b.rows(), b.cols()));
        pack_b(b, 0..b.rows(), data.as_mut_slice());
        PackedBf16 { k: b.rows(), n: b.cols(), data }
    }

    /// Packs the weight of a linear layer for its forward product, `x [m, in] -> [m, out]`.
    ///
    /// # Shapes
    /// `weight` `[out, in]`
    pub fn pack_weight(weight: &[f32], out_features: usize, in_features: usize) -> Self {
        Self::pack(Matrix::new(weight, out_features, in_features).transposed())
    }

    /// Length of the reduction.
    pub fn k(&self) -> usize {
        self.k
    }
}

/// [`gemm`](crate::gemm) with operands rounded to bfloat16.
///
/// # Shapes
/// `a` `[m, k]`, `b` `[k, n]`, `out` `[m, n]` row-major
pub fn gemm_bf16(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], store: Store) {
    let engine = Bf16Engine::best();
    let (k, n) = (b.rows(), b.cols());
    a.check_product(k, n, out);
    if k == 0 {
        return empty(out, store);
    }
    let mut out = Output { data: Shared::new(out), cols: n, store };
    let unit = KC_TILES * DEPTH;
    let part = (PACK_WORDS / packed_b_words(unit, n).max(1)).max(1) * unit;
    let mut start = 0;
    while start < k {
        let depth = start..k.min(start + part);
        with_scratch(packed_b_words(depth.len(), n), |packed| {
            pack_b(b, depth.clone(), packed);
            product(engine, a, depth.clone(), packed, out, None);
        });
        out.store = Store::Add;
        start += part;
    }
}

/// [`gemm_bf16`] with a right-hand side packed before. Same result, bit for bit.
///
/// # Shapes
/// `a` `[m, k]`, `b` `[k, n]`, `out` `[m, n]` row-major
pub fn gemm_bf16_packed(a: Matrix<'_>, b: &PackedBf16, out: &mut [f32], store: Store) {
    let engine = Bf16Engine::best();
    a.check_product(b.k, b.n, out);
    if b.k == 0 {
        return empty(out, store);
    }
    let out = Output { data: Shared::new(out), cols: b.n, store };
    product(engine, a, 0..b.k, b.data.as_slice(), out, None);
}

/// Product with gates and ups in turn, 16 columns each, and then SwiGLU of every block; `out` `[m, inter]`.
pub(crate) fn gemm_swiglu_blocks(
    engine: Bf16Engine,
    a: Matrix<'_>,
    b: &PackedBf16,
    inter: usize,
    out: &mut [f32],
) {
    assert!(a.cols() == b.k && out.len() == floats(&[a.rows(), inter]));
    let out = Output { data: Shared::new(out), cols: b.n, store: Store::Set };
    product(engine, a, 0..b.k, b.data.as_slice(), out, Some(inter));
}

/// A block of gates and ups, and where its SwiGLU goes.
struct SwigluBlock<'a> {
    block: &'a [f32; BLOCK * BLOCK],
    rows: usize,
    cols: usize,
    out: (*mut f32, usize),
}

impl Kernel for SwigluBlock<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        // SAFETY: `product` gives the place of the block in the output.
        unsafe { swiglu_tile(s, self.block.as_ptr(), TILE, self.rows, self.cols, self.out) };
    }
}

fn empty(out: &mut [f32], store: Store) {
    if store == Store::Set {
        out.fill(0.0);
    }
}

/// The result, shared between tasks.
#[derive(Clone, Copy)]
struct Output {
    data: Shared<f32>,
    cols: usize,
    store: Store,
}

fn packed_b_words(depth: usize, cols: usize) -> usize {
    cols.div_ceil(BLOCK) * 2 * depth.div_ceil(DEPTH) * WORDS
}

/// Packs rows `depth` of B: `[cols / 16, rounded up to even][depth / 32][tile]`.
fn pack_b(b: Matrix<'_>, depth: Range<usize>, out: &mut [f32]) {
    if depth.is_empty() || b.cols() == 0 {
        return;
    }
    let (panels, tiles) = (b.cols().div_ceil(BLOCK) * 2, depth.len().div_ceil(DEPTH));
    assert!(out.len() >= panels * tiles * WORDS);
    let out = Shared::new(out);
    // Tasks in the order of memory: rows of B where it is row-major, columns where it is not.
    let by_rows = b.part(0, 0).2 == 1;
    let (count, step) = if by_rows { (tiles, 2) } else { (panels, 2) };
    for_each_task(count.div_ceil(step), b.cols() * depth.len() >= 1 << 16, |task| {
        let part = task * step..count.min((task + 1) * step);
        let (panel, panels, tile, tiles_here) =
            if by_rows { (0, panels, part.start, part.len()) } else { (part.start, part.len(), 0, tiles) };
        let depth = depth.start + tile * DEPTH..depth.end.min(depth.start + (tile + tiles_here) * DEPTH);
        // SAFETY: parts are disjoint and inside `out`.
        unsafe {
            let to = out.get().add(panel * tiles * WORDS + tile * WORDS);
            pack::pack_panels(b.transposed(), panel * TILE, panels, depth, true, to, tiles * WORDS);
        }
    });
}

/// Multiplies columns `depth` of `a` with packed rows of B. With `swiglu`, every block holds gates and ups, and their SwiGLU of that width is
/// what goes out.
fn product(
    engine: Bf16Engine,
    a: Matrix<'_>,
    depth: Range<usize>,
    b: &[f32],
    out: Output,
    swiglu: Option<usize>,
) {
    let (m, n) = (a.rows(), out.cols);
    if m == 0 || n == 0 {
        return;
    }
    let (row_blocks, col_blocks) = (m.div_ceil(BLOCK), n.div_ceil(BLOCK));
    let k_tiles = depth.len().div_ceil(DEPTH);
    assert!(b.len() >= packed_b_words(depth.len(), n));
    let threads = rayon::current_num_threads();
    let parallel = threads > 1 && m * n * depth.len() >= SERIAL_BELOW;
    let wanted = if parallel { threads * 2 } else { 1 };
    let row_tasks = row_blocks.div_ceil(MC_BLOCKS);
    let col_tasks = wanted.div_ceil(row_tasks).min(col_blocks.div_ceil(4)).max(1);
    for_each_task(row_tasks * col_tasks, parallel, |task| {
        let (row, col) = (task / col_tasks, task % col_tasks);
        let rows = row * row_blocks / row_tasks..(row + 1) * row_blocks / row_tasks;
        let cols = col * col_blocks / col_tasks..(col + 1) * col_blocks / col_tasks;
        // A block that is not stored as it is must be whole after one part of the reduction.
        let kc = if swiglu.is_some() { k_tiles } else { KC_TILES.min(k_tiles) };
        with_scratch(rows.len() * 2 * kc * WORDS, |packed| {
            let _tiles = engine.enter();
            let mut store = out.store;
            let mut tile = 0;
            while tile < k_tiles {
                let tiles = kc.min(k_tiles - tile);
                let part = depth.start + tile * DEPTH..depth.end.min(depth.start + (tile + tiles) * DEPTH);
                // SAFETY: `packed` has room for all panels.
                unsafe {
                    let (first, panels) = (rows.start * BLOCK, rows.len() * 2);
                    pack::pack_panels(a, first, panels, part, false, packed.as_mut_ptr(), tiles * WORDS);
                }
                for col in cols.clone() {
                    for row in rows.clone() {
                        // SAFETY: packed operands are as large as the block reads; tasks write disjoint blocks of the output.
                        unsafe {
                            let a = packed.as_ptr().add((row - rows.start) * 2 * tiles * WORDS);
                            let b = b.as_ptr().add(col * 2 * k_tiles * WORDS + tile * WORDS);
                            let (a, b) = ([a, a.add(tiles * WORDS)], [b, b.add(k_tiles * WORDS)]);
                            let mut to = engine::Target {
                                data: out.data.get().wrapping_add(row * BLOCK * n + col * BLOCK),
                                stride: n,
                                rows: BLOCK.min(m - row * BLOCK),
                                cols: BLOCK.min(n - col * BLOCK),
                                store,
                            };
                            if let Some(inter) = swiglu {
                                let mut block = [0.0; BLOCK * BLOCK];
                                let rows = to.rows;
                                to = engine::Target {
                                    data: block.as_mut_ptr(),
                                    stride: BLOCK,
                                    rows: BLOCK,
                                    cols: BLOCK,
                                    store,
                                };
                                engine.block(a, b, tiles, to);
                                let first = col * TILE;
                                let out = (out.data.get().add(row * BLOCK * inter + first), inter);
                                let cols = TILE.min(inter - first);
                                dispatch(Isa::best(), SwigluBlock { block: &block, rows, cols, out });
                            } else {
                                engine.block(a, b, tiles, to);
                            }
                        }
                    }
                }
                store = Store::Add;
                tile += tiles;
            }
        });
    });
}

#[cfg(test)]
mod tests;
