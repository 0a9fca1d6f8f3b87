//! Attention in one kernel forward and one backward, for tensor cores: scores never leave a multiprocessor.
//!
//! As FlashAttention (Dao et al. 2022, arXiv 2205.14135) does, but a cube has a whole head of one sequence in shared memory, so
//! there are no blocks and no running maxima, weights are normalised before they are rounded, and rotary positions are applied
//! on the way in and undone on the way out. Its planes have a strip of 16 rows each.
//!
//! Rows that pad a sequence to a multiple of 16 repeat its last one: finite values, which then get no weight.
//!
//! Which lane holds what of a tile of a tensor core is the device's affair, so tiles whose rows are worked on go through shared
//! memory once: see [`to_lanes`].

use std::{env, sync::OnceLock};

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, cmma, ir::features::MmaConfig, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{
    Rows,
    attention::{Rotary, tables},
    plane_width,
};

/// The environment variable that turns these kernels off: 0. Attention is then computed by products and kernels between them.
pub const FLASH_VARIABLE: &str = "HRM_FLASH";

/// Side of a tile.
pub(super) const SIDE: usize = 16;
/// Elements of a vector: 16 bytes.
pub(super) const VECTOR: usize = 8;
/// Elements between the rows of a matrix in shared memory, so that eight rows lie in different banks.
pub(super) const GAP: usize = 8;
/// Values from one row to the next of a tile that [`to_lanes`] moves: four more than a row has, for the same reason.
pub(super) const TILE_STRIDE: usize = SIDE + 4;
/// Lanes of a plane.
pub(super) const PLANE: u32 = 32;
/// Each lane of a plane keeps half a row of scores.
const MOST_ROWS: usize = 128;
/// Bytes of what a boundary of tiles must be aligned to.
pub(super) const ALIGNMENT: usize = 32;

pub(super) type Eight = Const<VECTOR>;
pub(super) type Four = Const<4>;

/// Sizes of an attention, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sizes {
    pub(super) seq: usize,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
}

impl Sizes {
    /// `seq`, padded.
    fn rows(&self) -> usize {
        self.seq.next_multiple_of(SIDE)
    }

    pub(super) fn scale(&self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }

    /// Planes of a cube, and tiles beside each other in scores.
    fn strips(&self) -> usize {
        self.rows() / SIDE
    }

    /// Tiles beside each other in queries, keys or values.
    pub(super) fn depth(&self) -> usize {
        self.head_dim / SIDE
    }

    /// Vectors of half a head, whose halves are rotated together.
    pub(super) fn lanes(&self) -> usize {
        self.head_dim / 2 / VECTOR
    }

    /// From one row of queries, keys or values in shared memory to the next.
    pub(super) fn narrow(&self) -> usize {
        self.head_dim + GAP
    }

    /// The same of scores.
    fn square(&self) -> usize {
        self.rows() + GAP
    }

    /// The same where scores take the place of queries or values.
    fn wide(&self) -> usize {
        self.narrow().max(self.square())
    }

    /// Vectors that [`to_lanes`] needs for all planes.
    fn stage(&self) -> usize {
        self.strips() * SIDE * TILE_STRIDE / 4
    }

    /// Shared memory of the forward kernel in bytes: queries, keys, values.
    fn forward_bytes(&self) -> usize {
        2 * self.rows() * (self.wide() + 2 * self.narrow()) + 16 * self.stage()
    }

    /// Shared memory of the backward kernel in bytes: values; queries, keys, gradients; slopes of scores; two numbers a row.
    fn backward_bytes(&self) -> usize {
        2 * self.rows() * (self.wide() + 3 * self.narrow() + self.square())
            + 16 * self.stage()
            + 8 * self.rows()
    }
}

/// The rotation at a place of the tables of rotary positions, whose halves are the same.
#[derive(CubeType)]
pub(super) struct Rotation {
    cos: Vector<f32, Eight>,
    sin: Vector<f32, Eight>,
}

