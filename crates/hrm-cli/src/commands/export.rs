//! `hrm export`: weights under the original's names.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use burn::tensor::backend::{AutodiffBackend, BackendTypes};
use hrm_backend::HrmAutodiffBackend;
use hrm_model::Hrm;
use hrm_train::checkpoint;

use crate::{
    backend::{self, Job},
    models,
    terminal::bytes,
};

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

struct Export<'a> {
    from: &'a Path,
    to: &'a Path,
}

impl Job for Export<'_> {
    type Output = ();

    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<()> {
        // Not `models::load`: a model that this backend cannot run it can still convert.
        let model: Hrm<<A as AutodiffBackend>::InnerBackend> = checkpoint::load_weights(self.from, device)?;
        Ok(model.export_original(self.to)?)
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    if args.out.extension().is_none_or(|extension| extension != "safetensors") {
        bail!("--out {}: expected a name ending in .safetensors", args.out.display());
    }
    let from = models::file(&args.checkpoint)?;
    models::may_write(&args.out, args.force)?;
    backend::Name::light()?.run(Export { from: &from, to: &args.out })?;
    let size = args.out.metadata().map(|m| m.len()).unwrap_or_default();
    say!("wrote {} ({}) from {}", args.out.display(), bytes(size), from.display());
    Ok(())
}
