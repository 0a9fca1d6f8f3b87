//! Exact solving: constraint propagation and depth-first search, for any geometry.
//!
//! Two engines with the same answers: a bit-board engine for 9x9 and a general one for everything else. Both count
//! their work. A node is one propagated search state (the root included); a guess is one branching point.
//!
//! [`Method`] names these and two other classical solvers, exact cover and graph colouring, and gives [`Trace`]s.

mod coloring;
mod dlx;
mod exact_cover;
mod general;
mod method;
mod nine;
mod trace;

pub use coloring::ConstraintGraph;
pub use method::{Limits, Method};
pub use trace::{Action, Step, Trace, Why};

use rand_chacha::ChaCha8Rng;

use super::board::{Board, Geometry};
use crate::task::Solutions;
use general::General;
use serde::{Deserialize, Serialize};
use trace::Tracer;

/// How much work a search took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Branching points: how often the search had to choose without knowing.
    pub guesses: u64,
    /// Search states propagated, the root included.
    pub nodes: u64,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Every possibility was covered: the count is exact.
    Exhausted,
    /// As many solutions as asked for were found: there may be more.
    SolutionLimit,
    /// The node limit was reached: nothing is known beyond the solutions found.
    NodeLimit,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search<S = Board> {
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

    pub(crate) fn map<T>(self, image: impl Fn(S) -> T) -> Search<T> {
        let Self { solutions, first, second, stop, work } = self;
        Search { solutions, first: first.map(&image), second: second.map(&image), stop, work }
    }
}

impl<S> From<Search<S>> for Solutions<S> {
    fn from(search: Search<S>) -> Self {
        match (search.is_unique(), search.first, search.second) {
            (Some(true), Some(only), _) => Self::Unique(only),
            (Some(false), Some(one), Some(other)) => Self::Several(one, other),
            (Some(false), None, _) => Self::None,
            _ => Self::Unknown,
        }
    }
}

/// An exact solver. Keeps tables and buffers, so reuse it for many puzzles; boards of any geometry may be mixed.
#[derive(Clone, Debug)]
pub struct Solver {
    max_nodes: u64,
    general: Option<General>,
}

impl Default for Solver {
    fn default() -> Self {
        Self::new()
    }
}

impl Solver {
    /// A solver that searches as long as it takes.
    pub const fn new() -> Self {
        Self { max_nodes: u64::MAX, general: None }
    }

    /// A solver that gives up a search after `max_nodes` nodes, with [`Stop::NodeLimit`].
    pub const fn with_node_limit(max_nodes: u64) -> Self {
        Self { max_nodes, general: None }
    }

    /// Searches until `limit` solutions are found or there are no more. A board that breaks the rules has none.
    pub fn search(&mut self, puzzle: &Board, limit: u64) -> Search {
        self.run(puzzle, Run::new(limit, self.max_nodes, puzzle.geometry(), None))
    }

    fn run(&mut self, puzzle: &Board, mut run: Run<'_>) -> Search {
        if run.limit > 0 {
            if puzzle.geometry() == Geometry::S9 {
                nine::search(puzzle.cells(), None, &mut run);
            } else {
                self.engine(puzzle.geometry()).search(puzzle.cells(), &mut run);
            }
        }
        run.finish()
    }

    /// The same search with an opinion: at each guess, the more preferred possibility is tried first. `preference` gives a
    /// weight, from 0 to 1, to a value (1 to side) in a cell.
    ///
    /// Where every guess is a choice between two, a preference that is right more often than not saves guesses, and a wrong
    /// one costs some; the solutions are the same.
    pub fn search_preferring(
        &mut self,
        puzzle: &Board,
        limit: u64,
        preference: &dyn Fn(usize, u8) -> f32,
    ) -> Search {
        let mut run = Run::new(limit, self.max_nodes, puzzle.geometry(), None);
        run.preference = Some(preference);
        self.run(puzzle, run)
    }

    /// Whether a 9x9 puzzle has a solution with another value than `value` in a cell: with a known solution, the cheapest way
    /// to tell whether a clue is needed.
    pub(crate) fn has_solution_without(&mut self, puzzle: &Board, cell: usize, value: u8) -> bool {
        debug_assert_eq!(puzzle.geometry(), Geometry::S9);
        let mut run = Run::new(1, self.max_nodes, Geometry::S9, None);
        nine::search(puzzle.cells(), Some((cell, value)), &mut run);
        run.solutions > 0
    }

