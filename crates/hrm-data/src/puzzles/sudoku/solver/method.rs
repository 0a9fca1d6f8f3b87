//! The classical solvers by name, with one interface: baselines for a model.

use serde::{Deserialize, Serialize};

use super::general::General;
use super::trace::{Action, Trace, Tracer, Why};
use super::{Run, Search, Solver, coloring, dlx};
use crate::puzzles::sudoku::board::Board;

crate::named! {
    /// A classical solver. All three find the same solutions; they differ in how they get there and in what they count.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Method {
        /// Propagation on bit sets, then depth-first search: [`Solver`]. A node is a propagated state, a guess a branching point.
        Dfs = "dfs",
        /// Exact cover by dancing links (Knuth, "Dancing Links", 2000): 4 constraints for each cell, one choice for each cell and
        /// value. A node is a choice made (or the root), a guess a constraint with several choices left.
        Dlx = "dlx",
        /// Graph colouring by DSATUR (Brélaz, 1979) with backtracking: cells are vertices, values colours. A node is a vertex
        /// coloured (or the root), a guess a vertex with several colours left.
        Coloring = "coloring",
    }
}

/// When a search ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Solutions to find. 1 finds a solution, 2 proves that it is the only one.
    pub solutions: u64,
    /// Nodes to visit.
    pub nodes: u64,
    /// Steps of a trace to keep; the search goes on when there are more.
    pub steps: usize,
}

impl Default for Limits {
    /// Two solutions, any number of nodes, the first 100,000 steps.
    fn default() -> Self {
        Self { solutions: 2, nodes: u64::MAX, steps: 100_000 }
    }
}

impl Method {
    /// Searches within the limits. A board that breaks the rules has no solution.
    ///
    /// Tables are built for each call. For many puzzles by `Dfs`, keep a [`Solver`].
    pub fn search(self, puzzle: &Board, limits: &Limits) -> Search {
        match self {
            Self::Dfs => Solver::with_node_limit(limits.nodes).search(puzzle, limits.solutions),
            Self::Dlx | Self::Coloring => self.traced(puzzle, &Limits { steps: 0, ..*limits }).0,
        }
    }

    /// Searches and keeps the steps.
    ///
    /// The steps of `Dfs` are those of the engine for any geometry, which on 9x9 does more and smaller steps than the bit
    /// board that [`Self::search`] uses there: solutions agree, the work does not.
    pub fn traced(self, puzzle: &Board, limits: &Limits) -> (Search, Trace) {
        let geometry = puzzle.geometry();
        let mut run = Run::new(limits.solutions, limits.nodes, geometry, None);
        run.tracer = Tracer::new(geometry.side(), limits.steps);
        if limits.solutions > 0 && (self == Self::Dfs || keeps_rules(puzzle, &mut run)) {
            match self {
                Self::Dfs => General::new(geometry).search(puzzle.cells(), &mut run),
                Self::Dlx => dlx::search(puzzle, &mut run),
                Self::Coloring => coloring::search(puzzle, &mut run),
            }
        }
        let trace = std::mem::take(&mut run.tracer).finish();
        (run.finish(), trace)
    }
}

/// Whether no given stands twice; counts the root and says so if one does.
fn keeps_rules(puzzle: &Board, run: &mut Run<'_>) -> bool {
    let violations = puzzle.violations();
    let Some(first) = violations.first() else { return true };
    if run.enter() {
        let cell = first.cells.last().map(|&(row, col)| row * puzzle.side() + col);
        run.tracer.note(Action::Contradiction, 0, cell, Some(first.value), Why::Repeated(first.unit));
    }
    false
}
