//! Sudoku of any box size: boards, solver, generator, symmetries, canonical form.

pub mod board;
pub mod canonical;
pub mod draw;
pub mod generator;
pub mod grade;
mod groups;
pub mod hard;
mod invariant;
mod parse;
pub mod rating;
pub mod solver;
pub mod split;
pub mod symmetry;
mod task;

pub use board::{Board, BoardError, Geometry, Unit, Violation};
pub use canonical::{Canonicalizer, ClassKey, Classifier, Fingerprint, TooLarge, fingerprint};
pub use generator::{Generated, Generator};
pub use grade::{Grade, GradeError, Technique, grade};
pub use groups::group_kinds;
pub use hard::{Hard, HardGenerator, HardOptions};
pub use parse::Notation;
pub use rating::{DifficultyTable, difficulty, mean_guesses, rating};
pub use solver::{ConstraintGraph, Limits, Method, Search, Solver, Stop, Trace, Work};
#[cfg(test)]
pub(crate) use split::kin;
pub use split::{Exhausted, GenerateOptions};
pub use symmetry::Symmetry;
pub use task::{Sudoku, decode_tokens, encode_tokens};