#[cube]
pub(super) fn rotation(
    cos: &Array<Vector<f32, Eight>>,
    sin: &Array<Vector<f32, Eight>>,
    at: usize,
) -> Rotation {
    Rotation { cos: cos[at], sin: sin[at] }
}

/// Copies a vector each of the two halves of a head to shared memory, rotated.
#[cube]
pub(super) fn keep_rotated<F: Float>(
    x: &Array<Vector<F, Eight>>,
    from: usize,
    matrix: &mut SharedMemory<Vector<F, Eight>>,
    to: usize,
    by: &Rotation,
    #[comptime] lanes: usize,
) {
    let first = Vector::<f32, Eight>::cast_from(x[from]);
    let second = Vector::<f32, Eight>::cast_from(x[from + lanes]);
    matrix[to] = Vector::cast_from(first * by.cos - second * by.sin);
    matrix[to + lanes] = Vector::cast_from(second * by.cos + first * by.sin);
}

/// The same, as it is.
#[cube]
pub(super) fn keep<F: Float>(
    x: &Array<Vector<F, Eight>>,
    from: usize,
    matrix: &mut SharedMemory<Vector<F, Eight>>,
    to: usize,
    #[comptime] lanes: usize,
) {
    matrix[to] = x[from];
    matrix[to + lanes] = x[from + lanes];
}

/// A tile of a matrix in shared memory.
#[cube]
fn operand<F: Float>(
    matrix: &SharedMemory<Vector<F, Eight>>,
    row: usize,
    column: usize,
    #[comptime] stride: usize,
    #[comptime] ident: cmma::MatrixIdent,
    #[comptime] layout: cmma::MatrixLayout,
) -> cmma::Matrix<F> {
    let start = row * comptime!(stride / VECTOR) + column / VECTOR;
    // SAFETY: loaded in the next line but one.
    let tile = unsafe { cmma::Matrix::<F>::uninitialized(ident, SIDE, SIDE, SIDE, layout) };
    let slice = matrix.slice(start, start + 1);
    cmma::load(&tile, &slice, comptime!(stride as u32));
    tile
}

#[cube]
fn zeros() -> cmma::Matrix<f32> {
    cmma::Matrix::<f32>::from_value(
        cmma::MatrixIdent::Accumulator,
        SIDE,
        SIDE,
        SIDE,
        cmma::MatrixLayout::Undefined,
        0.0,
    )
}

/// The tiles beside each other of a strip of a matrix, as left operands.
#[cube]
pub(super) fn strip_of<F: Float>(
    matrix: &SharedMemory<Vector<F, Eight>>,
    row: usize,
    #[comptime] tiles: usize,
    #[comptime] stride: usize,
) -> Sequence<cmma::Matrix<F>> {
    let mut strip = Sequence::<cmma::Matrix<F>>::new();
    #[unroll]
    for tile in 0..tiles {
        strip.push(operand::<F>(
            matrix,
            row,
            tile * SIDE,
            stride,
            cmma::MatrixIdent::A,
            cmma::MatrixLayout::RowMajor,
        ));
    }
    strip
}

/// A tile of `strip matrix^T`: the columns that are the rows of `matrix` from `row` on.
#[cube]
pub(super) fn times_transposed<F: Float>(
    strip: &Sequence<cmma::Matrix<F>>,
    matrix: &SharedMemory<Vector<F, Eight>>,
    row: usize,
    #[comptime] tiles: usize,
    #[comptime] stride: usize,
) -> cmma::Matrix<f32> {
    let sum = zeros();
    #[unroll]
    for tile in 0..tiles {
        let right = operand::<F>(
            matrix,
            row,
            tile * SIDE,
            stride,
            cmma::MatrixIdent::B,
            cmma::MatrixLayout::ColMajor,
        );
        cmma::execute::<F, F, f32, f32>(strip.index(tile), &right, &sum, &sum);
    }
    sum
}

