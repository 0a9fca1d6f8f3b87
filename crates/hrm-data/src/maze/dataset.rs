//! Mazes as datasets in the reference format, and generated splits that share no maze up to symmetry.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;
use thiserror::Error;

use super::board::{Maze, MazeError, PathError, SYMBOLS};
use super::generator::{GeneratorError, Kind};
use super::records::{Record, RecordError};
use crate::dataset::{Dataset, DatasetError, Metadata, PuzzleSet};
use crate::grid::{Dihedral, Grid};
use crate::random::{Purpose, below_u64, stream};

/// Why mazes cannot become a dataset.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A source file that cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A dataset that cannot be assembled.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A kind of maze that does not exist.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
    /// No maze.
    #[error("expected at least one maze, got none")]
    Empty,
    /// Mazes of different sizes.
    #[error("maze {number}: expected {} x {} cells like the first maze, got {} x {}", expected.0, expected.1, got.0, got.1)]
    Mixed {
        /// Which maze, 1-based.
        number: usize,
        /// Rows and columns of the first.
        expected: (usize, usize),
        /// Rows and columns of this one.
        got: (usize, usize),
    },
    /// Tokens that are no maze of the shape.
    #[error("example {number}: {source}")]
    Tokens {
        /// Which example, 1-based.
        number: usize,
        /// What is wrong with them.
        source: MazeError,
    },
    /// A label that is no path through its maze.
    #[error("example {number}: the label is no path through the maze: {source}")]
    Label {
        /// Which example, 1-based.
        number: usize,
        /// What gives it away.
        source: PathError,
    },
    /// A dataset that is not one of mazes of the shape.
    #[error("expected a dataset of mazes: {expected}; got {got} tokens each, vocabulary {vocab}")]
    Shape {
        /// Tokens and vocabulary of such mazes.
        expected: String,
        /// Tokens.
        got: usize,
        /// Vocabulary.
        vocab: usize,
    },
    /// A maze without a path.
    #[error("maze {number} has no stated answer and no path from S to G")]
    NoPath {
        /// Which maze, 1-based.
        number: usize,
    },
    /// More examples than the format can number.
    #[error("expected at most {limit} examples, got {mazes} mazes in {copies} copies each", limit = i32::MAX)]
    TooMany {
        /// Mazes.
        mazes: usize,
        /// Images of each.
        copies: usize,
    },
    /// There are not enough different mazes of the kind asked for.
    #[error(
        "found no new maze among {candidates} candidates, with {found} of {wanted} found; ask for fewer, larger or easier mazes"
    )]
    Exhausted {
        /// Candidates in a row that gave nothing new.
        candidates: u64,
        /// Mazes found.
        found: usize,
        /// Mazes wanted.
        wanted: usize,
    },
}

/// The maze of a row of input tokens of `rows` x `cols`.
///
/// # Errors
/// [`MazeError`] if they are no maze; [`MazeError::NotSquare`] if their number is not `rows * cols`.
pub fn decode_tokens(rows: usize, cols: usize, tokens: &[u8]) -> Result<Maze, MazeError> {
    let got = tokens.len();
    Maze::from_tokens(Grid::new(rows, cols, tokens.to_vec()).map_err(|_| MazeError::NotSquare { got })?)
}

/// Whether the rows of a dataset are mazes of so many rows and columns, by their sizes and by the first of them, whose label
/// must be a path: 10 x 40 and 20 x 20 cells are as many.
///
/// # Errors
/// [`BuildError`] with what does not fit.
pub fn check_shape(dataset: &Dataset, (rows, cols): (usize, usize)) -> Result<(), BuildError> {
    let &Metadata { seq_len, vocab_size, .. } = dataset.metadata();
    if rows.checked_mul(cols) != Some(seq_len) || vocab_size < SYMBOLS.len() + 1 {
        let expected = format!("{rows} x {cols} tokens, vocabulary {}", SYMBOLS.len() + 1);
        return Err(BuildError::Shape { expected, got: seq_len, vocab: vocab_size });
    }
    let first = dataset.sets().iter().find(|set| set.examples() > 0);
    first.map_or(Ok(()), |set| example(set, 0, (rows, cols)).map(|_| ()))
}

/// A maze of a set with its label, which must be a path through it.
fn example(
    set: &PuzzleSet,
    index: usize,
    (rows, cols): (usize, usize),
) -> Result<(Maze, Vec<u8>), BuildError> {
    let number = index + 1;
    let maze = decode_tokens(rows, cols, set.input(index))
        .map_err(|source| BuildError::Tokens { number, source })?;
    let label = set.label(index).to_vec();
    maze.check(&label).map_err(|source| BuildError::Label { number, source })?;
    Ok((maze, label))
}

