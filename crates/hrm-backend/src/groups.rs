//! Mixing the nodes of a lattice by the groups they lie in: the structure, and the plain formulas of
//! [`HrmBackend::group_block`].

use std::sync::Arc;
#[cfg(all(
    any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
    not(feature = "fusion")
))]
use std::{any::Any, any::TypeId, collections::HashMap, sync::Mutex};

use burn::tensor::{DType, Tensor, TensorData, backend::Backend, ops::FloatTensor};

use crate::{HrmBackend, ops, plain, primitive, tensor};

/// Lists of indices, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// Where each list starts in `items`, and the end of the last one.
    pub starts: Vec<u32>,
    /// All indices.
    pub items: Vec<u32>,
}

impl Lists {
    fn new(lists: &[Vec<u32>]) -> Self {
        let mut starts = vec![0];
        lists.iter().for_each(|list| starts.push(starts[starts.len() - 1] + list.len() as u32));
        Self { starts, items: lists.concat() }
    }

    /// How many lists there are.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.starts.windows(2).map(|ends| &self.items[ends[0] as usize..ends[1] as usize])
    }
}

/// One kind of groups of cells (the rows of a Sudoku, say), each taken at every value by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellGroups {
    /// The cells of each group.
    pub members: Lists,
    /// The groups that each cell takes the mean of.
    pub readers: Lists,
}

#[cfg(feature = "flex")]
impl CellGroups {
    fn for_kernels(&self) -> hrm_kernels::CellGroups<'_> {
        let [members, readers] = [&self.members, &self.readers]
            .map(|lists| hrm_kernels::Lists { starts: &lists.starts, items: &lists.items });
        hrm_kernels::CellGroups { members, readers }
    }
}

/// A lattice of `cells * values` nodes and the groups they lie in. The values of a cell are a kind of group of their own where there are
/// several.
#[derive(Debug, Clone)]
pub struct Groups {
    cells: usize,
    values: usize,
    kinds: Vec<CellGroups>,
    #[cfg(feature = "flex")]
    index: std::sync::OnceLock<hrm_kernels::GroupIndex>,
    #[cfg(all(
        any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
        not(feature = "fusion")
    ))]
    on_devices: Arc<Mutex<HashMap<(TypeId, u16), OnDevice>>>,
}

/// What a backend keeps of [`Groups`] on a device.
#[cfg(all(
    any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
    not(feature = "fusion")
))]
type OnDevice = Arc<dyn Any + Send + Sync>;

impl Groups {
    /// Groups of cells by kind: the cells of each group, and the groups that each cell takes the mean of.
    ///
    /// # Errors
    /// A sentence that says which index does not exist.
    pub fn new(
        cells: usize,
        values: usize,
        kinds: impl IntoIterator<Item = (Vec<Vec<u32>>, Vec<Vec<u32>>)>,
    ) -> Result<Self, String> {
        let check = |what: &str, lists: &[Vec<u32>], bound: usize| match lists.iter().flatten().max() {
            Some(&worst) if worst as usize >= bound => {
                Err(format!("{what} {worst} of {bound}: the last one is {}", bound.saturating_sub(1)))
            }
            _ => Ok(()),
        };
        let kinds = kinds.into_iter().map(|(members, readers)| {
            check("cell", &members, cells)?;
            check("group", &readers, members.len())?;
            if readers.len() != cells {
                return Err(format!("expected the groups of {cells} cells, got those of {}", readers.len()));
            }
            Ok(CellGroups { members: Lists::new(&members), readers: Lists::new(&readers) })
        });
        Ok(Self {
            cells,
            values,
            kinds: kinds.collect::<Result<_, _>>()?,
            #[cfg(feature = "flex")]
            index: std::sync::OnceLock::new(),
            #[cfg(all(
                any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
                not(feature = "fusion")
            ))]
            on_devices: Arc::default(),
        })
    }

    /// What a backend keeps on a device, made at the first call.
    #[cfg(all(
        any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
        not(feature = "fusion")
    ))]
    pub(crate) fn on_device(&self, key: (TypeId, u16), make: impl FnOnce() -> OnDevice) -> OnDevice {
        let mut kept = self.on_devices.lock().expect("nothing panics with this lock");
        kept.entry(key).or_insert_with(make).clone()
    }

    /// The groups as the CPU's kernels take them.
    #[cfg(feature = "flex")]
    pub(crate) fn index(&self) -> &hrm_kernels::GroupIndex {
        self.index.get_or_init(|| {
            let kinds: Vec<_> = self.kinds.iter().map(CellGroups::for_kernels).collect();
            hrm_kernels::GroupIndex::new(self.cells, self.values, &kinds)
        })
    }

    /// Cells of a puzzle.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// Nodes of a cell.
    pub fn values(&self) -> usize {
        self.values
    }

    /// The kinds of groups of cells.
    pub fn kinds(&self) -> &[CellGroups] {
        &self.kinds
    }

    /// Groups of cells, of all kinds.
    fn count(&self) -> usize {
        self.kinds.iter().map(|kind| kind.members.count()).sum()
    }
}

