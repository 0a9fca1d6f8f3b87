//! A block that mixes the nodes of a lattice by their groups, each puzzle in the caches of one core.
//!
//! A lattice has `cells * values` nodes, each with a state of `hidden` floats. A block is
//! `u = silu(U z)`; `m_k`, the mean of `u` over the group of kind `k` that a node lies in; `[g, v] = W [z, m_1, m_2, ...]`;
//! `y = rms_norm(z + D (silu(g) * v))`. What a group contributes to `[g, v]` is multiplied once for the group and then added to its nodes.
//!
//! Inside, nodes are ordered by value, so that the groups of one value fit the caches. Results do not depend on the number of threads: a
//! puzzle is one task, and gradients of weights are summed over fixed runs of puzzles, then over the runs in order.

mod product;

use crate::bf16::Bf16Engine;
use crate::math::sigmoid;
use crate::scratch::{Buffer, Shared, for_each_task, with_scratch};
use crate::simd::{GemmSimd, Isa, Kernel, dispatch};
use half::bf16;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
pub(crate) use product::Step;
pub(crate) use product::{Product, Single, product};

/// Lists of indices, one after the other: list `i` is `items[starts[i]..starts[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    /// Where each list starts, and the end of the last one.
    pub starts: &'a [u32],
    /// All indices.
    pub items: &'a [u32],
}

impl<'a> Lists<'a> {
    fn count(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    #[inline(always)]
    fn get(&self, index: usize) -> &'a [u32] {
        &self.items[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// Panics unless these are `count` lists (if given) of indices below `bound`.
    fn check(&self, what: &str, count: Option<usize>, bound: usize) {
        let sorted = self.starts.is_sorted()
            && self.starts.last().is_some_and(|&end| end as usize == self.items.len());
        assert!(sorted, "{what}: starts must rise to the number of items, {}", self.items.len());
        if let Some(count) = count {
            assert_eq!(self.count(), count, "{what}: expected {count} lists, got {}", self.count());
        }
        let worst = self.items.iter().max().copied().unwrap_or(0) as usize;
        assert!(self.items.is_empty() || worst < bound, "{what}: index {worst}, expected less than {bound}");
    }
}

/// Groups of cells, each taken at every value by itself.
#[derive(Clone, Copy, Debug)]
pub struct CellGroups<'a> {
    /// The cells of each group.
    pub members: Lists<'a>,
    /// The groups that each cell takes the mean of.
    pub readers: Lists<'a>,
}

/// For each row of a result, the rows of an operand that it is the weighted sum of.
#[derive(Clone, Debug)]
struct Taps {
    starts: Vec<u32>,
    items: Vec<(u32, f32)>,
}

impl Taps {
    /// From entries (row of the result, row of the operand, weight).
    fn new(rows: usize, mut entries: Vec<(u32, u32, f32)>) -> Self {
        entries.sort_by_key(|&(row, operand, _)| (row, operand));
        let mut starts = vec![0; rows + 1];
        entries.iter().for_each(|&(row, ..)| starts[row as usize + 1] += 1);
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        Taps { starts, items: entries.into_iter().map(|(_, operand, weight)| (operand, weight)).collect() }
    }

    fn transposed(entries: &[(u32, u32, f32)]) -> Vec<(u32, u32, f32)> {
        entries.iter().map(|&(row, operand, weight)| (operand, row, weight)).collect()
    }

