//! Sudoku boards as text and as pictures.

use std::fmt::Write as _;

use super::{Board, Geometry, board::symbol};
use crate::render::{CELL, INK, MARGIN, Mark, Picture, Style, THIN, cell, corner};

/// Draws `board` with box lines and no marks, one line of text per row and border.
pub fn plain(board: &Board) -> String {
    grid(board, 1, |_, value, out| out.push(symbol(value)))
}

/// Draws `board` as an attempt at `puzzle`.
///
/// Cells are told apart as *given* (stands in `puzzle`), *filled*, *changed* (differs from `previous`, if there is one)
/// and *in conflict* (a value that breaks the rules, or a given that was overwritten). Boards of another size than
/// `board` are ignored.
pub fn attempt(puzzle: &Board, previous: Option<&Board>, board: &Board, style: Style) -> String {
    let same = |other: &&Board| other.geometry() == board.geometry();
    let givens = Some(puzzle).filter(same).map(Board::cells);
    let before = previous.filter(same).map(Board::cells);
    let conflict = board.conflicts();
    let kind = |cell: usize, value: u8| {
        let given = givens.map_or(0, |g| g[cell]);
        if conflict[cell] || (given != 0 && given != value) {
            Kind::Conflict
        } else if given != 0 {
            Kind::Given
        } else if before.is_some_and(|b| b[cell] != value) {
            Kind::Changed
        } else {
            Kind::Filled
        }
    };
    match style {
        Style::Plain => grid(board, 2, |cell, value, out| {
            out.push(symbol(value));
            out.push(match kind(cell, value) {
                Kind::Changed => '*',
                Kind::Conflict => '!',
                Kind::Given | Kind::Filled => ' ',
            });
        }),
        Style::Ansi => grid(board, 1, |cell, value, out| {
            let code = match kind(cell, value) {
                Kind::Given => "1",
                Kind::Filled => "34",
                Kind::Changed => "1;32",
                Kind::Conflict => "1;31",
            };
            // Writing to a String cannot fail.
            let _ = write!(out, "\x1b[{code}m{}\x1b[0m", symbol(value));
        }),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Given,
    Filled,
    Changed,
    Conflict,
}

/// The frame: `+-------+` borders between boxes, cells `width` characters wide as drawn by `cell`.
fn grid(board: &Board, width: usize, cell: impl Fn(usize, u8, &mut String)) -> String {
    let geometry = board.geometry();
    let side = geometry.side();
    let mut border = String::from("+");
    for _ in 0..geometry.stacks() {
        border.extend(std::iter::repeat_n('-', (width + 1) * geometry.box_cols() + 1));
        border.push('+');
    }
    let mut out = String::new();
    for (row, values) in board.cells().chunks_exact(side).enumerate() {
        if row % geometry.box_rows() == 0 {
            out.push_str(&border);
            out.push('\n');
        }
        for (col, &value) in values.iter().enumerate() {
            out.push_str(match col {
                0 => "| ",
                c if c % geometry.box_cols() == 0 => " | ",
                _ => " ",
            });
            cell(row * side + col, value, &mut out);
        }
        out.push_str(" |\n");
    }
    out.push_str(&border);
    out
}

/// Draws a Sudoku: the givens of `puzzle` on grey, the additions of `answer` in blue, what breaks the rules in red. With a
/// `solution`, additions are green where they agree with it and red where they do not. Boards of another size than the puzzle
/// are ignored.
pub fn picture(puzzle: &Board, answer: Option<&Board>, solution: Option<&Board>) -> Picture {
    let geometry = puzzle.geometry();
    let same = |board: &&Board| board.geometry() == geometry;
    let board = answer.filter(same).unwrap_or(puzzle);
    let solution = solution.filter(same).map(Board::cells);
    let side = geometry.side();
    let conflict = board.conflicts();
    let length = (side as f32).mul_add(CELL, 2.0 * MARGIN);
    let mut picture = Picture::new(length, length);
    for (index, &value) in board.cells().iter().enumerate() {
        let mark = Mark::new(value, puzzle.cells()[index], solution.map(|s| s[index]), conflict[index]);
        cell(&mut picture, corner(index / side, index % side), character(value), mark);
    }
    grid_lines(&mut picture, geometry, corner(0, 0));
    picture
}

/// What is written for a value.
pub(crate) fn character(value: u8) -> Option<char> {
    (value != 0).then(|| symbol(value))
}

/// The lines of a board: thin between cells, thick around boxes.
pub(crate) fn grid_lines(picture: &mut Picture, geometry: Geometry, (left, top): (f32, f32)) {
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
    use crate::puzzles::sudoku::BoardError;

    #[test]
    fn plain_grid() -> Result<(), BoardError> {
        let board: Board = "1.3434122143.321".parse()?;
        assert_eq!(
            plain(&board),
            "+-----+-----+\n| 1 . | 3 4 |\n| 3 4 | 1 2 |\n+-----+-----+\n| 2 1 | 4 3 |\n| . 3 | 2 1 |\n+-----+-----+"
        );
        Ok(())
    }

    #[test]
    fn marks_tell_cells_apart() -> Result<(), BoardError> {
        let puzzle: Board = "1...............".parse()?;
        let before: Board = "12..............".parse()?;
        let after: Board = "123..........2..".parse()?;
        let text = attempt(&puzzle, Some(&before), &after, Style::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "+-------+-------+");
        assert_eq!(lines[1], "| 1  2! | 3* .  |");
        assert_eq!(lines[5], "| .  2! | .  .  |");
        let ansi = attempt(&puzzle, Some(&before), &after, Style::Ansi);
        assert!(
            ansi.contains("\x1b[1m1\x1b[0m")
                && ansi.contains("\x1b[1;32m3\x1b[0m")
                && ansi.contains("\x1b[1;31m2\x1b[0m")
        );
        let stripped = ansi.replace("\x1b[0m", "");
        let stripped: String = ["1;31", "1;32", "34", "1"]
            .iter()
            .fold(stripped, |s, code| s.replace(&format!("\x1b[{code}m"), ""));
        assert_eq!(stripped, plain(&after));
        let overwritten: Board = "2...............".parse()?;
        assert!(attempt(&puzzle, None, &overwritten, Style::Plain).contains("2!"));
        let other: Board = format!("5{}", ".".repeat(80)).parse()?;
        assert!(
            attempt(&puzzle, None, &other, Style::Plain).contains("| 5 "),
            "another size is drawn, not refused"
        );
        Ok(())
    }

    #[test]
    fn cells_are_told_apart() -> Result<(), BoardError> {
        let puzzle: Board = "1...............".parse()?;
        let solution: Board = "1234341221434321".parse()?;
        let count = |picture: &Picture, colour: &str| picture.svg().matches(colour).count();
        let answer: Board = "123.2...........".parse()?;
        let (ink, added, right, wrong) =
            ("bold\" fill=\"#1c1e28\"", "\">1<", "fill=\"#14823c\"", "fill=\"#cd1928\"");
        let known = picture(&puzzle, Some(&answer), Some(&solution));
        assert_eq!((count(&known, ink), count(&known, added)), (1, 1));
        assert_eq!((count(&known, right), count(&known, wrong)), (2, 1), "2 and 3 right, the second 2 wrong");
        let unknown = picture(&puzzle, Some(&answer), None);
        assert_eq!((count(&unknown, "fill=\"#1e5fd2\""), count(&unknown, wrong)), (1, 2), "the 2s clash");
        let overwritten = picture(&puzzle, Some(&"2...............".parse()?), None);
        assert_eq!((count(&overwritten, ink), count(&overwritten, wrong)), (0, 1));
        let erased = picture(&puzzle, Some(&"................".parse()?), None);
        assert_eq!(count(&erased, "fill=\"#fde0e0\""), 1);
        let other = picture(&puzzle, Some(&Board::empty(Geometry::S9)), Some(&Board::empty(Geometry::S9)));
        assert_eq!(other, picture(&puzzle, None, None));
        Ok(())
    }

    #[test]
    fn boxes_have_thick_borders() {
        let drawn = picture(&Board::empty(Geometry::S6), None, None);
        // 3 bands: 4 thick lines across; 2 stacks: 3 down.
        assert_eq!(drawn.svg().matches("stroke-width=\"2.6\"").count(), 7);
        assert_eq!(drawn.svg().matches("stroke-width=\"1\"").count(), 7);
    }
}
