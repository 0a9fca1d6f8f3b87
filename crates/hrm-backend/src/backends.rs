//! Which backends join, one line each; those without kernels of their own take the plain operators.

#[cfg(all(
    any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
    not(feature = "fusion")
))]
use crate::{CellLoss, GroupTables, GroupWeights, SegmentWeights, cube, losses::SegmentOf, ops, plain};
#[cfg(all(
    any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
    not(feature = "fusion")
))]
use burn::tensor::{
    DType, Shape, TensorMetadata,
    ops::{FloatTensor, FloatTensorOps, IntTensor},
};

#[cfg(feature = "ndarray")]
impl crate::HrmBackend for burn::backend::NdArray {
    const WIDEST_FLOAT: burn::tensor::DType = burn::tensor::DType::F64;
    const ASYNCHRONOUS: bool = false;
    const EXACT_FUNCTIONS: bool = true;
}

/// A backend of CubeCL joins with the kernels of [`cube`](crate::cube), where its device has what they need. With fusion, its
/// tensors are promises of Burn's, which kernels cannot take.
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"))]
macro_rules! cube_backend {
    ($backend:ty $(, $constant:ident = $value:expr)*) => {
        impl crate::HrmBackend for $backend {
            $(const $constant: bool = $value;)*

            #[cfg(not(feature = "fusion"))]
            fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
                match lhs.dtype {
                    DType::F32 => cube::exact_product(lhs, rhs),
                    _ => Self::rounded_product(lhs, rhs),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn rounded_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
                let dtype = lhs.dtype;
                cube::product(lhs, rhs, dtype)
            }

            #[cfg(not(feature = "fusion"))]
            fn convert(x: FloatTensor<Self>, dtype: DType) -> FloatTensor<Self> {
                let halves = [DType::F32, DType::BF16, DType::F16];
                match halves.contains(&x.dtype) && halves.contains(&dtype) {
                    true => cube::convert(x, dtype),
                    false if x.dtype == dtype => x,
                    false => Self::float_cast(x, dtype.into()),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
                cube::add(a, b)
            }

            #[cfg(not(feature = "fusion"))]
            fn linear_backward_weight(dy: FloatTensor<Self>, x: FloatTensor<Self>, dtype: DType) -> FloatTensor<Self> {
                let shape = [dy.shape()[1], x.shape()[1]];
                let turned = Self::float_swap_dims(dy.clone(), 0, 1);
                if let Some(gradient) = cube::library_product(&turned, &x, dtype, cube::Precision::Exact) {
                    return gradient;
                }
                let Some(groups) = cube::grouped_rows(&dy, &x) else {
                    return plain::primitives::linear_backward_weight::<Self>(dy, x, dtype);
                };
                let (dy, x) = (cube::in_groups(dy, groups), cube::in_groups(x, groups));
                let dy = Self::float_swap_dims(dy, 1, 2);
                let products = match dy.dtype {
                    DType::F32 => Self::product(dy, x),
                    _ => cube::product(dy, x, DType::F32),
                };
                let sum = Self::float_sum_dim(products, 0);
                <Self as crate::HrmBackend>::convert(Self::float_reshape(sum, Shape::new(shape)), dtype)
            }

            #[cfg(not(feature = "fusion"))]
            fn token_embedding_backward(dy: FloatTensor<Self>, tokens: IntTensor<Self>, entries: usize) -> FloatTensor<Self> {
                if entries > plain::PRODUCT_ENTRIES {
                    return plain::primitives::embedding_backward::<Self>(dy, tokens, entries);
                }
                let one_hot = cube::one_hot(tokens, plain::padded_entries(entries), dy.dtype);
                let sums = Self::linear_backward_weight(one_hot, dy, DType::F32);
                cube::first_rows(sums, entries)
            }

            #[cfg(not(feature = "fusion"))]
            fn add_rms_norm(x: FloatTensor<Self>, residual: FloatTensor<Self>, eps: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
                match cube::plane_width(&x) {
                    Some(plane) => cube::add_rms_norm(x, residual, eps, plane),
                    None => plain::primitives::add_rms_norm::<Self>(x, residual, eps),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn add_rms_norm_backward(y: FloatTensor<Self>, inv_rms: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
                match cube::plane_width(&y) {
                    Some(plane) => cube::add_rms_norm_backward(y, inv_rms, dy, plane),
                    None => plain::primitives::add_rms_norm_backward::<Self>(y, inv_rms, dy),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
                cube::swiglu(gate_up)
            }

            #[cfg(not(feature = "fusion"))]
            fn swiglu_backward(gate_up: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
                cube::swiglu_backward(gate_up, dy)
            }

            #[cfg(not(feature = "fusion"))]
            fn normed_swiglu(gate_up: FloatTensor<Self>, eps: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
                match cube::plane_width(&gate_up) {
                    Some(plane) => cube::normed_swiglu(gate_up, eps, plane),
                    None => plain::primitives::normed_swiglu::<Self>(gate_up, eps),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn normed_swiglu_backward(gate_up: FloatTensor<Self>, inv_rms: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
                match cube::plane_width(&gate_up) {
                    Some(plane) => cube::normed_swiglu_backward(gate_up, inv_rms, dy, plane),
                    None => plain::primitives::normed_swiglu_backward::<Self>(gate_up, inv_rms, dy),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn transpose(x: FloatTensor<Self>) -> FloatTensor<Self> {
                cube::transpose(x)
            }

            #[cfg(not(feature = "fusion"))]
            fn adam_atan2(
                param: FloatTensor<Self>,
                grad: FloatTensor<Self>,
                moments: (FloatTensor<Self>, FloatTensor<Self>),
                update: &ops::AdamAtan2Update,
                good: Option<FloatTensor<Self>>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                let fp32 = [&param, &grad, &moments.0, &moments.1].iter().all(|tensor| tensor.dtype == DType::F32);
                match <Self as crate::HrmBackend>::EXACT_FUNCTIONS && fp32 {
                    true => cube::adam_atan2(param, grad, moments, update, good),
                    false => plain::primitives::adam_atan2::<Self>(param, grad, moments, update, good),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn sums_of_squares(tensors: Vec<FloatTensor<Self>>) -> FloatTensor<Self> {
                match cube::plane_width(&tensors[0]) {
                    Some(plane) => cube::sums_of_squares(tensors, plane),
                    None => plain::primitives::sums_of_squares::<Self>(tensors),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn answers(logits: FloatTensor<Self>, labels: IntTensor<Self>, asked: IntTensor<Self>, how: &CellLoss) -> FloatTensor<Self> {
                cube::answers(logits, labels, asked, how)
            }

            #[cfg(not(feature = "fusion"))]
            fn answers_backward(
                logits: FloatTensor<Self>,
                asked: IntTensor<Self>,
                answers: FloatTensor<Self>,
                how: &CellLoss,
                danswers: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                cube::answers_backward(logits, asked, answers, how, danswers)
            }

            #[cfg(not(feature = "fusion"))]
            fn act_loss(segment: SegmentOf<Self>, how: &SegmentWeights) -> (FloatTensor<Self>, FloatTensor<Self>) {
                cube::act_loss(segment, how)
            }

            #[cfg(not(feature = "fusion"))]
            fn act_loss_backward(
                segment: SegmentOf<Self>,
                how: &SegmentWeights,
                dloss: FloatTensor<Self>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                cube::act_loss_backward(segment, how, dloss)
            }

            #[cfg(not(feature = "fusion"))]
            fn group_block(
                z: FloatTensor<Self>,
                injection: Option<FloatTensor<Self>>,
                weights: GroupWeights<FloatTensor<Self>>,
                tables: &GroupTables<FloatTensor<Self>>,
                eps: f64,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                cube::group_block::<Self, _>(z, injection, weights, tables, eps)
            }

            #[cfg(not(feature = "fusion"))]
            fn group_block_backward(
                input: (FloatTensor<Self>, Option<FloatTensor<Self>>),
                weights: GroupWeights<FloatTensor<Self>>,
                tables: &GroupTables<FloatTensor<Self>>,
                output: (FloatTensor<Self>, FloatTensor<Self>),
                dy: FloatTensor<Self>,
            ) -> (FloatTensor<Self>, GroupWeights<FloatTensor<Self>>) {
                cube::group_block_backward::<Self, _>(input, weights, tables, output, dy)
            }

            #[cfg(not(feature = "fusion"))]
            fn fused_attention(
                qkv: FloatTensor<Self>,
                rotary: Option<(FloatTensor<Self>, FloatTensor<Self>)>,
                heads: usize,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                match cube::attention_plane(&qkv, heads) {
                    Some(plane) => cube::attention(qkv, rotary, heads, plane, Self::product),
                    None => plain::primitives::attention::<Self>(qkv, rotary, heads),
                }
            }

            #[cfg(not(feature = "fusion"))]
            fn attention_backward(
                qkv: FloatTensor<Self>,
                rotary: Option<(FloatTensor<Self>, FloatTensor<Self>)>,
                heads: usize,
                out: FloatTensor<Self>,
                lse: FloatTensor<Self>,
                dout: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                match cube::attention_plane(&qkv, heads) {
                    Some(plane) => cube::attention_backward(qkv, rotary, heads, [out, lse, dout], plane, Self::product),
                    None => plain::primitives::attention_backward::<Self>(qkv, rotary, heads, out, lse, dout),
                }
            }
        }
    };
}

// CUDA C++ Programming Guide, mathematical functions: log1pf within 1 unit in the last place, atan2f 3. And cubek-matmul 0.2,
// `adjust_dtypes`: fp32 becomes TF32 in every kernel for tensor cores, which Burn's own matmul (with fusion, ours too) prefers.
#[cfg(feature = "cuda")]
cube_backend!(burn::backend::Cuda, EXACT_FUNCTIONS = true, ROUNDS_OPERANDS = true);

#[cfg(feature = "wgpu")]
cube_backend!(burn::backend::Wgpu);

// Burn's `Vulkan` and `Metal` are one and the same type, so one implementation serves both.
#[cfg(any(feature = "vulkan", feature = "metal"))]
cube_backend!(burn::backend::Wgpu<f32, i32, u8>);
