//! Generated sets of mazes that share no maze up to symmetry.

use std::collections::HashSet;

use rayon::prelude::*;
use thiserror::Error;

use super::board::Maze;
use super::generator::{GeneratorError, Kind};
use super::task::Mazes;
use crate::bundled;
use crate::random::{Purpose, below_u64, stream};
use crate::task::{Record, Split};

/// Why there are no such sets.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SplitFailure {
    /// A kind of maze that does not exist.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
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

/// Blocks generated between two looks at the quotas.
const WAVE: u64 = 16;

/// Candidates in a row without a new maze after which the search ends. Maze-Hard finds one in 59,000.
const PATIENCE: u64 = 30_000_000;

/// What a maze shares with its images, and of what kind it is.
pub(crate) fn kin(maze: &Maze) -> (String, Vec<u8>) {
    let canonical = maze.canonical();
    (format!("maze {}x{}", canonical.rows(), canonical.cols()), canonical.tokens().to_vec())
}

/// Generates a training and a test set. No maze of either is an image of another under the symmetries of the square. The
/// same on any number of threads. With `spare_bundled`, mazes of the bundled test sets are not trained on.
///
/// # Errors
/// [`SplitFailure::Generator`] if there are no such mazes, [`SplitFailure::Exhausted`] if there are not enough of them.
pub(super) fn generate_split(
    task: &Mazes,
    kind: Kind,
    seed: u64,
    wanted: (usize, usize),
    spare_bundled: bool,
) -> Result<Split<Record>, SplitFailure> {
    generate_with(task, kind, seed, wanted, spare_bundled, PATIENCE)
}

