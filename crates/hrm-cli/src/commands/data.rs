//! `hrm data`: datasets in the reference's format.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    dataset::{Dataset, Overwrite},
    sudoku::{
        BuildOptions, Geometry, RecordReader,
        dataset::{self as build, GenerateOptions, generate_split},
        hard::{self, HardOptions},
        write_records,
    },
};

use crate::{
    commands::{download, puzzle_data},
    terminal::count,
};

/// Subcommands of `hrm data`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Sudoku(Box<Sudoku>),
    Canonical(puzzle_data::Canonical),
    Check(puzzle_data::Check),
    Difficulty(puzzle_data::Difficulty),
    Download(download::Args),
    Render(puzzle_data::Render),
}

/// Build a Sudoku dataset from puzzle files, or generate one
///
/// Writes DIR/train and DIR/test in the format of the reference implementation, which its Python code reads as well.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  hrm data sudoku --source train.csv --test-source test.csv.gz --subsample 1000 --out data/sudoku-1k
  hrm data sudoku generate --size 4x4 --train 1000 --test 500 --clues 4-8 --out data/sudoku-4x4"
)]
pub struct Sudoku {
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
    /// Puzzles to test on; without it only DIR/train is written
    #[arg(long, value_name = "FILE")]
    test_source: Option<PathBuf>,
    /// Keep this many training puzzles, drawn at random
    #[arg(long, value_name = "N")]
    subsample: Option<usize>,
    /// Keep training puzzles with at least this rating
    #[arg(long, value_name = "X")]
    min_rating: Option<f64>,
    /// Augmented copies written beside each training puzzle (this program's own training augments on the fly)
    #[arg(long, value_name = "N", default_value_t = 0, visible_alias = "materialize")]
    augmentations: usize,
    /// Folder to write
    #[arg(long, short, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    common: Common,
}

/// What to make.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Size of the boards to generate: 4x4, 6x6, 9x9, 16x16, ...
    #[arg(long, value_name = "SIZE", default_value = "9x9", value_parser = size)]
    size: Geometry,
    /// Training puzzles to generate
    #[arg(long, value_name = "N", default_value_t = 1000)]
    train: usize,
    /// Test puzzles to generate
    #[arg(long, value_name = "N", default_value_t = 500)]
    test: usize,
    /// Range of the number of givens, for example 24-36 [default: as few as possible]
    #[arg(long, value_name = "FROM-TO", value_parser = clues)]
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
        /// Augmented copies written beside each training puzzle
        #[arg(long, value_name = "N", default_value_t = 0, visible_alias = "materialize")]
        augmentations: usize,
        /// Folder to write
        #[arg(long, short, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        common: Common,
    },
}

/// What both ways need.
#[derive(Debug, clap::Args)]
struct Common {
    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Write into a folder that is not empty, replacing a dataset in it
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    let Sudoku { generate, files } = match command {
        Command::Sudoku(sudoku) => *sudoku,
        Command::Canonical(args) => return args.run(),
        Command::Check(args) => return args.run(),
        Command::Difficulty(args) => return args.run(),
        Command::Download(args) => return download::run(&args),
        Command::Render(args) => return args.run(),
    };
    match generate {
        Some(Generate::Generate { wanted, augmentations, out, common }) => {
            run_generate(wanted, augmentations, &out, &common)
        }
        None => run_files(files),
    }
}

fn run_files(args: Files) -> Result<()> {
    // clap sees to it that both are there; it has no way to say so in the type.
    let (Some(source), Some(out)) = (args.source, args.out) else {
        bail!("expected --source FILE and --out DIR, or `generate`; see hrm data sudoku --help");
    };
    if source.as_os_str() == "generate" {
        return run_generate(args.wanted, args.augmentations, &out, &args.common);
    }
    args.common.check(&out)?;
    let options = BuildOptions {
        seed: args.common.seed,
        subsample: args.subsample,
        min_rating: args.min_rating,
        augmentations: args.augmentations,
    };
    let (train_records, report) = build::select_records(RecordReader::open(&source)?, &options)?;
    let (train, solved) =
        build::from_records(&train_records, &options).with_context(|| source.display().to_string())?;
    println!(
        "{}: {} read, {} below the minimum rating, {} kept, {solved} solved here",
        source.display(),
        report.read,
        report.below_rating,
        report.kept
    );
    let test = match &args.test_source {
        None => None,
        Some(path) => {
            let plain = BuildOptions::default();
            let (records, _) = build::select_records(RecordReader::open(path)?, &plain)?;
            build::check_disjoint(&train_records, &records)
                .with_context(|| format!("{} and {}", source.display(), path.display()))?;
            Some(build::from_records(&records, &plain).with_context(|| path.display().to_string())?.0)
        }
    };
    args.common.save(&out, &train, test.as_ref())
}

