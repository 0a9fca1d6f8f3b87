//! `hrm man`: manual pages.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::Cli;

/// Print the manual page, or write those of all commands
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm man | man -l -                            read it
  hrm man --out ~/.local/share/man/man1         then: man hrm-solve")]
pub struct Args {
    /// Folder for a page of each command: hrm.1, hrm-solve.1, ...
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let Some(folder) = args.out else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        return Ok(io::stdout().write_all(&page)?);
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), &folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    say!("wrote the pages to {}", folder.display());
    Ok(())
}
