//! Test support: parity fixtures of the original, tolerances, and tests over every compiled backend.

#![forbid(unsafe_code)]

pub mod fuzz;
pub mod parity;

/// Instantiates generic test functions `fn name<B: HrmBackend>()` for every backend that is compiled in:
/// `for_each_backend!(name, other)` makes the tests `flex::name`, `ndarray::name`, ...
#[macro_export]
macro_rules! for_each_backend {
    ($($test:ident),+ $(,)?) => {
        #[cfg(feature = "flex")]
        mod flex {
            $(#[test] fn $test() { super::$test::<$crate::Flex>(); })+
        }
        #[cfg(feature = "ndarray")]
        mod ndarray {
            $(#[test] fn $test() { super::$test::<$crate::NdArray>(); })+
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            $(#[test] fn $test() { super::$test::<$crate::Cuda>(); })+
        }
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test] fn $test() { super::$test::<$crate::Wgpu>(); })+
        }
        #[cfg(any(feature = "vulkan", feature = "metal"))]
        mod vulkan {
            $(#[test] fn $test() { super::$test::<$crate::Vulkan>(); })+
        }
    };
}

#[cfg(feature = "flex")]
pub use hrm_backend::Cpu as Flex;

#[cfg(feature = "ndarray")]
pub use burn::backend::NdArray;

#[cfg(feature = "cuda")]
pub use burn::backend::Cuda;

#[cfg(feature = "wgpu")]
pub use burn::backend::Wgpu;

/// Burn's Vulkan and Metal backends, which are one type.
#[cfg(any(feature = "vulkan", feature = "metal"))]
pub type Vulkan = burn::backend::wgpu::Wgpu<f32, i32, u8>;