    #[inline(always)]
    fn get(&self, row: usize) -> &[(u32, f32)] {
        &self.items[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

/// The groups of a puzzle, checked and laid out for the kernels.
#[derive(Clone, Debug)]
pub struct GroupIndex {
    cells: usize,
    values: usize,
    /// Groups of cells of each kind.
    counts: Vec<usize>,
    /// Groups of cells of all kinds.
    groups: usize,
    /// Means over groups: of each group, the cells; and the transpose.
    pool: Taps,
    pool_back: Taps,
    /// Means over the groups that a cell reads: of each cell, the groups; and the transpose.
    spread: Taps,
    spread_back: Taps,
}

impl GroupIndex {
    /// The index of a lattice of `cells * values` nodes. Panics if a list names what does not exist.
    pub fn new(cells: usize, values: usize, kinds: &[CellGroups<'_>]) -> Self {
        let (mut pool, mut spread) = (Vec::new(), Vec::new());
        let mut first = 0;
        let mut counts = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            let count = kind.members.count();
            kind.members.check(&format!("members of kind {i}"), None, cells);
            kind.readers.check(&format!("readers of kind {i}"), Some(cells), count);
            for group in 0..count {
                let members = kind.members.get(group);
                let weight = 1.0 / members.len() as f32;
                pool.extend(members.iter().map(|&cell| ((first + group) as u32, cell, weight)));
            }
            for cell in 0..cells {
                let readers = kind.readers.get(cell);
                let weight = 1.0 / readers.len() as f32;
                spread.extend(readers.iter().map(|&group| (cell as u32, first as u32 + group, weight)));
            }
            counts.push(count);
            first += count;
        }
        Self {
            cells,
            values,
            counts,
            groups: first,
            pool_back: Taps::new(cells, Taps::transposed(&pool)),
            pool: Taps::new(first, pool),
            spread_back: Taps::new(first, Taps::transposed(&spread)),
            spread: Taps::new(cells, spread),
        }
    }

    /// Kinds of groups, those of the values of a cell included.
    fn kinds(&self) -> usize {
        self.counts.len() + usize::from(self.values > 1)
    }

    /// For each kind of groups of cells, its place among the kinds, its first group, and how many it has.
    fn parts(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let before = usize::from(self.values > 1);
        let mut first = 0;
        self.counts.iter().enumerate().map(move |(kind, &count)| {
            first += count;
            (kind + before, first - count, count)
        })
    }
}

/// Sizes of a [`group_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupShape {
    /// Puzzles.
    pub batch: usize,
    /// Width of a node's state, a multiple of 16.
    pub hidden: usize,
    /// Width of what is pooled, a multiple of 16.
    pub width: usize,
    /// Width of the gated unit, a multiple of 16.
    pub inter: usize,
}

impl GroupShape {
    /// Whether the kernel takes these sizes.
    pub fn fits(&self) -> bool {
        let aligned = |n: usize| n > 0 && n.is_multiple_of(16);
        aligned(self.hidden) && aligned(self.width) && aligned(self.inter)
    }
}

/// A weight laid out for the products of a block, forward and backward.
#[derive(Clone, Debug)]
pub struct GroupWeight {
    isa: Isa,
    rows: usize,
    cols: usize,
    pairs: bool,
    /// `[cols, rows]`: for products with the transposed weight.
    forward: Buffer,
    /// `[rows, cols]`.
    backward: Buffer,
}

impl GroupWeight {
    /// Packs a weight. With `rounded`, products take operands rounded to bfloat16 where the processor multiplies those faster.
    ///
    /// # Shapes
    /// `weight` `[rows, cols]`, both multiples of 16
    pub fn pack(weight: &[f32], rows: usize, cols: usize, rounded: bool) -> Self {
        let isa = Isa::best();
        assert_eq!(
            Some(weight.len()),
            rows.checked_mul(cols),
            "weight [{rows}, {cols}], got {} floats",
            weight.len()
        );
        assert!(
            rows.is_multiple_of(16) && cols.is_multiple_of(16),
            "weight [{rows}, {cols}]: expected multiples of 16"
        );
        let pairs = rounded && has_pairs(isa);
        let pack = |depth: usize, across: usize, at: &dyn Fn(usize, usize) -> f32| {
            let steps = if pairs { depth / 2 } else { depth };
            let mut buffer = Buffer::zeroed(steps * across);
            for (step, row) in buffer.as_mut_slice().chunks_exact_mut(across).enumerate() {
                for (i, word) in row.iter_mut().enumerate() {
                    *word = if pairs { pair(at(2 * step, i), at(2 * step + 1, i)) } else { at(step, i) };
                }
            }
            buffer
        };
        Self {
            isa,
            rows,
            cols,
            pairs,
            forward: pack(cols, rows, &|depth, i| weight[i * cols + depth]),
            backward: pack(rows, cols, &|depth, i| weight[depth * cols + i]),
        }
    }
}

/// Whether products of pairs of bfloat16 values are fast.
fn has_pairs(isa: Isa) -> bool {
    isa == Isa::Avx512 && Bf16Engine::available().contains(&Bf16Engine::Avx512Bf16)
}

/// Two values as a word of bfloat16.
fn pair(low: f32, high: f32) -> f32 {
    let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
    f32::from_bits(bits(low) | bits(high) << 16)
}

/// The weights of a block and what it mixes.
#[derive(Clone, Copy, Debug)]
pub struct GroupBlock<'a> {
    /// Sizes.
    pub shape: GroupShape,
    /// What it mixes.
    pub index: &'a GroupIndex,
    /// `U`, `[width, hidden]`
    pub input: &'a GroupWeight,
    /// `W`, `[2 * inter, hidden + kinds * width]`: gate first; columns of the state, of a cell's values (if there are several), of each
    /// kind of groups of cells.
    pub gate_up: &'a GroupWeight,
    /// `D`, `[hidden, inter]`
    pub down: &'a GroupWeight,
    /// Added to the mean square.
    pub eps: f32,
}

/// The block's result for `z + injection` (or `z` alone).
///
/// # Shapes
/// `z`, `injection`, `out` `[batch, cells * values, hidden]`, `inv_rms` `[batch, cells * values]`
pub fn group_block(
    block: GroupBlock<'_>,
    z: &[f32],
    injection: Option<&[f32]>,
    out: &mut [f32],
    inv_rms: &mut [f32],
) {
    let plan = Plan::new(block, z, injection);
    assert_eq!(out.len(), z.len(), "group_block: z has {} floats, out {}", z.len(), out.len());
    assert_eq!(
        inv_rms.len() * block.shape.hidden,
        z.len(),
        "group_block: inv_rms has {} floats",
        inv_rms.len()
    );
    let (out, inv_rms) = (Shared::new(out), Shared::new(inv_rms));
    for_each_task(block.shape.batch, true, |puzzle| {
        with_scratch(plan.forward_scratch(), |scratch| {
            // SAFETY: tasks have different puzzles, and the lengths were checked.
            let (out, inv_rms) =
                unsafe { (part(out, puzzle, plan.state()), part(inv_rms, puzzle, plan.nodes)) };
            dispatch(block.input.isa, Forward { plan: &plan, puzzle, scratch, out, inv_rms });
        });
    });
}

/// Gradients of [`group_block`]: that of `z`, which is also that of `injection`, and those of the weights.
///
/// # Shapes
/// `z`, `injection`, `y`, `dy`, `dz` `[batch, cells * values, hidden]`, `inv_rms` `[batch, cells * values]`; the gradients of the weights
/// `[width, hidden]`, `[2 * inter, hidden + kinds * width]`, `[hidden, inter]`
pub fn group_block_backward(
    block: GroupBlock<'_>,
    z: &[f32],
    injection: Option<&[f32]>,
    (y, inv_rms): (&[f32], &[f32]),
    dy: &[f32],
    dz: &mut [f32],
    [dinput, dgate_up, ddown]: [&mut [f32]; 3],
) {
    let plan = Plan::new(block, z, injection);
    for (name, len) in
        [("y", y.len()), ("dy", dy.len()), ("dz", dz.len()), ("inv_rms", inv_rms.len() * block.shape.hidden)]
    {
        assert_eq!(
            len,
            z.len(),
            "group_block_backward: {name} has the wrong length: {len}, expected {}",
            z.len()
        );
    }
    let sizes = plan.weights();
    for (name, got, expected) in [
        ("dinput", dinput.len(), sizes[0]),
        ("dgate_up", dgate_up.len(), sizes[1]),
        ("ddown", ddown.len(), sizes[2]),
    ] {
        assert_eq!(got, expected, "group_block_backward: {name} has {got} floats, expected {expected}");
    }
    let total: usize = sizes.iter().sum();
    // Runs of puzzles whose gradients of weights are summed in place; how many there are depends on the batch alone.
    let run = block.shape.batch.div_ceil(32).max(1);
    let runs = block.shape.batch.div_ceil(run);
    let dz = Shared::new(dz);
    with_scratch(runs * total, |sums| {
        let shared = Shared::new(sums);
        for_each_task(runs, true, |index| {
            // SAFETY: tasks have different parts.
            let grads = unsafe { part(shared, index, total) };
            grads.fill(0.0);
            with_scratch(plan.backward_scratch(), |scratch| {
                for puzzle in index * run..((index + 1) * run).min(block.shape.batch) {
                    // SAFETY: tasks have different puzzles, and the length was checked.
                    let dz = unsafe { part(dz, puzzle, plan.state()) };
                    dispatch(
                        Isa::best(),
                        Backward { plan: &plan, puzzle, scratch, y, inv_rms, dy, dz, grads },
                    );
                }
            });
        });
        let mut start = 0;
        for out in [dinput, dgate_up, ddown] {
            out.fill(0.0);
            for index in 0..runs {
                let part = &sums[index * total + start..][..out.len()];
                out.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
            start += out.len();
        }
    });
}

/// Part `index` of equal parts.
///
/// # Safety
/// The part is inside the slice that `shared` was made of, which outlives the result, and nobody else has it.
unsafe fn part<'a>(shared: Shared<f32>, index: usize, len: usize) -> &'a mut [f32] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(shared.get().add(index * len), len) }
}

/// A checked call.
#[derive(Clone, Copy)]
struct Plan<'a> {
    block: GroupBlock<'a>,
    z: &'a [f32],
    injection: Option<&'a [f32]>,
    index: &'a GroupIndex,
    cells: usize,
    values: usize,
    nodes: usize,
    pairs: bool,
}

