//! Tasks without their types, for programs that learn at run time which puzzle they work on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::queens::Queens;
use super::{Beliefs, Exact, Mazes, Solutions, Sudoku, Task, TokenSymmetry};
use crate::arc;
use crate::dataset::Augmentation;
use crate::groups::Groups;
use crate::maze;
use crate::render::{Picture, Style};
use crate::sudoku::Geometry;
use crate::variants::killer::KillerTask;
use crate::variants::samurai::SamuraiTask;

/// A family of puzzles, whatever their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Sudoku of any size.
    #[default]
    Sudoku,
    /// Mazes; any shortest path is right.
    Maze,
    /// The Abstraction and Reasoning Corpus. Its answers are judged by a vote, not one by one: there is no [`AnyTask`] of it.
    Arc,
    /// Sudoku without givens, cages with sums instead.
    Killer,
    /// Five Sudokus that overlap.
    Samurai,
    /// n-queens completion.
    Queens,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Sudoku, Self::Maze, Self::Arc, Self::Killer, Self::Samurai, Self::Queens];

    /// Its name, as recipes and the command line write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sudoku => "sudoku",
            Self::Maze => "maze",
            Self::Arc => "arc",
            Self::Killer => "killer",
            Self::Samurai => "samurai",
            Self::Queens => "queens",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|family| family.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected one of {names}, got {text:?}")
        })
    }
}

/// A puzzle family of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Sudoku.
    Sudoku(Geometry),
    /// Mazes of so many rows and columns.
    Maze {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
    /// ARC.
    Arc,
    /// Killer Sudoku.
    Killer(Geometry),
    /// Samurai.
    Samurai,
    /// Queens on a board of this side.
    Queens(usize),
}

impl Shape {
    /// The shape whose rows have these sizes, as far as they tell: mazes count as square, and 16 tokens of 6 kinds are a 4x4
    /// Sudoku rather than a 4x4 maze. With `family`, only that one is looked at.
    pub fn of(seq_len: usize, vocab_size: usize, family: Option<Family>) -> Option<Self> {
        let side = seq_len.isqrt();
        let square = side * side == seq_len;
        let candidates = [
            Geometry::from_cells(seq_len).map(Self::Sudoku),
            (seq_len == arc::SEQ_LEN && vocab_size == arc::VOCAB_SIZE).then_some(Self::Arc),
            square.then_some(Self::Maze { rows: side, cols: side }),
            Geometry::from_cells(seq_len / 3).filter(|_| seq_len.is_multiple_of(3)).map(Self::Killer),
            Some(Self::Samurai),
            square.then_some(Self::Queens(side)),
        ];
        candidates.into_iter().flatten().find(|shape| {
            family.is_none_or(|family| family == shape.family())
                && shape.sizes() == Some((seq_len, vocab_size))
        })
    }

    /// Its family.
    pub const fn family(self) -> Family {
        match self {
            Self::Sudoku(_) => Family::Sudoku,
            Self::Maze { .. } => Family::Maze,
            Self::Arc => Family::Arc,
            Self::Killer(_) => Family::Killer,
            Self::Samurai => Family::Samurai,
            Self::Queens(_) => Family::Queens,
        }
    }

    /// Tokens of a row and number of token values; `None` if there is no such puzzle.
    pub fn sizes(self) -> Option<(usize, usize)> {
        match self {
            Self::Arc => Some((arc::SEQ_LEN, arc::VOCAB_SIZE)),
            other => other.task().map(|task| (task.seq_len(), task.vocab_size())),
        }
    }

    /// The task; `None` for ARC, and for sizes that a family does not have.
    pub fn task(self) -> Option<AnyTask> {
        Some(match self {
            Self::Sudoku(geometry) => AnyTask::new(Sudoku { geometry }),
            Self::Maze { rows, cols } => AnyTask::new(Mazes { rows, cols }),
            Self::Arc => return None,
            Self::Killer(geometry) => AnyTask::new(KillerTask::new(geometry).ok()?),
            Self::Samurai => AnyTask::new(SamuraiTask),
            Self::Queens(side) => AnyTask::new(Queens::new(side).ok()?),
        })
    }

