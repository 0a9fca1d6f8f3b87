//! Group mixing for GPUs: matrix products, and kernels for the means between them.
//!
//! What a node takes in, its own state and the means over its groups, are the columns of one matrix, so that gates and ups are one
//! product. Means are sums over lists of rows with weights ([`Taps`]), taken twice: of each group over its nodes, of each node over
//! its groups; a gradient goes the same way back by the transposed lists. No row is copied for the others of its group.

use std::{any::Any, any::TypeId, sync::Arc};

use burn::tensor::{DType, Shape, TensorData, TensorMetadata, backend::Backend};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, calculate_cube_count_elemwise, device::Device, prelude::*},
    ops::reshape,
    tensor::CubeTensor,
};

use super::{Rows, add_rows, sigmoid, vector_size};
use crate::{
    GroupTables, GroupWeights, HrmBackend,
    groups::{CellGroups, Groups},
};

/// For each row of a result, the rows of an operand that it is the weighted sum of: row `i` of those from `starts[i]` to
/// `starts[i + 1]`.
#[derive(Debug, Clone, PartialEq)]
struct Taps {
    starts: Vec<i32>,
    items: Vec<i32>,
    weights: Vec<f32>,
}

impl Taps {
    /// From entries: row of the result, row of the operand, weight.
    fn new(rows: usize, mut entries: Vec<(usize, usize, f32)>) -> Self {
        entries.sort_by_key(|&(row, operand, _)| (row, operand));
        let mut starts = vec![0; rows + 1];
        entries.iter().for_each(|&(row, ..)| starts[row + 1] += 1);
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        let items = entries.iter().map(|&(_, operand, _)| operand as i32).collect();
        Self { starts, items, weights: entries.into_iter().map(|(.., weight)| weight).collect() }
    }
}

/// [`Groups`] of nodes, the values of a cell first where there are several: as lists of rows for the sums that a block takes.
#[derive(Debug)]
struct NodeGroups {
    /// Groups of all kinds.
    groups: usize,
    kinds: usize,
    /// Means of groups over their nodes.
    pool: Taps,
    /// Of each node and kind (row `node * kinds + kind`), the mean over the groups that it reads.
    spread: Taps,
    /// The transposed lists.
    pool_back: Taps,
    spread_back: Taps,
}

impl NodeGroups {
    fn new(of: &Groups) -> Self {
        let (cells, values) = (of.cells(), of.values());
        let cell_kinds = usize::from(values > 1);
        let kinds = cell_kinds + of.kinds().len();
        let (mut pool, mut spread) = (Vec::new(), Vec::new());
        let mut groups = 0;
        if values > 1 {
            for node in 0..cells * values {
                pool.push((node / values, node, 1.0 / values as f32));
                spread.push((node * kinds, node / values, 1.0));
            }
            groups = cells;
        }
        for (kind, CellGroups { members, readers }) in of.kinds().iter().enumerate() {
            let group_of = |group: usize, value| groups + group * values + value;
            for (group, members) in members.iter().enumerate() {
                let weight = 1.0 / members.len() as f32;
                for (cell, value) in
                    members.iter().flat_map(|&cell| (0..values).map(move |value| (cell, value)))
                {
                    pool.push((group_of(group, value), cell as usize * values + value, weight));
                }
            }
            for (cell, readers) in readers.iter().enumerate() {
                let weight = 1.0 / readers.len() as f32;
                for (&group, value) in
                    readers.iter().flat_map(|group| (0..values).map(move |value| (group, value)))
                {
                    let row = (cell * values + value) * kinds + cell_kinds + kind;
                    spread.push((row, group_of(group as usize, value), weight));
                }
            }
            groups += members.count() * values;
        }
        let turned = |entries: &[(usize, usize, f32)]| {
            entries.iter().map(|&(row, operand, weight)| (operand, row, weight)).collect()
        };
        let nodes = cells * values;
        Self {
            groups,
            kinds,
            pool_back: Taps::new(nodes, turned(&pool)),
            spread_back: Taps::new(groups, turned(&spread)),
            pool: Taps::new(groups, pool),
            spread: Taps::new(nodes * kinds, spread),
        }
    }
}

/// How the rows of all puzzles lie in memory; lengths in vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Layout {
    /// Rows of a puzzle.
    rows: usize,
    /// Rows that lie one after the other in a line of memory.
    in_line: usize,
    /// From one line to the next.
    line: usize,
    /// Where the first row of a line starts.
    start: usize,
    /// Length of a row.
    width: usize,
}