impl<'a> Plan<'a> {
    fn new(block: GroupBlock<'a>, z: &'a [f32], injection: Option<&'a [f32]>) -> Self {
        let shape = block.shape;
        let GroupShape { batch, hidden, width, inter } = shape;
        let index = block.index;
        let GroupIndex { cells, values, .. } = *index;
        assert!(
            shape.fits() && cells * values > 0,
            "group_block: expected hidden, width and inter as multiples of 16 and some nodes, got {shape:?}, {cells} x {values} nodes"
        );
        let len =
            [batch, cells, values, hidden].iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        assert_eq!(
            Some(z.len()),
            len,
            "group_block: z has {} floats for {shape:?}, {cells} x {values} nodes",
            z.len()
        );
        if let Some(injection) = injection {
            assert_eq!(
                injection.len(),
                z.len(),
                "group_block: injection has {} floats, z {}",
                injection.len(),
                z.len()
            );
        }
        let columns = hidden + index.kinds() * width;
        for (name, weight, expected) in [
            ("input", block.input, [width, hidden]),
            ("gate_up", block.gate_up, [2 * inter, columns]),
            ("down", block.down, [hidden, inter]),
        ] {
            assert_eq!([weight.rows, weight.cols], expected, "group_block: shape of {name}");
            assert_eq!(
                (weight.isa, weight.pairs),
                (block.input.isa, block.input.pairs),
                "group_block: {name} is packed otherwise than the others"
            );
        }
        Plan { block, z, injection, index, cells, values, nodes: cells * values, pairs: block.input.pairs }
    }

    /// Floats of a puzzle's state.
    fn state(&self) -> usize {
        self.nodes * self.block.shape.hidden
    }

    /// Floats of each weight.
    fn weights(&self) -> [usize; 3] {
        let GroupBlock { input, gate_up, down, .. } = self.block;
        [input, gate_up, down].map(|weight| weight.rows * weight.cols)
    }

    /// Rows of pooled values of cells.
    fn of_cells(&self) -> usize {
        if self.values > 1 { self.cells } else { 0 }
    }

