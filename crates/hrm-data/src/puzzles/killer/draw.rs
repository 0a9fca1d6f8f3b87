//! Killer Sudoku as text and as a picture.

use super::Killer;
use crate::puzzles::sudoku::{
    Board,
    board::symbol,
    draw::{character, grid_lines},
};
use crate::render::{Anchor, CELL, Colour, MARGIN, Mark, Picture, Style, cell};

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
pub fn text(puzzle: &Killer, board: Option<&Board>, style: Style) -> String {
    let geometry = puzzle.geometry();
    let side = geometry.side();
    let board = board.filter(|board| board.geometry() == geometry);
    let conflict = conflicts(puzzle, board);
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
            out.push_str(&border(puzzle, row));
        } else if row > 0 && row % geometry.box_rows() == 0 {
            out.push('\n');
        }
        for col in 0..side {
            match style {
                Style::Plain => out.push(edge(puzzle, (row, col), (0, 1))),
                Style::Ansi if col > 0 && col % geometry.box_cols() == 0 => out.push_str("  "),
                Style::Ansi => {}
            }
            out.push_str(&cell(row, col));
        }
        out.push_str(if style == Style::Plain { "|\n" } else { "\n" });
    }
    match style {
        Style::Plain => out.push_str(&border(puzzle, side)),
        Style::Ansi => {}
    }
    out.trim_end().to_owned()
}

/// The line of text above a row, or below the last one.
fn border(puzzle: &Killer, row: usize) -> String {
    let side = puzzle.geometry().side();
    let mut line = String::new();
    for col in 0..=side {
        // Where four cells meet: a corner if a wall ends or turns there.
        let around = [
            (col > 0).then(|| edge(puzzle, (row, col - 1), (1, 0))),
            (col < side).then(|| edge(puzzle, (row, col), (1, 0))),
            (row > 0).then(|| edge(puzzle, (row - 1, col), (0, 1))),
            (row < side).then(|| edge(puzzle, (row, col), (0, 1))),
        ];
        line.push(match around {
            _ if around.iter().flatten().any(|edge| matches!(edge, '|' | '-')) => '+',
            _ if around.iter().flatten().any(|&edge| edge != ' ') => '.',
            _ => ' ',
        });
        if col < side {
            let drawn = edge(puzzle, (row, col), (1, 0));
            (0..5).for_each(|place| line.push(if drawn == '.' && place % 2 == 0 { ' ' } else { drawn }));
        }
    }
    line + "\n"
}

/// What is drawn above (`step` a row) or to the left (a column) of a cell: a wall between cages, dots between boxes, nothing.
fn edge(puzzle: &Killer, (row, col): (usize, usize), step: (usize, usize)) -> char {
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
fn conflicts(puzzle: &Killer, board: Option<&Board>) -> Vec<bool> {
    let Some(board) = board else { return vec![false; puzzle.geometry().cells()] };
    let mut conflict = board.conflicts();
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

const CAGE: Colour = (90, 96, 115);

/// Draws a Killer Sudoku: cages as dashed outlines with their sum in the first cell, the digits of `answer` in blue, what breaks
/// a rule or a sum in red. With a `solution`, digits are green where they agree with it and red where they do not. Boards of
/// another size than the puzzle are ignored.
pub fn picture(puzzle: &Killer, answer: Option<&Board>, solution: Option<&Board>) -> Picture {
    let geometry = puzzle.geometry();
    let same = |board: &&Board| board.geometry() == geometry;
    let (answer, solution) = (answer.filter(same), solution.filter(same));
    let side = geometry.side();
    let conflict = conflicts(puzzle, answer);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cages_and_faults_are_drawn() {
        let puzzle: Killer = "AABB\nCABD\nCCDD\nAAAD\n7 6 8 10 6".parse().unwrap();
        let blank = text(&puzzle, None, Style::Plain);
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
        let wrong = text(&puzzle, Some(&board), Style::Plain);
        assert!(wrong.contains("|7  1!    4!|6  .     . |"), "a sum of 8 for 7: {wrong}");
        let colour = text(&puzzle, Some(&board), Style::Ansi);
        assert_eq!((colour.matches("1;31").count(), colour.matches("m7  ").count()), (3, 1));
    }

    #[test]
    fn sums_and_digits_are_drawn() {
        let puzzle: Killer = "AABB\nCABD\nCCDD\nAAAD\n7 6 8 10 6".parse().unwrap();
        let svg = picture(&puzzle, None, None).svg();
        for (sum, count) in [("7", 1), ("6", 2), ("8", 1), ("10", 1)] {
            assert_eq!(svg.matches(&format!(">{sum}<")).count(), count, "{sum}");
        }
        let mut board = Board::empty(puzzle.geometry());
        board.set(0, 0, 3).unwrap();
        let mut solution = board.clone();
        assert!(picture(&puzzle, Some(&board), Some(&solution)).svg().contains("fill=\"#14823c\">3<"));
        solution.set(0, 0, 2).unwrap();
        assert!(picture(&puzzle, Some(&board), Some(&solution)).svg().contains("fill=\"#cd1928\">3<"));
    }
}