impl Layout {
    fn dense(rows: usize, width: usize) -> Self {
        Self { rows, in_line: 1, line: width, start: 0, width }
    }

    /// In vectors of so many elements.
    fn by(self, size: usize) -> Self {
        let Self { rows, in_line, line, start, width } = self;
        Self { rows, in_line, line: line / size, start: start / size, width: width / size }
    }
}

/// Where a vector of a row lies.
#[cube]
fn place(puzzle: usize, row: usize, column: usize, #[comptime] layout: Layout) -> usize {
    (puzzle * comptime!(layout.rows / layout.in_line) + row / comptime!(layout.in_line))
        * comptime!(layout.line)
        + comptime!(layout.start)
        + (row % comptime!(layout.in_line)) * comptime!(layout.width)
        + column
}

/// Each row of the output is a sum of rows of the input with weights. With `silu`, of `silu(input)`; with `slope`, the sum is
/// multiplied by the derivative of silu at `before`, which lies as the output does.
#[cube(launch_unchecked)]
fn taps_kernel<I: Float, O: Float, N: Size>(
    input: &Array<Vector<I, N>>,
    before: &Array<Vector<O, N>>,
    starts: &Array<i32>,
    items: &Array<i32>,
    weights: &Array<f32>,
    output: &mut Array<Vector<O, N>>,
    count: usize,
    #[comptime] from: Layout,
    #[comptime] to: Layout,
    #[comptime] silu: bool,
    #[comptime] slope: bool,
    #[define(I, O)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let column = ABSOLUTE_POS % comptime!(to.width);
    let row = (ABSOLUTE_POS / comptime!(to.width)) % comptime!(to.rows);
    let puzzle = ABSOLUTE_POS / comptime!(to.width * to.rows);
    let end = usize::cast_from(starts[row + 1]);
    let mut sum = Vector::<f32, N>::new(0.0);
    let mut i = usize::cast_from(starts[row]);
    while i < end {
        let operand = usize::cast_from(items[i]);
        let mut x = Vector::<f32, N>::cast_from(input[place(puzzle, operand, column, from)]);
        if comptime!(silu) {
            x *= sigmoid::<N>(x);
        }
        sum += x * Vector::new(weights[i]);
        i += 1;
    }
    let at = place(puzzle, row, column, to);
    if comptime!(slope) {
        // silu'(x) = s (1 + x (1 - s))
        let one = Vector::<f32, N>::new(1.0);
        let x = Vector::<f32, N>::cast_from(before[at]);
        let s = sigmoid::<N>(x);
        sum *= s * (one + x * (one - s));
    }
    output[at] = Vector::cast_from(sum);
}

/// [`Taps`] on a device.
struct TapsOn<R: CubeRuntime> {
    starts: CubeTensor<R>,
    items: CubeTensor<R>,
    weights: CubeTensor<R>,
}

impl<R: CubeRuntime> TapsOn<R> {
    /// Sums of the rows of `input` to those of `output`, see [`taps_kernel`].
    fn sum(
        &self,
        (input, from): (&CubeTensor<R>, Layout),
        (output, to): (&CubeTensor<R>, Layout),
        silu: bool,
        slope: Option<&CubeTensor<R>>,
    ) {
        let lengths = |layout: &Layout| [layout.line, layout.start, layout.width];
        let rows = [input, output].map(|tensor| Rows::new(tensor.clone()));
        let size = vector_size(&[lengths(&from), lengths(&to)].concat(), &rows.each_ref());
        let puzzles = output.shape().num_elements() / (to.line * to.rows / to.in_line);
        let count = puzzles * to.rows * to.width / size;
        let client = &input.client;
        let dim = CubeDim::new(client, count);
        let array = |tensor: &CubeTensor<R>| tensor.clone().into_array_arg();
        // SAFETY: the kernel leaves alone what is beyond `count`, the vectors of all rows of the output; lists name rows of the input,
        // and `before` is not read without `slope`.
        unsafe {
            taps_kernel::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, count, dim),
                dim,
                size,
                array(input),
                array(slope.unwrap_or(input)),
                array(&self.starts),
                array(&self.items),
                array(&self.weights),
                array(output),
                count,
                from.by(size),
                to.by(size),
                silu,
                slope.is_some(),
                [input.dtype.into(), output.dtype.into()],
            );
        }
    }
}

/// The lists of a lattice on a device.
struct Index<R: CubeRuntime> {
    /// Nodes of a puzzle, groups of them, kinds of groups.
    nodes: usize,
    groups: usize,
    kinds: usize,
    /// Means of groups over their nodes, of nodes over their groups (a row for each kind), and the transposed lists.
    pool: TapsOn<R>,
    spread: TapsOn<R>,
    pool_back: TapsOn<R>,
    spread_back: TapsOn<R>,
}

