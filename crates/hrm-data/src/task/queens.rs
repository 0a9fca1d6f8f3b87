//! n-queens completion, as the example of a [`Task`]: some queens stand on the board, find places for the others so that no
//! two attack each other.
//!
//! This file is all there is to it. To add a puzzle: say what a puzzle and a solution are, turn both into tokens (0 is
//! padding) and text, turn those back, name the symmetries, search for solutions, judge an answer, draw it.
//!
//! As text, a board is `.` for an empty cell and `Q` for a queen, row by row, on one line or on several.

use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::puzzles::dihedral_symmetry;
use super::{Beliefs, Exact, Solutions, Task, TokenSymmetry};
use crate::dataset::Augmentation;
use crate::grid::Dihedral;
use crate::random::{self, Purpose, stream};
use crate::render::{Mark, Picture, Style};
use crate::sudoku::Work;

const EMPTY: u8 = 1;
const QUEEN: u8 = 2;

/// The puzzle on a board of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queens {
    side: usize,
}

/// Queens on a board: the column of the queen in each row, if one stands there. `[side]`
pub type Placement = Vec<Option<u8>>;

/// Why there is no such board, or an answer is wrong. Rows and columns are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueensError {
    /// A size without a solution, or too large.
    #[error("expected a side of 4 to 24, got {got}")]
    Side {
        /// The side.
        got: usize,
    },
    /// Another number of cells.
    #[error("expected {expected} cells, got {got}")]
    Length {
        /// Cells of the board.
        expected: usize,
        /// Cells given.
        got: usize,
    },
    /// A token that stands for nothing.
    #[error("row {row}, column {col}: expected 1 (empty) or 2 (queen), got {got}")]
    Token {
        /// The row.
        row: usize,
        /// The column.
        col: usize,
        /// The token.
        got: u8,
    },
    /// A text of other characters.
    #[error("character {at}: expected `Q` for a queen or `.`, got {got:?}")]
    Character {
        /// Which one, spaces and line ends left out.
        at: usize,
        /// What stands there.
        got: char,
    },
    /// A text of so many cells that they make no square.
    #[error("expected a square board of 4x4 to 24x24, all its cells as `.` and `Q`; got {got} cells")]
    NoSquare {
        /// Cells of the text.
        got: usize,
    },
    /// More than one queen, or in an answer none, in a row.
    #[error("row {row}: expected {expected}, got {got} queens")]
    Row {
        /// The row.
        row: usize,
        /// What should be there.
        expected: &'static str,
        /// Queens in the row.
        got: usize,
    },
    /// Two queens on a line.
    #[error("the queens in rows {0} and {1} attack each other", rows.0, rows.1)]
    Attack {
        /// Their rows.
        rows: (usize, usize),
    },
    /// A given queen is not in the answer.
    #[error("row {row}: the given queen in column {col} is gone")]
    Given {
        /// Her row.
        row: usize,
        /// Her column.
        col: usize,
    },
}

impl Queens {
    /// The puzzle on a board of `side` x `side`.
    ///
    /// # Errors
    /// [`QueensError::Side`] unless it is 4 to 24.
    pub fn new(side: usize) -> Result<Self, QueensError> {
        if (4..=24).contains(&side) { Ok(Self { side }) } else { Err(QueensError::Side { got: side }) }
    }

    /// For each cell: whether a queen stands there, and where she comes from. Without an answer, cells that a given queen attacks
    /// are closed.
    fn marks(&self, puzzle: &Placement, answer: Option<&[u8]>, label: Option<&[u8]>) -> Vec<(bool, Mark)> {
        let side = self.side;
        let given = self.encode(puzzle);
        let fits = |tokens: &&[u8]| tokens.len() == given.len();
        let (answer, label) = (answer.filter(fits), label.filter(fits));
        let board = answer.unwrap_or(&given);
        let attacked = |cell: usize, board: &[u8]| {
            let (row, col) = (cell / side, cell % side);
            board.iter().enumerate().any(|(other, &token)| {
                let (r, c) = (other / side, other % side);
                let in_line = r == row || c == col || r.abs_diff(row) == c.abs_diff(col);
                token == QUEEN && other != cell && in_line
            })
        };
        let mark = |cell: usize| {
            let queen = |board: &[u8]| board[cell] == QUEEN;
            let [here, before] = [board, &given].map(|board| u8::from(queen(board)));
            let conflict = queen(board) && attacked(cell, board);
            match Mark::new(here, before, label.map(|label| u8::from(queen(label))), conflict) {
                Mark::Blank if answer.is_none() && attacked(cell, &given) => Mark::Closed,
                mark => mark,
            }
        };
        (0..given.len()).map(|cell| (board[cell] == QUEEN, mark(cell))).collect()
    }

