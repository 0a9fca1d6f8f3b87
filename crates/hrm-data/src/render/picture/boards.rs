//! Sudoku boards as pictures.

use super::{Anchor, Colour, INK, Picture, WHITE};
use crate::sudoku::{Board, Geometry, board::symbol};

/// Side of a cell, in units.
pub(super) const CELL: f32 = 40.0;
pub(super) const MARGIN: f32 = 14.0;

const GIVEN_GROUND: Colour = (233, 235, 241);
const WRONG_GROUND: Colour = (253, 224, 224);
const ADDED: Colour = (30, 95, 210);
const RIGHT: Colour = (20, 130, 60);
const WRONG: Colour = (205, 25, 40);
const THIN: Colour = (168, 172, 184);

/// Where what stands in a cell comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing stands there.
    Blank,
    /// Nothing stands there, and nothing can: a small cross.
    Closed,
    /// Stands in the puzzle: bold, dark, on grey.
    Given,
    /// Added, nothing else is known: blue.
    Added,
    /// Added and as in the solution: green.
    Right,
    /// Added and not as in the solution, breaks a rule, or a given that was overwritten: red on pale red.
    Wrong,
}

impl Mark {
    /// What to make of a value, given what the puzzle and the solution have there (0 for nothing).
    pub const fn new(value: u8, given: u8, solution: Option<u8>, conflict: bool) -> Self {
        match (value, solution) {
            (0, _) if given == 0 => Self::Blank,
            _ if given != 0 && given != value => Self::Wrong,
            _ if given != 0 && !conflict => Self::Given,
            (_, Some(right)) if right != value => Self::Wrong,
            (_, Some(_)) => Self::Right,
            (_, None) if conflict => Self::Wrong,
            _ => Self::Added,
        }
    }
}

/// Draws a Sudoku: the givens of `puzzle` on grey, the additions of `answer` in blue, what breaks the rules in red. With a
/// `solution`, additions are green where they agree with it and red where they do not. Boards of another size than the puzzle
/// are ignored.
pub fn sudoku_picture(puzzle: &Board, answer: Option<&Board>, solution: Option<&Board>) -> Picture {
    let geometry = puzzle.geometry();
    let same = |board: &&Board| board.geometry() == geometry;
    let board = answer.filter(same).unwrap_or(puzzle);
    let solution = solution.filter(same).map(Board::cells);
    let side = geometry.side();
    let mut conflict = vec![false; geometry.cells()];
    for (row, col) in board.violations().into_iter().flat_map(|violation| violation.cells) {
        conflict[row * side + col] = true;
    }
    let length = (side as f32).mul_add(CELL, 2.0 * MARGIN);
    let mut picture = Picture::new(length, length);
    for (index, &value) in board.cells().iter().enumerate() {
        let mark = Mark::new(value, puzzle.cells()[index], solution.map(|s| s[index]), conflict[index]);
        cell(&mut picture, corner(index / side, index % side), character(value), mark);
    }
    grid_lines(&mut picture, geometry, corner(0, 0));
    picture
}

fn corner(row: usize, col: usize) -> (f32, f32) {
    ((col as f32).mul_add(CELL, MARGIN), (row as f32).mul_add(CELL, MARGIN))
}

/// What is written for a value.
pub(super) fn character(value: u8) -> Option<char> {
    (value != 0).then(|| symbol(value))
}

impl Picture {
    /// A board of cells with a character each, if there is one, drawn as its mark says: a picture for any task on a grid.
    pub fn of_cells(
        rows: usize,
        cols: usize,
        content: impl Fn(usize, usize) -> (Option<char>, Mark),
    ) -> Self {
        let (height, width) = (rows as f32 * CELL, cols as f32 * CELL);
        let mut picture = Self::new(width + 2.0 * MARGIN, height + 2.0 * MARGIN);
        for row in 0..rows {
            for col in 0..cols {
                let (character, mark) = content(row, col);
                cell(&mut picture, corner(row, col), character, mark);
            }
        }
        for thick in [false, true] {
            let (pen, colour) = if thick { (2.6, INK) } else { (1.0, THIN) };
            let lines = |count: usize| (0..=count).filter(move |&i| (i == 0 || i == count) == thick);
            for (x, y) in lines(rows).map(|row| corner(row, 0)) {
                picture.line(&[(x, y), (x + width, y)], pen, colour);
            }
            for (x, y) in lines(cols).map(|col| corner(0, col)) {
                picture.line(&[(x, y), (x, y + height)], pen, colour);
            }
        }
        picture
    }
}