    /// Floats of the parts of the scratch that both passes use: `x`, `u`, pooled values (those of cells, then by value those of groups of
    /// cells), what they contribute (of cells, of one value), gates and ups, products of them, words.
    fn common(&self) -> [usize; 8] {
        let GroupShape { hidden, width, inter, .. } = self.block.shape;
        let (cells, groups, wide) = (self.cells, self.index.groups, 2 * inter);
        let block = ROWS.min(cells);
        let words = (cells + 1).max(groups + 1) * hidden.max(width).max(wide);
        [
            self.nodes * hidden,
            self.nodes * width,
            (self.of_cells() + self.values * groups) * width,
            self.of_cells() * wide,
            groups * wide,
            block * wide,
            block * inter,
            words,
        ]
    }

    fn forward_scratch(&self) -> usize {
        self.common().iter().sum()
    }

    /// Further parts: `u` before its activation, gradients of what groups contribute (of cells, of one value), of pooled values, of `x` by
    /// value, of gates and ups at one value, of a block's sums and products, more words.
    fn extra(&self) -> [usize; 9] {
        let GroupShape { hidden, inter, .. } = self.block.shape;
        let [x, u, pooled, of_cells, of_groups, _, _, words] = self.common();
        let block = ROWS.min(self.cells);
        [u, of_cells, of_groups, pooled, x, self.cells * 2 * inter, block * hidden, block * inter, words]
    }

    fn backward_scratch(&self) -> usize {
        self.forward_scratch() + self.extra().iter().sum::<usize>()
    }
}

/// Nodes whose gates and ups are in the nearest cache at a time; even, so that only the last block of a value pairs with nothing.
const ROWS: usize = 48;

/// Cuts the first `len` floats off.
fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}

/// What the passes have in common, on one instruction set.
struct Pass<'a, 'p, S> {
    s: S,
    plan: &'p Plan<'a>,
}

impl<S: GemmSimd> Pass<'_, '_, S> {
    /// `dst += weight * src`, slices of a multiple of 16 floats.
    #[inline(always)]
    fn add(&self, dst: &mut [f32], src: &[f32], weight: f32) {
        assert_eq!(dst.len(), src.len());
        let (s, weight) = (self.s, self.s.splat(weight));
        let mut i = 0;
        while i < dst.len() {
            // SAFETY: both slices have `N` more floats, as their length is a multiple of 16.
            unsafe {
                let sum = s.fma(s.load(src.as_ptr().add(i)), weight, s.load(dst.as_ptr().add(i)));
                s.store(dst.as_mut_ptr().add(i), sum);
            }
            i += S::N;
        }
    }

