//! Samurai Sudoku (Gattai-5): five boards of 9x9 on a canvas of 21x21; each corner board shares a box with the middle one.
//!
//! # Text
//! 21 lines of 21 characters: digits, `.` or `0` for blanks, `#` for cells outside of the boards. Spaces may stand for `#` where
//! the lines are kept as they are. All 441 characters may also stand on one line.

pub mod draw;
mod generator;
mod task;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use thiserror::Error;

pub use generator::{Generated, Generator};
pub use task::SamuraiTask;

use super::engine::{Engine, Order, Search};
use crate::puzzles::sudoku::{Board, Geometry, Violation};

/// Rows and columns of the canvas.
pub const SIDE: usize = 21;
/// Cells of the canvas, those outside of the boards included.
pub const CELLS: usize = SIDE * SIDE;
/// Cells of the boards.
pub const BOARD_CELLS: usize = 369;

/// Name and upper left corner (row, column) of each board.
const BOARDS: [(&str, (usize, usize)); 5] = [
    ("upper left", (0, 0)),
    ("upper right", (0, 12)),
    ("middle", (6, 6)),
    ("lower left", (12, 0)),
    ("lower right", (12, 12)),
];

/// Whether a cell of the canvas (0-based) belongs to a board.
pub const fn is_inside(row: usize, col: usize) -> bool {
    let corner = !matches!(row, 9..=11) && !matches!(col, 9..=11);
    let middle = matches!(row, 6..=14) && matches!(col, 6..=14);
    row < SIDE && col < SIDE && (corner || middle)
}

/// A puzzle or an answer: digits 1 to 9 and blanks on the canvas.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Samurai {
    /// 0 for blank cells and those outside. `[441]`
    cells: Vec<u8>,
}

/// Why there is no such puzzle. Rows, columns, lines and characters are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SamuraiError {
    /// Another number of lines.
    #[error("expected 21 lines (or one of 441 characters), got {got}{}", if *got == 1 { format!(" of {first} characters") } else { String::new() })]
    Lines {
        /// Lines.
        got: usize,
        /// Characters of the first.
        first: usize,
    },
    /// A line of another length.
    #[error("line {line}: expected {SIDE} characters, got {got}")]
    Length {
        /// The line.
        line: usize,
        /// Its characters.
        got: usize,
    },
    /// A character that does not belong where it stands.
    #[error("row {row}, column {column}: expected {expected}, got {got:?}")]
    Character {
        /// The row of the canvas.
        row: usize,
        /// The column of the canvas.
        column: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        got: char,
    },
    /// Another number of cells.
    #[error("expected {CELLS} cells, got {got}")]
    Cells {
        /// Cells given.
        got: usize,
    },
    /// A value that is no digit, or stands outside of the boards.
    #[error("row {row}, column {column}: expected {expected}, got {got}")]
    Value {
        /// The row of the canvas.
        row: usize,
        /// The column of the canvas.
        column: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        got: u8,
    },
    /// Digits that contradict each other.
    #[error("the boards break the rules: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Conflict(Vec<Conflict>),
}

/// A digit that stands twice, on one of the five boards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The board: upper left, upper right, middle, lower left, lower right.
    pub board: usize,
    /// Where on the board.
    pub violation: Violation,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = BOARDS.get(self.board).map_or("?", |(name, _)| name);
        write!(f, "{name} board: {}", self.violation)
    }
}

impl Samurai {
    /// Boards without digits.
    pub fn empty() -> Self {
        Self { cells: vec![0; CELLS] }
    }

    /// Boards from the cells of the canvas, 0 for blank cells and those outside. `[441]`
    ///
    /// # Errors
    /// [`SamuraiError`] for another number of cells, or a value that may not stand where it does. The rules are not checked:
    /// see [`Samurai::validate`].
    pub fn from_cells(cells: Vec<u8>) -> Result<Self, SamuraiError> {
        if cells.len() != CELLS {
            return Err(SamuraiError::Cells { got: cells.len() });
        }
        for (cell, &got) in cells.iter().enumerate() {
            let (row, col) = (cell / SIDE, cell % SIDE);
            let (most, expected) = if is_inside(row, col) {
                (9, "a digit, or 0 for blank")
            } else {
                (0, "0 outside of the boards")
            };
            if got > most {
                return Err(SamuraiError::Value { row: row + 1, column: col + 1, expected, got });
            }
        }
        Ok(Self { cells })
    }

