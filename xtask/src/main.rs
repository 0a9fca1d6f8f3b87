//! Build tasks of the workspace: `cargo xtask --help`.

#![forbid(unsafe_code)]

mod backend;
mod bench;
mod book;
mod ci;
mod cli;
mod dist;
mod gpu_check;
mod parity_subset;
mod process;
mod web;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Xtask::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
