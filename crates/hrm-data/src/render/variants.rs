//! Killer Sudoku and Samurai as text.

use std::fmt::Write as _;

use super::Style;
use crate::sudoku::{Board, board::symbol};
use crate::variants::killer::Killer;
use crate::variants::samurai::{SIDE, Samurai, is_inside};

/// Backgrounds of cages in colour; cages that touch have different ones.
const CAGES: [(u8, u8, u8); 8] = [
    (205, 225, 250),
    (252, 225, 190),
    (212, 240, 205),
    (245, 208, 228),
    (250, 244, 190),
    (220, 212, 246),
    (200, 240, 240),
    (230, 230, 230),
];

/// Draws a Killer Sudoku.
///
/// Plain: walls between cages, dots where boxes meet within one, the sum of a cage in its first cell, digits with `!` after what
/// breaks the rules. Colour: cages as backgrounds, a line of text per row, faults red. A board of another size than the puzzle is
/// ignored.
pub fn killer(puzzle: &Killer, board: Option<&Board>, style: Style) -> String {
    let geometry = puzzle.geometry();
    let side = geometry.side();
    let board = board.filter(|board| board.geometry() == geometry);
    let conflict = killer_conflicts(puzzle, board);
    let colours = puzzle.colours();
    let cell = |row: usize, col: usize| {
        let cell = row * side + col;
        let digit = board.map_or('.', |board| symbol(board.cells()[cell]));
        let cage = puzzle.cage_of(cell).unwrap_or(0);
        let first = puzzle.cages()[cage].cells.first() == Some(&cell);
        let sum = if first { puzzle.cages()[cage].sum.to_string() } else { String::new() };
        match style {
            Style::Plain => format!("{sum:<2} {digit}{}", if conflict[cell] { '!' } else { ' ' }),
            Style::Ansi => {
                let (r, g, b) = CAGES[usize::from(colours[cage]) % CAGES.len()];
                let ink = if conflict[cell] { "1;31" } else { "1;30" };
                format!("\x1b[48;2;{r};{g};{b};38;2;110;110;110m{sum:<2} \x1b[{ink}m{digit} \x1b[0m")
            }
        }
    };
    let mut out = String::new();
    for row in 0..side {
        if style == Style::Plain {
            out.push_str(&killer_border(puzzle, row));
        } else if row > 0 && row % geometry.box_rows() == 0 {
            out.push('\n');
        }
        for col in 0..side {
            match style {
                Style::Plain => out.push(killer_edge(puzzle, (row, col), (0, 1))),
                Style::Ansi if col > 0 && col % geometry.box_cols() == 0 => out.push_str("  "),
                Style::Ansi => {}
            }
            out.push_str(&cell(row, col));
        }
        out.push_str(if style == Style::Plain { "|\n" } else { "\n" });
    }
    match style {
        Style::Plain => out.push_str(&killer_border(puzzle, side)),
        Style::Ansi => {}
    }
    out.trim_end().to_owned()
}

/// The line of text above a row, or below the last one.
fn killer_border(puzzle: &Killer, row: usize) -> String {
    let side = puzzle.geometry().side();
    let mut line = String::new();
    for col in 0..=side {
        // Where four cells meet: a corner if a wall ends or turns there.
        let around = [
            (col > 0).then(|| killer_edge(puzzle, (row, col - 1), (1, 0))),
            (col < side).then(|| killer_edge(puzzle, (row, col), (1, 0))),
            (row > 0).then(|| killer_edge(puzzle, (row - 1, col), (0, 1))),
            (row < side).then(|| killer_edge(puzzle, (row, col), (0, 1))),
        ];
        line.push(match around {
            _ if around.iter().flatten().any(|edge| matches!(edge, '|' | '-')) => '+',
            _ if around.iter().flatten().any(|&edge| edge != ' ') => '.',
            _ => ' ',
        });
        if col < side {
            let edge = killer_edge(puzzle, (row, col), (1, 0));
            (0..5).for_each(|place| line.push(if edge == '.' && place % 2 == 0 { ' ' } else { edge }));
        }
    }
    line + "\n"
}

/// What is drawn above (`step` a row) or to the left (a column) of a cell: a wall between cages, dots between boxes, nothing.
fn killer_edge(puzzle: &Killer, (row, col): (usize, usize), step: (usize, usize)) -> char {
    let geometry = puzzle.geometry();
    let side = geometry.side();
    let cage = |row: usize, col: usize| {
        (row < side && col < side).then(|| puzzle.cage_of(row * side + col)).flatten()
    };
    let before = row.checked_sub(step.0).zip(col.checked_sub(step.1)).and_then(|(row, col)| cage(row, col));
    let (wall, dots, at, length) = match step {
        (0, _) => ('|', ':', col, geometry.box_cols()),
        _ => ('-', '.', row, geometry.box_rows()),
    };
    match at.is_multiple_of(length) {
        _ if before != cage(row, col) => wall,
        true => dots,
        false => ' ',
    }
}

