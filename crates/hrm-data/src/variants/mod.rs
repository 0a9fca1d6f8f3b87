//! Variants of Sudoku: cages with sums ([`killer`]) and five overlapping boards ([`samurai`]).
//!
//! Each has types with a text format, an exact search that counts its work, a generator of puzzles with one solution, and a
//! [`Task`](crate::task::Task) that turns them into rows of tokens.

mod engine;
pub mod killer;
pub mod samurai;

use crate::sudoku::{Stop, Work};

/// The result of a search for solutions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search<S> {
    /// Solutions found, at most the limit asked for.
    pub solutions: u64,
    /// The first solution found.
    pub first: Option<S>,
    /// The second solution found.
    pub second: Option<S>,
    /// Why the search ended.
    pub stop: Stop,
    /// What it took.
    pub work: Work,
}

impl<S> Search<S> {
    /// Whether there is exactly one solution; `None` if the search ended before that was known.
    pub const fn is_unique(&self) -> Option<bool> {
        match (self.solutions, self.stop) {
            (2.., _) => Some(false),
            (count, Stop::Exhausted) => Some(count == 1),
            _ => None,
        }
    }

    fn map<T>(self, image: impl Fn(S) -> T) -> Search<T> {
        let Self { solutions, first, second, stop, work } = self;
        Search { solutions, first: first.map(&image), second: second.map(&image), stop, work }
    }
}
