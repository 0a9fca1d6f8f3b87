//! Building Sudoku datasets in the reference's format, from puzzle files or from generated puzzles.
//!
//! Tokens: 0 is padding, 1 a blank, `value + 1` a value; `vocab_size = side + 2`. Each puzzle is a group of its own, with
//! its materialised augmentations if there are any; all share the blank puzzle identifier.

use std::collections::{HashMap, HashSet};
use std::fmt;

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use thiserror::Error;

use super::board::{Board, BoardError, Geometry};
use super::canonical::{ClassKey, Classifier};
use super::generator::Generator;
use super::invariant;
use super::records::{Record, RecordError};
use super::solver::{Solver, Verdict};
use super::symmetry::Symmetry;
use crate::dataset::{Dataset, DatasetError, Metadata, PuzzleSet, draw_hints};
use crate::random::{self, Purpose, stream};

/// Why a Sudoku dataset cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A source file that cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A dataset that cannot be assembled or written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// No puzzle is left.
    #[error("expected at least one puzzle, got none of {read} (minimum rating {min_rating:?})")]
    Empty {
        /// Puzzles read.
        read: usize,
        /// The rating filter.
        min_rating: Option<f64>,
    },
    /// Puzzles of different sizes.
    #[error("puzzle {number}: expected {expected} like the first puzzle, got {got}")]
    Mixed {
        /// Which puzzle, 1-based.
        number: usize,
        /// Geometry of the first.
        expected: Geometry,
        /// Geometry of this one.
        got: Geometry,
    },
    /// A puzzle that came without an answer and is not a proper Sudoku.
    #[error("puzzle {number} has no stated answer and {why}: {puzzle}")]
    NotProper {
        /// Which puzzle, 1-based.
        number: usize,
        /// No solution, several, or unknown.
        why: &'static str,
        /// The puzzle on one line.
        puzzle: String,
    },
    /// A puzzle without a rating although a minimum rating was asked for.
    #[error("puzzle {number} has no rating, but a minimum rating of {min_rating} was asked for")]
    Unrated {
        /// Which puzzle, 1-based.
        number: usize,
        /// The rating filter.
        min_rating: f64,
    },
    /// More examples than the format can number.
    #[error("expected at most {limit} examples, got {records} puzzles with {augmentations} copies each", limit = i32::MAX)]
    TooMany {
        /// Puzzles.
        records: usize,
        /// Augmented copies of each.
        augmentations: usize,
    },
    /// There are not enough different puzzles of the kind asked for.
    #[error(
        "found no new puzzle in {tries} tries, with {train} of {want_train} training and {test} of {want_test} test puzzles; \
             ask for fewer puzzles or for a wider range of clues"
    )]
    Exhausted {
        /// Consecutive failures.
        tries: usize,
        /// Training puzzles found.
        train: usize,
        /// Training puzzles wanted.
        want_train: usize,
        /// Test puzzles found.
        test: usize,
        /// Test puzzles wanted.
        want_test: usize,
    },
    /// Puzzles of one set are images of puzzles of the other.
    #[error(
        "{count} test puzzles are equivalent to training puzzles; the first is test puzzle {test}, an image of training puzzle {train} (1-based)"
    )]
    Leak {
        /// How many test puzzles leak.
        count: usize,
        /// The first of them, 1-based.
        test: usize,
        /// The training puzzle, 1-based.
        train: usize,
    },
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
        let expected = "a legal number of (16, 36, 81, 256, ...)".to_owned();
        return Err(BoardError::Length { expected, got: tokens.len(), hint: "" });
    };
    Board::from_cells(geometry, tokens.iter().map(|t| t.saturating_sub(1)).collect())
}

/// What of a source becomes a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BuildOptions {
    /// Seed of the subsample and of the materialised augmentations.
    pub seed: u64,
    /// Keep this many puzzles, drawn without replacement, in the order of the source. All if `None`.
    pub subsample: Option<usize>,
    /// Keep puzzles with at least this rating.
    pub min_rating: Option<f64>,
    /// Augmented copies of each puzzle written beside it. Training augments on the fly, so 0 is right unless the data are
    /// for the original tools.
    pub augmentations: usize,
}

/// What became of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildReport {
    /// Puzzles read.
    pub read: usize,
    /// Puzzles below the minimum rating.
    pub below_rating: usize,
    /// Puzzles kept.
    pub kept: usize,
    /// Puzzles kept that came without an answer and were solved here.
    pub solved: usize,
}

