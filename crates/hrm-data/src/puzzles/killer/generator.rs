//! Generating Killer Sudoku with exactly one solution, from a seed.
//!
//! A random full grid is divided into random cages. While there are several solutions, a cage in which two of them differ is
//! divided further; this ends, at the latest when every cell is a cage of its own. Last, cells on their own are joined to a cage
//! beside them where that leaves one solution.

use std::collections::HashSet;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Cage, Killer, KillerError, touch};
use crate::grid::Dihedral;
use crate::puzzles::sudoku::generator::full_grid;
use crate::puzzles::sudoku::{Board, Geometry};
use crate::random::{self, Purpose, stream};

/// Nodes of a search after which a puzzle counts as not yet unique.
const MAX_NODES: u64 = 2_000;

/// A generated puzzle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The puzzle; exactly one solution.
    pub puzzle: Killer,
    /// Its solution.
    pub solution: Board,
}

/// Generates puzzles: number `index` is a pure function of geometry, seed, cage size and index.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    geometry: Geometry,
    seed: u64,
    largest: usize,
}

impl Generator {
    /// A generator of puzzles with cages of up to five cells.
    ///
    /// # Errors
    /// [`KillerError::Geometry`] if the board is larger than 9x9.
    pub fn new(geometry: Geometry, seed: u64) -> Result<Self, KillerError> {
        super::check(geometry)?;
        Ok(Self { geometry, seed, largest: 5 })
    }

    /// Starts from cages of up to `cells` cells (1 to the side of the board).
    #[must_use]
    pub fn with_largest_cage(mut self, cells: usize) -> Self {
        self.largest = cells.clamp(1, self.geometry.side());
        self
    }

    /// Puzzle number `index`.
    pub fn generate(&self, index: u64) -> Generated {
        let mut rng = stream(self.seed, Purpose::Generate, index, 4);
        let solution = full_grid(self.geometry, rng.next_u64());
        let mut parts = self.divide(&solution, &mut rng);
        loop {
            let puzzle = self.puzzle(&solution, &parts);
            let search = puzzle.search(2, MAX_NODES);
            if search.is_unique() == Some(true) {
                let puzzle = self.join_singles(&solution, parts, &mut rng).unwrap_or(puzzle);
                return Generated { puzzle, solution };
            }
            // Cages in which two solutions differ, or without them any; of these the largest.
            let differ = |cell: usize| match (&search.first, &search.second) {
                (Some(a), Some(b)) => a.cells()[cell] != b.cells()[cell],
                _ => true,
            };
            let candidates =
                (0..parts.len()).filter(|&i| parts[i].len() > 1 && parts[i].iter().any(|&cell| differ(cell)));
            let most = candidates.clone().map(|i| parts[i].len()).max().unwrap_or(0);
            let candidates: Vec<usize> = candidates.filter(|&i| parts[i].len() == most).collect();
            let Some(&chosen) = candidates.get(random::below(&mut rng, candidates.len() as u32) as usize)
            else {
                // Only cells on their own are left, so the puzzle is its solution.
                return Generated { puzzle, solution };
            };
            let halves = self.halve(&parts.swap_remove(chosen), &mut rng);
            parts.extend(halves);
        }
    }

    /// Puzzles number `indices`, on all threads of the pool.
    pub fn generate_many(&self, indices: std::ops::Range<u64>) -> Vec<Generated> {
        indices.into_par_iter().map(|index| self.generate(index)).collect()
    }

    /// Cells on their own, whose digit is given away, join a cage beside them where the solution stays the only one. The puzzle
    /// that results, if any did.
    fn join_singles(
        &self,
        solution: &Board,
        mut parts: Vec<Vec<usize>>,
        rng: &mut ChaCha8Rng,
    ) -> Option<Killer> {
        let side = self.geometry.side();
        let mut joined = None;
        let singles: Vec<usize> = parts.iter().filter(|part| part.len() == 1).map(|part| part[0]).collect();
        for index in random::permutation(rng, singles.len()) {
            let cell = singles[index as usize];
            let digit = |cell: usize| solution.cells()[cell];
            let fits = |part: &Vec<usize>| {
                part.len() < self.largest
                    && part.iter().any(|&other| touch(side, cell, other))
                    && part.iter().all(|&other| digit(other) != digit(cell))
            };
            for choice in random::permutation(rng, parts.len()) {
                // It may be in company by now.
                let Some(own) = parts.iter().position(|part| *part == [cell]) else { break };
                let Some(part) = parts.get(choice as usize).filter(|part| fits(part)) else { continue };
                let mut larger = part.clone();
                larger.push(cell);
                let mut trial = parts.clone();
                trial[choice as usize] = larger;
                trial.swap_remove(own);
                let puzzle = self.puzzle(solution, &trial);
                if puzzle.search(2, MAX_NODES).is_unique() == Some(true) {
                    parts = trial;
                    joined = Some(puzzle);
                    break;
                }
            }
        }
        joined
    }

