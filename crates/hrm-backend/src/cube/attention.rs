//! Attention for GPUs: matrix products over heads, and kernels for all that lies between them.
//!
//! Heads are taken apart into matrices whose rows, one for each position, are padded with zeros to a multiple of 8: so the
//! rows of scores are aligned, which tensor cores need. Padded positions get no weight.
//!
//! In the types of tensor cores, [`flash`] and, for long sequences, [`tiled`] compute it without scores in memory instead.

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    ops::permute,
    tensor::CubeTensor,
};

use super::{PLANES, Rows, cubes, flash, plane_width, row_of_plane, tiled, vector_size};

const ALIGNMENT: usize = 8;

/// Cosines and sines, `[seq, head_dim]`.
pub(super) type Rotary<R> = Option<(CubeTensor<R>, CubeTensor<R>)>;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sizes {
    seq: usize,
    /// `seq`, padded.
    rows: usize,
    heads: usize,
    head_dim: usize,
}

impl Sizes {
    fn new(seq: usize, heads: usize, head_dim: usize) -> Self {
        Self { seq, rows: seq.next_multiple_of(ALIGNMENT), heads, head_dim }
    }

    fn scale(&self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }

    /// A tensor for the heads of one of queries, keys or values.
    fn heads_of<R: CubeRuntime>(&self, x: &Rows<R>, batch: usize) -> Rows<R> {
        Rows::dense(&x.tensor, Shape::new([batch, self.heads, self.rows, self.head_dim]), x.tensor.dtype)
    }
}

/// Where a unit of work lies: the token and part and head, and which vector of the first half of the head.
#[derive(CubeType)]
struct Place {
    token: usize,
    part: usize,
    head: usize,
    lane: usize,
}

#[cube]
fn place(#[comptime] lanes: usize, #[comptime] heads: usize, #[comptime] parts: usize) -> Place {
    let lane = ABSOLUTE_POS % lanes;
    let head = (ABSOLUTE_POS / lanes) % heads;
    let part = (ABSOLUTE_POS / comptime!(lanes * heads)) % parts;
    Place { token: ABSOLUTE_POS / comptime!(lanes * heads * parts), part, head, lane }
}

/// `[batch, seq, parts * heads * head_dim]` to `parts` times `[batch, heads, rows, head_dim]`, the first two of them rotated.
#[cube(launch_unchecked)]
fn split_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    cos: &Array<Vector<f32, N>>,
    sin: &Array<Vector<f32, N>>,
    q: &mut Array<Vector<F, N>>,
    k: &mut Array<Vector<F, N>>,
    v: &mut Array<Vector<F, N>>,
    count: usize,
    #[comptime] stride: usize,
    #[comptime] sizes: [usize; 4],
    #[comptime] parts: usize,
    #[comptime] rotary: bool,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let [seq, rows, heads, lanes] = comptime!(sizes);
    let place = place(lanes, heads, parts);
    // Tokens count the padding too.
    let (batch, position) = (place.token / rows, place.token % rows);
    let mut first = Vector::<f32, N>::new(0.0);
    let mut second = Vector::<f32, N>::new(0.0);
    if position < seq {
        let at = (batch * seq + position) * stride
            + (place.part * heads + place.head) * comptime!(2 * lanes)
            + place.lane;
        first = Vector::<f32, N>::cast_from(x[at]);
        second = Vector::<f32, N>::cast_from(x[at + lanes]);
        // The outer condition is one of the compilation of the kernel.
        #[allow(clippy::collapsible_if)]
        if comptime!(rotary) {
            if place.part < 2 {
                let angle = position * comptime!(2 * lanes) + place.lane;
                let a = first * cos[angle] - second * sin[angle];
                second = second * cos[angle + lanes] + first * sin[angle + lanes];
                first = a;
            }
        }
    }
    let out = ((batch * heads + place.head) * rows + position) * comptime!(2 * lanes) + place.lane;
    if place.part == 0 {
        q[out] = Vector::cast_from(first);
        q[out + lanes] = Vector::cast_from(second);
    } else if place.part == 1 {
        k[out] = Vector::cast_from(first);
        k[out + lanes] = Vector::cast_from(second);
    } else {
        v[out] = Vector::cast_from(first);
        v[out + lanes] = Vector::cast_from(second);
    }
}