/// The lists of `groups` on the device of a tensor; they are copied there once.
fn index<B, R>(groups: &Groups, like: &CubeTensor<R>) -> Arc<Index<R>>
where
    R: CubeRuntime,
    B: Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>, Device = R::Device>,
{
    let key = (TypeId::of::<R>(), like.device.to_id().index_id);
    let make = || -> Arc<dyn Any + Send + Sync> {
        let lists = NodeGroups::new(groups);
        let on = |taps: Taps| {
            let ints = |values: Vec<i32>| {
                let shape = [values.len()];
                B::int_from_data(TensorData::new(values, shape), &like.device)
            };
            let shape = [taps.weights.len()];
            TapsOn {
                starts: ints(taps.starts),
                items: ints(taps.items),
                weights: B::float_from_data(TensorData::new(taps.weights, shape), &like.device),
            }
        };
        Arc::new(Index::<R> {
            nodes: groups.cells() * groups.values(),
            groups: lists.groups,
            kinds: lists.kinds,
            pool: on(lists.pool),
            spread: on(lists.spread),
            pool_back: on(lists.pool_back),
            spread_back: on(lists.spread_back),
        })
    };
    groups.on_device(key, make).downcast().expect("made for this key")
}

/// What both passes begin with.
struct Parts<R: CubeRuntime> {
    index: Arc<Index<R>>,
    /// States and means, `[nodes, hidden + kinds * width]`.
    columns: CubeTensor<R>,
    /// The states in it, `[nodes, hidden]`.
    x: CubeTensor<R>,
    /// `u` before its activation, `[nodes, width]`.
    before: CubeTensor<R>,
    /// `[nodes, 2 * inter]`
    gate_up: CubeTensor<R>,
}

impl<R: CubeRuntime> Parts<R> {
    /// How the means lie in the columns.
    fn means(&self) -> Layout {
        means(&self.index, &self.columns, self.before.shape()[1])
    }
}

fn means<R: CubeRuntime>(index: &Index<R>, columns: &CubeTensor<R>, width: usize) -> Layout {
    let total = columns.shape()[1];
    let Index { nodes, kinds, .. } = *index;
    Layout { rows: nodes * kinds, in_line: kinds, line: total, start: total - kinds * width, width }
}

/// The first columns of a matrix.
fn first_columns<R: CubeRuntime>(matrix: &CubeTensor<R>, count: usize) -> CubeTensor<R> {
    let mut view = matrix.clone();
    *view.meta.shape_mut() = Shape::new([matrix.shape()[0], count]);
    view
}

fn parts<B, R>(
    z: CubeTensor<R>,
    injection: Option<CubeTensor<R>>,
    weights: &GroupWeights<CubeTensor<R>>,
    groups: &Groups,
) -> Parts<R>
where
    R: CubeRuntime,
    B: HrmBackend
        + Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>, Device = R::Device>,
{
    let [batch, nodes, hidden] = z.shape().dims();
    let index = index::<B, R>(groups, &z);
    let [width, _] = weights.input.shape().dims();
    let dtype = z.dtype;
    let rows = Shape::new([batch * nodes, hidden]);
    let z = Rows::new(reshape(z, rows.clone()));
    let injection = injection.map(|injection| Rows::new(reshape(injection, rows)));
    let columns =
        Rows::dense(&z.tensor, Shape::new([batch * nodes, hidden + index.kinds * width]), dtype).tensor;
    let x = first_columns(&columns, hidden);
    let terms: Vec<&Rows<R>> = std::iter::once(&z).chain(&injection).collect();
    add_rows(&terms, &Rows::new(x.clone()));

    let before = B::fused_linear(x.clone(), weights.input.clone());
    let pooled = Rows::dense(&before, Shape::new([batch * index.groups, width]), DType::F32).tensor;
    let of_groups = Layout::dense(index.groups, width);
    let to = means(&index, &columns, width);
    index.pool.sum((&before, Layout::dense(nodes, width)), (&pooled, of_groups), true, None);
    index.spread.sum((&pooled, of_groups), (&columns, to), false, None);
    let gate_up = B::fused_linear(columns.clone(), weights.gate_up.clone());
    Parts { index, columns, x, before, gate_up }
}

