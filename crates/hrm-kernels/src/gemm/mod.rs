//! Single-precision matrix products for linear layers.
//!
//! Blocked as in BLIS: panels of `NR` columns of B and of `MR` rows of A are packed so that the micro-kernel reads both contiguously. Tasks
//! split the rows and columns of the result only, and the blocks of the reduction depend on its length only, so a result does not depend on
//! the number of threads, nor an element on how many other rows there are.

pub(crate) mod micro;
mod pack;

use crate::scratch::{Buffer, Shared, floats, for_each_task, with_scratch};
use crate::simd::{GemmSimd, Isa, Kernel, dispatch};
use crate::swiglu::swiglu_tile;
use micro::Left;
use std::ops::Range;

pub(crate) use pack::{pack_a_panel, pack_b_panel};

/// A matrix in a slice, with any strides.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix.
    ///
    /// # Shapes
    /// `data` `[rows, cols]`
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        let len = floats(&[rows, cols]);
        assert_eq!(data.len(), len, "matrix {rows}x{cols} needs {len} floats, got {}", data.len());
        Matrix { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// A matrix whose element (r, c) is `data[r * row_stride + c * col_stride]`.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Self {
        // Strides of 0 give any number of elements.
        if floats(&[rows, cols]) > 0 {
            let along = |count: usize, stride: usize| (count - 1).checked_mul(stride);
            let last =
                along(rows, row_stride).zip(along(cols, col_stride)).and_then(|(a, b)| a.checked_add(b));
            assert!(
                last.is_some_and(|last| last < data.len()),
                "matrix {rows}x{cols} with strides {row_stride}, {col_stride} reaches beyond {} floats",
                data.len()
            );
        }
        Matrix { data, rows, cols, row_stride, col_stride }
    }

    /// The same elements with rows and columns exchanged; moves nothing.
    pub fn transposed(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The data from an element on, and the strides; no data for an element past the end.
    pub(crate) fn part(&self, row: usize, col: usize) -> (&'a [f32], usize, usize) {
        let data = if row < self.rows && col < self.cols { &self.data[self.offset(row, col)..] } else { &[] };
        (data, self.row_stride, self.col_stride)
    }

    pub(crate) fn offset(&self, row: usize, col: usize) -> usize {
        row * self.row_stride + col * self.col_stride
    }

    /// Panics unless this times a `[k, n]` matrix can go to `out`.
    pub(crate) fn check_product(&self, k: usize, n: usize, out: &[f32]) {
        let Matrix { rows, cols, .. } = self;
        assert_eq!(*cols, k, "gemm: a is {rows}x{cols}, so b needs {cols} rows, got {k}");
        let len = floats(&[*rows, n]);
        assert_eq!(out.len(), len, "gemm: output {rows}x{n} needs {len} floats, got {}", out.len());
    }
}

/// What happens to the values that the output already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// They are overwritten.
    Set,
    /// The product is added to them.
    Add,
}

/// A right-hand side laid out for the micro-kernel, to use many times.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    isa: Isa,
    k: usize,
    n: usize,
    data: Buffer,
}

impl PackedMatrix {
    /// Packs the right-hand side `[k, n]` of a product.
    pub fn pack(b: Matrix<'_>) -> Self {
        let isa = Isa::best();
        let mut data = Buffer::zeroed(b.cols.div_ceil(tile(isa).nr) * tile(isa).nr * b.rows);
        pack_b(isa, b, 0..b.rows, 0..b.cols, data.as_mut_slice());
        PackedMatrix { isa, k: b.rows, n: b.cols, data }
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

/// `out = a · b` or `out += a · b`.
///
/// For a linear layer with `weight [out, in]`: forward `gemm(x, weight.transposed(), y)`, gradient of the input `gemm(dy, weight, dx)`,
/// gradient of the weight `gemm(dy.transposed(), x, dw)`.
///
/// # Shapes
/// `a` `[m, k]`, `b` `[k, n]`, `out` `[m, n]` row-major
pub fn gemm(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], store: Store) {
    let isa = Isa::best();
    a.check_product(b.rows, b.cols, out);
    let (k, n) = (b.rows, b.cols);
    if k == 0 {
        return empty(out, store);
    }
    let mut out = Output { data: Shared::new(out), stride: n, store };
    let nr = tile(isa).nr;
    // Long reductions are packed in parts of a few megabytes, whole blocks each, so that the result is that of one part.
    let part = (PACK_FLOATS / (n.div_ceil(nr) * nr).max(1) / KC).max(1) * KC;
    for start in (0..k).step_by(part) {
        let depth = start..k.min(start + part);
        with_scratch(n.div_ceil(nr) * nr * depth.len(), |packed| {
            pack_b(isa, b, depth.clone(), 0..n, packed);
            product(isa, a, depth.clone(), packed, n, out, None);
        });
        out.store = Store::Add;
    }
}

/// [`gemm`] with a right-hand side packed before. Same result, bit for bit.
///
/// # Shapes
/// `a` `[m, k]`, `b` `[k, n]`, `out` `[m, n]` row-major
pub fn gemm_packed(a: Matrix<'_>, b: &PackedMatrix, out: &mut [f32], store: Store) {
    a.check_product(b.k, b.n, out);
    if b.k == 0 {
        return empty(out, store);
    }
    let out = Output { data: Shared::new(out), stride: b.n, store };
    product(b.isa, a, 0..b.k, b.data.as_slice(), b.n, out, None);
}

/// Product with gates and ups in turn, half a micro-tile each, and then SwiGLU of every tile; `out` `[m, inter]`.
pub(crate) fn gemm_swiglu_tiles(a: Matrix<'_>, b: &PackedMatrix, inter: usize, out: &mut [f32]) {
    assert!(a.cols == b.k && out.len() == floats(&[a.rows, inter]));
    let out = Output { data: Shared::new(out), stride: inter, store: Store::Set };
    product(b.isa, a, 0..b.k, b.data.as_slice(), b.n, out, Some(inter));
}

/// A product over nothing.
fn empty(out: &mut [f32], store: Store) {
    if store == Store::Set {
        out.fill(0.0);
    }
}

/// Depth of a block of the reduction.
const KC: usize = 512;
/// Floats of B packed at a time when it is not packed beforehand.
const PACK_FLOATS: usize = 4 << 20;
/// Micro-tiles of rows that a task takes, at most.
const MC_PANELS: usize = 16;
/// Multiply-adds below which a product stays on the calling thread.
const SERIAL_BELOW: usize = if cfg!(miri) { 1 << 10 } else { 1 << 18 };

/// Micro-tile of an instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) mr: usize,
    pub(crate) nr: usize,
}

