//! `hrm eval`: how good a model is on a set of puzzles.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::{AutodiffBackend, BackendTypes};
use hrm_backend::HrmAutodiffBackend;
use hrm_data::{
    dataset::{Dataset, Metadata},
    maze,
    sudoku::{BuildOptions, RecordReader, dataset as build},
    task::{Family, Shape},
};
use hrm_model::{Hrm, ModelConfig, loss::LossKind};
use hrm_train::{
    data::{Evaluation as Puzzles, TaskScores},
    evaluate::{EvalReport, evaluate},
    infer::{InferOptions, Query, Solver},
};
use serde::Serialize;

use crate::{
    backend::{self, Job},
    models::{self, Header},
};

/// Measure a model on held-out puzzles
///
/// Every puzzle gets the same number of steps and the last one counts, as in the paper. With --halting, puzzles also
/// run as `hrm solve` runs them: each until the model halts it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm eval --checkpoint runs/sudoku-4x4 --data data/sudoku-4x4
  hrm eval --checkpoint checkpoints/sudoku-9x9 --data test.csv.gz --limit 1000 --json

--data DIR takes DIR/test if it is there.")]
pub struct Args {
    /// Model: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(long, short, value_name = "DIR|FILE")]
    checkpoint: PathBuf,
    /// Puzzles: a dataset folder in the reference's format, or CSV source,question,answer,rating
    #[arg(long, short, value_name = "DIR|CSV")]
    data: PathBuf,
    /// What the puzzles are, where their size does not tell
    #[arg(long, value_name = "TASK")]
    task: Option<Family>,
    /// Only the first N puzzles
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Puzzles that go through the model together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Steps for each puzzle [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_steps: Option<u32>,
    /// Cross-entropy to report
    #[arg(long, value_enum, default_value_t = Loss::Stablemax)]
    loss: Loss,
    /// Also measure with the model's own halting
    #[arg(long)]
    halting: bool,
    /// Where to compute [default: the fastest that is compiled in]
    #[arg(long, value_enum, value_name = "B")]
    backend: Option<backend::Name>,
    /// Operands of matrix products on the processor
    #[arg(long, value_enum, default_value_t, value_name = "P")]
    precision: backend::Precision,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Loss {
    Stablemax,
    Softmax,
}

struct Evaluation<'a> {
    file: &'a Path,
    dataset: Arc<Dataset>,
    shape: Option<Shape>,
    args: &'a Args,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    fixed: EvalReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    halting: Option<HaltingReport>,
}

/// With the model's own halting.
#[derive(Debug, Serialize)]
struct HaltingReport {
    /// Share of puzzles answered as the data say.
    exact_accuracy: f64,
    /// How good the answers are by the rules of the task.
    #[serde(flatten)]
    task: TaskScores,
    /// Mean number of steps.
    mean_steps: f64,
    /// Wall-clock seconds.
    seconds: f64,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let backend = backend::Name::or_best(args.backend)?;
    args.precision.apply();
    let file = models::file(&args.checkpoint)?;
    let config = Header::read(&file)?.config()?;
    let limit = args.limit.map_or(usize::MAX, |n| n as usize);
    let told = Shape::of(config.seq_len, config.vocab_size, args.task);
    let (dataset, shape) = load(&args.data, limit, args.task.or(told.map(Shape::family)))?;
    fits(&config, &dataset).with_context(|| format!("{} and {}", file.display(), args.data.display()))?;
    let report = backend.run(Evaluation { file: &file, dataset: Arc::new(dataset), shape, args: &args })?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report).context("cannot write JSON")?)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(())
}

/// The first `limit` puzzles of a dataset folder or a puzzle file, and what they are.
fn load(path: &Path, limit: usize, family: Option<Family>) -> Result<(Dataset, Option<Shape>)> {
    if path.is_dir() {
        let test = path.join("test");
        let folder = if path.join("dataset.json").exists() || !test.exists() { path } else { &test };
        let dataset = Dataset::load(folder)?;
        let dataset = if limit < dataset.groups() { dataset.head(limit) } else { dataset };
        let Metadata { seq_len, vocab_size, .. } = *dataset.metadata();
        return Ok((dataset, Shape::of(seq_len, vocab_size, family)));
    }
    if family == Some(Family::Maze) {
        let mut records = maze::read_records(path)?;
        records.truncate(limit);
        let (dataset, _) = maze::from_records(&records, 0).with_context(|| path.display().to_string())?;
        let shape = records.first().map(|r| Shape::Maze { rows: r.maze.rows(), cols: r.maze.cols() });
        return Ok((dataset, shape));
    }
    let records = RecordReader::open(path)?.take(limit).collect::<Result<Vec<_>, _>>()?;
    let (dataset, _) = build::from_records(&records, &BuildOptions::default())
        .with_context(|| path.display().to_string())?;
    let shape = records.first().map(|record| Shape::Sudoku(record.puzzle.geometry()));
    Ok((dataset, shape))
}

