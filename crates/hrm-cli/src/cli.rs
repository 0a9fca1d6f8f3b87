//! The command line: one definition for parsing, help and errors.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::{
    CommandFactory, Parser, Subcommand,
    builder::{StyledStr, Styles, styling::AnsiColor},
    error::{ContextKind, ContextValue},
};

use crate::commands::{
    arc, compare, completions, config, data, eval, export, import, inspect, man, plot, report, runs, solve,
    train, view, warmup,
};
use crate::terminal::Colour;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Hierarchical reasoning models: small recurrent networks that solve puzzles by thinking in steps.
#[derive(Debug, Parser)]
#[command(name = "hrm", version, styles = STYLES, max_term_width = 100, after_help = "\
Start with:
  hrm solve                                      solve a built-in Sudoku and watch it think
  hrm train configs/sudoku-4x4.toml              train a model on this computer
  hrm help COMMAND                               examples and every option of a command")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// When to colour: auto (on a terminal), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true,
        help_heading = "Everywhere"
    )]
    pub color: Colour,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Solve(solve::Args),
    Train(Box<train::Args>),
    Warmup(warmup::Args),
    Eval(eval::Args),
    Runs(runs::Args),
    Plot(plot::Args),
    View(Box<view::Args>),
    /// ARC: answer tasks, write submissions and score them
    #[command(subcommand)]
    Arc(arc::Command),
    Report(report::Args),
    /// Compare a model with classical solvers
    #[command(subcommand)]
    Compare(compare::Command),
    /// Build datasets, check, canonicalise and draw puzzles
    #[command(subcommand)]
    Data(data::Command),
    /// Look into models, checkpoints and datasets
    #[command(subcommand)]
    Inspect(inspect::Command),
    /// Look at recipes
    #[command(subcommand)]
    Config(config::Command),
    Import(Box<import::Args>),
    Export(export::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Does it. `Err` is printed and ends with exit code 1.
    pub fn run(self) -> Result<ExitCode> {
        match self {
            Self::Solve(args) => solve::run(args),
            Self::Train(args) => train::run(*args),
            Self::Warmup(args) => warmup::run(args).map(|()| ExitCode::SUCCESS),
            Self::Eval(args) => eval::run(args).map(|()| ExitCode::SUCCESS),
            Self::Runs(args) => runs::run(args).map(|()| ExitCode::SUCCESS),
            Self::View(args) => view::run(&args).map(|()| ExitCode::SUCCESS),
            Self::Plot(args) => plot::run(args).map(|()| ExitCode::SUCCESS),
            Self::Arc(command) => arc::run(command).map(|()| ExitCode::SUCCESS),
            Self::Report(args) => report::run(args).map(|()| ExitCode::SUCCESS),
            Self::Compare(command) => compare::run(command).map(|()| ExitCode::SUCCESS),
            Self::Data(command) => data::run(command).map(|()| ExitCode::SUCCESS),
            Self::Inspect(command) => inspect::run(command).map(|()| ExitCode::SUCCESS),
            Self::Config(command) => config::run(command).map(|()| ExitCode::SUCCESS),
            Self::Import(args) => import::run(*args).map(|()| ExitCode::SUCCESS),
            Self::Export(args) => export::run(args).map(|()| ExitCode::SUCCESS),
            Self::Completions(args) => completions::run(args).map(|()| ExitCode::SUCCESS),
            Self::Man(args) => man::run(args).map(|()| ExitCode::SUCCESS),
        }
    }
}

/// An error about an argument that stands alone, with the flag that it lacks.
pub fn with_flag(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return error };
    let argument = argument.clone();
    let mut command = &Cli::command();
    for word in std::env::args().skip(1) {
        command = command.find_subcommand(&word).unwrap_or(command);
    }
    let path = Path::new(&argument);
    let ends = |endings: &[&str]| endings.iter().any(|ending| argument.ends_with(ending));
    let flags: &[&str] = match () {
        () if argument.starts_with('-') => return error,
        () if ends(&[".toml"]) => &["config", "recipe"],
        () if ends(&[".safetensors"]) => &["checkpoint"],
        () if ends(&[".csv", ".csv.gz", ".txt"]) => &["file", "data"],
        () if argument.contains('=') => &["set"],
        () if path.is_dir() => &["checkpoint", "data"],
        () => return error,
    };
    let known = |flag: &&&str| command.get_arguments().any(|arg| arg.get_long() == Some(**flag));
    if let Some(flag) = flags.iter().find(known) {
        let tip = StyledStr::from(format!("to name it, write '--{flag} {argument}'"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
