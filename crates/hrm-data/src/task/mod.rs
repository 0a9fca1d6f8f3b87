//! One interface for every puzzle: how it becomes tokens, which symmetries it has, when an answer is right, how it is made and
//! read, what it looks like.
//!
//! A new puzzle is a folder in [`puzzles`](crate::puzzles) with a type that implements [`Task`], and a line in
//! [`registry`](crate::registry); [`queens`](crate::puzzles::queens) is the one to copy. Everything else follows: [`AnyTask`]
//! is a task without its types, which training, evaluation, inference and the command line work on.
//!
//! ```
//! use hrm_data::puzzles::queens::Queens;
//! use hrm_data::render::Style;
//! use hrm_data::sampler::{SamplerConfig, TrainSampler};
//! use hrm_data::task::{AnyTask, Augmentation, GenerateOptions, Task};
//! use std::sync::Arc;
//!
//! let queens = Queens::new(8)?;
//! let task = AnyTask::new(queens);
//! let made = task.split(&GenerateOptions::default(), 1, (100, 20))?;
//! let data = task.dataset(&made.train, 0, 0)?;
//!
//! let config = SamplerConfig { augmentation: Augmentation::Task(task), ..SamplerConfig::new(32, 0) };
//! let batch = TrainSampler::new(Arc::new(data), config)?.next_batch();
//!
//! // The label of an augmented row is right for its input.
//! let bytes = |tokens: &[i32]| tokens.iter().map(|&t| t as u8).collect::<Vec<u8>>();
//! let (puzzle, label) = (queens.decode(&bytes(batch.input(0)))?, bytes(batch.label(0)));
//! queens.verify(&puzzle, &label)?;
//! println!("{}", queens.render(&puzzle, Some(&label), Style::Plain));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod any;
mod augment;
mod generate;
mod record;
mod search;
mod symmetry;

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde_json::Value;

pub use any::{AnyTask, Tokens};
pub use augment::Augmentation;
pub use generate::{GenerateOptions, Size, Split, SplitError, split};
pub(crate) use record::draw_hints;
pub use record::{BuildError, Leak, Leaks, Record, dataset, draw, reservoir, with_hints, write_records};
pub use search::{Beliefs, Exact, Solutions, Worked};
pub use symmetry::{SymmetryError, TokenSymmetry};

use crate::bundled::is_tested;
use crate::dataset::{Dataset, widen};
use crate::groups::Groups;
use crate::render::{Picture, Style};

/// Search states after which an exact search gives up: only large and very open boards take more.
pub(crate) const MAX_NODES: u64 = 300_000;

/// What an error says: nobody above a task tells its errors apart.
pub(crate) fn told(error: impl fmt::Display) -> String {
    error.to_string()
}

/// How many solutions the puzzles of a task have in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Census {
    /// Solutions.
    pub solutions: f64,
    /// Solutions that no [symmetry](Task::symmetries) turns into each other.
    pub classes: f64,
    /// Who counted them.
    pub source: &'static str,
}

