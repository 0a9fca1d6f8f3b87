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
    evaluate::{EvalReport, evaluate_courses},
    infer::{InferOptions, Query, Solver},
};
use serde::Serialize;

use super::eval_tables::{self, Tables};
use crate::{
    backend::{self, Job},
    models::{self, Header},
};

/// Measure a model on held-out puzzles
///
/// Every puzzle gets the same number of steps and the last one counts, as in the paper. With --halt early, puzzles also
/// run as `hrm solve` runs them: each until the model halts it, which leaves the batch to the others.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm eval --checkpoint runs/sudoku-4x4 --data data/sudoku-4x4
  hrm eval --checkpoint checkpoints/sudoku-9x9 --data test.csv.gz --limit 1000 --json
  hrm eval --checkpoint runs/sudoku-4x4 --data data/sudoku-4x4 --split train --tables
  hrm eval --checkpoint runs/sudoku-4x4 --data data/sudoku-4x4 --steps 1,2,4,8,16,32,64 --halt early

A run means its best checkpoint where one is marked (checkpoints/best), its newest otherwise.
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
    /// Part of the dataset folder: train, test, ... [default: test, if it is there]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// When a puzzle is done
    #[arg(long, value_enum, default_value_t = Halt::Fixed, value_name = "WHEN")]
    halt: Halt,
    /// Also show exact accuracy after these numbers of steps, all in one pass
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    steps: Vec<u32>,
    /// Also show where the model halts, and accuracy by difficulty (with --json they are always there)
    #[arg(long)]
    tables: bool,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Halt {
    /// After the same number of steps for all
    Fixed,
    /// Also measure with the model's own halting, and what it saves
    Early,
}

struct Evaluation<'a> {
    file: &'a Path,
    dataset: Arc<Dataset>,
    shape: Option<Shape>,
    ratings: Vec<Option<f64>>,
    args: &'a Args,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// The model's file.
    checkpoint: PathBuf,
    #[serde(flatten)]
    fixed: EvalReport,
    #[serde(flatten)]
    tables: Tables,
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
    /// Share of the time of the fixed steps that it saves.
    time_saved: f64,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let backend = backend::Name::or_best(args.backend)?;
    args.precision.apply();
    let file = models::file(&args.checkpoint)?;
    let config = Header::read(&file)?.config()?;
    let limit = args.limit.map_or(usize::MAX, |n| n as usize);
    let told = Shape::of(config.seq_len, config.vocab_size, args.task);
    let data = data_path(&args)?;
    let (dataset, shape) = load(&data, limit, args.task.or(told.map(Shape::family)))?;
    fits(&config, &dataset).with_context(|| format!("{} and {}", file.display(), args.data.display()))?;
    let ratings = eval_tables::ratings(&data, limit, shape)?;
    let dataset = Arc::new(dataset);
    let report = backend.run(Evaluation { file: &file, dataset, shape, ratings, args: &args })?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report).context("cannot write JSON")?)?;
    } else {
        print(&mut out, &report, args.tables)?;
    }
    Ok(())
}

/// The puzzles that the arguments mean: a file, a dataset folder, or a part of one.
fn data_path(args: &Args) -> Result<PathBuf> {
    let Some(split) = &args.split else { return Ok(args.data.clone()) };
    let folder = args.data.join(split);
    if !folder.join("dataset.json").is_file() {
        bail!("--split {split}: expected a dataset in {}", folder.display());
    }
    Ok(folder)
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
        let asked: Vec<usize> = self.args.steps.iter().map(|n| *n as usize).collect();
        let last = asked.iter().copied().max().unwrap_or(0);
        let puzzles = Puzzles::of_rows(&self.dataset, self.shape, batch, 0);
        let (fixed, courses) = evaluate_courses(&model, puzzles, loss, (steps, last), device);
        let givens = eval_tables::givens(&self.dataset, self.shape);
        let tables = Tables::new(&courses, (steps, &asked), &givens, &self.ratings);
        let halting = if self.args.halt == Halt::Early {
            let options = InferOptions { max_steps, ..InferOptions::default() };
            let solver = Solver::new(&model, options)?;
            let mut halting = with_halting(&solver, &self.dataset, self.shape, batch)?;
            halting.time_saved = 1.0 - halting.seconds / fixed.seconds.max(f64::MIN_POSITIVE);
            Some(halting)
        } else {
            None
        };
        Ok(Report { checkpoint: self.file.to_owned(), fixed, tables, halting })
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
        time_saved: 0.0,
    })
}

fn print(out: &mut impl Write, report: &Report, all: bool) -> io::Result<()> {
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
    writeln!(out, "model            {}", models::shown(&report.checkpoint))?;
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
        let saved = percent(halting.time_saved);
        writeln!(out, "seconds          {:.2} (saves {saved} of the {seconds:.2})", halting.seconds)?;
    }
    report.tables.print(out, all)
}
