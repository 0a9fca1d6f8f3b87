//! Fused operators for GPUs, as CubeCL kernels: one source for CUDA, Vulkan, Metal and WebGPU. All compute in fp32 and read
//! and write the type of the model.
//!
//! Plain Burn starts a kernel for each arithmetic operation, and each reads and writes whole activations: what surrounds
//! the matrix products then takes longer than they do. Matrix products are cuBLASLt's or cubek's, which are Burn's too.
//!
//! Kernels over rows give a plane (the lanes that run in lockstep: 32 on NVIDIA) to each row.

mod adam;
mod attention;
#[cfg(feature = "cuda")]
mod cublas;
mod flash;
mod groups;
mod losses;
mod product;
mod sums;
mod tiled;

pub(crate) use adam::adam_atan2;
pub(crate) use attention::{attention, attention_backward, attention_plane};
pub use flash::FLASH_VARIABLE;
pub(crate) use groups::{group_block, group_block_backward};
pub(crate) use losses::{act_loss, act_loss_backward, answers, answers_backward};
pub use product::{KERNEL_VARIABLE, KERNELS, product_by};
pub(crate) use product::{Precision, exact_product, grouped_rows, in_groups, library_product, product};
#[cfg(feature = "cuda")]
pub use product::{cublas_fallbacks, uses_cublas};
pub(crate) use sums::sums_of_squares;

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, calculate_cube_count_elemwise, features::Plane, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

/// What the environment asks for and cannot be had, in words.
///
/// # Errors
/// If [`KERNEL_VARIABLE`] or [`FLASH_VARIABLE`] has a value that it cannot have here.
pub(crate) fn check_environment() -> Result<(), String> {
    product::read_kernel_variable()?;
    flash::read_variable()?;
    Ok(())
}

/// Planes, and so rows, of a cube.
const PLANES: u32 = 8;

/// Side of the square that a cube of [`transpose`] turns.
const TILE: usize = 32;
/// Rows of a tile that are copied at a time.
const TILE_ROWS: usize = 8;

/// A tensor and what kernels over its rows need to know of it: the last axis is dense, rows may be apart.
struct Rows<R: CubeRuntime> {
    tensor: CubeTensor<R>,
    width: usize,
    /// Elements from one row to the next.
    stride: usize,
}

impl<R: CubeRuntime> Rows<R> {
    fn new(tensor: CubeTensor<R>) -> Self {
        let tensor = if evenly_spaced(&tensor) { tensor } else { into_contiguous(tensor) };
        let rank = tensor.shape().num_dims();
        let width = tensor.shape()[rank - 1];
        let stride = if rank == 1 { width } else { tensor.meta.strides()[rank - 2] };
        Self { tensor, width, stride }
    }

    fn count(&self) -> usize {
        self.tensor.shape().num_elements() / self.width.max(1)
    }

    fn like(&self) -> Self {
        Self::dense(&self.tensor, self.tensor.shape(), self.tensor.dtype)
    }

    fn dense(on: &CubeTensor<R>, shape: Shape, dtype: DType) -> Self {
        Self::new(empty_device_contiguous_dtype(on.client.clone(), on.device.clone(), shape, dtype))
    }

    fn arg(&self) -> ArrayArg<R> {
        self.tensor.clone().into_array_arg()
    }
}

/// Whether all rows have the same distance to the next and are dense themselves.
fn evenly_spaced<R: CubeRuntime>(tensor: &CubeTensor<R>) -> bool {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let rank = shape.num_dims();
    let dense = strides[rank - 1] == 1 || shape[rank - 1] == 1;
    dense && (0..rank.saturating_sub(2)).all(|axis| strides[axis] == strides[axis + 1] * shape[axis + 1])
}

