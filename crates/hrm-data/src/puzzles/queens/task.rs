//! Boards of queens as rows of tokens and as text.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{EMPTY, Placement, QUEEN, Queens, attack};
use crate::grid::Dihedral;
use crate::groups::{Groups, Kind, by_number};
use crate::render::{Picture, Style};
use crate::task::{Beliefs, Exact, GenerateOptions, Size, Solutions, Task, TokenSymmetry};

impl fmt::Display for Queens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-queens", self.side)
    }
}

/// The characters of cells: all but spaces, line ends, and the mark of a fault in a drawing.
fn cells(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !c.is_whitespace() && *c != '!')
}

fn no_square(got: usize) -> String {
    format!("expected a square board of 4x4 to 24x24, all its cells as `.` and `Q`; got {got} cells")
}

impl Task for Queens {
    type Puzzle = Placement;
    type Solution = Placement;

    const NAME: &'static str = "queens";
    const ABOUT: &'static str = "n-queens completion";
    const SIZE: Option<(usize, usize)> = Some((8, 8));

    fn of_size(Size { rows, cols, .. }: Size) -> Result<Self, String> {
        if rows == cols { Self::new(rows) } else { Err(no_square(rows.saturating_mul(cols))) }
    }

    fn of_tokens(seq_len: usize, vocab_size: usize) -> Option<Self> {
        let task = Self::new(seq_len.isqrt()).ok()?;
        ((task.seq_len(), task.vocab_size()) == (seq_len, vocab_size)).then_some(task)
    }

    fn of_text(text: &str) -> Result<Self, String> {
        let got = cells(text).count();
        let side = got.isqrt();
        Self::new(side).ok().filter(|_| side * side == got).ok_or_else(|| no_square(got))
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((self.side, self.side))
    }

    fn seq_len(&self) -> usize {
        self.side * self.side
    }

    fn vocab_size(&self) -> usize {
        3
    }

    fn encode(&self, puzzle: &Placement) -> Vec<u8> {
        let mut tokens = vec![EMPTY; self.seq_len()];
        for (row, queen) in puzzle.iter().enumerate().take(self.side) {
            if let Some(col) = queen.filter(|&col| usize::from(col) < self.side) {
                tokens[row * self.side + usize::from(col)] = QUEEN;
            }
        }
        tokens
    }

    fn encode_solution(&self, _: &Placement, solution: &Placement) -> Vec<u8> {
        self.encode(solution)
    }

    fn decode(&self, input: &[u8]) -> Result<Placement, String> {
        if input.len() != self.seq_len() {
            return Err(format!("expected {} cells, got {}", self.seq_len(), input.len()));
        }
        let row = |(index, cells): (usize, &[u8])| {
            if let Some(col) = cells.iter().position(|&t| t != EMPTY && t != QUEEN) {
                let (row, col, got) = (index + 1, col + 1, cells[col]);
                return Err(format!("row {row}, column {col}: expected 1 (empty) or 2 (queen), got {got}"));
            }
            match cells.iter().filter(|&&t| t == QUEEN).count() {
                0 | 1 => Ok(cells.iter().position(|&t| t == QUEEN).map(|col| col as u8)),
                got => Err(format!("row {}: expected at most one, got {got} queens", index + 1)),
            }
        };
        input.chunks_exact(self.side).enumerate().map(row).collect()
    }

    /// Lines (rows and columns) and diagonals, which are one kind each, so that turning and mirroring are symmetries of a model that mixes
    /// by them.
    fn groups(&self) -> Option<Groups> {
        let by = |number: &dyn Fn(usize, usize) -> usize| by_number((self.side, self.side), number);
        let kind = |name, groups: [Vec<Vec<u32>>; 2]| Kind { name, groups: groups.concat(), own: false };
        let lines = kind("line", [by(&|r, _| r), by(&|_, c| c)]);
        let diagonals = kind("diagonal", [by(&|r, c| r + c), by(&|r, c| r + self.side - c)]);
        Some(Groups {
            first_value: self.vocab_size(),
            after_values: 0,
            distinct_values: 0,
            kinds: vec![lines, diagonals],
        })
    }

