//! A Sudoku board of any box size, and the rules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::parse::{self, Notation};

/// The largest side supported: 25x25, the largest for which a value is one character (1-9, A-P).
pub const MAX_SIDE: usize = 25;

/// The shape of a Sudoku: boxes of `box_rows` x `box_cols` cells, on a board whose side is their product.
///
/// There are `box_cols` bands (horizontal strips of boxes) and `box_rows` stacks (vertical strips).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "RawGeometry")]
pub struct Geometry {
    box_rows: u8,
    box_cols: u8,
}

#[derive(Deserialize)]
struct RawGeometry {
    box_rows: usize,
    box_cols: usize,
}

impl TryFrom<RawGeometry> for Geometry {
    type Error = BoardError;

    fn try_from(raw: RawGeometry) -> Result<Self, BoardError> {
        Self::new(raw.box_rows, raw.box_cols)
    }
}

impl Geometry {
    /// 4x4 with 2x2 boxes.
    pub const S4: Self = Self { box_rows: 2, box_cols: 2 };
    /// 6x6 with boxes of 2 rows and 3 columns.
    pub const S6: Self = Self { box_rows: 2, box_cols: 3 };
    /// The usual 9x9.
    pub const S9: Self = Self { box_rows: 3, box_cols: 3 };
    /// 16x16 with 4x4 boxes.
    pub const S16: Self = Self { box_rows: 4, box_cols: 4 };
    /// Boxes of `box_rows` x `box_cols` cells.
    ///
    /// # Errors
    /// [`BoardError::Geometry`] unless both are at least 2 and their product is at most [`MAX_SIDE`].
    pub const fn new(box_rows: usize, box_cols: usize) -> Result<Self, BoardError> {
        if box_rows < 2
            || box_cols < 2
            || box_rows > MAX_SIDE
            || box_cols > MAX_SIDE
            || box_rows * box_cols > MAX_SIDE
        {
            return Err(BoardError::Geometry { box_rows, box_cols });
        }
        Ok(Self { box_rows: box_rows as u8, box_cols: box_cols as u8 })
    }

    /// The usual boxes for a side: as square as they can be, wider than high (6 -> 2x3, 12 -> 3x4).
    ///
    /// # Errors
    /// [`BoardError::Side`] if the side is prime, below 4 or above [`MAX_SIDE`].
    pub fn from_side(side: usize) -> Result<Self, BoardError> {
        if !(4..=MAX_SIDE).contains(&side) {
            return Err(BoardError::Side { side });
        }
        let box_rows = (2..=side).take_while(|d| d * d <= side).filter(|&d| side.is_multiple_of(d)).last();
        match box_rows {
            Some(box_rows) => Self::new(box_rows, side / box_rows),
            None => Err(BoardError::Side { side }),
        }
    }

    /// The geometry whose board has `cells` cells (16, 36, 81, 256, ...), if there is one.
    pub fn from_cells(cells: usize) -> Option<Self> {
        let side = (4..=MAX_SIDE).find(|side| side * side == cells)?;
        Self::from_side(side).ok()
    }

    /// Rows of one box.
    pub const fn box_rows(self) -> usize {
        self.box_rows as usize
    }

    /// Columns of one box.
    pub const fn box_cols(self) -> usize {
        self.box_cols as usize
    }

    /// Rows, columns, boxes and values of the board.
    pub const fn side(self) -> usize {
        self.box_rows() * self.box_cols()
    }

    /// Number of cells, `side * side`.
    pub const fn cells(self) -> usize {
        self.side() * self.side()
    }

    /// Number of bands, the horizontal strips of boxes.
    pub const fn bands(self) -> usize {
        self.box_cols()
    }

    /// Number of stacks, the vertical strips of boxes.
    pub const fn stacks(self) -> usize {
        self.box_rows()
    }

    /// Whether boxes are square, so that transposition is a symmetry.
    pub const fn is_square(self) -> bool {
        self.box_rows == self.box_cols
    }

    /// The box (0-based, row-major) of the cell at `row`, `col` (0-based).
    pub const fn box_of(self, row: usize, col: usize) -> usize {
        (row / self.box_rows()) * self.stacks() + col / self.box_cols()
    }

