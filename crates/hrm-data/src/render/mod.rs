//! Puzzles as text, returned as strings: the caller decides where they go and whether colour is wanted. And as [`Picture`]s,
//! which are written as SVG or PNG.

mod arc;
mod maze;
mod picture;
mod variants;

use std::fmt::Write as _;

pub use arc::{PALETTE, arc_grid, arc_task};
pub use maze::{maze, maze_answer};
pub use picture::{
    Axis, Chart, Colour, Mark, Picture, PictureError, Scale, Series, Trace, arc_pair_picture,
    arc_task_picture, charts, killer_picture, maze_picture, samurai_picture, sudoku_picture,
};
pub use variants::{killer, samurai};

use crate::sudoku::{Board, board::symbol};

/// How cells of different origin are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Plain characters. With marks: `5` given, `5` filled, `5*` changed since the previous board, `5!` in conflict.
    #[default]
    Plain,
    /// ANSI escape sequences: bold given, blue filled, green changed since the previous board, red in conflict.
    Ansi,
}

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
    let mut conflict = vec![false; board.cells().len()];
    for violation in board.violations() {
        for (row, col) in violation.cells {
            conflict[row * board.side() + col] = true;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sudoku::BoardError;

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
}