/// [`Groups`] with the matrices that take means over groups and give them back to cells.
#[derive(Debug, Clone)]
pub struct GroupTables<T> {
    /// The structure.
    pub groups: Arc<Groups>,
    /// Means over groups, `[groups, cells]`, fp32.
    pub pool: T,
    /// Means over the groups that a cell reads, `[cells, groups]`, fp32.
    pub spread: T,
}

impl<B: Backend> GroupTables<Tensor<B, 2>> {
    /// The tables of some groups.
    pub fn new(groups: Arc<Groups>, device: &B::Device) -> Self {
        let (cells, count) = (groups.cells, groups.count());
        let (mut pool, mut spread) = (vec![0.0f32; count * cells], vec![0.0f32; cells * count]);
        let mut first = 0;
        for kind in &groups.kinds {
            for (group, members) in kind.members.iter().enumerate() {
                members.iter().for_each(|&cell| {
                    pool[(first + group) * cells + cell as usize] += 1.0 / members.len() as f32;
                });
            }
            for (cell, readers) in kind.readers.iter().enumerate() {
                readers.iter().for_each(|&group| {
                    spread[cell * count + first + group as usize] += 1.0 / readers.len() as f32;
                });
            }
            first += kind.members.count();
        }
        let table = |values, shape| Tensor::from_data(TensorData::new(values, shape), device);
        Self { pool: table(pool, [count, cells]), spread: table(spread, [cells, count]), groups }
    }

    /// The same as primitives.
    pub(crate) fn primitives(self) -> GroupTables<FloatTensor<B>> {
        GroupTables { groups: self.groups, pool: primitive(self.pool), spread: primitive(self.spread) }
    }
}

/// The weights of a block.
#[derive(Debug, Clone)]
pub struct GroupWeights<T> {
    /// `U`, `[width, hidden]`
    pub input: T,
    /// `W`, `[2 * inter, hidden + kinds * width]`
    pub gate_up: T,
    /// `D`, `[hidden, inter]`
    pub down: T,
}

/// What the plain passes have in common: the input, its pooled values, gates and ups.
struct Parts<B: Backend> {
    /// `[nodes, hidden]`
    x: Tensor<B, 2>,
    /// `u` before its activation, `[nodes, width]`
    before: Tensor<B, 2>,
    /// Means over the groups of each kind, the values of cells first, `[groups, width]`
    pooled: Vec<Tensor<B, 2>>,
    /// The columns of `W`: of the state, of each kind.
    columns: Vec<Tensor<B, 2>>,
    /// `[nodes, 2 * inter]`
    gate_up: Tensor<B, 2>,
}

