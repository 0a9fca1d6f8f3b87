//! `hrm data download`: public data sets, fetched once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hrm_data::{
    download::{DataSet, Options, Progress, cache_dir, data_set, download},
    reader::{self, Reader},
    registry::Family,
    task::{reservoir, write_records},
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::Working;

/// Puzzles of the draw from Sudoku-Extreme, and its seed: those of the recipes.
const DRAW: (usize, u64) = (1000, 42);

/// Fetch a public data set into the cache folder, and put its files where the recipes read them
///
/// In a folder with datasets/, the files also appear below it (as links, where that can be done), with the 1,000 training puzzles of
/// Sudoku-Extreme that the papers train on: drawn anew, as the ones of the papers were not published.
///
/// Transfers go on where they were cut, and files are checked before they appear. --from takes files that are here, without the
/// network.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Data sets: sudoku-extreme, maze-hard, arc-1, arc-2, conceptarc

Examples:
  hrm data download sudoku-extreme
  hrm data download arc-1 --from ARC-AGI.tar.gz       a machine without a network
  hrm data download sudoku-extreme --into /big/datasets")]
pub struct Args {
    /// Which data set
    #[arg(value_name = "NAME")]
    name: String,
    /// Take the files from here and use no network
    #[arg(long, value_name = "FILE|DIR")]
    from: Option<PathBuf>,
    /// Where downloads live [default: $HRM_CACHE, or hrm in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Where the recipes look for data [default: datasets, if there is such a folder here]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let set = data_set(&args.name)?;
    let cache = args.cache.clone().map_or_else(cache_dir, Ok)?;
    let files = fetch(&set, &Options { from: args.from.clone(), ..Options::new(cache) })?;
    for file in &files {
        say!("{}", file.display());
    }
    let here = || Some(PathBuf::from("datasets")).filter(|folder| folder.is_dir());
    let Some(into) = args.into.clone().or_else(here) else { return Ok(()) };
    for file in &files {
        let place = place(&into, &set.name, file);
        if put(file, &place)? {
            say!("{}", place.display());
        }
        if set.name == "sudoku-extreme" && file.ends_with("train.csv") {
            let drawn = place.with_file_name("train-1k.csv");
            if !drawn.exists() {
                draw(file, &drawn)?;
                say!("{}", drawn.display());
            }
        }
    }
    Ok(())
}

/// Downloads with a bar.
pub fn fetch(set: &DataSet, options: &Options) -> Result<Vec<PathBuf>> {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let files = download(set, options, &mut |progress| match progress {
        Progress::Bytes { file, done, total } => {
            bar.set_message(file.to_owned());
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        }
        Progress::Retry { file, failures, why } => {
            bar.suspend(|| note!("warning: {file}: {why}; failure {failures} in a row, trying again"));
        }
        other => bar.set_message(other.to_string()),
    });
    bar.finish_and_clear();
    Ok(files?)
}

/// Where the recipes read a file of a set: `datasets/arc-1/training`.
fn place(into: &Path, set: &str, file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default();
    match (set, name.to_str()) {
        // The recipes read one file under the name of the set.
        ("conceptarc", Some("corpus.json")) => into.join(set),
        ("conceptarc", Some(name)) => into.join(format!("{set}-{name}")),
        (_, Some(name)) => into.join(set).join(name.strip_suffix(".json").unwrap_or(name)),
        _ => into.join(set).join(name),
    }
}

/// Links a file to a place, or copies it where that cannot be done; whether it was not there yet.
fn put(file: &Path, place: &Path) -> Result<bool> {
    if place.exists() {
        return Ok(false);
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    if fs::hard_link(file, place).is_err() {
        fs::copy(file, place).with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(true)
}

/// Draws some puzzles of a file, every choice of them equally likely.
fn draw(from: &Path, to: &Path) -> Result<()> {
    let (size, seed) = DRAW;
    let working = Working::on(format!("drawing {size} puzzles from {}", from.display()));
    let puzzles = reader::puzzles(Reader::open(Family::Sudoku, from)?);
    let kept = reservoir(puzzles, Some(size), seed)?;
    drop(working);
    let Some(task) = kept.first().map(|puzzle| puzzle.task.clone()) else { return Ok(()) };
    let records: Vec<_> = kept.into_iter().map(|puzzle| puzzle.record).collect();
    Ok(write_records(to, &task, &records)?)
}
