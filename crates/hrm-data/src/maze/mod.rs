//! Mazes on a grid of cells: text formats, the canonical label, checks that accept any shortest path, generators,
//! dataset builder and classical solvers.

mod board;
mod dataset;
mod generator;
mod metrics;
mod records;
pub mod solvers;

pub use board::{Maze, MazeError, PathError, SYMBOLS};
pub use dataset::{
    BuildError, GenerateOptions, Split, check_shape, decode_tokens, from_dataset, from_records,
    generate_split, leaks,
};
pub use generator::{GeneratorError, HardMazes, Kind, UniqueMazes};
pub use metrics::{Scores, score};
pub use records::{Record, RecordError, read_records, read_records_from, write_records};