    /// The same search by the general engine whatever the geometry, to check one engine against the other.
    #[cfg(test)]
    fn search_general(&mut self, puzzle: &Board, limit: u64) -> Search {
        let mut run = Run::new(limit, self.max_nodes, puzzle.geometry(), None);
        self.engine(puzzle.geometry()).search(puzzle.cells(), &mut run);
        run.finish()
    }

    /// One solution, branching in random order. `None` if there is none or the node limit was reached.
    pub(crate) fn random_solution(&mut self, puzzle: &Board, rng: &mut ChaCha8Rng) -> Option<Board> {
        let mut run = Run::new(1, self.max_nodes, puzzle.geometry(), Some(rng));
        self.engine(puzzle.geometry()).search(puzzle.cells(), &mut run);
        run.finish().first
    }

    fn engine(&mut self, geometry: Geometry) -> &mut General {
        match &mut self.general {
            Some(engine) if engine.geometry() == geometry => {}
            other => *other = Some(General::new(geometry)),
        }
        self.general.get_or_insert_with(|| General::new(geometry))
    }

    /// Any solution of the puzzle, or `None` if there is none (or the node limit was reached).
    pub fn solve(&mut self, puzzle: &Board) -> Option<Board> {
        self.search(puzzle, 1).first
    }

    /// The number of solutions, counted up to `limit`.
    pub fn count_solutions(&mut self, puzzle: &Board, limit: u64) -> u64 {
        self.search(puzzle, limit).solutions
    }

    /// Whether the puzzle has no solution, one, or several.
    pub fn classify(&mut self, puzzle: &Board) -> Solutions<Board> {
        self.search(puzzle, 2).into()
    }

    /// Whether the puzzle has exactly one solution; `None` if the node limit was reached before that was known.
    pub fn is_unique(&mut self, puzzle: &Board) -> Option<bool> {
        self.search(puzzle, 2).is_unique()
    }
}

/// The ledger of one search, shared by both engines.
struct Run<'a> {
    limit: u64,
    max_nodes: u64,
    geometry: Geometry,
    rng: Option<&'a mut ChaCha8Rng>,
    /// How much a value (from 1) is believed to stand in a cell: what a guess tries first.
    preference: Option<&'a dyn Fn(usize, u8) -> f32>,
    solutions: u64,
    first: Option<Board>,
    second: Option<Board>,
    work: Work,
    out_of_nodes: bool,
    tracer: Tracer,
}

impl<'a> Run<'a> {
    fn new(limit: u64, max_nodes: u64, geometry: Geometry, rng: Option<&'a mut ChaCha8Rng>) -> Self {
        let work = Work { guesses: 0, nodes: 0 };
        Self {
            limit,
            max_nodes,
            geometry,
            rng,
            preference: None,
            solutions: 0,
            first: None,
            second: None,
            work,
            out_of_nodes: false,
            tracer: Tracer::default(),
        }
    }

    /// Counts a node; false if the search must stop instead.
    fn enter(&mut self) -> bool {
        if self.work.nodes >= self.max_nodes {
            self.out_of_nodes = true;
            return false;
        }
        self.work.nodes += 1;
        true
    }

    /// Counts a solution; `cells` is called only if the board is kept.
    fn found(&mut self, cells: impl FnOnce() -> Vec<u8>) {
        self.solutions += 1;
        if self.first.is_none() {
            self.first = Some(Board::from_trusted(self.geometry, cells()));
        } else if self.second.is_none() {
            self.second = Some(Board::from_trusted(self.geometry, cells()));
        }
    }

    const fn done(&self) -> bool {
        self.out_of_nodes || self.solutions >= self.limit
    }

    fn finish(self) -> Search {
        let stop = if self.solutions >= self.limit {
            Stop::SolutionLimit
        } else if self.out_of_nodes {
            Stop::NodeLimit
        } else {
            Stop::Exhausted
        };
        Search { solutions: self.solutions, first: self.first, second: self.second, stop, work: self.work }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod method_tests;