/// The mazes of a dataset, of so many rows and columns: the first of each group, of which the others are images, with its label
/// as the answer.
///
/// # Errors
/// [`BuildError`] if these are no mazes of that shape, or labels are no paths.
pub fn from_dataset(dataset: &Dataset, shape: (usize, usize)) -> Result<Vec<Record>, BuildError> {
    check_shape(dataset, shape)?;
    let firsts = dataset.sets().iter().flat_map(|set| {
        (0..set.groups()).map(move |group| (set, set.examples_of(set.puzzles_of(group).start).start))
    });
    firsts
        .map(|(set, index)| {
            let (maze, answer) = example(set, index, shape)?;
            let rating = maze.distance().map(|moves| moves as f64);
            let source = format!("{} {}", set.name(), index + 1);
            Ok(Record { source, maze, answer: Some(answer), rating })
        })
        .collect()
}

/// A dataset of exactly these mazes, and how many of them got their canonical label here because they came without an
/// answer. `copies` further images of each maze under symmetries of its shape (at most 7, or 3 if it is no square) are
/// written beside it; training augments on the fly, so 0 is right unless the data are for the original tools.
///
/// # Errors
/// [`BuildError`] if there is no maze, sizes are mixed, or a maze without an answer has no path.
pub fn from_records(records: &[Record], copies: usize) -> Result<(Dataset, usize), BuildError> {
    let Some(first) = records.first() else { return Err(BuildError::Empty) };
    let shape = (first.maze.rows(), first.maze.cols());
    let (rows, cols) = shape;
    let symmetries: &[Dihedral] = if rows == cols { &Dihedral::ALL } else { &Dihedral::OF_RECTANGLE };
    let symmetries = &symmetries[..copies.saturating_add(1).min(symmetries.len())];
    let examples = records.len() * symmetries.len();
    if examples > i32::MAX as usize {
        return Err(BuildError::TooMany { mazes: records.len(), copies: symmetries.len() });
    }
    let (mut inputs, mut labels, mut labelled) = (Vec::new(), Vec::new(), 0);
    for (index, Record { maze, answer, .. }) in records.iter().enumerate() {
        let (number, got) = (index + 1, (maze.rows(), maze.cols()));
        if got != shape {
            return Err(BuildError::Mixed { number, expected: shape, got });
        }
        let label = match answer {
            Some(answer) => answer.clone(),
            None => {
                labelled += 1;
                maze.label().ok_or(BuildError::NoPath { number })?
            }
        };
        for symmetry in symmetries {
            for (tokens, all) in [(maze.tokens(), &mut inputs), (&label, &mut labels)] {
                let start = all.len();
                all.resize(start + tokens.len(), 0);
                symmetry.apply_cells(shape, tokens, &mut all[start..], |t| t);
            }
        }
    }
    let offsets = |n: usize, step: usize| (0..=n).map(|i| (i * step) as u32).collect();
    let (puzzles, groups) = (offsets(examples, 1), offsets(records.len(), symmetries.len()));
    let set = PuzzleSet::new("all", rows * cols, inputs, labels, vec![0; examples], puzzles, groups)?;
    let metadata = Metadata {
        pad_id: 0,
        ignore_label_id: Some(0),
        blank_identifier_id: 0,
        vocab_size: 6,
        seq_len: rows * cols,
        num_puzzle_identifiers: 1,
        total_groups: records.len(),
        mean_puzzle_examples: 1.0,
        total_puzzles: Some(examples),
        sets: vec!["all".to_owned()],
    };
    Ok((Dataset::new(metadata, vec![set])?, labelled))
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerateOptions {
    /// The kind of maze.
    pub kind: Kind,
    /// Seed of everything.
    pub seed: u64,
    /// Number of training mazes.
    pub train: usize,
    /// Number of test mazes.
    pub test: usize,
}

/// Generated mazes for training and for testing.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Training mazes.
    pub train: Vec<Record>,
    /// Test mazes.
    pub test: Vec<Record>,
}

/// Blocks generated between two looks at the quotas.
const WAVE: u64 = 16;

/// Candidates in a row without a new maze after which the search ends. Maze-Hard finds one in 59,000.
const PATIENCE: u64 = 30_000_000;

/// Generates a training and a test set. No maze of either is an image of another under the symmetries of the square. The
/// same on any number of threads.
///
/// # Errors
/// [`BuildError::Generator`] if there are no such mazes, [`BuildError::Exhausted`] if there are not enough of them.
pub fn generate_split(options: &GenerateOptions) -> Result<Split, BuildError> {
    generate_with(options, PATIENCE)
}

