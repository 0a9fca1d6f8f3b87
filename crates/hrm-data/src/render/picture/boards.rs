//! Cells of a board as pictures.

use super::{Anchor, Colour, INK, Picture, WHITE};

/// Side of a cell, in units.
pub(crate) const CELL: f32 = 40.0;
pub(crate) const MARGIN: f32 = 14.0;

const GIVEN_GROUND: Colour = (233, 235, 241);
const WRONG_GROUND: Colour = (253, 224, 224);
const ADDED: Colour = (30, 95, 210);
const RIGHT: Colour = (20, 130, 60);
const WRONG: Colour = (205, 25, 40);
pub(crate) const THIN: Colour = (168, 172, 184);

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

/// The upper left corner of a cell.
pub(crate) fn corner(row: usize, col: usize) -> (f32, f32) {
    ((col as f32).mul_add(CELL, MARGIN), (row as f32).mul_add(CELL, MARGIN))
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
pub(crate) fn cell(picture: &mut Picture, corner: (f32, f32), character: Option<char>, mark: Mark) -> Colour {
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