/// The most elements that each of some rows can be read by at a time: 16 bytes, or fewer if widths or distances are odd.
fn vector_size<R: CubeRuntime>(widths: &[usize], rows: &[&Rows<R>]) -> usize {
    let bytes = rows.iter().map(|rows| rows.tensor.dtype.size()).max().unwrap_or(4);
    let fits = |size: usize| {
        widths.iter().all(|width| width.is_multiple_of(size))
            && rows.iter().all(|rows| rows.stride.is_multiple_of(size))
    };
    let client = &rows[0].tensor.client;
    client.io_optimized_vector_sizes(bytes).filter(|size| fits(*size)).max().unwrap_or(1)
}

/// The width of a plane, if the device has planes that add and all are alike.
pub(crate) fn plane_width<R: CubeRuntime>(tensor: &CubeTensor<R>) -> Option<u32> {
    let properties = tensor.client.properties();
    let hardware = &properties.hardware;
    let alike = hardware.plane_size_min == hardware.plane_size_max && hardware.plane_size_max > 1;
    (alike && properties.features.plane.contains(Plane::Ops)).then_some(hardware.plane_size_max)
}

/// Cubes for some rows: two axes, as 65,535 is the most of one on Vulkan.
fn cubes(rows: usize) -> CubeCount {
    let cubes = rows.div_ceil(PLANES as usize) as u32;
    let wide = cubes.clamp(1, 32_768);
    CubeCount::Static(wide, cubes.div_ceil(wide), 1)
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0);
    // Not `-x`: CubeCL's CUDA has no negation of vectors.
    one / (one + (Vector::<f32, N>::new(0.0) - x).exp())
}

/// The sum over the lanes of all vectors of a plane.
#[cube]
fn row_sum<N: Size>(partial: Vector<f32, N>) -> f32 {
    let mut sum = partial[0];
    #[unroll]
    for lane in 1..N::value() {
        sum += partial[lane];
    }
    plane_sum(sum)
}

/// The row of this plane; beyond the last one for some planes of the last cube.
#[cube]
fn row_of_plane() -> usize {
    CUBE_POS * (CUBE_DIM_Y as usize) + (UNIT_POS_Y as usize)
}

#[cube(launch_unchecked)]
fn add_rms_norm_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    residual: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    inv_rms: &mut Array<f32>,
    rows: usize,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] vectors: usize,
    #[comptime] strides: [usize; 2],
    #[define(F)] _dtype: StorageType,
) {
    let row = row_of_plane();
    if row >= rows {
        terminate!();
    }
    let x_start = row * comptime!(strides[0]);
    let residual_start = row * comptime!(strides[1]);
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < vectors {
        // The sum is rounded to the type of the model, as in the original.
        let u = Vector::<f32, N>::cast_from(x[x_start + i] + residual[residual_start + i]);
        squares += u * u;
        i += CUBE_DIM_X as usize;
    }
    let mean = row_sum::<N>(squares) / comptime!(width as f32);
    let scale = 1.0 / (mean + eps).sqrt();
    let mut i = UNIT_POS_X as usize;
    while i < vectors {
        let u = Vector::<f32, N>::cast_from(x[x_start + i] + residual[residual_start + i]);
        y[row * vectors + i] = Vector::cast_from(u * Vector::new(scale));
        i += CUBE_DIM_X as usize;
    }
    if UNIT_POS_X == 0 {
        inv_rms[row] = scale;
    }
}

/// See [`HrmBackend::add_rms_norm`](crate::HrmBackend::add_rms_norm).
pub(crate) fn add_rms_norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    residual: CubeTensor<R>,
    eps: f64,
    plane: u32,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (x, residual) = (Rows::new(x), Rows::new(residual));
    let y = x.like();
    let inv_rms = Rows::dense(&x.tensor, Shape::new([x.count(), 1]), DType::F32);
    let size = vector_size(&[x.width], &[&x, &residual, &y]);
    // SAFETY: the kernel leaves alone what is beyond `rows`, and within a row the widths and distances are the tensors' own.
    unsafe {
        add_rms_norm_kernel::launch_unchecked(
            &x.tensor.client,
            cubes(x.count()),
            CubeDim::new_2d(plane, PLANES),
            size,
            x.arg(),
            residual.arg(),
            y.arg(),
            inv_rms.arg(),
            x.count(),
            eps as f32,
            x.width,
            x.width / size,
            [x.stride / size, residual.stride / size],
            x.tensor.dtype.into(),
        );
    }
    (y.tensor, inv_rms.tensor)
}

