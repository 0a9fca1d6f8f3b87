//! `hrm import`: weights of the original PyTorch implementation become a model of ours.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use hrm_data::download::{self, Options};
use hrm_model::{
    ModelConfig, summary,
    weights::{self, StateDict},
};
use serde_json::{Map, Value, json};

use super::{
    arc::{IDENTIFIERS, read_names},
    data::download::fetch,
};
use crate::{backend, models, terminal::bytes};

/// Import weights of the original PyTorch code of HRM or TRM
///
/// Reads a folder as the original leaves it (its newest step_N and all_config.yaml), or .pt, .pth and .safetensors files, with
/// or without the prefixes of torch.compile and of the loss head, in fp32 or bf16. Sizes are read off the tensors; what no
/// tensor tells (heads, cycles, the sequence length with rotary positions) comes from all_config.yaml, from --config or from
/// the options.
///
/// The names of the puzzle identifiers (identifiers.json of the original's data set) are kept with the model: rows of its
/// puzzle embedding are found by name then, whatever tasks are asked and in which order.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm import checkpoints/Arc-aug-1000/HRM --identifiers data/arc-aug-1000/identifiers.json --out models/arc
  hrm import checkpoint.pt --config config.json --out models/sudoku
  hrm import step_15600.pt --num-heads 8 --seq-len 81 --h-cycles 2 --l-cycles 2 --halt-max-steps 16 --out models/sudoku
  hrm import hf:sapientinc/HRM-checkpoint-sudoku-extreme --out models/published

hf:OWNER/NAME fetches the files `checkpoint` and `all_config.yaml` of a model on the Hugging Face hub (HF_ENDPOINT names another one)
into the cache folder.

--config takes JSON, TOML or YAML with the original's key names (H_cycles, num_heads, ...) or ours, at the top level or
below `arch`, `model` or `config`. Options win over the file. Without it, the file that `hrm export` wrote beside SRC
(SRC.json) or all_config.yaml in SRC's folder is taken. If it does not say how many tokens a puzzle has, the name of the data
set does: arc and maze-30x30 have 900, sudoku has 81.")]
pub struct Args {
    /// Weights to import: a folder of the original, a .pt, .pth or .safetensors file, or hf:OWNER/NAME
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Where to write: a folder (for model.safetensors in it) or a .safetensors file
    #[arg(long, short, value_name = "DIR|FILE")]
    out: PathBuf,
    /// The original's configuration: JSON, TOML or YAML
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Names of the rows of the puzzle embedding [default: identifiers.json beside the weights, if it is there]
    #[arg(long, value_name = "FILE")]
    identifiers: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Import weights that are NaN or infinite too: no model with them computes anything of use
    #[arg(long)]
    allow_non_finite: bool,
    #[command(flatten)]
    values: Values,
}

/// Values that no tensor tells.
#[derive(Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Values that the tensors do not tell")]
struct Values {
    /// Tokens of a puzzle (81 for 9x9 Sudoku)
    #[arg(long, value_name = "N")]
    seq_len: Option<u64>,
    /// Attention heads (8 in the published models)
    #[arg(long, value_name = "N")]
    num_heads: Option<u64>,
    /// High-level updates in a segment (2 in the published models)
    #[arg(long, value_name = "N")]
    h_cycles: Option<u64>,
    /// Low-level updates in a high-level one (2 in the published models)
    #[arg(long, value_name = "N")]
    l_cycles: Option<u64>,
    /// Prefix tokens of the puzzle embedding (16 in the published TRM models; HRM's tell it)
    #[arg(long, value_name = "N")]
    puzzle_emb_len: Option<u64>,
    /// Segments at most (16 in the published models)
    #[arg(long, value_name = "N")]
    halt_max_steps: Option<u64>,
    /// Base of the rotary frequencies [default: 10000]
    #[arg(long, value_name = "X")]
    rope_theta: Option<f64>,
    /// Epsilon of RMSNorm [default: 0.00001]
    #[arg(long, value_name = "X")]
    rms_norm_eps: Option<f64>,
    /// Type to compute in: f32 or bf16 [default: f32]
    #[arg(long, value_name = "TYPE")]
    forward_dtype: Option<String>,
}

/// Names that no default may fill: a wrong value would import without an error and compute something else.
const REQUIRED: [(&str, &str); 5] = [
    ("seq_len", "--seq-len"),
    ("num_heads", "--num-heads"),
    ("h_cycles", "--h-cycles"),
    ("l_cycles", "--l-cycles"),
    ("halt_max_steps", "--halt-max-steps"),
];

/// One more for TRM, whose prefix may be longer than its embedding needs.
const PREFIX_OF_TRM: (&str, &str) = ("puzzle_emb_len", "--puzzle-emb-len");