/// Draws the records that become a dataset, in one pass and with memory for the kept ones only.
///
/// # Errors
/// The first [`RecordError`] of the source, or [`BuildError::Unrated`].
pub fn select_records(
    records: impl IntoIterator<Item = Result<Record, RecordError>>,
    options: &BuildOptions,
) -> Result<(Vec<Record>, BuildReport), BuildError> {
    let mut report = BuildReport::default();
    let mut kept: Vec<(usize, Record)> = Vec::new();
    let mut rng = stream(options.seed, Purpose::Subsample, 0, 0);
    let mut candidates = 0usize;
    for record in records {
        let record = record?;
        report.read += 1;
        if let Some(min_rating) = options.min_rating {
            let number = report.read;
            let rating = record.rating.ok_or(BuildError::Unrated { number, min_rating })?;
            if rating < min_rating {
                report.below_rating += 1;
                continue;
            }
        }
        candidates += 1;
        match options.subsample {
            // Reservoir sampling (algorithm R): every subset of the wanted size is equally likely.
            Some(size) if kept.len() >= size => {
                let slot = random::below_u64(&mut rng, candidates as u64) as usize;
                if let Some(place) = kept.get_mut(slot) {
                    *place = (candidates, record);
                }
            }
            _ => kept.push((candidates, record)),
        }
    }
    kept.sort_unstable_by_key(|&(order, _)| order);
    report.kept = kept.len();
    Ok((kept.into_iter().map(|(_, record)| record).collect(), report))
}

/// Builds a dataset from puzzles: subsample, rating filter, missing answers solved, augmentations materialised.
///
/// # Errors
/// [`BuildError`] if a record cannot be read, sizes are mixed, nothing is left, or a puzzle without an answer is not a
/// proper Sudoku.
pub fn build(
    records: impl IntoIterator<Item = Result<Record, RecordError>>,
    options: &BuildOptions,
) -> Result<(Dataset, BuildReport), BuildError> {
    let (records, mut report) = select_records(records, options)?;
    let (dataset, solved) = from_records(&records, options)?;
    report.solved = solved;
    if report.kept == 0 {
        return Err(BuildError::Empty { read: report.read, min_rating: options.min_rating });
    }
    Ok((dataset, report))
}

/// A dataset of exactly these records, and how many of them had to be solved. Only `seed` and `augmentations` of the
/// options are used.
///
/// # Errors
/// As [`build`].
pub fn from_records(records: &[Record], options: &BuildOptions) -> Result<(Dataset, usize), BuildError> {
    let Some(first) = records.first() else {
        return Err(BuildError::Empty { read: 0, min_rating: options.min_rating });
    };
    let geometry = first.puzzle.geometry();
    let cells = geometry.cells();
    let copies = options.augmentations.saturating_add(1);
    if records.len().checked_mul(copies).is_none_or(|examples| examples > i32::MAX as usize) {
        return Err(BuildError::TooMany { records: records.len(), augmentations: options.augmentations });
    }
    let mut solver = Solver::new();
    let mut solved = 0;
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for (index, record) in records.iter().enumerate() {
        let (number, got) = (index + 1, record.puzzle.geometry());
        if got != geometry {
            return Err(BuildError::Mixed { number, expected: geometry, got });
        }
        let solution = match &record.solution {
            Some(solution) => solution.clone(),
            None => {
                solved += 1;
                solve_proper(&mut solver, &record.puzzle, number)?
            }
        };
        let (input, label) = (encode_tokens(&record.puzzle), encode_tokens(&solution));
        for copy in 0..copies {
            if copy == 0 {
                inputs.extend_from_slice(&input);
                labels.extend_from_slice(&label);
                continue;
            }
            let mut rng = stream(options.seed, Purpose::Materialize, index as u64, copy as u64);
            let symmetry = Symmetry::random(geometry, &mut rng);
            for (tokens, all) in [(&input, &mut inputs), (&label, &mut labels)] {
                let mut image = vec![0i32; cells];
                symmetry.apply_tokens(tokens, &mut image);
                all.extend(image.iter().map(|&t| t as u8));
            }
        }
    }
    let puzzles = records.len() * copies;
    let puzzle_indices = (0..=puzzles as u32).collect();
    let group_indices = (0..=records.len()).map(|g| (g * copies) as u32).collect();
    let set = PuzzleSet::new("all", cells, inputs, labels, vec![0; puzzles], puzzle_indices, group_indices)?;
    let metadata = Metadata {
        pad_id: 0,
        ignore_label_id: Some(0),
        blank_identifier_id: 0,
        vocab_size: geometry.side() + 2,
        seq_len: cells,
        num_puzzle_identifiers: 1,
        total_groups: records.len(),
        mean_puzzle_examples: 1.0,
        total_puzzles: Some(puzzles),
        sets: vec!["all".to_owned()],
    };
    Ok((Dataset::new(metadata, vec![set])?, solved))
}