#[cube(launch_unchecked)]
fn add_rms_norm_backward_kernel<F: Float, N: Size>(
    y: &Array<Vector<F, N>>,
    inv_rms: &Array<f32>,
    dy: &Array<Vector<F, N>>,
    du: &mut Array<Vector<F, N>>,
    rows: usize,
    #[comptime] width: usize,
    #[comptime] vectors: usize,
    #[comptime] strides: [usize; 2],
    #[define(F)] _dtype: StorageType,
) {
    let row = row_of_plane();
    if row >= rows {
        terminate!();
    }
    let y_start = row * comptime!(strides[0]);
    let dy_start = row * comptime!(strides[1]);
    let mut products = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < vectors {
        products += Vector::<f32, N>::cast_from(y[y_start + i]) * Vector::cast_from(dy[dy_start + i]);
        i += CUBE_DIM_X as usize;
    }
    // y = u r with r = (mean(u^2) + eps)^(-1/2), so du = r (dy - y mean(dy y)).
    let projection = Vector::new(row_sum::<N>(products) / comptime!(width as f32));
    let scale = Vector::new(inv_rms[row]);
    let mut i = UNIT_POS_X as usize;
    while i < vectors {
        let slope = Vector::<f32, N>::cast_from(dy[dy_start + i])
            - Vector::<f32, N>::cast_from(y[y_start + i]) * projection;
        du[row * vectors + i] = Vector::cast_from(slope * scale);
        i += CUBE_DIM_X as usize;
    }
}

/// See [`HrmBackend::add_rms_norm_backward`](crate::HrmBackend::add_rms_norm_backward).
pub(crate) fn add_rms_norm_backward<R: CubeRuntime>(
    y: CubeTensor<R>,
    inv_rms: CubeTensor<R>,
    dy: CubeTensor<R>,
    plane: u32,
) -> CubeTensor<R> {
    let (y, dy, inv_rms) = (Rows::new(y), Rows::new(dy), into_contiguous(inv_rms));
    let du = dy.like();
    let size = vector_size(&[y.width], &[&y, &dy, &du]);
    // SAFETY: as in `add_rms_norm`.
    unsafe {
        add_rms_norm_backward_kernel::launch_unchecked(
            &y.tensor.client,
            cubes(y.count()),
            CubeDim::new_2d(plane, PLANES),
            size,
            y.arg(),
            inv_rms.into_array_arg(),
            dy.arg(),
            du.arg(),
            y.count(),
            y.width,
            y.width / size,
            [y.stride / size, dy.stride / size],
            y.tensor.dtype.into(),
        );
    }
    du.tensor
}

#[cube(launch_unchecked)]
fn swiglu_kernel<F: Float, N: Size>(
    gate_up: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    vectors: usize,
    #[comptime] columns: usize,
    #[comptime] stride: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= vectors {
        terminate!();
    }
    let at = (ABSOLUTE_POS / columns) * stride + ABSOLUTE_POS % columns;
    let gate = Vector::<f32, N>::cast_from(gate_up[at]);
    let up = Vector::<f32, N>::cast_from(gate_up[at + columns]);
    y[ABSOLUTE_POS] = Vector::cast_from(gate * sigmoid::<N>(gate) * up);
}

/// See [`HrmBackend::swiglu`](crate::HrmBackend::swiglu).
pub(crate) fn swiglu<R: CubeRuntime>(gate_up: CubeTensor<R>) -> CubeTensor<R> {
    let gate_up = Rows::new(gate_up);
    let (rows, inter) = (gate_up.count(), gate_up.width / 2);
    let y = Rows::dense(&gate_up.tensor, Shape::new([rows, inter]), gate_up.tensor.dtype);
    let size = vector_size(&[inter], &[&gate_up, &y]);
    let vectors = rows * inter / size;
    let client = &gate_up.tensor.client;
    let dim = CubeDim::new(client, vectors);
    // SAFETY: the kernel leaves alone what is beyond `vectors`, all of `y`, and a row of `gate_up` is twice one of `y`.
    unsafe {
        swiglu_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, vectors, dim),
            dim,
            size,
            gate_up.arg(),
            y.arg(),
            vectors,
            inter / size,
            gate_up.stride / size,
            gate_up.tensor.dtype.into(),
        );
    }
    y.tensor
}

