//! Attention for sequences that do not fit into one cube, by tensor cores: scores never leave a multiprocessor, however long a
//! sequence is.
//!
//! As in [`flash`](super::flash) the planes of a cube have a strip of 16 rows each, here of a block of 64. Forward, a cube has a block of
//! queries and goes twice through all keys: first for the log-sum-exp of its rows (with running maxima, as FlashAttention does), then for
//! the output, from weights that are normalised before they are rounded. So no sum is ever scaled again, and tiles of
//! sums may stay where tensor cores leave them. Backward there are two kernels: one has a block of keys and goes through the queries, for
//! the gradients of keys and values; the other has a block of queries and goes through the keys. Each sum has one writer and one order.

use burn::tensor::TensorMetadata;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{
    Rows,
    attention::{Rotary, tables},
    flash::{
        ALIGNMENT, Eight, Four, GAP, PLANE, SIDE, Sizes, TILE_STRIDE, VECTOR, add_times, fits, half_of_lane,
        keep, keep_rotated, rotation, row_delta, row_of_lane, rows_of_vectors, strip_of, sums_of,
        times_transposed, to_lanes, with_outputs, write_strip,
    },
};

/// Rows of a block.
const BLOCK: usize = 64;
/// Planes of a cube, and tiles of a block.
const STRIPS: usize = BLOCK / SIDE;
/// From one row of a block of scores to the next.
const SQUARE: usize = BLOCK + GAP;
/// Vectors that [`to_lanes`] needs for all planes.
const STAGE: usize = STRIPS * SIDE * TILE_STRIDE / 4;

/// From one row to the next of a matrix whose strips scores take the place of.
fn wide(sizes: &Sizes) -> usize {
    sizes.narrow().max(SQUARE)
}

fn forward_bytes(sizes: &Sizes) -> usize {
    2 * BLOCK * (wide(sizes) + 2 * sizes.narrow()) + 16 * STAGE
}

/// Of the larger one of the backward kernels.
fn backward_bytes(sizes: &Sizes) -> usize {
    2 * BLOCK * (2 * wide(sizes) + 2 * sizes.narrow()) + 16 * STAGE + 8 * BLOCK
}

/// Brings a block of rows to shared memory, rotated or as it is. Rows beyond the sequence repeat its last one: finite values, which
/// get no weight.
#[cube]
fn load_block<F: Float>(
    x: &Array<Vector<F, Eight>>,
    cos: &Array<Vector<f32, Eight>>,
    sin: &Array<Vector<f32, Eight>>,
    matrix: &mut SharedMemory<Vector<F, Eight>>,
    batch: usize,
    first: usize,
    column: usize,
    #[comptime] sizes: Sizes,
    #[comptime] strides: [usize; 2],
    #[comptime] rotated: bool,
) {
    let [seq, lanes] = comptime!([sizes.seq, sizes.lanes()]);
    #[unroll]
    for step in 0..comptime!(lanes / 2) {
        let i = step * comptime!(STRIPS * PLANE as usize) + UNIT_POS as usize;
        let (row, lane) = (i / lanes, i % lanes);
        let token = usize::min(first + row, comptime!(seq - 1));
        let from = (batch * seq + token) * comptime!(strides[0]) + column + lane;
        let to = row * comptime!(strides[1] / VECTOR) + lane;
        if comptime!(rotated) {
            let by = rotation(cos, sin, token * comptime!(2 * lanes) + lane);
            keep_rotated::<F>(x, from, matrix, to, &by, lanes);
        } else {
            keep::<F>(x, from, matrix, to, lanes);
        }
    }
}

/// [`load_block`] of what may be rotated and of what never is, at the same rows.
#[cube]
fn load_two<F: Float>(
    x: &Array<Vector<F, Eight>>,
    y: &Array<Vector<F, Eight>>,
    cos: &Array<Vector<f32, Eight>>,
    sin: &Array<Vector<f32, Eight>>,
    of_x: &mut SharedMemory<Vector<F, Eight>>,
    of_y: &mut SharedMemory<Vector<F, Eight>>,
    batch: usize,
    first: usize,
    columns: (usize, usize),
    #[comptime] sizes: Sizes,
    #[comptime] strides: [usize; 4],
    #[comptime] rotated: bool,
) {
    let [x_stride, x_row, y_stride, y_row] = comptime!(strides);
    load_block::<F>(x, cos, sin, of_x, batch, first, columns.0, sizes, comptime!([x_stride, x_row]), rotated);
    load_block::<F>(y, cos, sin, of_y, batch, first, columns.1, sizes, comptime!([y_stride, y_row]), false);
}

