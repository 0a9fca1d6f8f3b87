//! One interface for every puzzle: how it becomes tokens, which symmetries it has, when an answer is right, what it looks like.
//!
//! A new puzzle is one file with a type that implements [`Task`]; [`queens`] is the example to copy. Everything else follows:
//! [`dataset`] builds a dataset that the samplers and a trainer read like any other, [`score`] judges a model's answers, and
//! [`Task::augmentation`] names the augmentation that the sampler applies on the fly.
//!
//! ```
//! use hrm_data::dataset::{SamplerConfig, TrainSampler};
//! use hrm_data::render::Style;
//! use hrm_data::task::{self, Task, queens::Queens};
//! use std::sync::Arc;
//!
//! let queens = Queens::new(8)?;
//! let examples: Vec<_> = (0..100).map(|index| queens.generate(1, index)).collect();
//! let data = task::dataset(&queens, &examples, 0, 0)?;
//!
//! let config = SamplerConfig { augmentation: queens.augmentation(), ..SamplerConfig::new(32, 0) };
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
mod puzzles;
pub mod queens;
mod split;

use rand_chacha::ChaCha8Rng;
use thiserror::Error;

pub(crate) use puzzles::MAX_NODES;

pub use any::{AnyTask, Family, Shape};
pub use puzzles::{MazeTaskError, Mazes, Sudoku, SudokuError};
pub use split::{Split, SplitError, split};

use crate::dataset::{Augmentation, Dataset, DatasetError, Metadata, PuzzleSet};
use crate::groups::Groups;
use crate::random::{Purpose, stream};
use crate::render::{Picture, Style};

/// A family of puzzles with one answer sheet: input and label are rows of [`Task::seq_len`] tokens below
/// [`Task::vocab_size`], token 0 is padding and never scored.
pub trait Task {
    /// A puzzle as it is asked.
    type Puzzle;
    /// What is known of its solution.
    type Solution;
    /// Why tokens are no puzzle, or an answer is wrong.
    type Error: std::error::Error;

    /// A short name, for messages and folders.
    fn name(&self) -> &str;

    /// Tokens of an example.
    fn seq_len(&self) -> usize;

    /// Number of token values, padding included.
    fn vocab_size(&self) -> usize;

    /// The input tokens of a puzzle. `[seq_len]`
    fn encode(&self, puzzle: &Self::Puzzle) -> Vec<u8>;

    /// The label tokens of a puzzle with its solution. `[seq_len]`
    fn encode_solution(&self, puzzle: &Self::Puzzle, solution: &Self::Solution) -> Vec<u8>;

    /// The puzzle of input tokens: undoes [`Task::encode`].
    ///
    /// # Errors
    /// If they are no puzzle.
    fn decode(&self, input: &[u8]) -> Result<Self::Puzzle, Self::Error>;

    /// A random symmetry: puzzles go to puzzles, their right answers to right answers. By default there is none.
    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        let _ = rng;
        TokenSymmetry::identity(self.seq_len())
    }

    /// The augmentation with which a sampler applies these symmetries on the fly. Without one, [`dataset`] can write copies.
    fn augmentation(&self) -> Augmentation {
        Augmentation::None
    }

    /// Which cells belong together, for models that mix by groups; by default none are known.
    fn groups(&self) -> Option<Groups> {
        None
    }

    /// The puzzle of a text.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn parse(&self, text: &str) -> Result<Self::Puzzle, Self::Error>;

    /// The text form of a puzzle, on one line: undoes [`Task::parse`].
    fn line(&self, puzzle: &Self::Puzzle) -> String;

    /// The text form of a puzzle with an answer in it, on one line; what cannot be written in it is left as in the puzzle.
    fn answer_line(&self, puzzle: &Self::Puzzle, answer: &[u8]) -> String;

    /// What an exact search finds within a bounded amount of work. Where several answers are right but one is meant (the
    /// canonical path of a maze), that one counts as the only one.
    fn solutions(&self, puzzle: &Self::Puzzle) -> Solutions<Self::Solution>;

    /// What puzzles share that are images of each other under the symmetries of the task, and no others: for splits without
    /// leaks. By default the tokens, which only equal puzzles share.
    fn class(&self, puzzle: &Self::Puzzle) -> Vec<u8> {
        self.encode(puzzle)
    }

    /// Whether an answer solves the puzzle; any right answer, not only the label.
    ///
    /// # Errors
    /// What is wrong with it.
    fn verify(&self, puzzle: &Self::Puzzle, answer: &[u8]) -> Result<(), Self::Error>;

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

    /// The puzzle, with an answer if there is one, as text.
    fn render(&self, puzzle: &Self::Puzzle, answer: Option<&[u8]>, style: Style) -> String;

    /// The puzzle, with an answer and a label to judge it by if there are any, as a picture. By default that of the text.
    fn picture(&self, puzzle: &Self::Puzzle, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        let _ = label;
        Picture::of_text(&self.render(puzzle, answer, Style::Plain))
    }
}