#[cube(launch_unchecked)]
fn swiglu_backward_kernel<F: Float, N: Size>(
    gate_up: &Array<Vector<F, N>>,
    dy: &Array<Vector<F, N>>,
    grad: &mut Array<Vector<F, N>>,
    vectors: usize,
    #[comptime] columns: usize,
    #[comptime] strides: [usize; 2],
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= vectors {
        terminate!();
    }
    let (row, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    let at = row * comptime!(strides[0]) + column;
    let gate = Vector::<f32, N>::cast_from(gate_up[at]);
    let up = Vector::<f32, N>::cast_from(gate_up[at + columns]);
    let dy = Vector::<f32, N>::cast_from(dy[row * comptime!(strides[1]) + column]);
    let one = Vector::<f32, N>::new(1.0);
    let s = sigmoid::<N>(gate);
    // silu'(g) = s (1 + g (1 - s))
    let out = row * comptime!(2 * columns) + column;
    grad[out] = Vector::cast_from(dy * up * s * (one + gate * (one - s)));
    grad[out + columns] = Vector::cast_from(dy * gate * s);
}

/// See [`HrmBackend::swiglu_backward`](crate::HrmBackend::swiglu_backward).
pub(crate) fn swiglu_backward<R: CubeRuntime>(gate_up: CubeTensor<R>, dy: CubeTensor<R>) -> CubeTensor<R> {
    let (gate_up, dy) = (Rows::new(gate_up), Rows::new(dy));
    let grad = gate_up.like();
    let size = vector_size(&[dy.width], &[&gate_up, &dy, &grad]);
    let vectors = dy.count() * dy.width / size;
    let client = &gate_up.tensor.client;
    let dim = CubeDim::new(client, vectors);
    // SAFETY: as in `swiglu`.
    unsafe {
        swiglu_backward_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, vectors, dim),
            dim,
            size,
            gate_up.arg(),
            dy.arg(),
            grad.arg(),
            vectors,
            dy.width / size,
            [gate_up.stride / size, dy.stride / size],
            gate_up.tensor.dtype.into(),
        );
    }
    grad.tensor
}

#[cube(launch_unchecked)]
fn normed_swiglu_kernel<F: Float, N: Size>(
    gate_up: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    inv_rms: &mut Array<f32>,
    rows: usize,
    eps: f32,
    #[comptime] inter: usize,
    #[comptime] columns: usize,
    #[comptime] stride: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = row_of_plane();
    if row >= rows {
        terminate!();
    }
    let start = row * stride;
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < columns {
        let product = Vector::<f32, N>::cast_from(gate_up[start + i])
            * Vector::<f32, N>::cast_from(gate_up[start + columns + i]);
        squares += product * product;
        i += CUBE_DIM_X as usize;
    }
    let mean = row_sum::<N>(squares) / comptime!(inter as f32);
    let scale = 1.0 / (mean + eps).sqrt();
    let mut i = UNIT_POS_X as usize;
    while i < columns {
        let gate = Vector::<f32, N>::cast_from(gate_up[start + i]);
        let up = Vector::<f32, N>::cast_from(gate_up[start + columns + i]);
        y[row * columns + i] = Vector::cast_from(sigmoid::<N>(gate) * (gate * up * Vector::new(scale)));
        i += CUBE_DIM_X as usize;
    }
    if UNIT_POS_X == 0 {
        inv_rms[row] = scale;
    }
}

