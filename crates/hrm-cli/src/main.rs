//! The `hrm` command: train, evaluate and run hierarchical reasoning models.

#[macro_use]
mod terminal;

mod backend;
mod choice;
mod cli;
mod commands;
mod infer;
mod models;
mod puzzles;
mod workers;

use std::{
    io::{self, ErrorKind},
    process::ExitCode,
};

use clap::Parser;

use crate::cli::Cli;

#[cfg(feature = "flex")]
#[global_allocator]
static ALLOCATOR: hrm_engine::TensorAllocator = hrm_engine::TensorAllocator::new();

fn main() -> ExitCode {
    // Usage errors, --help and --version end in here, with exit code 2 or 0.
    let cli = Cli::try_parse().unwrap_or_else(|error| cli::with_flag(error).exit());
    terminal::set_colour(cli.color);
    hrm_engine::keep_compiled_kernels();
    match cli.command.run() {
        Ok(code) => match terminal::unsaid() {
            None => code,
            Some(error) => {
                terminal::report_error(&format!("cannot write to standard output: {error}"));
                ExitCode::FAILURE
            }
        },
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::report_error(&message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The chain of causes in one line; a cause that its parent has already told is left out.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(cause.trim_end());
        }
    }
    text
}

/// Whoever read our output stopped reading: `hrm solve | head -1`. No error of ours.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
}
