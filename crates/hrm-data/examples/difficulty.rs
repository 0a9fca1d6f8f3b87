//! Prints how hard the puzzles of a file are: `cargo run --release -p hrm-data --example difficulty -- FILE...`.

use std::path::Path;
use std::process::ExitCode;

use hrm_data::sudoku::{Solver, difficulty, mean_guesses, read_records};

/// Images of each puzzle for the mean that depends little on the orientation.
const IMAGES: u32 = 16;

fn main() -> ExitCode {
    for file in std::env::args().skip(1) {
        let records = match read_records(Path::new(&file)) {
            Ok(records) => records,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let mut solver = Solver::new();
        let total: f64 = records.iter().map(|r| mean_guesses(&mut solver, &r.puzzle, IMAGES, 0)).sum();
        println!("{file}\n{}", difficulty(&records));
        let mean = total / records.len().max(1) as f64;
        println!("guesses until the solution is known to be unique, mean of {IMAGES} images: {mean:.2}\n");
    }
    ExitCode::SUCCESS
}
