//! Killer Sudoku as rows of tokens.
//!
//! An example has three planes of `side * side` tokens, one after the other, so that the three tokens of a cell stand at fixed
//! distances from each other:
//!
//! | plane | input | label | tokens |
//! |---|---|---|---|
//! | digits | blank | the solution | 1 blank, `d + 1` digit `d` |
//! | links | which of its four neighbours share the cell's cage | 0, not scored | `side + 2 + bits`; bits 1 above, 2 right, 4 below, 8 left |
//! | sums | the sum of the cell's cage, in each of its cells | 0, not scored | `side + 17 + sum` |
//!
//! Links say the same of a cage wherever it lies, unlike numbers or colours of cages, which are arbitrary. A 9x9 puzzle has
//! 243 tokens of 72 kinds.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Cage, Generator, Killer, KillerError, draw, generate_split, regions, touch};
use crate::grid::Dihedral;
use crate::puzzles::engine::Search;
use crate::puzzles::sudoku::{Board, Geometry, Sudoku};
use crate::random;
use crate::render::{Picture, Style};
use crate::task::{
    Beliefs, Exact, GenerateOptions, MAX_NODES, Record, Size, Solutions, Split, SplitError, Task,
    TokenSymmetry, told,
};

/// Killer Sudoku of one shape as a [`Task`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillerTask {
    geometry: Geometry,
}

/// Directions as in the bits of links: row and column steps.
const STEPS: [(isize, isize); 4] = [(-1, 0), (0, 1), (1, 0), (0, -1)];

impl KillerTask {
    /// Puzzles of a shape.
    ///
    /// # Errors
    /// [`KillerError::Geometry`] if the board is larger than 9x9.
    pub fn new(geometry: Geometry) -> Result<Self, KillerError> {
        super::check(geometry)?;
        Ok(Self { geometry })
    }

    /// The board.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn generator(&self, options: &GenerateOptions, seed: u64) -> Result<Generator, String> {
        let generator = Generator::new(self.geometry, seed).map_err(told)?;
        Ok(options.largest.into_iter().fold(generator, Generator::with_largest_cage))
    }

    /// Token of no links; token of sum 0.
    const fn bases(&self) -> (usize, usize) {
        (self.geometry.side() + 2, self.geometry.side() + 17)
    }

    /// The board in the first plane of an answer: `[side * side]` or more tokens.
    fn answer(&self, answer: &[u8]) -> Result<Board, String> {
        let cells = self.geometry.cells();
        let got = answer.len();
        if got != cells && got != self.seq_len() {
            let all = self.seq_len();
            return Err(format!("expected {all} (or the {cells} of the digits alone) tokens, got {got}"));
        }
        let digits = answer[..cells].iter().map(|token| token.saturating_sub(1)).collect();
        Board::from_cells(self.geometry, digits).map_err(told)
    }
}

/// Which neighbours share a cell's cage.
fn links(side: usize, cell: usize, same: impl Fn(usize) -> bool) -> usize {
    let neighbour = |&(dr, dc): &(isize, isize)| {
        let row = (cell / side).checked_add_signed(dr).filter(|&row| row < side)?;
        let col = (cell % side).checked_add_signed(dc).filter(|&col| col < side)?;
        Some(row * side + col)
    };
    let bit = |(bit, step)| usize::from(neighbour(step).is_some_and(&same)) << bit;
    STEPS.iter().enumerate().map(bit).sum()
}

/// A random symmetry of the board as it acts on the three planes.
fn killer_symmetry(geometry: Geometry, rng: &mut ChaCha8Rng) -> TokenSymmetry {
    let all = Killer::symmetries(geometry);
    let symmetry = all[random::below(rng, all.len() as u32) as usize];
    token_symmetry(geometry, symmetry)
}

