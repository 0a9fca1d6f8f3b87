//! Sudoku as rows of tokens: 0 is padding, 1 a blank, `value + 1` a value.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{
    Board, BoardError, Canonicalizer, ClassKey, Classifier, ConstraintGraph, Generator, Geometry, Limits,
    Method, Notation, Search, Solver, Symmetry, difficulty, draw, group_kinds, hard, rating, split,
};
use crate::groups::Groups;
use crate::render::{Picture, Style};
use crate::task::{
    Beliefs, Census, Exact, GenerateOptions, Leak, Leaks, MAX_NODES, Record, Size, Solutions, Split, Task,
    TokenSymmetry, Worked, told,
};

/// Sudoku of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sudoku {
    /// The shape.
    pub geometry: Geometry,
}

/// The tokens of a board: `value + 1`, 1 for blank. `[side * side]`
pub fn encode_tokens(board: &Board) -> Vec<u8> {
    board.cells().iter().map(|v| v + 1).collect()
}

/// The board of a row of tokens, its geometry inferred from their number; padding counts as blank.
///
/// # Errors
/// [`BoardError`] if there is no such board, or a token stands for no value of it.
pub fn decode_tokens(tokens: &[u8]) -> Result<Board, BoardError> {
    let Some(geometry) = Geometry::from_cells(tokens.len()) else {
        let expected = "16, 36, 81, 256, 625 or more".to_owned();
        return Err(BoardError::Length { expected, got: tokens.len(), hint: "" });
    };
    Sudoku { geometry }.board(tokens)
}

impl Sudoku {
    fn board(self, tokens: &[u8]) -> Result<Board, BoardError> {
        Board::from_cells(self.geometry, tokens.iter().map(|t| t.saturating_sub(1)).collect())
    }

    fn place(self, cell: usize) -> (usize, usize) {
        (cell / self.geometry.side() + 1, cell % self.geometry.side() + 1)
    }
}

impl fmt::Display for Sudoku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{0}x{0} Sudoku", self.geometry.side())
    }
}

impl Task for Sudoku {
    type Puzzle = Board;
    type Solution = Board;

