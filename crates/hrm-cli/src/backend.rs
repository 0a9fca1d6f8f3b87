//! Which backends are compiled in, and running a job on the one asked for.

mod name;

use anyhow::{Result, bail};
use burn::{
    backend::Autodiff,
    tensor::backend::{BackendTypes, Device},
};
use clap::ValueEnum;
use hrm_backend::{HrmAutodiffBackend, HrmBackend};

pub use name::Name;

/// A value of `--precision`: the operands of matrix products on the processor.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Precision {
    /// As they are
    #[default]
    F32,
    /// Rounded to bfloat16: several times faster on processors with AMX or AVX512-BF16
    Bf16,
}

impl Precision {
    /// Sets it for the whole program.
    pub fn apply(self) {
        hrm_backend::set_matmul_precision(match self {
            Self::F32 => hrm_backend::MatmulPrecision::F32,
            Self::Bf16 => hrm_backend::MatmulPrecision::Bf16,
        });
    }
}

/// What runs on a backend. It gets the backend with automatic differentiation; a job that only infers takes
/// `A::InnerBackend`.
pub trait Job {
    /// What it gives.
    type Output;

    /// Does it.
    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<Self::Output>;
}

impl Name {
    /// From the fastest to the slowest.
    const PREFERENCE: [Self; 6] =
        [Self::Cuda, Self::Metal, Self::Vulkan, Self::Wgpu, Self::Flex, Self::Ndarray];

    const fn is_compiled_in(self) -> bool {
        match self {
            Self::Cpu | Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
        }
    }

    /// The backends in this binary, fastest first.
    pub fn compiled_in() -> Vec<Self> {
        let all = Self::PREFERENCE.into_iter();
        all.filter(|name| name.is_compiled_in()).collect()
    }

    /// The backend asked for, or the fastest in this binary that this machine has a device for.
    pub fn or_best(asked: Option<Self>) -> Result<Self> {
        match asked {
            Some(name) if name.is_compiled_in() => return Ok(name),
            Some(name) => return Err(name.missing()),
            None => {}
        }
        let compiled_in = Self::compiled_in();
        let Some(fastest) = compiled_in.first().copied() else {
            bail!("no backend is compiled into this binary; build with --features flex")
        };
        // If none has a device, the error is that of the fastest.
        let best = compiled_in.into_iter().find(|name| name.find_device().is_ok()).unwrap_or(fastest);
        if best != fastest {
            eprintln!("no device for the backend `{}`: computing on `{}`", fastest.feature(), best.feature());
        }
        Ok(best)
    }

    /// An error if the backend needs a GPU and finds none.
    fn find_device(self) -> Result<()> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => probe::<burn::backend::Cuda>(self),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => probe::<burn::backend::Wgpu>(self),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => probe::<burn::backend::Vulkan>(self),
            #[cfg(feature = "metal")]
            Self::Metal => probe::<burn::backend::Metal>(self),
            _ => Ok(()),
        }
    }

    /// The backend for work that needs no speed: a processor one where there is one.
    pub fn light() -> Result<Self> {
        match Self::compiled_in().last() {
            Some(Self::Ndarray) if Self::Flex.is_compiled_in() => Ok(Self::Flex),
            Some(name) => Ok(*name),
            None => Self::or_best(None),
        }
    }

    fn missing(self) -> anyhow::Error {
        let feature = self.feature();
        let backends: Vec<&str> = Self::compiled_in().into_iter().map(Self::feature).collect();
        anyhow::anyhow!(
            "the backend `{feature}` is not compiled in (this binary has: {}); build with the feature `{feature}`: \
             cargo run -p hrm-cli --features {feature} -- ... --backend {feature} (or, to train: cargo xtask train \
             --backend {feature} --config ...)",
            backends.join(", ")
        )
    }

    /// Whether it computes on GPUs, of which there may be several.
    pub const fn is_gpu(self) -> bool {
        !matches!(self, Self::Cpu | Self::Flex | Self::Ndarray)
    }

    /// Runs a job on the backend's default device.
    pub fn run<J: Job>(self, job: J) -> Result<J::Output> {
        self.run_on(None, job)
    }

    /// Runs a job on a device, by its number, or the default one.
    pub fn run_on<J: Job>(self, device: Option<usize>, job: J) -> Result<J::Output> {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu | Self::Flex => on::<hrm_backend::Cpu, J>(job, device),
            #[cfg(feature = "ndarray")]
            Self::Ndarray => on::<burn::backend::NdArray, J>(job, device),
            #[cfg(feature = "cuda")]
            Self::Cuda => on_gpu::<burn::backend::Cuda, J>(self, job, device),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => on_gpu::<burn::backend::Wgpu, J>(self, job, device),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => on_gpu::<burn::backend::Vulkan, J>(self, job, device),
            #[cfg(feature = "metal")]
            Self::Metal => on_gpu::<burn::backend::Metal, J>(self, job, device),
            #[allow(unreachable_patterns, reason = "reached unless every backend is compiled in")]
            _ => Err(self.missing()),
        }
    }
}

#[cfg(any(
    feature = "flex",
    feature = "ndarray",
    feature = "cuda",
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal"
))]
fn on<B: HrmBackend, J: Job>(job: J, device: Option<usize>) -> Result<J::Output> {
    job.run::<Autodiff<B>>(&self::device::<B>(device)?)
}

/// A device of a backend by its number: for GPUs that of a discrete one.
pub fn device<B: HrmBackend>(index: Option<usize>) -> Result<<B as BackendTypes>::Device> {
    let default = <B as BackendTypes>::Device::default();
    let Some(index) = index else { return Ok(default) };
    let devices = B::device_count(0);
    if index >= devices {
        bail!("--devices: there is no device {index}; this machine has {devices}, counted from 0");
    }
    let mut id = default.to_id();
    (id.type_id, id.index_id) = (0, index as u16);
    Ok(Device::from_id(id))
}

/// As [`on`], after a first look at the device.
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"))]
fn on_gpu<B: HrmBackend, J: Job>(name: Name, job: J, device: Option<usize>) -> Result<J::Output> {
    probe::<B>(name)?;
    on::<B, J>(job, device)
}

/// Whether there is a GPU: their runtimes panic where there is none.
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"))]
pub fn probe<B: HrmBackend>(name: Name) -> Result<()> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let probe = std::panic::catch_unwind(|| {
        burn::tensor::Tensor::<B, 1>::ones([1], &<B as BackendTypes>::Device::default()).into_data()
    });
    std::panic::set_hook(hook);
    if probe.is_err() {
        let needs = match name {
            Name::Cuda => {
                "an NVIDIA GPU, its driver, and of the CUDA toolkit NVRTC and the headers (in /usr/local/cuda, or where CUDA_PATH \
                 says)"
            }
            _ => "a GPU and its driver",
        };
        bail!(
            "the backend `{}` found no device on this machine: it needs {needs}; use another --backend, for example cpu",
            name.feature()
        );
    }
    Ok(())
}