/// `softmax(scale q k^T) v` of a block of queries of one head, and the log-sum-exp of its rows.
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
    let [seq, heads, lanes, depth] = comptime!([sizes.seq, sizes.heads, sizes.lanes(), sizes.depth()]);
    let [narrow, wide] = comptime!([sizes.narrow(), wide(&sizes)]);
    let mut queries =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * wide / VECTOR), ALIGNMENT);
    let mut keys =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * narrow / VECTOR), ALIGNMENT);
    let mut values =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * narrow / VECTOR), ALIGNMENT);
    let mut stage = SharedMemory::<Vector<f32, Four>>::new_aligned(STAGE, ALIGNMENT);
    let (head, batch) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let first = (CUBE_POS_Z as usize) * BLOCK;
    let part = comptime!(heads * 2 * lanes);
    let column = head * comptime!(2 * lanes);

    load_block::<F>(
        qkv,
        cos,
        sin,
        &mut queries,
        batch,
        first,
        column,
        sizes,
        comptime!([stride, wide]),
        rotary,
    );
    sync_cube();
    let strip = (UNIT_POS_Y as usize) * SIDE;
    let row = strip + row_of_lane();
    let left = strip_of::<F>(&queries, strip, depth, wide);

    // Each lane has half of the columns of its row.
    let mut largest = f32::min_value();
    let mut sum = 0.0f32;
    let mut block = 0usize;
    while block < seq {
        sync_cube();
        load_block::<F>(
            qkv,
            cos,
            sin,
            &mut keys,
            batch,
            block,
            column + part,
            sizes,
            comptime!([stride, narrow]),
            rotary,
        );
        sync_cube();
        #[unroll]
        for tile in 0..STRIPS {
            let scores = times_transposed::<F>(&left, &keys, tile * SIDE, depth, narrow);
            let mut some = to_lanes(&scores, &mut stage) * Vector::new(scale);
            let at = block + tile * SIDE + half_of_lane() * VECTOR;
            let mut most = largest;
            #[unroll]
            for i in 0..VECTOR {
                if at + i >= seq {
                    some[i] = f32::min_value();
                }
                most = f32::max(most, some[i]);
            }
            let some = (some - Vector::new(most)).exp();
            sum *= (largest - most).exp();
            #[unroll]
            for i in 0..VECTOR {
                sum += some[i];
            }
            largest = most;
        }
        block += BLOCK;
    }
    let other = plane_shuffle_xor(largest, SIDE as u32);
    let most = f32::max(largest, other);
    let sum = sum * (largest - most).exp();
    let sum = sum + plane_shuffle_xor(sum, SIDE as u32);
    let log_sum = most + sum.ln();
    if half_of_lane() == 0 && first + row < seq {
        lse[(batch * heads + head) * seq + first + row] = log_sum;
    }

    let sums = sums_of(depth);
    let mut block = 0usize;
    while block < seq {
        sync_cube();
        load_two::<F>(
            qkv,
            qkv,
            cos,
            sin,
            &mut keys,
            &mut values,
            batch,
            block,
            (column + part, column + comptime!(2 * part)),
            sizes,
            comptime!([stride, narrow, stride, narrow]),
            rotary,
        );
        sync_cube();
        #[unroll]
        for tile in 0..STRIPS {
            let scores = times_transposed::<F>(&left, &keys, tile * SIDE, depth, narrow);
            let some = to_lanes(&scores, &mut stage);
            let mut weights = Vector::<f32, Eight>::new(0.0);
            let at = block + tile * SIDE + half_of_lane() * VECTOR;
            #[unroll]
            for i in 0..VECTOR {
                if at + i < seq {
                    weights[i] = (some[i] * scale - log_sum).exp();
                }
            }
            // In the place of the queries of this strip: no other plane reads them, and this one has.
            queries[row * comptime!(wide / VECTOR) + tile * comptime!(SIDE / VECTOR) + half_of_lane()] =
                Vector::cast_from(weights);
        }
        sync_plane();
        let weights = strip_of::<F>(&queries, strip, STRIPS, wide);
        add_times::<F>(&sums, &weights, &values, STRIPS, depth, narrow);
        block += BLOCK;
    }
    #[unroll]
    for tile in 0..depth {
        let some = to_lanes(sums.index(tile), &mut stage);
        if first + row < seq {
            let at = ((batch * seq + first + row) * heads + head) * comptime!(2 * lanes)
                + tile * comptime!(SIDE / VECTOR)
                + half_of_lane();
            out[at] = Vector::cast_from(some);
        }
    }
}