    /// Rows `[rows, n]` as left operand of a product over their columns: the rows themselves, or words of neighbours.
    #[inline(always)]
    fn by_row<'w>(&self, src: &'w [f32], n: usize, words: &'w mut [f32]) -> (&'w [f32], [usize; 2]) {
        if !self.plan.pairs {
            return (src, [n, 1]);
        }
        let words = &mut words[..src.len() / 2];
        // SAFETY: there are pairs; lengths are multiples of 16.
        unsafe { self.s.round_along(src, words) };
        (words, [n / 2, 1])
    }

    /// Rows `[rows, n]` as operand of a product over the rows: the rows themselves, or words of one row and the next.
    #[inline(always)]
    fn by_depth<'w>(&self, src: &'w [f32], n: usize, words: &'w mut [f32]) -> &'w [f32] {
        if !self.plan.pairs {
            return src;
        }
        let rows = src.len() / n;
        let words = &mut words[..rows.div_ceil(2) * n];
        // SAFETY: as above.
        unsafe { self.s.round_across(src, n, words) };
        words
    }

    /// Steps of a reduction over `n` values.
    #[inline(always)]
    fn steps(&self, n: usize) -> usize {
        if self.plan.pairs { n.div_ceil(2) } else { n }
    }

    /// `c (+)= a b`, `a` from [`by_row`](Self::by_row) with rows of `depth`, `b` some columns of a packed weight.
    #[inline(always)]
    fn times(
        &self,
        (a, a_strides): (&[f32], [usize; 2]),
        depth: usize,
        (b, b_stride): (&[f32], usize),
        c: &mut [f32],
        cols: usize,
        add: bool,
    ) {
        let (rows, steps) = (c.len() / cols, self.steps(depth));
        assert!(
            a.len() >= (rows - 1) * a_strides[0] + steps
                && b.len() >= (steps - 1) * b_stride + cols
                && c.len() == rows * cols
        );
        let p = Product {
            shape: [rows, cols, steps],
            a: a.as_ptr(),
            a_strides,
            b: b.as_ptr(),
            b_stride,
            c: c.as_mut_ptr(),
            c_stride: cols,
            add,
        };
        // SAFETY: the lengths above.
        unsafe { self.s.small_product(&p, self.plan.pairs) };
    }

    /// `c += a^T b`, both operands from [`by_depth`](Self::by_depth) with `depth` rows of `m` and `n`.
    #[inline(always)]
    fn outer(
        &self,
        (a, m): (&[f32], usize),
        (b, n): (&[f32], usize),
        depth: usize,
        c: &mut [f32],
        c_stride: usize,
    ) {
        let steps = self.steps(depth);
        assert!(a.len() >= steps * m && b.len() >= steps * n && c.len() >= (m - 1) * c_stride + n);
        let p = Product {
            shape: [m, n, steps],
            a: a.as_ptr(),
            a_strides: [1, m],
            b: b.as_ptr(),
            b_stride: n,
            c: c.as_mut_ptr(),
            c_stride,
            add: true,
        };
        // SAFETY: the lengths above.
        unsafe { self.s.small_product(&p, self.plan.pairs) };
    }

    /// The weight of a product with the transposed matrix: columns `from..` of the matrix, which are rows of the packed one.
    #[inline(always)]
    fn forward<'w>(&self, weight: &'w GroupWeight, from: usize) -> (&'w [f32], usize) {
        (&weight.forward.as_slice()[self.steps(from) * weight.rows..], weight.rows)
    }

    /// The weight of a product with the matrix: columns `from..`.
    #[inline(always)]
    fn backward<'w>(&self, weight: &'w GroupWeight, from: usize) -> (&'w [f32], usize) {
        (&weight.backward.as_slice()[from..], weight.cols)
    }

    /// Columns of `W` where a kind of groups starts.
    #[inline(always)]
    fn columns_of(&self, kind: usize) -> usize {
        let GroupShape { hidden, width, .. } = self.plan.block.shape;
        hidden + kind * width
    }

    /// `dst = start + sum of weight * row` over the rows that the taps name, of `dst.len()` floats each, a multiple of 16. Sums stay in
    /// registers.
    #[inline(always)]
    fn sum_taps(&self, dst: &mut [f32], start: Option<&[f32]>, taps: &[(u32, f32)], src: &[f32]) {
        let mut i = 0;
        while i + 4 * S::N <= dst.len() {
            self.sum_some::<4>(dst, start, taps, src, i);
            i += 4 * S::N;
        }
        while i < dst.len() {
            self.sum_some::<1>(dst, start, taps, src, i);
            i += S::N;
        }
    }

    #[inline(always)]
    fn sum_some<const V: usize>(
        &self,
        dst: &mut [f32],
        start: Option<&[f32]>,
        taps: &[(u32, f32)],
        src: &[f32],
        from: usize,
    ) {
        let (s, n) = (self.s, dst.len());
        let mut sums = [s.splat(0.0); V];
        if let Some(start) = start {
            let start = &start[from..from + V * S::N];
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the slice has `V` vectors.
                *sum = unsafe { s.load(start.as_ptr().add(j * S::N)) };
            }
        }
        for &(row, weight) in taps {
            let row = &src[row as usize * n + from..][..V * S::N];
            let weight = s.splat(weight);
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                *sum = s.fma(unsafe { s.load(row.as_ptr().add(j * S::N)) }, weight, *sum);
            }
        }
        let dst = &mut dst[from..from + V * S::N];
        for (j, sum) in sums.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { s.store(dst.as_mut_ptr().add(j * S::N), sum) };
        }
    }

    /// `x`, by value: `z + injection`.
    #[inline(always)]
    fn gather(&self, puzzle: usize, x: &mut [f32]) {
        let (Plan { cells, values, .. }, GroupShape { hidden, .. }) = (*self.plan, self.plan.block.shape);
        let start = puzzle * self.plan.state();
        for value in 0..values {
            for cell in 0..cells {
                let at = start + (cell * values + value) * hidden;
                let row = &mut x[(value * cells + cell) * hidden..][..hidden];
                row.copy_from_slice(&self.plan.z[at..][..hidden]);
                if let Some(injection) = self.plan.injection {
                    self.add(row, &injection[at..][..hidden], 1.0);
                }
            }
        }
    }

    /// `u` before its activation.
    #[inline(always)]
    fn project(&self, x: &[f32], u: &mut [f32], words: &mut [f32]) {
        let (Plan { cells, values, .. }, GroupShape { hidden, width, .. }) =
            (*self.plan, self.plan.block.shape);
        for value in 0..values {
            let a = self.by_row(&x[value * cells * hidden..][..cells * hidden], hidden, words);
            let u = &mut u[value * cells * width..][..cells * width];
            self.times(a, hidden, self.forward(self.plan.block.input, 0), u, width, false);
        }
    }

    /// `x = silu(x)`
    #[inline(always)]
    fn silu(&self, x: &mut [f32]) {
        let s = self.s;
        let mut i = 0;
        while i < x.len() {
            // SAFETY: the slice has `N` more floats.
            unsafe {
                let v = s.load(x.as_ptr().add(i));
                s.store(x.as_mut_ptr().add(i), s.mul(v, sigmoid(s, v)));
            }
            i += S::N;
        }
    }

    /// Means of `u` over all groups.
    #[inline(always)]
    fn pool(&self, u: &[f32], pooled: &mut [f32]) {
        let Plan { index, cells, values, .. } = *self.plan;
        let width = self.plan.block.shape.width;
        let (of_cells, of_groups) = pooled.split_at_mut(self.plan.of_cells() * width);
        let share = 1.0 / values as f32;
        for (cell, row) in of_cells.chunks_exact_mut(width).enumerate() {
            row.fill(0.0);
            for value in 0..values {
                self.add(row, &u[(value * cells + cell) * width..][..width], share);
            }
        }
        for (at, row) in of_groups.chunks_exact_mut(width).enumerate() {
            let (value, group) = (at / index.groups, at % index.groups);
            self.sum_taps(row, None, index.pool.get(group), &u[value * cells * width..][..cells * width]);
        }
    }

    /// The transpose of [`pool`](Self::pool).
    #[inline(always)]
    fn pool_back(&self, dpooled: &[f32], du: &mut [f32]) {
        let Plan { index, cells, values, .. } = *self.plan;
        let width = self.plan.block.shape.width;
        let (of_cells, of_groups) = dpooled.split_at(self.plan.of_cells() * width);
        for (node, row) in du.chunks_exact_mut(width).enumerate() {
            let (value, cell) = (node / cells, node % cells);
            let of_value = &of_groups[value * index.groups * width..][..index.groups * width];
            self.sum_taps(row, None, index.pool_back.get(cell), of_value);
            if values > 1 {
                self.add(row, &of_cells[cell * width..][..width], 1.0 / values as f32);
            }
        }
    }

    /// Where the pooled values of one value's groups of cells are.
    #[inline(always)]
    fn of_value(&self, value: usize) -> Range<usize> {
        let (groups, width) = (self.plan.index.groups, self.plan.block.shape.width);
        let start = (self.plan.of_cells() + value * groups) * width;
        start..start + groups * width
    }

    /// What the values of each cell contribute to its gates and ups.
    #[inline(always)]
    fn contribute_cells(&self, pooled: &[f32], out: &mut [f32], words: &mut [f32]) {
        let GroupShape { hidden, width, inter, .. } = self.plan.block.shape;
        if !out.is_empty() {
            let a = self.by_row(&pooled[..self.plan.cells * width], width, words);
            self.times(a, width, self.forward(self.plan.block.gate_up, hidden), out, 2 * inter, false);
        }
    }

    /// What the groups of cells contribute at one value.
    #[inline(always)]
    fn contribute_groups(&self, pooled: &[f32], value: usize, out: &mut [f32], words: &mut [f32]) {
        let GroupShape { width, inter, .. } = self.plan.block.shape;
        let pooled = &pooled[self.of_value(value)];
        for (kind, first, count) in self.plan.index.parts().filter(|part| part.2 > 0) {
            let a = self.by_row(&pooled[first * width..][..count * width], width, words);
            let out = &mut out[first * 2 * inter..][..count * 2 * inter];
            let weight = self.forward(self.plan.block.gate_up, self.columns_of(kind));
            self.times(a, width, weight, out, 2 * inter, false);
        }
    }

    /// Gates and ups of some cells at one value.
    #[inline(always)]
    fn gates(
        &self,
        x: &[f32],
        (of_cells, of_groups): (&[f32], &[f32]),
        rows: Range<usize>,
        gate_up: &mut [f32],
        words: &mut [f32],
    ) {
        let GroupShape { hidden, inter, .. } = self.plan.block.shape;
        let wide = 2 * inter;
        for (cell, out) in rows.clone().zip(gate_up.chunks_exact_mut(wide)) {
            let start = (!of_cells.is_empty()).then(|| &of_cells[cell * wide..][..wide]);
            self.sum_taps(out, start, self.plan.index.spread.get(cell), of_groups);
        }
        let a = self.by_row(&x[rows.start * hidden..rows.end * hidden], hidden, words);
        self.times(a, hidden, self.forward(self.plan.block.gate_up, 0), gate_up, wide, true);
    }

    /// `silu(gate) * up` of each row.
    #[inline(always)]
    fn gated(&self, gate_up: &[f32], out: &mut [f32]) {
        let (s, inter) = (self.s, self.plan.block.shape.inter);
        for (row, out) in gate_up.chunks_exact(2 * inter).zip(out.chunks_exact_mut(inter)) {
            let (gate, up) = row.split_at(inter);
            let mut i = 0;
            while i < inter {
                // SAFETY: all three slices have `N` more floats.
                unsafe {
                    let (g, u) = (s.load(gate.as_ptr().add(i)), s.load(up.as_ptr().add(i)));
                    s.store(out.as_mut_ptr().add(i), s.mul(s.mul(g, sigmoid(s, g)), u));
                }
                i += S::N;
            }
        }
    }
}