    /// A puzzle with exactly one completion, from which no queen can be taken away, and its solution: a pure function of seed
    /// and number.
    pub fn generate(&self, seed: u64, index: u64) -> (Placement, Placement) {
        let mut rng = stream(seed, Purpose::Generate, index, 3);
        let mut solution = vec![None; self.side];
        // A random order of columns in each row, until a board is found within a budget of nodes.
        loop {
            let orders: Vec<Vec<u32>> =
                (0..self.side).map(|_| random::permutation(&mut rng, self.side)).collect();
            solution.fill(None);
            if place(&mut solution, 0, &orders, &mut 10_000) {
                break;
            }
        }
        let mut puzzle = solution.clone();
        for row in random::permutation(&mut rng, self.side) {
            let queen = puzzle[row as usize].take();
            if self.completions(&puzzle, 2) != 1 {
                puzzle[row as usize] = queen;
            }
        }
        (puzzle, solution)
    }

    /// Rows and columns of the board.
    pub const fn side(&self) -> usize {
        self.side
    }

    /// The puzzle on the board of a text.
    ///
    /// # Errors
    /// [`QueensError::NoSquare`] if it has no number of cells that makes a board.
    pub fn of_text(text: &str) -> Result<Self, QueensError> {
        let got = text.chars().filter(|c| !c.is_whitespace()).count();
        let side = got.isqrt();
        Self::new(side).ok().filter(|_| side * side == got).ok_or(QueensError::NoSquare { got })
    }

    /// Number of ways to complete a placement, counted up to `limit`.
    pub fn completions(&self, puzzle: &Placement, limit: u64) -> u64 {
        let mut found = 0;
        self.complete_with(puzzle, None, u64::MAX, &mut |_| {
            found += 1;
            found < limit
        });
        found
    }

    /// Shows every completion until `go_on` says to stop, or `max_nodes` boards were looked at; gives the work.
    fn complete_with(
        &self,
        puzzle: &Placement,
        beliefs: Option<&Beliefs>,
        max_nodes: u64,
        go_on: &mut dyn FnMut(&Placement) -> bool,
    ) -> Work {
        let mut board = puzzle.clone();
        board.resize(self.side, None);
        let mut completion = Completion { beliefs, max_nodes, work: Work { guesses: 0, nodes: 0 }, go_on };
        if attack(&board).is_none() {
            completion.descend(&mut board);
        }
        completion.work
    }
}

fn safe(board: &Placement, row: usize, col: u8) -> bool {
    board.iter().enumerate().all(|(other, queen)| {
        let Some(queen) = queen else { return true };
        other == row || (*queen != col && other.abs_diff(row) != usize::from(queen.abs_diff(col)))
    })
}

fn attack(board: &Placement) -> Option<(usize, usize)> {
    let clash = |row: usize| {
        let col = board[row]?;
        let other = (0..row)
            .find(|&r| board[r].is_some_and(|c| c == col || row - r == usize::from(c.abs_diff(col))))?;
        Some((other + 1, row + 1))
    };
    (0..board.len()).find_map(clash)
}

fn place(board: &mut Placement, row: usize, orders: &[Vec<u32>], budget: &mut u32) -> bool {
    let Some(order) = orders.get(row) else { return true };
    for &col in order {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        if safe(board, row, col as u8) {
            board[row] = Some(col as u8);
            if place(board, row + 1, orders, budget) {
                return true;
            }
            board[row] = None;
        }
    }
    false
}

/// A search for the completions of a board.
struct Completion<'a> {
    beliefs: Option<&'a Beliefs>,
    max_nodes: u64,
    work: Work,
    go_on: &'a mut dyn FnMut(&Placement) -> bool,
}

impl Completion<'_> {
    /// Whether to go on.
    fn descend(&mut self, board: &mut Placement) -> bool {
        if self.work.nodes >= self.max_nodes {
            return false;
        }
        self.work.nodes += 1;
        // The free row with the fewest places comes first.
        let side = board.len() as u8;
        let places = |row: usize| (0..side).filter(|&col| safe(board, row, col)).collect::<Vec<u8>>();
        let free = (0..board.len()).filter(|&row| board[row].is_none());
        let Some((row, mut places)) =
            free.map(|row| (row, places(row))).min_by_key(|(_, places)| places.len())
        else {
            return (self.go_on)(board);
        };
        self.work.guesses += u64::from(places.len() > 1);
        if let Some(beliefs) = self.beliefs {
            let weight = |col: u8| beliefs.weight(row * board.len() + usize::from(col), QUEEN);
            places.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)));
        }
        for col in places {
            board[row] = Some(col);
            let more = self.descend(board);
            board[row] = None;
            if !more {
                return false;
            }
        }
        true
    }
}

