//! Puzzles as rows of tokens, whatever their task: what files and generators give, and what datasets are made of.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use thiserror::Error;

use super::{AnyTask, Task, TokenSymmetry};
use crate::dataset::{Dataset, DatasetError, Metadata, PuzzleSet};
use crate::random::{self, Purpose, stream};
use crate::table::{self, TableError};

/// One puzzle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Where it comes from; empty if that is not known.
    pub source: String,
    /// Its input tokens. `[seq_len]`
    pub input: Vec<u8>,
    /// The label tokens of its solution, if that is known; it solves the puzzle. `[seq_len]`
    pub label: Option<Vec<u8>>,
    /// The stated difficulty. In Sudoku-Extreme: the number of guesses of the solver tdoku in this orientation. In Maze-Hard:
    /// the number of cells of a shortest path, without the start.
    pub rating: Option<f64>,
}

impl Record {
    /// A puzzle with its solution, if that is known.
    pub fn of<T: Task>(task: &T, puzzle: &T::Puzzle, solution: Option<&T::Solution>) -> Self {
        let label = solution.map(|solution| task.encode_solution(puzzle, solution));
        Self { input: task.encode(puzzle), label, ..Self::default() }
    }
}

/// Writes `source,question,answer,rating` with a header, gzip if the name ends in `.gz`. The bytes depend on the records only.
///
/// # Errors
/// [`TableError::Io`] if the file cannot be written.
pub fn write_records(path: &Path, task: &AnyTask, records: &[Record]) -> Result<(), TableError> {
    let row = |record: &Record| {
        let answer =
            record.label.as_deref().and_then(|label| task.table_text(&record.input, Some(label)).ok());
        let question = task.table_text(&record.input, None).unwrap_or_default();
        let rating = record.rating.map(|rating| rating.to_string()).unwrap_or_default();
        [record.source.clone(), question, answer.unwrap_or_default(), rating]
    };
    table::write(path, records.iter().map(row))
}

/// Why records make no dataset.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A dataset that cannot be assembled.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// No puzzle.
    #[error("expected at least one puzzle, got none")]
    Empty,
    /// Puzzles of different sizes.
    #[error(
        "puzzle {number}: expected a {expected} ({tokens} tokens) like the first puzzle, got one of {got} tokens"
    )]
    Mixed {
        /// Which puzzle, 1-based.
        number: usize,
        /// What the first is.
        expected: String,
        /// Its tokens.
        tokens: usize,
        /// Tokens of this one.
        got: usize,
    },
    /// A puzzle that came without an answer and has not exactly one.
    #[error("puzzle {number} has no stated answer and {why}: {puzzle}")]
    NotProper {
        /// Which puzzle, 1-based.
        number: usize,
        /// No solution, several, or unknown.
        why: String,
        /// The puzzle on one line.
        puzzle: String,
    },
    /// More examples than the format can number.
    #[error("expected at most {limit} examples, got {records} puzzles with {copies} copies each", limit = i32::MAX)]
    TooMany {
        /// Puzzles.
        records: usize,
        /// Copies of each.
        copies: usize,
    },
}

/// Finds the answer of a record that states none.
fn solve(task: &AnyTask, record: &Record, number: usize) -> Result<Vec<u8>, BuildError> {
    let why = match task.solutions(&record.input) {
        Ok(found) => match found.unique() {
            Ok(label) => return Ok(label),
            Err(why) => why.to_owned(),
        },
        Err(why) => why,
    };
    let puzzle = task.line(&record.input).unwrap_or_default();
    Err(BuildError::NotProper { number, why, puzzle })
}