pub(crate) fn tile(isa: Isa) -> Tile {
    struct TileOf;
    impl Kernel for TileOf {
        type Output = Tile;
        #[inline(always)]
        fn run<S: GemmSimd>(self, _: S) -> Tile {
            Tile { mr: S::MR, nr: S::NR }
        }
    }
    dispatch(isa, TileOf)
}

/// The result, shared between tasks.
#[derive(Clone, Copy)]
struct Output {
    data: Shared<f32>,
    stride: usize,
    store: Store,
}

/// Packs rows `depth` and columns `cols` of B into panels `[cols / nr][depth][nr]`, zero-padded.
fn pack_b(isa: Isa, b: Matrix<'_>, depth: Range<usize>, cols: Range<usize>, out: &mut [f32]) {
    if depth.is_empty() || cols.is_empty() {
        return;
    }
    let nr = tile(isa).nr;
    let panels = cols.len().div_ceil(nr);
    let size = nr * depth.len();
    assert!(out.len() >= panels * size);
    let out = Shared::new(out);
    // Tasks in the order of memory: rows of B where it is row-major, columns where it is not.
    let (count, step) = if b.col_stride == 1 { (depth.len(), 64) } else { (panels, 2) };
    for_each_task(count.div_ceil(step), cols.len() * depth.len() >= 1 << 15, |task| {
        let part = task * step..count.min((task + 1) * step);
        let (panels, rows) = if b.col_stride == 1 { (0..panels, part) } else { (part, 0..depth.len()) };
        dispatch(
            isa,
            PackB { b, first: depth.start, depth: depth.len(), rows, cols: cols.clone(), panels, out },
        );
    });
}

/// Packs some rows of some panels.
struct PackB<'a> {
    b: Matrix<'a>,
    /// First row of B that is packed, and how many are, by all tasks.
    first: usize,
    depth: usize,
    /// Rows of this task, from the first one.
    rows: Range<usize>,
    cols: Range<usize>,
    panels: Range<usize>,
    out: Shared<f32>,
}

impl Kernel for PackB<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let Matrix { data, row_stride, col_stride, .. } = self.b;
        let step = if col_stride == 1 { 16 } else { self.rows.len() };
        let mut row = self.rows.start;
        while row < self.rows.end {
            let rows = step.min(self.rows.end - row);
            for panel in self.panels.clone() {
                let col = self.cols.start + panel * S::NR;
                let cols = S::NR.min(self.cols.end - col);
                // SAFETY: the rows and columns are inside the matrix, whose constructor checked the slice; `pack_b` checked the output's
                // size, and tasks write disjoint parts of it.
                unsafe {
                    let src = data.as_ptr().add((self.first + row) * row_stride + col * col_stride);
                    let dst = self.out.get().add((panel * self.depth + row) * S::NR);
                    pack_b_panel(s, src, row_stride, col_stride, rows, cols, dst);
                }
            }
            row += step;
        }
    }
}

