//! Samurai as text and as a picture.

use std::fmt::Write as _;

use super::{SIDE, Samurai, is_inside};
use crate::puzzles::sudoku::{
    Geometry,
    board::symbol,
    draw::{character, grid_lines},
};
use crate::render::{CELL, MARGIN, Mark, Picture, Style, cell};

/// Draws Samurai boards, `puzzle` or an answer to it, one line of text per row.
///
/// Plain: nothing outside of the boards, `.` blank, `!` after what breaks the rules or overwrites a given. Colour: givens bold,
/// additions blue, faults red.
pub fn text(puzzle: &Samurai, answer: Option<&Samurai>, style: Style) -> String {
    let boards = answer.unwrap_or(puzzle);
    let conflict = conflicts(boards);
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
fn conflicts(boards: &Samurai) -> Vec<bool> {
    let mut conflict = vec![false; SIDE * SIDE];
    for fault in boards.conflicts() {
        let (top, left) = Samurai::corner(fault.board);
        for (row, col) in fault.violation.cells {
            conflict[(top + row) * SIDE + left + col] = true;
        }
    }
    conflict
}

/// Draws Samurai boards: as [`sudoku::draw::picture`](crate::puzzles::sudoku::draw::picture) does one board.
pub fn picture(puzzle: &Samurai, answer: Option<&Samurai>, solution: Option<&Samurai>) -> Picture {
    let boards = answer.unwrap_or(puzzle);
    let conflict = conflicts(boards);
    let length = (SIDE as f32).mul_add(CELL, 2.0 * MARGIN);
    let mut picture = Picture::new(length, length);
    for (index, &fault) in conflict.iter().enumerate() {
        let (row, col) = (index / SIDE, index % SIDE);
        if is_inside(row, col) {
            let solution = solution.map(|boards| boards.cells()[index]);
            let digit = boards.cells()[index];
            let mark = Mark::new(digit, puzzle.cells()[index], solution, fault);
            let corner = ((col as f32).mul_add(CELL, MARGIN), (row as f32).mul_add(CELL, MARGIN));
            cell(&mut picture, corner, character(digit), mark);
        }
    }
    for board in 0..5 {
        let (row, col) = Samurai::corner(board);
        let corner = ((col as f32).mul_add(CELL, MARGIN), (row as f32).mul_add(CELL, MARGIN));
        grid_lines(&mut picture, Geometry::S9, corner);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samurai_boards_are_drawn() {
        let mut cells = vec![0; SIDE * SIDE];
        cells[0] = 5;
        let puzzle = Samurai::from_cells(cells.clone()).unwrap();
        cells[1] = 5;
        let answer = Samurai::from_cells(cells).unwrap();
        let drawn = text(&puzzle, Some(&answer), Style::Plain);
        assert!(drawn.starts_with("5!5!. "), "{drawn}");
        assert_eq!(drawn.lines().nth(10).unwrap().trim_start(), ". . .  . . .  . . .");
        let colour = text(&puzzle, None, Style::Ansi);
        assert_eq!(colour.matches("\x1b[1m5 ").count(), 1);
        assert_eq!(colour.matches("\x1b[34m. ").count(), 368);
    }

    #[test]
    fn five_boards_are_drawn() {
        let svg = picture(&Samurai::empty(), None, None).svg();
        // Five boards of 20 lines.
        assert_eq!(svg.matches("<polyline").count(), 100);
        // The ground and 369 cells.
        assert_eq!(svg.matches("<rect").count(), 370);
    }
}
