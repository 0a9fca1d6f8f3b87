//! Sudoku of any box size: boards, solver, generator, symmetries, canonical form and dataset builder.

pub mod board;
pub mod canonical;
pub mod dataset;
pub mod generator;
pub mod grade;
mod groups;
pub mod hard;
mod invariant;
mod parse;
pub mod rating;
pub mod records;
pub mod solver;
pub mod symmetry;

pub use board::{Board, BoardError, Geometry, Unit, Violation};
pub use canonical::{
    Canonical, CanonicalError, Canonicalizer, ClassKey, Classifier, Fingerprint, fingerprint,
};
pub use dataset::{
    BuildError, BuildOptions, BuildReport, GenerateOptions, Leaks, Split, decode_tokens, encode_tokens,
};
pub use generator::{Generated, Generator};
pub use grade::{Grade, GradeError, Technique, grade};
pub use groups::group_kinds;
pub use hard::{Hard, HardGenerator, HardOptions};
pub use parse::Notation;
pub use rating::{DifficultyTable, difficulty, mean_guesses, rating};
pub use records::{Record, RecordError, RecordReader, read_records, write_records};
pub use solver::{ConstraintGraph, Limits, Method, Search, Solver, Stop, Trace, Verdict, Work};
pub use symmetry::{Symmetry, SymmetryError};