fn run_generate(wanted: Wanted, augmentations: usize, out: &Path, common: &Common) -> Result<()> {
    let Wanted { size, train, test, clues, hard, min_guesses, walk } = wanted;
    common.check(out)?;
    let start = Instant::now();
    let split = if hard {
        if size != Geometry::S9 {
            bail!("--hard makes 9x9 puzzles, got --size {size}");
        }
        hard::generate_split(&HardOptions {
            seed: common.seed,
            train,
            test,
            steps: walk,
            min_rating: min_guesses,
        })?
    } else {
        generate_split(&GenerateOptions { geometry: size, seed: common.seed, train, test, clues })?
    };
    println!(
        "generated {} and {} of {size} in {:.1} s; no two test puzzles are equivalent, none to a training puzzle",
        count(split.train.len(), "training puzzle"),
        count(split.test.len(), "test puzzle"),
        start.elapsed().as_secs_f64()
    );
    let options = BuildOptions { seed: common.seed, augmentations, ..BuildOptions::default() };
    let (train, _) = build::from_records(&split.train, &options)?;
    let test = if split.test.is_empty() {
        None
    } else {
        Some(build::from_records(&split.test, &BuildOptions::default())?.0)
    };
    common.save(out, &train, test.as_ref())?;
    if hard {
        for (name, records) in [("train", &split.train), ("test", &split.test)] {
            let path = out.join(name).with_extension("csv.gz");
            write_records(&path, records)?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

impl Common {
    /// Refuses a folder with anything in it, before any work is done.
    fn check(&self, out: &Path) -> Result<()> {
        if out.is_file() {
            bail!("--out {}: expected a folder, this is a file", out.display());
        }
        let mut entries = fs::read_dir(out).into_iter().flatten();
        if entries.next().is_some() && !self.force {
            bail!(
                "--out {}: the folder is not empty; choose another, or write into it with --force",
                out.display()
            );
        }
        Ok(())
    }

    fn save(&self, out: &Path, train: &Dataset, test: Option<&Dataset>) -> Result<()> {
        let overwrite = if self.force { Overwrite::Yes } else { Overwrite::No };
        build::save_pair(out, train, test, overwrite)?;
        for (name, dataset) in [("train", Some(train)), ("test", test)] {
            let Some(dataset) = dataset else { continue };
            let metadata = dataset.metadata();
            println!(
                "wrote {}: {} in {}, {} tokens each, vocabulary {}",
                out.join(name).display(),
                count(dataset.examples(), "example"),
                count(dataset.groups(), "group"),
                metadata.seq_len,
                metadata.vocab_size
            );
        }
        Ok(())
    }
}

/// `9x9`, or just `9`.
fn size(text: &str) -> Result<Geometry, String> {
    let side = match text.split_once('x') {
        Some((rows, columns)) if rows == columns => rows,
        Some(_) => return Err("expected as many rows as columns, for example 9x9".to_owned()),
        None => text,
    };
    let side = side.parse().map_err(|_| "expected a size such as 9x9".to_owned())?;
    Geometry::from_side(side).map_err(|e| e.to_string())
}

/// `24-36`, or just `30`.
fn clues(text: &str) -> Result<(usize, usize), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number =
        |text: &str| text.trim().parse::<usize>().map_err(|_| "expected a range such as 24-36".to_owned());
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        Err(format!("expected a range from few to many, got {from}-{to}"))
    } else {
        Ok((from, to))
    }
}
