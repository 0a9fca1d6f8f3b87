//! Prints how hard the Sudokus of a file are: `cargo run --release -p hrm-data --example difficulty -- FILE...`.

use std::error::Error;
use std::path::Path;

use hrm_data::puzzles::sudoku::{Solver, Symmetry, decode_tokens, difficulty, mean_guesses, rating};
use hrm_data::random::{Purpose, stream};
use hrm_data::reader;
use hrm_data::registry::Family;
use hrm_data::task::Record;

/// Images of each puzzle for the mean that depends little on the orientation.
const IMAGES: u32 = 16;

fn main() -> Result<(), Box<dyn Error>> {
    for file in std::env::args().skip(1) {
        let puzzles = reader::read_all(Family::Sudoku, Path::new(&file))?;
        let records: Vec<Record> = puzzles.into_iter().map(|puzzle| puzzle.record).collect();
        let mut solver = Solver::new();
        let mut rng = stream(0, Purpose::Other, 0, 0);
        let (mut total, mut ratings) = (0.0, 0);
        for record in &records {
            let puzzle = decode_tokens(&record.input)?;
            total += mean_guesses(&mut solver, &puzzle, IMAGES, 0);
            for _ in 0..IMAGES {
                let image = Symmetry::random(puzzle.geometry(), &mut rng).apply(&puzzle);
                ratings += rating(&mut solver, &image);
            }
        }
        println!("{file}\n{}", difficulty(&records));
        let count = records.len().max(1) as f64;
        println!("rating, mean of {IMAGES} images: {:.2}", ratings as f64 / count / f64::from(IMAGES));
        let mean = total / count;
        println!("guesses until the solution is known to be unique, mean of {IMAGES} images: {mean:.2}\n");
    }
    Ok(())
}
