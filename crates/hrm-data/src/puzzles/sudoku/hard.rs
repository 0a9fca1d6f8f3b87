//! Generating hard 9x9 puzzles: walks through the minimal puzzles of a random grid by swapping clues.
//!
//! A walk starts from a random minimal puzzle. A move takes away a clue and adds others of the same solution where the puzzle
//! has become ambiguous, until it is unique, then removes what is no longer needed. The move stands if the puzzle needs
//! at least as many guesses as before, or a few less, how many less falling with time (threshold accepting, a kind of
//! annealing). This is the `{-1+n}` "vicinity search" of the players' forum, guided by guesses as in tdoku's generator.

use std::collections::{HashMap, HashSet};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::board::{Board, Geometry};
use super::canonical::{ClassKey, Classifier};
use super::generator::{Generated, Generator};
use super::rating::{mean_guesses, rating};
use super::solver::Solver;
use super::split::{Exhausted, Source, deal, record};
use crate::random::{self, Purpose, stream};
use crate::task::{Record, Solutions, Split};

/// Images over which the guesses of a puzzle are averaged while it is compared with its neighbour.
const IMAGES: u32 = 4;

/// A hard puzzle.
#[derive(Clone, Debug, PartialEq)]
pub struct Hard {
    /// The puzzle: exactly one solution, no clue can be removed.
    pub puzzle: Board,
    /// Its solution.
    pub solution: Board,
    /// Its [`rating`].
    pub rating: u64,
    /// Its mean guesses by the measure that the walk followed: over four fixed symmetries, each searched to the end.
    pub guesses: f64,
}

/// Walks to hard 9x9 puzzles: number `index` is a pure function of seed, steps and index.
#[derive(Clone, Debug)]
pub struct HardGenerator {
    seed: u64,
    steps: usize,
    generator: Generator,
    solver: Solver,
}

impl HardGenerator {
    /// Walks of `steps` moves. With none, the puzzles are the random minimal ones of [`Generator`].
    pub fn new(seed: u64, steps: usize) -> Self {
        Self { seed, steps, generator: Generator::new(Geometry::S9, seed), solver: Solver::new() }
    }

    /// The hardest puzzle met on walk number `index`.
    pub fn generate(&mut self, index: u64) -> Hard {
        let mut rng = stream(self.seed, Purpose::Generate, index, 2);
        let Generated { mut puzzle, solution, .. } = self.generator.generate(index);
        let mut guesses = self.guesses(&puzzle);
        let (mut best, mut best_guesses) = (puzzle.clone(), guesses);
        for step in 0..self.steps {
            let next = self.swap(&puzzle, &solution, &mut rng);
            let next_guesses = self.guesses(&next);
            // A loss of up to a random share is accepted, of at most a third at first and none at the end. Only sums and
            // products, so that every machine walks the same way.
            let left = 1.0 - step as f64 / self.steps as f64;
            let share = f64::from(rng.next_u32()) / f64::from(u32::MAX) * left / 3.0;
            if 1.0 + next_guesses >= (1.0 + guesses) * (1.0 - share) {
                (puzzle, guesses) = (next, next_guesses);
                if guesses > best_guesses {
                    best.clone_from(&puzzle);
                    best_guesses = guesses;
                }
            }
        }
        let rating = rating(&mut self.solver, &best);
        Hard { puzzle: best, solution, rating, guesses: best_guesses }
    }

    fn guesses(&mut self, puzzle: &Board) -> f64 {
        mean_guesses(&mut self.solver, puzzle, IMAGES, 0)
    }

    /// A minimal puzzle of the same solution that shares most clues.
    fn swap(&mut self, puzzle: &Board, solution: &Board, rng: &mut ChaCha8Rng) -> Board {
        let mut next = puzzle.clone();
        let mut clues: Vec<usize> = (0..81).filter(|&c| puzzle.cells()[c] != 0).collect();
        random::shuffle(rng, &mut clues);
        let Some(removed) = clues.pop() else { return next };
        next.cells_mut()[removed] = 0;
        // Clues that tell the solution from another, until there is no other; not the one just removed if others do.
        while let Solutions::Several(one, other) = self.solver.classify(&next) {
            let mut telling: Vec<usize> = (0..81).filter(|&c| one.cells()[c] != other.cells()[c]).collect();
            random::shuffle(rng, &mut telling);
            let Some(&cell) = telling.iter().find(|&&c| c != removed).or(telling.first()) else {
                break;
            };
            next.cells_mut()[cell] = solution.cells()[cell];
            // The newest clues come last, so that older ones go first where one of both can.
            clues.push(cell);
        }
        for cell in clues {
            let value = std::mem::take(&mut next.cells_mut()[cell]);
            if self.solver.has_solution_without(&next, cell, value) {
                next.cells_mut()[cell] = value;
            }
        }
        next
    }
}

/// What hard puzzles to generate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardOptions {
    /// Seed of everything.
    pub seed: u64,
    /// Number of training puzzles.
    pub train: usize,
    /// Number of test puzzles.
    pub test: usize,
    /// Moves of each walk: more make harder puzzles.
    pub steps: usize,
    /// Keep puzzles of at least this rating.
    pub min_rating: u64,
}

/// Walks in a row without a puzzle that can be kept after which there are taken to be none.
const PATIENCE: usize = 5_000;