fn fits(config: &ModelConfig, dataset: &Dataset) -> Result<()> {
    let metadata = dataset.metadata();
    if (config.seq_len, config.vocab_size) != (metadata.seq_len, metadata.vocab_size) {
        bail!(
            "the model reads {} tokens of a vocabulary of {}, the data have {} tokens of {}",
            config.seq_len,
            config.vocab_size,
            metadata.seq_len,
            metadata.vocab_size
        );
    }
    if config.puzzle_emb_ndim > 0 && config.num_puzzle_identifiers < metadata.num_puzzle_identifiers {
        bail!(
            "the model knows {} puzzle identifiers, the data have {}",
            config.num_puzzle_identifiers,
            metadata.num_puzzle_identifiers
        );
    }
    Ok(())
}

impl Job for Evaluation<'_> {
    type Output = Report;

    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<Report> {
        let model: Hrm<<A as AutodiffBackend>::InnerBackend> = models::load(self.file, device)?;
        let batch = self.args.batch as usize;
        let loss = match self.args.loss {
            Loss::Stablemax => LossKind::Stablemax,
            Loss::Softmax => LossKind::Softmax,
        };
        let max_steps = self.args.max_steps.map(|n| n as usize);
        let steps = max_steps.unwrap_or(model.config().halt_max_steps);
        let fixed =
            evaluate(&model, Puzzles::of_rows(&self.dataset, self.shape, batch, 0), loss, steps, device);
        let halting = if self.args.halting {
            let options = InferOptions { max_steps, ..InferOptions::default() };
            Some(with_halting(&Solver::new(&model, options)?, &self.dataset, self.shape, batch)?)
        } else {
            None
        };
        Ok(Report { fixed, halting })
    }
}

fn with_halting<B: hrm_backend::HrmBackend>(
    solver: &Solver<'_, B>,
    dataset: &Arc<Dataset>,
    shape: Option<Shape>,
    batch: usize,
) -> Result<HaltingReport> {
    let (mut examples, mut exact, mut steps, mut seconds) = (0, 0, 0, 0.0);
    let mut puzzles = Puzzles::of_rows(dataset, shape, batch, 0);
    while let Some(rows) = puzzles.next() {
        let queries: Vec<Query> = (0..rows.valid_rows)
            .map(|row| Query {
                tokens: rows.batch.input(row).iter().map(|&token| token as u8).collect(),
                identifier: rows.batch.puzzle_identifiers[row] as u32,
            })
            .collect();
        let traces = solver.solve(&queries)?;
        seconds += traces.iter().map(|trace| trace.elapsed.as_secs_f64()).fold(0.0, f64::max);
        for (row, trace) in traces.iter().enumerate() {
            examples += 1;
            steps += trace.steps();
            let mut cells = rows.batch.label(row).iter().zip(trace.answer());
            exact += usize::from(cells.all(|(label, token)| *label < 0 || *label == i32::from(*token)));
        }
        let answers: Vec<u8> = traces.iter().flat_map(|trace| trace.answer()).copied().collect();
        let q_halt: Vec<f32> =
            traces.iter().filter_map(|trace| trace.thoughts.last()).map(|last| last.q_halt).collect();
        puzzles.judge(&rows, &answers, &q_halt);
    }
    let share = |n: usize| n as f64 / examples.max(1) as f64;
    Ok(HaltingReport {
        exact_accuracy: share(exact),
        task: puzzles.scores(),
        mean_steps: share(steps),
        seconds,
    })
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let EvalReport {
        examples,
        lm_loss,
        q_halt_loss,
        token_accuracy,
        exact_accuracy,
        q_halt_accuracy,
        mean_steps,
        task,
        seconds,
    } = report.fixed;
    writeln!(out, "puzzles          {examples}")?;
    writeln!(out, "exact accuracy   {}", percent(exact_accuracy))?;
    for (name, share) in task.rows() {
        writeln!(out, "{:<16} {}", name, percent(share))?;
    }
    writeln!(out, "token accuracy   {}", percent(token_accuracy))?;
    writeln!(out, "q-halt accuracy  {}", percent(q_halt_accuracy))?;
    writeln!(out, "loss             {lm_loss:.4} (cells), {q_halt_loss:.4} (halting)")?;
    writeln!(out, "mean steps       {mean_steps:.1}")?;
    writeln!(out, "seconds          {seconds:.2}")?;
    if let Some(halting) = &report.halting {
        writeln!(out, "\nwith the model's own halting")?;
        writeln!(out, "exact accuracy   {}", percent(halting.exact_accuracy))?;
        for (name, share) in halting.task.rows() {
            writeln!(out, "{:<16} {}", name, percent(share))?;
        }
        writeln!(out, "mean steps       {:.1}", halting.mean_steps)?;
        writeln!(out, "seconds          {:.2}", halting.seconds)?;
    }
    Ok(())
}