/// The gradients of a block of keys and their values, of one head. Scores are transposed.
#[cube(launch_unchecked)]
fn keys_kernel<F: Float>(
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
    let [seq, heads, lanes, depth] = comptime!([sizes.seq, sizes.heads, sizes.lanes(), sizes.depth()]);
    let [narrow, wide] = comptime!([sizes.narrow(), wide(&sizes)]);
    let [stride, out_stride, dout_stride] = comptime!(strides);
    let mut keys = SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * wide / VECTOR), ALIGNMENT);
    let mut values =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * wide / VECTOR), ALIGNMENT);
    let mut queries =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * narrow / VECTOR), ALIGNMENT);
    let mut douts =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * narrow / VECTOR), ALIGNMENT);
    let mut stage = SharedMemory::<Vector<f32, Four>>::new_aligned(STAGE, ALIGNMENT);
    let mut log_sums = SharedMemory::<f32>::new_aligned(BLOCK, ALIGNMENT);
    let mut deltas = SharedMemory::<f32>::new_aligned(BLOCK, ALIGNMENT);
    let (head, batch) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let first = (CUBE_POS_Z as usize) * BLOCK;
    let part = comptime!(heads * 2 * lanes);
    let column = head * comptime!(2 * lanes);

    load_two::<F>(
        qkv,
        qkv,
        cos,
        sin,
        &mut keys,
        &mut values,
        batch,
        first,
        (column + part, column + comptime!(2 * part)),
        sizes,
        comptime!([stride, wide, stride, wide]),
        rotary,
    );
    sync_cube();
    let strip = (UNIT_POS_Y as usize) * SIDE;
    let row = strip + row_of_lane();
    let left_keys = strip_of::<F>(&keys, strip, depth, wide);
    let left_values = strip_of::<F>(&values, strip, depth, wide);
    let dkeys = sums_of(depth);
    let dvalues = sums_of(depth);
    let mut block = 0usize;
    while block < seq {
        sync_cube();
        load_two::<F>(
            qkv,
            dout,
            cos,
            sin,
            &mut queries,
            &mut douts,
            batch,
            block,
            (column, column),
            sizes,
            comptime!([stride, narrow, dout_stride, narrow]),
            rotary,
        );
        let token = batch * seq + usize::min(block + row, comptime!(seq - 1));
        let delta =
            row_delta::<F>(out, dout, token * out_stride + column, token * dout_stride + column, lanes);
        if half_of_lane() == 0 {
            // Weights of queries that are padding: exp(-huge).
            let mut log_sum = f32::max_value();
            if block + row < seq {
                log_sum = lse[(batch * heads + head) * seq + block + row];
            }
            log_sums[row] = log_sum;
            deltas[row] = delta;
        }
        sync_cube();
        #[unroll]
        for tile in 0..STRIPS {
            let scores = times_transposed::<F>(&left_keys, &queries, tile * SIDE, depth, narrow);
            let dweights = times_transposed::<F>(&left_values, &douts, tile * SIDE, depth, narrow);
            let scores = to_lanes(&scores, &mut stage);
            let dweights = to_lanes(&dweights, &mut stage);
            let mut weights = Vector::<f32, Eight>::new(0.0);
            let mut slopes = Vector::<f32, Eight>::new(0.0);
            if first + row < seq {
                let at = tile * SIDE + half_of_lane() * VECTOR;
                #[unroll]
                for i in 0..VECTOR {
                    // softmax: ds = w (dw - sum_j w_j dw_j), and that sum is out . dout
                    let weight = (scores[i] * scale - log_sums[at + i]).exp();
                    weights[i] = weight;
                    slopes[i] = weight * (dweights[i] - deltas[at + i]) * scale;
                }
            }
            // In the place of this strip's values and keys: no other plane reads them, and this one has.
            let to = row * comptime!(wide / VECTOR) + tile * comptime!(SIDE / VECTOR) + half_of_lane();
            values[to] = Vector::cast_from(weights);
            keys[to] = Vector::cast_from(slopes);
        }
        sync_plane();
        let weights = strip_of::<F>(&values, strip, STRIPS, wide);
        add_times::<F>(&dvalues, &weights, &douts, STRIPS, depth, narrow);
        let slopes = strip_of::<F>(&keys, strip, STRIPS, wide);
        add_times::<F>(&dkeys, &slopes, &queries, STRIPS, depth, narrow);
        block += BLOCK;
    }
    let start = (batch * seq + first + row) * comptime!(3 * part) + column;
    write_strip::<F>(
        &dvalues,
        &mut stage,
        cos,
        sin,
        dqkv,
        start + comptime!(2 * part),
        first + row,
        sizes,
        comptime!(false),
    );
    write_strip::<F>(&dkeys, &mut stage, cos, sin, dqkv, start + part, first + row, sizes, rotary);
}