struct Forward<'a, 'p> {
    plan: &'p Plan<'a>,
    puzzle: usize,
    scratch: &'p mut [f32],
    out: &'p mut [f32],
    inv_rms: &'p mut [f32],
}

impl Kernel for Forward<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let plan = self.plan;
        let pass = Pass { s, plan };
        let Plan { cells, values, .. } = *plan;
        let GroupShape { hidden, inter, .. } = plan.block.shape;
        let mut rest = self.scratch;
        let [x, u, pooled, of_cells, of_groups, gate_up, product, words] =
            plan.common().map(|len| take(&mut rest, len));
        pass.gather(self.puzzle, x);
        pass.project(x, u, words);
        pass.silu(u);
        pass.pool(u, pooled);
        pass.contribute_cells(pooled, of_cells, words);
        for value in 0..values {
            pass.contribute_groups(pooled, value, of_groups, words);
            let x = &mut x[value * cells * hidden..][..cells * hidden];
            for start in (0..cells).step_by(ROWS) {
                let rows = start..cells.min(start + ROWS);
                let gate_up = &mut gate_up[..rows.len() * 2 * inter];
                let product = &mut product[..rows.len() * inter];
                pass.gates(x, (of_cells, of_groups), rows.clone(), gate_up, words);
                pass.gated(gate_up, product);
                let a = pass.by_row(product, inter, words);
                let sums = &mut x[rows.start * hidden..rows.end * hidden];
                pass.times(a, inter, pass.forward(plan.block.down, 0), sums, hidden, true);
                for (cell, sum) in rows.zip(sums.chunks_exact(hidden)) {
                    let node = cell * values + value;
                    self.inv_rms[node] =
                        normalise(s, sum, plan.block.eps, &mut self.out[node * hidden..][..hidden]);
                }
            }
        }
    }
}

