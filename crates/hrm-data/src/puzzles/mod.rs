//! The puzzles, a folder each: its boards, its [`Task`](crate::task::Task), its generator, its drawing.
//!
//! To add one, copy [`queens`], and give it a line in [`registry`](crate::registry); `docs/adding-a-puzzle.md` says how.

pub mod arc;
mod engine;
pub mod killer;
pub mod maze;
pub mod queens;
pub mod samurai;
pub mod sudoku;

pub use engine::Search;
