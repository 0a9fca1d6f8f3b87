//! Samurai as rows of tokens: the canvas row by row, 441 tokens of 12 kinds. 1 is a blank, `d + 1` the digit `d`; cells outside
//! of the boards are 11 in the input and 0, not scored, in the label.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{BOARDS, CELLS, Generator, SIDE, Samurai, draw, is_inside};
use crate::grid::Dihedral;
use crate::groups::Groups;
use crate::puzzles::engine::Search;
use crate::puzzles::sudoku::{Geometry, group_kinds};
use crate::random;
use crate::render::{Picture, Style};
use crate::task::{Beliefs, Exact, GenerateOptions, MAX_NODES, Size, Solutions, Task, TokenSymmetry, told};

/// The token of cells outside of the boards.
pub const OUTSIDE: u8 = 11;

/// Samurai as a [`Task`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamuraiTask;

/// The boards of an answer, whatever it says outside of them.
fn answer_of(answer: &[u8]) -> Result<Samurai, String> {
    let digit = |(cell, &token): (usize, &u8)| match is_inside(cell / SIDE, cell % SIDE) {
        true => token.saturating_sub(1),
        false => 0,
    };
    Samurai::from_cells(answer.iter().enumerate().map(digit).collect()).map_err(told)
}

impl fmt::Display for SamuraiTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Samurai Sudoku")
    }
}

impl Task for SamuraiTask {
    type Puzzle = Samurai;
    type Solution = Samurai;

