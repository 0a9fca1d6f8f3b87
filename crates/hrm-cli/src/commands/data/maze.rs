//! `hrm data maze`

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    dataset::Dataset,
    maze::{
        self, GenerateOptions, Kind, Maze, Record, from_dataset, from_records, generate_split, write_records,
    },
    random::{Purpose, permutation, stream},
    task::{Family, Shape},
};

use super::{Folder, OnLeak, at, examples, given, rectangle};
use crate::terminal::count;

/// Build a maze dataset from a CSV file or the arrays of the original, or generate one
///
/// Writes DIR/train and DIR/test in the format of the reference implementation, which its Python code reads as well, and
/// generated mazes also as DIR/train.csv.gz and DIR/test.csv.gz.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  hrm data maze --source maze-30x30-hard-1k-train.csv.gz --test-source test.csv.gz --out data/maze-hard
  hrm data maze --source maze-30x30-hard-1k/train --augmentations 7 --out data/maze-aug
  hrm data maze generate --train 1000 --test 1000 --out data/maze-hard
  hrm data maze generate --kind unique --size 21x21 --min-path 60 --max-path 100 --out data/maze-21"
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
    /// Mazes to train on: CSV source,question,answer,rating, also gzipped, or a folder with dataset.json and its arrays
    #[arg(long, value_name = "FILE|DIR", required = true)]
    source: Option<PathBuf>,
    /// Mazes to test on; without it only DIR/train is written
    #[arg(long, value_name = "FILE|DIR")]
    test_source: Option<PathBuf>,
    /// Keep this many training mazes, drawn at random
    #[arg(long, value_name = "N")]
    subsample: Option<usize>,
    /// Rows and columns of mazes in a folder [default: as many rows as columns]
    #[arg(long, value_name = "ROWSxCOLS", value_parser = rectangle)]
    size: Option<(usize, usize)>,
    #[command(flatten)]
    images: Images,
    /// If training mazes are test mazes, turned or mirrored
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnLeak::Refuse)]
    on_leak: OnLeak,
    #[command(flatten)]
    folder: Folder,
}

/// What is written beside the training mazes.
#[derive(Debug, clap::Args)]
struct Images {
    /// Turned and mirrored copies written beside each training maze, at most 7 (3 if it is no square); this program's own
    /// training makes them on the fly
    #[arg(long, value_name = "N", default_value_t = 0, visible_alias = "materialize")]
    augmentations: usize,
}

/// Ways to make mazes.
#[derive(Debug, clap::Subcommand)]
enum Generate {
    /// Make mazes; none is another one turned or mirrored
    #[command(after_long_help = "\
Examples:
  hrm data maze generate --train 1000 --test 1000 --out data/maze-hard           Maze-Hard, a minute or two
  hrm data maze generate --kind unique --train 1000 --test 1000 --out data/maze-unique
  hrm data maze generate --size 10x16 --min-path 25 --out data/maze-10x16")]
    Generate {
        /// What mazes
        #[arg(long, value_enum, default_value_t = What::Hard)]
        kind: What,
        /// Rows and columns
        #[arg(long, value_name = "ROWSxCOLS", default_value = "30x30", value_parser = rectangle)]
        size: (usize, usize),
        /// Fewest moves from start to goal [default: 109 (hard) or 100 (unique)]
        #[arg(long, value_name = "N")]
        min_path: Option<usize>,
        /// With --kind unique: most moves from start to goal [default: 140]
        #[arg(long, value_name = "N")]
        max_path: Option<usize>,
        /// Training mazes
        #[arg(long, value_name = "N", default_value_t = 1000)]
        train: usize,
        /// Test mazes
        #[arg(long, value_name = "N", default_value_t = 1000)]
        test: usize,
        #[command(flatten)]
        images: Images,
        #[command(flatten)]
        folder: Folder,
    },
}

/// A kind of maze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Maze-Hard: each cell is wall with a probability drawn from 0.3 to 0.5 for each maze; start and goal far apart
    Hard,
    /// Maze-Unique: corridors carved depth-first, with exactly one path
    Unique,
}

/// Runs the command.
pub fn run(Args { generate, files }: Args) -> Result<()> {
    let Some(Generate::Generate { kind, size, min_path, max_path, train, test, images, folder }) = generate
    else {
        return run_files(files);
    };
    let (rows, cols) = size;
    let kind = match (kind, max_path) {
        (What::Hard, None) => Kind::Hard { rows, cols, min_distance: min_path.unwrap_or(109) },
        (What::Hard, Some(_)) => {
            bail!("--max-path: only mazes of --kind unique have a longest path to limit")
        }
        (What::Unique, _) => {
            Kind::Unique { rows, cols, shortest: min_path.unwrap_or(100), longest: max_path.unwrap_or(140) }
        }
    };
    folder.check()?;
    let start = Instant::now();
    let split = generate_split(&GenerateOptions { kind, seed: folder.seed(), train, test })
        .with_context(|| format!("--size {rows}x{cols}"))?;
    say!(
        "generated {} and {} of {rows}x{cols} in {:.1} s; none is another one turned or mirrored",
        count(split.train.len(), "training maze"),
        count(split.test.len(), "test maze"),
        start.elapsed().as_secs_f64()
    );
    save(&folder, &split.train, &split.test, &images)?;
    folder.save_tables([&split.train, &split.test], write_records)
}

fn run_files(args: Files) -> Result<()> {
    // clap sees to it that it is there; it has no way to say so in the type.
    let source = given(args.source, "--source FILE")?;
    args.folder.check()?;
    let mut train = read(&source, args.size)?;
    let read_count = train.len();
    if let Some(size) = args.subsample {
        let mut rng = stream(args.folder.seed(), Purpose::Subsample, 0, 0);
        let mut kept = permutation(&mut rng, train.len());
        kept.truncate(size);
        kept.sort_unstable();
        train = kept.into_iter().map(|index| train[index as usize].clone()).collect();
    }
    say!("{}: {} read, {} kept", source.display(), count(read_count, "maze"), train.len());
    let test = match &args.test_source {
        None => Vec::new(),
        Some(path) => read(path, args.size)?,
    };
    let mazes = |records: &[Record]| records.iter().map(|record| record.maze.clone()).collect::<Vec<Maze>>();
    let found = maze::leaks(&mazes(&test), &mazes(&train));
    args.on_leak.settle(&mut train, &found, "mazes of the test set, turned or mirrored")?;
    save(&args.folder, &train, &test, &args.images).with_context(at(&source))
}

/// The mazes of a table, or of a folder of arrays.
pub fn read(path: &Path, size: Option<(usize, usize)>) -> Result<Vec<Record>> {
    let records = if path.is_dir() {
        let dataset = Dataset::load(path)?;
        match examples::shape_of(path, &dataset, Some(Family::Maze), size)? {
            Some(Shape::Maze { rows, cols }) => {
                from_dataset(&dataset, (rows, cols)).with_context(at(path))?
            }
            _ => Vec::new(),
        }
    } else {
        examples::no_size_of_file(path, size)?;
        maze::read_records(path)?
    };
    if records.is_empty() {
        bail!("{}: no maze in it; expected CSV with a column `question`", path.display());
    }
    Ok(records)
}

fn save(folder: &Folder, train: &[Record], test: &[Record], images: &Images) -> Result<()> {
    let (train, labelled) = from_records(train, images.augmentations)?;
    let test = if test.is_empty() { None } else { Some(from_records(test, 0)?.0) };
    if labelled > 0 {
        say!("{} without an answer got the canonical path", count(labelled, "maze"));
    }
    folder.save(&train, test.as_ref())
}