    /// The shape of a puzzle given as text, so that the task that reads it can be picked.
    ///
    /// # Errors
    /// If the text is no puzzle of the family. What is wrong with a puzzle of a known shape is told by [`AnyTask::parse`].
    pub fn of_text(family: Family, text: &str) -> Result<Self, String> {
        let told = |error: &dyn fmt::Display| error.to_string();
        match family {
            Family::Sudoku => text
                .parse::<crate::sudoku::Board>()
                .map(|board| Self::Sudoku(board.geometry()))
                .map_err(|e| told(&e)),
            Family::Maze => text
                .parse::<maze::Maze>()
                .map(|maze| Self::Maze { rows: maze.rows(), cols: maze.cols() })
                .map_err(|e| told(&e)),
            Family::Killer => text
                .parse::<crate::variants::killer::Killer>()
                .map(|killer| Self::Killer(killer.geometry()))
                .map_err(|e| told(&e)),
            Family::Samurai => Ok(Self::Samurai),
            Family::Queens => {
                Queens::of_text(text).map(|queens| Self::Queens(queens.side())).map_err(|e| told(&e))
            }
            Family::Arc => Err("an ARC task is no single puzzle".to_owned()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sudoku(geometry) => write!(f, "{0}x{0} Sudoku", geometry.side()),
            Self::Maze { rows, cols } => write!(f, "{rows}x{cols} maze"),
            Self::Arc => f.write_str("ARC"),
            Self::Killer(geometry) => write!(f, "{0}x{0} Killer Sudoku", geometry.side()),
            Self::Samurai => f.write_str("Samurai Sudoku"),
            Self::Queens(side) => write!(f, "{side}-queens"),
        }
    }
}

/// A [`Task`] whose puzzles are known by their input tokens alone. Errors are told in words.
#[derive(Clone)]
pub struct AnyTask(Arc<dyn Rows + Send + Sync>);

impl fmt::Debug for AnyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seq_len) = (self.name(), self.seq_len());
        f.debug_struct("AnyTask").field("name", &name).field("seq_len", &seq_len).finish()
    }
}

impl AnyTask {
    /// Forgets the types of a task.
    pub fn new<T: Task + Send + Sync + 'static>(task: T) -> Self {
        Self(Arc::new(task))
    }

    /// [`Task::name`].
    pub fn name(&self) -> &str {
        self.0.name_()
    }

    /// [`Task::seq_len`].
    pub fn seq_len(&self) -> usize {
        self.0.seq_len_()
    }

    /// [`Task::vocab_size`].
    pub fn vocab_size(&self) -> usize {
        self.0.vocab_size_()
    }

    /// See [`Task::groups`].
    pub fn groups(&self) -> Option<Groups> {
        self.0.groups_()
    }

    /// [`Task::augmentation`].
    pub fn augmentation(&self) -> Augmentation {
        self.0.augmentation_()
    }

    /// [`Task::symmetry`].
    pub fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        self.0.symmetry_(rng)
    }

    /// The input tokens of a puzzle in text form. `[seq_len]`
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(&self, text: &str) -> Result<Vec<u8>, String> {
        self.0.parse_(text)
    }

    /// The text form of input tokens, on one line.
    ///
    /// # Errors
    /// If they are no puzzle.
    pub fn line(&self, input: &[u8]) -> Result<String, String> {
        self.0.line_(input)
    }

    /// The text form of a puzzle with an answer, on one line; see [`Task::answer_line`].
    ///
    /// # Errors
    /// If the input is no puzzle.
    pub fn answer_line(&self, input: &[u8], answer: &[u8]) -> Result<String, String> {
        self.0.answer_line_(input, answer)
    }

    /// What images of the puzzle share; [`Task::class`].
    ///
    /// # Errors
    /// If the input is no puzzle.
    pub fn class(&self, input: &[u8]) -> Result<Vec<u8>, String> {
        self.0.class_(input)
    }

    /// The label tokens of what an exact search finds; [`Task::solutions`].
    ///
    /// # Errors
    /// If the input is no puzzle.
    pub fn solutions(&self, input: &[u8]) -> Result<Solutions<Vec<u8>>, String> {
        self.0.solutions_(input)
    }

    /// A right answer by exact search, guided by beliefs; [`Task::search`].
    ///
    /// # Errors
    /// If the input is no puzzle.
    pub fn search(
        &self,
        input: &[u8],
        beliefs: Option<&Beliefs>,
        max_nodes: u64,
    ) -> Result<Option<Exact>, String> {
        self.0.search_(input, beliefs, max_nodes)
    }

    /// Whether an answer solves the puzzle of the input tokens; [`Task::verify`].
    ///
    /// # Errors
    /// What is wrong with the answer, or why the input is no puzzle.
    pub fn verify(&self, input: &[u8], answer: &[u8]) -> Result<(), String> {
        self.0.verify_(input, answer)
    }

    /// [`Task::render`].
    ///
    /// # Errors
    /// If the input is no puzzle.
    pub fn render(&self, input: &[u8], answer: Option<&[u8]>, style: Style) -> Result<String, String> {
        self.0.render_(input, answer, style)
    }

    /// [`Task::picture`].
    ///
    /// # Errors
    /// If the input is no puzzle.
    pub fn picture(
        &self,
        input: &[u8],
        answer: Option<&[u8]>,
        label: Option<&[u8]>,
    ) -> Result<Picture, String> {
        self.0.picture_(input, answer, label)
    }
}