    /// The cells of a unit in board order, as indices into [`Board::cells`]; empty if there is no such unit.
    pub fn unit_cells(self, unit: Unit) -> Vec<usize> {
        let side = self.side();
        let (Unit::Row(n) | Unit::Column(n) | Unit::Box(n)) = unit;
        if n >= side {
            return Vec::new();
        }
        match unit {
            Unit::Row(r) => (0..side).map(|c| r * side + c).collect(),
            Unit::Column(c) => (0..side).map(|r| r * side + c).collect(),
            Unit::Box(b) => {
                let top = (b / self.stacks()) * self.box_rows();
                let left = (b % self.stacks()) * self.box_cols();
                (0..side).map(|i| (top + i / self.box_cols()) * side + left + i % self.box_cols()).collect()
            }
        }
    }

    /// All rows, then all columns, then all boxes.
    pub fn units(self) -> impl Iterator<Item = Unit> {
        let side = self.side();
        (0..side).map(Unit::Row).chain((0..side).map(Unit::Column)).chain((0..side).map(Unit::Box))
    }
}

impl Geometry {
    /// The cells that share a unit with each cell, in order.
    pub fn peers(self) -> Vec<Vec<usize>> {
        let mut peers = vec![Vec::new(); self.cells()];
        for cells in self.units().map(|unit| self.unit_cells(unit)) {
            for &cell in &cells {
                peers[cell].extend(cells.iter().copied().filter(|&other| other != cell));
            }
        }
        for of in &mut peers {
            of.sort_unstable();
            of.dedup();
        }
        peers
    }

    /// The units of each cell, numbered as [`Geometry::units`] gives them: row, column and box.
    pub(crate) fn units_of_cells(self) -> Vec<[usize; 3]> {
        let mut of = vec![[0; 3]; self.cells()];
        for (number, unit) in self.units().enumerate() {
            for cell in self.unit_cells(unit) {
                of[cell][number / self.side()] = number;
            }
        }
        of
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{0}x{0} with {1}x{2} boxes", self.side(), self.box_rows, self.box_cols)
    }
}

/// A row, column or box by its 0-based number. Displayed with its 1-based number: `row 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A row, from the top.
    Row(usize),
    /// A column, from the left.
    Column(usize),
    /// A box, row-major.
    Box(usize),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(n) => write!(f, "row {}", n + 1),
            Self::Column(n) => write!(f, "column {}", n + 1),
            Self::Box(n) => write!(f, "box {}", n + 1),
        }
    }
}

/// A value that stands more than once in a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The value in conflict, 1-based.
    pub value: u8,
    /// Where it stands more than once.
    pub unit: Unit,
    /// The cells (row, column), 0-based, in board order; at least two.
    pub cells: Vec<(usize, usize)>,
}

impl fmt::Display for Violation {
    /// `value 5 stands twice in row 3 (columns 2 and 7)`, all 1-based.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {} stands ", self.value)?;
        match self.cells.len() {
            2 => write!(f, "twice")?,
            n => write!(f, "{n} times")?,
        }
        write!(f, " in {} (", self.unit)?;
        match self.unit {
            Unit::Row(_) => write!(f, "columns ")?,
            Unit::Column(_) => write!(f, "rows ")?,
            Unit::Box(_) => {}
        }
        for (i, &(row, col)) in self.cells.iter().enumerate() {
            let separator = match i {
                0 => "",
                i if i + 1 == self.cells.len() => " and ",
                _ => ", ",
            };
            match self.unit {
                Unit::Row(_) => write!(f, "{separator}{}", col + 1)?,
                Unit::Column(_) => write!(f, "{separator}{}", row + 1)?,
                Unit::Box(_) => write!(f, "{separator}row {} column {}", row + 1, col + 1)?,
            }
        }
        write!(f, ")")
    }
}

