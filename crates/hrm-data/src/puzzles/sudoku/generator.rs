//! Generating puzzles with exactly one solution, from a seed.
//!
//! A random full grid is dug out: cells are visited in random order and cleared whenever the solution stays unique.
//! After one pass over all cells the puzzle is minimal (no clue can be removed), because a clue that was necessary once
//! stays necessary when others go.

use rand_chacha::ChaCha8Rng;

use super::board::{Board, Geometry};
use super::solver::Solver;
use crate::random::{self, Purpose, stream};

/// A generated puzzle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The puzzle; exactly one solution.
    pub puzzle: Board,
    /// Its solution.
    pub solution: Board,
    /// Whether no clue can be removed. False if digging stopped at the wanted number of clues, or if on a large board
    /// a uniqueness check ran out of nodes and its clue was kept.
    pub minimal: bool,
}

/// Generates puzzles: number `index` is a pure function of geometry, seed, clue range and index.
#[derive(Clone, Debug)]
pub struct Generator {
    geometry: Geometry,
    seed: u64,
    clues: (usize, usize),
    solver: Solver,
}

impl Generator {
    /// Generates minimal puzzles. On boards larger than 9x9 each uniqueness check is limited in nodes, so that a puzzle
    /// takes seconds at most; [`Generated::minimal`] says whether that mattered.
    pub fn new(geometry: Geometry, seed: u64) -> Self {
        let limit = if geometry.side() <= 9 { u64::MAX } else { 5_000 };
        Self { geometry, seed, clues: (0, 0), solver: Solver::with_node_limit(limit) }
    }

    /// Stops digging at a number of clues drawn uniformly from `fewest..=most` for each puzzle. A puzzle that becomes
    /// minimal earlier has more clues than drawn.
    #[must_use]
    pub fn with_clues(mut self, fewest: usize, most: usize) -> Self {
        let cells = self.geometry.cells();
        self.clues = (fewest.min(most).min(cells), fewest.max(most).min(cells));
        self
    }

    /// Puzzle number `index`.
    pub fn generate(&mut self, index: u64) -> Generated {
        let mut rng = stream(self.seed, Purpose::Generate, index, 1);
        let solution = random_grid(self.geometry, &mut rng);
        let (fewest, most) = self.clues;
        let target = fewest + random::below(&mut rng, (most - fewest + 1) as u32) as usize;
        self.dig(solution, target, &mut rng)
    }

    fn dig(&mut self, solution: Board, target: usize, rng: &mut ChaCha8Rng) -> Generated {
        let mut order = random::permutation(rng, self.geometry.cells());
        let mut puzzle = solution.clone();
        let mut clues = order.len();
        let mut proven = true;
        while clues > target {
            let Some(cell) = order.pop() else { break };
            let cell = cell as usize;
            let value = std::mem::take(&mut puzzle.cells_mut()[cell]);
            match self.solver.is_unique(&puzzle) {
                Some(true) => clues -= 1,
                verdict => {
                    puzzle.cells_mut()[cell] = value;
                    proven &= verdict.is_some();
                }
            }
        }
        Generated { puzzle, solution, minimal: proven && order.is_empty() }
    }
}

/// A random full grid: a pure function of geometry and seed.
///
/// Every grid can come out; their probabilities are not exactly equal (the search fills the most constrained cell first).
pub fn full_grid(geometry: Geometry, seed: u64) -> Board {
    random_grid(geometry, &mut stream(seed, Purpose::Generate, 0, 0))
}

fn random_grid(geometry: Geometry, rng: &mut ChaCha8Rng) -> Board {
    let empty = Board::empty(geometry);
    // A search that starts badly can take for ever on large boards; starting again is cheaper.
    let mut limit = 4 * geometry.cells() as u64;
    loop {
        if let Some(grid) = Solver::with_node_limit(limit).random_solution(&empty, rng) {
            return grid;
        }
        limit += limit / 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_minimal(puzzle: &Board) -> bool {
        let mut solver = Solver::new();
        (0..puzzle.cells().len()).filter(|&c| puzzle.cells()[c] != 0).all(|cell| {
            let mut fewer = puzzle.clone();
            fewer.cells_mut()[cell] = 0;
            solver.is_unique(&fewer) == Some(false)
        })
    }

    #[test]
    fn puzzles_are_unique_minimal_and_reproducible() {
        for (geometry, count) in [(Geometry::S4, 30), (Geometry::S6, 20), (Geometry::S9, 10)] {
            let mut generator = Generator::new(geometry, 11);
            let mut seen = std::collections::HashSet::new();
            for index in 0..count {
                let made = generator.generate(index);
                assert!(made.minimal && is_minimal(&made.puzzle), "{:?}", made.puzzle);
                assert_eq!(Solver::new().is_unique(&made.puzzle), Some(true));
                assert!(made.solution.is_solution_of(&made.puzzle));
                assert_eq!(Generator::new(geometry, 11).generate(index), made);
                seen.insert(made.puzzle);
            }
            assert!(seen.len() as u64 > count / 2);
            assert_ne!(Generator::new(geometry, 12).generate(0), generator.generate(0));
        }
    }

    #[test]
    fn clue_counts_are_honoured() {
        let mut generator = Generator::new(Geometry::S9, 5).with_clues(30, 40);
        let counts: Vec<usize> = (0..40).map(|i| generator.generate(i).puzzle.clues()).collect();
        assert!(counts.iter().all(|c| (30..=40).contains(c)), "{counts:?}");
        assert!(counts.iter().collect::<std::collections::HashSet<_>>().len() > 4);
        let made = Generator::new(Geometry::S9, 5).with_clues(81, 81).generate(0);
        assert_eq!((made.puzzle.clues(), made.minimal), (81, false));
        assert_eq!(Generator::new(Geometry::S9, 5).with_clues(500, 500).generate(0).puzzle.clues(), 81);
    }

    #[test]
    fn sixteen_by_sixteen_to_a_number_of_clues() {
        let made = Generator::new(Geometry::S16, 3).with_clues(130, 130).generate(0);
        assert_eq!(made.puzzle.clues(), 130);
        assert_eq!(Solver::new().is_unique(&made.puzzle), Some(true));
        assert!(made.solution.is_solution_of(&made.puzzle));
    }

    #[test]
    fn full_grids_of_every_size() {
        for side in [4, 6, 8, 9, 10, 12, 15, 16, 20, 25] {
            let geometry = Geometry::from_side(side).unwrap();
            let grid = full_grid(geometry, 1);
            assert!(grid.is_solved(), "{geometry}");
            assert_ne!(grid, full_grid(geometry, 2));
        }
    }

    #[test]
    fn all_grids_of_the_smallest_board_come_out() {
        let grids: std::collections::HashSet<Board> =
            (0..6000).map(|seed| full_grid(Geometry::S4, seed)).collect();
        assert_eq!(grids.len(), 288);
    }
}
