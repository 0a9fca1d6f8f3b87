//! `hrm inspect`: what is in a model, a checkpoint, a dataset.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hrm_data::{registry::Shape, task::Census};
use hrm_model::{
    ModelConfig, Tokens,
    summary::{ParameterRow, ParameterTable, thousands},
};
use hrm_train::{
    checkpoint,
    data::{self, Sizes},
    recipe::{Recipe, ResolvedRecipe},
};
use serde_json::Value;

use crate::{
    commands::data::inspect,
    models::{self, Header},
    terminal::bytes,
};

/// Subcommands of `hrm inspect`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// How many parameters each part of a model has
    #[command(after_long_help = "\
Examples:
  hrm inspect params                                   the paper's 27M model for 9x9 Sudoku
  hrm inspect params --config configs/sudoku-4x4.toml
  hrm inspect params --checkpoint sudoku-4x4")]
    Params {
        /// Recipe whose model to count
        #[arg(long, short, value_name = "FILE", conflicts_with = "checkpoint")]
        config: Option<PathBuf>,
        /// Override a value of the recipe, for example --set model.hidden_size=256 (repeatable)
        #[arg(long, value_name = "KEY=VALUE", conflicts_with = "checkpoint")]
        set: Vec<String>,
        /// Model to count: a .safetensors file, a checkpoint folder, or a run folder
        #[arg(long, value_name = "DIR|FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// What a checkpoint holds: configuration, step, files, number types; and whether it is as it was written
    #[command(after_long_help = "\
Example:
  hrm inspect checkpoint runs/sudoku-4x4")]
    Checkpoint {
        /// A .safetensors file, a checkpoint folder, or a run folder
        #[arg(value_name = "CHECKPOINT")]
        path: PathBuf,
    },
    Data(inspect::Args),
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    let mut out = io::stdout().lock();
    match command {
        Command::Params { checkpoint: Some(path), .. } => {
            let header = Header::read(&models::file(&path)?)?;
            let table = table_of(&header);
            write!(out, "{table}")?;
            if let Ok(config) = header.config() {
                write!(out, "{}", census(&config, table.parameters()))?;
            }
        }
        Command::Params { config, set, .. } => {
            let config = match (&config, set.is_empty()) {
                (None, true) => ModelConfig::hrm_sudoku_extreme(),
                (file, _) => model_of(&ResolvedRecipe::load(file.as_deref(), &set)?)?,
            };
            config.validate()?;
            let rows = config.weight_shapes().into_iter();
            let table = ParameterTable::new(rows.map(|(name, shape)| ParameterRow { name, shape }));
            write!(out, "{table}{}", census(&config, table.parameters()))?;
        }
        Command::Checkpoint { path } => show_checkpoint(&mut out, &path)?,
        Command::Data(args) => args.run(&mut out)?,
    }
    out.flush()?;
    Ok(())
}

fn table_of(header: &Header) -> ParameterTable {
    ParameterTable::new(
        header
            .tensors
            .iter()
            .map(|(name, tensor)| ParameterRow { name: name.clone(), shape: tensor.shape.clone() }),
    )
}

/// How many solutions there are for each parameter; nothing where they were not counted.
fn census(config: &ModelConfig, parameters: usize) -> String {
    let shape = Shape::of(config.seq_len, config.vocab_size, None);
    let Some((shape, census)) = shape.and_then(|shape| Some((shape, shape.task().census()?))) else {
        return String::new();
    };
    let Census { solutions, classes, source } = census;
    let each = |count: f64| amount(count / parameters as f64);
    let (bits, name) = (32.0 * parameters as f64, classes.log2());
    let symmetries = match config.tokens {
        Tokens::Lattice => "are built into this model",
        Tokens::Cells => "are this model's to learn",
    };
    format!(
        "\n{shape}: {} solutions ({} a parameter), of which symmetries leave {} ({} a parameter)\n\
         the symmetries, {:.1} bits of each solution, {symmetries}\n\
         the weights, {} bits in fp32, have room for a list of {} solutions of {name:.1} bits\n\
         counts: {source}\n",
        amount(solutions),
        each(solutions),
        amount(classes),
        each(classes),
        (solutions / classes).log2(),
        amount(bits),
        amount(bits / name),
    )
}