/// Multiplies columns `depth` of `a` with packed rows of B: the whole product over all rows and columns of the result.
///
/// With `swiglu`, every tile holds gates and ups, and their SwiGLU of that width is what goes out.
fn product(
    isa: Isa,
    a: Matrix<'_>,
    depth: Range<usize>,
    b: &[f32],
    n: usize,
    out: Output,
    swiglu: Option<usize>,
) {
    let (m, k) = (a.rows, depth.len());
    if m == 0 || n == 0 {
        return;
    }
    let Tile { mr, nr } = tile(isa);
    let (row_panels, col_panels) = (m.div_ceil(mr), n.div_ceil(nr));
    assert!(b.len() >= col_panels * nr * k);
    let threads = rayon::current_num_threads();
    let parallel = threads > 1 && m * n * k >= SERIAL_BELOW;

    // Enough tasks for every thread to find work while another one is slow; rows are split first, since a task packs its rows of A.
    let wanted = if parallel { threads * 4 } else { 1 };
    let row_tasks = row_panels.div_ceil(MC_PANELS).max(wanted.min(row_panels.div_ceil(MC_PANELS / 2)));
    let col_tasks = wanted.div_ceil(row_tasks).min(col_panels.div_ceil(4)).max(1);
    for_each_task(row_tasks * col_tasks, parallel, |index| {
        let (row, col) = (index / col_tasks, index % col_tasks);
        let rows = (row * row_panels / row_tasks * mr)..((row + 1) * row_panels / row_tasks * mr).min(m);
        let cols = (col * col_panels / col_tasks * nr)..((col + 1) * col_panels / col_tasks * nr).min(n);
        // A tile that is not stored as it is must be whole after one block of the reduction.
        let kc = if swiglu.is_some() { k } else { KC.min(k) };
        with_scratch(Block::scratch(mr, rows.len(), kc), |packed| {
            dispatch(isa, Block { a, depth: depth.clone(), kc, b, rows, cols, out, swiglu, packed });
        });
    });
}

/// A block of the result, one task's work.
struct Block<'a> {
    a: Matrix<'a>,
    depth: Range<usize>,
    /// Depth of a block of the reduction.
    kc: usize,
    b: &'a [f32],
    rows: Range<usize>,
    cols: Range<usize>,
    out: Output,
    swiglu: Option<usize>,
    /// Room for the block's rows of A, [`Block::scratch`] floats.
    packed: &'a mut [f32],
}

impl Block<'_> {
    /// Floats of scratch that a block needs. A panel ends in slack, because packing writes whole vectors.
    fn scratch(mr: usize, rows: usize, kc: usize) -> usize {
        (kc * mr + 16) * rows.div_ceil(mr)
    }
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let k = self.depth.len();
        let row_panels = self.rows.len().div_ceil(S::MR);
        let panel_size = self.kc * S::MR + 16;
        assert!(self.packed.len() >= panel_size * row_panels);
        let mut store = self.out.store;
        let mut start = 0;
        while start < k {
            let depth = self.kc.min(k - start);
            let Matrix { data, row_stride, col_stride, .. } = self.a;
            // In the order of memory: where rows run along it, a few columns of all panels at a time.
            let step = if row_stride == 1 { 16 } else { depth };
            let mut p = 0;
            while p < depth {
                for panel in 0..row_panels {
                    let row = self.rows.start + panel * S::MR;
                    let rows = S::MR.min(self.rows.end - row);
                    // SAFETY: the rows and columns are inside the matrix, whose constructor checked the slice; the panel with its slack is
                    // inside `packed`.
                    unsafe {
                        let src =
                            data.as_ptr().add(row * row_stride + (self.depth.start + start + p) * col_stride);
                        let dst = self.packed.as_mut_ptr().add(panel * panel_size + p * S::MR);
                        pack::pack_a_panel(s, src, row_stride, col_stride, step.min(depth - p), rows, dst);
                    }
                }
                p += step;
            }
            let mut col = self.cols.start;
            while col < self.cols.end {
                let cols = S::NR.min(self.cols.end - col);
                for panel in 0..row_panels {
                    let row = self.rows.start + panel * S::MR;
                    let rows = S::MR.min(self.rows.end - row);
                    // SAFETY: packed panels are as large as the kernel reads; tasks write disjoint blocks of the output, which holds
                    // `rows` rows of `stride` floats.
                    unsafe {
                        let mut tile = micro::Tile {
                            rows,
                            cols,
                            depth,
                            a: Left::ByDepth(self.packed.as_ptr().add(panel * panel_size), S::MR),
                            b: self.b.as_ptr().add(col * k + start * S::NR),
                            c: self.out.data.get().wrapping_add(row * self.out.stride + col),
                            c_stride: self.out.stride,
                            store,
                        };
                        if let Some(inter) = self.swiglu {
                            let half = S::NR / 2;
                            let first = col / S::NR * half;
                            let mut gate_up = [0.0f32; micro::LARGEST];
                            tile.c = gate_up.as_mut_ptr();
                            tile.c_stride = S::NR;
                            s.tile(&tile);
                            let to = (self.out.data.get().add(row * inter + first), inter);
                            swiglu_tile(s, gate_up.as_ptr(), half, rows, half.min(inter - first), to);
                        } else {
                            s.tile(&tile);
                        }
                    }
                }
                col += S::NR;
            }
            store = Store::Add;
            start += self.kc;
        }
    }
}

#[cfg(test)]
mod tests;