/// The transpose of [`split_kernel`], rotation included.
// A variable of a kernel that branches assign needs a first value.
#[allow(unused_assignments)]
#[cube(launch_unchecked)]
fn merge_kernel<F: Float, N: Size>(
    q: &Array<Vector<F, N>>,
    k: &Array<Vector<F, N>>,
    v: &Array<Vector<F, N>>,
    cos: &Array<Vector<f32, N>>,
    sin: &Array<Vector<f32, N>>,
    x: &mut Array<Vector<F, N>>,
    count: usize,
    #[comptime] strides: [usize; 3],
    #[comptime] sizes: [usize; 4],
    #[comptime] parts: usize,
    #[comptime] rotary: bool,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let [seq, rows, heads, lanes] = comptime!(sizes);
    let place = place(lanes, heads, parts);
    let (batch, position) = (place.token / seq, place.token % seq);
    let row = (batch * heads + place.head) * rows + position;
    let mut first = Vector::<f32, N>::new(0.0);
    let mut second = Vector::<f32, N>::new(0.0);
    if place.part == 0 {
        let at = row * comptime!(strides[0]) + place.lane;
        first = Vector::<f32, N>::cast_from(q[at]);
        second = Vector::<f32, N>::cast_from(q[at + lanes]);
    } else if place.part == 1 {
        let at = row * comptime!(strides[1]) + place.lane;
        first = Vector::<f32, N>::cast_from(k[at]);
        second = Vector::<f32, N>::cast_from(k[at + lanes]);
    } else {
        let at = row * comptime!(strides[2]) + place.lane;
        first = Vector::<f32, N>::cast_from(v[at]);
        second = Vector::<f32, N>::cast_from(v[at + lanes]);
    }
    #[allow(clippy::collapsible_if)]
    if comptime!(rotary) {
        if place.part < 2 {
            let angle = position * comptime!(2 * lanes) + place.lane;
            let a = first * cos[angle] + second * sin[angle + lanes];
            second = second * cos[angle + lanes] - first * sin[angle];
            first = a;
        }
    }
    let out = place.token * comptime!(parts * heads * 2 * lanes)
        + (place.part * heads + place.head) * comptime!(2 * lanes)
        + place.lane;
    x[out] = Vector::cast_from(first);
    x[out + lanes] = Vector::cast_from(second);
}

/// Weights and the log-sum-exp of each row, of scores that still lack their scale. No weight for padding.
#[cube(launch_unchecked)]
fn softmax_kernel<F: Float>(
    scores: &Array<F>,
    weights: &mut Array<F>,
    lse: &mut Array<f32>,
    count: usize,
    scale: f32,
    #[comptime] stride: usize,
    #[comptime] seq: usize,
    #[comptime] rows: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = row_of_plane();
    if row >= count {
        terminate!();
    }
    let (start, out) = (row * stride, row * rows);
    let (matrix, position) = (row / rows, row % rows);
    let lane = UNIT_POS_X as usize;
    let step = CUBE_DIM_X as usize;
    let mut largest = f32::min_value();
    let mut i = lane;
    while i < seq {
        largest = f32::max(largest, f32::cast_from(scores[start + i]) * scale);
        i += step;
    }
    let largest = plane_max(largest);
    let mut sum = 0.0f32;
    let mut i = lane;
    while i < seq {
        sum += (f32::cast_from(scores[start + i]) * scale - largest).exp();
        i += step;
    }
    let sum = plane_sum(sum);
    let mut i = lane;
    while i < rows {
        let mut weight = 0.0f32;
        if i < seq && position < seq {
            weight = (f32::cast_from(scores[start + i]) * scale - largest).exp() / sum;
        }
        weights[out + i] = F::cast_from(weight);
        i += step;
    }
    if lane == 0 && position < seq {
        lse[matrix * seq + position] = largest + sum.ln();
    }
}

