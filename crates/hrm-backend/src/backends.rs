//! Which backends join, one line each; those without kernels of their own take the plain operators.

#[cfg(feature = "ndarray")]
impl crate::HrmBackend for burn::backend::NdArray {
    const WIDEST_FLOAT: burn::tensor::DType = burn::tensor::DType::F64;
    const ASYNCHRONOUS: bool = false;
    const EXACT_FUNCTIONS: bool = true;
}

#[cfg(feature = "cuda")]
impl crate::HrmBackend for burn::backend::Cuda {
    // CUDA C++ Programming Guide, mathematical functions: log1pf within 1 unit in the last place, atan2f 3.
    const EXACT_FUNCTIONS: bool = true;
    // cubek-matmul 0.2, `adjust_dtypes`: fp32 becomes TF32 in every kernel for tensor cores, and autotune prefers those.
    const ROUNDS_OPERANDS: bool = true;
}

#[cfg(feature = "wgpu")]
impl crate::HrmBackend for burn::backend::Wgpu {}

// Burn's `Vulkan` and `Metal` are one and the same type, so one implementation serves both.
#[cfg(any(feature = "vulkan", feature = "metal"))]
impl crate::HrmBackend for burn::backend::Wgpu<f32, i32, u8> {}
