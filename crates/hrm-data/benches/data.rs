//! Solvers, canonical form, generators and batches: `cargo bench -p hrm-data`.
//!
//! Times are CPU seconds of one thread where the system tells them (Linux), so that other work on the machine counts less.
//! Real puzzles and tasks come from the folder `HRM_DATA_DIR`, or `shared/data` beside the repository; benches without their file
//! are left out.
#![allow(missing_docs, reason = "criterion's macros")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hrm_data::puzzles::arc::{self, ArcData, ArcOptions, ArcSampler};
use hrm_data::puzzles::maze::{Kind, Maze, decode_tokens};
use hrm_data::puzzles::sudoku::{
    self, Board, Canonicalizer, Generator, Geometry, Limits, Method, Solver, Sudoku,
};
use hrm_data::reader::{self, Puzzle};
use hrm_data::registry::Family;
use hrm_data::sampler::{SamplerConfig, TrainSampler};
use hrm_data::task::{AnyTask, Augmentation, GenerateOptions};
use rayon::ThreadPoolBuilder;

/// CPU time of the thread, in nanoseconds.
struct ThreadTime;

impl ThreadTime {
    fn now() -> f64 {
        thread_local!(static START: Instant = Instant::now());
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        match stat.split(' ').next().and_then(|n| n.parse().ok()) {
            Some(nanoseconds) => nanoseconds,
            None => START.with(|start| start.elapsed()).as_secs_f64() * 1e9,
        }
    }
}

impl Measurement for ThreadTime {
    type Intermediate = f64;
    type Value = f64;

    fn start(&self) -> f64 {
        Self::now()
    }

    fn end(&self, start: f64) -> f64 {
        Self::now() - start
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

type Bench = Criterion<ThreadTime>;

/// A file of the folder of data.
fn data(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("HRM_DATA_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("{}: not there, its benches are left out", path.display());
        return None;
    }
    Some(path)
}

fn puzzles(file: &str, clues: Option<usize>, limit: usize) -> Option<Vec<Board>> {
    let puzzles = reader::read_all(Family::Sudoku, &data(file)?).expect("a puzzle file").into_iter();
    let board = |puzzle: Puzzle| sudoku::decode_tokens(&puzzle.record.input).expect("a board");
    let boards = puzzles.map(board);
    Some(boards.filter(|board| clues.is_none_or(|clues| board.clues() == clues)).take(limit).collect())
}

/// Limit 1 ends at the solution, limit 2 goes on until it is known that there is no other.
fn solvers(c: &mut Bench) {
    let mut group = c.benchmark_group("sudoku/solve");
    for (name, file, clues, limit) in [
        ("forum-hardest-1106", "testcases/forum_hardest_1106-raw.csv", None, 375),
        ("17-clues", "sudoku/extra-mixed-train.csv.gz", Some(17), 10_000),
    ] {
        let Some(boards) = puzzles(file, clues, limit) else { continue };
        group.throughput(Throughput::Elements(boards.len() as u64));
        let mut solver = Solver::new();
        for solutions in [1, 2] {
            group.bench_function(format!("{name}/limit-{solutions}"), |b| {
                b.iter(|| boards.iter().map(|board| solver.count_solutions(board, solutions)).sum::<u64>());
            });
        }
    }
    let mut generator = Generator::new(Geometry::S9, 1);
    let boards: Vec<Board> = (0..20).map(|i| generator.generate(i).puzzle).collect();
    group.throughput(Throughput::Elements(boards.len() as u64));
    let limits = Limits { solutions: 1, ..Limits::default() };
    for method in Method::ALL {
        group.bench_function(format!("minimal/{method}"), |b| {
            b.iter(|| boards.iter().map(|board| method.search(board, &limits).solutions).sum::<u64>());
        });
    }
    group.finish();
}

fn canonical(c: &mut Bench) {
    let mut group = c.benchmark_group("sudoku/canonical");
    for (name, file) in [
        ("sudoku-extreme", "sudoku/sudoku-extreme-1k-train.csv"),
        ("17-clues-and-easy", "sudoku/extra-mixed-train.csv.gz"),
    ] {
        let Some(boards) = puzzles(file, None, 1000) else { continue };
        let mut canonicalizer = Canonicalizer::new(Geometry::S9).expect("9x9 has one");
        group.throughput(Throughput::Elements(boards.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for board in &boards {
                    std::hint::black_box(canonicalizer.canonical(board));
                }
            });
        });
    }
    group.finish();
}

/// Blocks of Maze-Hard: 16,384 candidates, of which one in 59,000 is a maze.
fn mazes(c: &mut Bench) {
    let generator = Kind::MAZE_HARD.generator(1).expect("Maze-Hard exists");
    let mut group = c.benchmark_group("maze");
    group.throughput(Throughput::Elements(generator.candidates_per_block()));
    let mut number = 0;
    group.bench_function("hard-candidates", |b| {
        b.iter(|| {
            number += 1;
            generator.block(number)
        });
    });
    if let Some(path) = data("maze/maze-30x30-hard-test-500.csv.gz") {
        let puzzles = reader::read_all(Family::Maze, &path).expect("a maze file");
        let maze = |puzzle: &Puzzle| decode_tokens(30, 30, &puzzle.record.input).expect("a maze");
        let mazes: Vec<Maze> = puzzles.iter().map(maze).collect();
        group.throughput(Throughput::Elements(mazes.len() as u64));
        group.bench_function("canonical-label", |b| {
            b.iter(|| mazes.iter().filter_map(Maze::label).count());
        });
    }
    group.finish();
}

/// Batches of 768, on one thread: another thread makes about as many more.
fn batches(c: &mut Bench) {
    let pool = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let mut group = c.benchmark_group("batch-768");
    let task = AnyTask::new(Sudoku { geometry: Geometry::S9 });
    let options = GenerateOptions { givens: Some((24, 40)), ..GenerateOptions::default() };
    let split = task.split(&options, 1, (1000, 1)).expect("enough puzzles");
    let sudoku = task.dataset(&split.train, 0, 0).expect("proper puzzles");
    let augmentation = Augmentation::Task(task);
    let config = SamplerConfig { augmentation, epochs_per_iteration: 8, ..SamplerConfig::new(768, 1) };
    let mut sampler = TrainSampler::new(Arc::new(sudoku), config).expect("a full batch");
    let mut measure = |name: &str, next: &mut (dyn FnMut() + Send)| {
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                pool.install(|| {
                    let start = ThreadTime::now();
                    (0..times).for_each(|_| next());
                    ThreadTime::now() - start
                })
            });
        });
    };
    measure("sudoku-9x9", &mut || drop(sampler.next_batch()));
    let files =
        ["arc/arc1-training.json.gz", "arc/conceptarc.json.gz", "arc/arc1-evaluation.json.gz"].map(data);
    if let [Some(training), Some(concepts), Some(evaluation)] = files {
        let load = |path: PathBuf| arc::load(&path).expect("tasks");
        let training = [load(training), load(concepts)].concat();
        let options = ArcOptions { augmentations: 1000, ..ArcOptions::default() };
        let tasks = ArcData::new(training, load(evaluation), options).expect("different tasks");
        let mut sampler = ArcSampler::new(Arc::new(tasks), SamplerConfig::new(768, 1)).expect("a full batch");
        measure("arc-1-and-conceptarc", &mut || drop(sampler.next_batch()));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime).sample_size(20);
    targets = solvers, canonical, mazes, batches
}
criterion_main!(benches);