/// The matrices of `table` applied along the cells: `[rows, cells]` times `[batch, cells, n]` is `[batch, rows, n]`.
fn along_cells<B: HrmBackend>(table: Tensor<B, 2>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [batch, cells, n] = x.dims();
    let rows = table.dims()[0];
    let x = x.swap_dims(0, 1).reshape([cells, batch * n]);
    ops::product(table.cast(x.dtype()), x).reshape([rows, batch, n]).swap_dims(0, 1)
}

impl<B: HrmBackend> Parts<B> {
    fn new(
        z: FloatTensor<B>,
        injection: Option<FloatTensor<B>>,
        weights: GroupWeights<FloatTensor<B>>,
        tables: &GroupTables<FloatTensor<B>>,
    ) -> Self {
        let z = tensor::<B, 3>(z);
        let [batch, nodes, hidden] = z.dims();
        let Groups { cells, values, .. } = *tables.groups;
        let x = match injection {
            Some(injection) => z + tensor(injection),
            None => z,
        }
        .reshape([batch * nodes, hidden]);
        let (input, gate_up) = (tensor::<B, 2>(weights.input), tensor::<B, 2>(weights.gate_up));
        let [width, _] = input.dims();
        let [wide, total] = gate_up.dims();
        let kinds = (total - hidden) / width;
        let columns: Vec<_> = std::iter::once(gate_up.clone().narrow(1, 0, hidden))
            .chain((0..kinds).map(|kind| gate_up.clone().narrow(1, hidden + kind * width, width)))
            .collect();

        let before = ops::linear(x.clone(), input);
        let u = before.clone() * crate::functions::sigmoid(before.clone());
        let mut pooled = Vec::new();
        let mut sum = ops::linear(x.clone(), columns[0].clone());
        if values > 1 {
            let of_cells =
                u.clone().reshape([batch * cells, values, width]).mean_dim(1).reshape([batch * cells, width]);
            let given = ops::linear(of_cells.clone(), columns[1].clone()).reshape([batch * cells, 1, wide]);
            sum = sum + given.expand([batch * cells, values, wide]).reshape([batch * nodes, wide]);
            pooled.push(of_cells);
        }
        let means = along_cells(tensor(tables.pool.clone()), u.reshape([batch, cells, values * width]));
        let mut first = 0;
        let mut given = Vec::new();
        for kind in &tables.groups.kinds {
            let count = kind.members.count();
            let rows = means.clone().narrow(1, first, count).reshape([batch * count * values, width]);
            let weight = columns[1 + pooled.len()].clone();
            given.push(ops::linear(rows.clone(), weight).reshape([batch, count, values * wide]));
            pooled.push(rows);
            first += count;
        }
        if !given.is_empty() {
            let back = along_cells(tensor(tables.spread.clone()), Tensor::cat(given, 1));
            sum = sum + back.reshape([batch * nodes, wide]);
        }
        Self { x, before, pooled, columns, gate_up: sum }
    }
}

/// See [`HrmBackend::group_block`].
pub fn group_block<B: HrmBackend>(
    z: FloatTensor<B>,
    injection: Option<FloatTensor<B>>,
    weights: GroupWeights<FloatTensor<B>>,
    tables: &GroupTables<FloatTensor<B>>,
    eps: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape: [usize; 3] = tensor::<B, 3>(z.clone()).dims();
    let down = tensor(weights.down.clone());
    let Parts { x, gate_up, .. } = Parts::<B>::new(z, injection, weights, tables);
    let (y, inv_rms) = plain::add_rms_norm(x, ops::linear(ops::swiglu(gate_up), down), eps);
    (primitive(y.reshape(shape)), primitive(inv_rms))
}

