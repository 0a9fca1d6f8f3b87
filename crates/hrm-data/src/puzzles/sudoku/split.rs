//! Generated sets of Sudokus, and what training puzzles give away of test puzzles.

use std::collections::{HashMap, HashSet};

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use thiserror::Error;

use super::board::{Board, Geometry};
use super::canonical::{ClassKey, Classifier};
use super::generator::Generator;
use super::invariant;
use super::solver::Solver;
use super::task::{decode_tokens, encode_tokens};
use crate::bundled;
use crate::random::{self, Purpose, stream};
use crate::task::{Record, Split};

/// There are not enough different puzzles of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "found no new puzzle in {tries} tries, with {train} of {want_train} training and {test} of {want_test} test puzzles; \
     ask for fewer puzzles or for a wider range of clues"
)]
pub struct Exhausted {
    /// Consecutive failures.
    pub tries: usize,
    /// Training puzzles found.
    pub train: usize,
    /// Training puzzles wanted.
    pub want_train: usize,
    /// Test puzzles found.
    pub test: usize,
    /// Test puzzles wanted.
    pub want_test: usize,
}

pub(super) fn record(puzzle: &Board, solution: &Board) -> Record {
    Record { input: encode_tokens(puzzle), label: Some(encode_tokens(solution)), ..Record::default() }
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
    /// Never train on what the bundled test sets hold: such puzzles go to the test side, or nowhere.
    pub spare_bundled: bool,
}

/// What a puzzle of a class shares with its images, and of what kind it is: on boards of 9x9 and more the solution grid. All smaller boards
/// have grids in common (there are 2 of 4x4 and 49 of 6x6), so there it is the puzzle.
pub(crate) fn kin(solution: &Board, class: &ClassKey) -> (String, Vec<u8>) {
    let shared = match class {
        _ if solution.side() >= 9 => invariant::of_grid(solution).to_le_bytes().to_vec(),
        ClassKey::Exact(cells) => cells.to_vec(),
        ClassKey::Fingerprint(fingerprint) => fingerprint.0.to_le_bytes().to_vec(),
    };
    (format!("Sudoku {}", solution.geometry()), shared)
}

/// The two sides of a split while it is filled.
pub(super) struct Quotas {
    train: usize,
    test: usize,
    split: Split<Record>,
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
    /// Puzzles made between two looks at the quotas, at most.
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
) -> Result<Split<Record>, Exhausted> {
    let mut quotas = Quotas { train, test, split: Split { train: Vec::new(), test: Vec::new() } };
    let mut misses = 0;
    let mut start = 0;
    loop {
        let missing =
            train.saturating_add(test).saturating_sub(quotas.split.train.len() + quotas.split.test.len());
        let chunk = source.chunk.min(missing.max(rayon::current_num_threads()) as u64);
        let made: Vec<(u64, T)> = (start..start + chunk)
            .into_par_iter()
            .map_init(&source.init, |state, index| (index, (source.make)(state, index)))
            .collect();
        start += chunk;
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
                        return Err(Exhausted {
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
/// [`Exhausted`] if there are not enough different puzzles of this kind.
pub fn generate_split(options: &GenerateOptions) -> Result<Split<Record>, Exhausted> {
    let &GenerateOptions { geometry, seed, train, test, clues, spare_bundled } = options;
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
            let is_tested = spare_bundled && {
                let (kind, shared) = kin(&made.solution, &key);
                bundled::is_tested(&kind, &shared)
            };
            (made, key, is_tested)
        },
    };
    let mut is_test: HashMap<ClassKey, bool> = HashMap::new();
    let mut train_boards: HashSet<Board> = HashSet::new();
    deal((train, test), &source, |index, (made, key, is_tested), quotas| {
        let known = is_test.get(&key).copied();
        // A class is assigned when it is met first, at random, so that common and rare classes come to both sides.
        let draw = || quotas.draw(&mut stream(seed, Purpose::Subsample, index, 1));
        let for_test = is_tested || known.unwrap_or_else(draw);
        let accepted = match for_test {
            true => known.is_none() && !quotas.is_full(true),
            false => !quotas.is_full(false) && train_boards.insert(made.puzzle.clone()),
        };
        if !accepted {
            return None;
        }
        is_test.insert(key, for_test);
        let source = format!("generated {geometry} seed {seed} number {index}");
        Some((Record { source, ..record(&made.puzzle, &made.solution) }, for_test))
    })
}

/// The test puzzles that are equivalent to a training puzzle, as (test index, training index), 0-based.
pub(super) fn leaks<'a>(
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
pub(super) fn shared_grids(train: &[Record], test: &[Record]) -> Vec<(usize, usize)> {
    let grids = |records: &[Record]| -> (Vec<usize>, Vec<Board>) {
        let mut solver = Solver::with_node_limit(MAX_NODES);
        let mut grid = |record: &Record| match &record.label {
            Some(label) => decode_tokens(label).ok(),
            None => solver.search(&decode_tokens(&record.input).ok()?, 1).first,
        };
        let large = records.iter().enumerate().filter(|(_, record)| record.input.len() >= 81);
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::puzzles::sudoku::Symmetry;

    pub(in crate::puzzles::sudoku) fn board(record: &Record) -> Board {
        decode_tokens(&record.input).unwrap()
    }

    /// Test puzzles that are equivalent to training puzzles.
    pub(in crate::puzzles::sudoku) fn leaking(train: &[Record], test: &[Record]) -> Vec<(usize, usize)> {
        let boards = |records: &[Record]| records.iter().map(board).collect::<Vec<_>>();
        leaks(&boards(train), &boards(test))
    }

    #[test]
    fn generated_sets_are_disjoint_up_to_symmetry() {
        let options = GenerateOptions {
            geometry: Geometry::S4,
            seed: 1,
            train: 300,
            test: 100,
            clues: Some((4, 9)),
            spare_bundled: false,
        };
        let split = generate_split(&options).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (300, 100));
        assert_eq!(leaking(&split.train, &split.test), []);
        let mut classifier = Classifier::new();
        let classes: HashSet<ClassKey> = split.test.iter().map(|r| classifier.key(&board(r))).collect();
        assert_eq!(classes.len(), 100, "no two test puzzles are equivalent");
        assert_eq!(split.train.iter().map(|r| &r.input).collect::<HashSet<_>>().len(), 300);
        let mut solver = Solver::new();
        assert!(split.train.iter().chain(&split.test).all(|r| solver.is_unique(&board(r)) == Some(true)));
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| generate_split(&options)).unwrap(), split);
        // An image of a training puzzle is found.
        let mut test = split.test.clone();
        let mut rng = stream(5, Purpose::Other, 0, 0);
        let image = Symmetry::random(Geometry::S4, &mut rng).apply(&board(&split.train[11]));
        test[7].input = encode_tokens(&image);
        let found = leaking(&split.train, &test);
        assert_eq!((found.len(), found[0].0), (1, 7));
        // 36 classes of minimal puzzles: 40 cannot be kept apart.
        let error =
            generate_split(&GenerateOptions { train: 0, test: 40, clues: None, ..options }).unwrap_err();
        assert_eq!(error.test, 36, "{error}");
    }
}