/// Tiles of zeros beside each other, to add to.
#[cube]
pub(super) fn sums_of(#[comptime] columns: usize) -> Sequence<cmma::Matrix<f32>> {
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..columns {
        sums.push(zeros());
    }
    sums
}

/// Adds `strip matrix` to sums, all tiles of it.
#[cube]
pub(super) fn add_times<F: Float>(
    sums: &Sequence<cmma::Matrix<f32>>,
    strip: &Sequence<cmma::Matrix<F>>,
    matrix: &SharedMemory<Vector<F, Eight>>,
    #[comptime] tiles: usize,
    #[comptime] columns: usize,
    #[comptime] stride: usize,
) {
    #[unroll]
    for column in 0..columns {
        let sum = sums.index(column);
        #[unroll]
        for tile in 0..tiles {
            let right = operand::<F>(
                matrix,
                tile * SIDE,
                column * SIDE,
                stride,
                cmma::MatrixIdent::B,
                cmma::MatrixLayout::RowMajor,
            );
            cmma::execute::<F, F, f32, f32>(strip.index(tile), &right, sum, sum);
        }
    }
}

/// `strip matrix`, all tiles of it.
#[cube]
fn times<F: Float>(
    strip: &Sequence<cmma::Matrix<F>>,
    matrix: &SharedMemory<Vector<F, Eight>>,
    #[comptime] tiles: usize,
    #[comptime] columns: usize,
    #[comptime] stride: usize,
) -> Sequence<cmma::Matrix<f32>> {
    let sums = sums_of(columns);
    add_times::<F>(&sums, strip, matrix, tiles, columns, stride);
    sums
}

/// The row of tiles that [`to_lanes`] gives to this lane.
#[cube]
pub(super) fn row_of_lane() -> usize {
    (UNIT_POS_X as usize) % SIDE
}

/// Which half of that row.
#[cube]
pub(super) fn half_of_lane() -> usize {
    (UNIT_POS_X as usize) / SIDE
}

/// A tile, half a row to each lane.
#[cube]
pub(super) fn to_lanes(
    tile: &cmma::Matrix<f32>,
    stage: &mut SharedMemory<Vector<f32, Four>>,
) -> Vector<f32, Eight> {
    let start = (UNIT_POS_Y as usize) * comptime!(SIDE * TILE_STRIDE / 4);
    let mut place = stage.slice_mut(start, start + comptime!(SIDE * TILE_STRIDE / 4));
    cmma::store(&mut place, tile, comptime!(TILE_STRIDE as u32), cmma::MatrixLayout::RowMajor);
    sync_plane();
    let at = start + row_of_lane() * comptime!(TILE_STRIDE / 4) + half_of_lane() * 2;
    let (low, high) = (stage[at], stage[at + 1]);
    let mut values = Vector::<f32, Eight>::new(0.0);
    #[unroll]
    for i in 0..4usize {
        values[i] = low[i];
        values[i + 4] = high[i];
    }
    // The next tile takes the same place.
    sync_plane();
    values
}