/// Easier versions of puzzles: `copies` of each, in which a random number of the blanks, at least one and not all, hold the
/// solution. Puzzles with less than two blanks have none.
///
/// # Errors
/// [`BuildError::NotProper`] for a puzzle without an answer that is no proper Sudoku.
pub fn with_hints(records: &[Record], copies: usize, seed: u64) -> Result<Vec<Record>, BuildError> {
    let mut solver = Solver::new();
    let mut easier = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let solution = match &record.solution {
            Some(solution) => solution.clone(),
            None => solve_proper(&mut solver, &record.puzzle, index + 1)?,
        };
        let blank: Vec<usize> =
            (0..solution.cells().len()).filter(|&cell| record.puzzle.cells()[cell] == 0).collect();
        for copy in 0..if blank.len() < 2 { 0 } else { copies } {
            let mut rng = stream(seed, Purpose::Materialize, index as u64, u64::MAX - copy as u64);
            let mut puzzle = record.puzzle.clone();
            for cell in draw_hints(&mut rng, blank.clone()) {
                puzzle.cells_mut()[cell] = solution.cells()[cell];
            }
            let source = format!("{} with hints", record.source);
            easier.push(Record { source, puzzle, solution: Some(solution.clone()), rating: None });
        }
    }
    Ok(easier)
}

fn solve_proper(solver: &mut Solver, puzzle: &Board, number: usize) -> Result<Board, BuildError> {
    let why = match solver.classify(puzzle) {
        Verdict::Unique(solution) => return Ok(solution),
        Verdict::None => "has no solution",
        Verdict::Multiple(..) => "has several solutions",
        Verdict::Unknown => "its solution could not be found",
    };
    Err(BuildError::NotProper { number, why, puzzle: puzzle.to_line() })
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerateOptions {
    /// The shape of the boards.
    pub geometry: Geometry,
    /// Seed of everything.
    pub seed: u64,
    /// Number of training puzzles.
    pub train: usize,
    /// Number of test puzzles.
    pub test: usize,
    /// Range of the number of clues, drawn uniformly for each puzzle; minimal puzzles if `None`. There are only 36 classes
    /// of minimal 4x4 puzzles: ask for a range there.
    pub clues: Option<(usize, usize)>,
}

/// Generated puzzles for training and for testing.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Training puzzles, all different.
    pub train: Vec<Record>,
    /// Test puzzles, no two of them equivalent, and none equivalent to a training puzzle.
    pub test: Vec<Record>,
}

/// The two sides of a split while it is filled.
pub(super) struct Quotas {
    train: usize,
    test: usize,
    split: Split,
}

impl Quotas {
    /// Whether a side has all it wants.
    pub(super) const fn is_full(&self, for_test: bool) -> bool {
        if for_test { self.split.test.len() >= self.test } else { self.split.train.len() >= self.train }
    }

    /// A side for something new: at random by the sizes wanted, but the other one if that is full.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> bool {
        let wanted = self.train.saturating_add(self.test) as u64;
        !self.is_full(true) && (self.is_full(false) || random::below_u64(rng, wanted) < self.test as u64)
    }
}

/// What makes puzzles number 0, 1, 2, ... and how long to go on with it.
pub(super) struct Source<I, M> {
    /// Puzzles made between two looks at the quotas.
    pub(super) chunk: u64,
    /// Puzzles in a row that are of no use after which there are taken to be no more.
    pub(super) patience: usize,
    /// What a thread needs to make puzzles.
    pub(super) init: I,
    /// Makes the puzzle of a number.
    pub(super) make: M,
}