    fn parse(&self, text: &str) -> Result<Placement, String> {
        let symbols = cells(text).enumerate();
        let token = |(at, symbol)| match symbol {
            'Q' | 'q' => Ok(QUEEN),
            '.' | '-' => Ok(EMPTY),
            got => Err(format!("character {}: expected `Q` for a queen or `.`, got {got:?}", at + 1)),
        };
        self.decode(&symbols.map(token).collect::<Result<Vec<u8>, _>>()?)
    }

    fn line(&self, puzzle: &Placement) -> String {
        self.answer_line(puzzle, &self.encode(puzzle))
    }

    fn answer_line(&self, _: &Placement, answer: &[u8]) -> String {
        answer.iter().map(|&token| if token == QUEEN { 'Q' } else { '.' }).collect()
    }

    fn solutions(&self, puzzle: &Placement) -> Solutions<Placement> {
        let mut found = Vec::new();
        self.complete_with(puzzle, None, u64::MAX, &mut |board| {
            found.push(board.clone());
            found.len() < 2
        });
        match (found.pop(), found.pop()) {
            (None, _) => Solutions::None,
            (Some(only), None) => Solutions::Unique(only),
            (Some(other), Some(one)) => Solutions::Several(one, other),
        }
    }

    fn search(&self, puzzle: &Placement, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        let mut answer = None;
        let (guesses, nodes) = self.complete_with(puzzle, beliefs, max_nodes, &mut |board| {
            answer = Some(self.encode(board));
            false
        });
        answer.map(|answer| Exact { answer, guesses, nodes })
    }

    fn class(&self, puzzle: &Placement) -> Vec<u8> {
        let tokens = self.encode(puzzle);
        let image = |symmetry: Dihedral| {
            let mut image = vec![0; tokens.len()];
            symmetry.apply_cells((self.side, self.side), &tokens, &mut image, |token| token);
            image
        };
        Dihedral::ALL.map(image).into_iter().min().unwrap_or(tokens)
    }

    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        TokenSymmetry::dihedral(self.side, self.side, rng)
    }

    fn augmentation(&self) -> Option<Value> {
        Some(json!({ "kind": "dihedral", "rows": self.side, "cols": self.side }))
    }

    fn symmetries(&self) -> (f64, &'static str) {
        (8.0, "turned and mirrored")
    }

    fn verify(&self, puzzle: &Placement, answer: &[u8]) -> Result<(), String> {
        let board = self.decode(answer)?;
        if let Some(row) = board.iter().position(Option::is_none) {
            return Err(format!("row {}: expected a queen, got 0 queens", row + 1));
        }
        for (row, given) in puzzle.iter().enumerate() {
            if let Some(col) = given.filter(|_| board.get(row) != Some(given)) {
                return Err(format!("row {}: the given queen in column {} is gone", row + 1, col + 1));
            }
        }
        let told = |(a, b)| Err(format!("the queens in rows {a} and {b} attack each other"));
        attack(&board).map_or(Ok(()), told)
    }

    fn generate(&self, _: &GenerateOptions, seed: u64, index: u64) -> Result<(Placement, Placement), String> {
        Ok(self.make(seed, index))
    }

    fn measures(&self, puzzle: &Placement, _: &[u8]) -> Vec<(&'static str, f64)> {
        vec![("queens given", puzzle.iter().flatten().count() as f64)]
    }

    fn render(&self, puzzle: &Placement, answer: Option<&[u8]>, style: Style) -> String {
        self.text(puzzle, answer, style)
    }

    fn picture(&self, puzzle: &Placement, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        self.pictured(puzzle, answer, label)
    }
}