/// See [`HrmBackend::normed_swiglu`](crate::HrmBackend::normed_swiglu).
pub(crate) fn normed_swiglu<R: CubeRuntime>(
    gate_up: CubeTensor<R>,
    eps: f64,
    plane: u32,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let gate_up = Rows::new(gate_up);
    let (rows, inter) = (gate_up.count(), gate_up.width / 2);
    let y = Rows::dense(&gate_up.tensor, Shape::new([rows, inter]), gate_up.tensor.dtype);
    let inv_rms = Rows::dense(&gate_up.tensor, Shape::new([rows, 1]), DType::F32);
    let size = vector_size(&[inter], &[&gate_up, &y]);
    // SAFETY: as in `add_rms_norm`; a row of `gate_up` is twice one of `y`.
    unsafe {
        normed_swiglu_kernel::launch_unchecked(
            &gate_up.tensor.client,
            cubes(rows),
            CubeDim::new_2d(plane, PLANES),
            size,
            gate_up.arg(),
            y.arg(),
            inv_rms.arg(),
            rows,
            eps as f32,
            inter,
            inter / size,
            gate_up.stride / size,
            gate_up.tensor.dtype.into(),
        );
    }
    (y.tensor, inv_rms.tensor)
}

#[cube(launch_unchecked)]
fn normed_swiglu_backward_kernel<F: Float, N: Size>(
    gate_up: &Array<Vector<F, N>>,
    inv_rms: &Array<f32>,
    dy: &Array<Vector<F, N>>,
    grad: &mut Array<Vector<F, N>>,
    rows: usize,
    #[comptime] inter: usize,
    #[comptime] columns: usize,
    #[comptime] strides: [usize; 2],
    #[define(F)] _dtype: StorageType,
) {
    let row = row_of_plane();
    if row >= rows {
        terminate!();
    }
    let start = row * comptime!(strides[0]);
    let dy_start = row * comptime!(strides[1]);
    let one = Vector::<f32, N>::new(1.0);
    let scale = Vector::<f32, N>::new(inv_rms[row]);
    // With q = rms_norm(g u): y = s(g) q, so dq = dy s, d(g u) = r (dq - q mean(dq q)), and s' = s (1 - s).
    let mut products = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < columns {
        let gate = Vector::<f32, N>::cast_from(gate_up[start + i]);
        let up = Vector::<f32, N>::cast_from(gate_up[start + columns + i]);
        let dy = Vector::<f32, N>::cast_from(dy[dy_start + i]);
        products += dy * sigmoid::<N>(gate) * gate * up * scale;
        i += CUBE_DIM_X as usize;
    }
    let projection = Vector::<f32, N>::new(row_sum::<N>(products) / comptime!(inter as f32));
    let mut i = UNIT_POS_X as usize;
    while i < columns {
        let gate = Vector::<f32, N>::cast_from(gate_up[start + i]);
        let up = Vector::<f32, N>::cast_from(gate_up[start + columns + i]);
        let dy = Vector::<f32, N>::cast_from(dy[dy_start + i]);
        let s = sigmoid::<N>(gate);
        let q = gate * up * scale;
        let dproduct = scale * (dy * s - q * projection);
        let out = row * comptime!(2 * columns) + i;
        grad[out] = Vector::cast_from(dproduct * up + dy * q * s * (one - s));
        grad[out + columns] = Vector::cast_from(dproduct * gate);
        i += CUBE_DIM_X as usize;
    }
}

/// See [`HrmBackend::normed_swiglu_backward`](crate::HrmBackend::normed_swiglu_backward).
pub(crate) fn normed_swiglu_backward<R: CubeRuntime>(
    gate_up: CubeTensor<R>,
    inv_rms: CubeTensor<R>,
    dy: CubeTensor<R>,
    plane: u32,
) -> CubeTensor<R> {
    let (gate_up, dy, inv_rms) = (Rows::new(gate_up), Rows::new(dy), into_contiguous(inv_rms));
    let grad = gate_up.like();
    let size = vector_size(&[dy.width], &[&gate_up, &dy, &grad]);
    // SAFETY: as in `normed_swiglu`.
    unsafe {
        normed_swiglu_backward_kernel::launch_unchecked(
            &gate_up.tensor.client,
            cubes(dy.count()),
            CubeDim::new_2d(plane, PLANES),
            size,
            gate_up.arg(),
            inv_rms.into_array_arg(),
            dy.arg(),
            grad.arg(),
            dy.count(),
            dy.width,
            dy.width / size,
            [gate_up.stride / size, dy.stride / size],
            gate_up.tensor.dtype.into(),
        );
    }
    grad.tensor
}