/// Makes puzzles until both sides are full. `place` says for each, in the order of numbers, what it becomes and whether on the
/// side of the test; `None` if it is of no use. The result does not depend on the number of threads.
pub(super) fn deal<S, T: Send>(
    (train, test): (usize, usize),
    source: &Source<impl Fn() -> S + Sync + Send, impl Fn(&mut S, u64) -> T + Sync + Send>,
    mut place: impl FnMut(u64, T, &Quotas) -> Option<(Record, bool)>,
) -> Result<Split, BuildError> {
    let mut quotas = Quotas { train, test, split: Split { train: Vec::new(), test: Vec::new() } };
    let mut misses = 0;
    let mut start = 0;
    loop {
        let made: Vec<(u64, T)> = (start..start + source.chunk)
            .into_par_iter()
            .map_init(&source.init, |state, index| (index, (source.make)(state, index)))
            .collect();
        start += source.chunk;
        for (index, made) in made {
            if quotas.is_full(false) && quotas.is_full(true) {
                return Ok(quotas.split);
            }
            match place(index, made, &quotas) {
                Some((record, true)) => quotas.split.test.push(record),
                Some((record, false)) => quotas.split.train.push(record),
                None => {
                    misses += 1;
                    if misses >= source.patience {
                        return Err(BuildError::Exhausted {
                            tries: misses,
                            train: quotas.split.train.len(),
                            want_train: train,
                            test: quotas.split.test.len(),
                            want_test: test,
                        });
                    }
                    continue;
                }
            }
            misses = 0;
        }
    }
}

/// Generates a training and a test set that are disjoint up to symmetry. The same on any number of threads.
///
/// # Errors
/// [`BuildError::Exhausted`] if there are not enough different puzzles of this kind.
pub fn generate_split(options: &GenerateOptions) -> Result<Split, BuildError> {
    let &GenerateOptions { geometry, seed, train, test, clues } = options;
    let mut generator = Generator::new(geometry, seed);
    if let Some((fewest, most)) = clues {
        generator = generator.with_clues(fewest, most);
    }
    let source = Source {
        chunk: 256,
        patience: train.saturating_add(test).saturating_mul(20).saturating_add(20_000),
        init: || (generator.clone(), Classifier::new()),
        make: |(generator, classifier): &mut (Generator, Classifier), index| {
            let made = generator.generate(index);
            let key = classifier.key(&made.puzzle);
            (made, key)
        },
    };
    let mut is_test: HashMap<ClassKey, bool> = HashMap::new();
    let mut train_boards: HashSet<Board> = HashSet::new();
    deal((train, test), &source, |index, (made, key), quotas| {
        let known = is_test.get(&key).copied();
        // A class is assigned when it is met first, at random, so that common and rare classes come to both sides.
        let for_test = known.unwrap_or_else(|| quotas.draw(&mut stream(seed, Purpose::Subsample, index, 1)));
        let accepted = match for_test {
            true => known.is_none(),
            false => !quotas.is_full(false) && train_boards.insert(made.puzzle.clone()),
        };
        if !accepted {
            return None;
        }
        is_test.insert(key, for_test);
        let source = format!("generated {geometry} seed {seed} number {index}");
        Some((Record { source, puzzle: made.puzzle, solution: Some(made.solution), rating: None }, for_test))
    })
}

/// The test puzzles that are equivalent to a training puzzle, as (test index, training index), 0-based.
pub fn leaks<'a>(
    train: impl IntoIterator<Item = &'a Board>,
    test: impl IntoIterator<Item = &'a Board>,
) -> Vec<(usize, usize)> {
    let keys = |boards: Vec<&Board>| -> Vec<ClassKey> {
        let parts = boards.par_chunks(64);
        let keys = parts.map_init(Classifier::new, |classifier, part| {
            part.iter().map(|board| classifier.key(board)).collect::<Vec<_>>()
        });
        keys.flatten_iter().collect()
    };
    let mut of_train = HashMap::new();
    for (index, key) in keys(train.into_iter().collect()).into_iter().enumerate() {
        of_train.entry(key).or_insert(index);
    }
    let test = keys(test.into_iter().collect()).into_iter().enumerate();
    test.filter_map(|(index, key)| of_train.get(&key).map(|&found| (index, found))).collect()
}

/// Nodes of a search for a solution that no file states, after which there is taken to be none to compare.
const MAX_NODES: u64 = 100_000;

