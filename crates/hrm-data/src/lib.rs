//! Data for hierarchical reasoning models: puzzles, their exact solvers, generators and symmetries, the
//! reference implementation's dataset format, and the samplers that turn a dataset into batches.
//!
//! Plain Rust: nothing here knows a tensor library. [`dataset::Batch`] is the edge where a trainer takes over.
//!
//! From the ground up:
//!
//! - [`random`]: the counter-based random streams that make every draw above a pure function of its seed; [`grid`]: rectangles
//!   of tokens and the dihedral group; [`groups`]: which cells of a puzzle belong together; [`checksum`]: SHA-256 of bytes
//!   and files;
//! - [`dataset`]: the on-disk format, sequential evaluation batches; [`render`]: pictures, as SVG and PNG, and text styles;
//! - [`task`]: the one interface that a puzzle implements;
//! - [`sampler`]: training batches, augmented as they are drawn;
//! - [`puzzles`]: Sudoku, mazes, ARC, Killer, Samurai, n-queens, a folder each;
//! - [`registry`]: the list of them; [`reader`]: the one reader of files of puzzles;
//! - [`download`]: data sets from their public homes (over the network with the feature `download`).
//!
//! ```
//! use hrm_data::puzzles::sudoku::{Board, Geometry, Solver, Sudoku};
//! use hrm_data::sampler::{SamplerConfig, TrainSampler};
//! use hrm_data::task::{AnyTask, Augmentation, GenerateOptions, Solutions};
//! use std::sync::Arc;
//!
//! // Solve a puzzle exactly.
//! let puzzle: Board = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79".parse()?;
//! puzzle.validate()?;
//! assert!(matches!(Solver::new().classify(&puzzle), Solutions::Unique(solution) if solution.is_solution_of(&puzzle)));
//!
//! // Generate 4x4 puzzles, held-out ones not equivalent to any for training, and draw augmented batches.
//! let task = AnyTask::new(Sudoku { geometry: Geometry::S4 });
//! let options = GenerateOptions { givens: Some((4, 8)), ..GenerateOptions::default() };
//! let train = task.dataset(&task.split(&options, 7, (100, 20))?.train, 0, 0)?;
//! let config = SamplerConfig { augmentation: Augmentation::Task(task), ..SamplerConfig::new(32, 0) };
//! let batch = TrainSampler::new(Arc::new(train), config)?.next_batch();
//! assert_eq!((batch.rows, batch.seq_len, batch.inputs.len()), (32, 16, 512));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounded;
mod bundled;
pub mod checksum;
pub mod dataset;
pub mod download;
pub mod grid;
pub mod groups;
pub mod names;
pub mod puzzles;
pub mod random;
pub mod reader;
pub mod registry;
pub mod render;
pub mod sampler;
mod table;
pub mod task;

#[cfg(test)]
mod testdata;

pub use names::UnknownName;
pub use table::TableError;

/// The page on adding a puzzle: its code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-puzzle.md")]
struct AddingAPuzzle;
