//! The backends that `hrm` can be built for.

use clap::ValueEnum;

/// A backend of the `hrm` binary. Each is a Cargo feature of `hrm-cli`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The CPU: the same as `flex`.
    Cpu,
    /// Burn's CPU backend with our kernels.
    Flex,
    /// Burn's older CPU backend.
    Ndarray,
    /// NVIDIA GPUs.
    Cuda,
    /// Any GPU, through WebGPU's shading language.
    Wgpu,
    /// Any GPU with a Vulkan driver.
    Vulkan,
    /// Apple GPUs.
    Metal,
}

impl Backend {
    /// The feature that compiles it in.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Cpu | Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
        }
    }

    /// What `hrm --backend` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            other => other.feature(),
        }
    }

    /// Arguments for a Cargo command on `hrm-cli` that give a binary with this backend alone, so that nothing
    /// is compiled for a second one. The default build is the CPU's: it takes no arguments and compiles nothing
    /// that `cargo run` and `cargo test` have not compiled already.
    pub fn cargo_args(self) -> Vec<&'static str> {
        match self.feature() {
            "flex" => Vec::new(),
            feature => vec!["--no-default-features", "--features", feature],
        }
    }
}