/// The test puzzles whose solution grid is that of a training puzzle up to symmetry, as (test index, training index), 0-based.
/// Solutions that are not stated are computed. Boards smaller than 9x9 are left out: there are 2 grids of 4x4 and 49 of
/// 6x6 up to symmetry, so that all sets share them.
pub fn shared_grids(train: &[Record], test: &[Record]) -> Vec<(usize, usize)> {
    let grids = |records: &[Record]| -> (Vec<usize>, Vec<Board>) {
        let mut solver = Solver::with_node_limit(MAX_NODES);
        let mut grid = |record: &Record| match &record.solution {
            Some(solution) => Some(solution.clone()),
            None => solver.search(&record.puzzle, 1).first,
        };
        let large = records.iter().enumerate().filter(|(_, record)| record.puzzle.side() >= 9);
        large.filter_map(|(index, record)| Some((index, grid(record)?))).unzip()
    };
    // A canonical form of a solved board takes half a millisecond: only what an invariant lets pass gets one.
    let invariants = |grids: &[Board]| grids.par_iter().map(invariant::of_grid).collect::<Vec<u64>>();
    let (train, test) = (grids(train), grids(test));
    let (of_train, of_test) = (invariants(&train.1), invariants(&test.1));
    let pass = |(places, grids): (Vec<usize>, Vec<Board>), own: &[u64], others: &[u64]| {
        let others: HashSet<u64> = others.iter().copied().collect();
        let pairs = places.into_iter().zip(grids).zip(own);
        pairs.filter(|(_, own)| others.contains(own)).map(|(pair, _)| pair).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (train, test) = (pass(train, &of_train, &of_test), pass(test, &of_test, &of_train));
    leaks(&train.1, &test.1)
        .into_iter()
        .map(|(of_test, of_train)| (test.0[of_test], train.0[of_train]))
        .collect()
}

/// Training puzzles that give test puzzles away, each as (training index, test index), 0-based, in the order of training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Those that are images of a test puzzle.
    pub equivalent: Vec<(usize, usize)>,
    /// Others whose solution grid is that of a test puzzle up to symmetry; see [`shared_grids`].
    pub shared_grids: Vec<(usize, usize)>,
}

impl Leaks {
    /// Looks at every training puzzle.
    pub fn between(train: &[Record], test: &[Record]) -> Self {
        let boards = |records: &[Record]| records.iter().map(|r| r.puzzle.clone()).collect::<Vec<_>>();
        let equivalent = leaks(&boards(test), &boards(train));
        let known: HashSet<usize> = equivalent.iter().map(|leak| leak.0).collect();
        let mut shared_grids = shared_grids(test, train);
        shared_grids.retain(|leak| !known.contains(&leak.0));
        Self { equivalent, shared_grids }
    }

    /// All of them, in the order of training.
    pub fn all(&self) -> Vec<(usize, usize)> {
        let mut all = [self.equivalent.as_slice(), &self.shared_grids].concat();
        all.sort_unstable();
        all
    }
}

/// How many of which kind, as it follows "puzzles": `2 equivalent to test puzzles`.
impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (&self.equivalent, "equivalent to puzzles of the test set"),
            (&self.shared_grids, "with the solution grid of a test puzzle, up to symmetry"),
        ];
        let told = kinds.iter().filter(|(leaks, _)| !leaks.is_empty());
        let told: Vec<String> = told.map(|(leaks, what)| format!("{} {what}", leaks.len())).collect();
        f.write_str(&told.join(" and "))
    }
}