/// Cells whose digit breaks a rule, stands twice in its cage, or is in a full cage with another sum.
pub(super) fn killer_conflicts(puzzle: &Killer, board: Option<&Board>) -> Vec<bool> {
    let side = puzzle.geometry().side();
    let mut conflict = vec![false; puzzle.geometry().cells()];
    let Some(board) = board else { return conflict };
    for (row, col) in board.violations().into_iter().flat_map(|violation| violation.cells) {
        conflict[row * side + col] = true;
    }
    for cage in puzzle.cages() {
        let digits: Vec<u8> = cage.cells.iter().map(|&cell| board.cells()[cell]).collect();
        let sum: u32 = digits.iter().map(|&digit| u32::from(digit)).sum();
        let wrong = !digits.contains(&0) && sum != cage.sum;
        for (index, &cell) in cage.cells.iter().enumerate() {
            let twice = digits[index] != 0 && digits.iter().filter(|&&d| d == digits[index]).count() > 1;
            conflict[cell] |= wrong || twice;
        }
    }
    conflict
}

/// Draws Samurai boards, `puzzle` or an answer to it, one line of text per row.
///
/// Plain: nothing outside of the boards, `.` blank, `!` after what breaks the rules or overwrites a given. Colour: givens bold,
/// additions blue, faults red.
pub fn samurai(puzzle: &Samurai, answer: Option<&Samurai>, style: Style) -> String {
    let boards = answer.unwrap_or(puzzle);
    let conflict = samurai_conflicts(boards);
    let mut lines = Vec::new();
    for row in 0..SIDE {
        let mut line = String::new();
        for col in 0..SIDE {
            let cell = row * SIDE + col;
            if col > 0 && col % 3 == 0 {
                line.push(' ');
            }
            if !is_inside(row, col) {
                line.push_str("  ");
                continue;
            }
            let (digit, given) = (boards.cells()[cell], puzzle.cells()[cell]);
            let fault = conflict[cell] || (given != 0 && given != digit);
            // Writing to a String cannot fail.
            let _ = match (style, fault) {
                (Style::Plain, _) => write!(line, "{}{}", symbol(digit), if fault { '!' } else { ' ' }),
                (Style::Ansi, true) => write!(line, "\x1b[1;31m{} \x1b[0m", symbol(digit)),
                (Style::Ansi, false) if given != 0 => write!(line, "\x1b[1m{} \x1b[0m", symbol(digit)),
                (Style::Ansi, false) => write!(line, "\x1b[34m{} \x1b[0m", symbol(digit)),
            };
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// Cells of the canvas whose digit breaks a rule of a board.
pub(super) fn samurai_conflicts(boards: &Samurai) -> Vec<bool> {
    let mut conflict = vec![false; SIDE * SIDE];
    for fault in boards.conflicts() {
        let (top, left) = Samurai::corner(fault.board);
        for (row, col) in fault.violation.cells {
            conflict[(top + row) * SIDE + left + col] = true;
        }
    }
    conflict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cages_and_faults_are_drawn() {
        let puzzle: Killer = "AABB\nCABD\nCCDD\nAAAD\n7 6 8 10 6".parse().unwrap();
        let blank = killer(&puzzle, None, Style::Plain);
        let expected = "\
+-----+-----+-----+-----+
|7  .     . |6  .     . |
+-----+     +     +-----+
|8  . |   . |   . |10 . |
+ . . +-----+-----+ . . +
|   .     . |   .     . |
+-----+-----+-----+     +
|6  .     . :   . |   . |
+-----+-----+-----+-----+";
        assert_eq!(blank, expected);
        let mut board = Board::empty(puzzle.geometry());
        for (row, col, digit) in [(0, 0, 1), (0, 1, 4), (1, 1, 3)] {
            board.set(row, col, digit).unwrap();
        }
        let wrong = killer(&puzzle, Some(&board), Style::Plain);
        assert!(wrong.contains("|7  1!    4!|6  .     . |"), "a sum of 8 for 7: {wrong}");
        let colour = killer(&puzzle, Some(&board), Style::Ansi);
        assert_eq!((colour.matches("1;31").count(), colour.matches("m7  ").count()), (3, 1));
    }

    #[test]
    fn samurai_boards_are_drawn() {
        let mut cells = vec![0; SIDE * SIDE];
        cells[0] = 5;
        let puzzle = Samurai::from_cells(cells.clone()).unwrap();
        cells[1] = 5;
        let answer = Samurai::from_cells(cells).unwrap();
        let text = samurai(&puzzle, Some(&answer), Style::Plain);
        assert!(text.starts_with("5!5!. "), "{text}");
        assert_eq!(text.lines().nth(10).unwrap().trim_start(), ". . .  . . .  . . .");
        let colour = samurai(&puzzle, None, Style::Ansi);
        assert_eq!(colour.matches("\x1b[1m5 ").count(), 1);
        assert_eq!(colour.matches("\x1b[34m. ").count(), 368);
    }
}