/// `softmax(scale q k^T) v` of one head, and the log-sum-exp of its rows.
#[cube(launch_unchecked)]
fn forward_kernel<F: Float>(
    qkv: &Array<Vector<F, Eight>>,
    cos: &Array<Vector<f32, Eight>>,
    sin: &Array<Vector<f32, Eight>>,
    out: &mut Array<Vector<F, Eight>>,
    lse: &mut Array<f32>,
    scale: f32,
    #[comptime] stride: usize,
    #[comptime] sizes: Sizes,
    #[comptime] rotary: bool,
    #[define(F)] _dtype: StorageType,
) {
    let [seq, heads, lanes, strips, depth] =
        comptime!([sizes.seq, sizes.heads, sizes.lanes(), sizes.strips(), sizes.depth()]);
    let [narrow, wide] = comptime!([sizes.narrow(), sizes.wide()]);
    let mut queries =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(sizes.rows() * wide / VECTOR), ALIGNMENT);
    let mut keys =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(sizes.rows() * narrow / VECTOR), ALIGNMENT);
    let mut values =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(sizes.rows() * narrow / VECTOR), ALIGNMENT);
    let mut stage = SharedMemory::<Vector<f32, Four>>::new_aligned(comptime!(sizes.stage()), ALIGNMENT);
    let (head, batch) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);

    #[unroll]
    for step in 0..comptime!(lanes / 2) {
        let i = step * comptime!(strips * PLANE as usize) + UNIT_POS as usize;
        let (row, lane) = (i / lanes, i % lanes);
        let token = usize::min(row, comptime!(seq - 1));
        let from = (batch * seq + token) * stride + head * comptime!(2 * lanes) + lane;
        let to = row * comptime!(narrow / VECTOR) + lane;
        let queries_to = row * comptime!(wide / VECTOR) + lane;
        let part = comptime!(heads * 2 * lanes);
        if comptime!(rotary) {
            let by = rotation(cos, sin, token * comptime!(2 * lanes) + lane);
            keep_rotated::<F>(qkv, from, &mut queries, queries_to, &by, lanes);
            keep_rotated::<F>(qkv, from + part, &mut keys, to, &by, lanes);
        } else {
            keep::<F>(qkv, from, &mut queries, queries_to, lanes);
            keep::<F>(qkv, from + part, &mut keys, to, lanes);
        }
        keep::<F>(qkv, from + comptime!(2 * part), &mut values, to, lanes);
    }
    sync_cube();

    let first_row = (UNIT_POS_Y as usize) * SIDE;
    let row = first_row + row_of_lane();
    let left = strip_of::<F>(&queries, first_row, depth, wide);
    let mut tiles = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for tile in 0..strips {
        tiles.push(times_transposed::<F>(&left, &keys, tile * SIDE, depth, narrow));
    }

    let mut scores = Array::<Vector<f32, Eight>>::new(strips);
    let mut largest = f32::min_value();
    #[unroll]
    for tile in 0..strips {
        let mut some = to_lanes(tiles.index(tile), &mut stage) * Vector::new(scale);
        let column = tile * SIDE + half_of_lane() * VECTOR;
        #[unroll]
        for i in 0..VECTOR {
            // The outer condition is one of the compilation of the kernel.
            #[allow(clippy::collapsible_if)]
            if comptime!((tile + 1) * SIDE > seq) {
                if column + i >= seq {
                    some[i] = f32::min_value();
                }
            }
            largest = f32::max(largest, some[i]);
        }
        scores[tile] = some;
    }
    let largest = f32::max(largest, plane_shuffle_xor(largest, SIDE as u32));
    let mut sum = 0.0f32;
    #[unroll]
    for tile in 0..strips {
        let some = (scores[tile] - Vector::new(largest)).exp();
        #[unroll]
        for i in 0..VECTOR {
            sum += some[i];
        }
        scores[tile] = some;
    }
    let sum = sum + plane_shuffle_xor(sum, SIDE as u32);
    if half_of_lane() == 0 && row < seq {
        lse[(batch * heads + head) * seq + row] = largest + sum.ln();
    }

    // In the place of the queries of this strip: no other plane reads them, and this one has.
    let inverse = Vector::<f32, Eight>::new(1.0 / sum);
    #[unroll]
    for tile in 0..strips {
        queries[row * comptime!(wide / VECTOR) + tile * comptime!(SIDE / VECTOR) + half_of_lane()] =
            Vector::cast_from(scores[tile] * inverse);
    }
    sync_plane();
    let weights = strip_of::<F>(&queries, first_row, strips, wide);
    let sums = times::<F>(&weights, &values, strips, depth, narrow);
    #[unroll]
    for tile in 0..depth {
        let some = to_lanes(sums.index(tile), &mut stage);
        if row < seq {
            let at = ((batch * seq + row) * heads + head) * comptime!(2 * lanes)
                + tile * comptime!(SIDE / VECTOR)
                + half_of_lane();
            out[at] = Vector::cast_from(some);
        }
    }
}