/// Why a text or a list of cells is not a board, or a board breaks the rules.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BoardError {
    /// Boxes that this crate does not support.
    #[error(
        "expected boxes of at least 2x2 cells and a side (rows x columns of a box) of at most {MAX_SIDE}, got boxes of {box_rows}x{box_cols}"
    )]
    Geometry {
        /// Rows of a box asked for.
        box_rows: usize,
        /// Columns of a box asked for.
        box_cols: usize,
    },
    /// A side without a usual box shape.
    #[error(
        "expected a side from 4 to {MAX_SIDE} that is not prime (4, 6, 8, 9, 10, 12, 14, 15, 16, ...), got {side}"
    )]
    Side {
        /// Side asked for.
        side: usize,
    },
    /// A number of cells that fits no board.
    #[error("expected {expected} cells, got {got}{hint}")]
    Length {
        /// What would fit, in words.
        expected: String,
        /// Cells found.
        got: usize,
        /// What to look at, or empty.
        hint: &'static str,
    },
    /// A character that means nothing on a board of this size.
    #[error("unexpected character {character:?} at line {line}, character {column}: expected {expected}")]
    Character {
        /// The character found.
        character: char,
        /// Line of the text, 1-based.
        line: usize,
        /// Character in the line, 1-based.
        column: usize,
        /// What may stand there, in words.
        expected: String,
    },
    /// A text that is a board in one way, and another board in another.
    #[error(
        "the text can be read in two ways, {one} and {other}, as different boards; write it on one line, with `.` for blanks"
    )]
    Ambiguous {
        /// One way.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A value outside of `0..=side`.
    #[error("expected values from 1 to {side} (0 for blank), got {value} in row {row}, column {column}")]
    Value {
        /// Side of the board.
        side: usize,
        /// Value found.
        value: usize,
        /// Row, 1-based.
        row: usize,
        /// Column, 1-based.
        column: usize,
    },
    /// A cell outside of the board.
    #[error("no cell at row {row}, column {column}: the board is {side}x{side}")]
    NoSuchCell {
        /// Row asked for, 1-based.
        row: usize,
        /// Column asked for, 1-based.
        column: usize,
        /// Side of the board.
        side: usize,
    },
    /// Values that contradict each other.
    #[error("the board breaks the rules: {}", join(.0))]
    Conflict(Vec<Violation>),
}

fn join(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A board: values `1..=side`, 0 for a blank cell, row-major.
///
/// `"53..7....6..195...".parse::<Board>()` reads any usual notation, see [`Notation`]. `{}` prints a grid with box
/// lines, [`Board::to_line`] one character per cell. Serialised as that line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Board {
    geometry: Geometry,
    cells: Vec<u8>,
}

impl Board {
    /// A board without values.
    pub fn empty(geometry: Geometry) -> Self {
        Self { geometry, cells: vec![0; geometry.cells()] }
    }

    /// A board from its cells, row-major, 0 for blank. The rules are not checked: see [`Board::validate`].
    ///
    /// # Errors
    /// [`BoardError::Length`] or [`BoardError::Value`].
    pub fn from_cells(geometry: Geometry, cells: Vec<u8>) -> Result<Self, BoardError> {
        let side = geometry.side();
        if cells.len() != geometry.cells() {
            let expected = format!("{} ({geometry})", geometry.cells());
            return Err(BoardError::Length { expected, got: cells.len(), hint: "" });
        }
        if let Some(i) = cells.iter().position(|&v| usize::from(v) > side) {
            let value = usize::from(cells[i]);
            return Err(BoardError::Value { side, value, row: i / side + 1, column: i % side + 1 });
        }
        Ok(Self { geometry, cells })
    }

    /// Cells that are known to be right: values in range, length as the geometry says.
    pub(crate) fn from_trusted(geometry: Geometry, cells: Vec<u8>) -> Self {
        debug_assert_eq!(cells.len(), geometry.cells());
        debug_assert!(cells.iter().all(|&v| usize::from(v) <= geometry.side()));
        Self { geometry, cells }
    }

    /// Reads a board in the given notation; `geometry` is inferred from the number of cells if `None`.
    ///
    /// # Errors
    /// A [`BoardError`] that says what was expected, what was found, and where.
    pub fn parse(text: &str, notation: Notation, geometry: Option<Geometry>) -> Result<Self, BoardError> {
        parse::parse(text, notation, geometry)
    }

    /// The shape of the board.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Rows, columns, boxes and values of the board.
    pub const fn side(&self) -> usize {
        self.geometry.side()
    }

    /// All cells, row-major, 0 for blank.
    pub fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// The value at a 0-based position (0 for blank), or `None` outside of the board.
    pub fn get(&self, row: usize, col: usize) -> Option<u8> {
        let side = self.side();
        if row < side && col < side { Some(self.cells[row * side + col]) } else { None }
    }

