//! `hrm data sudoku`

use std::path::{Path, PathBuf};

use anyhow::Result;
use hrm_data::{
    registry::{Family, Shape},
    task::{GenerateOptions, Size},
};

use super::{Folder, ON_LEAK, OnLeak, build, given, range};
use crate::choice::one_of;

/// Build a Sudoku dataset from puzzle files, or generate one
///
/// Writes DIR/train and DIR/test in the format of the reference implementation, which its Python code reads as well.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  hrm data sudoku --source train.csv --test-source test.csv.gz --subsample 1000 --out data/sudoku-1k
  hrm data sudoku --source hard.csv --extra-source easy.csv --hints 3 --out data/sudoku-mixed
  hrm data sudoku generate --size 4x4 --train 1000 --test 500 --clues 4-8 --out data/sudoku-4x4"
)]
pub struct Args {
    #[command(subcommand)]
    generate: Option<Generate>,
    #[command(flatten)]
    files: Files,
}

/// Datasets from files.
#[derive(Debug, clap::Args)]
struct Files {
    /// Puzzles to train on: CSV source,question,answer,rating or one puzzle a line, also gzipped; or the word
    /// `generate` to make them
    #[arg(long, value_name = "FILE", required = true)]
    source: Option<PathBuf>,
    /// Further puzzles to train on, easier ones for example; all of them, whatever their rating (repeatable)
    #[arg(long, value_name = "FILE")]
    extra_source: Vec<PathBuf>,
    /// Puzzles to test on; without it only DIR/train is written
    #[arg(long, value_name = "FILE")]
    test_source: Option<PathBuf>,
    /// Keep this many puzzles of the source, drawn at random
    #[arg(long, value_name = "N")]
    subsample: Option<usize>,
    /// Keep puzzles of the source with at least this rating
    #[arg(long, value_name = "X")]
    min_rating: Option<f64>,
    #[command(flatten)]
    copies: Copies,
    /// If training puzzles are equivalent to test puzzles, or (9x9 and larger) share a solution grid with one
    #[arg(long, value_parser = one_of(&ON_LEAK), value_name = "WHAT", default_value = "refuse")]
    on_leak: OnLeak,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    folder: Folder,
}

/// What is written beside the training puzzles.
#[derive(Debug, clap::Args)]
struct Copies {
    /// Augmented copies written beside each training puzzle (this program's own training augments on the fly)
    #[arg(long, value_name = "N", default_value_t = 0, visible_alias = "materialize")]
    augmentations: usize,
    /// Easier copies of each training puzzle: a random number of its blanks hold the solution
    #[arg(long, value_name = "N", default_value_t = 0)]
    hints: usize,
}

/// What to make.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Size of the boards to generate: 4x4, 6x6, 9x9, 16x16, ...
    #[arg(long, value_name = "SIZE", default_value = "9x9", value_parser = size)]
    size: Shape,
    /// Training puzzles to generate
    #[arg(long, value_name = "N", default_value_t = 1000)]
    train: usize,
    /// Test puzzles to generate
    #[arg(long, value_name = "N", default_value_t = 500)]
    test: usize,
    /// Range of the number of givens, for example 24-36 [default: as few as possible]
    #[arg(long, value_name = "FROM-TO", value_parser = range)]
    clues: Option<(usize, usize)>,
    /// 9x9 puzzles that are hard for backtracking solvers, by walks that swap givens; also writes DIR/train.csv.gz and
    /// DIR/test.csv.gz with ratings
    #[arg(long, conflicts_with_all = ["clues"])]
    hard: bool,
    /// With --hard: guesses that a puzzle takes at least
    #[arg(long, value_name = "N", default_value_t = 6, requires = "hard")]
    min_guesses: u64,
    /// With --hard: moves of each walk; more make harder puzzles
    #[arg(long, value_name = "N", default_value_t = 300, requires = "hard")]
    walk: usize,
}

/// Ways to make puzzles.
#[derive(Debug, clap::Subcommand)]
enum Generate {
    /// Make puzzles with exactly one solution; no test puzzle is equivalent to a training puzzle
    #[command(after_long_help = "\
Example:
  hrm data sudoku generate --size 6x6 --train 1000 --test 500 --clues 10-18 --out data/sudoku-6x6
  hrm data sudoku generate --hard --train 1000 --test 1000 --seed 1 --out data/sudoku-hard")]
    Generate {
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        copies: Copies,
        #[command(flatten)]
        folder: Folder,
    },
}

/// Runs the command.
pub fn run(Args { generate, files }: Args) -> Result<()> {
    match generate {
        Some(Generate::Generate { wanted, copies, folder }) => run_generate(&wanted, &copies, &folder),
        None => run_files(files),
    }
}

fn run_files(args: Files) -> Result<()> {
    // clap sees to it that it is there; it has no way to say so in the type.
    let source = given(args.source, "--source FILE")?;
    if source.as_os_str() == "generate" {
        return run_generate(&args.wanted, &args.copies, &args.folder);
    }
    let files = build::Files {
        family: Family::Sudoku,
        noun: "puzzle",
        source: &source,
        extra: &args.extra_source,
        test: args.test_source.as_deref(),
        subsample: args.subsample,
        min_rating: args.min_rating,
        size: None,
        on_leak: args.on_leak,
    };
    let (task, split) = files.read(&args.folder)?;
    build::save(&args.folder, &source, &task, &split, (args.copies.augmentations, args.copies.hints))
}

fn run_generate(wanted: &Wanted, copies: &Copies, folder: &Folder) -> Result<()> {
    let &Wanted { size, train, test, clues, hard, min_guesses, walk } = wanted;
    let options = GenerateOptions {
        kind: hard.then(|| "hard".to_owned()),
        givens: clues,
        min_rating: Some(min_guesses),
        effort: Some(walk),
        ..GenerateOptions::default()
    };
    let promise = "no two test puzzles are equivalent, none to a training puzzle";
    let split = build::generate(size, &options, (train, test), folder, ("puzzle", promise))?;
    let task = size.task();
    build::save(folder, Path::new("generated"), &task, &split, (copies.augmentations, copies.hints))?;
    if hard {
        folder.save_tables(&task, [&split.train, &split.test])?;
    }
    Ok(())
}

/// `9x9`, or just `9`.
fn size(text: &str) -> Result<Shape, String> {
    let (rows, cols) = super::rectangle(text)?;
    Shape::of_size(Family::Sudoku, Size::new(rows, cols))
}