fn token_symmetry(geometry: Geometry, symmetry: Dihedral) -> TokenSymmetry {
    let (side, cells) = (geometry.side(), geometry.cells());
    let plane: Vec<u32> = (0..cells as u32).collect();
    let mut sources = vec![0; cells];
    symmetry.apply_cells((side, side), &plane, &mut sources, |cell| cell);
    let sources: Vec<u32> =
        (0..3).flat_map(|plane| sources.iter().map(move |s| s + plane * cells as u32)).collect();
    // Where the neighbours of the middle of a 3x3 grid go.
    let image = |(dr, dc): (isize, isize)| {
        let (row, col) = symmetry.destination(3, 3, (1 + dr) as usize, (1 + dc) as usize);
        STEPS.iter().position(|&(r, c)| (1 + r) as usize == row && (1 + c) as usize == col).unwrap_or(0)
    };
    let links = |bits: usize| -> usize {
        (0..4).filter(|bit| bits & (1 << bit) != 0).map(|bit| 1 << image(STEPS[bit])).sum()
    };
    let first = side + 2;
    let tokens: Vec<u8> =
        (0..first).chain((0..16).map(|bits| first + links(bits))).map(|token| token as u8).collect();
    TokenSymmetry::new(sources, &tokens).unwrap_or_else(|_| TokenSymmetry::identity(3 * cells))
}

impl fmt::Display for KillerTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{0}x{0} Killer Sudoku", self.geometry.side())
    }
}

impl Task for KillerTask {
    type Puzzle = Killer;
    type Solution = Board;

