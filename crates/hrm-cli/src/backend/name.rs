//! The names of the backends. `cargo xtask` compiles this file as well, so it uses nothing but clap.

use clap::ValueEnum;

/// A value of `--backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// The processor, by the pure-Rust backend `flex`
    Cpu,
    /// The same as cpu
    Flex,
    /// The processor, by Burn's ndarray backend
    Ndarray,
    /// NVIDIA GPUs
    Cuda,
    /// Any GPU, by WebGPU
    Wgpu,
    /// Any GPU, by Vulkan
    Vulkan,
    /// Apple GPUs
    Metal,
}

impl Name {
    /// The cargo feature of `hrm-cli` that compiles the backend in.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Cpu | Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
        }
    }
}
