//! Killer Sudoku: a Sudoku without givens, its cells divided into cages. The digits of a cage differ, and their sum is given.
//!
//! # Text
//! One letter for each cell, row by row, then the sum of each cage. A cage is a connected region of one letter (letters may be
//! used again for cages that do not touch), and sums stand in the order of the cages' first cells. Line ends, spaces, commas
//! and semicolons separate and mean nothing else:
//!
//! ```text
//! AABB
//! CABD
//! CCDD
//! AAAD
//! 7 6 8 10 6
//! ```

pub mod draw;
mod generator;
mod task;
mod text;

use std::fmt;

use thiserror::Error;

pub use generator::{Generated, Generator, generate_split};
pub use task::KillerTask;

use super::engine::{Engine, Order, Search, Sum};
use crate::puzzles::sudoku::{Board, Geometry, Unit};

/// The largest side: sums of a cage fit a table.
pub const MAX_SIDE: usize = 9;

/// Cells whose digits differ and add up to a sum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cage {
    /// The cells, counted row by row from 0, in order.
    pub cells: Vec<usize>,
    /// The sum of their digits.
    pub sum: u32,
}

/// A puzzle: cages that divide a board.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Killer {
    geometry: Geometry,
    /// In the order of their first cells.
    cages: Vec<Cage>,
    /// The cage of each cell.
    cage_of: Vec<u8>,
}

/// Why there is no such puzzle, or a board does not solve it. Rows, columns and cages are counted from 1, cages in the order of
/// their first cells.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KillerError {
    /// A board too large.
    #[error("expected a board of at most {MAX_SIDE}x{MAX_SIDE}, got {got}")]
    Geometry {
        /// The board.
        got: Geometry,
    },
    /// A number of letters that fits no board.
    #[error(
        "expected a letter for each of 16 (4x4), 36 (6x6), 64 (8x8) or 81 (9x9) cells, got {got} letters"
    )]
    Cells {
        /// Letters found.
        got: usize,
    },
    /// A character that means nothing.
    #[error("line {line}, character {column}: expected {expected}, got {got:?}")]
    Character {
        /// Line, 1-based.
        line: usize,
        /// Character in the line, 1-based.
        column: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        got: String,
    },
    /// More or fewer sums than cages.
    #[error(
        "expected {expected} sums, one for each connected region of a letter in the order of first cells, got {got}"
    )]
    Sums {
        /// Cages.
        expected: usize,
        /// Sums.
        got: usize,
    },
    /// Cages that do not divide the board, or that no digits fill.
    #[error("{0}")]
    Cages(String),
}

/// That a board is not too large.
const fn check(geometry: Geometry) -> Result<(), KillerError> {
    if geometry.side() > MAX_SIDE { Err(KillerError::Geometry { got: geometry }) } else { Ok(()) }
}

impl Killer {
    /// A puzzle from its cages, in any order.
    ///
    /// # Errors
    /// [`KillerError`] unless the cages divide the board into connected parts of at most `side` cells, with sums that
    /// different digits can have.
    pub fn new(geometry: Geometry, mut cages: Vec<Cage>) -> Result<Self, KillerError> {
        let (side, cells) = (geometry.side(), geometry.cells());
        check(geometry)?;
        cages.retain(|cage| !cage.cells.is_empty());
        cages.iter_mut().for_each(|cage| cage.cells.sort_unstable());
        cages.sort();
        let fail = |why: String| Err(KillerError::Cages(why));
        let mut seen = vec![0; cells];
        for (index, cage) in cages.iter().enumerate() {
            for &cell in &cage.cells {
                match seen.get_mut(cell) {
                    Some(seen) => *seen += 1,
                    None => {
                        return fail(format!("cage {}: expected cells below {cells}, got {cell}", index + 1));
                    }
                }
            }
        }
        if let Some(cell) = seen.iter().position(|&n| n != 1) {
            let (row, column) = (cell / side + 1, cell % side + 1);
            return fail(format!("row {row}, column {column}: expected one cage, got {}", seen[cell]));
        }
        for (index, Cage { cells, sum }) in cages.iter().enumerate() {
            let (cage, n) = (index + 1, cells.len());
            let at = format!("at row {}, column {}", cells[0] / side + 1, cells[0] % side + 1);
            if n > side {
                return fail(format!("cage {cage} ({at}): expected at most {side} cells, got {n}"));
            }
            let parts = regions(side, cells, |_, _| true).len();
            if parts > 1 {
                return fail(format!("cage {cage}: expected cells that are connected, got {parts} parts"));
            }
            let (least, most) = (n * (n + 1) / 2, n * (2 * side + 1 - n) / 2);
            if !(least..=most).contains(&(*sum as usize)) {
                return fail(format!(
                    "cage {cage} ({at}): {n} different digits have a sum of {least} to {most}, got {sum}"
                ));
            }
        }
        Ok(Self::of_cages(geometry, cages))
    }