/// Bytes of a configuration at most: what is nested without end costs the readers of YAML time by the square of its length.
const MAX_CONFIG: u64 = 1 << 16;

/// Keys of the original's configurations that say nothing about the architecture.
const IGNORED: [&str; 4] = ["name", "loss", "batch_size", "puzzle_emb_lr"];

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let source = args.source.display().to_string();
    let to = if args.out.extension().is_some_and(|extension| extension == "safetensors") {
        args.out.clone()
    } else {
        args.out.join("model.safetensors")
    };
    models::may_replace(&to, args.force)?;
    let files = Files::find(&args)?;
    let dict = weights::read_normalized(&files.weights)?;
    let bad = weights::not_finite(&dict);
    if let Some(told) = models::told_not_finite(&bad) {
        match args.allow_non_finite {
            true => note!("warning: {source}: {told}"),
            false => bail!("{source}: {told}; they are imported all the same with --allow-non-finite"),
        }
    }
    let found = inferred(&dict).with_context(|| source.clone())?;
    let config = resolve(found, files.config.as_deref(), &args.values).with_context(|| source.clone())?;
    let names = files.identifiers.as_deref().map(|path| names_of_rows(path, &config)).transpose()?;
    let model =
        backend::Name::light()?.open(None)?.assemble(&config, dict).with_context(|| source.clone())?;
    // Only now: an import that fails leaves no empty folder behind.
    models::may_write(&to, args.force).with_context(|| source.clone())?;
    model.save(&to).with_context(|| source.clone())?;
    let size = to.metadata().map(|m| m.len()).unwrap_or_default();
    say!(
        "imported {source}: {} parameters, hidden {}, {} + {} layers, {} heads, {} x {} cycles, {} tokens of {}",
        summary::thousands(model.parameters()),
        config.hidden_size,
        config.h_layers,
        config.l_layers,
        config.num_heads,
        config.h_cycles,
        config.l_cycles,
        config.seq_len,
        config.vocab_size
    );
    say!("wrote {} ({})", to.display(), bytes(size));
    if let Some(names) = names {
        let to = to.with_file_name(IDENTIFIERS);
        models::may_write(&to, args.force)?;
        let text = serde_json::to_string(&names).context("cannot write JSON")?;
        fs::write(&to, text + "\n").with_context(|| format!("cannot write {}", to.display()))?;
        say!("wrote {}: the names of {} rows", to.display(), summary::thousands(names.len()));
    } else if config.puzzle_emb_ndim > 0 && config.num_puzzle_identifiers > 1 {
        say!(
            "the names of the {} rows of the puzzle embedding are not known: with --identifiers they stay with the model",
            summary::thousands(config.num_puzzle_identifiers)
        );
    }
    Ok(())
}

/// What an import reads.
struct Files {
    weights: PathBuf,
    config: Option<PathBuf>,
    identifiers: Option<PathBuf>,
}

impl Files {
    fn find(args: &Args) -> Result<Self> {
        let (weights, fetched) = match args.source.to_str().and_then(|source| source.strip_prefix("hf:")) {
            Some(name) => {
                let [weights, config] = of_hub(name)?;
                (weights, Some(config))
            }
            None if args.source.is_dir() => (newest_step(&args.source)?, None),
            None => (args.source.clone(), None),
        };
        let beside = |name: &str| Some(weights.with_file_name(name)).filter(|path| path.is_file());
        let exported = || Some(weights.with_extension("json")).filter(|path| path.is_file());
        let config = args.config.clone().or(fetched).or_else(exported).or_else(|| beside(ALL_CONFIG));
        let identifiers = args.identifiers.clone().or_else(|| beside(IDENTIFIERS));
        Ok(Self { weights, config, identifiers })
    }
}

/// The configuration in a folder of the original.
const ALL_CONFIG: &str = "all_config.yaml";

/// The newest weights in a folder of the original: `step_N` with the largest N, else the only file of weights.
fn newest_step(folder: &Path) -> Result<PathBuf> {
    let shown = folder.display();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.is_file());
    let step = |path: &PathBuf| path.file_stem()?.to_str()?.strip_prefix("step_")?.parse::<u64>().ok();
    if let Some(newest) = files.iter().filter(|path| step(path).is_some()).max_by_key(|path| step(path)) {
        return Ok(newest.clone());
    }
    let is_weights = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| ["pt", "pth", "safetensors"].contains(&ending))
            || path.file_name().is_some_and(|name| name == "checkpoint")
    };
    files.retain(is_weights);
    match files.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            bail!("{shown}: expected weights in it (step_N, checkpoint, .pt, .pth or .safetensors), got none")
        }
        several => {
            bail!("{shown}: expected one file of weights, got {}; name the one to import", several.len())
        }
    }
}