/// A family of puzzles of one size with one answer sheet: input and label are rows of [`Task::seq_len`] tokens below
/// [`Task::vocab_size`], token 0 is padding and never scored. Displayed as what one puzzle is called: `9x9 Sudoku`.
pub trait Task: Copy + fmt::Debug + fmt::Display + PartialEq + Send + Sync + Sized + 'static {
    /// A puzzle as it is asked.
    type Puzzle: Send;
    /// What is known of its solution.
    type Solution: Send;

    /// The name of the family, as recipes and the command line write it.
    const NAME: &'static str;

    /// What its puzzles are, in a few words.
    const ABOUT: &'static str;

    /// The usual rows and columns; `None` if all puzzles of the family are of one size.
    const SIZE: Option<(usize, usize)> = None;

    /// Which of the [options](GenerateOptions) it takes, by their names. With no `kind` among them, a command line needs no
    /// command of its own for the family.
    const OPTIONS: &'static [&'static str] = &[];

    /// Whether token 1 is a blank that a hint may fill with its label.
    const HINTS: bool = false;

    /// Whether spaces around a puzzle mean nothing and a line that starts with `#` is a comment, in files of puzzles.
    const LOOSE: bool = true;

    /// Whether a puzzle's own text may hold commas: then a line with some need not be a row of a table.
    const COMMAS: bool = false;

    /// Whether a subset of a file is drawn as it is read, for files of millions; else as the first of a random order. Either is
    /// part of what a recipe means.
    const RESERVOIR: bool = false;

    /// Whether answers can be judged by rules, one by one, and searched for.
    const RULES: bool = true;

    /// Whether an answer that keeps the rules may still be worse than another: then only the best ones are right, and
    /// evaluations call their share `any_optimal`, else `valid`.
    const OPTIMAL: bool = false;

    /// The task of puzzles of a size.
    ///
    /// # Errors
    /// If there are none.
    fn of_size(size: Size) -> Result<Self, String>;

    /// The task whose rows have these sizes, as far as they tell.
    fn of_tokens(seq_len: usize, vocab_size: usize) -> Option<Self>;

    /// The task of a puzzle given as text.
    ///
    /// # Errors
    /// If the text is no puzzle of the family.
    fn of_text(text: &str) -> Result<Self, String>;

    /// The task as the rows of a dataset need it, whose sizes fit. By default as it is.
    ///
    /// # Errors
    /// If rows of these sizes are puzzles of another shape.
    fn of_dataset(self, dataset: &Dataset) -> Result<Self, String> {
        let _ = dataset;
        Ok(self)
    }

    /// Tokens of an example.
    fn seq_len(&self) -> usize;

    /// Number of token values, padding included.
    fn vocab_size(&self) -> usize;

    /// Rows and columns as they are drawn; `None` if all puzzles of the family are of one size.
    fn size(&self) -> Option<(usize, usize)>;

    /// The input tokens of a puzzle. `[seq_len]`
    fn encode(&self, puzzle: &Self::Puzzle) -> Vec<u8>;

    /// The label tokens of a puzzle with its solution. `[seq_len]`
    fn encode_solution(&self, puzzle: &Self::Puzzle, solution: &Self::Solution) -> Vec<u8>;

    /// The puzzle of input tokens: undoes [`Task::encode`].
    ///
    /// # Errors
    /// If they are no puzzle.
    fn decode(&self, input: &[u8]) -> Result<Self::Puzzle, String>;

    /// A random symmetry: puzzles go to puzzles, their right answers to right answers. By default there is none.
    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        let _ = rng;
        TokenSymmetry::identity(self.seq_len())
    }

    /// What stands for the symmetries that a sampler applies on the fly in the state that it saves: other words, other
    /// symmetries. `None`, the default, if it applies none.
    fn augmentation(&self) -> Option<Value> {
        None
    }

    /// Writes a random image of an example. All slices have the length of an example. By default input and label go through
    /// [`Task::symmetry`].
    fn augment(
        &self,
        rng: &mut ChaCha8Rng,
        (input, label): (&[u8], &[u8]),
        (input_out, label_out): (&mut [i32], &mut [i32]),
    ) {
        let symmetry = self.symmetry(rng);
        widen(&symmetry.apply(input), input_out);
        widen(&symmetry.apply(label), label_out);
    }

    /// The symmetry of a copy that is written beside an example: number 1, 2, ... at most [`Task::most_copies`]. By default
    /// random ones.
    fn copy(&self, number: usize, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        let _ = number;
        self.symmetry(rng)
    }

    /// How many copies there are, if all of them are different.
    fn most_copies(&self) -> Option<usize> {
        None
    }

    /// Which cells belong together, for models that mix by groups; by default none are known.
    fn groups(&self) -> Option<Groups> {
        None
    }

    /// How many symmetries puzzles have, and what they are, in words.
    fn symmetries(&self) -> (f64, &'static str);

    /// How many solutions there are, where that has been counted.
    fn census(&self) -> Option<Census> {
        None
    }

    /// The puzzle of a text.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn parse(&self, text: &str) -> Result<Self::Puzzle, String>;

    /// Whether the givens keep the rules, for puzzles from files: whether there is a solution is not asked.
    ///
    /// # Errors
    /// What is wrong with them.
    fn check_givens(&self, puzzle: &Self::Puzzle) -> Result<(), String> {
        let _ = puzzle;
        Ok(())
    }

    /// The label tokens of an answer that a text states, if it is one.
    ///
    /// # Errors
    /// What is wrong with it.
    fn parse_answer(&self, puzzle: &Self::Puzzle, text: &str) -> Result<Vec<u8>, String> {
        let answer = self.encode(&self.parse(text)?);
        self.verify(puzzle, &answer)?;
        Ok(answer)
    }

    /// The text form of a puzzle, on one line: undoes [`Task::parse`].
    fn line(&self, puzzle: &Self::Puzzle) -> String;

    /// The text form of a puzzle with an answer in it, on one line; what cannot be written in it is left as in the puzzle.
    fn answer_line(&self, puzzle: &Self::Puzzle, answer: &[u8]) -> String;

    /// The text of a puzzle, or of an answer to it, in a table. By default on one line.
    fn table_text(&self, puzzle: &Self::Puzzle, answer: Option<&[u8]>) -> String {
        answer.map_or_else(|| self.line(puzzle), |answer| self.answer_line(puzzle, answer))
    }

    /// What an exact search finds within a bounded amount of work. Where several answers are right but one is meant (the
    /// canonical path of a maze), that one counts as the only one.
    fn solutions(&self, puzzle: &Self::Puzzle) -> Solutions<Self::Solution>;

    /// The solution of a puzzle that has exactly one, as a model should see no others; `None` if it is too open to know.
    ///
    /// # Errors
    /// What is wrong with the puzzle, in words that stand alone.
    fn proper(&self, puzzle: &Self::Puzzle) -> Result<Option<Self::Solution>, String> {
        match self.solutions(puzzle) {
            Solutions::Unknown => Ok(None),
            found => found.unique().map(Some).map_err(|why| format!("the puzzle {why}")),
        }
    }

    /// What puzzles share that are images of each other under the symmetries of the task, and no others: for splits without
    /// leaks. By default the tokens, which only equal puzzles share.
    fn class(&self, puzzle: &Self::Puzzle) -> Vec<u8> {
        self.encode(puzzle)
    }

    /// The puzzle that stands for all images of a puzzle, on one line.
    ///
    /// # Errors
    /// If the family has no such form of it.
    fn canonical_line(&self, puzzle: &Self::Puzzle) -> Result<String, String> {
        let _ = puzzle;
        Err(format!("there is no canonical form of a {self}"))
    }

    /// Training puzzles that give test puzzles away. By default those of the same [class](Task::class).
    ///
    /// # Errors
    /// If a record is no puzzle of the task.
    fn leaks(&self, train: &[Record], test: &[Record]) -> Result<Leaks, String> {
        Leaks::by_class(train, test, |record| Ok(self.class(&self.decode(&record.input)?)))
    }

    /// Whether an answer solves the puzzle; any right answer, not only the label.
    ///
    /// # Errors
    /// What is wrong with it.
    fn verify(&self, puzzle: &Self::Puzzle, answer: &[u8]) -> Result<(), String>;

    /// What is right about a right answer, in words.
    fn praise(&self, puzzle: &Self::Puzzle, answer: &[u8]) -> String {
        let _ = (puzzle, answer);
        "keeps the rules and what is given".to_owned()
    }

    /// A right answer by exact search, trying first what `beliefs` think most likely; what it finds does not depend on them
    /// where there is one answer, the effort does. `None` if there is no answer, or none within `max_nodes` search states.
    ///
    /// By default what [`Task::solutions`] finds, without beliefs and without counting the work.
    fn search(&self, puzzle: &Self::Puzzle, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        let _ = (beliefs, max_nodes);
        match self.solutions(puzzle) {
            Solutions::Unique(one) | Solutions::Several(one, _) => {
                Some(Exact { answer: self.encode_solution(puzzle, &one), guesses: 0, nodes: 0 })
            }
            Solutions::None | Solutions::Unknown => None,
        }
    }

    /// The classical solvers that [`Task::work`] knows, the usual one first.
    fn methods() -> Vec<&'static str> {
        vec!["exact"]
    }

    /// Answers a puzzle by one of the [methods](Task::methods), with a trace if one is wanted. By default by
    /// [`Task::search`].
    ///
    /// # Errors
    /// If there is no such method.
    fn work(&self, puzzle: &Self::Puzzle, method: &str, trace: bool) -> Result<Worked, String> {
        let _ = (method, trace);
        let Some(Exact { answer, guesses, nodes }) = self.search(puzzle, None, MAX_NODES) else {
            return Ok(Worked::failed("the puzzle is too open to be solved exactly"));
        };
        Ok(Worked {
            answer: Some(answer),
            work: vec![("guess", guesses), ("node", nodes)],
            ..Worked::default()
        })
    }

    /// The puzzle with a number, and its solution: a pure function of options, seed and number. Of the options a task takes
    /// those that it has.
    ///
    /// # Errors
    /// If there are no such puzzles.
    fn generate(
        &self,
        options: &GenerateOptions,
        seed: u64,
        index: u64,
    ) -> Result<(Self::Puzzle, Self::Solution), String>;

    /// Generated puzzles for training and for testing, none of them an image of another. By default those of
    /// [`Task::generate`], whose [classes](Task::class) differ.
    ///
    /// # Errors
    /// If there are no such puzzles, or not so many.
    fn split(
        &self,
        options: &GenerateOptions,
        seed: u64,
        (train, test): (usize, usize),
    ) -> Result<Split<Record>, String> {
        self.generate(options, seed, 0)?;
        let spared = |puzzle: &Self::Puzzle| options.spare_bundled && is_tested(Self::NAME, &self.class(puzzle));
        let make = |index| self.generate(options, seed, index).ok().filter(|(puzzle, _)| !spared(puzzle));
        let made = split(make, |(puzzle, _)| self.class(puzzle), train, test).map_err(told)?;
        let records = |made: Vec<(Self::Puzzle, Self::Solution)>| {
            made.iter().map(|(puzzle, solution)| Record::of(self, puzzle, Some(solution))).collect()
        };
        Ok(Split { train: records(made.train), test: records(made.test) })
    }

    /// The puzzle to show where none is given, if the family has one of this size.
    fn example(&self) -> Option<String> {
        None
    }

    /// Numbers that say how hard an example is, with their names: the same ones for each example, less those that cannot be
    /// told. `label` is `[seq_len]`, or empty.
    fn measures(&self, puzzle: &Self::Puzzle, label: &[u8]) -> Vec<(&'static str, f64)> {
        let _ = (puzzle, label);
        Vec::new()
    }

    /// A table of how hard puzzles are, where the family has a better one than the [measures](Task::measures).
    fn difficulty(&self, puzzles: &[Record]) -> Option<String> {
        let _ = puzzles;
        None
    }

    /// The number of givens, where that says something.
    fn givens(&self, puzzle: &Self::Puzzle) -> Option<usize> {
        let _ = puzzle;
        None
    }

    /// The puzzle, with an answer if there is one, as text.
    fn render(&self, puzzle: &Self::Puzzle, answer: Option<&[u8]>, style: Style) -> String;

    /// What a model made of a puzzle in a step, as text: `answer` after `previous`. By default drawn as an answer.
    fn frame(&self, puzzle: &Self::Puzzle, previous: &[u8], answer: &[u8], style: Style) -> String {
        let _ = previous;
        self.render(puzzle, Some(answer), style)
    }

    /// What the marks of [`Task::frame`] mean.
    fn legend(style: Style) -> Option<&'static str> {
        let _ = style;
        None
    }

    /// The puzzle, with an answer and a label to judge it by if there are any, as a picture. By default that of the text.
    fn picture(&self, puzzle: &Self::Puzzle, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        let _ = label;
        Picture::of_text(&self.render(puzzle, answer, Style::Plain))
    }

    /// The constraints of a puzzle as a graph for Graphviz, coloured as far as the board is filled.
    fn graph(&self, board: &Self::Puzzle) -> Option<String> {
        let _ = board;
        None
    }
}