/// The gradient of a block of queries, of one head.
#[cube(launch_unchecked)]
fn queries_kernel<F: Float>(
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
    let [seq, heads, lanes, depth] = comptime!([sizes.seq, sizes.heads, sizes.lanes(), sizes.depth()]);
    let [narrow, wide] = comptime!([sizes.narrow(), wide(&sizes)]);
    let [stride, out_stride, dout_stride] = comptime!(strides);
    let mut queries =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * wide / VECTOR), ALIGNMENT);
    let mut douts =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * narrow / VECTOR), ALIGNMENT);
    let mut keys =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * narrow / VECTOR), ALIGNMENT);
    let mut values =
        SharedMemory::<Vector<F, Eight>>::new_aligned(comptime!(BLOCK * narrow / VECTOR), ALIGNMENT);
    let mut stage = SharedMemory::<Vector<f32, Four>>::new_aligned(STAGE, ALIGNMENT);
    let (head, batch) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let first = (CUBE_POS_Z as usize) * BLOCK;
    let part = comptime!(heads * 2 * lanes);
    let column = head * comptime!(2 * lanes);

    load_two::<F>(
        qkv,
        dout,
        cos,
        sin,
        &mut queries,
        &mut douts,
        batch,
        first,
        (column, column),
        sizes,
        comptime!([stride, wide, dout_stride, narrow]),
        rotary,
    );
    sync_cube();
    let strip = (UNIT_POS_Y as usize) * SIDE;
    let row = strip + row_of_lane();
    let left_queries = strip_of::<F>(&queries, strip, depth, wide);
    let left_douts = strip_of::<F>(&douts, strip, depth, narrow);
    let position = usize::min(first + row, comptime!(seq - 1));
    let token = batch * seq + position;
    let delta = row_delta::<F>(out, dout, token * out_stride + column, token * dout_stride + column, lanes);
    let log_sum = lse[(batch * heads + head) * seq + position];
    let dqueries = sums_of(depth);
    let mut block = 0usize;
    while block < seq {
        sync_cube();
        load_two::<F>(
            qkv,
            qkv,
            cos,
            sin,
            &mut keys,
            &mut values,
            batch,
            block,
            (column + part, column + comptime!(2 * part)),
            sizes,
            comptime!([stride, narrow, stride, narrow]),
            rotary,
        );
        sync_cube();
        #[unroll]
        for tile in 0..STRIPS {
            let scores = times_transposed::<F>(&left_queries, &keys, tile * SIDE, depth, narrow);
            let dweights = times_transposed::<F>(&left_douts, &values, tile * SIDE, depth, narrow);
            let scores = to_lanes(&scores, &mut stage);
            let dweights = to_lanes(&dweights, &mut stage);
            let mut slopes = Vector::<f32, Eight>::new(0.0);
            let at = block + tile * SIDE + half_of_lane() * VECTOR;
            #[unroll]
            for i in 0..VECTOR {
                if at + i < seq {
                    slopes[i] = (scores[i] * scale - log_sum).exp() * (dweights[i] - delta) * scale;
                }
            }
            queries[row * comptime!(wide / VECTOR) + tile * comptime!(SIDE / VECTOR) + half_of_lane()] =
                Vector::cast_from(slopes);
        }
        sync_plane();
        let slopes = strip_of::<F>(&queries, strip, STRIPS, wide);
        add_times::<F>(&dqueries, &slopes, &keys, STRIPS, depth, narrow);
        block += BLOCK;
    }
    let start = (batch * seq + first + row) * comptime!(3 * part) + column;
    write_strip::<F>(&dqueries, &mut stage, cos, sin, dqkv, start, first + row, sizes, rotary);
}

