//! Generating Samurai puzzles with exactly one solution, from a seed.
//!
//! The middle board is filled first, then each corner around the box that it shares. Then digits are taken away in random order
//! as long as the solution stays the only one: a digit may go if there is no solution with another one in its place.

use rand::Rng as _;
use rayon::prelude::*;

use super::{CELLS, INSIDE, Samurai, canvas_cells};
use crate::puzzles::engine::{Engine, Order};
use crate::puzzles::sudoku::generator::full_grid;
use crate::puzzles::sudoku::{Geometry, Stop};
use crate::random::{self, Purpose, stream};

/// Nodes of a search after which a digit is kept rather than proven necessary.
const MAX_NODES: u64 = 1_000;

/// A generated puzzle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The puzzle; exactly one solution.
    pub puzzle: Samurai,
    /// Its solution.
    pub solution: Samurai,
    /// Whether no digit can be removed. False if digging stopped at the wanted number of clues, or if a search ran out of nodes
    /// and its digit was kept.
    pub minimal: bool,
}

/// Generates puzzles: number `index` is a pure function of seed, clue range and index.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    seed: u64,
    clues: (usize, usize),
}

impl Generator {
    /// Generates puzzles from which no digit can be taken, as far as a bounded search can tell.
    pub const fn new(seed: u64) -> Self {
        Self { seed, clues: (0, 0) }
    }

    /// Stops digging at a number of clues drawn uniformly from `fewest..=most` for each puzzle. A puzzle that can lose no more
    /// digits earlier has more clues than drawn.
    #[must_use]
    pub fn with_clues(mut self, fewest: usize, most: usize) -> Self {
        self.clues = (fewest.min(most).min(super::BOARD_CELLS), fewest.max(most).min(super::BOARD_CELLS));
        self
    }

    /// Puzzle number `index`.
    pub fn generate(&self, index: u64) -> Generated {
        let mut rng = stream(self.seed, Purpose::Generate, index, 5);
        let units = Geometry::S9.units().map(|unit| Geometry::S9.unit_cells(unit));
        let units = units.map(|unit| unit.into_iter().map(|cell| cell as u16).collect()).collect();
        let engine = Engine::new(9, 81, units, Vec::new());
        let mut cells = vec![0; CELLS];
        for (board, corner) in [2, 0, 1, 3, 4].into_iter().zip([false, true, true, true, true]) {
            let places: Vec<usize> = canvas_cells(board).collect();
            let filled = if corner {
                let given: Vec<u8> = places.iter().map(|&cell| cells[cell]).collect();
                engine.search(&given, None, (1, u64::MAX), Order::Random(&mut rng)).first
            } else {
                Some(full_grid(Geometry::S9, rng.next_u64()).cells().to_vec())
            };
            // A full box can always be completed.
            for (cell, digit) in places.into_iter().zip(filled.unwrap_or_default()) {
                cells[cell] = digit;
            }
        }
        let solution = Samurai { cells };
        let (fewest, most) = self.clues;
        let target = fewest + random::below(&mut rng, (most - fewest + 1) as u32) as usize;
        let mut order = random::permutation(&mut rng, INSIDE.len());
        let mut puzzle = solution.clone();
        let mut clues = order.len();
        let mut proven = true;
        while clues > target {
            let Some(cell) = order.pop().map(|index| INSIDE[index as usize]) else { break };
            let digit = std::mem::take(&mut puzzle.cells[cell]);
            let search = puzzle.search_with(Some((cell, digit)), 1, MAX_NODES, Order::Ascending);
            if (search.solutions, search.stop) == (0, Stop::Exhausted) {
                clues -= 1;
            } else {
                puzzle.cells[cell] = digit;
                proven &= search.stop != Stop::NodeLimit;
            }
        }
        Generated { puzzle, solution, minimal: proven && order.is_empty() }
    }

    /// Puzzles number `indices`, on all threads of the pool. Two of them are never equal in practice: there are more than 10^100
    /// boards.
    pub fn generate_many(&self, indices: std::ops::Range<u64>) -> Vec<Generated> {
        indices.into_par_iter().map(|index| self.generate(index)).collect()
    }
}