/// `out . dout` of the row of this lane, half of it by each of two lanes.
#[cube]
pub(super) fn row_delta<F: Float>(
    out: &Array<Vector<F, Eight>>,
    dout: &Array<Vector<F, Eight>>,
    out_start: usize,
    dout_start: usize,
    #[comptime] lanes: usize,
) -> f32 {
    let mut delta = 0.0f32;
    #[unroll]
    for step in 0..lanes {
        let lane = step * 2 + half_of_lane();
        let products = Vector::<f32, Eight>::cast_from(out[out_start + lane])
            * Vector::<f32, Eight>::cast_from(dout[dout_start + lane]);
        #[unroll]
        for i in 0..VECTOR {
            delta += products[i];
        }
    }
    delta + plane_shuffle_xor(delta, SIDE as u32)
}

/// Writes a strip of a gradient, whose rotation is undone.
#[cube]
pub(super) fn write_strip<F: Float>(
    sums: &Sequence<cmma::Matrix<f32>>,
    stage: &mut SharedMemory<Vector<f32, Four>>,
    cos: &Array<Vector<f32, Eight>>,
    sin: &Array<Vector<f32, Eight>>,
    dqkv: &mut Array<Vector<F, Eight>>,
    start: usize,
    row: usize,
    #[comptime] sizes: Sizes,
    #[comptime] rotated: bool,
) {
    let [lanes, depth] = comptime!([sizes.lanes(), sizes.depth()]);
    #[unroll]
    for tile in 0..comptime!(depth / 2) {
        let mut first = to_lanes(sums.index(tile), stage);
        let mut second = to_lanes(sums.index(comptime!(tile + depth / 2)), stage);
        if row < comptime!(sizes.seq) {
            let lane = tile * comptime!(SIDE / VECTOR) + half_of_lane();
            if comptime!(rotated) {
                let by = rotation(cos, sin, row * comptime!(2 * lanes) + lane);
                let a = first * by.cos + second * by.sin;
                second = second * by.cos - first * by.sin;
                first = a;
            }
            dqkv[start + lane] = Vector::cast_from(first);
            dqkv[start + lane + lanes] = Vector::cast_from(second);
        }
    }
}

