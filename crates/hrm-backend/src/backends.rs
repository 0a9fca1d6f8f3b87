//! Which backends join, one line each; those without kernels of their own take the plain operators.

#[cfg(feature = "ndarray")]
impl crate::HrmBackend for burn::backend::NdArray {
    const WIDEST_FLOAT: burn::tensor::DType = burn::tensor::DType::F64;
    const ASYNCHRONOUS: bool = false;
}

#[cfg(feature = "cuda")]
impl crate::HrmBackend for burn::backend::Cuda {}

#[cfg(feature = "wgpu")]
impl crate::HrmBackend for burn::backend::Wgpu {}

// Burn's `Vulkan` and `Metal` are one and the same type, so one implementation serves both.
#[cfg(any(feature = "vulkan", feature = "metal"))]
impl crate::HrmBackend for burn::backend::Wgpu<f32, i32, u8> {}