impl Task for Queens {
    type Puzzle = Placement;
    type Solution = Placement;
    type Error = QueensError;

    fn name(&self) -> &str {
        "queens"
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

    fn decode(&self, input: &[u8]) -> Result<Placement, QueensError> {
        if input.len() != self.seq_len() {
            return Err(QueensError::Length { expected: self.seq_len(), got: input.len() });
        }
        let row = |(index, cells): (usize, &[u8])| {
            if let Some(col) = cells.iter().position(|&t| t != EMPTY && t != QUEEN) {
                return Err(QueensError::Token { row: index + 1, col: col + 1, got: cells[col] });
            }
            match cells.iter().filter(|&&t| t == QUEEN).count() {
                0 | 1 => Ok(cells.iter().position(|&t| t == QUEEN).map(|col| col as u8)),
                got => Err(QueensError::Row { row: index + 1, expected: "at most one", got }),
            }
        };
        input.chunks_exact(self.side).enumerate().map(row).collect()
    }

    fn parse(&self, text: &str) -> Result<Placement, QueensError> {
        let symbols = text.chars().filter(|c| !c.is_whitespace()).enumerate();
        let token = |(at, symbol)| match symbol {
            'Q' | 'q' => Ok(QUEEN),
            '.' => Ok(EMPTY),
            got => Err(QueensError::Character { at: at + 1, got }),
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
        let Work { guesses, nodes } = self.complete_with(puzzle, beliefs, max_nodes, &mut |board| {
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
        dihedral_symmetry(self.side, self.side, rng)
    }

    fn augmentation(&self) -> Augmentation {
        Augmentation::Dihedral { rows: self.side, cols: self.side }
    }

    fn verify(&self, puzzle: &Placement, answer: &[u8]) -> Result<(), QueensError> {
        let board = self.decode(answer)?;
        if let Some(row) = board.iter().position(Option::is_none) {
            return Err(QueensError::Row { row: row + 1, expected: "a queen", got: 0 });
        }
        for (row, given) in puzzle.iter().enumerate() {
            if let Some(col) = given.filter(|_| board.get(row) != Some(given)) {
                return Err(QueensError::Given { row: row + 1, col: usize::from(col) + 1 });
            }
        }
        attack(&board).map_or(Ok(()), |rows| Err(QueensError::Attack { rows }))
    }

    fn render(&self, puzzle: &Placement, answer: Option<&[u8]>, style: Style) -> String {
        // Plain: `Q` given, `q` added, `!` after a queen that attacks another or for a given one that is gone, `-` where a
        // given queen leaves no place.
        let cell = |(queen, mark): &(bool, Mark)| match (style, queen, mark) {
            (Style::Plain, true, Mark::Given) => "Q ",
            (Style::Plain, true, Mark::Wrong) => "q!",
            (Style::Plain, true, _) => "q ",
            (Style::Plain, false, Mark::Wrong) => ".!",
            (Style::Plain, false, Mark::Closed) => "- ",
            (Style::Ansi, true, Mark::Given) => "\x1b[1mQ\x1b[0m ",
            (Style::Ansi, true, Mark::Wrong) => "\x1b[1;31mQ\x1b[0m ",
            (Style::Ansi, true, _) => "\x1b[34mQ\x1b[0m ",
            (Style::Ansi, false, Mark::Wrong) => "\x1b[1;31m.\x1b[0m ",
            (Style::Ansi, false, Mark::Closed) => "\x1b[2m-\x1b[0m ",
            _ => ". ",
        };
        let marks = self.marks(puzzle, answer, None);
        let lines = marks.chunks_exact(self.side);
        let lines = lines.map(|line| line.iter().map(cell).collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn picture(&self, puzzle: &Placement, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        let marks = self.marks(puzzle, answer, label);
        Picture::of_cells(self.side, self.side, |row, col| {
            let (queen, mark) = marks[row * self.side + col];
            (queen.then_some('Q'), mark)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_numbers_of_solutions() {
        for (side, count) in [(4, 2), (5, 10), (6, 4), (7, 40), (8, 92)] {
            assert_eq!(Queens::new(side).unwrap().completions(&vec![None; side], u64::MAX), count);
        }
        assert!(Queens::new(3).is_err() && Queens::new(25).is_err());
    }

    #[test]
    fn generated_puzzles_have_one_completion() {
        for side in [4, 6, 8, 10, 12] {
            let queens = Queens::new(side).unwrap();
            for index in 0..5 {
                let (puzzle, solution) = queens.generate(1, index);
                assert_eq!(queens.completions(&puzzle, 2), 1);
                assert_eq!(queens.verify(&puzzle, &queens.encode(&solution)), Ok(()));
                assert_eq!(queens.generate(1, index), (puzzle, solution));
            }
        }
    }

    #[test]
    fn beliefs_save_guesses() {
        let queens = Queens::new(12).unwrap();
        let (mut without, mut right, mut wrong) = (0, 0, 0);
        for index in 0..20 {
            let (puzzle, solution) = queens.generate(1, index);
            let answer = queens.encode(&solution);
            let weights = |of: &dyn Fn(u8) -> f32| {
                Beliefs::new(3, answer.iter().flat_map(|&token| [0.0, 0.0, of(token)]).collect())
            };
            let search =
                |beliefs: Option<&Beliefs>| queens.search(&puzzle, beliefs, u64::MAX).expect("an answer");
            let (plain, knowing, misled) = (
                search(None),
                search(Some(&weights(&|token| f32::from(u8::from(token == QUEEN))))),
                search(Some(&weights(&|token| f32::from(u8::from(token != QUEEN))))),
            );
            assert!([&plain, &knowing, &misled].iter().all(|found| found.answer == answer));
            assert!(knowing.guesses <= plain.guesses && knowing.nodes <= plain.nodes);
            without += plain.nodes;
            right += knowing.nodes;
            wrong += misled.nodes;
            assert_eq!(queens.search(&puzzle, None, 1).is_some(), plain.nodes == 1);
        }
        // Who knows the answer needs a node for each queen.
        assert!(right <= 20 * 13 && right < without && without < wrong, "{right}, {without}, {wrong}");
    }

    #[test]
    fn answers_are_judged() {
        let queens = Queens::new(4).unwrap();
        let puzzle = vec![Some(1), None, None, None];
        let error = |columns: [u8; 4]| {
            let answer: Placement = columns.into_iter().map(Some).collect();
            queens.verify(&puzzle, &queens.encode(&answer)).map_err(|e| e.to_string())
        };
        assert_eq!(error([1, 3, 0, 2]), Ok(()));
        assert_eq!(error([2, 0, 3, 1]).unwrap_err(), "row 1: the given queen in column 2 is gone");
        assert_eq!(error([1, 3, 0, 0]).unwrap_err(), "the queens in rows 3 and 4 attack each other");
        let input = queens.encode(&puzzle);
        assert_eq!(
            queens.verify(&puzzle, &input).unwrap_err().to_string(),
            "row 2: expected a queen, got 0 queens"
        );
        assert_eq!(
            queens.decode(&[2; 16]).unwrap_err().to_string(),
            "row 1: expected at most one, got 4 queens"
        );
        assert_eq!(
            queens.decode(&[0; 16]).unwrap_err().to_string(),
            "row 1, column 1: expected 1 (empty) or 2 (queen), got 0"
        );
        assert_eq!(queens.decode(&[1; 3]).unwrap_err().to_string(), "expected 16 cells, got 3");
        let answer = queens.encode(&vec![Some(1), Some(3), Some(0), Some(2)]);
        assert_eq!(queens.render(&puzzle, Some(&answer), Style::Plain), ". Q . .\n. . . q\nq . . .\n. . q .");
        assert_eq!(queens.render(&puzzle, None, Style::Plain), "- Q - -\n- - - .\n. - . -\n. - . .");
        // The given queen is gone, and two attack each other.
        let wrong = queens.encode(&vec![None, Some(3), Some(0), Some(0)]);
        assert_eq!(queens.render(&puzzle, Some(&wrong), Style::Plain), ". .!. .\n. . . q\nq!. . .\nq!. . .");
        let svg = queens.picture(&puzzle, Some(&answer), Some(&answer)).svg();
        // One given and three that are right, on 16 cells and the ground.
        assert_eq!((svg.matches(">Q<").count(), svg.matches("fill=\"#14823c\">Q<").count()), (4, 3));
        assert_eq!(svg.matches("<rect").count(), 17);
    }
}
