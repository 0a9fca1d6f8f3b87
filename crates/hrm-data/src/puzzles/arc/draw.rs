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

/// A pair with its title and a prediction.
type Row<'a> = (String, &'a Pair, Option<&'a Grid>);

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

/// Draws a pair, input beside output; `prediction` is drawn in a third place if there is one, with cells that differ from the
/// output marked. A withheld output is `?`.
pub fn pair_picture(pair: &Pair, prediction: Option<&Grid>) -> Picture {
    pairs(&[(String::new(), pair, prediction)])
}

/// Draws a task: each pair on its own line, input beside output; a withheld output is `?`.
pub fn task_picture(task: &ArcTask) -> Picture {
    let named = |name: &'static str, pairs: &'_ [Pair]| {
        (1..=pairs.len()).map(move |i| format!("{name} {i}")).collect::<Vec<_>>()
    };
    let titles = named("demonstration", &task.train).into_iter().chain(named("test", &task.test));
    let all: Vec<_> = titles.zip(task.pairs()).map(|(title, pair)| (title, pair, None)).collect();
    pairs(&all)
}

/// Pairs below each other, each with its title.
fn pairs(all: &[Row<'_>]) -> Picture {
    let units = |cells: usize| cells as f32 * CELL;
    let width_of = |grid: Option<&Grid>| units(grid.map_or(2, Grid::cols).max(1));
    let height_of = |grid: Option<&Grid>| units(grid.map_or(2, Grid::rows).max(1));
    let widest = |of: &dyn Fn(&Row<'_>) -> f32| all.iter().map(of).fold(0.0, f32::max);
    let first = widest(&|(_, pair, _)| width_of(Some(&pair.input)));
    let second = widest(&|(_, pair, _)| width_of(pair.output.as_ref()));
    let third = widest(&|(_, _, prediction)| prediction.map_or(0.0, |grid| GAP + width_of(Some(grid))));
    let height = |(title, pair, prediction): &Row<'_>| {
        let grids = height_of(Some(&pair.input)).max(height_of(pair.output.as_ref()));
        let grids = grids.max(prediction.map_or(0.0, |grid| height_of(Some(grid))));
        grids + if title.is_empty() { 0.0 } else { TITLE }
    };
    let between = 18.0;
    let total = all.iter().map(height).sum::<f32>() + between * all.len().saturating_sub(1) as f32;
    let width = (first + GAP + second + third).max(120.0);
    let mut picture = Picture::new(2.0f32.mul_add(MARGIN, width), 2.0f32.mul_add(MARGIN, total));
    let mut top = MARGIN;
    for row in all {
        let (title, pair, prediction) = row;
        let below = top + height(row);
        if !title.is_empty() {
            picture.text((MARGIN, top + TITLE / 2.0 - 3.0), Anchor::Start, 9.0, false, INK, title);
            top += TITLE;
        }
        let middle = f32::midpoint(top, below);
        let place = |picture: &mut Picture, grid: &Grid, left: f32| {
            let corner = (left, middle - units(grid.rows()) / 2.0);
            draw_grid(picture, grid, corner);
            corner
        };
        place(&mut picture, &pair.input, MARGIN + (first - width_of(Some(&pair.input))) / 2.0);
        arrow(&mut picture, (MARGIN + first + GAP / 2.0, middle));
        let left = MARGIN + first + GAP + (second - width_of(pair.output.as_ref())) / 2.0;
        match &pair.output {
            Some(output) => {
                place(&mut picture, output, left);
            }
            None => picture.text((left + CELL, middle), Anchor::Middle, 18.0, true, INK, '?'),
        }
        if let Some(grid) = prediction {
            let corner = place(&mut picture, grid, MARGIN + first + GAP + second + GAP);
            if let Some(output) = &pair.output {
                mark_faults(&mut picture, grid, output, corner);
            }
        }
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

/// Crosses through cells that differ from the output; a prediction of another shape is crossed out as a whole.
fn mark_faults(picture: &mut Picture, grid: &Grid, output: &Grid, (left, top): (f32, f32)) {
    let mut cross = |(x, y): (f32, f32), (width, height): (f32, f32), pen: f32| {
        for (pen, colour) in [(pen + 2.0, (0, 0, 0)), (pen, (255, 255, 255))] {
            picture.line(&[(x, y), (x + width, y + height)], pen, colour);
            picture.line(&[(x + width, y), (x, y + height)], pen, colour);
        }
    };
    if (grid.rows(), grid.cols()) != (output.rows(), output.cols()) {
        cross((left, top), (grid.cols() as f32 * CELL, grid.rows() as f32 * CELL), 3.0);
        return;
    }
    for (index, _) in grid.cells().iter().zip(output.cells()).enumerate().filter(|(_, (a, b))| a != b) {
        let (row, col) = (index / grid.cols(), index % grid.cols());
        let corner = ((col as f32).mul_add(CELL, left + 4.0), (row as f32).mul_add(CELL, top + 4.0));
        cross(corner, (CELL - 8.0, CELL - 8.0), 1.6);
    }
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
        let pair = Pair { input: input.clone(), output: None };
        let svg = pair_picture(&pair, None).svg();
        for colour in [
            "#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b",
            "#7fdbff", "#870c25",
        ] {
            assert_eq!(svg.matches(&format!("fill=\"{colour}\"")).count(), 1, "{colour}");
        }
        assert!(svg.contains(">?<"));
        let solved = Pair { input: input.clone(), output: Some(input.clone()) };
        let plain = pair_picture(&solved, Some(&input)).svg();
        let mut wrong = input;
        wrong.set(1, 1, 0).unwrap();
        let crossed = pair_picture(&solved, Some(&wrong)).svg();
        assert_eq!(crossed.matches("<polyline").count(), plain.matches("<polyline").count() + 4);
        let other = pair_picture(&solved, Some(&Grid::new(1, 1, vec![200]).unwrap()));
        assert!(other.png(1.0).is_ok());
        let task = ArcTask { id: "t".to_owned(), train: vec![solved], test: vec![pair] };
        let svg = task_picture(&task).svg();
        assert!(svg.contains(">demonstration 1<") && svg.contains(">test 1<"));
    }
}