fn generate_with(options: &GenerateOptions, patience: u64) -> Result<Split, BuildError> {
    let generator = options.kind.generator(options.seed)?;
    let wanted = options.train.saturating_add(options.test);
    let mut split = Split { train: Vec::new(), test: Vec::new() };
    let mut known: HashSet<Maze> = HashSet::new();
    let mut misses = 0u64;
    let mut number = 0u64;
    while known.len() < wanted {
        let wave: Vec<Vec<(Maze, Maze)>> = (number..number + WAVE)
            .into_par_iter()
            .map(|block| generator.block(block).into_iter().map(|maze| (maze.canonical(), maze)).collect())
            .collect();
        number += WAVE;
        for found in wave {
            let mut new = 0;
            for (class, maze) in found {
                if known.len() == wanted || !known.insert(class) {
                    continue;
                }
                new += 1;
                // Each maze goes to either side with the chance that fills both.
                let (train, test) = (options.train - split.train.len(), options.test - split.test.len());
                let mut rng = stream(options.seed, Purpose::Subsample, known.len() as u64, 2);
                let side = match below_u64(&mut rng, (train + test) as u64) < test as u64 {
                    true => &mut split.test,
                    false => &mut split.train,
                };
                let source = format!("generated seed {} number {}", options.seed, known.len());
                let path = maze.shortest_path();
                let answer = path.as_deref().map(|path| maze.mark(path));
                let rating = path.map(|path| (path.len() - 1) as f64);
                side.push(Record { source, maze, answer, rating });
            }
            misses = if new > 0 { 0 } else { misses + generator.candidates_per_block() };
            if misses > patience && known.len() < wanted {
                return Err(BuildError::Exhausted { candidates: misses, found: known.len(), wanted });
            }
        }
    }
    Ok(split)
}

