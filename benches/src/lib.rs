//! What benches and programs here share: the paper's model and data of its shape, the comparison with PyTorch, and the check of a
//! machine with a GPU.

#![forbid(unsafe_code)]

pub mod compare;
pub mod gpu;
pub mod worker;

use std::path::{Path, PathBuf};

use burn::{
    module::AutodiffModule,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use hrm_backend::Cpu;
use hrm_model::{Hrm, ModelConfig, act::PuzzleBatch};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The backend of benches.
pub type B = Cpu;
/// The same with gradients.
pub type A = burn::backend::Autodiff<B>;

/// What programs here compute on.
#[cfg(feature = "cuda")]
pub type Device = burn::backend::Cuda;
/// What programs here compute on.
#[cfg(not(feature = "cuda"))]
pub type Device = Cpu;

/// The root of the workspace: where this was built or, if it was carried to another machine, the current folder.
pub fn root() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    if built.is_dir() { built.to_owned() } else { PathBuf::from(".") }
}

/// The paper's 27M model for 9x9 Sudoku, untrained.
///
/// # Panics
/// Never: the configuration is valid.
pub fn paper_model() -> Hrm<A> {
    let config = ModelConfig::hrm_sudoku_extreme();
    config.init(&mut ChaCha8Rng::seed_from_u64(0), &Default::default()).expect("a valid preset")
}

/// The same without gradients.
pub fn paper_model_inner() -> Hrm<B> {
    paper_model().valid()
}

/// Sudoku-shaped random tokens and labels.
pub fn batch<T: Backend>(rows: usize, device: &T::Device) -> PuzzleBatch<T> {
    let tokens = |salt: usize| -> Tensor<T, 2, Int> {
        let values: Vec<i32> = (0..rows * 81).map(|i| 1 + ((i * 7919 + salt) % 10) as i32).collect();
        Tensor::from_data(TensorData::new(values, [rows, 81]).convert::<T::IntElem>(), device)
    };
    PuzzleBatch { inputs: tokens(1), labels: tokens(5), puzzle_identifiers: Tensor::zeros([rows], device) }
}