/// Generates hard puzzles for training and for testing, with their ratings. No puzzle is equivalent to another, no solution
/// of a test puzzle is equivalent to one of a training puzzle, and the result does not depend on the number of threads.
///
/// # Errors
/// [`Exhausted`] if 5,000 walks in a row give no puzzle of the rating asked for.
pub fn generate_split(options: &HardOptions) -> Result<Split<Record>, Exhausted> {
    let &HardOptions { seed, train, test, steps, min_rating } = options;
    let generator = HardGenerator::new(seed, steps);
    let source = Source {
        chunk: 128,
        patience: PATIENCE,
        init: || (generator.clone(), Classifier::new()),
        make: |(generator, classifier): &mut (HardGenerator, Classifier), index| {
            let made = generator.generate(index);
            let hard = made.rating >= min_rating;
            let keys = hard.then(|| (classifier.key(&made.puzzle), classifier.key(&made.solution)));
            (made, keys)
        },
    };
    let mut puzzles: HashSet<ClassKey> = HashSet::new();
    let mut solution_is_test: HashMap<ClassKey, bool> = HashMap::new();
    deal((train, test), &source, |index, (made, keys), quotas| {
        let (puzzle, solution) = keys?;
        // Both sides are drawn at random, walk by walk; a solution that is known stays on its side.
        let known = solution_is_test.get(&solution).copied();
        let for_test = known.unwrap_or_else(|| quotas.draw(&mut stream(seed, Purpose::Subsample, index, 2)));
        if quotas.is_full(for_test) || !puzzles.insert(puzzle) {
            return None;
        }
        solution_is_test.insert(solution, for_test);
        let source = format!("clue-swap walk seed {seed} number {index}");
        let rating = Some(made.rating as f64);
        Some((Record { source, rating, ..record(&made.puzzle, &made.solution) }, for_test))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::sudoku::decode_tokens;
    use crate::puzzles::sudoku::split::tests::{board, leaking};

    #[test]
    fn walks_lead_to_harder_puzzles_that_are_minimal_and_reproducible() {
        let mut walk = HardGenerator::new(3, 40);
        let mut stay = HardGenerator::new(3, 0);
        let mut solver = Solver::new();
        let (mut before, mut after) = (0.0, 0.0);
        for index in 0..12 {
            let made = walk.generate(index);
            let start = stay.generate(index);
            assert_eq!(made.solution, start.solution);
            assert!(made.guesses >= start.guesses);
            (before, after) = (before + start.guesses, after + made.guesses);
            assert_eq!(solver.classify(&made.puzzle), Solutions::Unique(made.solution.clone()));
            for cell in (0..81).filter(|&c| made.puzzle.cells()[c] != 0) {
                let mut fewer = made.puzzle.clone();
                fewer.cells_mut()[cell] = 0;
                assert_eq!(solver.is_unique(&fewer), Some(false));
            }
            assert_eq!(made.rating, rating(&mut solver, &made.puzzle));
            assert_eq!(HardGenerator::new(3, 40).generate(index), made);
        }
        assert!(after > 3.0 * before, "{before} -> {after}");
    }

    #[test]
    fn splits_are_disjoint_and_do_not_depend_on_threads() {
        let options = HardOptions { seed: 5, train: 12, test: 8, steps: 10, min_rating: 2 };
        let split = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| generate_split(&options)).unwrap()
        };
        let one = split(1);
        assert_eq!((one.train.len(), one.test.len()), (12, 8));
        assert_eq!(one, split(3));
        assert_eq!(leaking(&one.train, &one.test), []);
        assert!(one.train.iter().chain(&one.test).all(|r| r.rating.unwrap() >= 2.0));
        let all: HashSet<&[u8]> = one.train.iter().chain(&one.test).map(|r| r.input.as_slice()).collect();
        assert_eq!(all.len(), 20);
        assert_ne!(one, generate_split(&HardOptions { seed: 6, ..options }).unwrap());
    }

    #[test]
    fn a_rating_that_no_walk_reaches_is_told() {
        let options = HardOptions { seed: 1, train: 1, test: 0, steps: 0, min_rating: 1_000_000 };
        let error = generate_split(&options).unwrap_err().to_string();
        assert!(error.starts_with("found no new puzzle in 5000 tries, with 0 of 1 training"), "{error}");
    }

    /// `datasets/sudoku-hard`, which is part of the repository.
    #[test]
    fn the_sample_is_what_its_recipe_says() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/sudoku-hard");
        let read = |name| crate::testdata::read_records(&folder.join(name), "sudoku");
        let (train, test) = (read("train.csv.gz"), read("test.csv.gz"));
        assert_eq!((train.len(), test.len()), (1_000, 1_000));
        let mut generator = HardGenerator::new(1, 300);
        let mut solver = Solver::new();
        for set in [&train, &test] {
            for record in set {
                assert_eq!(Some(rating(&mut solver, &board(record)) as f64), record.rating);
                let solution = decode_tokens(record.label.as_ref().unwrap()).unwrap();
                assert_eq!(solver.classify(&board(record)), Solutions::Unique(solution));
            }
            assert!(set.iter().filter_map(|r| r.rating).sum::<f64>() >= 10.0 * set.len() as f64);
            for record in set.iter().step_by(250) {
                let number = record.source.rsplit(' ').next().unwrap().parse().unwrap();
                assert_eq!(generator.generate(number).puzzle, board(record), "{}", record.source);
            }
        }
        assert_eq!(leaking(&train, &test), []);
        let mut classifier = Classifier::new();
        let mut grids = |set: &[Record]| -> HashSet<ClassKey> {
            set.iter().map(|r| classifier.key(&decode_tokens(r.label.as_ref().unwrap()).unwrap())).collect()
        };
        assert!(grids(&train).is_disjoint(&grids(&test)), "a solution grid of both sets");
    }
}