/// A cube for each block of rows of each head, if the device takes that.
fn cubes<R: CubeRuntime>(
    qkv: &CubeTensor<R>,
    heads: usize,
    bytes: fn(&Sizes) -> usize,
) -> Option<(Sizes, CubeCount)> {
    let sizes = fits(qkv, heads, bytes)?;
    let blocks = sizes.seq.div_ceil(BLOCK);
    (blocks <= qkv.client.properties().hardware.max_cube_count.2 as usize)
        .then(|| (sizes, CubeCount::Static(heads as u32, qkv.shape()[0] as u32, blocks as u32)))
}

/// [`attention`](super::attention()) without scores in memory, where it applies.
pub(super) fn attention<R: CubeRuntime>(
    qkv: &CubeTensor<R>,
    rotary: &Rotary<R>,
    heads: usize,
) -> Option<(CubeTensor<R>, CubeTensor<R>)> {
    let (sizes, cubes) = cubes(qkv, heads, forward_bytes)?;
    let (qkv, [out, lse]) = with_outputs(qkv, &sizes);
    let [cos, sin] = tables(rotary, &qkv.tensor);
    // SAFETY: the kernel reads and writes rows of tokens below `seq` only.
    unsafe {
        forward_kernel::launch_unchecked(
            &qkv.tensor.client,
            cubes,
            CubeDim::new_2d(PLANE, STRIPS as u32),
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

/// [`attention_backward`](super::attention_backward()) without scores in memory, where it applies.
pub(super) fn attention_backward<R: CubeRuntime>(
    qkv: &CubeTensor<R>,
    rotary: &Rotary<R>,
    heads: usize,
    [out, lse, dout]: [&CubeTensor<R>; 3],
) -> Option<CubeTensor<R>> {
    let (sizes, cubes) = cubes(qkv, heads, backward_bytes)?;
    let dqkv = Rows::dense(qkv, qkv.shape(), qkv.dtype);
    let [qkv, out, dout] = [qkv, out, dout].map(|tensor| rows_of_vectors(tensor.clone()));
    let lse = into_contiguous(lse.clone());
    let [cos, sin] = tables(rotary, &qkv.tensor);
    let strides = [&qkv, &out, &dout].map(|rows| rows.stride / VECTOR);
    macro_rules! launch {
        ($kernel:ident) => {
            // SAFETY: as in `attention`; each kernel writes the gradients of its own parts.
            unsafe {
                $kernel::launch_unchecked(
                    &qkv.tensor.client,
                    cubes.clone(),
                    CubeDim::new_2d(PLANE, STRIPS as u32),
                    qkv.arg(),
                    cos.clone().into_array_arg(),
                    sin.clone().into_array_arg(),
                    out.arg(),
                    lse.clone().into_array_arg(),
                    dout.arg(),
                    dqkv.arg(),
                    sizes.scale(),
                    strides,
                    sizes,
                    rotary.is_some(),
                    qkv.tensor.dtype.into(),
                )
            }
        };
    }
    launch!(keys_kernel);
    launch!(queries_kernel);
    Some(dqkv.tensor)
}
