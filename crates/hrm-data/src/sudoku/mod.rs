//! Sudoku of any box size: boards, solver, generator, symmetries, canonical form and dataset builder.

pub mod board;
pub mod canonical;
pub mod dataset;
pub mod generator;
mod parse;
pub mod records;
pub mod solver;
pub mod symmetry;

pub use board::{Board, BoardError, Geometry, Unit, Violation};
pub use canonical::{
    Canonical, CanonicalError, Canonicalizer, ClassKey, Classifier, Fingerprint, fingerprint,
};
pub use dataset::{
    BuildError, BuildOptions, BuildReport, GenerateOptions, Split, decode_tokens, encode_tokens,
};
pub use generator::{Generated, Generator};
pub use parse::Notation;
pub use records::{Record, RecordError, RecordReader, read_records};
pub use solver::{ConstraintGraph, Limits, Method, NoSuchMethod, Search, Solver, Stop, Trace, Verdict, Work};
pub use symmetry::{Symmetry, SymmetryError};
