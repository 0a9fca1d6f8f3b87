//! What the benches in `benches/` share: the paper's model and data of its shape.

#![forbid(unsafe_code)]

use burn::{
    module::AutodiffModule,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use hrm_backend::Cpu;
use hrm_model::{Hrm, ModelConfig, act::PuzzleBatch};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The backend that is measured.
pub type B = Cpu;
/// The same with gradients.
pub type A = burn::backend::Autodiff<B>;

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
