//! A pair of an ARC task on the canvas, as a [`Task`]: what can be said of it alone. What a task is has several of them, and its
//! answers are judged by a vote: [`ArcData`](super::ArcData), [`Voting`](super::Voting).

use std::fmt;

use super::{ArcTask, CANVAS, Pair, VOCAB_SIZE, decode, draw, encode, side_of};
use crate::grid::Grid;
use crate::groups::{Groups, Kind, by_number};
use crate::render::{Picture, Style};
use crate::task::{GenerateOptions, Size, Solutions, Task};

/// ARC on a canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arc {
    canvas: usize,
}

impl Default for Arc {
    fn default() -> Self {
        Self { canvas: CANVAS }
    }
}

impl Arc {
    /// Rows and columns of the canvas.
    pub const fn canvas(&self) -> usize {
        self.canvas
    }

    fn place(&self, grid: &Grid) -> Vec<u8> {
        let mut canvas = vec![0u8; self.canvas * self.canvas];
        encode(grid, (0, 0), &mut canvas);
        canvas
    }
}

impl fmt::Display for Arc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ARC")
    }
}

fn grid(tokens: &[u8]) -> Option<Grid> {
    decode(tokens).map(|(grid, _)| grid)
}

/// The pair as a task of its own.
fn alone(input: &Grid, answer: Option<&[u8]>) -> ArcTask {
    let pair = Pair { input: input.clone(), output: answer.and_then(grid) };
    ArcTask { id: "example".to_owned(), train: vec![pair], test: Vec::new() }
}

impl Task for Arc {
    type Puzzle = Grid;
    type Solution = Grid;

    const NAME: &'static str = "arc";
    const ABOUT: &'static str = "the Abstraction and Reasoning Corpus";
    const RULES: bool = false;

    fn of_size(Size { rows, cols, .. }: Size) -> Result<Self, String> {
        match rows == cols && (1..=CANVAS).contains(&rows) {
            true => Ok(Self { canvas: rows }),
            false => Err(format!(
                "expected a canvas of as many rows as columns, at most {CANVAS}, got {rows}x{cols}"
            )),
        }
    }

    fn of_tokens(seq_len: usize, vocab_size: usize) -> Option<Self> {
        // 441 tokens of 12 kinds are a Samurai Sudoku: a canvas of that side is not told by its size.
        const SAMURAI: usize = 21;
        let canvas = side_of(seq_len).filter(|side| vocab_size == VOCAB_SIZE && *side != SAMURAI)?;
        Some(Self { canvas })
    }

    fn of_text(_: &str) -> Result<Self, String> {
        Err("an ARC task is no single puzzle; it is read from JSON".to_owned())
    }

    fn seq_len(&self) -> usize {
        self.canvas * self.canvas
    }

    fn vocab_size(&self) -> usize {
        VOCAB_SIZE
    }

    fn size(&self) -> Option<(usize, usize)> {
        None
    }

    fn encode(&self, puzzle: &Grid) -> Vec<u8> {
        self.place(puzzle)
    }

    fn encode_solution(&self, _: &Grid, solution: &Grid) -> Vec<u8> {
        self.place(solution)
    }

    fn decode(&self, input: &[u8]) -> Result<Grid, String> {
        grid(input)
            .ok_or_else(|| "expected tokens with a grid of colours and its borders, got none".to_owned())
    }

