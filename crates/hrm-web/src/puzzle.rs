//! Puzzles as the page knows them.

use std::{io::Cursor, path::Path};

use hrm_data::{
    puzzles::sudoku::decode_tokens,
    reader::Reader,
    registry::{Family, Shape},
    task::{AnyTask, GenerateOptions, Size},
};
use serde::{Deserialize, Serialize, Serializer};

/// Puzzles of a pasted text that are read; the page lets the reader choose among them.
const MOST: usize = 1000;

/// A puzzle: rows of cells as tokens of its [`Task`](hrm_data::task::Task).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Puzzle {
    /// What it is.
    pub family: Family,
    /// Rows of cells.
    pub rows: usize,
    /// Cells of a row.
    pub cols: usize,
    /// Rows and columns of a box, where there are boxes.
    #[serde(default)]
    pub boxes: Option<(usize, usize)>,
    /// The cells, row by row. `[rows * cols]`
    pub tokens: Vec<u8>,
}

/// What stands at a place in a text.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The line that it starts on, 1-based.
    pub line: u64,
    /// The puzzle, or what is wrong with it.
    #[serde(serialize_with = "either")]
    pub puzzle: Result<Puzzle, String>,
}

/// As `{ "Ok": ... }` or `{ "Err": ... }`.
fn either<S: Serializer>(result: &Result<Puzzle, String>, to: S) -> Result<S::Ok, S::Error> {
    result.serialize(to)
}

/// What there is to know of a puzzle before a model sees it.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Cells of givens that break the rules.
    pub conflicts: Vec<usize>,
    /// Why it is no puzzle with one solution, if it is none.
    pub fault: Option<String>,
    /// Its only solution, as tokens; `None` if it has none, several, or is too open to be searched.
    pub solution: Option<Vec<u8>>,
    /// It on one line, as `hrm solve` reads it.
    pub text: String,
    /// The classical solvers for it.
    pub methods: Vec<&'static str>,
}

/// What a classical solver made of a puzzle.
#[derive(Debug, Serialize)]
pub struct Worked {
    /// Its answer, if it found one.
    pub answer: Option<Vec<u8>>,
    /// What came out, in words, where that is more than right or not.
    pub outcome: Option<String>,
    /// What it took: units, in the singular, with their numbers.
    pub work: Vec<(&'static str, u64)>,
}

/// The puzzles of a text in any notation that `hrm solve` takes; at least one, at most 1,000.
///
/// # Errors
/// If there is none, in words.
pub fn read(family: Family, text: &str) -> Result<Vec<Entry>, String> {
    let reader = Reader::new(family, Cursor::new(text.as_bytes().to_vec()), Path::new("the text"));
    let mut found = Vec::new();
    for entry in reader.take(MOST) {
        let entry = entry.map_err(|error| error.to_string())?;
        let puzzle = entry.puzzle.map(|puzzle| Puzzle::of_shape(puzzle.shape, puzzle.record.input));
        found.push(Entry { line: entry.line, puzzle: puzzle.map_err(|fault| fault.to_string()) });
    }
    match found.is_empty() {
        true => {
            Err("there is no puzzle in it; expected one a line, a drawn one, or CSV with a column `question`"
                .to_owned())
        }
        false => Ok(found),
    }
}

/// A new puzzle of a size: the same for the same seed.
///
/// # Errors
/// If there are none of that size.
pub fn generate(family: Family, (rows, cols): (usize, usize), seed: u64) -> Result<Puzzle, String> {
    let shape = Shape::of_size(family, Size::new(rows, cols))?;
    let cells = rows * cols;
    let options = match family {
        // As the bundled models have them: a third to a half of the cells given, of large boards more.
        Family::Sudoku if rows > 9 => {
            GenerateOptions { givens: Some((cells * 50 / 100, cells * 60 / 100)), ..Default::default() }
        }
        Family::Sudoku => {
            GenerateOptions { givens: Some((cells * 30 / 100, cells * 45 / 100)), ..Default::default() }
        }
        _ => GenerateOptions {
            kind: Some("unique".to_owned()),
            min_path: Some(rows),
            max_path: Some(cells * 48 / 100),
            ..Default::default()
        },
    };
    let made = shape.task().split(&options, seed, (1, 0))?.train;
    let record = made.into_iter().next().ok_or("no puzzle was made")?;
    Ok(Puzzle::of_shape(shape, record.input))
}

impl Puzzle {
    fn of_shape(shape: Shape, tokens: Vec<u8>) -> Self {
        let boxes = match shape {
            Shape::Sudoku(sudoku) => Some((sudoku.geometry.box_rows(), sudoku.geometry.box_cols())),
            _ => None,
        };
        let (rows, cols) = shape.size().unwrap_or((1, tokens.len()));
        Self { family: shape.family(), rows, cols, boxes, tokens }
    }