    /// A puzzle of cages that are right.
    fn of_cages(geometry: Geometry, mut cages: Vec<Cage>) -> Self {
        cages.iter_mut().for_each(|cage| cage.cells.sort_unstable());
        cages.sort();
        let mut cage_of = vec![0; geometry.cells()];
        for (index, cage) in cages.iter().enumerate() {
            cage.cells.iter().for_each(|&cell| cage_of[cell] = index as u8);
        }
        Self { geometry, cages, cage_of }
    }

    /// The shape of the board.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The cages, in the order of their first cells.
    pub fn cages(&self) -> &[Cage] {
        &self.cages
    }

    /// The cage of a cell, as an index; `None` outside of the board.
    pub fn cage_of(&self, cell: usize) -> Option<usize> {
        self.cage_of.get(cell).map(|&cage| usize::from(cage))
    }

    /// What keeps a board from being a solution, in words; empty for a solution. Rows and columns are counted from 1.
    pub fn faults(&self, board: &Board) -> Vec<String> {
        if board.geometry() != self.geometry {
            return vec![format!("expected a board of {}, got {}", self.geometry, board.geometry())];
        }
        let side = self.geometry.side();
        let place = |cell: usize| format!("row {}, column {}", cell / side + 1, cell % side + 1);
        let mut faults: Vec<String> = board.violations().iter().map(ToString::to_string).collect();
        for Cage { cells, sum } in &self.cages {
            let digits: Vec<u8> = cells.iter().map(|&cell| board.cells()[cell]).collect();
            if let Some(blank) = digits.iter().position(|&digit| digit == 0) {
                faults.push(format!("{} is blank", place(cells[blank])));
                continue;
            }
            let at = place(cells[0]);
            let got: u32 = digits.iter().map(|&digit| u32::from(digit)).sum();
            if got != *sum {
                faults.push(format!("the cage at {at}: expected a sum of {sum}, got {got}"));
            }
            let mut sorted = digits;
            sorted.sort_unstable();
            if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                faults.push(format!("the cage at {at}: value {} stands twice", twice[0]));
            }
        }
        faults
    }

    /// Searches exactly, until `limit` solutions are found, `max_nodes` states were propagated (`u64::MAX` for as long as it
    /// takes), or there are no more solutions.
    pub fn search(&self, limit: u64, max_nodes: u64) -> Search<Board> {
        self.search_in_order(limit, max_nodes, Order::Ascending)
    }

    /// The same search with an opinion: at each guess the digits of the cell are tried by `weight`, of a digit in a cell, the
    /// greatest first.
    pub fn search_preferring(
        &self,
        limit: u64,
        max_nodes: u64,
        weight: &dyn Fn(usize, u8) -> f32,
    ) -> Search<Board> {
        self.search_in_order(limit, max_nodes, Order::Preferring(weight))
    }

    fn search_in_order(&self, limit: u64, max_nodes: u64, order: Order<'_>) -> Search<Board> {
        let blank = vec![0; self.geometry.cells()];
        self.engine()
            .search(&blank, None, (limit, max_nodes), order)
            .map(|cells| Board::from_trusted(self.geometry, cells))
    }

    /// The rules of the board, the cages, and what follows for their overlaps with rows, columns and boxes.
    fn engine(&self) -> Engine {
        let geometry = self.geometry;
        let side = geometry.side();
        let narrow = |cells: &[usize]| cells.iter().map(|&cell| cell as u16).collect::<Vec<u16>>();
        let units: Vec<Vec<u16>> = geometry.units().map(|unit| narrow(&geometry.unit_cells(unit))).collect();
        let mut sums: Vec<Sum> = self
            .cages
            .iter()
            .map(|cage| Sum { cells: narrow(&cage.cells), sum: cage.sum, distinct: true })
            .collect();
        // A stripe of rows or columns, or a box, has a known sum. So have its cells that are in no cage within it, and the
        // cells outside of it of cages that reach into it.
        let stripes = (0..side).flat_map(|first| (first..side).map(move |last| first..=last));
        let mut areas: Vec<Vec<usize>> = Vec::new();
        for stripe in stripes.filter(|stripe| stripe.clone().count() < side) {
            areas.push(stripe.clone().flat_map(|row| geometry.unit_cells(Unit::Row(row))).collect());
            areas.push(stripe.flat_map(|col| geometry.unit_cells(Unit::Column(col))).collect());
        }
        areas.extend((0..side).map(|index| geometry.unit_cells(Unit::Box(index))));
        for area in areas {
            let mut inside = vec![false; geometry.cells()];
            area.iter().for_each(|&cell| inside[cell] = true);
            let total = (area.len() * (side + 1) / 2) as u32;
            let (mut within, mut touching) = (0, 0);
            let (mut innies, mut outies) = (Vec::new(), Vec::new());
            for cage in &self.cages {
                let (here, there): (Vec<usize>, Vec<usize>) =
                    cage.cells.iter().copied().partition(|&cell| inside[cell]);
                match (here.is_empty(), there.is_empty()) {
                    (false, true) => (within, touching) = (within + cage.sum, touching + cage.sum),
                    (false, false) => {
                        touching += cage.sum;
                        innies.extend(here);
                        outies.extend(there);
                    }
                    _ => {}
                }
            }
            let differences = [(innies, total.checked_sub(within)), (outies, touching.checked_sub(total))];
            for (mut cells, sum) in differences {
                cells.sort_unstable();
                let distinct = units.iter().any(|unit| cells.iter().all(|&c| unit.contains(&(c as u16))));
                let known = sums.iter().any(|s| s.cells == narrow(&cells));
                if !cells.is_empty() && !known && cells.len() <= if distinct { 5 } else { 3 } {
                    // A negative sum cannot be reached, and the search will find out from one that is too large.
                    let sum = sum.unwrap_or(u32::from(u16::MAX));
                    sums.push(Sum { cells: narrow(&cells), sum, distinct });
                }
            }
        }
        Engine::new(side, geometry.cells(), units, sums)
    }
}

/// Cells joined to regions: neighbours belong together if `same` says so.
fn regions(side: usize, cells: &[usize], same: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = cells.to_vec();
    let mut all = Vec::new();
    while let Some(first) = left.first().copied() {
        left.remove(0);
        let mut region = vec![first];
        let mut next = 0;
        while let Some(&cell) = region.get(next) {
            next += 1;
            let (joined, others): (Vec<usize>, Vec<usize>) =
                left.iter().copied().partition(|&other| touch(side, cell, other) && same(cell, other));
            region.extend(joined);
            left = others;
        }
        region.sort_unstable();
        all.push(region);
    }
    all
}

/// Whether two cells share an edge.
const fn touch(side: usize, a: usize, b: usize) -> bool {
    (a / side).abs_diff(b / side) + (a % side).abs_diff(b % side) == 1
}

impl fmt::Display for Killer {
    /// The text form, a line for each row and one for the sums.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f, "\n")
    }
}

#[cfg(test)]
mod tests;
