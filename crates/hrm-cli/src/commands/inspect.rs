//! `hrm inspect`: what is in a model, a checkpoint, a dataset.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::BackendTypes;
use hrm_backend::HrmAutodiffBackend;
use hrm_data::{
    dataset::Dataset,
    render,
    sudoku::{Board, Geometry, RecordReader, decode_tokens},
};
use hrm_model::{
    Hrm, ModelConfig,
    summary::{ParameterRow, ParameterTable, thousands},
};
use hrm_train::{
    checkpoint,
    config::{DataSource, ResolvedRecipe},
};
use serde_json::Value;

use crate::{
    backend::{self, Job},
    models::{self, Header},
    terminal::{Panel, bytes, count, side_by_side, stdout_style},
};

/// Subcommands of `hrm inspect`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// How many parameters each part of a model has
    #[command(after_long_help = "\
Examples:
  hrm inspect params                                   the paper's 27M model for 9x9 Sudoku
  hrm inspect params --config configs/sudoku-4x4.toml
  hrm inspect params --checkpoint checkpoints/sudoku-4x4")]
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
    /// What a dataset or a puzzle file holds, with a look at the first puzzles
    #[command(after_long_help = "\
Examples:
  hrm inspect data data/sudoku-4x4
  hrm inspect data puzzles.csv --show 4")]
    Data {
        /// A dataset folder in the reference's format, or a CSV of puzzles
        #[arg(value_name = "DIR|CSV")]
        path: PathBuf,
        /// Puzzles to draw
        #[arg(long, value_name = "N", default_value_t = 2)]
        show: usize,
        /// Draw without colours
        #[arg(long)]
        plain: bool,
    },
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    let mut out = io::stdout().lock();
    match command {
        Command::Params { checkpoint: Some(path), .. } => {
            write!(out, "{}", table_of(&Header::read(&models::file(&path)?)?))?
        }
        Command::Params { config, set, .. } => {
            let config = match (&config, set.is_empty()) {
                (None, true) => ModelConfig::hrm_sudoku_extreme(),
                (file, _) => model_of(&ResolvedRecipe::load(file.as_deref(), &set)?)?,
            };
            config.validate()?;
            write!(out, "{}", backend::Name::light()?.run(Count(config))?)?;
        }
        Command::Checkpoint { path } => show_checkpoint(&mut out, &path)?,
        Command::Data { path, show, plain } => {
            if path.is_dir() {
                dataset(&mut out, &path, show, plain)?;
            } else {
                puzzle_file(&mut out, &path, show, plain)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

struct Count(ModelConfig);

impl Job for Count {
    type Output = ParameterTable;

    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<ParameterTable> {
        Ok(Hrm::<A>::untrained(&self.0, device).parameter_table())
    }
}

fn table_of(header: &Header) -> ParameterTable {
    ParameterTable::new(
        header
            .tensors
            .iter()
            .map(|(name, tensor)| ParameterRow { name: name.clone(), shape: tensor.shape.clone() }),
    )
}

/// The model of a recipe; only for a dataset on disk does that take a look at the data.
fn model_of(recipe: &ResolvedRecipe) -> Result<ModelConfig> {
    let data = &recipe.recipe.data;
    let model = &recipe.recipe.model;
    if data.source == DataSource::Dataset {
        let root = Path::new(&data.path).join("train");
        let dataset = Dataset::load(&root).with_context(|| format!("data.path = {}", data.path))?;
        let metadata = dataset.metadata();
        return Ok(model.resolve(metadata.vocab_size, metadata.seq_len, metadata.num_puzzle_identifiers));
    }
    let geometry = Geometry::new(data.box_rows, data.box_cols).context("data.box_rows, data.box_cols")?;
    Ok(model.resolve(geometry.side() + 2, geometry.cells(), 1))
}

fn show_checkpoint(out: &mut impl Write, path: &Path) -> Result<()> {
    let file = models::file(path)?;
    let header = Header::read(&file)?;
    let table = table_of(&header);
    let folder = file.parent().unwrap_or(Path::new("."));
    writeln!(out, "model       {} ({})", file.display(), bytes(header.bytes))?;
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

/// A dataset folder: one with `dataset.json`, or one with `train` and `test` below.
fn dataset(out: &mut impl Write, path: &Path, show: usize, plain: bool) -> Result<()> {
    let parts: Vec<PathBuf> = if path.join("dataset.json").exists() {
        vec![path.to_owned()]
    } else {
        let below = ["train", "test"].map(|name| path.join(name));
        below.into_iter().filter(|folder| folder.join("dataset.json").exists()).collect()
    };
    if parts.is_empty() {
        bail!(
            "{}: no dataset here; expected dataset.json in the folder, or in train/ and test/ below it",
            path.display()
        );
    }
    for part in &parts {
        let dataset = Dataset::load(part)?;
        let metadata = dataset.metadata();
        writeln!(out, "{}", part.display())?;
        writeln!(
            out,
            "  {} in {}, {} tokens each, vocabulary {}, {}",
            count(dataset.examples(), "example"),
            count(dataset.groups(), "group"),
            metadata.seq_len,
            metadata.vocab_size,
            count(metadata.num_puzzle_identifiers, "puzzle identifier")
        )?;
        writeln!(
            out,
            "  pad {}, ignored label {}, blank identifier {}",
            metadata.pad_id,
            metadata.ignore_label_id.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            metadata.blank_identifier_id
        )?;
        for set in dataset.sets() {
            writeln!(
                out,
                "  set {}: {}, {}, {}",
                set.name(),
                count(set.examples(), "example"),
                count(set.puzzles(), "puzzle"),
                count(set.groups(), "group")
            )?;
            let is_sudoku = Geometry::from_cells(metadata.seq_len)
                .is_some_and(|geometry| geometry.side() + 2 == metadata.vocab_size);
            if !is_sudoku {
                for example in 0..show.min(set.examples()) {
                    writeln!(out, "  input {example}: {:?}", set.input(example))?;
                    writeln!(out, "  label {example}: {:?}", set.label(example))?;
                }
                continue;
            }
            let pairs = (0..show.min(set.examples()))
                .map(|example| {
                    Ok((decode_tokens(set.input(example))?, Some(decode_tokens(set.label(example))?)))
                })
                .collect::<Result<Vec<_>>>()?;
            draw(out, &pairs, plain)?;
        }
    }
    Ok(())
}

fn puzzle_file(out: &mut impl Write, path: &Path, show: usize, plain: bool) -> Result<()> {
    let mut shown = Vec::new();
    let (mut puzzles, mut answers) = (0, 0);
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut clues: BTreeMap<usize, usize> = BTreeMap::new();
    let mut ratings: Vec<f64> = Vec::new();
    for record in RecordReader::open(path)? {
        let record = record?;
        puzzles += 1;
        answers += usize::from(record.solution.is_some());
        *sizes.entry(record.puzzle.side()).or_default() += 1;
        *clues.entry(record.puzzle.clues()).or_default() += 1;
        ratings.extend(record.rating);
        if shown.len() < show {
            shown.push((record.puzzle, record.solution));
        }
    }
    writeln!(out, "{}", path.display())?;
    writeln!(out, "  {}, {answers} with an answer", count(puzzles, "puzzle"))?;
    for (side, n) in sizes {
        writeln!(out, "  {n} of {side}x{side}")?;
    }
    if let (Some((fewest, _)), Some((most, _))) = (clues.first_key_value(), clues.last_key_value()) {
        let sum: usize = clues.iter().map(|(clues, n)| clues * n).sum();
        writeln!(out, "  givens: {fewest} to {most}, {:.1} on average", sum as f64 / puzzles as f64)?;
    }
    ratings.sort_by(f64::total_cmp);
    if let (Some(lowest), Some(highest)) = (ratings.first(), ratings.last()) {
        let mean = ratings.iter().sum::<f64>() / ratings.len() as f64;
        writeln!(
            out,
            "  ratings: {lowest} to {highest}, mean {mean:.1}, median {}",
            ratings[ratings.len() / 2]
        )?;
    }
    draw(out, &shown, plain)
}

/// Puzzles with their answers beside them.
fn draw(out: &mut impl Write, pairs: &[(Board, Option<Board>)], plain: bool) -> Result<()> {
    let style = stdout_style(plain);
    for (puzzle, answer) in pairs {
        let panel = |title: &str, board| Panel {
            title: title.to_owned(),
            body: render::attempt(puzzle, None, board, style),
        };
        let mut panels = vec![panel("puzzle", puzzle)];
        panels.extend(answer.as_ref().map(|answer| panel("answer", answer)));
        writeln!(out, "\n{}", side_by_side(&panels).trim_end())?;
    }
    Ok(())
}
