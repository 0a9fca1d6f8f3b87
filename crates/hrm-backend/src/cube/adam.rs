//! AdamATan2 in one kernel: as element-wise operators of Burn's it reads and writes the parameters some fifteen times.

use burn::tensor::TensorMetadata;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{Rows, vector_size};
use crate::ops::AdamAtan2Update;

/// The scalars of an update, as the kernel uses them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Scalars {
    /// Factor of the parameter: weight decay.
    keep: f32,
    /// Share of the gradient in the first moment.
    fresh1: f32,
    /// Share of the squared gradient in the second.
    fresh2: f32,
    /// What the root of the second moment is divided by, as it started from zero.
    correction: f32,
    /// Length of the step along the angle.
    length: f32,
}

#[cube(launch_unchecked)]
fn adam_atan2_kernel<N: Size>(
    param: &Array<Vector<f32, N>>,
    grad: &Array<Vector<f32, N>>,
    m: &Array<Vector<f32, N>>,
    v: &Array<Vector<f32, N>>,
    good: &Array<f32>,
    new_param: &mut Array<Vector<f32, N>>,
    new_m: &mut Array<Vector<f32, N>>,
    new_v: &mut Array<Vector<f32, N>>,
    vectors: usize,
    scalars: Scalars,
    #[comptime] guarded: bool,
) {
    if ABSOLUTE_POS >= vectors {
        terminate!();
    }
    // The outer condition is one of the compilation of the kernel.
    #[allow(clippy::collapsible_if)]
    if comptime!(guarded) {
        if good[0] == 0.0 {
            new_param[ABSOLUTE_POS] = param[ABSOLUTE_POS];
            new_m[ABSOLUTE_POS] = m[ABSOLUTE_POS];
            new_v[ABSOLUTE_POS] = v[ABSOLUTE_POS];
            terminate!();
        }
    }
    let grad = grad[ABSOLUTE_POS];
    let m = m[ABSOLUTE_POS];
    let v = v[ABSOLUTE_POS];
    let m = m + (grad - m) * Vector::new(scalars.fresh1);
    let v = v + (grad * grad - v) * Vector::new(scalars.fresh2);
    let root = v.sqrt() / Vector::new(scalars.correction);
    // CUDA's atan2 is that of IEEE 754: 0 in the origin.
    let step = m.atan2(root) * Vector::new(scalars.length);
    new_param[ABSOLUTE_POS] = param[ABSOLUTE_POS] * Vector::new(scalars.keep) - step;
    new_m[ABSOLUTE_POS] = m;
    new_v[ABSOLUTE_POS] = v;
}

/// See [`HrmBackend::adam_atan2`](crate::HrmBackend::adam_atan2). For devices whose `atan2` is exact; all tensors are fp32.
pub(crate) fn adam_atan2<R: CubeRuntime>(
    param: CubeTensor<R>,
    grad: CubeTensor<R>,
    moments: (CubeTensor<R>, CubeTensor<R>),
    update: &AdamAtan2Update,
    good: Option<CubeTensor<R>>,
) -> (CubeTensor<R>, CubeTensor<R>, CubeTensor<R>) {
    let AdamAtan2Update { lr, beta1, beta2, weight_decay, step } = *update;
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    let old = [param, grad, moments.0, moments.1].map(|tensor| Rows::new(into_contiguous(tensor)));
    let new = [(); 3].map(|()| old[0].like());
    let count = old[0].tensor.shape().num_elements();
    let size = vector_size(&[count], &old.each_ref());
    let vectors = count / size;
    let client = &old[0].tensor.client;
    let dim = CubeDim::new(client, vectors);
    let [param, grad, m, v] = &old;
    // SAFETY: the kernel leaves alone what is beyond `vectors`; all tensors are dense and have that many.
    unsafe {
        adam_atan2_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, vectors, dim),
            dim,
            size,
            param.arg(),
            grad.arg(),
            m.arg(),
            v.arg(),
            // Not read without a flag.
            good.clone().map_or_else(|| grad.arg(), |good| good.into_array_arg()),
            new[0].arg(),
            new[1].arg(),
            new[2].arg(),
            vectors,
            ScalarsLaunch::new(
                (1.0 - lr * weight_decay) as f32,
                (1.0 - beta1) as f32,
                (1.0 - beta2) as f32,
                correction(beta2).sqrt() as f32,
                (lr / correction(beta1)) as f32,
            ),
            good.is_some(),
        );
    }
    let [param, m, v] = new.map(|rows| rows.tensor);
    (param, m, v)
}
