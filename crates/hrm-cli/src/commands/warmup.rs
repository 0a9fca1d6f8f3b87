//! `hrm warmup`: kernels compiled before a run needs them.

use std::path::PathBuf;

use anyhow::Result;
use hrm_train::{recipe::ResolvedRecipe, run::environment::memory};

use crate::{backend::BackendArgs, terminal::bytes};

/// Compile kernels for a recipe before training it
///
/// Runs a few steps of the recipe and one evaluated batch, and throws them away. A GPU backend compiles each kernel at its first
/// use, some hundred for a training step, and keeps them on disk: below the folder `target` of the project that the command is
/// run in, else in the user's cache folder, or where a file `cubecl.toml` says. Runs that follow start within seconds. On a
/// processor there is nothing to compile, and the times are only a first look at the speed and at the memory that a step takes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm warmup --config configs/sudoku-extreme-1k.toml --backend cuda
  hrm warmup --config configs/sudoku-4x4.toml --set train.global_batch_size=128")]
pub struct Args {
    /// Recipe whose shapes count
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Override a value of the recipe (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Training steps
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let backend = args.backend.choose()?;
    let recipe = ResolvedRecipe::load(Some(&args.config), &args.set)?;
    let batch = recipe.train.global_batch_size;
    let seconds = backend.open(None)?.warm_up(recipe, args.steps)?;
    let (evaluation, steps) =
        seconds.split_last().map_or((&0.0, [].as_slice()), |(last, steps)| (last, steps));
    for (index, seconds) in steps.iter().enumerate() {
        say!("step {:<3} {seconds:9.3} s  {:9.1} sequences/s", index + 1, batch as f64 / seconds);
    }
    say!("evaluation {evaluation:7.3} s for one batch");
    if let Some(memory) = memory() {
        say!("peak memory of the process {}", bytes(memory.peak_memory));
    }
    Ok(())
}