/// A dataset of exactly these puzzles, and how many of them had to be solved because they state no answer. Each is followed by
/// at most `copies` images of it under symmetries of the task; training augments on the fly, so 0 is right unless the data are
/// for the original tools. The same for the same seed.
///
/// # Errors
/// [`BuildError`] if there is no puzzle, one has other sizes than the task's, or one without an answer has not exactly one.
pub fn dataset(
    task: &AnyTask,
    records: &[Record],
    copies: usize,
    seed: u64,
) -> Result<(Dataset, usize), BuildError> {
    if records.is_empty() {
        return Err(BuildError::Empty);
    }
    // Checked for the copies asked for, before any is made; there may be fewer symmetries.
    let most = task.most_copies().map_or(copies, |most| most.min(copies));
    if records.len().checked_mul(most.saturating_add(1)).is_none_or(|rows| rows > i32::MAX as usize) {
        return Err(BuildError::TooMany { records: records.len(), copies });
    }
    let (seq_len, vocab_size) = (task.seq_len(), task.vocab_size());
    let (mut inputs, mut labels, mut solved) = (Vec::new(), Vec::new(), 0);
    for (index, record) in records.iter().enumerate() {
        let (number, got) = (index + 1, record.input.len());
        if got != seq_len || record.label.as_ref().is_some_and(|label| label.len() != seq_len) {
            let (expected, tokens) = (task.to_string(), seq_len);
            return Err(BuildError::Mixed { number, expected, tokens, got });
        }
        let label = match &record.label {
            Some(label) => label.clone(),
            None => {
                solved += 1;
                solve(task, record, number)?
            }
        };
        inputs.extend_from_slice(&record.input);
        labels.extend_from_slice(&label);
        for copy in 1..=most {
            let mut rng = stream(seed, Purpose::Materialize, index as u64, copy as u64);
            let image: TokenSymmetry = task.copy(copy, &mut rng);
            inputs.extend(image.apply(&record.input));
            labels.extend(image.apply(&label));
        }
    }
    let rows = records.len() * (most + 1);
    let offsets = |n: usize, step: usize| (0..=n).map(|i| (i * step) as u32).collect();
    let (puzzles, groups) = (offsets(rows, 1), offsets(records.len(), most + 1));
    let set = PuzzleSet::new("all", seq_len, inputs, labels, vec![0; rows], puzzles, groups)?;
    let metadata = Metadata {
        pad_id: 0,
        ignore_label_id: Some(0),
        blank_identifier_id: 0,
        vocab_size,
        seq_len,
        num_puzzle_identifiers: 1,
        total_groups: records.len(),
        mean_puzzle_examples: 1.0,
        total_puzzles: Some(rows),
        sets: vec!["all".to_owned()],
    };
    Ok((Dataset::new(metadata, vec![set])?, solved))
}

/// The token of a blank, in tasks that take hints.
const BLANK: u8 = 1;

/// Some of the blanks of a puzzle, in random order: at least one, and never all. None if there are fewer than two.
pub(crate) fn draw_hints(rng: &mut rand_chacha::ChaCha8Rng, mut blanks: Vec<usize>) -> Vec<usize> {
    let most = blanks.len().saturating_sub(1) as u32;
    if most == 0 {
        return Vec::new();
    }
    let count = 1 + random::below(rng, most) as usize;
    random::shuffle(rng, &mut blanks);
    blanks.truncate(count);
    blanks
}

/// Easier versions of puzzles of a task that takes hints: `copies` of each, in which a random number of the blanks, at least
/// one and not all, hold the solution. Puzzles with less than two blanks have none.
///
/// # Errors
/// [`BuildError::NotProper`] for a puzzle without an answer that has not exactly one.
pub fn with_hints(
    task: &AnyTask,
    records: &[Record],
    copies: usize,
    seed: u64,
) -> Result<Vec<Record>, BuildError> {
    let mut easier = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let label = match &record.label {
            Some(label) => label.clone(),
            None => solve(task, record, index + 1)?,
        };
        let blank: Vec<usize> = (0..label.len()).filter(|&cell| record.input[cell] == BLANK).collect();
        for copy in 0..if blank.len() < 2 { 0 } else { copies } {
            let mut rng = stream(seed, Purpose::Materialize, index as u64, u64::MAX - copy as u64);
            let mut input = record.input.clone();
            for cell in draw_hints(&mut rng, blank.clone()) {
                input[cell] = label[cell];
            }
            let source = format!("{} with hints", record.source);
            easier.push(Record { source, input, label: Some(label.clone()), rating: None });
        }
    }
    Ok(easier)
}