    /// The cells of the canvas row by row, 0 for blank cells and those outside. `[441]`
    pub fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// One of the five boards: upper left, upper right, middle, lower left, lower right; empty for another number.
    pub fn board(&self, board: usize) -> Board {
        let cells = canvas_cells(board).map(|cell| self.cells[cell]).collect();
        Board::from_cells(Geometry::S9, cells).unwrap_or_else(|_| Board::empty(Geometry::S9))
    }

    /// Row and column of the canvas (0-based) at which a board starts; (0, 0) for a number that is no board.
    pub(crate) const fn corner(board: usize) -> (usize, usize) {
        if board < BOARDS.len() { BOARDS[board].1 } else { (0, 0) }
    }

    /// Number of digits.
    pub fn clues(&self) -> usize {
        self.cells.iter().filter(|&&digit| digit != 0).count()
    }

    /// Every digit that stands more than once in a row, column or box of a board. What happens in a shared box is told for both
    /// of its boards.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let of = |board| {
            self.board(board).violations().into_iter().map(move |violation| Conflict { board, violation })
        };
        (0..BOARDS.len()).flat_map(of).collect()
    }

    /// Checks the rules. Blank cells are fine.
    ///
    /// # Errors
    /// [`SamuraiError::Conflict`] with every conflict.
    pub fn validate(&self) -> Result<(), SamuraiError> {
        let conflicts = self.conflicts();
        if conflicts.is_empty() { Ok(()) } else { Err(SamuraiError::Conflict(conflicts)) }
    }

    /// Whether all boards are full and keep the rules.
    pub fn is_solved(&self) -> bool {
        (0..BOARDS.len()).all(|board| self.board(board).is_solved())
    }

    /// Whether this is solved and keeps every given of `puzzle`.
    pub fn is_solution_of(&self, puzzle: &Self) -> bool {
        self.is_solved() && self.cells.iter().zip(&puzzle.cells).all(|(a, given)| *given == 0 || a == given)
    }

    /// The 441 characters on one line.
    pub fn to_line(&self) -> String {
        (0..CELLS).map(|cell| self.symbol(cell)).collect()
    }

    fn symbol(&self, cell: usize) -> char {
        match self.cells[cell] {
            0 if is_inside(cell / SIDE, cell % SIDE) => '.',
            0 => '#',
            digit => char::from(b'0' + digit),
        }
    }

    /// Searches exactly, until `limit` solutions are found, `max_nodes` states were propagated (`u64::MAX` for as long as it
    /// takes), or there are no more solutions.
    pub fn search(&self, limit: u64, max_nodes: u64) -> Search<Self> {
        self.search_with(None, limit, max_nodes, Order::Ascending)
    }

    /// The same search with an opinion: at each guess the digits of the cell are tried by `weight`, of a digit in a cell of the
    /// canvas, the greatest first.
    pub fn search_preferring(
        &self,
        limit: u64,
        max_nodes: u64,
        weight: &dyn Fn(usize, u8) -> f32,
    ) -> Search<Self> {
        let weight = |cell: usize, digit| weight(INSIDE[cell], digit);
        self.search_with(None, limit, max_nodes, Order::Preferring(&weight))
    }

    /// The same, with a digit that a cell of the canvas may not hold.
    fn search_with(
        &self,
        without: Option<(usize, u8)>,
        limit: u64,
        max_nodes: u64,
        order: Order<'_>,
    ) -> Search<Self> {
        let cells: Vec<u8> = INSIDE.iter().map(|&cell| self.cells[cell]).collect();
        let without = without.and_then(|(cell, digit)| Some((INSIDE.binary_search(&cell).ok()?, digit)));
        ENGINE.search(&cells, without, (limit, max_nodes), order).map(|digits| {
            let mut cells = vec![0; CELLS];
            for (&cell, digit) in INSIDE.iter().zip(digits) {
                cells[cell] = digit;
            }
            Self { cells }
        })
    }
}