/// The test mazes that are images of a training maze, as (test index, training index), 0-based.
pub fn leaks<'a>(
    train: impl IntoIterator<Item = &'a Maze>,
    test: impl IntoIterator<Item = &'a Maze>,
) -> Vec<(usize, usize)> {
    let mut of_train = HashMap::new();
    for (index, maze) in train.into_iter().enumerate() {
        of_train.entry(maze.canonical()).or_insert(index);
    }
    let test = test.into_iter().enumerate();
    test.filter_map(|(index, maze)| of_train.get(&maze.canonical()).map(|&found| (index, found))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Augmentation, SamplerConfig, TrainSampler};
    use std::sync::Arc;

    #[test]
    fn splits_are_disjoint_and_the_same_every_time() {
        for kind in [
            Kind::Hard { rows: 10, cols: 10, min_distance: 22 },
            Kind::Unique { rows: 9, cols: 9, shortest: 10, longest: 24 },
            Kind::Hard { rows: 4, cols: 7, min_distance: 9 },
        ] {
            let options = GenerateOptions { kind, seed: 11, train: 60, test: 20 };
            let split = generate_split(&options).unwrap();
            assert_eq!((split.train.len(), split.test.len()), (60, 20));
            let mazes = |records: &[Record]| records.iter().map(|r| r.maze.clone()).collect::<Vec<_>>();
            let (train, test) = (mazes(&split.train), mazes(&split.test));
            assert!(leaks(&train, &test).is_empty());
            let turned: Vec<Maze> = test.iter().map(|m| m.transformed(Dihedral::ALL[3])).collect();
            assert_eq!(leaks(&test, &turned).len(), 20);
            let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            assert_eq!(single.install(|| generate_split(&options)).unwrap(), split, "any number of threads");
            let (dataset, labelled) = from_records(&split.train, 0).unwrap();
            assert_eq!((dataset.examples(), labelled), (60, 0));
        }
    }

    #[test]
    fn too_few_mazes_end_with_an_error() {
        let kind = Kind::Unique { rows: 3, cols: 3, shortest: 1, longest: 6 };
        let options = GenerateOptions { kind, seed: 1, train: 1000, test: 0 };
        let error = generate_with(&options, 5000).unwrap_err().to_string();
        assert!(error.starts_with("found no new maze among 5"), "{error}");
        assert!(error.contains("of 1000 found; ask for fewer"), "{error}");
    }

    #[test]
    #[ignore = "takes a minute or two: run with --ignored --nocapture"]
    fn maze_hard_in_full() {
        let options = GenerateOptions { kind: Kind::MAZE_HARD, seed: 1, train: 900, test: 100 };
        let start = std::time::Instant::now();
        let split = generate_split(&options).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let threads = rayon::current_num_threads();
        let all = || split.train.iter().chain(&split.test);
        let mean = all().filter_map(|r| r.rating).sum::<f64>() / 1000.0;
        let walls = all().map(|r| r.maze.tokens().iter().filter(|t| **t == 1).count()).sum::<usize>() as f64;
        println!(
            "1000 mazes in {seconds:.1} s on {threads} threads; mean distance {mean:.1}, walls {:.4}",
            walls / 900e3
        );
        assert!(all().all(|r| r.maze.distance().unwrap() >= 109));
    }

    #[test]
    fn building_is_checked() {
        let record = |text: &str| Record {
            source: String::new(),
            maze: text.parse().unwrap(),
            answer: None,
            rating: None,
        };
        assert!(matches!(from_records(&[], 0), Err(BuildError::Empty)));
        let mixed = from_records(&[record("S G "), record("S   #   G")], 0).unwrap_err().to_string();
        assert_eq!(mixed, "maze 2: expected 2 x 2 cells like the first maze, got 3 x 3");
        assert!(matches!(from_records(&[record("S##G")], 0), Err(BuildError::NoPath { number: 1 })));
        let (dataset, labelled) = from_records(&[record("S G\n # ")], usize::MAX).unwrap();
        assert_eq!((dataset.examples(), dataset.groups(), labelled), (4, 1, 1));
        assert_eq!(dataset.sets()[0].label(2), [4, 5, 3, 2, 1, 2], "mirrored");
        let (dataset, _) = from_records(&[record("S # ##G  ")], 7)
            .unwrap_or_else(|_| from_records(&[record("S  # #  G")], 7).unwrap());
        assert_eq!(dataset.examples(), 8);
    }

    #[test]
    fn augmentation_on_the_fly_keeps_paths_shortest() {
        for (rows, cols) in [(8, 8), (4, 9)] {
            let kind = Kind::Hard { rows, cols, min_distance: 8 };
            let split = generate_split(&GenerateOptions { kind, seed: 2, train: 40, test: 0 }).unwrap();
            let (dataset, _) = from_records(&split.train, 0).unwrap();
            let dataset = Arc::new(dataset);
            for augmentation in
                [Augmentation::Dihedral { rows, cols }, Augmentation::MazeSymmetry { rows, cols }]
            {
                let config = SamplerConfig { augmentation, ..SamplerConfig::new(40, 9) };
                let mut sampler = TrainSampler::new(Arc::clone(&dataset), config).unwrap();
                let mut canonical = 0;
                let classes: HashSet<Maze> = split.train.iter().map(|r| r.maze.canonical()).collect();
                let mut images = HashSet::new();
                for _ in 0..20 {
                    let batch = sampler.next_batch();
                    for row in 0..batch.rows {
                        let input: Vec<u8> = batch.input(row).iter().map(|&t| t as u8).collect();
                        let maze = decode_tokens(rows, cols, &input).unwrap();
                        assert!(maze.check_optimal(batch.label(row)).is_ok());
                        let label: Vec<u8> = batch.label(row).iter().map(|&t| t as u8).collect();
                        canonical += usize::from(maze.label() == Some(label));
                        assert!(classes.contains(&maze.canonical()));
                        images.insert(maze);
                    }
                }
                let written = from_records(&split.train, 2).unwrap().0;
                let read = from_dataset(&written, (rows, cols)).unwrap();
                if rows != cols {
                    assert!(check_shape(&written, (cols, rows)).is_err(), "rows and columns exchanged");
                }
                assert!(
                    read.iter().zip(&split.train).all(|(a, b)| (&a.maze, &a.answer) == (&b.maze, &b.answer))
                );
                assert_eq!(read.len(), split.train.len());
                assert!(images.len() > 40 * if rows == cols { 6 } else { 3 }, "{} images", images.len());
                let relabelled = matches!(augmentation, Augmentation::MazeSymmetry { .. });
                assert_eq!(canonical == 40 * 20, relabelled, "{canonical} canonical labels");
            }
        }
        let (dataset, _) = from_records(
            &[Record { source: String::new(), maze: "SG\n##".parse().unwrap(), answer: None, rating: None }],
            0,
        )
        .unwrap();
        let augmentation = Augmentation::Dihedral { rows: 3, cols: 3 };
        let config = SamplerConfig { augmentation, ..SamplerConfig::new(1, 9) };
        let error = TrainSampler::new(Arc::new(dataset), config).unwrap_err().to_string();
        assert!(error.contains("3 x 3 grids need seq_len 9, the dataset has 4"), "{error}");
    }
}
