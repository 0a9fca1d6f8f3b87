//! Writes a training and a test set of hard 9x9 Sudokus and prints how hard they are:
//! `cargo run --release -p hrm-data --example generate_hard -- FOLDER [TRAIN TEST STEPS MIN_RATING SEED]`.

use std::path::Path;
use std::process::ExitCode;

use hrm_data::puzzles::sudoku::{Geometry, HardOptions, Sudoku, difficulty, hard};
use hrm_data::task::{AnyTask, write_records};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next();
    let numbers: Result<Vec<u64>, _> = arguments.map(|a| a.parse()).collect();
    let (Some(folder), Ok(numbers)) = (folder, numbers) else {
        eprintln!("usage: generate_hard FOLDER [TRAIN TEST STEPS MIN_RATING SEED]");
        return ExitCode::FAILURE;
    };
    let number = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let options = HardOptions {
        train: number(0, 1_000) as usize,
        test: number(1, 1_000) as usize,
        steps: number(2, 300) as usize,
        min_rating: number(3, 6),
        seed: number(4, 1),
    };
    match write(Path::new(&folder), &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path, options: &HardOptions) -> Result<(), Box<dyn std::error::Error>> {
    let split = hard::generate_split(options)?;
    let task = AnyTask::new(Sudoku { geometry: Geometry::S9 });
    std::fs::create_dir_all(folder)?;
    for (name, records) in [("train", &split.train), ("test", &split.test)] {
        write_records(&folder.join(format!("{name}.csv.gz")), &task, records)?;
        println!("{name}\n{}", difficulty(records));
    }
    Ok(())
}