/// `out = x / rms(x)`; gives the reciprocal.
#[inline(always)]
fn normalise<S: GemmSimd>(s: S, x: &[f32], eps: f32, out: &mut [f32]) -> f32 {
    assert_eq!(x.len(), out.len());
    let mut sum = s.splat(0.0);
    let mut i = 0;
    while i < x.len() {
        // SAFETY: the slice has `N` more floats, as its length is a multiple of 16.
        let v = unsafe { s.load(x.as_ptr().add(i)) };
        sum = s.fma(v, v, sum);
        i += S::N;
    }
    let inv = 1.0 / (s.sum(sum) / x.len() as f32 + eps).sqrt();
    let mut i = 0;
    while i < x.len() {
        // SAFETY: as above, for both.
        unsafe { s.store(out.as_mut_ptr().add(i), s.mul(s.load(x.as_ptr().add(i)), s.splat(inv))) };
        i += S::N;
    }
    inv
}

struct Backward<'a, 'p> {
    plan: &'p Plan<'a>,
    puzzle: usize,
    scratch: &'p mut [f32],
    y: &'p [f32],
    inv_rms: &'p [f32],
    dy: &'p [f32],
    dz: &'p mut [f32],
    /// Of the three weights, one after the other.
    grads: &'p mut [f32],
}

impl Kernel for Backward<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let plan = self.plan;
        let pass = Pass { s, plan };
        let Plan { index, cells, values, .. } = *plan;
        let GroupShape { hidden, width, inter, .. } = plan.block.shape;
        let wide = 2 * inter;
        let mut rest = self.scratch;
        let [x, u, pooled, of_cells, of_groups, _, product, words] =
            plan.common().map(|len| take(&mut rest, len));
        let [before, dcells, dgroups, dpooled, dx, gates, dsum, dproduct, more] =
            plan.extra().map(|len| take(&mut rest, len));
        let mut grads = self.grads;
        let [dinput, dgate_up, ddown] = plan.weights().map(|len| take(&mut grads, len));
        let columns = plan.block.gate_up.cols;
        let start = self.puzzle * plan.state();
        let (y, dy) = (&self.y[start..][..plan.state()], &self.dy[start..][..plan.state()]);
        let inv_rms = &self.inv_rms[self.puzzle * plan.nodes..][..plan.nodes];

        pass.gather(self.puzzle, x);
        pass.project(x, before, words);
        u.copy_from_slice(before);
        pass.silu(u);
        pass.pool(u, pooled);
        pass.contribute_cells(pooled, of_cells, words);
        dcells.fill(0.0);
        for value in 0..values {
            pass.contribute_groups(pooled, value, of_groups, words);
            let x = &x[value * cells * hidden..][..cells * hidden];
            let dx = &mut dx[value * cells * hidden..][..cells * hidden];
            for start in (0..cells).step_by(ROWS) {
                let rows = start..cells.min(start + ROWS);
                let gate_up = &mut gates[rows.start * wide..rows.end * wide];
                let product = &mut product[..rows.len() * inter];
                let (dsum, dproduct) =
                    (&mut dsum[..rows.len() * hidden], &mut dproduct[..rows.len() * inter]);
                pass.gates(x, (of_cells, of_groups), rows.clone(), gate_up, words);
                for (cell, dsum) in rows.clone().zip(dsum.chunks_exact_mut(hidden)) {
                    let at = (cell * values + value) * hidden..(cell * values + value + 1) * hidden;
                    normalise_backward(s, &y[at.clone()], inv_rms[cell * values + value], &dy[at], dsum);
                }
                let a = pass.by_row(dsum, hidden, words);
                pass.times(a, hidden, pass.backward(plan.block.down, 0), dproduct, inter, false);
                gated_backward(s, inter, gate_up, dproduct, product);
                let (a, b) = (pass.by_depth(dsum, hidden, words), pass.by_depth(product, inter, more));
                pass.outer((a, hidden), (b, inter), rows.len(), ddown, inter);

                // Gates and ups are their gradients from here on.
                let dx = &mut dx[rows.start * hidden..rows.end * hidden];
                dx.copy_from_slice(dsum);
                let a = pass.by_row(gate_up, wide, words);
                pass.times(a, wide, pass.backward(plan.block.gate_up, 0), dx, hidden, true);
                let a = pass.by_depth(gate_up, wide, words);
                let b = pass.by_depth(&x[rows.start * hidden..rows.end * hidden], hidden, more);
                pass.outer((a, wide), (b, hidden), rows.len(), dgate_up, columns);
            }
            if values > 1 {
                pass.add(dcells, gates, 1.0);
            }
            for (group, row) in dgroups.chunks_exact_mut(wide).enumerate() {
                pass.sum_taps(row, None, index.spread_back.get(group), gates);
            }
            let (pooled, dpooled) = (&pooled[pass.of_value(value)], &mut dpooled[pass.of_value(value)]);
            for (kind, first, count) in index.parts().filter(|part| part.2 > 0) {
                let (d, part) =
                    (&dgroups[first * wide..][..count * wide], first * width..(first + count) * width);
                let from = pass.columns_of(kind);
                back_through(
                    &pass,
                    d,
                    (&pooled[part.clone()], &mut dpooled[part]),
                    from,
                    dgate_up,
                    [words, more],
                );
            }
        }
        if values > 1 {
            let part = ..cells * width;
            back_through(&pass, dcells, (&pooled[part], &mut dpooled[part]), hidden, dgate_up, [words, more]);
        }
        pass.pool_back(dpooled, u);
        silu_backward(s, before, u);
        for value in 0..values {
            let du = &u[value * cells * width..][..cells * width];
            let at = value * cells * hidden..(value + 1) * cells * hidden;
            let (x, dx) = (&x[at.clone()], &mut dx[at]);
            let a = pass.by_row(du, width, words);
            pass.times(a, width, pass.backward(plan.block.input, 0), dx, hidden, true);
            let (a, b) = (pass.by_depth(du, width, words), pass.by_depth(x, hidden, more));
            pass.outer((a, width), (b, hidden), cells, dinput, hidden);
            for (cell, row) in dx.chunks_exact(hidden).enumerate() {
                self.dz[(cell * values + value) * hidden..][..hidden].copy_from_slice(row);
            }
        }
    }
}