/// Checks that no test puzzle is equivalent to a training puzzle.
///
/// # Errors
/// [`BuildError::Leak`] with their number and the first pair.
pub fn check_disjoint(train: &[Record], test: &[Record]) -> Result<(), BuildError> {
    let found = leaks(train.iter().map(|r| &r.puzzle), test.iter().map(|r| &r.puzzle));
    match found.first() {
        None => Ok(()),
        Some(&(test, train)) => {
            Err(BuildError::Leak { count: found.len(), test: test + 1, train: train + 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dataset::{Overwrite, save_pair};
    use crate::sudoku::records::RecordReader;
    use std::io::Cursor;

    fn csv(rows: usize) -> String {
        let mut generator = Generator::new(Geometry::S9, 77);
        let rows = (0..rows).map(|i| {
            let made = generator.generate(i as u64);
            format!("s{i},{},{},{}\n", made.puzzle.to_line(), made.solution.to_line(), i % 10)
        });
        format!("source,question,answer,rating\n{}", rows.collect::<String>())
    }

    fn reader(text: &str) -> RecordReader {
        RecordReader::from_reader(Cursor::new(text.to_owned().into_bytes()), Path::new("x.csv")).unwrap()
    }

    #[test]
    fn tokens_round_trip() {
        let board: Board = "1.34341221434.21".parse().unwrap();
        let tokens = encode_tokens(&board);
        assert_eq!(&tokens[..4], &[2, 1, 4, 5]);
        assert_eq!(decode_tokens(&tokens), Ok(board));
        assert!(decode_tokens(&[0; 16]).is_ok_and(|b| b.clues() == 0));
        assert!(decode_tokens(&[6; 16]).is_err() && decode_tokens(&[1; 17]).is_err());
    }

    #[test]
    fn csv_becomes_a_dataset() {
        let text = csv(20);
        let (dataset, report) = build(reader(&text), &BuildOptions::default()).unwrap();
        assert_eq!(report, BuildReport { read: 20, below_rating: 0, kept: 20, solved: 0 });
        let metadata = dataset.metadata();
        assert_eq!((metadata.vocab_size, metadata.seq_len, metadata.total_groups), (11, 81, 20));
        assert_eq!(
            (metadata.num_puzzle_identifiers, metadata.sets.as_slice()),
            (1, ["all".to_owned()].as_slice())
        );
        let records: Vec<Record> = reader(&text).map(Result::unwrap).collect();
        for (i, record) in records.iter().enumerate() {
            assert_eq!(dataset.sets()[0].input(i), encode_tokens(&record.puzzle));
            assert_eq!(dataset.sets()[0].label(i), encode_tokens(record.solution.as_ref().unwrap()));
        }
    }

    #[test]
    fn subsample_and_rating() {
        let text = csv(40);
        let keep = |options: BuildOptions| -> Vec<String> {
            select_records(reader(&text), &options).unwrap().0.into_iter().map(|r| r.source).collect()
        };
        let base = BuildOptions { seed: 3, subsample: Some(10), ..BuildOptions::default() };
        let drawn = keep(base);
        assert_eq!(drawn.len(), 10);
        assert_eq!(keep(base), drawn, "the same seed, the same subset");
        assert_ne!(keep(BuildOptions { seed: 4, ..base }), drawn);
        let numbers: Vec<usize> = drawn.iter().map(|s| s[1..].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|w| w[0] < w[1]), "in the order of the source");
        let hard = keep(BuildOptions { min_rating: Some(8.0), subsample: Some(100), ..base });
        assert_eq!(hard, ["s8", "s9", "s18", "s19", "s28", "s29", "s38", "s39"]);
        let mut counts = [0u32; 40];
        for seed in 0..2000 {
            for source in keep_small(&text, seed) {
                counts[source] += 1;
            }
        }
        assert!(counts.iter().all(|&c| c.abs_diff(200) < 75), "each row in 1 of 10 draws: {counts:?}");
        let none = build(reader(&text), &BuildOptions { min_rating: Some(50.0), ..base });
        assert!(none.unwrap_err().to_string().contains("got none"));
        let unrated = format!("question\n{}", text.lines().nth(1).and_then(|l| l.split(',').nth(1)).unwrap());
        let error = build(reader(&unrated), &BuildOptions { min_rating: Some(1.0), ..base }).unwrap_err();
        assert!(matches!(error, BuildError::Unrated { number: 1, .. }));
    }

    /// Positions drawn by a subsample of 4 of the 40 rows.
    fn keep_small(text: &str, seed: u64) -> Vec<usize> {
        // Parsing 40 rows 2,000 times is slow: draw from stand-ins for the rows.
        let board: Board = text.lines().nth(1).and_then(|l| l.split(',').nth(1)).unwrap().parse().unwrap();
        let rows = (0..40).map(|i| {
            Ok(Record { source: i.to_string(), puzzle: board.clone(), solution: None, rating: None })
        });
        let options = BuildOptions { seed, subsample: Some(4), ..BuildOptions::default() };
        select_records(rows, &options).unwrap().0.iter().map(|r| r.source.parse().unwrap()).collect()
    }

    #[test]
    fn augmented_copies_stand_beside_their_original() {
        let options = BuildOptions { augmentations: 3, ..BuildOptions::default() };
        let (dataset, _) = build(reader(&csv(4)), &options).unwrap();
        let set = &dataset.sets()[0];
        assert_eq!((set.groups(), set.puzzles(), set.examples()), (4, 16, 16));
        assert_eq!(dataset.metadata().total_puzzles, Some(16));
        let mut classifier = Classifier::new();
        let mut classes = HashSet::new();
        for group in 0..4 {
            let boards: Vec<Board> =
                set.puzzles_of(group).map(|p| decode_tokens(set.input(p)).unwrap()).collect();
            assert_eq!(boards.iter().collect::<HashSet<_>>().len(), 4);
            let keys: HashSet<ClassKey> = boards.iter().map(|b| classifier.key(b)).collect();
            assert_eq!(keys.len(), 1);
            classes.extend(keys);
            for puzzle in set.puzzles_of(group) {
                assert!(
                    decode_tokens(set.label(puzzle)).unwrap().is_solution_of(&boards[puzzle - 4 * group])
                );
            }
        }
        assert_eq!(classes.len(), 4);
        let endless = BuildOptions { augmentations: usize::MAX, ..options };
        assert!(matches!(build(reader(&csv(4)), &endless), Err(BuildError::TooMany { records: 4, .. })));
    }

    #[test]
    fn missing_answers_are_solved_and_improper_puzzles_refused() {
        let puzzles: String =
            csv(3).lines().skip(1).map(|l| format!("{}\n", l.split(',').nth(1).unwrap())).collect();
        let (dataset, report) = build(reader(&puzzles), &BuildOptions::default()).unwrap();
        assert_eq!(report.solved, 3);
        assert!(decode_tokens(dataset.sets()[0].label(2)).unwrap().is_solved());
        let error =
            build(reader(&format!("{puzzles}{}\n", ".".repeat(81))), &BuildOptions::default()).unwrap_err();
        assert!(
            error.to_string().starts_with("puzzle 4 has no stated answer and has several solutions: ....")
        );
        let mixed = format!("{puzzles}1234341221434321\n");
        assert!(matches!(
            build(reader(&mixed), &BuildOptions::default()),
            Err(BuildError::Mixed { number: 4, .. })
        ));
    }

    #[test]
    fn generated_sets_are_disjoint_up_to_symmetry() {
        let options =
            GenerateOptions { geometry: Geometry::S4, seed: 1, train: 300, test: 100, clues: Some((4, 9)) };
        let split = generate_split(&options).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (300, 100));
        check_disjoint(&split.train, &split.test).unwrap();
        let mut classifier = Classifier::new();
        let classes: HashSet<ClassKey> = split.test.iter().map(|r| classifier.key(&r.puzzle)).collect();
        assert_eq!(classes.len(), 100, "no two test puzzles are equivalent");
        assert_eq!(split.train.iter().map(|r| &r.puzzle).collect::<HashSet<_>>().len(), 300);
        let mut solver = Solver::new();
        assert!(split.train.iter().chain(&split.test).all(|r| solver.is_unique(&r.puzzle) == Some(true)));
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| generate_split(&options)).unwrap(), split);
        // An image of a training puzzle is found.
        let mut test = split.test.clone();
        let mut rng = stream(5, Purpose::Other, 0, 0);
        test[7].puzzle = Symmetry::random(Geometry::S4, &mut rng).apply(&split.train[11].puzzle).unwrap();
        let error = check_disjoint(&split.train, &test).unwrap_err();
        assert!(matches!(error, BuildError::Leak { count: 1, test: 8, .. }), "{error}");
        // 36 classes of minimal puzzles: 40 cannot be kept apart.
        let error =
            generate_split(&GenerateOptions { train: 0, test: 40, clues: None, ..options }).unwrap_err();
        assert!(matches!(error, BuildError::Exhausted { test: 36, .. }), "{error}");
    }

    #[test]
    fn a_pair_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("sudoku");
        let (dataset, _) = build(reader(&csv(3)), &BuildOptions::default()).unwrap();
        save_pair(&root, &dataset, Some(&dataset), Overwrite::No).unwrap();
        assert_eq!(Dataset::load(&root.join("test")).unwrap(), dataset);
        assert_eq!(crate::dataset::load_identifiers(&root).unwrap(), ["<blank>"]);
        assert!(matches!(save_pair(&root, &dataset, None, Overwrite::No), Err(DatasetError::Exists { .. })));
    }
}