/// The cells of the canvas that belong to boards, in order.
static INSIDE: LazyLock<Vec<usize>> =
    LazyLock::new(|| (0..CELLS).filter(|cell| is_inside(cell / SIDE, cell % SIDE)).collect());

/// The rules of the five boards, on the cells of [`INSIDE`].
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut units: Vec<Vec<u16>> = Vec::new();
    for board in 0..BOARDS.len() {
        let cells: Vec<usize> = canvas_cells(board).collect();
        for unit in Geometry::S9.units() {
            let unit = Geometry::S9.unit_cells(unit).into_iter();
            let unit: Vec<u16> =
                unit.filter_map(|cell| INSIDE.binary_search(&cells[cell]).ok()).map(|c| c as u16).collect();
            // A shared box belongs to two boards.
            if !units.contains(&unit) {
                units.push(unit);
            }
        }
    }
    Engine::new(9, INSIDE.len(), units, Vec::new())
});

/// The cells of the canvas that a board has, in the order of the board.
fn canvas_cells(board: usize) -> impl Iterator<Item = usize> {
    let corner = BOARDS.get(board).map(|&(_, corner)| corner);
    corner.into_iter().flat_map(|(top, left)| (0..81).map(move |i| (top + i / 9) * SIDE + left + i % 9))
}

impl fmt::Display for Samurai {
    /// 21 lines of 21 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cell in 0..CELLS {
            if cell > 0 && cell.is_multiple_of(SIDE) {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.symbol(cell))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Samurai {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Samurai({})", self.to_line())
    }
}

impl FromStr for Samurai {
    type Err = SamuraiError;

    fn from_str(text: &str) -> Result<Self, SamuraiError> {
        let text = text.trim_start_matches('\u{feff}').trim_matches(['\n', '\r']);
        let drawn = undrawn(text);
        let lines: Vec<&str> = drawn.as_deref().unwrap_or(text).lines().collect();
        let mut cells = Vec::with_capacity(CELLS);
        let length = |line: &str| line.chars().count();
        let first = lines.first().map_or(0, |line| length(line));
        match lines.as_slice() {
            [line] if length(line) == CELLS => {
                for character in line.chars() {
                    push(&mut cells, character)?;
                }
            }
            lines if lines.len() == SIDE => {
                for (row, line) in lines.iter().enumerate() {
                    // What an editor cut from the end of a line were spaces.
                    let missing = SIDE.saturating_sub(length(line));
                    if length(line) > SIDE || (SIDE - missing..SIDE).any(|col| is_inside(row, col)) {
                        return Err(SamuraiError::Length { line: row + 1, got: length(line) });
                    }
                    for character in line.chars().chain(std::iter::repeat_n('#', missing)) {
                        push(&mut cells, character)?;
                    }
                }
            }
            lines => return Err(SamuraiError::Lines { got: lines.len(), first }),
        }
        Self::from_cells(cells)
    }
}

/// The plain lines of a drawing, in which a cell is a character and its mark, with a space before every third.
fn undrawn(text: &str) -> Option<String> {
    let is_drawn =
        |line: &str| line.chars().count() > SIDE && line.chars().nth(1).is_some_and(|c| " !".contains(c));
    if text.lines().count() != SIDE || !text.lines().any(is_drawn) {
        return None;
    }
    let line =
        |line: &str| (0..SIDE).filter_map(|col| line.chars().nth(2 * col + col / 3)).collect::<String>();
    Some(text.lines().map(line).collect::<Vec<_>>().join("\n"))
}

/// The next cell from its character.
fn push(cells: &mut Vec<u8>, got: char) -> Result<(), SamuraiError> {
    let (row, col) = (cells.len() / SIDE, cells.len() % SIDE);
    let (inside, expected) = match is_inside(row, col) {
        true => (true, "a digit, or `.` for blank"),
        false => (false, "`#` outside of the boards"),
    };
    cells.push(match got {
        '.' | '0' if inside => 0,
        '1'..='9' if inside => got as u8 - b'0',
        '#' | ' ' if !inside => 0,
        _ => return Err(SamuraiError::Character { row: row + 1, column: col + 1, expected, got }),
    });
    Ok(())
}

#[cfg(test)]
mod tests;