    /// Its shape.
    ///
    /// # Errors
    /// If there are no puzzles of that size.
    pub fn shape(&self) -> Result<Shape, String> {
        Shape::of_size(self.family, Size::new(self.rows, self.cols))
    }

    /// Its task, if the cells can be its tokens.
    ///
    /// # Errors
    /// What is wrong with size or cells.
    pub fn task(&self) -> Result<AnyTask, String> {
        let task = self.shape()?.task();
        if self.tokens.len() != task.seq_len() {
            return Err(format!("expected {} cells of a {task}, got {}", task.seq_len(), self.tokens.len()));
        }
        task.line(&self.tokens)?;
        Ok(task)
    }

    /// Looks it over as `hrm solve` does.
    ///
    /// # Errors
    /// If it is no puzzle at all: what is wrong with size or cells.
    pub fn check(&self) -> Result<Checked, String> {
        let task = self.task()?;
        let (solution, fault) = match task.proper(&self.tokens) {
            Ok(Some(solution)) => (Some(solution), None),
            Ok(None) => (None, None),
            Err(why) => (None, Some(why)),
        };
        Ok(Checked {
            conflicts: self.conflicts(&self.tokens),
            fault,
            solution,
            text: task.line(&self.tokens)?,
            methods: task.methods(),
        })
    }

    /// Answers it by a classical solver.
    ///
    /// # Errors
    /// If it is no puzzle, or there is no such solver.
    pub fn work(&self, method: &str) -> Result<Worked, String> {
        let worked = self.task()?.work(&self.tokens, method, false)?;
        Ok(Worked { answer: worked.answer, outcome: worked.outcome, work: worked.work })
    }

    /// Cells of an answer that break the rules by themselves: values that stand twice in a row, column or box, and what is given
    /// in the puzzle and became something else.
    pub fn conflicts(&self, answer: &[u8]) -> Vec<usize> {
        let mut wrong = vec![false; answer.len()];
        match self.family {
            Family::Sudoku => {
                let violations = decode_tokens(answer).map(|board| board.violations()).unwrap_or_default();
                for (row, col) in violations.into_iter().flat_map(|violation| violation.cells) {
                    wrong[row * self.cols + col] = true;
                }
                self.mark_changed(answer, &mut wrong, |given, _| given <= BLANK);
            }
            // A free cell may become part of the path.
            _ => self.mark_changed(answer, &mut wrong, |given, got| given == FREE && got == PATH),
        }
        (0..wrong.len()).filter(|&cell| wrong[cell]).collect()
    }

    fn mark_changed(&self, answer: &[u8], wrong: &mut [bool], may: impl Fn(u8, u8) -> bool) {
        for ((&given, &got), wrong) in self.tokens.iter().zip(answer).zip(wrong) {
            *wrong |= given != got && !may(given, got);
        }
    }
}

/// The token of a blank of a Sudoku; padding is below it.
const BLANK: u8 = 1;
/// The token of a free cell of a maze.
const FREE: u8 = 2;
/// The token of a cell on the path.
const PATH: u8 = 5;
