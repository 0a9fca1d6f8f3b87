//! `hrm arc`: ARC from a task file to a submission and its score.

mod identifiers;
mod journal;
mod predict;
mod predictor;
mod score;
mod solve;
mod vote;

use anyhow::Result;

pub use identifiers::{FILE as IDENTIFIERS, file_of as identifiers_of, read_names};
pub use journal::Lines;

/// What to do with ARC tasks.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Solve(Box<solve::Args>),
    Predict(Box<predict::Args>),
    Vote(vote::Args),
    Score(score::Args),
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Solve(args) => solve::run(*args),
        Command::Predict(args) => predict::run(*args),
        Command::Vote(args) => vote::run(&args),
        Command::Score(args) => score::run(&args),
    }
}