/// A right answer, and what finding it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The answer. `[seq_len]`
    pub answer: Vec<u8>,
    /// How often the search had to choose without knowing.
    pub guesses: u64,
    /// Search states.
    pub nodes: u64,
}

/// How likely a model thinks each token in each cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Beliefs {
    vocab_size: usize,
    /// `[seq_len * vocab_size]`
    weights: Vec<f32>,
}

impl Beliefs {
    /// Beliefs from the weights of the tokens of the first cell, of the second, and so on. `[seq_len * vocab_size]`
    pub fn new(vocab_size: usize, weights: Vec<f32>) -> Self {
        Self { vocab_size, weights }
    }

    /// The weight of a token in a cell; 0 outside of the sequence or the vocabulary.
    pub fn weight(&self, cell: usize, token: u8) -> f32 {
        let token = usize::from(token);
        let inside = token < self.vocab_size;
        self.weights.get(cell * self.vocab_size + token).filter(|_| inside).copied().unwrap_or(0.0)
    }

    /// Adds other beliefs about the same sequence; beliefs of another shape are left out.
    pub fn add(&mut self, other: &Self) {
        if (self.vocab_size, self.weights.len()) == (other.vocab_size, other.weights.len()) {
            self.weights.iter_mut().zip(&other.weights).for_each(|(sum, weight)| *sum += weight);
        }
    }
}

/// What a search for the solutions of a puzzle found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Solutions<S> {
    /// There is none.
    None,
    /// There is exactly one.
    Unique(S),
    /// There are several; two of them.
    Several(S, S),
    /// The search gave up before it knew.
    Unknown,
}

impl<S> Solutions<S> {
    /// The same with each solution turned into something else.
    pub fn map<T>(self, image: impl Fn(S) -> T) -> Solutions<T> {
        match self {
            Self::None => Solutions::None,
            Self::Unique(only) => Solutions::Unique(image(only)),
            Self::Several(one, other) => Solutions::Several(image(one), image(other)),
            Self::Unknown => Solutions::Unknown,
        }
    }

    /// The only solution, or why there is none, in words that follow "the puzzle".
    ///
    /// # Errors
    /// The reason.
    pub fn unique(self) -> Result<S, &'static str> {
        match self {
            Self::Unique(only) => Ok(only),
            Self::None => Err("has no solution"),
            Self::Several(..) => Err("has more than one solution"),
            Self::Unknown => Err("is too open to be solved exactly"),
        }
    }
}

impl<S> From<crate::variants::Search<S>> for Solutions<S> {
    fn from(search: crate::variants::Search<S>) -> Self {
        match (search.is_unique(), search.first, search.second) {
            (Some(true), Some(only), _) => Self::Unique(only),
            (Some(false), Some(one), Some(other)) => Self::Several(one, other),
            (Some(false), None, _) => Self::None,
            _ => Self::Unknown,
        }
    }
}

/// A symmetry as it acts on tokens: cells change places, and tokens change names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSymmetry {
    sources: Vec<u32>,
    tokens: Option<Box<[u8; 256]>>,
}

/// Why there is no such symmetry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SymmetryError {
    /// The places are no permutation.
    #[error("expected a permutation of {cells} cells, but cell {cell} is no cell or stands twice")]
    Places {
        /// Number of cells.
        cells: usize,
        /// The entry at fault.
        cell: u32,
    },
    /// The tokens are no permutation that keeps padding.
    #[error("expected a permutation of {tokens} tokens that keeps 0, got {got:?}")]
    Tokens {
        /// Number of tokens.
        tokens: usize,
        /// The images.
        got: Vec<u8>,
    },
}