/// The gradient of [`forward_kernel`], of one head. Scores are transposed, a strip of them has 16 keys: so the weights are read by
/// the plane alone that makes them, and only their slopes are kept for the others.
#[cube(launch_unchecked)]
fn backward_kernel<F: Float>(
    qkv: &Array<Vector<F, Eight>>,
    cos: &Array<Vector<f32, Eight>>,
    sin: &Array<Vector<f32, Eight>>,
    out: &Array<Vector<F, Eight>>,
    lse: &Array<f32>,
    dout: &Array<Vector<F, Eight>>,
    dqkv: &mut Array<Vector<F, Eight>>,
    scale: f32,
    #[comptime] strides: [usize; 3],
    #[comptime] sizes: Sizes,
    #[comptime] rotary: bool,
    #[define(F)] _dtype: StorageType,
) {
    let [seq, heads, lanes, strips, depth] =
        comptime!([sizes.seq, sizes.heads, sizes.lanes(), sizes.strips(), sizes.depth()]);
    let [rows, narrow, square, wide] =
        comptime!([sizes.rows(), sizes.narrow(), sizes.square(), sizes.wide()]);
    let [qkv_stride, out_stride, dout_stride] = comptime!(strides);
    let mut queries =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(rows * narrow / VECTOR), ALIGNMENT);
    let mut keys =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(rows * narrow / VECTOR), ALIGNMENT);
    let mut values =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(rows * wide / VECTOR), ALIGNMENT);
    let mut douts =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(rows * narrow / VECTOR), ALIGNMENT);
    let mut dscores =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(rows * square / VECTOR), ALIGNMENT);
    let mut stage = SharedMemory::<Vector<f32, Four>>::new_aligned(comptime!(sizes.stage()), ALIGNMENT);
    let mut log_sums = SharedMemory::<f32>::new_aligned(rows, ALIGNMENT);
    let mut deltas = SharedMemory::<f32>::new_aligned(rows, ALIGNMENT);
    let (head, batch) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);

    #[unroll]
    for step in 0..comptime!(lanes / 2) {
        let i = step * comptime!(strips * PLANE as usize) + UNIT_POS as usize;
        let (row, lane) = (i / lanes, i % lanes);
        let token = usize::min(row, comptime!(seq - 1));
        let in_head = head * comptime!(2 * lanes) + lane;
        let from = (batch * seq + token) * qkv_stride + in_head;
        let to = row * comptime!(narrow / VECTOR) + lane;
        let part = comptime!(heads * 2 * lanes);
        if comptime!(rotary) {
            let by = rotation(cos, sin, token * comptime!(2 * lanes) + lane);
            keep_rotated::<F>(qkv, from, &mut queries, to, &by, lanes);
            keep_rotated::<F>(qkv, from + part, &mut keys, to, &by, lanes);
        } else {
            keep::<F>(qkv, from, &mut queries, to, lanes);
            keep::<F>(qkv, from + part, &mut keys, to, lanes);
        }
        let values_to = row * comptime!(wide / VECTOR) + lane;
        keep::<F>(qkv, from + comptime!(2 * part), &mut values, values_to, lanes);
        keep::<F>(dout, (batch * seq + token) * dout_stride + in_head, &mut douts, to, lanes);
    }
    let first_row = (UNIT_POS_Y as usize) * SIDE;
    let row = first_row + row_of_lane();
    let token = usize::min(row, comptime!(seq - 1));
    let (token, column) = (batch * seq + token, head * comptime!(2 * lanes));
    let delta = row_delta::<F>(out, dout, token * out_stride + column, token * dout_stride + column, lanes);
    if half_of_lane() == 0 {
        // Weights of queries that are padding: exp(-huge).
        let mut log_sum = f32::max_value();
        if row < seq {
            log_sum = lse[(batch * heads + head) * seq + row];
        }
        log_sums[row] = log_sum;
        deltas[row] = delta;
    }
    sync_cube();

    let left_keys = strip_of::<F>(&keys, first_row, depth, narrow);
    let left_values = strip_of::<F>(&values, first_row, depth, wide);
    #[unroll]
    for tile in 0..strips {
        let scores = times_transposed::<F>(&left_keys, &queries, tile * SIDE, depth, narrow);
        let dweights = times_transposed::<F>(&left_values, &douts, tile * SIDE, depth, narrow);
        let scores = to_lanes(&scores, &mut stage);
        let dweights = to_lanes(&dweights, &mut stage);
        let mut weights = Vector::<f32, Eight>::new(0.0);
        let mut slopes = Vector::<f32, Eight>::new(0.0);
        if row < seq {
            let column = tile * SIDE + half_of_lane() * VECTOR;
            #[unroll]
            for i in 0..VECTOR {
                // softmax: ds = w (dw - sum_j w_j dw_j), and that sum is out . dout
                let weight = (scores[i] * scale - log_sums[column + i]).exp();
                weights[i] = weight;
                slopes[i] = weight * (dweights[i] - deltas[column + i]) * scale;
            }
        }
        let lane = tile * comptime!(SIDE / VECTOR) + half_of_lane();
        // In the place of the values of this strip: no other plane reads them, and this one has.
        values[row * comptime!(wide / VECTOR) + lane] = Vector::cast_from(weights);
        dscores[row * comptime!(square / VECTOR) + lane] = Vector::cast_from(slopes);
    }
    sync_plane();

    let part = comptime!(heads * 2 * lanes);
    let start = (batch * seq + row) * comptime!(3 * part) + head * comptime!(2 * lanes);
    let left = strip_of::<F>(&values, first_row, strips, wide);
    let sums = times::<F>(&left, &douts, strips, depth, narrow);
    write_strip::<F>(
        &sums,
        &mut stage,
        cos,
        sin,
        dqkv,
        start + comptime!(2 * part),
        row,
        sizes,
        comptime!(false),
    );
    let left = strip_of::<F>(&dscores, first_row, strips, square);
    let sums = times::<F>(&left, &queries, strips, depth, narrow);
    write_strip::<F>(&sums, &mut stage, cos, sin, dqkv, start + part, row, sizes, rotary);
    sync_cube();
    let mut left = Sequence::<cmma::Matrix<F>>::new();
    #[unroll]
    for tile in 0..strips {
        left.push(operand::<F>(
            &dscores,
            tile * SIDE,
            first_row,
            square,
            cmma::MatrixIdent::A,
            cmma::MatrixLayout::ColMajor,
        ));
    }
    let sums = times::<F>(&left, &keys, strips, depth, narrow);
    write_strip::<F>(&sums, &mut stage, cos, sin, dqkv, start, row, sizes, rotary);
}

