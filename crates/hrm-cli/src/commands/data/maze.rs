//! `hrm data maze`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hrm_data::{
    registry::{Family, Shape},
    task::{GenerateOptions, Size},
};

use super::{Folder, ON_LEAK, OnLeak, build, given, rectangle};
use crate::choice::{Choice, one_of};

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
    #[arg(long, value_parser = one_of(&ON_LEAK), value_name = "WHAT", default_value = "refuse")]
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
        #[arg(long, value_parser = one_of(&KINDS), default_value = "hard")]
        kind: &'static str,
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

/// Kinds of mazes.
const KINDS: [Choice<&str>; 2] = [
    (
        "hard",
        "hard",
        "Maze-Hard: each cell is wall with a probability drawn from 0.3 to 0.5 for each maze; start and goal far apart",
    ),
    ("unique", "unique", "Maze-Unique: corridors carved depth-first, with exactly one path"),
];

/// Runs the command.
pub fn run(Args { generate, files }: Args) -> Result<()> {
    let Some(Generate::Generate { kind, size, min_path, max_path, train, test, images, folder }) = generate
    else {
        return run_files(files);
    };
    let (rows, cols) = size;
    if kind == "hard" && max_path.is_some() {
        bail!("--max-path: only mazes of --kind unique have a longest path to limit")
    }
    let options =
        GenerateOptions { kind: Some(kind.to_owned()), min_path, max_path, ..GenerateOptions::default() };
    let shape = Shape::of_size(Family::Maze, Size::new(rows, cols)).map_err(anyhow::Error::msg)?;
    let nouns = ("maze", "none is another one turned or mirrored");
    let split = build::generate(shape, &options, (train, test), &folder, nouns)
        .with_context(|| format!("--size {rows}x{cols}"))?;
    let task = shape.task();
    build::save(&folder, Path::new("generated"), &task, &split, (images.augmentations, 0))?;
    folder.save_tables(&task, [&split.train, &split.test])
}

fn run_files(args: Files) -> Result<()> {
    // clap sees to it that it is there; it has no way to say so in the type.
    let source = given(args.source, "--source FILE")?;
    let files = build::Files {
        family: Family::Maze,
        noun: "maze",
        source: &source,
        extra: &[],
        test: args.test_source.as_deref(),
        subsample: args.subsample,
        min_rating: None,
        size: args.size,
        on_leak: args.on_leak,
    };
    let (task, split) = files.read(&args.folder)?;
    build::save(&args.folder, &source, &task, &split, (args.images.augmentations, 0))
}