impl TokenSymmetry {
    /// The symmetry that changes nothing.
    pub fn identity(cells: usize) -> Self {
        Self { sources: (0..cells as u32).collect(), tokens: None }
    }

    /// A symmetry from the cell that each cell of the image comes from, and the image of each token (all others stay).
    ///
    /// # Errors
    /// [`SymmetryError`] if one of the two is no permutation, or padding does not stay.
    pub fn new(sources: Vec<u32>, tokens: &[u8]) -> Result<Self, SymmetryError> {
        let cells = sources.len();
        let mut seen = vec![false; cells];
        for &cell in &sources {
            match seen.get_mut(cell as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(SymmetryError::Places { cells, cell }),
            }
        }
        let mut sorted = tokens.to_vec();
        sorted.sort_unstable();
        if tokens.first().is_some_and(|&t| t != 0)
            || sorted.iter().enumerate().any(|(i, &t)| i != usize::from(t))
        {
            return Err(SymmetryError::Tokens { tokens: tokens.len(), got: tokens.to_vec() });
        }
        if tokens.iter().enumerate().all(|(token, &image)| token == usize::from(image)) {
            return Ok(Self { sources, tokens: None });
        }
        let mut images = Box::new([0; 256]);
        for (token, image) in images.iter_mut().enumerate() {
            *image = tokens.get(token).copied().unwrap_or(token as u8);
        }
        Ok(Self { sources, tokens: Some(images) })
    }

    /// The image of a row of tokens; a row of another length stays as it is.
    pub fn apply(&self, row: &[u8]) -> Vec<u8> {
        if row.len() != self.sources.len() {
            return row.to_vec();
        }
        let token = |&source: &u32| row[source as usize];
        match &self.tokens {
            None => self.sources.iter().map(token).collect(),
            Some(images) => self.sources.iter().map(|s| images[usize::from(token(s))]).collect(),
        }
    }

    /// The symmetry that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut sources = vec![0; self.sources.len()];
        for (target, &source) in self.sources.iter().enumerate() {
            sources[source as usize] = target as u32;
        }
        let tokens = self.tokens.as_ref().map(|images| {
            let mut inverse = Box::new([0; 256]);
            for (token, &image) in images.iter().enumerate() {
                inverse[usize::from(image)] = token as u8;
            }
            inverse
        });
        Self { sources, tokens }
    }

    /// The image of beliefs; those about a sequence of another length stay as they are.
    pub fn apply_beliefs(&self, beliefs: &Beliefs) -> Beliefs {
        let vocab_size = beliefs.vocab_size;
        if beliefs.weights.len() != self.sources.len() * vocab_size {
            return beliefs.clone();
        }
        let image = |token: usize| self.tokens.as_ref().map_or(token, |images| usize::from(images[token]));
        let mut weights = vec![0.0; beliefs.weights.len()];
        for (target, &source) in self.sources.iter().enumerate() {
            for token in 0..vocab_size {
                weights[target * vocab_size + image(token)] =
                    beliefs.weights[source as usize * vocab_size + token];
            }
        }
        Beliefs { vocab_size, weights }
    }
}

/// A dataset of puzzles with their solutions, each followed by `copies` random images of it (0 if the sampler augments). The
/// same for the same seed.
///
/// # Errors
/// [`DatasetError`] if there are no examples, or a task's tokens do not keep its own limits.
pub fn dataset<T: Task>(
    task: &T,
    examples: &[(T::Puzzle, T::Solution)],
    copies: usize,
    seed: u64,
) -> Result<Dataset, DatasetError> {
    let seq_len = task.seq_len();
    let images = copies.saturating_add(1);
    let rows = examples.len().checked_mul(images).filter(|&rows| (1..=i32::MAX as usize).contains(&rows));
    if rows.is_none() {
        let expected = format!("1 to {} examples", i32::MAX);
        let got = format!("{} in {images} images each", examples.len());
        return Err(DatasetError::Inconsistent { set: "all".to_owned(), array: "inputs", expected, got });
    }
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for (index, (puzzle, solution)) in examples.iter().enumerate() {
        let (input, label) = (task.encode(puzzle), task.encode_solution(puzzle, solution));
        for (array, tokens) in [("inputs", &input), ("labels", &label)] {
            if tokens.len() != seq_len {
                let (expected, got) =
                    (format!("{seq_len} tokens"), format!("{} in example {index}", tokens.len()));
                return Err(DatasetError::Inconsistent { set: "all".to_owned(), array, expected, got });
            }
        }
        inputs.extend_from_slice(&input);
        labels.extend_from_slice(&label);
        for copy in 1..images {
            let symmetry = task.symmetry(&mut stream(seed, Purpose::Materialize, index as u64, copy as u64));
            inputs.extend(symmetry.apply(&input));
            labels.extend(symmetry.apply(&label));
        }
    }
    assemble((seq_len, task.vocab_size()), inputs, labels, images)
}