/// The names of all rows of the puzzle embedding.
fn names_of_rows(path: &Path, config: &ModelConfig) -> Result<Vec<String>> {
    let names = read_names(path)?;
    if names.len() != config.num_puzzle_identifiers {
        bail!(
            "{}: expected the names of the {} rows of the puzzle embedding, got {}; it belongs to another data set",
            path.display(),
            config.num_puzzle_identifiers,
            names.len()
        );
    }
    Ok(names)
}

/// Tokens of a puzzle, by the name of the original's data set.
fn tokens_of(data: &str) -> Option<u64> {
    let name = data.trim_end_matches('/').rsplit('/').next()?.to_lowercase();
    match () {
        () if name.contains("arc") || name.contains("maze-30x30") => Some(900),
        () if name.contains("sudoku") => Some(81),
        () => None,
    }
}

/// The weights and the configuration of a model on the Hugging Face hub, in the cache folder.
fn of_hub(name: &str) -> Result<[PathBuf; 2]> {
    // As the hub's own tools call it.
    let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_owned());
    let set = download::hub_model(&endpoint, name)?;
    let files = fetch(&set, &Options::new(download::cache_dir()?))?;
    files.try_into().map_err(|_| anyhow!("{name}: expected weights and a configuration"))
}

/// What the tensors tell about the architecture.
fn inferred(dict: &StateDict) -> Result<Map<String, Value>> {
    let has = |prefix: &str| dict.keys().any(|key| key.starts_with(prefix));
    let shape = |key: &str| dict.get(key).map(|data| data.shape.to_vec());
    let (embedding, gate_up) =
        (shape("embed_tokens.embedding_weight"), shape("L_level.layers.0.mlp.gate_up_proj.weight"));
    let (Some([vocab_size, hidden_size]), Some([gate_up, _])) = (embedding.as_deref(), gate_up.as_deref())
    else {
        let mut names: Vec<&str> = dict.keys().map(String::as_str).collect();
        let total = names.len();
        names.truncate(6);
        bail!(
            "these are not weights of the original HRM or TRM: expected embed_tokens.embedding_weight and \
             L_level.layers.0.mlp.gate_up_proj.weight (after the prefixes), got {total} tensors: {}{}",
            names.join(", "),
            if total > names.len() { ", ..." } else { "" }
        );
    };
    // Layers are counted, not believed: a name may say any number. One that is left out is found missing later.
    let layers = |level: &str| {
        let prefix = format!("{level}.layers.");
        let names = dict.keys().filter_map(|key| key.strip_prefix(&prefix)?.split('.').next());
        names.collect::<BTreeSet<_>>().len()
    };
    let mut found = Map::new();
    let mut set = |key: &str, value: Value| found.insert(key.to_owned(), value);
    set("vocab_size", (*vocab_size).into());
    set("hidden_size", (*hidden_size).into());
    set("recurrence", if has("H_level.") { "hrm" } else { "trm" }.into());
    set("mlp_t", has("L_level.layers.0.mlp_t.").into());
    set("h_layers", layers("H_level").into());
    set("l_layers", layers("L_level").into());
    // The original rounds expansion x width x 2 / 3 up to a multiple of 256: any expansion that gives these widths is
    // the same model. The largest that suits one suits the other if it is no larger.
    let largest = |gate_up: usize, width: usize| 1.5 * (gate_up / 2) as f64 / width as f64;
    let along_sequence = match shape("L_level.layers.0.mlp_t.gate_up_proj.weight").as_deref() {
        Some([gate_up, len]) => largest(*gate_up, *len),
        _ => f64::INFINITY,
    };
    set("expansion", largest(*gate_up, *hidden_size).min(along_sequence).into());
    let puzzle_emb = shape("puzzle_emb.weights").unwrap_or_default();
    let [identifiers, ndim] = puzzle_emb.as_slice() else {
        set("puzzle_emb_ndim", 0.into());
        return with_positions(found, dict, 0);
    };
    set("num_puzzle_identifiers", (*identifiers).into());
    set("puzzle_emb_ndim", (*ndim).into());
    let prefix = ndim.div_ceil((*hidden_size).max(1));
    with_positions(found, dict, prefix)
}

fn with_positions(
    mut found: Map<String, Value>,
    dict: &StateDict,
    prefix: usize,
) -> Result<Map<String, Value>> {
    match dict.get("embed_pos.embedding_weight") {
        // Without attention nothing rotates.
        None if found["mlp_t"] == Value::Bool(true) => {
            found.insert("pos_encodings".to_owned(), "none".into());
        }
        None => {
            found.insert("pos_encodings".to_owned(), "rope".into());
        }
        Some(positions) => {
            let [len, _] = *positions.shape else {
                bail!(
                    "embed_pos.embedding_weight has shape {:?}; expected a row for each position",
                    &*positions.shape
                );
            };
            found.insert("pos_encodings".to_owned(), "learned".into());
            found.insert("seq_len".to_owned(), len.saturating_sub(prefix).into());
        }
    }
    Ok(found)
}