/// What [`AnyTask`] needs. The names end in `_`, so that they are never mistaken for those of [`Task`].
trait Rows {
    fn name_(&self) -> &str;
    fn seq_len_(&self) -> usize;
    fn vocab_size_(&self) -> usize;
    fn augmentation_(&self) -> Augmentation;
    fn groups_(&self) -> Option<Groups>;
    fn symmetry_(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry;
    fn parse_(&self, text: &str) -> Result<Vec<u8>, String>;
    fn line_(&self, input: &[u8]) -> Result<String, String>;
    fn answer_line_(&self, input: &[u8], answer: &[u8]) -> Result<String, String>;
    fn class_(&self, input: &[u8]) -> Result<Vec<u8>, String>;
    fn solutions_(&self, input: &[u8]) -> Result<Solutions<Vec<u8>>, String>;
    fn search_(
        &self,
        input: &[u8],
        beliefs: Option<&Beliefs>,
        max_nodes: u64,
    ) -> Result<Option<Exact>, String>;
    fn verify_(&self, input: &[u8], answer: &[u8]) -> Result<(), String>;
    fn render_(&self, input: &[u8], answer: Option<&[u8]>, style: Style) -> Result<String, String>;
    fn picture_(&self, input: &[u8], answer: Option<&[u8]>, label: Option<&[u8]>) -> Result<Picture, String>;
}

impl<T: Task> Rows for T {
    fn name_(&self) -> &str {
        self.name()
    }

    fn seq_len_(&self) -> usize {
        self.seq_len()
    }

    fn vocab_size_(&self) -> usize {
        self.vocab_size()
    }

    fn augmentation_(&self) -> Augmentation {
        self.augmentation()
    }

    fn groups_(&self) -> Option<Groups> {
        self.groups()
    }

    fn symmetry_(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        self.symmetry(rng)
    }

    fn parse_(&self, text: &str) -> Result<Vec<u8>, String> {
        let input = self.encode(&self.parse(text).map_err(|e| e.to_string())?);
        match input.len() == self.seq_len() {
            true => Ok(input),
            false => {
                Err(format!("expected a puzzle of {} tokens, got one of {}", self.seq_len(), input.len()))
            }
        }
    }

    fn line_(&self, input: &[u8]) -> Result<String, String> {
        Ok(self.line(&puzzle(self, input)?))
    }

    fn answer_line_(&self, input: &[u8], answer: &[u8]) -> Result<String, String> {
        Ok(self.answer_line(&puzzle(self, input)?, answer))
    }

    fn class_(&self, input: &[u8]) -> Result<Vec<u8>, String> {
        Ok(self.class(&puzzle(self, input)?))
    }

    fn solutions_(&self, input: &[u8]) -> Result<Solutions<Vec<u8>>, String> {
        let puzzle = puzzle(self, input)?;
        Ok(self.solutions(&puzzle).map(|solution| self.encode_solution(&puzzle, &solution)))
    }