/// A dataset of rows of tokens, each a puzzle of its own.
///
/// # Errors
/// [`DatasetError`] if there are no rows, or some have another length than the task's.
pub fn dataset_of_rows(
    task: &AnyTask,
    inputs: &[Vec<u8>],
    labels: &[Vec<u8>],
) -> Result<Dataset, DatasetError> {
    assemble((task.seq_len(), task.vocab_size()), inputs.concat(), labels.concat(), 1)
}

/// Rows as a dataset: each `images` of them are one puzzle and its images.
fn assemble(
    (seq_len, vocab_size): (usize, usize),
    inputs: Vec<u8>,
    labels: Vec<u8>,
    images: usize,
) -> Result<Dataset, DatasetError> {
    let rows = inputs.len() / seq_len.max(1);
    let examples = rows / images;
    let offsets = |n: usize, step: usize| (0..=n).map(|i| (i * step) as u32).collect();
    let (puzzles, groups) = (offsets(rows, 1), offsets(examples, images));
    let set = PuzzleSet::new("all", seq_len, inputs, labels, vec![0; rows], puzzles, groups)?;
    let metadata = Metadata {
        pad_id: 0,
        ignore_label_id: Some(0),
        blank_identifier_id: 0,
        vocab_size,
        seq_len,
        num_puzzle_identifiers: 1,
        total_groups: examples,
        mean_puzzle_examples: 1.0,
        total_puzzles: Some(rows),
        sets: vec!["all".to_owned()],
    };
    Dataset::new(metadata, vec![set])
}

/// How many answers are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// Answers judged.
    pub rows: usize,
    /// Equal to the label.
    pub exact: usize,
    /// Right by [`Task::verify`], whether equal to the label or not.
    pub solved: usize,
}

/// Judges answers, each a row of input, label and answer tokens. An input that is no puzzle can only be exact.
pub fn score<'a, T: Task>(
    task: &T,
    rows: impl IntoIterator<Item = (&'a [u8], &'a [u8], &'a [u8])>,
) -> Scores {
    let mut scores = Scores::default();
    for (input, label, answer) in rows {
        scores.rows += 1;
        scores.exact += usize::from(label == answer);
        scores.solved +=
            usize::from(task.decode(input).is_ok_and(|puzzle| task.verify(&puzzle, answer).is_ok()));
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symmetries_are_checked() {
        let symmetry = TokenSymmetry::new(vec![2, 0, 1], &[0, 2, 1]).unwrap();
        assert_eq!(symmetry.apply(&[0, 1, 5]), [5, 0, 2]);
        assert_eq!(symmetry.apply(&[1]), [1]);
        assert_eq!(symmetry.inverse().apply(&[5, 0, 2]), [0, 1, 5]);
        // What is believed of a cell and a token is believed of their images.
        let beliefs = Beliefs::new(3, vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]);
        let image = symmetry.apply_beliefs(&beliefs);
        assert_eq!((image.weight(0, 2), image.weight(0, 1), image.weight(1, 0)), (0.8, 0.9, 0.1));
        assert_eq!(symmetry.inverse().apply_beliefs(&image), beliefs);
        assert_eq!((beliefs.weight(0, 3), beliefs.weight(3, 0)), (0.0, 0.0));
        assert_eq!(TokenSymmetry::identity(2).apply(&[7, 8]), [7, 8]);
        assert!(TokenSymmetry::new(vec![0, 0], &[]).is_err());
        assert!(TokenSymmetry::new(vec![0, 2], &[]).is_err());
        assert!(TokenSymmetry::new(vec![0], &[1, 0]).is_err());
        assert!(TokenSymmetry::new(vec![0], &[0, 1, 1]).is_err());
    }
}