/// From the gradient `d` of what some groups contribute: that of their means, and of the columns of `W` between, which start at `from`.
#[inline(always)]
fn back_through<S: GemmSimd>(
    pass: &Pass<'_, '_, S>,
    d: &[f32],
    (means, dmeans): (&[f32], &mut [f32]),
    from: usize,
    dgate_up: &mut [f32],
    [words, more]: [&mut [f32]; 2],
) {
    let GroupShape { width, inter, .. } = pass.plan.block.shape;
    let wide = 2 * inter;
    let a = pass.by_row(d, wide, words);
    pass.times(a, wide, pass.backward(pass.plan.block.gate_up, from), dmeans, width, false);
    let (a, b) = (pass.by_depth(d, wide, words), pass.by_depth(means, width, more));
    pass.outer((a, wide), (b, width), d.len() / wide, &mut dgate_up[from..], pass.plan.block.gate_up.cols);
}

/// `du = inv (dy - y mean(dy y))`
#[inline(always)]
fn normalise_backward<S: GemmSimd>(s: S, y: &[f32], inv: f32, dy: &[f32], du: &mut [f32]) {
    assert!(y.len() == dy.len() && y.len() == du.len());
    let mut sum = s.splat(0.0);
    let mut i = 0;
    while i < y.len() {
        // SAFETY: all slices have `N` more floats, as their length is a multiple of 16.
        sum = unsafe { s.fma(s.load(y.as_ptr().add(i)), s.load(dy.as_ptr().add(i)), sum) };
        i += S::N;
    }
    let mean = s.splat(s.sum(sum) / y.len() as f32);
    let mut i = 0;
    while i < y.len() {
        // SAFETY: as above.
        unsafe {
            let v = s.fnma(s.load(y.as_ptr().add(i)), mean, s.load(dy.as_ptr().add(i)));
            s.store(du.as_mut_ptr().add(i), s.mul(v, s.splat(inv)));
        }
        i += S::N;
    }
}

/// Gates and ups become their gradients; the products of the forward pass go to `product`.
#[inline(always)]
fn gated_backward<S: GemmSimd>(
    s: S,
    inter: usize,
    gate_up: &mut [f32],
    dproduct: &[f32],
    product: &mut [f32],
) {
    let one = s.splat(1.0);
    let rows = gate_up
        .chunks_exact_mut(2 * inter)
        .zip(dproduct.chunks_exact(inter))
        .zip(product.chunks_exact_mut(inter));
    for ((row, d), product) in rows {
        let (gate, up) = row.split_at_mut(inter);
        let mut i = 0;
        while i < inter {
            // SAFETY: all slices have `N` more floats.
            unsafe {
                let (g, u, d) =
                    (s.load(gate.as_ptr().add(i)), s.load(up.as_ptr().add(i)), s.load(d.as_ptr().add(i)));
                let sig = sigmoid(s, g);
                let silu = s.mul(g, sig);
                let slope = s.mul(sig, s.fma(g, s.sub(one, sig), one));
                s.store(product.as_mut_ptr().add(i), s.mul(silu, u));
                s.store(gate.as_mut_ptr().add(i), s.mul(s.mul(d, u), slope));
                s.store(up.as_mut_ptr().add(i), s.mul(d, silu));
            }
            i += S::N;
        }
    }
}

/// `d *= silu'(x)`
#[inline(always)]
fn silu_backward<S: GemmSimd>(s: S, x: &[f32], d: &mut [f32]) {
    assert_eq!(x.len(), d.len());
    let one = s.splat(1.0);
    let mut i = 0;
    while i < x.len() {
        // SAFETY: both slices have `N` more floats, as their length is a multiple of 16.
        unsafe {
            let x = s.load(x.as_ptr().add(i));
            let sig = sigmoid(s, x);
            let slope = s.mul(sig, s.fma(x, s.sub(one, sig), one));
            s.store(d.as_mut_ptr().add(i), s.mul(s.load(d.as_ptr().add(i)), slope));
        }
        i += S::N;
    }
}

#[cfg(test)]
mod tests;