    fn search_(
        &self,
        input: &[u8],
        beliefs: Option<&Beliefs>,
        max_nodes: u64,
    ) -> Result<Option<Exact>, String> {
        let puzzle = self.decode(input).map_err(|e| e.to_string())?;
        Ok(self.search(&puzzle, beliefs, max_nodes))
    }

    fn verify_(&self, input: &[u8], answer: &[u8]) -> Result<(), String> {
        self.verify(&puzzle(self, input)?, answer).map_err(|e| e.to_string())
    }

    fn render_(&self, input: &[u8], answer: Option<&[u8]>, style: Style) -> Result<String, String> {
        Ok(self.render(&puzzle(self, input)?, answer, style))
    }

    fn picture_(&self, input: &[u8], answer: Option<&[u8]>, label: Option<&[u8]>) -> Result<Picture, String> {
        Ok(self.picture(&puzzle(self, input)?, answer, label))
    }
}

fn puzzle<T: Task>(task: &T, input: &[u8]) -> Result<T::Puzzle, String> {
    task.decode(input).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_tell_the_shape() {
        let maze = |side| Shape::Maze { rows: side, cols: side };
        let killer = Shape::Killer(Geometry::S9);
        for shape in [
            Shape::Sudoku(Geometry::S4),
            Shape::Sudoku(Geometry::S6),
            Shape::Sudoku(Geometry::S9),
            Shape::Sudoku(Geometry::S16),
            maze(10),
            maze(30),
            Shape::Arc,
            killer,
            Shape::Killer(Geometry::S4),
            Shape::Samurai,
            Shape::Queens(8),
        ] {
            let (seq_len, vocab_size) = shape.sizes().unwrap();
            assert_eq!(Shape::of(seq_len, vocab_size, None), Some(shape), "{shape}");
            assert_eq!(Shape::of(seq_len, vocab_size, Some(shape.family())), Some(shape), "{shape}");
        }
        assert_eq!(Shape::of(16, 6, Some(Family::Maze)), Some(maze(4)));
        assert_eq!(Shape::of(81, 11, Some(Family::Maze)), None);
        assert_eq!(Shape::of(7, 3, None), None);
        assert_eq!(Shape::Queens(3).sizes(), None);
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(family));
        }
        assert!("chess".parse::<Family>().unwrap_err().contains("sudoku, maze, arc"));
    }

    #[test]
    fn texts_become_tokens_and_come_back() {
        for (family, text, solved) in [
            (Family::Sudoku, "1....3...2....4.", true),
            (Family::Maze, "S   #   G", true),
            (Family::Maze, "S# #   #G", false),
            (Family::Killer, "AABBCCDDBBAADDCC;3 7 7 3 3 7 7 3", false),
            (Family::Queens, ".Q...............", false),
            (Family::Queens, ".Q..............", true),
            (Family::Queens, "Q...............", false),
        ] {
            let Ok(shape) = Shape::of_text(family, text) else {
                assert_eq!(text.len(), 17, "{text}");
                continue;
            };
            let task = shape.task().unwrap();
            let input = task.parse(text).unwrap();
            assert_eq!(task.parse(&task.line(&input).unwrap()).unwrap(), input, "{text}");
            match task.solutions(&input).unwrap() {
                Solutions::Unique(label) => {
                    assert!(solved, "{text}");
                    assert_eq!(task.verify(&input, &label), Ok(()));
                    assert_ne!(task.answer_line(&input, &label).unwrap(), text);
                    assert!(task.render(&input, Some(&label), Style::Plain).is_ok());
                    assert!(task.verify(&input, &input).is_err());
                }
                Solutions::None | Solutions::Several(..) => assert!(!solved, "{text}"),
                Solutions::Unknown => panic!("{text}"),
            }
        }
        let task = Shape::Queens(4).task().unwrap();
        assert!(task.verify(&[0; 16], &[1; 16]).is_err() && task.line(&[1; 3]).is_err());
        assert!(Shape::of_text(Family::Arc, "").is_err());
    }
}