/// Weights again, from scores and log-sum-exp, and the gradient of the scores from that of the weights.
#[cube(launch_unchecked)]
fn softmax_backward_kernel<F: Float>(
    scores: &Array<F>,
    dweights: &Array<F>,
    lse: &Array<f32>,
    weights: &mut Array<F>,
    dscores: &mut Array<F>,
    count: usize,
    scale: f32,
    #[comptime] strides: [usize; 2],
    #[comptime] seq: usize,
    #[comptime] rows: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = row_of_plane();
    if row >= count {
        terminate!();
    }
    let out = row * rows;
    let (start, dstart) = (row * comptime!(strides[0]), row * comptime!(strides[1]));
    let (matrix, position) = (row / rows, row % rows);
    let lane = UNIT_POS_X as usize;
    let step = CUBE_DIM_X as usize;
    let mut log_sum = 0.0f32;
    if position < seq {
        log_sum = lse[matrix * seq + position];
    }
    // softmax: ds = w (dw - sum_j w_j dw_j)
    let mut delta = 0.0f32;
    let mut i = lane;
    while i < seq {
        let weight = (f32::cast_from(scores[start + i]) * scale - log_sum).exp();
        delta += weight * f32::cast_from(dweights[dstart + i]);
        i += step;
    }
    let delta = plane_sum(delta);
    let mut i = lane;
    while i < rows {
        let mut weight = 0.0f32;
        let mut slope = 0.0f32;
        if i < seq && position < seq {
            weight = (f32::cast_from(scores[start + i]) * scale - log_sum).exp();
            slope = weight * (f32::cast_from(dweights[dstart + i]) - delta) * scale;
        }
        weights[out + i] = F::cast_from(weight);
        dscores[out + i] = F::cast_from(slope);
        i += step;
    }
}

/// The tables, or something in their place that is not read.
pub(super) fn tables<R: CubeRuntime>(rotary: &Rotary<R>, like: &CubeTensor<R>) -> [CubeTensor<R>; 2] {
    match rotary {
        Some((cos, sin)) => [into_contiguous(cos.clone()), into_contiguous(sin.clone())],
        None => {
            let unread = Rows::dense(like, Shape::new([1, 8]), DType::F32).tensor;
            [unread.clone(), unread]
        }
    }
}

/// The heads of the `parts` of `x`; of fewer than three parts the last ones are not read.
fn split<R: CubeRuntime>(x: &Rows<R>, sizes: Sizes, parts: usize, rotary: &Rotary<R>) -> [CubeTensor<R>; 3] {
    let batch = x.count() / sizes.seq;
    let q = sizes.heads_of(x, batch);
    let [k, v] =
        [1, 2].map(|part| if part < parts { sizes.heads_of(x, batch) } else { Rows::new(q.tensor.clone()) });
    let [cos, sin] = tables(rotary, &x.tensor);
    let size = vector_size(&[sizes.head_dim / 2], &[x, &q]);
    let count = batch * sizes.rows * parts * sizes.heads * sizes.head_dim / 2 / size;
    let client = &x.tensor.client;
    let dim = CubeDim::new(client, count);
    // SAFETY: `count` is what the outputs hold, half a head each; the kernel reads tokens below `seq` only.
    unsafe {
        split_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, count, dim),
            dim,
            size,
            x.arg(),
            cos.into_array_arg(),
            sin.into_array_arg(),
            q.arg(),
            k.arg(),
            v.arg(),
            count,
            x.stride / size,
            [sizes.seq, sizes.rows, sizes.heads, sizes.head_dim / 2 / size],
            parts,
            rotary.is_some(),
            x.tensor.dtype.into(),
        );
    }
    [q, k, v].map(|rows| rows.tensor)
}

/// Heads, `[batch, heads, rows, head_dim]` each, back to `[batch, seq, parts * heads * head_dim]`.
fn merge<R: CubeRuntime>(
    parts: [CubeTensor<R>; 3],
    count: usize,
    sizes: Sizes,
    rotary: &Rotary<R>,
) -> CubeTensor<R> {
    let batch = parts[0].shape()[0];
    let [q, k, v] = parts.map(Rows::new);
    let width = count * sizes.heads * sizes.head_dim;
    let x = Rows::dense(&q.tensor, Shape::new([batch, sizes.seq, width]), q.tensor.dtype);
    let [cos, sin] = tables(rotary, &x.tensor);
    let size = vector_size(&[sizes.head_dim / 2], &[&q, &k, &v, &x]);
    let work = batch * sizes.seq * width / 2 / size;
    let client = &x.tensor.client;
    let dim = CubeDim::new(client, work);
    // SAFETY: `work` is what `x` holds, half a head each; rows are the tensors' own.
    unsafe {
        merge_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, work, dim),
            dim,
            size,
            q.arg(),
            k.arg(),
            v.arg(),
            cos.into_array_arg(),
            sin.into_array_arg(),
            x.arg(),
            work,
            [q.stride / size, k.stride / size, v.stride / size],
            [sizes.seq, sizes.rows, sizes.heads, sizes.head_dim / 2 / size],
            count,
            rotary.is_some(),
            x.tensor.dtype.into(),
        );
    }
    x.tensor
}