/// See [`HrmBackend::group_block`].
pub(crate) fn group_block<B, R>(
    z: CubeTensor<R>,
    injection: Option<CubeTensor<R>>,
    weights: GroupWeights<CubeTensor<R>>,
    tables: &GroupTables<CubeTensor<R>>,
    eps: f64,
) -> (CubeTensor<R>, CubeTensor<R>)
where
    R: CubeRuntime,
    B: HrmBackend
        + Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>, Device = R::Device>,
{
    let shape = z.shape();
    let parts = parts::<B, R>(z, injection, &weights, &tables.groups);
    let change = B::fused_linear(B::swiglu(parts.gate_up), weights.down);
    let (y, inv_rms) = B::add_rms_norm(parts.x, change, eps);
    (reshape(y, shape), inv_rms)
}

/// See [`HrmBackend::group_block_backward`].
pub(crate) fn group_block_backward<B, R>(
    (z, injection): (CubeTensor<R>, Option<CubeTensor<R>>),
    weights: GroupWeights<CubeTensor<R>>,
    tables: &GroupTables<CubeTensor<R>>,
    (y, inv_rms): (CubeTensor<R>, CubeTensor<R>),
    dy: CubeTensor<R>,
) -> (CubeTensor<R>, GroupWeights<CubeTensor<R>>)
where
    R: CubeRuntime,
    B: HrmBackend
        + Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>, Device = R::Device>,
{
    let shape = z.shape();
    let [batch, nodes, hidden] = shape.dims();
    let rows = Shape::new([batch * nodes, hidden]);
    let parts = parts::<B, R>(z, injection, &weights, &tables.groups);
    let (index, width) = (&parts.index, parts.before.shape()[1]);
    let du = B::add_rms_norm_backward(reshape(y, rows.clone()), inv_rms, reshape(dy, rows));
    let to_weight = |dy: CubeTensor<R>, x: CubeTensor<R>| B::linear_backward_weight(dy, x, DType::F32);

    let down = to_weight(du.clone(), B::swiglu(parts.gate_up.clone()));
    let dproduct = B::linear_backward_input(du.clone(), weights.down);
    let dgate_up = B::swiglu_backward(parts.gate_up.clone(), dproduct);
    let gate_up = to_weight(dgate_up.clone(), parts.columns.clone());
    let dcolumns = B::linear_backward_input(dgate_up, weights.gate_up);

    let dpooled = Rows::dense(&du, Shape::new([batch * index.groups, width]), DType::F32).tensor;
    let dbefore = Rows::new(parts.before.clone()).like().tensor;
    let of_groups = Layout::dense(index.groups, width);
    index.spread_back.sum((&dcolumns, parts.means()), (&dpooled, of_groups), false, None);
    let to = Layout::dense(nodes, width);
    index.pool_back.sum((&dpooled, of_groups), (&dbefore, to), false, Some(&parts.before));
    let input = to_weight(dbefore.clone(), parts.x);
    let dx = B::linear_backward_input(dbefore, weights.input);

    let dz = Rows::new(du.clone()).like();
    let direct = first_columns(&dcolumns, hidden);
    let terms = [du, direct, dx].map(Rows::new);
    add_rows(&terms.each_ref(), &dz);
    (reshape(dz.tensor, shape), GroupWeights { input, gate_up, down })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_nodes_are_those_of_cells_at_each_value() {
        // Two cells of two values, one group of both cells that only the second one reads.
        let groups = Groups::new(2, 2, [(vec![vec![0, 1]], vec![vec![], vec![0]])]).unwrap();
        let NodeGroups { groups, kinds, pool, spread, pool_back, spread_back } = NodeGroups::new(&groups);
        assert_eq!((groups, kinds), (4, 2));
        let half = vec![0.5; 8];
        let expected =
            Taps { starts: vec![0, 2, 4, 6, 8], items: vec![0, 1, 2, 3, 0, 2, 1, 3], weights: half.clone() };
        assert_eq!(pool, expected);
        // Rows: node 0 its cell, node 0 the group, node 1 its cell, ...
        let starts = vec![0, 1, 1, 2, 2, 3, 4, 5, 6];
        assert_eq!(spread, Taps { starts, items: vec![0, 0, 1, 2, 1, 3], weights: vec![1.0; 6] });
        let items = vec![0, 2, 0, 3, 1, 2, 1, 3];
        assert_eq!(pool_back, Taps { starts: vec![0, 2, 4, 6, 8], items, weights: half });
        let items = vec![0, 2, 4, 6, 5, 7];
        assert_eq!(spread_back, Taps { starts: vec![0, 2, 4, 5, 6], items, weights: vec![1.0; 6] });
    }
}
