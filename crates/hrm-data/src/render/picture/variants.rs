//! Killer Sudoku and Samurai as pictures.

use super::boards::{CELL, MARGIN, Mark, cell, character, grid_lines};
use super::{Anchor, Colour, Picture};
use crate::render::variants::{killer_conflicts, samurai_conflicts};
use crate::sudoku::{Board, Geometry};
use crate::variants::killer::Killer;
use crate::variants::samurai::{SIDE, Samurai, is_inside};

const CAGE: Colour = (90, 96, 115);

/// Draws a Killer Sudoku: cages as dashed outlines with their sum in the first cell, the digits of `answer` in blue, what breaks
/// a rule or a sum in red. With a `solution`, digits are green where they agree with it and red where they do not. Boards of
/// another size than the puzzle are ignored.
pub fn killer_picture(puzzle: &Killer, answer: Option<&Board>, solution: Option<&Board>) -> Picture {
    let geometry = puzzle.geometry();
    let same = |board: &&Board| board.geometry() == geometry;
    let (answer, solution) = (answer.filter(same), solution.filter(same));
    let side = geometry.side();
    let conflict = killer_conflicts(puzzle, answer);
    let length = (side as f32).mul_add(CELL, 2.0 * MARGIN);
    let mut picture = Picture::new(length, length);
    let corner = |index: usize| {
        (((index % side) as f32).mul_add(CELL, MARGIN), ((index / side) as f32).mul_add(CELL, MARGIN))
    };
    let mut grounds = Vec::new();
    for (index, &fault) in conflict.iter().enumerate() {
        let digit = answer.map_or(0, |board| board.cells()[index]);
        let mark = Mark::new(digit, 0, solution.map(|board| board.cells()[index]), fault);
        grounds.push(cell(&mut picture, corner(index), character(digit), mark));
    }
    grid_lines(&mut picture, geometry, (MARGIN, MARGIN));
    for index in 0..geometry.cells() {
        outline(&mut picture, puzzle, index, corner(index));
    }
    for cage in puzzle.cages() {
        let first = cage.cells.first().copied().unwrap_or(0);
        let (x, y) = corner(first);
        // The sum interrupts the outline.
        let width = if cage.sum > 9 { 13.0 } else { 7.5 };
        picture.rectangle((x + 2.2, y + 2.2), (width, 9.6), grounds[first]);
        picture.text((x + 3.2, y + 7.0), Anchor::Start, 7.4, true, (40, 44, 60), cage.sum);
    }
    picture
}

/// The edges of a cell where its cage ends, dashed and a little inside; they reach on to the next cell where the cage does.
fn outline(picture: &mut Picture, puzzle: &Killer, index: usize, (left, top): (f32, f32)) {
    const INSET: f32 = 4.5;
    let side = puzzle.geometry().side() as isize;
    let (row, col) = (index as isize / side, index as isize % side);
    let same = |dr: isize, dc: isize| {
        let (row, col) = (row + dr, col + dc);
        (0..side).contains(&row)
            && (0..side).contains(&col)
            && puzzle.cage_of((row * side + col) as usize) == puzzle.cage_of(index)
    };
    // How far an edge reaches at an end: to the cell's border if the cage goes on there.
    let reach = |goes_on: bool| if goes_on { 0.0 } else { INSET };
    for step in [-1, 1] {
        let at = |start: f32| if step < 0 { start + INSET } else { start + CELL - INSET };
        if !same(step, 0) {
            let (from, to) = (left + reach(same(0, -1)), left + CELL - reach(same(0, 1)));
            dashes(picture, (from, at(top)), (to, at(top)));
        }
        if !same(0, step) {
            let (from, to) = (top + reach(same(-1, 0)), top + CELL - reach(same(1, 0)));
            dashes(picture, (at(left), from), (at(left), to));
        }
        // An inner corner: the cage goes on both ways but not across.
        for other in [-1, 1] {
            if same(step, 0) && same(0, other) && !same(step, other) {
                let x = if other < 0 { (left, left + INSET) } else { (left + CELL - INSET, left + CELL) };
                let y = if step < 0 { (top, top + INSET) } else { (top + CELL - INSET, top + CELL) };
                let corner = (if other < 0 { x.1 } else { x.0 }, if step < 0 { y.1 } else { y.0 });
                let across = (if other < 0 { x.0 } else { x.1 }, corner.1);
                let along = (corner.0, if step < 0 { y.0 } else { y.1 });
                picture.line(&[across, corner, along], 1.1, CAGE);
            }
        }
    }
}

fn dashes(picture: &mut Picture, from: (f32, f32), to: (f32, f32)) {
    let length = (to.0 - from.0).abs() + (to.1 - from.1).abs();
    let count = (length / 6.0).round().max(1.0);
    for dash in 0..count as usize {
        let at = |share: f32| {
            let t = (dash as f32 + share) / count;
            ((to.0 - from.0).mul_add(t, from.0), (to.1 - from.1).mul_add(t, from.1))
        };
        picture.line(&[at(0.22), at(0.78)], 1.1, CAGE);
    }
}

/// Draws Samurai boards: as [`sudoku_picture`](super::sudoku_picture) does one board.
pub fn samurai_picture(puzzle: &Samurai, answer: Option<&Samurai>, solution: Option<&Samurai>) -> Picture {
    let boards = answer.unwrap_or(puzzle);
    let conflict = samurai_conflicts(boards);
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
    fn sums_and_digits_are_drawn() {
        let puzzle: Killer = "AABB\nCABD\nCCDD\nAAAD\n7 6 8 10 6".parse().unwrap();
        let svg = killer_picture(&puzzle, None, None).svg();
        for (sum, count) in [("7", 1), ("6", 2), ("8", 1), ("10", 1)] {
            assert_eq!(svg.matches(&format!(">{sum}<")).count(), count, "{sum}");
        }
        let mut board = Board::empty(puzzle.geometry());
        board.set(0, 0, 3).unwrap();
        let mut solution = board.clone();
        assert!(killer_picture(&puzzle, Some(&board), Some(&solution)).svg().contains("fill=\"#14823c\">3<"));
        solution.set(0, 0, 2).unwrap();
        assert!(killer_picture(&puzzle, Some(&board), Some(&solution)).svg().contains("fill=\"#cd1928\">3<"));
    }

    #[test]
    fn five_boards_are_drawn() {
        let svg = samurai_picture(&Samurai::empty(), None, None).svg();
        // Five boards of 20 lines.
        assert_eq!(svg.matches("<polyline").count(), 100);
        // The ground and 369 cells.
        assert_eq!(svg.matches("<rect").count(), 370);
    }
}