/// Whether these kernels may be used.
///
/// # Errors
/// If [`FLASH_VARIABLE`] is neither 0 nor 1.
pub(super) fn read_variable() -> Result<bool, String> {
    match env::var_os(FLASH_VARIABLE) {
        None => Ok(true),
        Some(value) if value == "1" => Ok(true),
        Some(value) if value == "0" => Ok(false),
        Some(value) => Err(format!("{FLASH_VARIABLE}={value:?}: expected 1 or 0")),
    }
}

fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| read_variable().unwrap_or_else(|error| panic!("{error}")))
}

/// The sizes, if tensor cores take the type and such heads, and a cube of the device what `bytes` says of them.
pub(super) fn fits<R: CubeRuntime>(
    qkv: &CubeTensor<R>,
    heads: usize,
    bytes: fn(&Sizes) -> usize,
) -> Option<Sizes> {
    let [batch, seq, width] = qkv.shape().dims();
    let sizes = Sizes { seq, heads, head_dim: width / 3 / heads };
    let properties = qkv.client.properties();
    let hardware = &properties.hardware;
    let [a_type, cd_type] = [qkv.dtype, DType::F32].map(Into::into);
    let tile = MmaConfig { a_type, b_type: a_type, cd_type, m: 16, n: 16, k: 16 };
    let fits = is_on()
        && matches!(qkv.dtype, DType::BF16 | DType::F16)
        && properties.features.matmul.cmma.contains(&tile)
        && plane_width(qkv) == Some(PLANE)
        && qkv.client.io_optimized_vector_sizes(qkv.dtype.size()).any(|size| size == VECTOR)
        && sizes.head_dim.is_multiple_of(2 * SIDE)
        && sizes.head_dim <= 128
        && seq > 0
        && bytes(&sizes) <= hardware.max_shared_memory_size
        && heads as u32 <= hardware.max_cube_count.0
        && (1..=hardware.max_cube_count.1 as usize).contains(&batch);
    fits.then_some(sizes)
}

/// The same for sequences of which a cube takes a whole head.
fn sizes<R: CubeRuntime>(qkv: &CubeTensor<R>, heads: usize, bytes: fn(&Sizes) -> usize) -> Option<Sizes> {
    let most = qkv.client.properties().hardware.max_units_per_cube;
    fits(qkv, heads, bytes).filter(|sizes| sizes.seq <= MOST_ROWS && sizes.strips() as u32 * PLANE <= most)
}