/// Draws one cell with its character, and returns its ground; `corner` is its upper left.
pub(super) fn cell(picture: &mut Picture, corner: (f32, f32), character: Option<char>, mark: Mark) -> Colour {
    let (ground, ink, bold) = match mark {
        Mark::Blank | Mark::Closed => (WHITE, INK, false),
        Mark::Given => (GIVEN_GROUND, INK, true),
        Mark::Added => (WHITE, ADDED, false),
        Mark::Right => (WHITE, RIGHT, false),
        Mark::Wrong => (WRONG_GROUND, WRONG, false),
    };
    picture.rectangle(corner, (CELL, CELL), ground);
    let (x, y) = (corner.0 + CELL / 2.0, corner.1 + CELL / 2.0);
    if let Some(character) = character {
        picture.text((x, y), Anchor::Middle, 0.44 * CELL, bold, ink, character);
    }
    if mark == Mark::Closed {
        let arm = 0.07 * CELL;
        picture.line(&[(x - arm, y - arm), (x + arm, y + arm)], 1.2, THIN);
        picture.line(&[(x - arm, y + arm), (x + arm, y - arm)], 1.2, THIN);
    }
    ground
}

/// The lines of a board: thin between cells, thick around boxes.
pub(super) fn grid_lines(picture: &mut Picture, geometry: Geometry, (left, top): (f32, f32)) {
    let side = geometry.side();
    let length = side as f32 * CELL;
    for thick in [false, true] {
        let (width, colour) = if thick { (2.6, INK) } else { (1.0, THIN) };
        for i in 0..=side {
            let at = i as f32 * CELL;
            if i.is_multiple_of(geometry.box_rows()) == thick {
                picture.line(&[(left, top + at), (left + length, top + at)], width, colour);
            }
            if i.is_multiple_of(geometry.box_cols()) == thick {
                picture.line(&[(left + at, top), (left + at, top + length)], width, colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sudoku::BoardError;

    #[test]
    fn cells_are_told_apart() -> Result<(), BoardError> {
        let puzzle: Board = "1...............".parse()?;
        let solution: Board = "1234341221434321".parse()?;
        let count = |picture: &Picture, colour: &str| picture.svg().matches(colour).count();
        let answer: Board = "123.2...........".parse()?;
        let (ink, added, right, wrong) =
            ("bold\" fill=\"#1c1e28\"", "\">1<", "fill=\"#14823c\"", "fill=\"#cd1928\"");
        let known = sudoku_picture(&puzzle, Some(&answer), Some(&solution));
        assert_eq!((count(&known, ink), count(&known, added)), (1, 1));
        assert_eq!((count(&known, right), count(&known, wrong)), (2, 1), "2 and 3 right, the second 2 wrong");
        let unknown = sudoku_picture(&puzzle, Some(&answer), None);
        assert_eq!((count(&unknown, "fill=\"#1e5fd2\""), count(&unknown, wrong)), (1, 2), "the 2s clash");
        let overwritten = sudoku_picture(&puzzle, Some(&"2...............".parse()?), None);
        assert_eq!((count(&overwritten, ink), count(&overwritten, wrong)), (0, 1));
        let erased = sudoku_picture(&puzzle, Some(&"................".parse()?), None);
        assert_eq!(count(&erased, "fill=\"#fde0e0\""), 1);
        let other =
            sudoku_picture(&puzzle, Some(&Board::empty(Geometry::S9)), Some(&Board::empty(Geometry::S9)));
        assert_eq!(other, sudoku_picture(&puzzle, None, None));
        Ok(())
    }

    #[test]
    fn boxes_have_thick_borders() {
        let picture = sudoku_picture(&Board::empty(Geometry::S6), None, None);
        // 3 bands: 4 thick lines across; 2 stacks: 3 down.
        assert_eq!(picture.svg().matches("stroke-width=\"2.6\"").count(), 7);
        assert_eq!(picture.svg().matches("stroke-width=\"1\"").count(), 7);
    }
}
