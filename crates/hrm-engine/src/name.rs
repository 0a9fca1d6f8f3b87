//! The names of the backends. `cargo xtask` compiles this file as well, so it uses nothing.

use std::str::FromStr;

/// A backend that a program may be built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The processor, by the pure-Rust backend `flex`.
    Cpu,
    /// The same as [`Cpu`](Self::Cpu).
    Flex,
    /// The processor, by Burn's ndarray backend.
    Ndarray,
    /// NVIDIA GPUs.
    Cuda,
    /// Any GPU, by WebGPU.
    Wgpu,
    /// Any GPU, by Vulkan.
    Vulkan,
    /// Apple GPUs.
    Metal,
}

impl Name {
    /// Every backend with its name and what it is, in words.
    pub const ALL: [(&str, Self, &str); 7] = [
        ("cpu", Self::Cpu, "The processor, by the pure-Rust backend `flex`"),
        ("flex", Self::Flex, "The same as cpu"),
        ("ndarray", Self::Ndarray, "The processor, by Burn's ndarray backend"),
        ("cuda", Self::Cuda, "NVIDIA GPUs"),
        ("wgpu", Self::Wgpu, "Any GPU, by WebGPU"),
        ("vulkan", Self::Vulkan, "Any GPU, by Vulkan"),
        ("metal", Self::Metal, "Apple GPUs"),
    ];

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

impl FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(known, ..)| *known == name);
        found.map(|(_, backend, _)| *backend).ok_or_else(|| format!("unknown backend `{name}`"))
    }
}