    const NAME: &'static str = "killer";
    const ABOUT: &'static str = "Killer Sudoku: no givens, cages with sums";
    const SIZE: Option<(usize, usize)> = Some((9, 9));
    const OPTIONS: &'static [&'static str] = &["largest"];
    const COMMAS: bool = true;

    fn of_size(size: Size) -> Result<Self, String> {
        Self::new(Sudoku::of_size(size)?.geometry).map_err(told)
    }

    fn of_tokens(seq_len: usize, vocab_size: usize) -> Option<Self> {
        let geometry = Geometry::from_cells(seq_len / 3).filter(|_| seq_len.is_multiple_of(3))?;
        Self::new(geometry).ok().filter(|task| task.vocab_size() == vocab_size)
    }

    fn of_text(text: &str) -> Result<Self, String> {
        Self::new(text.parse::<Killer>().map_err(told)?.geometry()).map_err(told)
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((self.geometry.side(), self.geometry.side()))
    }

    fn seq_len(&self) -> usize {
        3 * self.geometry.cells()
    }

    fn vocab_size(&self) -> usize {
        let side = self.geometry.side();
        self.bases().1 + side * (side + 1) / 2 + 1
    }

    fn encode(&self, puzzle: &Killer) -> Vec<u8> {
        let (side, cells) = (self.geometry.side(), self.geometry.cells());
        let (link, sum) = self.bases();
        let mut tokens = vec![1; cells];
        let cage = |cell: usize| puzzle.cage_of(cell);
        tokens.extend((0..cells).map(|c| (link + links(side, c, |other| cage(other) == cage(c))) as u8));
        let sum_of = |cell| cage(cell).and_then(|cage| puzzle.cages().get(cage)).map_or(0, |cage| cage.sum);
        tokens.extend((0..cells).map(|cell| (sum + sum_of(cell) as usize) as u8));
        tokens
    }

    fn encode_solution(&self, _: &Killer, solution: &Board) -> Vec<u8> {
        let mut tokens = crate::puzzles::sudoku::encode_tokens(solution);
        tokens.resize(self.seq_len(), 0);
        tokens
    }

    fn decode(&self, input: &[u8]) -> Result<Killer, String> {
        let (side, cells) = (self.geometry.side(), self.geometry.cells());
        let (link, sum) = self.bases();
        if input.len() != 3 * cells {
            return Err(format!("expected {} tokens, got {}", 3 * cells, input.len()));
        }
        let (digits, rest) = input.split_at(cells);
        let (linked, sums) = rest.split_at(cells);
        let planes = [
            ("digits", digits, 1, 1),
            ("links", linked, link, link + 15),
            ("sums", sums, sum + 1, self.vocab_size() - 1),
        ];
        let place = |cell: usize| (cell / side + 1, cell % side + 1);
        for (plane, tokens, from, to) in planes {
            if let Some(cell) = tokens.iter().position(|&token| !(from..=to).contains(&usize::from(token))) {
                let (row, column) = place(cell);
                let got = tokens[cell];
                return Err(format!(
                    "{plane}, row {row}, column {column}: expected tokens {from} to {to}, got {got}"
                ));
            }
        }
        let joined = |a: usize, b: usize| {
            let bits = usize::from(linked[a]) - link;
            touch(side, a, b) && bits & links(side, a, |other| other == b) != 0
        };
        let all: Vec<usize> = (0..cells).collect();
        let cages: Vec<Cage> = regions(side, &all, joined)
            .into_iter()
            .map(|cells| Cage { sum: (usize::from(sums[cells[0]]) - sum) as u32, cells })
            .collect();
        let puzzle = Killer::new(self.geometry, cages).map_err(told)?;
        match self.encode(&puzzle).iter().zip(input).position(|(a, b)| a != b) {
            None => Ok(puzzle),
            Some(at) => {
                let (row, column) = place(at % cells);
                Err(format!(
                    "row {row}, column {column}: links and sums do not agree with those of a neighbour"
                ))
            }
        }
    }

    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        killer_symmetry(self.geometry, rng)
    }

    fn augmentation(&self) -> Option<Value> {
        Some(json!({ "kind": "killer_symmetry", "geometry": self.geometry }))
    }

    fn symmetries(&self) -> (f64, &'static str) {
        (Killer::symmetries(self.geometry).len() as f64, "turned and mirrored")
    }

    /// An answer is the board alone, without cages.
    fn parse_answer(&self, puzzle: &Killer, text: &str) -> Result<Vec<u8>, String> {
        let board: Board = text.parse().map_err(told)?;
        let answer = self.encode_solution(puzzle, &board);
        self.verify(puzzle, &answer).map_err(told)?;
        Ok(answer)
    }

    fn parse(&self, text: &str) -> Result<Killer, String> {
        text.parse().map_err(told)
    }

    fn line(&self, puzzle: &Killer) -> String {
        puzzle.to_line()
    }

    /// The board alone: cages have no digits.
    fn answer_line(&self, puzzle: &Killer, answer: &[u8]) -> String {
        self.answer(answer).map_or_else(|_| puzzle.to_line(), |board| board.to_line())
    }

    fn solutions(&self, puzzle: &Killer) -> Solutions<Board> {
        puzzle.search(2, MAX_NODES).into()
    }

    fn class(&self, puzzle: &Killer) -> Vec<u8> {
        self.encode(&puzzle.canonical())
    }

    fn search(&self, puzzle: &Killer, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        let weight = |cell, digit| beliefs.map_or(0.0, |beliefs| beliefs.weight(cell, digit + 1));
        let Search { first, work, .. } = puzzle.search_preferring(1, max_nodes, &weight);
        let answer = self.encode_solution(puzzle, &first?);
        Some(Exact { answer, guesses: work.guesses, nodes: work.nodes })
    }

    /// Only the digits of the answer are looked at: `[side * side]` or `[3 * side * side]` tokens.
    fn verify(&self, puzzle: &Killer, answer: &[u8]) -> Result<(), String> {
        let faults = puzzle.faults(&self.answer(answer)?);
        if faults.is_empty() { Ok(()) } else { Err(format!("the answer is wrong: {}", faults.join("; "))) }
    }

    fn generate(&self, options: &GenerateOptions, seed: u64, index: u64) -> Result<(Killer, Board), String> {
        let made = self.generator(options, seed)?.generate(index);
        Ok((made.puzzle, made.solution))
    }

    fn split(
        &self,
        options: &GenerateOptions,
        seed: u64,
        (train, test): (usize, usize),
    ) -> Result<Split<Record>, String> {
        let (made, held_out) = generate_split(&self.generator(options, seed)?, train, test);
        let (found, wanted) = (made.len() + held_out.len(), train.saturating_add(test));
        if found < wanted {
            return Err(SplitError { tries: found as u64, found, wanted }.to_string());
        }
        let records = |made: Vec<super::Generated>| {
            made.iter().map(|made| Record::of(self, &made.puzzle, Some(&made.solution))).collect()
        };
        Ok(Split { train: records(made), test: records(held_out) })
    }

    fn measures(&self, puzzle: &Killer, _: &[u8]) -> Vec<(&'static str, f64)> {
        let search = puzzle.search(2, 100_000);
        let mut found = vec![("cages", puzzle.cages().len() as f64)];
        found.extend(search.is_unique().map(|_| ("nodes of an exact search", search.work.nodes as f64)));
        found
    }

    fn render(&self, puzzle: &Killer, answer: Option<&[u8]>, style: Style) -> String {
        let board = answer.and_then(|tokens| self.answer(tokens).ok());
        draw::text(puzzle, board.as_ref(), style)
    }

    fn picture(&self, puzzle: &Killer, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        let board = |tokens: Option<&[u8]>| tokens.and_then(|tokens| self.answer(tokens).ok());
        draw::picture(puzzle, board(answer).as_ref(), board(label).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Generator;
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn symmetries_act_on_tokens_as_on_puzzles() {
        for geometry in [Geometry::S4, Geometry::S6, Geometry::S9] {
            let task = KillerTask::new(geometry).unwrap();
            let made = Generator::new(geometry, 5).unwrap().generate(0);
            let side = geometry.side();
            for &symmetry in Killer::symmetries(geometry) {
                let tokens = token_symmetry(geometry, symmetry);
                let puzzle = made.puzzle.transformed(symmetry);
                assert_eq!(tokens.apply(&task.encode(&made.puzzle)), task.encode(&puzzle));
                let mut cells = vec![0; geometry.cells()];
                symmetry.apply_cells((side, side), made.solution.cells(), &mut cells, |digit| digit);
                let solution = Board::from_cells(geometry, cells).unwrap();
                assert!(puzzle.faults(&solution).is_empty(), "{geometry} {symmetry:?}");
                let label = task.encode_solution(&made.puzzle, &made.solution);
                assert_eq!(tokens.apply(&label), task.encode_solution(&puzzle, &solution));
                assert_eq!(puzzle.canonical(), made.puzzle.canonical());
            }
        }
    }

    #[test]
    fn faults_of_tokens_are_told() {
        let task = KillerTask::new(Geometry::S4).unwrap();
        assert_eq!((task.seq_len(), task.vocab_size()), (48, 4 + 17 + 10 + 1));
        assert_eq!(KillerTask::new(Geometry::S9).unwrap().vocab_size(), 72);
        let made = Generator::new(Geometry::S4, 1).unwrap().generate(0);
        let good = task.encode(&made.puzzle);
        assert_eq!(task.decode(&good).as_ref(), Ok(&made.puzzle));
        let error = |at: usize, token: u8| {
            let mut tokens = good.clone();
            tokens[at] = token;
            task.decode(&tokens).unwrap_err().to_string()
        };
        assert_eq!(error(1, 2), "digits, row 1, column 2: expected tokens 1 to 1, got 2");
        assert_eq!(error(16, 1), "links, row 1, column 1: expected tokens 6 to 21, got 1");
        assert_eq!(error(47, 21), "sums, row 4, column 4: expected tokens 22 to 31, got 21");
        // A link out of the board; a sum that is not the one of the rest of its cage.
        assert_eq!(
            error(16, 6 + ((good[16] - 6) | 1)),
            "row 1, column 1: links and sums do not agree with those of a neighbour"
        );
        let large = made.puzzle.cages().iter().find(|cage| cage.cells.len() >= 2).unwrap();
        let last = large.cells[1];
        let other = if large.sum == 10 { 9 } else { large.sum + 1 };
        assert!(error(32 + last, 21 + other as u8).contains("do not agree"));
        assert_eq!(task.decode(&[1; 5]).unwrap_err().to_string(), "expected 48 tokens, got 5");
        let mut label = task.encode_solution(&made.puzzle, &made.solution);
        assert_eq!(task.verify(&made.puzzle, &label), Ok(()));
        assert_eq!(task.verify(&made.puzzle, &label[..16]), Ok(()));
        label.swap(0, 1);
        let wrong = task.verify(&made.puzzle, &label).unwrap_err().to_string();
        assert!(wrong.starts_with("the answer is wrong: value"), "{wrong}");
        assert!(task.verify(&made.puzzle, &label[..5]).is_err());
        label[0] = 200;
        assert!(task.verify(&made.puzzle, &label).is_err());
    }

    #[test]
    fn augmentation_draws_the_symmetries_of_the_task() {
        let mut rng = stream(1, Purpose::Other, 0, 0);
        let all: std::collections::HashSet<Vec<u8>> = (0..200)
            .map(|_| {
                killer_symmetry(Geometry::S9, &mut rng).apply(&(0..243).map(|i| i as u8).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(all.len(), 8);
    }
}
