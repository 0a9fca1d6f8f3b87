//! `hrm data download`: public data sets, fetched once.

use std::path::PathBuf;

use anyhow::Result;
use hrm_data::download::{Options, Progress, cache_dir, data_set, download};
use indicatif::{ProgressBar, ProgressStyle};

/// Fetch a public data set into the cache folder, and say where its files are
///
/// Transfers go on where they were cut, and files are checked before they appear. The network needs the cargo feature
/// `download`; --from does without.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Data sets: sudoku-extreme, maze-hard, arc-1, arc-2, conceptarc

Examples:
  hrm data download sudoku-extreme
  hrm data download arc-1 --from ARC-AGI.tar.gz       a machine without a network")]
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
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let set = data_set(&args.name)?;
    let cache = args.cache.clone().map_or_else(cache_dir, Ok)?;
    let options = Options { from: args.from.clone(), ..Options::new(cache) };
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let files = download(&set, &options, &mut |progress| match progress {
        Progress::Bytes { file, done, total } => {
            bar.set_message(file.to_owned());
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        }
        Progress::Retry { file, failures, why } => {
            bar.println(format!("warning: {file}: {why}; failure {failures} in a row, trying again"));
        }
        other => bar.set_message(other.to_string()),
    });
    bar.finish_and_clear();
    for file in files? {
        say!("{}", file.display());
    }
    Ok(())
}
