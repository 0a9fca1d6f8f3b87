//! ARC grids and tasks as text and as pictures, in the official palette.

use std::fmt::Write as _;

use super::{ArcTask, Pair};
use crate::grid::Grid;
use crate::render::{Anchor, Colour, INK, Picture, Style};

const CELL: f32 = 16.0;
const MARGIN: f32 = 14.0;
/// Between input and output, and between pairs.
const GAP: f32 = 44.0;
const TITLE: f32 = 22.0;
const LINE: Colour = (85, 85, 85);
/// A token that is no colour.
const UNKNOWN: Colour = (255, 255, 255);

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
pub fn grid(grid: &Grid, style: Style) -> String {
    let lines: Vec<String> = grid.iter_rows().map(|row| line(row, style)).collect();
    lines.join("\n")
}

/// Draws a task: each pair on its own, input beside output; a withheld output is `?`.
pub fn task(task: &ArcTask, style: Style) -> String {
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

/// Draws a task: each pair on its own line, input beside output; a withheld output is `?`.
pub fn task_picture(task: &ArcTask) -> Picture {
    let named = |name: &'static str, pairs: &'_ [Pair]| {
        (1..=pairs.len()).map(move |i| format!("{name} {i}")).collect::<Vec<_>>()
    };
    let titles = named("demonstration", &task.train).into_iter().chain(named("test", &task.test));
    let all: Vec<(String, &Pair)> = titles.zip(task.pairs()).collect();
    let units = |cells: usize| cells as f32 * CELL;
    let width_of = |grid: Option<&Grid>| units(grid.map_or(2, Grid::cols).max(1));
    let height_of = |grid: Option<&Grid>| units(grid.map_or(2, Grid::rows).max(1));
    let widest = |of: &dyn Fn(&Pair) -> f32| all.iter().map(|(_, pair)| of(pair)).fold(0.0, f32::max);
    let first = widest(&|pair| width_of(Some(&pair.input)));
    let second = widest(&|pair| width_of(pair.output.as_ref()));
    let height = |pair: &Pair| height_of(Some(&pair.input)).max(height_of(pair.output.as_ref())) + TITLE;
    let between = 18.0;
    let total = task.pairs().map(height).sum::<f32>() + between * all.len().saturating_sub(1) as f32;
    let width = (first + GAP + second).max(120.0);
    let mut picture = Picture::new(2.0f32.mul_add(MARGIN, width), 2.0f32.mul_add(MARGIN, total));
    let mut top = MARGIN;
    for (title, pair) in &all {
        let below = top + height(pair);
        picture.text((MARGIN, top + TITLE / 2.0 - 3.0), Anchor::Start, 9.0, false, INK, title);
        let middle = f32::midpoint(top + TITLE, below);
        let mut place = |grid: &Grid, left: f32| {
            draw_grid(&mut picture, grid, (left, middle - units(grid.rows()) / 2.0));
        };
        place(&pair.input, MARGIN + (first - width_of(Some(&pair.input))) / 2.0);
        let left = MARGIN + first + GAP + (second - width_of(pair.output.as_ref())) / 2.0;
        match &pair.output {
            Some(output) => place(output, left),
            None => picture.text((left + CELL, middle), Anchor::Middle, 18.0, true, INK, '?'),
        }
        arrow(&mut picture, (MARGIN + first + GAP / 2.0, middle));
        top = below + between;
    }
    picture
}

fn draw_grid(picture: &mut Picture, grid: &Grid, (left, top): (f32, f32)) {
    let (width, height) = (grid.cols() as f32 * CELL, grid.rows() as f32 * CELL);
    for (row, cells) in grid.iter_rows().enumerate() {
        for (col, &cell) in cells.iter().enumerate() {
            let colour = PALETTE.get(usize::from(cell)).copied().unwrap_or(UNKNOWN);
            let corner = ((col as f32).mul_add(CELL, left), (row as f32).mul_add(CELL, top));
            picture.rectangle(corner, (CELL, CELL), colour);
        }
    }
    for col in 0..=grid.cols() {
        let x = (col as f32).mul_add(CELL, left);
        picture.line(&[(x, top), (x, top + height)], 1.0, LINE);
    }
    for row in 0..=grid.rows() {
        let y = (row as f32).mul_add(CELL, top);
        picture.line(&[(left, y), (left + width, y)], 1.0, LINE);
    }
}

fn arrow(picture: &mut Picture, (x, y): (f32, f32)) {
    picture.line(&[(x - 12.0, y), (x + 12.0, y)], 2.4, INK);
    picture.line(&[(x + 5.0, y - 6.0), (x + 12.0, y), (x + 5.0, y + 6.0)], 2.4, INK);
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
            super::task(&task, Style::Plain),
            "task t\n\ndemonstration 1\n012    7\n345 -> 8\n       9\n\ntest 1\n012\n345 -> ?\n"
        );
        let colour = grid(&input, Style::Ansi);
        assert!(colour.contains("\x1b[48;2;0;116;217m  ") && colour.lines().count() == 2);
        assert_eq!(grid(&Grid::new(1, 2, vec![3, 99]).unwrap(), Style::Plain), "3?");
    }

    #[test]
    fn every_cell_has_its_official_colour() {
        let input = Grid::new(2, 5, (0..10).collect()).unwrap();
        let task = |pair: Pair| ArcTask { id: "t".to_owned(), train: vec![pair], test: Vec::new() };
        let pair = Pair { input: input.clone(), output: None };
        let svg = task_picture(&task(pair.clone())).svg();
        for colour in [
            "#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b",
            "#7fdbff", "#870c25",
        ] {
            assert_eq!(svg.matches(&format!("fill=\"{colour}\"")).count(), 1, "{colour}");
        }
        assert!(svg.contains(">?<"));
        let solved = Pair { input: input.clone(), output: Some(input) };
        let other = Pair { input: Grid::new(1, 1, vec![200]).unwrap(), output: None };
        assert!(task_picture(&task(other)).png(1.0).is_ok());
        let task = ArcTask { id: "t".to_owned(), train: vec![solved], test: vec![pair] };
        let svg = task_picture(&task).svg();
        assert!(svg.contains(">demonstration 1<") && svg.contains(">test 1<"));
    }
}