fn generate_with(
    task: &Mazes,
    kind: Kind,
    seed: u64,
    (train, test): (usize, usize),
    spare_bundled: bool,
    patience: u64,
) -> Result<Split<Record>, SplitFailure> {
    let generator = kind.generator(seed)?;
    let wanted = train.saturating_add(test);
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
                let is_tested = spare_bundled && {
                    let (kind, shared) = kin(&class);
                    bundled::is_tested(&kind, &shared)
                };
                let nowhere = is_tested && split.test.len() == test;
                if known.len() == wanted || nowhere || !known.insert(class) {
                    continue;
                }
                new += 1;
                // Each maze goes to either side with the chance that fills both.
                let (train, test) = (train - split.train.len(), test - split.test.len());
                let mut rng = stream(seed, Purpose::Subsample, known.len() as u64, 2);
                let for_test = is_tested || below_u64(&mut rng, (train + test) as u64) < test as u64;
                let side = match for_test {
                    true => &mut split.test,
                    false => &mut split.train,
                };
                let source = format!("generated seed {seed} number {}", known.len());
                let path = maze.shortest_path();
                let rating = path.as_ref().map(|path| (path.len() - 1) as f64);
                side.push(Record { source, rating, ..Record::of(task, &maze, path.as_ref()) });
            }
            misses = if new > 0 { 0 } else { misses + generator.candidates_per_block() };
            if misses > patience && known.len() < wanted {
                return Err(SplitFailure::Exhausted { candidates: misses, found: known.len(), wanted });
            }
        }
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Dihedral;
    use crate::sampler::{SamplerConfig, TrainSampler};
    use crate::task::{AnyTask, Augmentation, Task as _};
    use std::sync::Arc;

    fn split(kind: Kind, seed: u64, wanted: (usize, usize)) -> (Mazes, Split<Record>) {
        let (Kind::Hard { rows, cols, .. } | Kind::Unique { rows, cols, .. }) = kind;
        let task = Mazes::new(rows, cols);
        (task, generate_split(&task, kind, seed, wanted, false).unwrap())
    }

    #[test]
    fn splits_are_disjoint_and_the_same_every_time() {
        for kind in [
            Kind::Hard { rows: 10, cols: 10, min_distance: 22 },
            Kind::Unique { rows: 9, cols: 9, shortest: 10, longest: 24 },
            Kind::Hard { rows: 4, cols: 7, min_distance: 9 },
        ] {
            let (task, made) = split(kind, 11, (60, 20));
            assert_eq!((made.train.len(), made.test.len()), (60, 20));
            assert_eq!(task.leaks(&made.train, &made.test).unwrap().all(), []);
            let turn = |record: &Record| {
                let maze = task.decode(&record.input).unwrap().transformed(Dihedral::OF_RECTANGLE[1]);
                Record { input: maze.tokens().to_vec(), ..record.clone() }
            };
            let turned: Vec<Record> = made.test.iter().map(turn).collect();
            assert_eq!(task.leaks(&turned, &made.test).unwrap().all().len(), 20);
            let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            assert_eq!(single.install(|| split(kind, 11, (60, 20))).1, made, "any number of threads");
        }
    }

    #[test]
    fn too_few_mazes_end_with_an_error() {
        let kind = Kind::Unique { rows: 3, cols: 3, shortest: 1, longest: 6 };
        let error =
            generate_with(&Mazes::new(3, 3), kind, 1, (1000, 0), false, 5000).unwrap_err().to_string();
        assert!(error.starts_with("found no new maze among 5"), "{error}");
        assert!(error.contains("of 1000 found; ask for fewer"), "{error}");
    }

    #[test]
    #[ignore = "takes a minute or two: run with --ignored --nocapture"]
    fn maze_hard_in_full() {
        let start = std::time::Instant::now();
        let (task, made) = split(Kind::MAZE_HARD, 1, (900, 100));
        let seconds = start.elapsed().as_secs_f64();
        let threads = rayon::current_num_threads();
        let all = || made.train.iter().chain(&made.test);
        let mean = all().filter_map(|r| r.rating).sum::<f64>() / 1000.0;
        let walls = all().map(|r| r.input.iter().filter(|t| **t == 1).count()).sum::<usize>() as f64;
        println!(
            "1000 mazes in {seconds:.1} s on {threads} threads; mean distance {mean:.1}, walls {:.4}",
            walls / 900e3
        );
        assert!(all().all(|r| task.decode(&r.input).unwrap().distance().unwrap() >= 109));
    }

    #[test]
    fn augmentation_on_the_fly_keeps_paths_shortest() {
        for (rows, cols) in [(8, 8), (4, 9)] {
            let (task, made) = split(Kind::Hard { rows, cols, min_distance: 8 }, 2, (40, 0));
            let dataset = Arc::new(AnyTask::new(task).dataset(&made.train, 0, 0).unwrap());
            // The other convention: a path that is no canonical one makes its set one of any paths.
            let mut other = made.train.clone();
            let mirrored = other.iter().position(|record| {
                let maze = task.decode(&record.input).unwrap();
                let image = maze.transformed(Dihedral::OF_RECTANGLE[1]);
                let label = image.label().unwrap();
                let mut back = vec![0; label.len()];
                Dihedral::OF_RECTANGLE[1].apply_cells((rows, cols), &label, &mut back, |t| t);
                back != maze.label().unwrap()
            });
            let record = &mut other[mirrored.unwrap()];
            let maze = task.decode(&record.input).unwrap();
            let label = maze.transformed(Dihedral::OF_RECTANGLE[1]).label().unwrap();
            let mut back = vec![0; label.len()];
            Dihedral::OF_RECTANGLE[1].apply_cells((rows, cols), &label, &mut back, |t| t);
            record.label = Some(back);
            let any_path = AnyTask::new(task).dataset(&other, 0, 0).unwrap();
            assert_eq!(task.of_dataset(&dataset), Ok(task));
            for (task, relabelled) in [(task.of_dataset(&any_path).unwrap(), false), (task, true)] {
                let augmentation = Augmentation::Task(AnyTask::new(task));
                let config = SamplerConfig { augmentation, ..SamplerConfig::new(40, 9) };
                let mut sampler = TrainSampler::new(Arc::clone(&dataset), config).unwrap();
                let mut canonical = 0;
                let decode = |record: &Record| task.decode(&record.input).unwrap().canonical();
                let classes: HashSet<Maze> = made.train.iter().map(decode).collect();
                let mut images = HashSet::new();
                for _ in 0..20 {
                    let batch = sampler.next_batch();
                    for row in 0..batch.rows {
                        let bytes = |tokens: &[i32]| tokens.iter().map(|&t| t as u8).collect::<Vec<u8>>();
                        let maze = task.decode(&bytes(batch.input(row))).unwrap();
                        assert!(maze.check_optimal(&bytes(batch.label(row))).is_ok());
                        canonical += usize::from(maze.label() == Some(bytes(batch.label(row))));
                        assert!(classes.contains(&maze.canonical()));
                        images.insert(maze);
                    }
                }
                assert!(images.len() > 40 * if rows == cols { 6 } else { 3 }, "{} images", images.len());
                assert_eq!(canonical == 40 * 20, relabelled, "{canonical} canonical labels");
            }
            // Copies are images too, and no more than there are.
            let written = AnyTask::new(task).dataset(&made.train, usize::MAX, 0).unwrap();
            assert_eq!(written.examples(), 40 * if rows == cols { 8 } else { 4 });
            if rows != cols {
                assert!(Mazes::new(cols, rows).of_dataset(&written).is_err(), "rows and columns exchanged");
            }
        }
        let small =
            Record { input: "SG\n##".parse::<Maze>().unwrap().tokens().to_vec(), ..Record::default() };
        let dataset = AnyTask::new(Mazes::new(2, 2)).dataset(&[small], 0, 0).unwrap();
        let augmentation = Augmentation::Task(AnyTask::new(Mazes::new(3, 3)));
        let config = SamplerConfig { augmentation, ..SamplerConfig::new(1, 9) };
        let error = TrainSampler::new(Arc::new(dataset), config).unwrap_err().to_string();
        assert!(
            error.contains("3x3 maze need seq_len 9 and vocab_size 6, the dataset has 4 and 6"),
            "{error}"
        );
    }
}