/// Draws `size` items in one pass, in their order and in memory for those that are kept; every subset is equally likely
/// (reservoir sampling, algorithm R). All of them if `size` is `None`.
///
/// # Errors
/// The first error among the items.
pub fn reservoir<T, E>(
    items: impl IntoIterator<Item = Result<T, E>>,
    size: Option<usize>,
    seed: u64,
) -> Result<Vec<T>, E> {
    let mut kept: Vec<(usize, T)> = Vec::new();
    let mut rng = stream(seed, Purpose::Subsample, 0, 0);
    for (index, item) in items.into_iter().enumerate() {
        let number = index + 1;
        match size {
            Some(size) if kept.len() >= size => {
                let slot = random::below_u64(&mut rng, number as u64) as usize;
                if let Some(place) = kept.get_mut(slot) {
                    *place = (number, item?);
                } else {
                    item?;
                }
            }
            _ => kept.push((number, item?)),
        }
    }
    kept.sort_unstable_by_key(|&(number, _)| number);
    Ok(kept.into_iter().map(|(_, item)| item).collect())
}

/// Draws `size` items: those that come first in a random order, in the order that they have. Also gives the others.
pub fn draw<T>(items: Vec<T>, size: usize, seed: u64) -> (Vec<T>, Vec<T>) {
    let order = random::permutation(&mut stream(seed, Purpose::Subsample, 0, 0), items.len());
    let chosen: HashSet<u32> = order.into_iter().take(size).collect();
    let (first, rest): (Vec<_>, Vec<_>) =
        items.into_iter().zip(0u32..).partition(|(_, index)| chosen.contains(index));
    let items = |pairs: Vec<(T, u32)>| pairs.into_iter().map(|(item, _)| item).collect();
    (items(first), items(rest))
}

/// Training puzzles that give test puzzles away in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leak {
    /// What it is called.
    pub title: &'static str,
    /// As it follows "puzzles".
    pub told: &'static str,
    /// Each as (training index, test index), 0-based, in the order of training.
    pub pairs: Vec<(usize, usize)>,
}

/// Training puzzles that give test puzzles away, by what gives them away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaks(pub Vec<Leak>);

impl Leaks {
    /// Those of the same class.
    ///
    /// # Errors
    /// If a record has no class.
    pub fn by_class<C: std::hash::Hash + Eq>(
        train: &[Record],
        test: &[Record],
        class: impl Fn(&Record) -> Result<C, String>,
    ) -> Result<Self, String> {
        let mut known = HashMap::new();
        for (index, record) in test.iter().enumerate() {
            known.entry(class(record)?).or_insert(index);
        }
        let mut pairs = Vec::new();
        for (index, record) in train.iter().enumerate() {
            pairs.extend(known.get(&class(record)?).map(|&of_test| (index, of_test)));
        }
        Ok(Self(vec![Leak {
            title: "images of each other",
            told: "equivalent to puzzles of the test set",
            pairs,
        }]))
    }

    /// Every training puzzle that gives one away, once, in the order of training.
    pub fn all(&self) -> Vec<(usize, usize)> {
        let mut seen = HashSet::new();
        let mut all: Vec<_> =
            self.0.iter().flat_map(|leak| &leak.pairs).copied().filter(|pair| seen.insert(pair.0)).collect();
        all.sort_unstable();
        all
    }

    /// Leaves the training puzzles out that give one away.
    pub fn drop_from(&self, train: &mut Vec<Record>) {
        let gone: HashSet<usize> = self.all().into_iter().map(|(of_train, _)| of_train).collect();
        let mut indices = 0..;
        train.retain(|_| indices.next().is_some_and(|index| !gone.contains(&index)));
    }
}

/// How many of which kind, each puzzle in the first kind that it belongs to, as it follows "puzzles": `2 equivalent to puzzles of
/// the test set`.
impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen = HashSet::new();
        let told = self.0.iter().filter_map(|leak| {
            let new = leak.pairs.iter().filter(|pair| seen.insert(pair.0)).count();
            (new > 0).then(|| format!("{new} {}", leak.told))
        });
        f.write_str(&told.collect::<Vec<_>>().join(" and "))
    }
}