    /// Sets the value at a 0-based position; 0 clears it.
    ///
    /// # Errors
    /// [`BoardError::NoSuchCell`] or [`BoardError::Value`].
    pub fn set(&mut self, row: usize, col: usize, value: u8) -> Result<(), BoardError> {
        let side = self.side();
        if row >= side || col >= side {
            return Err(BoardError::NoSuchCell { row: row + 1, column: col + 1, side });
        }
        if usize::from(value) > side {
            let value = usize::from(value);
            return Err(BoardError::Value { side, value, row: row + 1, column: col + 1 });
        }
        self.cells[row * side + col] = value;
        Ok(())
    }

    pub(crate) fn cells_mut(&mut self) -> &mut [u8] {
        &mut self.cells
    }

    /// Number of filled cells.
    pub fn clues(&self) -> usize {
        self.cells.iter().filter(|&&v| v != 0).count()
    }

    /// Whether no cell is blank.
    pub fn is_full(&self) -> bool {
        self.cells.iter().all(|&v| v != 0)
    }

    /// Every value that stands more than once in a row, column or box; empty for a board that keeps the rules.
    pub fn violations(&self) -> Vec<Violation> {
        let side = self.side();
        let mut found = Vec::new();
        for unit in self.geometry.units() {
            let cells = self.geometry.unit_cells(unit);
            let mut seen = 0u32;
            let mut repeated = 0u32;
            for &cell in &cells {
                let bit = 1u32 << self.cells[cell];
                repeated |= seen & bit;
                seen |= bit;
            }
            for value in (1..=side as u8).filter(|v| repeated & (1 << v) != 0) {
                let cells = cells
                    .iter()
                    .filter(|&&c| self.cells[c] == value)
                    .map(|&c| (c / side, c % side))
                    .collect();
                found.push(Violation { value, unit, cells });
            }
        }
        found
    }

    /// Whether each cell is one of several of its unit with the same value.
    pub fn conflicts(&self) -> Vec<bool> {
        let mut conflicts = vec![false; self.cells.len()];
        for (row, col) in self.violations().into_iter().flat_map(|violation| violation.cells) {
            conflicts[row * self.side() + col] = true;
        }
        conflicts
    }

    /// Checks that no value stands twice in a row, column or box. Blank cells are fine.
    ///
    /// # Errors
    /// [`BoardError::Conflict`] with every violation.
    pub fn validate(&self) -> Result<(), BoardError> {
        let violations = self.violations();
        if violations.is_empty() { Ok(()) } else { Err(BoardError::Conflict(violations)) }
    }

    /// Whether the board is full and keeps the rules.
    pub fn is_solved(&self) -> bool {
        self.is_full() && self.violations().is_empty()
    }

    /// Whether every given of `puzzle` stands unchanged in this board.
    pub fn keeps_givens_of(&self, puzzle: &Self) -> bool {
        self.geometry == puzzle.geometry
            && self.cells.iter().zip(&puzzle.cells).all(|(&mine, &given)| given == 0 || given == mine)
    }

    /// Whether the board is solved and keeps every given of `puzzle`.
    pub fn is_solution_of(&self, puzzle: &Self) -> bool {
        self.keeps_givens_of(puzzle) && self.is_solved()
    }

    /// One character per cell, row-major: `.` for blank, `1`-`9`, then `A` for 10 up to `P` for 25.
    pub fn to_line(&self) -> String {
        self.cells.iter().map(|&v| symbol(v)).collect()
    }
}

/// The character of a value: `.` for 0, `1`-`9`, then `A` for 10 and so on.
pub const fn symbol(value: u8) -> char {
    match value {
        0 => '.',
        1..=9 => (b'0' + value) as char,
        10..=35 => (b'A' + value - 10) as char,
        _ => '?',
    }
}

impl FromStr for Board {
    type Err = BoardError;

    fn from_str(text: &str) -> Result<Self, BoardError> {
        Self::parse(text, Notation::Auto, None)
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::draw::plain(self))
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Board({}x{} {})", self.geometry.box_rows, self.geometry.box_cols, self.to_line())
    }
}

impl Serialize for Board {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_line())
    }
}

impl<'de> Deserialize<'de> for Board {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = String::deserialize(deserializer)?;
        Self::parse(&line, Notation::Letters, None).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIKI: &str = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
    const WIKI_SOLVED: &str =
        "534678912672195348198342567859761423426853791713924856961537284287419635345286179";