/// See [`HrmBackend::group_block_backward`].
pub fn group_block_backward<B: HrmBackend>(
    (z, injection): (FloatTensor<B>, Option<FloatTensor<B>>),
    weights: GroupWeights<FloatTensor<B>>,
    tables: &GroupTables<FloatTensor<B>>,
    (y, inv_rms): (FloatTensor<B>, FloatTensor<B>),
    dy: FloatTensor<B>,
) -> (FloatTensor<B>, GroupWeights<FloatTensor<B>>) {
    let shape @ [batch, nodes, hidden]: [usize; 3] = tensor::<B, 3>(z.clone()).dims();
    let Groups { cells, values, .. } = *tables.groups;
    let rows = |t: FloatTensor<B>| tensor::<B, 3>(t).reshape([batch * nodes, hidden]);
    let (input, down) = (tensor::<B, 2>(weights.input.clone()), tensor::<B, 2>(weights.down.clone()));
    let parts = Parts::<B>::new(z, injection, weights, tables);
    let [width, _] = input.dims();
    let [_, wide] = parts.gate_up.dims();
    let to_input = |dy: Tensor<B, 2>, weight: Tensor<B, 2>| {
        tensor::<B, 2>(B::linear_backward_input(primitive(dy), primitive(weight)))
    };
    let to_weight = |dy: Tensor<B, 2>, x: Tensor<B, 2>| {
        tensor::<B, 2>(B::linear_backward_weight(primitive(dy), primitive(x), DType::F32))
    };

    let du = plain::add_rms_norm_backward(rows(y), tensor(inv_rms), rows(dy));
    let ddown = to_weight(du.clone(), ops::swiglu(parts.gate_up.clone()));
    let dproduct = to_input(du.clone(), down);
    let dgate_up = tensor::<B, 2>(B::swiglu_backward(primitive(parts.gate_up), primitive(dproduct)));
    let mut dx = du + to_input(dgate_up.clone(), parts.columns[0].clone());
    let mut dcolumns = vec![to_weight(dgate_up.clone(), parts.x.clone())];
    let mut pooled = parts.pooled.into_iter().zip(parts.columns.into_iter().skip(1));
    let mut dwidth = Tensor::<B, 2>::zeros([batch * nodes, width], &dx.device()).cast(dx.dtype());
    if values > 1
        && let Some((of_cells, column)) = pooled.next()
    {
        let d =
            dgate_up.clone().reshape([batch * cells, values, wide]).sum_dim(1).reshape([batch * cells, wide]);
        dcolumns.push(to_weight(d.clone(), of_cells));
        let d = to_input(d, column).reshape([batch * cells, 1, width]) / values as f64;
        dwidth = dwidth + d.expand([batch * cells, values, width]).reshape([batch * nodes, width]);
    }
    let back = tensor::<B, 2>(tables.spread.clone()).transpose();
    let dgroups = along_cells(back, dgate_up.reshape([batch, cells, values * wide]));
    let mut first = 0;
    let mut dmeans = Vec::new();
    for (kind, (means, column)) in tables.groups.kinds.iter().zip(pooled) {
        let count = kind.members.count();
        let d = dgroups.clone().narrow(1, first, count).reshape([batch * count * values, wide]);
        dcolumns.push(to_weight(d.clone(), means));
        dmeans.push(to_input(d, column).reshape([batch, count, values * width]));
        first += count;
    }
    if !dmeans.is_empty() {
        let back = tensor::<B, 2>(tables.pool.clone()).transpose();
        dwidth = dwidth + along_cells(back, Tensor::cat(dmeans, 1)).reshape([batch * nodes, width]);
    }
    let sigmoid = crate::functions::sigmoid(parts.before.clone());
    let dbefore = dwidth * sigmoid.clone() * (parts.before * (sigmoid.neg() + 1.0) + 1.0);
    let dinput = to_weight(dbefore.clone(), parts.x);
    dx = dx + to_input(dbefore, input);
    let weights = GroupWeights {
        input: primitive(dinput),
        gate_up: primitive(Tensor::cat(dcolumns, 1)),
        down: primitive(ddown),
    };
    (primitive(dx.reshape(shape)), weights)
}
