//! `hrm config`: what a recipe says, and who said it.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;
use hrm_train::recipe::{Origin, ResolvedRecipe};

use crate::backend;

/// Subcommands of `hrm config`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every value of a recipe and where it came from: default, file, --set, or the backend in place of auto
    #[command(after_long_help = "\
Examples:
  hrm config show                                     all defaults: the paper's for Sudoku-Extreme
  hrm config show --config configs/sudoku-4x4.toml --set train.seed=3
  hrm config show --config F --toml > mine.toml       as a recipe of its own")]
    Show {
        /// Recipe to show; only defaults without one
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Override a value, for example --set train.lr=1e-4 (repeatable)
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Print a TOML file instead of a table; it leaves to the backend what is auto
        #[arg(long)]
        toml: bool,
        /// Whose choice to show for what is auto [default: the fastest that is compiled in]
        #[arg(long, value_parser = backend::parser(), value_name = "B", conflicts_with = "toml")]
        backend: Option<backend::Name>,
    },
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    let Command::Show { config, set, toml, backend } = command;
    let recipe = ResolvedRecipe::load(config.as_deref(), &set)?;
    let mut out = io::stdout().lock();
    if toml {
        write!(out, "{}", recipe.to_toml())?;
        return Ok(());
    }
    let engine = backend::Name::or_best(backend).and_then(|name| name.open(None));
    let recipe = match (engine, backend) {
        (Err(error), Some(_)) => return Err(error.into()),
        // No GPU here for a program that was built for one: nobody knows its choice.
        (Err(_), None) => recipe,
        (Ok(engine), _) => engine.settle(recipe),
    };
    let rows = recipe.rows();
    let width = |text: fn(&hrm_train::recipe::ConfigRow) -> usize| rows.iter().map(text).max().unwrap_or(0);
    let (keys, values) = (width(|row| row.key.len()), width(|row| row.value.len()));
    for row in &rows {
        let origin = match &row.origin {
            Origin::Default => "default".to_owned(),
            other => other.to_string(),
        };
        writeln!(out, "{:<keys$}  {:<values$}  {origin}", row.key, row.value)?;
    }
    Ok(())
}
