//! ARC grids and tasks as text, in the official palette.

use std::fmt::Write as _;

use super::Style;
use crate::arc::{ArcTask, Pair};
use crate::grid::Grid;

/// The official colours of 0 to 9: black, blue, red, green, yellow, grey, magenta, orange, light blue, maroon.
pub const PALETTE: [(u8, u8, u8); 10] = [
    (0x00, 0x00, 0x00),
    (0x00, 0x74, 0xd9),
    (0xff, 0x41, 0x36),
    (0x2e, 0xcc, 0x40),
    (0xff, 0xdc, 0x00),
    (0xaa, 0xaa, 0xaa),
    (0xf0, 0x12, 0xbe),
    (0xff, 0x85, 0x1b),
    (0x7f, 0xdb, 0xff),
    (0x87, 0x0c, 0x25),
];

/// Draws a grid of colours, one line of text per row: digits, or blocks of colour two columns wide.
pub fn arc_grid(grid: &Grid, style: Style) -> String {
    let lines: Vec<String> = grid.iter_rows().map(|row| line(row, style)).collect();
    lines.join("\n")
}

/// Draws a task: each pair on its own, input beside output; a withheld output is `?`.
pub fn arc_task(task: &ArcTask, style: Style) -> String {
    let mut out = format!("task {}\n", task.id);
    for (name, pairs) in [("demonstration", &task.train), ("test", &task.test)] {
        for (index, pair) in pairs.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\n{name} {}\n{}\n", index + 1, side_by_side(pair, style));
        }
    }
    out
}

fn side_by_side(pair: &Pair, style: Style) -> String {
    let left: Vec<&[u8]> = pair.input.iter_rows().collect();
    let right: Vec<&[u8]> = pair.output.iter().flat_map(Grid::iter_rows).collect();
    let width = pair.input.cols() * if style == Style::Ansi { 2 } else { 1 };
    let height = left.len().max(right.len()).max(1);
    let mut lines = Vec::new();
    for row in 0..height {
        let mut text = match left.get(row) {
            Some(cells) => line(cells, style),
            None => " ".repeat(width),
        };
        text.push_str(if row == height / 2 { " -> " } else { "    " });
        match right.get(row) {
            Some(cells) => text.push_str(&line(cells, style)),
            None if pair.output.is_none() && row == height / 2 => text.push('?'),
            None => text.truncate(text.trim_end_matches(' ').len()),
        }
        lines.push(text);
    }
    lines.join("\n")
}

fn line(cells: &[u8], style: Style) -> String {
    let mut out = String::new();
    for &cell in cells {
        match (style, PALETTE.get(usize::from(cell))) {
            (Style::Plain, Some(_)) => out.push(char::from(b'0' + cell)),
            (Style::Plain, None) => out.push('?'),
            (Style::Ansi, colour) => {
                let &(r, g, b) = colour.unwrap_or(&(255, 255, 255));
                // Writing to a String cannot fail.
                let _ = write!(out, "\x1b[48;2;{r};{g};{b}m  ");
            }
        }
    }
    if style == Style::Ansi {
        out.push_str("\x1b[0m");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_stand_side_by_side() {
        let input = Grid::new(2, 3, vec![0, 1, 2, 3, 4, 5]).unwrap();
        let output = Grid::new(3, 1, vec![7, 8, 9]).unwrap();
        let task = ArcTask {
            id: "t".to_owned(),
            train: vec![Pair { input: input.clone(), output: Some(output) }],
            test: vec![Pair { input: input.clone(), output: None }],
        };
        assert_eq!(
            arc_task(&task, Style::Plain),
            "task t\n\ndemonstration 1\n012    7\n345 -> 8\n       9\n\ntest 1\n012\n345 -> ?\n"
        );
        let colour = arc_grid(&input, Style::Ansi);
        assert!(colour.contains("\x1b[48;2;0;116;217m  ") && colour.lines().count() == 2);
        assert_eq!(arc_grid(&Grid::new(1, 2, vec![3, 99]).unwrap(), Style::Plain), "3?");
    }
}
