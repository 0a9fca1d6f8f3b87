//! Data for hierarchical reasoning models: puzzles, their exact solvers, generators and symmetries, the
//! reference implementation's dataset format, and the samplers that turn a dataset into batches.
//!
//! Plain Rust: nothing here knows a tensor library. [`dataset::Batch`] is the edge where a trainer takes over.
//!
//! - [`sudoku`]: boards of any box size, solver, generator, symmetry group, canonical form, dataset builder;
//! - [`variants`]: Killer Sudoku and Samurai, five boards that overlap;
//! - [`maze`]: mazes, canonical labels, checks that accept any shortest path, generators, classical solvers;
//! - [`arc`]: tasks from files, the canvas, augmentations that are drawn and never stored, the vote;
//! - [`task`]: the one interface that a new puzzle implements, with n-queens completion as its example;
//! - [`survey`]: how many symmetries a task has and how hard its puzzles are, in numbers;
//! - [`grid`]: rectangles of tokens and the dihedral group;
//! - [`groups`]: which cells of a puzzle belong together;
//! - [`dataset`]: the on-disk format, the training sampler, sequential evaluation batches, augmentation;
//! - [`render`]: puzzles as text for a terminal, and as pictures (SVG and PNG);
//! - [`download`]: data sets from their public homes (over the network with the feature `download`);
//! - [`checksum`]: SHA-256 of bytes and files;
//! - [`random`]: the counter-based random streams that make every draw above a pure function of its seed.
//!
//! ```
//! use hrm_data::dataset::{Augmentation, SamplerConfig, TrainSampler};
//! use hrm_data::sudoku::{Board, GenerateOptions, Geometry, Solver, Verdict, dataset};
//! use std::sync::Arc;
//!
//! // Solve a puzzle exactly.
//! let puzzle: Board = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79".parse()?;
//! puzzle.validate()?;
//! assert!(matches!(Solver::new().classify(&puzzle), Verdict::Unique(solution) if solution.is_solution_of(&puzzle)));
//!
//! // Generate 4x4 puzzles, held-out ones not equivalent to any for training, and draw augmented batches.
//! let options = GenerateOptions { geometry: Geometry::S4, seed: 7, train: 100, test: 20, clues: Some((4, 8)) };
//! let split = dataset::generate_split(&options)?;
//! let (train, _) = dataset::from_records(&split.train, &Default::default())?;
//! let augmentation = Augmentation::SudokuSymmetry { geometry: Geometry::S4 };
//! let config = SamplerConfig { augmentation, ..SamplerConfig::new(32, 0) };
//! let batch = TrainSampler::new(Arc::new(train), config)?.next_batch();
//! assert_eq!((batch.rows, batch.seq_len, batch.inputs.len()), (32, 16, 512));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arc;
mod bounded;
pub mod checksum;
pub mod dataset;
pub mod download;
pub mod grid;
pub mod groups;
pub mod maze;
mod names;
pub mod random;
pub mod render;
pub mod sudoku;
pub mod survey;
mod table;
pub mod task;
pub mod variants;

#[cfg(test)]
mod testdata;

pub use names::UnknownName;
pub use table::TableError;