/// The width of a plane, if the kernels take these heads: halves of them are worked on together.
pub(crate) fn attention_plane<R: CubeRuntime>(qkv: &CubeTensor<R>, heads: usize) -> Option<u32> {
    let head_dim = qkv.shape()[2] / 3 / heads;
    plane_width(qkv).filter(|_| head_dim.is_multiple_of(2))
}

/// A view of the transposed matrices.
fn turned<R: CubeRuntime>(matrices: CubeTensor<R>) -> CubeTensor<R> {
    permute(matrices, &[0, 1, 3, 2])
}

/// See [`HrmBackend::fused_attention`](crate::HrmBackend::fused_attention).
pub(crate) fn attention<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    rotary: Rotary<R>,
    heads: usize,
    plane: u32,
    product: fn(CubeTensor<R>, CubeTensor<R>) -> CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    if let Some(result) =
        flash::attention(&qkv, &rotary, heads).or_else(|| tiled::attention(&qkv, &rotary, heads))
    {
        return result;
    }
    let [batch, seq, width] = qkv.shape().dims();
    let sizes = Sizes::new(seq, heads, width / 3 / heads);
    let [q, k, v] = split(&Rows::new(qkv), sizes, 3, &rotary);
    let scores = Rows::new(product(q, turned(k)));
    let weights = scores.like();
    let lse = Rows::dense(&scores.tensor, Shape::new([batch, heads, seq]), DType::F32);
    // SAFETY: the kernel leaves alone what is beyond the rows of `scores`; `lse` has one value for each that is not padding.
    unsafe {
        softmax_kernel::launch_unchecked(
            &scores.tensor.client,
            cubes(scores.count()),
            CubeDim::new_2d(plane, PLANES),
            scores.arg(),
            weights.arg(),
            lse.arg(),
            scores.count(),
            sizes.scale(),
            scores.stride,
            seq,
            sizes.rows,
            scores.tensor.dtype.into(),
        );
    }
    let out = product(weights.tensor, v);
    (merge([out.clone(), out.clone(), out], 1, sizes, &None), lse.tensor)
}

/// See [`HrmBackend::attention_backward`](crate::HrmBackend::attention_backward).
pub(crate) fn attention_backward<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    rotary: Rotary<R>,
    heads: usize,
    [out, lse, dout]: [CubeTensor<R>; 3],
    plane: u32,
    product: fn(CubeTensor<R>, CubeTensor<R>) -> CubeTensor<R>,
) -> CubeTensor<R> {
    let from_forward = [&out, &lse, &dout];
    if let Some(dqkv) = flash::attention_backward(&qkv, &rotary, heads, from_forward)
        .or_else(|| tiled::attention_backward(&qkv, &rotary, heads, from_forward))
    {
        return dqkv;
    }
    let [_, seq, width] = qkv.shape().dims();
    let sizes = Sizes::new(seq, heads, width / 3 / heads);
    let [q, k, v] = split(&Rows::new(qkv), sizes, 3, &rotary);
    let [dout, ..] = split(&Rows::new(dout), sizes, 1, &None);
    let scores = Rows::new(product(q.clone(), turned(k.clone())));
    let dweights = Rows::new(product(dout.clone(), turned(v)));
    let (weights, dscores) = (scores.like(), scores.like());
    // SAFETY: as in `attention`.
    unsafe {
        softmax_backward_kernel::launch_unchecked(
            &scores.tensor.client,
            cubes(scores.count()),
            CubeDim::new_2d(plane, PLANES),
            scores.arg(),
            dweights.arg(),
            into_contiguous(lse).into_array_arg(),
            weights.arg(),
            dscores.arg(),
            scores.count(),
            sizes.scale(),
            [scores.stride, dweights.stride],
            seq,
            sizes.rows,
            scores.tensor.dtype.into(),
        );
    }
    let dv = product(turned(weights.tensor), dout);
    let dq = product(dscores.tensor.clone(), k);
    let dk = product(turned(dscores.tensor), q);
    merge([dq, dk, dv], 3, sizes, &rotary)
}