    #[test]
    fn geometry_knows_its_shape() -> Result<(), BoardError> {
        assert_eq!(Geometry::from_side(4)?, Geometry::S4);
        assert_eq!(Geometry::from_side(6)?, Geometry::S6);
        assert_eq!(Geometry::from_side(9)?, Geometry::S9);
        assert_eq!(Geometry::from_side(12)?, Geometry::new(3, 4)?);
        assert_eq!(Geometry::from_cells(256), Some(Geometry::S16));
        assert_eq!(Geometry::from_cells(80), None);
        assert_eq!(Geometry::from_side(7), Err(BoardError::Side { side: 7 }));
        assert!(
            Geometry::new(5, 6).is_err()
                && Geometry::new(1, 9).is_err()
                && Geometry::new(usize::MAX, 2).is_err()
        );
        let g = Geometry::S6;
        assert_eq!((g.bands(), g.stacks(), g.side()), (3, 2, 6));
        assert_eq!(g.unit_cells(Unit::Box(3)), vec![15, 16, 17, 21, 22, 23]);
        for unit in g.units() {
            for cell in g.unit_cells(unit) {
                let (row, col) = (cell / 6, cell % 6);
                match unit {
                    Unit::Row(n) => assert_eq!(row, n),
                    Unit::Column(n) => assert_eq!(col, n),
                    Unit::Box(n) => assert_eq!(g.box_of(row, col), n),
                }
            }
        }
        Ok(())
    }

    #[test]
    fn violations_name_value_unit_and_cells() -> Result<(), BoardError> {
        let mut board = Board::empty(Geometry::S9);
        board.set(2, 1, 5)?;
        board.set(2, 6, 5)?;
        let message = board.validate().map_err(|e| e.to_string());
        assert_eq!(
            message,
            Err("the board breaks the rules: value 5 stands twice in row 3 (columns 2 and 7)".to_owned())
        );
        board.set(2, 6, 0)?;
        board.set(0, 0, 5)?;
        board.set(8, 0, 5)?;
        board.set(4, 0, 5)?;
        let found: Vec<String> = board.violations().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "value 5 stands 3 times in column 1 (rows 1, 5 and 9)",
                "value 5 stands twice in box 1 (row 1 column 1 and row 3 column 2)"
            ]
        );
        Ok(())
    }

    #[test]
    fn solutions_are_told_from_lookalikes() -> Result<(), BoardError> {
        let puzzle: Board = WIKI.parse()?;
        let solved: Board = WIKI_SOLVED.parse()?;
        assert!(puzzle.validate().is_ok() && !puzzle.is_solved() && !puzzle.is_solution_of(&puzzle));
        assert!(solved.is_solved() && solved.is_solution_of(&puzzle) && solved.violations().is_empty());
        let mut relabelled = solved.clone();
        for v in relabelled.cells_mut() {
            *v = *v % 9 + 1;
        }
        assert!(relabelled.is_solved() && !relabelled.is_solution_of(&puzzle));
        let mut wrong = solved.clone();
        wrong.cells_mut().swap(0, 1);
        assert!(wrong.is_full() && !wrong.is_solved() && !wrong.violations().is_empty());
        Ok(())
    }

    #[test]
    fn cells_are_checked() {
        assert!(matches!(
            Board::from_cells(Geometry::S4, vec![0; 15]),
            Err(BoardError::Length { got: 15, .. })
        ));
        let mut cells = vec![0; 16];
        cells[6] = 5;
        assert_eq!(
            Board::from_cells(Geometry::S4, cells),
            Err(BoardError::Value { side: 4, value: 5, row: 2, column: 3 })
        );
        let mut board = Board::empty(Geometry::S4);
        assert!(board.set(4, 0, 1).is_err() && board.set(0, 4, 1).is_err() && board.set(0, 0, 5).is_err());
        assert_eq!(board.get(0, 4), None);
    }

    #[test]
    fn serde_round_trip() -> Result<(), Box<dyn std::error::Error>> {
        let board: Board = WIKI.parse()?;
        let json = serde_json::to_string(&board)?;
        assert_eq!(json, format!("\"{WIKI}\""));
        assert_eq!(serde_json::from_str::<Board>(&json)?, board);
        let geometry: Geometry = serde_json::from_str(r#"{"box_rows":2,"box_cols":3}"#)?;
        assert_eq!(geometry, Geometry::S6);
        assert!(serde_json::from_str::<Geometry>(r#"{"box_rows":0,"box_cols":300}"#).is_err());
        Ok(())
    }
}
