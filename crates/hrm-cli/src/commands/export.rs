//! `hrm export`: weights under the original's names.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use hrm_engine::Weights;
use hrm_model::{Mixer, ModelConfig};
use serde_json::{Map, Value};

use super::arc::{IDENTIFIERS, identifiers_of};
use crate::{
    backend,
    models::{self, Header},
    terminal::bytes,
};

/// Write a model's weights for the original PyTorch code
///
/// The file holds fp32 tensors under the original's keys (model.inner.*). Beside it, FILE.json (`hrm.json` for
/// `hrm.safetensors`) holds the configuration with the original's names, and the names of the puzzle identifiers are kept, if
/// they are known. Importing it again needs no options and gives the same model, bit for bit.
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
    let config = args.out.with_extension("json");
    let of_model = Header::read(&from)?.config()?;
    if of_model.mixer == Mixer::Groups {
        bail!("{from} mixes tokens by groups, which the original code cannot; hand on the file itself");
    }
    let names_out = args.out.with_file_name(IDENTIFIERS);
    let names = match &from {
        Weights::File(path) => identifiers_of(path),
        Weights::Bundled(..) => None,
    };
    // In its own folder the file with the names is there already.
    let names = names.filter(|names| names.canonicalize().ok() != names_out.canonicalize().ok());
    for file in [Some(&args.out), Some(&config), names.as_ref().map(|_| &names_out)].into_iter().flatten() {
        models::may_write(file, args.force)?;
    }
    let text = serde_json::to_string_pretty(&original_config(&of_model)?);
    backend::Name::light()?.open(None)?.export_original(&from, &args.out)?;
    let size = args.out.metadata().map(|m| m.len()).unwrap_or_default();
    say!("wrote {} ({}) from {from}", args.out.display(), bytes(size));
    let text = text.context("cannot write JSON")?;
    fs::write(&config, text + "\n").with_context(|| format!("cannot write {}", config.display()))?;
    say!("wrote {}", config.display());
    if let Some(names) = names {
        fs::copy(names, &names_out).with_context(|| format!("cannot write {}", names_out.display()))?;
        say!("wrote {}", names_out.display());
    }
    Ok(())
}

/// A configuration as the original's: its names, the architecture below `arch`. What the original does not know is told only
/// where it is not as usual.
fn original_config(config: &ModelConfig) -> Result<Value> {
    let fields = |config: &ModelConfig| match serde_json::to_value(config).context("configuration")? {
        Value::Object(fields) => Ok(fields),
        _ => bail!("expected a configuration of names and values"),
    };
    let usual = fields(&ModelConfig::new(config.vocab_size, config.seq_len))?;
    let (mut root, mut arch) = (Map::new(), Map::new());
    for (key, value) in fields(config)? {
        let name = match key.as_str() {
            "vocab_size" | "seq_len" | "num_puzzle_identifiers" => {
                root.insert(key, value);
                continue;
            }
            "mixer" if value == "mlp" => {
                arch.insert("mlp_t".to_owned(), Value::Bool(true));
                continue;
            }
            // As the program that reads it likes.
            "forward_dtype" if value == "auto" => continue,
            "forward_dtype" => {
                let name = if value == "bf16" { "bfloat16" } else { "float32" };
                arch.insert(key, name.into());
                continue;
            }
            "h_cycles" | "l_cycles" | "h_layers" | "l_layers" => {
                format!("{}{}", key[..1].to_uppercase(), &key[1..])
            }
            "no_act_continue" => "no_ACT_continue".to_owned(),
            _ => key.clone(),
        };
        let known = ORIGINAL.contains(&key.as_str());
        if known || usual.get(&key) != Some(&value) {
            arch.insert(name, value);
        }
    }
    root.insert("arch".to_owned(), Value::Object(arch));
    Ok(Value::Object(root))
}

/// What the original's configurations say.
const ORIGINAL: [&str; 14] = [
    "h_cycles",
    "l_cycles",
    "h_layers",
    "l_layers",
    "hidden_size",
    "num_heads",
    "expansion",
    "puzzle_emb_ndim",
    "puzzle_emb_len",
    "pos_encodings",
    "halt_max_steps",
    "halt_exploration_prob",
    "rope_theta",
    "rms_norm_eps",
];
