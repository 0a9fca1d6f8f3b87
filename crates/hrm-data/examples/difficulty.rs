//! Prints how hard the puzzles of a file are: `cargo run --release -p hrm-data --example difficulty -- FILE...`.

use std::path::Path;
use std::process::ExitCode;

use hrm_data::random::{Purpose, stream};
use hrm_data::sudoku::{Solver, Symmetry, difficulty, mean_guesses, rating, read_records};

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
        let mut rng = stream(0, Purpose::Other, 0, 0);
        let mut ratings = 0;
        for record in records.iter().flat_map(|record| std::iter::repeat_n(record, IMAGES as usize)) {
            // A symmetry of the puzzle's own geometry always applies.
            if let Ok(image) = Symmetry::random(record.puzzle.geometry(), &mut rng).apply(&record.puzzle) {
                ratings += rating(&mut solver, &image);
            }
        }
        println!("{file}\n{}", difficulty(&records));
        let count = records.len().max(1) as f64;
        println!("rating, mean of {IMAGES} images: {:.2}", ratings as f64 / count / f64::from(IMAGES));
        let mean = total / count;
        println!("guesses until the solution is known to be unique, mean of {IMAGES} images: {mean:.2}\n");
    }
    ExitCode::SUCCESS
}
