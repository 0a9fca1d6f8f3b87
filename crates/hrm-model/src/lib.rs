//! The Hierarchical Reasoning Model (Wang et al. 2025, arXiv 2506.21734), and its successor TRM (Jolicoeur-Martineau 2025,
//! arXiv 2510.04871), as backend-generic Burn modules.
//!
//! ```
//! use hrm_model::{Hrm, ModelConfig, act::Carry};
//! # use burn::tensor::{Int, Tensor};
//! type B = hrm_backend::Cpu;
//! # let device = Default::default();
//! // A tiny model; `ModelConfig::hrm_sudoku_extreme()` is the paper's 27M one.
//! let config = ModelConfig::new(6, 16).with_hidden_size(32).with_num_heads(2).with_layers(1, 1);
//! let model: Hrm<B> = config.init(&mut rand_chacha::ChaCha8Rng::from_seed([0; 32]), &device).unwrap();
//!
//! let tokens = Tensor::<B, 2, Int>::ones([1, 16], &device);
//! let mut carry = Carry::fresh(&model, tokens, Tensor::zeros([1], &device));
//! for _ in 0..4 {
//!     let (next, output) = model.segment(carry);
//!     println!("q_halt = {}", output.q_halt.into_scalar());
//!     carry = next;
//! }
//! # use rand::SeedableRng;
//! ```
//!
//! Names are the paper's: `z_h` and `z_l` are the states of the high- and low-level module, a *segment* is one
//! ACT step of `h_cycles x l_cycles` updates, the *carry* is what lives between segments.
//! The batch is always the first axis.

#![forbid(unsafe_code)]

pub mod act;
pub mod config;
pub mod diagnose;
mod error;
mod hrm;
pub mod init;
pub mod layers;
pub mod loss;
pub mod named;
mod puzzle_embedding;
#[cfg(feature = "pytorch")]
mod pytorch;
pub mod recurrence;
pub mod settings;
mod shapes;
mod structure;
pub mod summary;
pub mod weights;
mod widen;

/// The Burn that this crate is built on, so that a dependent crate uses the same one.
pub use burn;
/// The backends: [`hrm_backend::Cpu`] and the bound [`hrm_backend::HrmBackend`].
pub use hrm_backend;

pub use config::{
    Architecture, ForwardChoice, ForwardDtype, GatedUnit, InitState, Mixer, ModelConfig, PositionEncoding,
    RecurrenceKind, Tokens,
};
pub use error::ModelError;
pub use hrm::{Cycles, Hrm, SegmentOutput, State};
pub use puzzle_embedding::PuzzleEmbedding;
pub use structure::{GroupKind, Structure};