/// Tensors, file and options together. The tensors have the last word: what contradicts them is an error.
fn resolve(found: Map<String, Value>, file: Option<&Path>, values: &Values) -> Result<ModelConfig> {
    let mut config = Map::new();
    if let Some(path) = file {
        config = read_config(path)?;
    }
    config.extend(values.given());
    let trm = found.get("recurrence").is_some_and(|recurrence| recurrence == "trm");
    if trm {
        // As in the original's recipes; a configuration may say otherwise.
        config.entry("no_act_continue").or_insert(true.into());
        // Positions that a model without attention does not use are not worth a contradiction.
        if found.get("mlp_t") == Some(&Value::Bool(true)) {
            config.remove("pos_encodings");
        }
    }
    let mut contradictions = Vec::new();
    for (key, value) in &found {
        match config.get(key) {
            // Many expansions round to the same width; the loader compares shapes.
            Some(_) if key == "expansion" => continue,
            Some(told) if told != value => {
                contradictions.push(format!("{key} = {told}, the tensors say {value}"))
            }
            _ => {}
        }
        config.insert(key.clone(), value.clone());
    }
    if !contradictions.is_empty() {
        bail!("the configuration does not fit the tensors: {}", contradictions.join("; "));
    }
    let prefix = (trm && found.get("puzzle_emb_ndim").is_some_and(|ndim| ndim != 0)).then_some(PREFIX_OF_TRM);
    let missing: Vec<String> = REQUIRED
        .iter()
        .chain(&prefix)
        .filter(|(key, _)| !config.contains_key(*key))
        .map(|(key, flag)| format!("{key} ({flag})"))
        .collect();
    if !missing.is_empty() {
        bail!(
            "the tensors do not tell {}; give them with these options or with --config (the published models have 8 \
             heads and 16 steps, HRM 2 x 2 cycles, TRM 3 x 6 and 16 prefix tokens; a 9x9 Sudoku has 81 tokens)",
            missing.join(", ")
        );
    }
    let config: ModelConfig = serde_json::from_value(Value::Object(config)).context("configuration")?;
    config.validate()?;
    Ok(config)
}

/// The architecture in a configuration file, under our names.
fn read_config(path: &Path) -> Result<Map<String, Value>> {
    let shown = path.display();
    let length = fs::metadata(path).map(|file| file.len());
    if length.with_context(|| format!("cannot read {shown}"))? > MAX_CONFIG {
        bail!("{shown}: expected at most {MAX_CONFIG} bytes; real ones have a few thousand");
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let value: Value = match path.extension().and_then(|e| e.to_str()) {
        Some("json") => serde_json::from_str(&text).with_context(|| shown.to_string())?,
        Some("toml") => toml::from_str(&text).with_context(|| shown.to_string())?,
        Some("yaml" | "yml") => serde_yaml_ng::from_str(&text).with_context(|| shown.to_string())?,
        _ => bail!("{shown}: expected a .json, .toml or .yaml file"),
    };
    let Value::Object(mut root) = value else {
        bail!("{shown}: expected an object of names and values");
    };
    // HRM names one data set, TRM a list of them.
    let data = root.get("data_path").or_else(|| root.get("data_paths")?.get(0));
    let tokens = data.and_then(Value::as_str).and_then(tokens_of);
    for section in ["arch", "model", "config"] {
        if let Some(Value::Object(inner)) = root.remove(section) {
            // What the data determine stands beside the architecture.
            let sizes = ["vocab_size", "seq_len", "num_puzzle_identifiers"];
            root.retain(|key, _| sizes.contains(&key.as_str()));
            root.extend(inner);
            break;
        }
    }
    if root.remove("causal") == Some(Value::Bool(true)) {
        bail!("{shown}: causal = true: the model's attention is bidirectional");
    }
    let mut config = Map::new();
    for (key, value) in root {
        if !IGNORED.contains(&key.as_str()) {
            // The original's names differ from ours in capitals only: H_cycles.
            config.insert(key.to_lowercase(), value);
        }
    }
    // Hydra's `puzzle_emb_ndim: ${.hidden_size}` is no number; the tensors tell it.
    config.retain(|_, value| !value.as_str().is_some_and(|text| text.starts_with("${")));
    if let Some(tokens) = tokens {
        config.entry("seq_len").or_insert(tokens.into());
    }
    Ok(config)
}

impl Values {
    fn given(&self) -> Map<String, Value> {
        let mut given = json!(self).as_object().cloned().unwrap_or_default();
        given.retain(|_, value| !value.is_null());
        given
    }
}