/// Rows whose distance is a multiple of a vector.
pub(super) fn rows_of_vectors<R: CubeRuntime>(tensor: CubeTensor<R>) -> Rows<R> {
    let rows = Rows::new(tensor);
    match rows.stride.is_multiple_of(VECTOR) {
        true => rows,
        false => Rows::new(into_contiguous(rows.tensor)),
    }
}

/// Queries, keys and values, with room for the output and for the log-sum-exp of the scores of each row.
pub(super) fn with_outputs<R: CubeRuntime>(qkv: &CubeTensor<R>, sizes: &Sizes) -> (Rows<R>, [Rows<R>; 2]) {
    let batch = qkv.shape()[0];
    let qkv = rows_of_vectors(qkv.clone());
    let shape = Shape::new([batch, sizes.seq, sizes.heads * sizes.head_dim]);
    let out = Rows::dense(&qkv.tensor, shape, qkv.tensor.dtype);
    let lse = Rows::dense(&qkv.tensor, Shape::new([batch, sizes.heads, sizes.seq]), DType::F32);
    (qkv, [out, lse])
}

/// [`attention`](super::attention()) in one kernel, where it applies.
pub(super) fn attention<R: CubeRuntime>(
    qkv: &CubeTensor<R>,
    rotary: &Rotary<R>,
    heads: usize,
) -> Option<(CubeTensor<R>, CubeTensor<R>)> {
    let sizes = sizes(qkv, heads, Sizes::forward_bytes)?;
    let batch = qkv.shape()[0];
    let (qkv, [out, lse]) = with_outputs(qkv, &sizes);
    let [cos, sin] = tables(rotary, &qkv.tensor);
    // SAFETY: a cube for each head, and the kernel reads and writes rows of tokens below `seq` only.
    unsafe {
        forward_kernel::launch_unchecked(
            &qkv.tensor.client,
            CubeCount::Static(heads as u32, batch as u32, 1),
            CubeDim::new_2d(PLANE, sizes.strips() as u32),
            qkv.arg(),
            cos.into_array_arg(),
            sin.into_array_arg(),
            out.arg(),
            lse.arg(),
            sizes.scale(),
            qkv.stride / VECTOR,
            sizes,
            rotary.is_some(),
            qkv.tensor.dtype.into(),
        );
    }
    Some((out.tensor, lse.tensor))
}

/// [`attention_backward`](super::attention_backward()) in one kernel, where it applies.
pub(super) fn attention_backward<R: CubeRuntime>(
    qkv: &CubeTensor<R>,
    rotary: &Rotary<R>,
    heads: usize,
    [out, lse, dout]: [&CubeTensor<R>; 3],
) -> Option<CubeTensor<R>> {
    let sizes = sizes(qkv, heads, Sizes::backward_bytes)?;
    let batch = qkv.shape()[0];
    let dqkv = Rows::dense(qkv, qkv.shape(), qkv.dtype);
    let [qkv, out, dout] = [qkv, out, dout].map(|tensor| rows_of_vectors(tensor.clone()));
    let [cos, sin] = tables(rotary, &qkv.tensor);
    // SAFETY: as in `attention`.
    unsafe {
        backward_kernel::launch_unchecked(
            &qkv.tensor.client,
            CubeCount::Static(heads as u32, batch as u32, 1),
            CubeDim::new_2d(PLANE, sizes.strips() as u32),
            qkv.arg(),
            cos.into_array_arg(),
            sin.into_array_arg(),
            out.arg(),
            into_contiguous(lse.clone()).into_array_arg(),
            dout.arg(),
            dqkv.arg(),
            sizes.scale(),
            [qkv.stride / VECTOR, out.stride / VECTOR, dout.stride / VECTOR],
            sizes,
            rotary.is_some(),
            qkv.tensor.dtype.into(),
        );
    }
    Some(dqkv.tensor)
}