    const NAME: &'static str = "sudoku";
    const ABOUT: &'static str = "Sudoku";
    const SIZE: Option<(usize, usize)> = Some((9, 9));
    const OPTIONS: &'static [&'static str] = &["kind", "givens", "min_rating", "effort"];
    const HINTS: bool = true;
    const RESERVOIR: bool = true;

    fn of_size(Size { rows, cols, boxes }: Size) -> Result<Self, String> {
        let geometry = match boxes {
            Some((rows, cols)) => Geometry::new(rows, cols).map_err(told)?,
            None if rows == cols => Geometry::from_side(rows).map_err(told)?,
            None => {
                return Err(format!("expected as many rows as columns, for example 9x9; got {rows}x{cols}"));
            }
        };
        Ok(Self { geometry })
    }

    fn of_tokens(seq_len: usize, vocab_size: usize) -> Option<Self> {
        let task = Self { geometry: Geometry::from_cells(seq_len)? };
        (task.vocab_size() == vocab_size).then_some(task)
    }

    fn of_text(text: &str) -> Result<Self, String> {
        Ok(Self { geometry: text.parse::<Board>().map_err(told)?.geometry() })
    }

    fn seq_len(&self) -> usize {
        self.geometry.cells()
    }

    fn vocab_size(&self) -> usize {
        self.geometry.side() + 2
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((self.geometry.side(), self.geometry.side()))
    }

    fn encode(&self, puzzle: &Board) -> Vec<u8> {
        encode_tokens(puzzle)
    }

    fn encode_solution(&self, _: &Board, solution: &Board) -> Vec<u8> {
        encode_tokens(solution)
    }

    fn decode(&self, input: &[u8]) -> Result<Board, String> {
        self.board(input).map_err(told)
    }

    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        let symmetry = Symmetry::random(self.geometry, rng);
        // Digits follow blank (1) and padding (0).
        let digits = symmetry.digits().iter().map(|digit| digit + 1);
        let tokens: Vec<u8> = [0, 1].into_iter().chain(digits).collect();
        TokenSymmetry::new(symmetry.sources(), &tokens)
            .unwrap_or_else(|_| TokenSymmetry::identity(self.seq_len()))
    }

    fn groups(&self) -> Option<Groups> {
        Some(Groups {
            first_value: 2,
            after_values: 0,
            distinct_values: 0,
            kinds: group_kinds(self.geometry),
        })
    }

    fn augmentation(&self) -> Option<Value> {
        Some(json!({ "kind": "sudoku_symmetry", "geometry": self.geometry }))
    }

    /// As [`Task::symmetry`] does, without looking the symmetry up in tables of cells and tokens.
    fn augment(
        &self,
        rng: &mut ChaCha8Rng,
        (input, label): (&[u8], &[u8]),
        (input_out, label_out): (&mut [i32], &mut [i32]),
    ) {
        let symmetry = Symmetry::random(self.geometry, rng);
        symmetry.apply_tokens(input, input_out);
        symmetry.apply_tokens(label, label_out);
    }

    fn symmetries(&self) -> (f64, &'static str) {
        let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
        let (bands, stacks) = (self.geometry.bands(), self.geometry.stacks());
        let lines = factorial(self.geometry.box_rows()).powi(bands as i32)
            * factorial(self.geometry.box_cols()).powi(stacks as i32);
        let transpose = if self.geometry.is_square() { 2.0 } else { 1.0 };
        (
            transpose * lines * factorial(bands) * factorial(stacks) * factorial(self.geometry.side()),
            "values relabelled; rows, columns, bands and stacks exchanged; transposed if boxes are square",
        )
    }

    fn census(&self) -> Option<Census> {
        let (solutions, classes) = match self.geometry {
            Geometry::S4 => (288.0, 2.0),
            Geometry::S6 => (28_200_960.0, 49.0),
            Geometry::S9 => (6_670_903_752_021_072_936_960.0, 5_472_730_538.0),
            _ => return None,
        };
        Some(Census {
            solutions,
            classes,
            source: "OEIS A107739, A109741; 9x9: Felgenhauer, Jarvis, Russell 2006",
        })
    }

    fn parse(&self, text: &str) -> Result<Board, String> {
        text.parse().map_err(told)
    }

    fn check_givens(&self, puzzle: &Board) -> Result<(), String> {
        puzzle.validate().map_err(told)
    }

    fn parse_answer(&self, puzzle: &Board, text: &str) -> Result<Vec<u8>, String> {
        let answer = Board::parse(text, Notation::Auto, Some(puzzle.geometry())).map_err(told)?;
        answer.validate().map_err(told)?;
        let why = match self.verify(puzzle, &encode_tokens(&answer)) {
            Ok(()) => return Ok(encode_tokens(&answer)),
            Err(_) if answer.keeps_givens_of(puzzle) && !answer.is_full() => "it has blank cells".to_owned(),
            Err(error) => error,
        };
        Err(format!("it is no solution of the question ({why})"))
    }

    fn line(&self, puzzle: &Board) -> String {
        puzzle.to_line()
    }

    fn answer_line(&self, puzzle: &Board, answer: &[u8]) -> String {
        self.board(answer).as_ref().unwrap_or(puzzle).to_line()
    }

    fn solutions(&self, puzzle: &Board) -> Solutions<Board> {
        Solver::with_node_limit(MAX_NODES).classify(puzzle)
    }

    fn proper(&self, puzzle: &Board) -> Result<Option<Board>, String> {
        self.check_givens(puzzle)?;
        match self.solutions(puzzle) {
            Solutions::Unknown => Ok(None),
            Solutions::Several(a, b) => {
                let cell = (0..a.cells().len()).find(|&cell| a.cells()[cell] != b.cells()[cell]);
                let cell = cell.unwrap_or_default();
                let (row, column) = self.place(cell);
                Err(format!(
                    "the puzzle has more than one solution: row {row}, column {column} can be {} or {}",
                    a.cells()[cell],
                    b.cells()[cell]
                ))
            }
            found => found.unique().map(Some).map_err(|why| format!("the puzzle {why}")),
        }
    }

    fn class(&self, puzzle: &Board) -> Vec<u8> {
        match Classifier::new().key(puzzle) {
            ClassKey::Exact(cells) => cells.into_vec(),
            ClassKey::Fingerprint(fingerprint) => fingerprint.0.to_le_bytes().to_vec(),
        }
    }

    fn canonical_line(&self, puzzle: &Board) -> Result<String, String> {
        Ok(Canonicalizer::new(self.geometry).map_err(told)?.canonical(puzzle).to_line())
    }

    /// Those that are images of a test puzzle, and those whose solution grid is that of one up to symmetry.
    fn leaks(&self, train: &[Record], test: &[Record]) -> Result<Leaks, String> {
        let boards = |records: &[Record]| {
            records.iter().map(|record| decode_tokens(&record.input)).collect::<Result<Vec<_>, _>>()
        };
        let [train_boards, test_boards] = [train, test].map(|records| boards(records).map_err(told));
        Ok(Leaks(vec![
            Leak {
                title: "equivalent puzzles",
                told: "equivalent to puzzles of the test set",
                pairs: split::leaks(&test_boards?, &train_boards?),
            },
            Leak {
                title: "shared solution grids",
                told: "with the solution grid of a test puzzle, up to symmetry",
                pairs: split::shared_grids(test, train),
            },
        ]))
    }

    fn verify(&self, puzzle: &Board, answer: &[u8]) -> Result<(), String> {
        let answer = self.board(answer).map_err(told)?;
        let cells = || puzzle.cells().iter().zip(answer.cells()).enumerate();
        if let Some((cell, (&given, &got))) = cells().find(|(_, (given, got))| **given != 0 && given != got) {
            let (row, column) = self.place(cell);
            let got = if got == 0 { "blank".to_owned() } else { got.to_string() };
            return Err(format!("the given {given} in row {row}, column {column} became {got}"));
        }
        let count = answer.cells().iter().filter(|value| **value == 0).count();
        if count > 0 {
            return Err(format!("{count} {} left blank", if count == 1 { "cell" } else { "cells" }));
        }
        match answer.violations().as_slice() {
            [] => Ok(()),
            [first] => Err(told(first)),
            [first, _] => Err(format!("{first}, and 1 conflict more")),
            [first, rest @ ..] => Err(format!("{first}, and {} conflicts more", rest.len())),
        }
    }

    fn praise(&self, puzzle: &Board, _: &[u8]) -> String {
        match puzzle.clues() {
            1 => "keeps the rules of Sudoku and the 1 given".to_owned(),
            givens => format!("keeps the rules of Sudoku and the {givens} givens"),
        }
    }

    fn search(&self, puzzle: &Board, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        let mut solver = Solver::with_node_limit(max_nodes);
        let Search { first, work, .. } = match beliefs {
            None => solver.search(puzzle, 1),
            Some(beliefs) => {
                solver.search_preferring(puzzle, 1, &|cell, value| beliefs.weight(cell, value + 1))
            }
        };
        first.map(|board| Exact { answer: encode_tokens(&board), guesses: work.guesses, nodes: work.nodes })
    }

    fn methods() -> Vec<&'static str> {
        Method::ALL.map(Method::name).to_vec()
    }

    fn work(&self, puzzle: &Board, method: &str, trace: bool) -> Result<Worked, String> {
        let method: Method = method.parse().map_err(told)?;
        // One solution is asked for: that it is the only one was made sure when the puzzle was read.
        let limits = Limits { solutions: 1, ..Limits::default() };
        let (search, trace) = match trace {
            true => {
                let (search, trace) = method.traced(puzzle, &limits);
                (search, Some((trace.to_string(), json!(trace))))
            }
            false => (method.search(puzzle, &limits), None),
        };
        let work = vec![("guess", search.work.guesses), ("node", search.work.nodes)];
        Ok(match search.first {
            Some(board) => Worked { answer: Some(encode_tokens(&board)), work, trace, ..Worked::default() },
            None => Worked { work, trace, ..Worked::failed("found no solution") },
        })
    }

    fn generate(&self, options: &GenerateOptions, seed: u64, index: u64) -> Result<(Board, Board), String> {
        let mut generator = Generator::new(self.geometry, seed);
        if let Some((fewest, most)) = options.givens {
            generator = generator.with_clues(fewest, most);
        }
        let made = generator.generate(index);
        Ok((made.puzzle, made.solution))
    }

    /// The kind `hard` are 9x9 puzzles that are hard for backtracking solvers.
    fn split(
        &self,
        options: &GenerateOptions,
        seed: u64,
        (train, test): (usize, usize),
    ) -> Result<Split<Record>, String> {
        let made = match options.kind.as_deref() {
            None => {
                let geometry = self.geometry;
                split::generate_split(&split::GenerateOptions {
                    geometry,
                    seed,
                    train,
                    test,
                    clues: options.givens,
                    spare_bundled: options.spare_bundled,
                })
            }
            Some("hard") if self.geometry != Geometry::S9 => {
                return Err(format!("hard puzzles are 9x9, got a {self}"));
            }
            Some("hard") => hard::generate_split(&hard::HardOptions {
                seed,
                train,
                test,
                steps: options.effort.unwrap_or(300),
                min_rating: options.min_rating.unwrap_or(6),
            }),
            Some(kind) => return Err(format!("expected the kind `hard`, got {kind:?}")),
        };
        made.map_err(told)
    }

    fn example(&self) -> Option<String> {
        Some(match self.geometry {
            // Within reach of the bundled model, whose card says how far that goes.
            Geometry::S9 => {
                "..38..2.9.....1.....8...7.68.6.......9.....41.5...93.....61...3....9....4...3..5.".to_owned()
            }
            Geometry::S4 => "1....3...2....4.".to_owned(),
            // No other size has a classic; a moderately open generated one does.
            other => {
                let givens = other.cells() / 2;
                Generator::new(other, 1).with_clues(givens, givens).generate(0).puzzle.to_line()
            }
        })
    }

    fn measures(&self, puzzle: &Board, _: &[u8]) -> Vec<(&'static str, f64)> {
        let mut found = vec![("givens", puzzle.clues() as f64)];
        // Larger boards may take for ever.
        let mut solver = Solver::with_node_limit(100_000);
        if self.geometry.side() <= 9 {
            found.push(("rating (guesses to the solution)", rating(&mut solver, puzzle) as f64));
        }
        found
    }

    fn difficulty(&self, puzzles: &[Record]) -> Option<String> {
        let rated = self.geometry.side() == 9 && !puzzles.is_empty();
        rated.then(|| difficulty(puzzles).to_string())
    }

    fn givens(&self, puzzle: &Board) -> Option<usize> {
        Some(puzzle.clues())
    }

    fn render(&self, puzzle: &Board, answer: Option<&[u8]>, style: Style) -> String {
        let answer = answer.and_then(|tokens| self.board(tokens).ok());
        draw::attempt(puzzle, None, answer.as_ref().unwrap_or(puzzle), style)
    }

    fn frame(&self, puzzle: &Board, previous: &[u8], answer: &[u8], style: Style) -> String {
        let [previous, answer] = [previous, answer].map(|tokens| self.board(tokens).ok());
        draw::attempt(puzzle, previous.as_ref(), answer.as_ref().unwrap_or(puzzle), style)
    }

    fn legend(style: Style) -> Option<&'static str> {
        Some(match style {
            Style::Ansi => {
                "\x1b[1mgiven\x1b[0m  \x1b[34mfilled\x1b[0m  \x1b[1;32mnew\x1b[0m  \x1b[1;31min conflict\x1b[0m"
            }
            Style::Plain => "* new since the board before   ! in conflict",
        })
    }

    fn picture(&self, puzzle: &Board, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        let board = |tokens: Option<&[u8]>| tokens.and_then(|tokens| self.board(tokens).ok());
        draw::picture(puzzle, board(answer).as_ref(), board(label).as_ref())
    }

    fn graph(&self, board: &Board) -> Option<String> {
        Some(ConstraintGraph::new(self.geometry).to_dot(Some(board)))
    }
}