/// A count with at most three digits that matter, or whole.
fn amount(count: f64) -> String {
    match count {
        0.0..10.0 => format!("{count:.2}"),
        0.0..1e7 => thousands(count.round() as usize),
        _ => format!("{count:.2e}"),
    }
}

/// The model of a recipe, whose data need not be there unless they determine its sizes.
fn model_of(recipe: &ResolvedRecipe) -> Result<ModelConfig> {
    let Recipe { data, model, .. } = &**recipe;
    let Sizes { vocab_size, seq_len, num_puzzle_identifiers, shape } = data::sizes(data)?;
    if num_puzzle_identifiers.is_none() && model.puzzle_emb_ndim > 0 {
        note!(
            "note: the tasks of {} and {} are not all there: the puzzle embedding is counted with 1 row; training gives \
             it one for each augmentation of each task",
            data.path,
            data.test_path
        );
    }
    Ok(model.on(vocab_size, seq_len, num_puzzle_identifiers.unwrap_or(1), data::structure(shape)))
}

fn show_checkpoint(out: &mut impl Write, path: &Path) -> Result<()> {
    let file = models::file(path)?;
    let header = Header::read(&file)?;
    let table = table_of(&header);
    let folder = file.path().parent().unwrap_or(Path::new("."));
    writeln!(out, "model       {file} ({})", bytes(header.bytes))?;
    let mut dtypes: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in header.tensors.values() {
        *dtypes.entry(&tensor.dtype).or_default() += 1;
    }
    let dtypes: Vec<String> = dtypes.into_iter().map(|(dtype, n)| format!("{n} {dtype}")).collect();
    writeln!(out, "tensors     {}", dtypes.join(", "))?;
    writeln!(
        out,
        "parameters  {} (and {} in puzzle embedding and initial states)",
        thousands(table.parameters()),
        thousands(table.buffers())
    )?;
    if let Some(state) = training_state(folder)? {
        if let Some(step) = state["step"].as_u64() {
            writeln!(out, "step        {step}")?;
        }
        if let Some(skipped) = state["progress"]["skipped"]["total"].as_u64().filter(|skipped| *skipped > 0) {
            writeln!(out, "skipped     {skipped} steps that were not finite")?;
        }
        checkpoint::verify(folder)?;
        writeln!(out, "checksums   every file is as it was written")?;
        for name in ["train.safetensors", "state.json"] {
            if let Ok(metadata) = fs::metadata(folder.join(name)) {
                writeln!(out, "            {name} ({})", bytes(metadata.len()))?;
            }
        }
    }
    let run = path.join("checkpoints");
    if run.is_dir() {
        let all = checkpoint::list(&run)?;
        let best = checkpoint::best(&run);
        let names = all.iter().enumerate().map(|(index, (step, _))| {
            let mut name = checkpoint::folder_name(*step);
            if let Some(best) = best.as_ref().filter(|best| best.step == *step) {
                name.push_str(&format!(" (best: {} {:.4})", best.metric, best.value));
            }
            if index + 1 == all.len() {
                name.push_str(" (last)");
            }
            name
        });
        writeln!(out, "all         {}", names.collect::<Vec<_>>().join(", "))?;
    }
    let others = header.metadata.iter().filter(|(key, _)| key.as_str() != hrm_model::weights::CONFIG_ENTRY);
    for (key, value) in others {
        writeln!(out, "metadata    {key} = {value}")?;
    }
    match header.config() {
        Ok(config) => {
            writeln!(out, "\nconfiguration")?;
            let Value::Object(values) = serde_json::to_value(&config).context("configuration")? else {
                return Ok(());
            };
            for (key, value) in values {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                writeln!(out, "  {key:<23} {value}")?;
            }
        }
        Err(error) => writeln!(out, "\n{error}")?,
    }
    Ok(())
}

fn training_state(folder: &Path) -> Result<Option<Value>> {
    let path = folder.join("state.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let state = serde_json::from_str(&text).with_context(|| format!("{}: damaged", path.display()))?;
    Ok(Some(state))
}