    fn puzzle(&self, solution: &Board, parts: &[Vec<usize>]) -> Killer {
        let sum = |cells: &Vec<usize>| cells.iter().map(|&cell| u32::from(solution.cells()[cell])).sum();
        let cage = |cells: &Vec<usize>| Cage { cells: cells.clone(), sum: sum(cells) };
        Killer::of_cages(self.geometry, parts.iter().map(cage).collect())
    }

    /// Cages that grow from random cells to random sizes; their digits differ.
    fn divide(&self, solution: &Board, rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
        let side = self.geometry.side();
        let mut free = vec![true; self.geometry.cells()];
        let mut parts = Vec::new();
        for start in random::permutation(rng, free.len()) {
            let start = start as usize;
            if !std::mem::take(&mut free[start]) {
                continue;
            }
            let mut part = vec![start];
            // A cage of one cell gives its digit away: they come only where nothing is left to grow into, or are asked for.
            let least = 2.min(self.largest);
            let size = least + random::below(rng, (self.largest - least + 1) as u32) as usize;
            while part.len() < size {
                let used: u32 = part.iter().map(|&cell| 1 << solution.cells()[cell]).sum();
                let fits = |&cell: &usize| {
                    free[cell]
                        && used & (1 << solution.cells()[cell]) == 0
                        && part.iter().any(|&inside| touch(side, inside, cell))
                };
                let next: Vec<usize> = (0..free.len()).filter(fits).collect();
                let Some(&cell) = next.get(random::below(rng, next.len() as u32) as usize) else { break };
                free[cell] = false;
                part.push(cell);
            }
            parts.push(part);
        }
        parts
    }

    /// Two connected parts of a cage: a random spanning tree without one of its edges.
    fn halve(&self, cage: &[usize], rng: &mut ChaCha8Rng) -> [Vec<usize>; 2] {
        let side = self.geometry.side();
        let mut order = cage.to_vec();
        random::shuffle(rng, &mut order);
        // Each cell after the first, with the one it grew from.
        let mut tree = vec![(order[0], order[0])];
        while tree.len() < order.len() {
            let known = |cell: usize| tree.iter().any(|&(inside, _)| inside == cell);
            let edge = order.iter().filter(|&&cell| !known(cell)).find_map(|&cell| {
                let from = tree.iter().find(|&&(inside, _)| touch(side, inside, cell))?;
                Some((cell, from.0))
            });
            let Some(edge) = edge else { break };
            tree.push(edge);
        }
        let cut = 1 + random::below(rng, (tree.len() - 1).max(1) as u32) as usize;
        let mut second: Vec<usize> = tree.get(cut).map(|&(cell, _)| cell).into_iter().collect();
        for &(cell, from) in tree.iter().skip(cut + 1) {
            if second.contains(&from) {
                second.push(cell);
            }
        }
        let first = cage.iter().copied().filter(|cell| !second.contains(cell)).collect();
        [first, second]
    }
}

/// Puzzles for training and for testing, none of them equal to another up to the symmetries of the board (turned and mirrored
/// boards).
///
/// If a small board has not that many puzzles, the lists are shorter.
pub fn generate_split(generator: &Generator, train: usize, test: usize) -> (Vec<Generated>, Vec<Generated>) {
    let wanted = train.saturating_add(test);
    let mut seen = HashSet::new();
    let mut kept: Vec<Generated> = Vec::new();
    let mut next = 0u64;
    // A board that yields nothing new in this many tries has no more.
    let mut idle = 0;
    while kept.len() < wanted && idle < 10 {
        let block = (wanted - kept.len()).clamp(16, 4096) as u64;
        let before = kept.len();
        for made in generator.generate_many(next..next + block) {
            if kept.len() < wanted && seen.insert(made.puzzle.canonical()) {
                kept.push(made);
            }
        }
        next += block;
        idle = if kept.len() == before { idle + 1 } else { 0 };
    }
    let test = kept.split_off(train.min(kept.len()));
    (kept, test)
}

impl Killer {
    /// The image under a symmetry of the square. Where boxes are not square, only those that keep rectangles make sense.
    pub(super) fn transformed(&self, symmetry: Dihedral) -> Self {
        let side = self.geometry.side();
        let image = |&cell: &usize| {
            let (row, col) = symmetry.destination(side, side, cell / side, cell % side);
            row * side + col
        };
        let mut cages = self.cages.clone();
        for cage in &mut cages {
            cage.cells = cage.cells.iter().map(image).collect();
        }
        Self::new(self.geometry, cages).unwrap_or_else(|_| self.clone())
    }

    /// The symmetries of a board's shape.
    pub(super) const fn symmetries(geometry: Geometry) -> &'static [Dihedral] {
        if geometry.is_square() { &Dihedral::ALL } else { &Dihedral::OF_RECTANGLE }
    }

    /// The smallest image under the symmetries of the board: equal for puzzles that are the same but for these.
    pub fn canonical(&self) -> Self {
        let images = Self::symmetries(self.geometry).iter().map(|&symmetry| self.transformed(symmetry));
        images.min().unwrap_or_else(|| self.clone())
    }
}