#[cube(launch_unchecked)]
fn transpose_kernel<F: Float>(
    x: &Array<F>,
    y: &mut Array<F>,
    rows: usize,
    columns: usize,
    stride: usize,
    batch: usize,
    #[define(F)] _dtype: StorageType,
) {
    // One more column than a tile has, so that a column of it lies in as many banks as a row.
    let mut tile = SharedMemory::<F>::new(comptime!(TILE * (TILE + 1)));
    let (lane, first) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let (row, column) = ((CUBE_POS_Y as usize) * TILE, (CUBE_POS_X as usize) * TILE);
    let mut matrix = CUBE_POS_Z as usize;
    while matrix < batch {
        #[unroll]
        for step in 0..comptime!(TILE / TILE_ROWS) {
            let line = first + step * TILE_ROWS;
            if row + line < rows && column + lane < columns {
                tile[line * comptime!(TILE + 1) + lane] =
                    x[(matrix * rows + row + line) * stride + column + lane];
            }
        }
        sync_cube();
        #[unroll]
        for step in 0..comptime!(TILE / TILE_ROWS) {
            let line = first + step * TILE_ROWS;
            if column + line < columns && row + lane < rows {
                y[(matrix * columns + column + line) * rows + row + lane] =
                    tile[lane * comptime!(TILE + 1) + line];
            }
        }
        sync_cube();
        matrix += CUBE_COUNT_Z as usize;
    }
}

/// See [`HrmBackend::transpose`](crate::HrmBackend::transpose).
pub(crate) fn transpose<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let [batch, rows, columns] = x.shape().dims();
    let x = Rows::new(x);
    let y = Rows::dense(&x.tensor, Shape::new([batch, columns, rows]), x.tensor.dtype);
    let tiles = |length: usize| length.div_ceil(TILE) as u32;
    // SAFETY: the kernel checks rows, columns and matrices of both tensors.
    unsafe {
        transpose_kernel::launch_unchecked(
            &x.tensor.client,
            CubeCount::Static(tiles(columns), tiles(rows), batch.clamp(1, 65_535) as u32),
            CubeDim::new_2d(TILE as u32, TILE_ROWS as u32),
            x.arg(),
            y.arg(),
            rows,
            columns,
            x.stride,
            batch,
            x.tensor.dtype.into(),
        );
    }
    y.tensor
}

/// The first rows of a dense matrix, as they lie.
pub(crate) fn first_rows<R: CubeRuntime>(mut matrix: CubeTensor<R>, count: usize) -> CubeTensor<R> {
    let width = matrix.shape()[1];
    *matrix.meta.shape_mut() = Shape::new([count, width]);
    matrix
}

#[cube(launch_unchecked)]
fn one_hot_kernel<I: Int, F: Float>(
    tokens: &Array<I>,
    rows: &mut Array<F>,
    count: usize,
    #[comptime] entries: usize,
    #[define(I, F)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let token = usize::cast_from(tokens[ABSOLUTE_POS / entries]);
    rows[ABSOLUTE_POS] = select(token == ABSOLUTE_POS % entries, F::new(1.0), F::new(0.0));
}

