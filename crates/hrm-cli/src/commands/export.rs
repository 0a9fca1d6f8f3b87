//! `hrm export`: weights under the original's names.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{backend, models, terminal::bytes};

/// Write a model's weights for the original PyTorch code
///
/// The file holds fp32 tensors under the original's keys (model.inner.*). Importing it again gives the same model,
/// bit for bit.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  hrm export runs/sudoku-9x9-cpu --out hrm.safetensors

In Python: model.load_state_dict({k.removeprefix('model.'): v for k, v in load_file('hrm.safetensors').items()})
for the bare HierarchicalReasoningModel_ACTV1, or with the keys as they are for its loss head.")]
pub struct Args {
    /// Model: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// File to write, ending in .safetensors
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    if args.out.extension().is_none_or(|extension| extension != "safetensors") {
        bail!("--out {}: expected a name ending in .safetensors", args.out.display());
    }
    let from = models::file(&args.checkpoint)?;
    models::may_write(&args.out, args.force)?;
    backend::Name::light()?.open(None)?.export_original(&from, &args.out)?;
    let size = args.out.metadata().map(|m| m.len()).unwrap_or_default();
    say!("wrote {} ({}) from {from}", args.out.display(), bytes(size));
    Ok(())
}
