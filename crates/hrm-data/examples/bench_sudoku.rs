//! Puzzles per second of the 9x9 solver, one thread: `cargo run --release -p hrm-data --example bench_sudoku [DATA]`.
//!
//! `DATA` is the folder that holds `testcases/forum_hardest_1106-raw.csv` and `sudoku/extra-mixed-train.csv.gz`, by default
//! `HRM_DATA_DIR` or `../shared/data`. Seconds are CPU seconds of the thread where the system tells them (Linux), so that other
//! work on the machine counts less. Each figure is the median of 15 passes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use hrm_data::sudoku::{Board, Solver, read_records};

const PASSES: usize = 15;

fn main() -> ExitCode {
    let folder = std::env::args_os()
        .nth(1)
        .or_else(|| std::env::var_os("HRM_DATA_DIR"))
        .map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let sets = [
        ("forum-hardest-1106", "testcases/forum_hardest_1106-raw.csv", None),
        ("17 clues", "sudoku/extra-mixed-train.csv.gz", Some(17)),
    ];
    println!(
        "{:<20} {:>8} {:>6} {:>12} {:>10} {:>10}",
        "set", "puzzles", "limit", "puzzles/s", "guesses", "nodes"
    );
    for (name, file, clues) in sets {
        let records = match read_records(&folder.join(file)) {
            Ok(records) => records,
            Err(error) => {
                eprintln!("{error}\nhint: name the folder of the data as the first argument");
                return ExitCode::FAILURE;
            }
        };
        let puzzles: Vec<Board> = records
            .into_iter()
            .map(|record| record.puzzle)
            .filter(|puzzle| clues.is_none_or(|clues| puzzle.clues() == clues))
            .collect();
        for limit in [1, 2] {
            measure(name, &puzzles, limit);
        }
    }
    ExitCode::SUCCESS
}

fn measure(name: &str, puzzles: &[Board], limit: u64) {
    let mut solver = Solver::new();
    let (mut guesses, mut nodes) = (0, 0);
    let mut rates: Vec<f64> = (0..=PASSES)
        .map(|_| {
            // A small set is solved several times, so that one pass is long enough for the clock.
            let rounds = (2_000 / puzzles.len().max(1)).max(1);
            (guesses, nodes) = (0, 0);
            let start = seconds();
            for puzzle in std::iter::repeat_n(puzzles, rounds).flatten() {
                let search = solver.search(puzzle, limit);
                assert_eq!(search.solutions, 1, "{}", puzzle.to_line());
                guesses += search.work.guesses;
                nodes += search.work.nodes;
            }
            let solved = (puzzles.len() * rounds) as f64;
            (guesses, nodes) = (guesses / rounds as u64, nodes / rounds as u64);
            solved / (seconds() - start)
        })
        .skip(1)
        .collect();
    rates.sort_by(f64::total_cmp);
    let mean = |total: u64| total as f64 / puzzles.len() as f64;
    println!(
        "{name:<20} {:>8} {limit:>6} {:>12.0} {:>10.2} {:>10.2}",
        puzzles.len(),
        rates[PASSES / 2],
        mean(guesses),
        mean(nodes)
    );
}

/// CPU seconds of this thread, or seconds of the clock where the system does not tell them.
fn seconds() -> f64 {
    thread_local!(static START: Instant = Instant::now());
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match stat.split(' ').next().and_then(|n| n.parse::<f64>().ok()) {
        Some(nanoseconds) => nanoseconds / 1e9,
        None => START.with(|start| start.elapsed()).as_secs_f64(),
    }
}
