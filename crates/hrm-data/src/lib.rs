//! Data for hierarchical reasoning models: puzzles, their exact solvers, generators and symmetries, the
//! reference implementation's dataset format, and the samplers that turn a dataset into batches.
//!
//! Plain Rust: nothing here knows a tensor library. [`dataset::Batch`] is the edge where a trainer takes over.
//!
//! - [`sudoku`]: boards of any box size, solver, generator, symmetry group, canonical form, dataset builder;
//! - [`dataset`]: the on-disk format, the training sampler, sequential evaluation batches, augmentation;
//! - [`render`]: puzzles as text for a terminal;
//! - [`random`]: the counter-based random streams that make every draw above a pure function of its seed.

pub mod dataset;
pub mod random;
pub mod render;
pub mod sudoku;

#[cfg(test)]
mod testdata;