    const NAME: &'static str = "samurai";
    const ABOUT: &'static str = "Samurai Sudoku: five 9x9 boards that overlap";
    const OPTIONS: &'static [&'static str] = &["givens"];
    const LOOSE: bool = false;
    const HINTS: bool = true;

    fn of_size(_: Size) -> Result<Self, String> {
        Ok(Self)
    }

    fn of_tokens(seq_len: usize, vocab_size: usize) -> Option<Self> {
        ((seq_len, vocab_size) == (Self.seq_len(), Self.vocab_size())).then_some(Self)
    }

    fn of_text(_: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn size(&self) -> Option<(usize, usize)> {
        None
    }

    fn seq_len(&self) -> usize {
        CELLS
    }

    fn vocab_size(&self) -> usize {
        usize::from(OUTSIDE) + 1
    }

    fn encode(&self, puzzle: &Samurai) -> Vec<u8> {
        let token = |(cell, digit): (usize, &u8)| match is_inside(cell / SIDE, cell % SIDE) {
            true => digit + 1,
            false => OUTSIDE,
        };
        puzzle.cells().iter().enumerate().map(token).collect()
    }

    fn encode_solution(&self, _: &Samurai, solution: &Samurai) -> Vec<u8> {
        self.encode(solution).into_iter().map(|token| if token == OUTSIDE { 0 } else { token }).collect()
    }

    fn decode(&self, input: &[u8]) -> Result<Samurai, String> {
        if input.len() == CELLS {
            for (cell, &got) in input.iter().enumerate() {
                let (row, col) = (cell / SIDE, cell % SIDE);
                let (fits, expected) = match is_inside(row, col) {
                    true => ((1..=10).contains(&got), "a token from 1 (blank) to 10 (digit 9)"),
                    false => (got == OUTSIDE, "token 11 outside of the boards"),
                };
                if !fits {
                    let (row, column) = (row + 1, col + 1);
                    return Err(format!("row {row}, column {column}: expected {expected}, got {got}"));
                }
            }
        }
        answer_of(input)
    }

    /// The lines, boxes and parts of the five boards, of the same kinds as those of a Sudoku; what two boards share counts once.
    fn groups(&self) -> Option<Groups> {
        let mut kinds = group_kinds(Geometry::S9);
        for kind in &mut kinds {
            let on_canvas = BOARDS.iter().flat_map(|(_, (top, left))| {
                let place = move |cell: &u32| {
                    let (row, col) = (top + *cell as usize / 9, left + *cell as usize % 9);
                    (row * SIDE + col) as u32
                };
                kind.groups.iter().map(move |group| group.iter().map(place).collect())
            });
            let all: std::collections::BTreeSet<Vec<u32>> = on_canvas.collect();
            kind.groups = all.into_iter().collect();
        }
        Some(Groups { first_value: 2, after_values: 1, distinct_values: 0, kinds })
    }

    /// Digits change names, lines change places within their strips of three, the two strips that touch one end of the canvas
    /// change places, and the canvas is turned and mirrored.
    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        let (rows, cols) = (lines(rng), lines(rng));
        let cells: Vec<u32> =
            rows.iter().flat_map(|row| cols.iter().map(move |col| row * SIDE as u32 + col)).collect();
        let mut sources = vec![0; CELLS];
        Dihedral::random(SIDE, SIDE, rng).apply_cells((SIDE, SIDE), &cells, &mut sources, |cell| cell);
        let digits = random::permutation(rng, 9).into_iter().map(|digit| digit as u8 + 2);
        let tokens: Vec<u8> = [0, 1].into_iter().chain(digits).collect();
        TokenSymmetry::new(sources, &tokens).unwrap_or_else(|_| TokenSymmetry::identity(CELLS))
    }

    fn augmentation(&self) -> Option<Value> {
        Some(json!({ "kind": "samurai_symmetry" }))
    }

    fn symmetries(&self) -> (f64, &'static str) {
        let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
        (
            8.0 * (factorial(3).powi(7) * 4.0).powi(2) * factorial(9),
            "digits relabelled; lines exchanged within their strips, outer strips exchanged; turned and mirrored",
        )
    }

    fn parse_answer(&self, puzzle: &Samurai, text: &str) -> Result<Vec<u8>, String> {
        let boards: Samurai = text.parse().map_err(told)?;
        let answer = self.encode_solution(puzzle, &boards);
        self.verify(puzzle, &answer)?;
        Ok(answer)
    }

    /// What the answer says outside of the boards does not matter.
    fn parse(&self, text: &str) -> Result<Samurai, String> {
        text.parse().map_err(told)
    }

    fn line(&self, puzzle: &Samurai) -> String {
        puzzle.to_line()
    }

    fn answer_line(&self, puzzle: &Samurai, answer: &[u8]) -> String {
        answer_of(answer).as_ref().unwrap_or(puzzle).to_line()
    }

    fn solutions(&self, puzzle: &Samurai) -> Solutions<Samurai> {
        if puzzle.validate().is_err() {
            return Solutions::None;
        }
        puzzle.search(2, MAX_NODES).into()
    }

    fn search(&self, puzzle: &Samurai, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        let weight = |cell, digit| beliefs.map_or(0.0, |beliefs| beliefs.weight(cell, digit + 1));
        let Search { first, work, .. } = puzzle.search_preferring(1, max_nodes, &weight);
        let answer = self.encode_solution(puzzle, &first?);
        Some(Exact { answer, guesses: work.guesses, nodes: work.nodes })
    }

    fn verify(&self, puzzle: &Samurai, answer: &[u8]) -> Result<(), String> {
        let answer = answer_of(answer)?;
        for (cell, (&expected, &got)) in puzzle.cells().iter().zip(answer.cells()).enumerate() {
            let (row, column) = (cell / SIDE + 1, cell % SIDE + 1);
            if expected != 0 && got != expected {
                return Err(format!("row {row}, column {column}: the given {expected} became {got}"));
            }
            if got == 0 && is_inside(row - 1, column - 1) {
                return Err(format!("row {row}, column {column} is blank"));
            }
        }
        answer.validate().map_err(told)
    }

    fn generate(
        &self,
        options: &GenerateOptions,
        seed: u64,
        index: u64,
    ) -> Result<(Samurai, Samurai), String> {
        let mut generator = Generator::new(seed);
        if let Some((fewest, most)) = options.givens {
            generator = generator.with_clues(fewest, most);
        }
        let made = generator.generate(index);
        Ok((made.puzzle, made.solution))
    }

    fn example(&self) -> Option<String> {
        Some(Generator::new(5).with_clues(150, 150).generate(0).puzzle.to_line())
    }

    fn measures(&self, puzzle: &Samurai, _: &[u8]) -> Vec<(&'static str, f64)> {
        let search = puzzle.search(2, 100_000);
        let mut found = vec![("givens", puzzle.clues() as f64)];
        found.extend(search.is_unique().map(|_| ("nodes of an exact search", search.work.nodes as f64)));
        found
    }

    fn givens(&self, puzzle: &Samurai) -> Option<usize> {
        Some(puzzle.clues())
    }

    fn render(&self, puzzle: &Samurai, answer: Option<&[u8]>, style: Style) -> String {
        let board = answer.and_then(|tokens| answer_of(tokens).ok());
        draw::text(puzzle, board.as_ref(), style)
    }

    fn picture(&self, puzzle: &Samurai, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        let board = |tokens: Option<&[u8]>| tokens.and_then(|tokens| answer_of(tokens).ok());
        draw::picture(puzzle, board(answer).as_ref(), board(label).as_ref())
    }
}

/// A random order of lines that keeps every box together: seven strips of three lines, of which the first two and the last two
/// cross the same boards.
fn lines(rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut strips: [u32; 7] = [0, 1, 2, 3, 4, 5, 6];
    random::shuffle(rng, &mut strips[..2]);
    random::shuffle(rng, &mut strips[5..]);
    let mut lines = Vec::with_capacity(SIDE);
    for strip in strips {
        lines.extend(random::permutation(rng, 3).into_iter().map(|line| 3 * strip + line));
    }
    lines
}