    /// All twelve tokens are values, since an answer may leave any of them in a cell: of those, padding, end and black are told apart.
    /// A cell knows the cells beside it and all cells on each side of it, its row, its column and the canvas.
    fn groups(&self) -> Option<Groups> {
        let side = self.canvas;
        let lines = |name, number: fn(usize, usize) -> usize| Kind {
            name,
            groups: by_number((side, side), number),
            own: false,
        };
        // The first `count` cells that are met on the way from each cell to the border.
        let beside = |name, count: usize, (down, right): (isize, isize)| {
            let met = |cell: usize| {
                let on_canvas = |place: usize| (place < side).then_some(place);
                (1..=count as isize).map_while(move |distance| {
                    let row = on_canvas((cell / side).checked_add_signed(distance * down)?)?;
                    let col = on_canvas((cell % side).checked_add_signed(distance * right)?)?;
                    Some((row * side + col) as u32)
                })
            };
            let groups = (0..side * side).map(|cell| met(cell).collect()).collect();
            Kind { name, groups, own: true }
        };
        let kinds = vec![
            lines("row", |row, _| row),
            lines("column", |_, col| col),
            lines("canvas", |_, _| 0),
            beside("above", 1, (-1, 0)),
            beside("below", 1, (1, 0)),
            beside("left", 1, (0, -1)),
            beside("right", 1, (0, 1)),
            beside("all above", side, (-1, 0)),
            beside("all below", side, (1, 0)),
            beside("all left", side, (0, -1)),
            beside("all right", side, (0, 1)),
        ];
        Some(Groups { first_value: 0, after_values: 0, distinct_values: 3, kinds })
    }

    fn symmetries(&self) -> (f64, &'static str) {
        let orders = (1..=9).map(f64::from).product::<f64>();
        (8.0 * orders, "turned and mirrored, colours but black exchanged; then translated")
    }

    fn parse(&self, _: &str) -> Result<Grid, String> {
        Err("an ARC task is no single puzzle; it is read from JSON".to_owned())
    }

    fn line(&self, puzzle: &Grid) -> String {
        draw::grid(puzzle, Style::Plain).replace('\n', "/")
    }

    fn answer_line(&self, puzzle: &Grid, answer: &[u8]) -> String {
        self.line(grid(answer).as_ref().unwrap_or(puzzle))
    }

    fn solutions(&self, _: &Grid) -> Solutions<Grid> {
        Solutions::Unknown
    }

    fn verify(&self, _: &Grid, _: &[u8]) -> Result<(), String> {
        Err("answers to ARC are judged by a vote, not one by one".to_owned())
    }

    fn generate(&self, _: &GenerateOptions, _: u64, _: u64) -> Result<(Grid, Grid), String> {
        Err("ARC tasks are not generated, they come from files".to_owned())
    }

    fn measures(&self, puzzle: &Grid, label: &[u8]) -> Vec<(&'static str, f64)> {
        let mut colours = puzzle.cells().to_vec();
        colours.sort_unstable();
        colours.dedup();
        let mut found = vec![
            ("cells of the input", puzzle.cells().len() as f64),
            ("colours of the input", colours.len() as f64),
        ];
        found.extend(grid(label).map(|grid| ("cells of the output", grid.cells().len() as f64)));
        found
    }

    fn render(&self, puzzle: &Grid, answer: Option<&[u8]>, style: Style) -> String {
        draw::task(&alone(puzzle, answer), style)
    }

    fn picture(&self, puzzle: &Grid, answer: Option<&[u8]>, _: Option<&[u8]>) -> Picture {
        draw::task_picture(&alone(puzzle, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_cell() {
        let groups = Arc { canvas: 3 }.groups().unwrap();
        assert_eq!((groups.first_value, groups.distinct_values), (0, 3));
        let of_cell = |name: &str, cell: u32| {
            let kind = groups.kinds.iter().find(|kind| kind.name == name).unwrap();
            let own = kind.own.then(|| kind.groups[cell as usize].clone());
            own.unwrap_or_else(|| kind.groups.iter().find(|group| group.contains(&cell)).unwrap().clone())
        };
        for (name, cells) in [
            ("row", vec![6, 7, 8]),
            ("column", vec![1, 4, 7]),
            ("canvas", (0..9).collect()),
            ("above", vec![4]),
            ("below", vec![]),
            ("left", vec![6]),
            ("right", vec![8]),
            ("all above", vec![4, 1]),
            ("all below", vec![]),
            ("all left", vec![6]),
        ] {
            assert_eq!(of_cell(name, 7), cells, "{name}");
        }
        assert_eq!(of_cell("all right", 3), [4, 5]);
    }
}
