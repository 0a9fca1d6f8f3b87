//! Which backends are compiled in, and the engine of the one asked for.

use burn::tensor::backend::Device;
use hrm_backend::HrmBackend;
use thiserror::Error;

use crate::{Engine, Name, on::On};

/// Why there is no engine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// No backend at all.
    #[error("no backend is compiled into this binary; build with --features flex")]
    NoBackend,
    /// Another backend than those that are there.
    #[error(
        "the backend `{feature}` is not compiled in (this binary has: {}); build with the feature `{feature}`: \
         cargo run -p hrm-cli --features {feature} -- ... --backend {feature} (or, to train: cargo xtask train \
         --backend {feature} --config ...)",
        have.join(", ")
    )]
    NotCompiledIn {
        /// The one asked for.
        feature: &'static str,
        /// Those that are there.
        have: Vec<&'static str>,
    },
    /// The machine lacks what the backend needs.
    #[error(
        "the backend `{feature}` found no device on this machine: it needs {needs}; use another --backend, for example cpu"
    )]
    NoDevice {
        /// The backend.
        feature: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// A device that is not there.
    #[error("--devices: there is no device {index}; this machine has {devices}, counted from 0")]
    NoSuchDevice {
        /// The one asked for.
        index: usize,
        /// How many there are.
        devices: usize,
    },
    /// The environment asks for what cannot be had.
    #[error("{0}")]
    Environment(String),
    /// NCCL cannot be used on this machine.
    #[error("--devices: {0}")]
    Nccl(&'static str),
}

type Result<T> = std::result::Result<T, EngineError>;

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

    /// The backend asked for, or the fastest in this binary that this machine has a device for; says on standard error if that
    /// is not the fastest.
    ///
    /// # Errors
    /// If it is not compiled in.
    pub fn or_best(asked: Option<Self>) -> Result<Self> {
        match asked {
            Some(name) if name.is_compiled_in() => return Ok(name),
            Some(name) => return Err(name.missing()),
            None => {}
        }
        let compiled_in = Self::compiled_in();
        let Some(fastest) = compiled_in.first().copied() else { return Err(EngineError::NoBackend) };
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
    ///
    /// # Errors
    /// If no backend is compiled in.
    pub fn light() -> Result<Self> {
        match Self::compiled_in().last() {
            Some(Self::Ndarray) if Self::Flex.is_compiled_in() => Ok(Self::Flex),
            Some(name) => Ok(*name),
            None => Self::or_best(None),
        }
    }

    fn missing(self) -> EngineError {
        let have = Self::compiled_in().into_iter().map(Self::feature).collect();
        EngineError::NotCompiledIn { feature: self.feature(), have }
    }

    /// Whether it computes on GPUs, of which there may be several.
    pub const fn is_gpu(self) -> bool {
        !matches!(self, Self::Cpu | Self::Flex | Self::Ndarray)
    }

    /// The engine on a device, by its number, or on the default one.
    ///
    /// # Errors
    /// If the backend is not compiled in, or has no such device.
    pub fn open(self, device: Option<usize>) -> Result<Box<dyn Engine>> {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu | Self::Flex => on::<hrm_backend::Cpu>(device),
            #[cfg(feature = "ndarray")]
            Self::Ndarray => on::<burn::backend::NdArray>(device),
            #[cfg(feature = "cuda")]
            Self::Cuda => on_gpu::<burn::backend::Cuda>(self, device),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => on_gpu::<burn::backend::Wgpu>(self, device),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => on_gpu::<burn::backend::Vulkan>(self, device),
            #[cfg(feature = "metal")]
            Self::Metal => on_gpu::<burn::backend::Metal>(self, device),
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
fn on<B: HrmBackend>(device: Option<usize>) -> Result<Box<dyn Engine>> {
    Ok(Box::new(On::<B>::new(self::device::<B>(device)?)))
}

/// A device of a backend by its number: for GPUs that of a discrete one.
pub(crate) fn device<B: HrmBackend>(index: Option<usize>) -> Result<B::Device> {
    let default = B::Device::default();
    let Some(index) = index else { return Ok(default) };
    let devices = B::device_count(0);
    if index >= devices {
        return Err(EngineError::NoSuchDevice { index, devices });
    }
    let mut id = default.to_id();
    (id.type_id, id.index_id) = (0, index as u16);
    Ok(Device::from_id(id))
}

/// As [`on`], after a first look at the device.
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"))]
fn on_gpu<B: HrmBackend>(name: Name, device: Option<usize>) -> Result<Box<dyn Engine>> {
    hrm_backend::check_environment().map_err(EngineError::Environment)?;
    probe::<B>(name)?;
    on::<B>(device)
}

/// Whether there is a GPU: their runtimes panic where there is none.
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"))]
pub(crate) fn probe<B: HrmBackend>(name: Name) -> Result<()> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let probe = std::panic::catch_unwind(|| {
        burn::tensor::Tensor::<B, 1>::ones([1], &B::Device::default()).into_data()
    });
    std::panic::set_hook(hook);
    let needs = match name {
        Name::Cuda => {
            "an NVIDIA GPU, its driver, and of the CUDA toolkit NVRTC and the headers (in /usr/local/cuda, or where CUDA_PATH \
             says)"
        }
        _ => "a GPU and its driver",
    };
    match probe {
        Ok(_) => Ok(()),
        Err(_) => Err(EngineError::NoDevice { feature: name.feature(), needs }),
    }
}
