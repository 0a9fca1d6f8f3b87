//! `hrm completions`: what a shell needs to complete commands and options.

use std::io::{self, Write};

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm completions bash > ~/.local/share/bash-completion/completions/hrm
  hrm completions zsh > ~/.zfunc/_hrm          with ~/.zfunc in $fpath, before compinit
  hrm completions fish > ~/.config/fish/completions/hrm.fish")]
pub struct Args {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    // The generator panics where it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hrm", &mut text);
    Ok(io::stdout().write_all(&text)?)
}
