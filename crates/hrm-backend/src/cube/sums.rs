//! Sums of squares of whole tensors, by as many cubes as fill a GPU: Burn's sum of all elements runs on four.

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{PLANES, Rows, cubes, row_of_plane, row_sum, vector_size};

/// Cubes that work on a tensor, each of which gives one number: two for each multiprocessor of a large GPU.
const PARTS: u32 = 256;

/// The sums of the parts of one tensor, `PARTS` of them.
#[cube(launch_unchecked)]
fn parts_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    sums: &mut Array<f32>,
    vectors: usize,
    first: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut of_planes = SharedMemory::<f32>::new(PLANES as usize);
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut i = ABSOLUTE_POS;
    while i < vectors {
        let some = Vector::<f32, N>::cast_from(x[i]);
        squares += some * some;
        i += CUBE_COUNT * (CUBE_DIM as usize);
    }
    let sum = row_sum::<N>(squares);
    if UNIT_POS_X == 0 {
        of_planes[UNIT_POS_Y as usize] = sum;
    }
    sync_cube();
    if UNIT_POS == 0 {
        let mut total = 0.0f32;
        #[unroll]
        for plane in 0..comptime!(PLANES as usize) {
            total += of_planes[plane];
        }
        sums[first + CUBE_POS] = total;
    }
}

/// The sum of each row of parts.
#[cube(launch_unchecked)]
fn total_kernel(sums: &Array<f32>, totals: &mut Array<f32>, rows: usize) {
    let row = row_of_plane();
    if row >= rows {
        terminate!();
    }
    let mut sum = 0.0f32;
    let mut i = UNIT_POS_X as usize;
    while i < comptime!(PARTS as usize) {
        sum += sums[row * comptime!(PARTS as usize) + i];
        i += CUBE_DIM_X as usize;
    }
    let sum = plane_sum(sum);
    if UNIT_POS_X == 0 {
        totals[row] = sum;
    }
}

/// See [`HrmBackend::sums_of_squares`](crate::HrmBackend::sums_of_squares). There is at least one tensor.
pub(crate) fn sums_of_squares<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>, plane: u32) -> CubeTensor<R> {
    let count = tensors.len();
    let sums = Rows::dense(&tensors[0], Shape::new([count, PARTS as usize]), DType::F32);
    let totals = Rows::dense(&tensors[0], Shape::new([count]), DType::F32);
    let dim = CubeDim::new_2d(plane, PLANES);
    for (index, tensor) in tensors.into_iter().enumerate() {
        let x = Rows::new(into_contiguous(tensor));
        let elements = x.tensor.shape().num_elements();
        let size = vector_size(&[elements], &[&x]);
        // SAFETY: the kernel reads `vectors` of a dense tensor that has so many, and writes a row of `sums`.
        unsafe {
            parts_kernel::launch_unchecked(
                &x.tensor.client,
                CubeCount::Static(PARTS, 1, 1),
                dim,
                size,
                x.arg(),
                sums.arg(),
                elements / size,
                index * PARTS as usize,
                x.tensor.dtype.into(),
            );
        }
    }
    // SAFETY: the kernel leaves alone what is beyond the rows.
    unsafe {
        total_kernel::launch_unchecked(
            &sums.tensor.client,
            cubes(count),
            dim,
            sums.arg(),
            totals.arg(),
            count,
        );
    }
    totals.tensor
}
