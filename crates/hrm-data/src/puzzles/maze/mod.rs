//! Mazes on a grid of cells: text formats, the canonical label, checks that accept any shortest path, generators and classical
//! solvers.

mod board;
pub mod draw;
mod generator;
pub mod solvers;
mod split;
mod task;

pub use board::{Maze, MazeError, PathError, SYMBOLS};
pub use generator::{GeneratorError, HardMazes, Kind, UniqueMazes};
pub use split::SplitFailure;
#[cfg(test)]
pub(crate) use split::kin;
pub use task::{Mazes, decode_tokens};