/// A one in each row, in the column of its token.
///
/// # Shapes
/// - `tokens`: `[rows]`; output: `[rows, entries]`
pub(crate) fn one_hot<R: CubeRuntime>(tokens: CubeTensor<R>, entries: usize, dtype: DType) -> CubeTensor<R> {
    let tokens = into_contiguous(tokens);
    let count = tokens.shape().num_elements() * entries;
    let rows = Rows::dense(&tokens, Shape::new([count / entries, entries]), dtype);
    let client = &rows.tensor.client;
    let dim = CubeDim::new(client, count);
    let types = [tokens.dtype.into(), dtype.into()];
    // SAFETY: the kernel leaves alone what is beyond `count`, all of `rows`, which has `entries` values for each token.
    unsafe {
        one_hot_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, count, dim),
            dim,
            tokens.into_array_arg(),
            rows.arg(),
            count,
            entries,
            types,
        );
    }
    rows.tensor
}

/// The sum of two or three matrices; rows may be apart.
#[cube(launch_unchecked)]
fn add_kernel<F: Float, N: Size>(
    a: &Array<Vector<F, N>>,
    b: &Array<Vector<F, N>>,
    c: &Array<Vector<F, N>>,
    sum: &mut Array<Vector<F, N>>,
    count: usize,
    #[comptime] columns: usize,
    #[comptime] strides: [usize; 4],
    #[comptime] terms: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let (row, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    let mut value = Vector::<f32, N>::cast_from(a[row * comptime!(strides[0]) + column]);
    if comptime!(terms > 1) {
        value += Vector::<f32, N>::cast_from(b[row * comptime!(strides[1]) + column]);
    }
    if comptime!(terms > 2) {
        value += Vector::<f32, N>::cast_from(c[row * comptime!(strides[2]) + column]);
    }
    sum[row * comptime!(strides[3]) + column] = Vector::cast_from(value);
}

/// Writes the sum of up to three matrices to `sum`.
fn add_rows<R: CubeRuntime>(terms: &[&Rows<R>], sum: &Rows<R>) {
    let term = |index: usize| *terms.get(index).unwrap_or(&terms[0]);
    let all = [term(0), term(1), term(2), sum];
    let size = vector_size(&[sum.width], &all);
    let count = sum.count() * sum.width / size;
    let client = &sum.tensor.client;
    let dim = CubeDim::new(client, count);
    // SAFETY: the kernel leaves alone what is beyond `count`, the vectors of the rows of all matrices.
    unsafe {
        add_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, count, dim),
            dim,
            size,
            all[0].arg(),
            all[1].arg(),
            all[2].arg(),
            sum.arg(),
            count,
            sum.width / size,
            all.map(|rows| rows.stride / size),
            terms.len(),
            sum.tensor.dtype.into(),
        );
    }
}

/// See [`HrmBackend::add`](crate::HrmBackend::add).
pub(crate) fn add<R: CubeRuntime>(a: CubeTensor<R>, b: CubeTensor<R>) -> CubeTensor<R> {
    let terms = [a, b].map(Rows::new);
    let sum = terms[0].like();
    add_rows(&terms.each_ref(), &sum);
    sum.tensor
}

#[cube(launch_unchecked)]
fn convert_kernel<I: Float, O: Float, N: Size>(
    x: &Array<Vector<I, N>>,
    y: &mut Array<Vector<O, N>>,
    vectors: usize,
    #[define(I, O)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS >= vectors {
        terminate!();
    }
    y[ABSOLUTE_POS] = Vector::cast_from(x[ABSOLUTE_POS]);
}

/// A tensor in another type, both of them floats.
pub(crate) fn convert<R: CubeRuntime>(x: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    if x.dtype == dtype {
        return x;
    }
    let x = Rows::new(into_contiguous(x));
    let y = Rows::dense(&x.tensor, x.tensor.shape(), dtype);
    let count = x.tensor.shape().num_elements();
    let size = vector_size(&[count], &[&x, &y]);
    let client = &x.tensor.client;
    let dim = CubeDim::new(client, count / size);
    // SAFETY: the kernel leaves alone what is beyond the vectors that both dense tensors have.
    unsafe {
        convert_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, count / size, dim),
            dim,
            size,
            x.arg(),
            y.arg(),
            count / size,
            [x.tensor.dtype.into(), dtype.into()],
        );
    }
    y.tensor
}
