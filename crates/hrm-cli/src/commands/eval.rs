//! `hrm eval`: how good a model is on a set of puzzles.

use std::{
    fs,
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
    render::{self, Chart, Picture, Scale, Series, charts},
    sudoku::{BuildOptions, RecordReader, dataset as build},
    task::{Family, Shape},
};
use hrm_model::{Hrm, ModelConfig, loss::LossKind};
use hrm_train::{
    data::Evaluation as Puzzles,
    evaluate::{EvalReport, evaluate_courses},
    infer::{self, Axis, Curve, CurveLimits, InferOptions, InferenceReport, Rows, Selection, Solver},
};
use serde::Serialize;

use super::eval_tables::{self, Tables};
use crate::{
    backend::{self, Job},
    infer::InferArgs,
    models::{self, Header},
    terminal::count,
};

/// Measure a model on held-out puzzles
///
/// Every puzzle gets the same number of steps and the last one counts, as in the paper. With --halt early, puzzles also
/// run as `hrm solve` runs them: each until the model halts it, which leaves the batch to the others. With --vote, --restarts, --ensemble or --verify, only such
/// a run is measured. --curve shows what steps, votes and restarts are worth, each alone.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm eval --checkpoint runs/sudoku-4x4 --data data/sudoku-4x4
  hrm eval --checkpoint checkpoints/sudoku-9x9 --data test.csv.gz --limit 1000 --json
  hrm eval --checkpoint runs/sudoku-4x4 --data data/sudoku-4x4 --split train --tables
  hrm eval --checkpoint runs/sudoku-4x4 --data data/sudoku-4x4 --steps 1,2,4,8,16,32,64 --halt early
  hrm eval --checkpoint runs/big --data test.csv.gz --restarts 32 --verify --fallback exact
  hrm eval --checkpoint runs/big --data test.csv.gz --limit 500 --curve=docs/curve --max-steps 64 --vote 16

A run means its best checkpoint where one is marked (checkpoints/best), its newest otherwise.
--data DIR takes DIR/test if it is there.

--curve[=PREFIX] prints a table and writes PREFIX.json, PREFIX.svg and PREFIX.png. It goes up to --max-steps (by default
four times the model's), --vote and --restarts (by default 8 each); 1 leaves an axis out.")]
pub struct Args {
    /// Model: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(long, short, value_name = "DIR|FILE", required_unless_present = "ensemble")]
    checkpoint: Option<PathBuf>,
    /// Puzzles: a dataset folder in the reference's format, or CSV source,question,answer,rating
    #[arg(long, short, value_name = "DIR|CSV")]
    data: PathBuf,
    /// What the puzzles are, where their size does not tell
    #[arg(long, value_name = "TASK")]
    task: Option<Family>,
    /// Only the first N puzzles
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
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
    /// Measure accuracy against compute instead
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, require_equals = true, default_missing_value = "curve")]
    curve: Option<PathBuf>,
    /// Let --curve replace files
    #[arg(long, requires = "curve")]
    force: bool,
    /// Where to compute [default: the fastest that is compiled in]
    #[arg(long, value_enum, value_name = "B")]
    backend: Option<backend::Name>,
    /// Operands of matrix products on the processor
    #[arg(long, value_enum, default_value_t, value_name = "P")]
    precision: backend::Precision,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    infer: InferArgs,
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
    files: &'a [PathBuf],
    dataset: Arc<Dataset>,
    shape: Option<Shape>,
    ratings: Vec<Option<f64>>,
    args: &'a Args,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// The model's file, or the first of several.
    checkpoint: PathBuf,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    fixed: Option<EvalReport>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    tables: Option<Tables>,
    /// With the model's own halting.
    #[serde(skip_serializing_if = "Option::is_none")]
    halting: Option<InferenceReport>,
    /// Share of the time of the fixed steps that halting saves.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_saved: Option<f64>,
    /// With votes, restarts, several checkpoints or verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    inference: Option<InferenceReport>,
}

/// What an evaluation gives.
enum Outcome {
    Report(Box<Report>),
    Curve(Curve),
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let backend = backend::Name::or_best(args.backend)?;
    args.precision.apply();
    let on_the_way = !args.steps.is_empty() || args.tables || args.halt == Halt::Early;
    if on_the_way && (args.curve.is_some() || args.infer.scales()) {
        bail!(
            "--steps, --tables and --halt early look at single runs of one model; leave them out, or --curve and the \
             options that try several times"
        );
    }
    let files = args.infer.checkpoints(args.checkpoint.as_deref())?;
    let Some(file) = files.first() else { bail!("expected a checkpoint") };
    let config = Header::read(file)?.config()?;
    let pictures = args.curve.as_deref().map(|prefix| CurveFiles::new(prefix, args.force)).transpose()?;
    let limit = args.limit.map_or(usize::MAX, |n| n as usize);
    let told = Shape::of(config.seq_len, config.vocab_size, args.task);
    let data = data_path(&args)?;
    let (dataset, shape) = load(&data, limit, args.task.or(told.map(Shape::family)))?;
    fits(&config, &dataset).with_context(|| format!("{} and {}", file.display(), args.data.display()))?;
    let dataset = Arc::new(dataset);
    let ratings = eval_tables::ratings(&data, limit, shape)?;
    let outcome = backend.run(Evaluation { files: &files, dataset, shape, ratings, args: &args })?;
    let mut out = io::stdout().lock();
    let json = match &outcome {
        Outcome::Report(report) => serde_json::to_string_pretty(report),
        Outcome::Curve(curve) => serde_json::to_string_pretty(curve),
    }
    .context("cannot write JSON")?;
    if let (Outcome::Curve(curve), Some(files)) = (&outcome, &pictures) {
        files.write(&json, &curve_picture(curve))?;
    }
    match &outcome {
        _ if args.json => writeln!(out, "{json}")?,
        Outcome::Report(report) => print(&mut out, report, args.tables)?,
        Outcome::Curve(curve) => {
            print_curve(&mut out, curve)?;
            if let Some(files) = &pictures {
                writeln!(out, "\nwrote {files}")?;
            }
        }
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
    type Output = Outcome;

    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<Outcome> {
        let Self { files, dataset, shape, ratings, args } = self;
        let loaded = files
            .iter()
            .map(|file| models::load(file, device))
            .collect::<Result<Vec<Hrm<<A as AutodiffBackend>::InnerBackend>>>>()?;
        let models: Vec<&Hrm<_>> = loaded.iter().collect();
        let Some(model) = models.first() else { bail!("expected a checkpoint") };
        let options = args.infer.options();
        let trained_steps = model.config().halt_max_steps;
        if args.curve.is_some() {
            let limits = CurveLimits {
                steps: options.max_steps.unwrap_or(4 * trained_steps),
                votes: args.infer.vote.map_or(8, |n| n as usize),
                restarts: args.infer.restarts.map_or(8, |n| n as usize),
            };
            // The axis of steps goes further than the others, which run as the model was trained.
            let options = InferOptions { max_steps: None, ..options };
            let puzzles = infer::of_shape(shape, limits.votes, options.seed);
            let rows = Rows::of_dataset(&dataset);
            return Ok(Outcome::Curve(infer::curve(&models, puzzles.as_ref(), options, limits, &rows)?));
        }
        let puzzles = infer::of_shape(shape, options.votes, options.seed);
        let measured = |wanted: bool| -> Result<Option<InferenceReport>> {
            if !wanted {
                return Ok(None);
            }
            let solver = Solver::new(&models, puzzles.as_ref(), options)?;
            Ok(Some(infer::measure(&solver, puzzles.as_ref(), &Rows::of_dataset(&dataset))?))
        };
        let scales = args.infer.scales();
        let fixed = (!scales).then(|| {
            let loss = match args.loss {
                Loss::Stablemax => LossKind::Stablemax,
                Loss::Softmax => LossKind::Softmax,
            };
            let steps = options.max_steps.unwrap_or(trained_steps);
            let asked: Vec<usize> = args.steps.iter().map(|n| *n as usize).collect();
            let last = asked.iter().copied().max().unwrap_or(0);
            let puzzles = Puzzles::of_rows(&dataset, shape, options.batch, 0);
            let (report, courses) = evaluate_courses(model, puzzles, loss, (steps, last), device);
            let givens = eval_tables::givens(&dataset, shape);
            (report, Tables::new(&courses, (steps, &asked), &givens, &ratings))
        });
        let (fixed, tables) = fixed.unzip();
        let (halting, inference) = (measured(args.halt == Halt::Early)?, measured(scales)?);
        let time_saved = match (&fixed, &halting) {
            (Some(fixed), Some(halting)) if fixed.seconds > 0.0 => {
                Some(1.0 - halting.seconds / fixed.seconds)
            }
            _ => None,
        };
        let checkpoint = files.first().cloned().unwrap_or_default();
        Ok(Outcome::Report(Box::new(Report { checkpoint, fixed, tables, halting, time_saved, inference })))
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn print(out: &mut impl Write, report: &Report, all: bool) -> io::Result<()> {
    writeln!(out, "model            {}", models::shown(&report.checkpoint))?;
    if let Some(fixed) = &report.fixed {
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
        } = fixed;
        writeln!(out, "puzzles          {examples}")?;
        writeln!(out, "exact accuracy   {}", percent(*exact_accuracy))?;
        for (name, share) in task.rows() {
            writeln!(out, "{name:<16} {}", percent(share))?;
        }
        writeln!(out, "token accuracy   {}", percent(*token_accuracy))?;
        writeln!(out, "q-halt accuracy  {}", percent(*q_halt_accuracy))?;
        writeln!(out, "loss             {lm_loss:.4} (cells), {q_halt_loss:.4} (halting)")?;
        writeln!(out, "mean steps       {mean_steps:.1}")?;
        writeln!(out, "seconds          {seconds:.2}")?;
    }
    if let Some(halting) = &report.halting {
        writeln!(out, "\nwith the model's own halting")?;
        print_inference(out, halting)?;
        if let Some(saved) = report.time_saved {
            writeln!(out, "time saved       {}", percent(saved))?;
        }
    }
    if let Some(inference) = &report.inference {
        writeln!(out, "puzzles          {}", inference.examples)?;
        print_inference(out, inference)?;
        writeln!(out, "answers          {}", inference.sources)?;
        if inference.sources.searched > 0 {
            let per_search = |guesses: u64| guesses as f64 / inference.sources.searched as f64;
            writeln!(
                out,
                "guesses          {:.2} a search, without the model's beliefs {:.2}",
                per_search(inference.guesses),
                per_search(inference.guesses_without_model)
            )?;
        }
    }
    match &report.tables {
        Some(tables) => tables.print(out, all),
        None => Ok(()),
    }
}

fn print_inference(out: &mut impl Write, report: &InferenceReport) -> io::Result<()> {
    writeln!(out, "exact accuracy   {}", percent(report.exact_accuracy))?;
    if let Some(valid) = report.valid {
        writeln!(out, "valid answers    {}", percent(valid))?;
    }
    writeln!(out, "mean steps       {:.1}", report.mean_steps)?;
    if report.mean_attempts > 1.0 {
        writeln!(
            out,
            "mean work        {:.1} steps in {:.1} attempts",
            report.mean_segments, report.mean_attempts
        )?;
    }
    writeln!(out, "seconds          {:.2}", report.seconds)
}

/// Where a curve goes.
struct CurveFiles {
    json: PathBuf,
    svg: PathBuf,
    png: PathBuf,
}

impl CurveFiles {
    /// Files that may be written, checked before the long work.
    fn new(prefix: &Path, force: bool) -> Result<Self> {
        let with = |ending: &str| {
            let mut name = prefix.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let files = Self { json: with(".json"), svg: with(".svg"), png: with(".png") };
        for path in [&files.json, &files.svg, &files.png] {
            models::may_write(path, force)?;
        }
        Ok(files)
    }

    fn write(&self, json: &str, picture: &Picture) -> Result<()> {
        let png = picture.png(2.0)?;
        for (path, bytes) in
            [(&self.json, json.as_bytes()), (&self.svg, picture.svg().as_bytes()), (&self.png, &png)]
        {
            fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for CurveFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {}", self.json.display(), self.svg.display(), self.png.display())
    }
}

const fn rule_name(rule: Selection) -> &'static str {
    match rule {
        Selection::Votes => "by votes",
        Selection::BestQ => "by q",
        Selection::FirstToHalt => "first to halt",
    }
}

fn series_name(axis: Axis, select: Option<Selection>) -> String {
    match select {
        Some(Selection::Votes) if axis == Axis::Votes => axis.name().to_owned(),
        Some(rule) => format!("{} {}", axis.name(), rule_name(rule)),
        None => axis.name().to_owned(),
    }
}

fn print_curve(out: &mut impl Write, curve: &Curve) -> io::Result<()> {
    writeln!(out, "{}, {:.1} s", count(curve.examples, "puzzle"), curve.seconds)?;
    for series in &curve.series {
        writeln!(out, "\n{}", series_name(series.axis, series.select))?;
        writeln!(
            out,
            "{:>6} {:>14} {:>9} {:>9} {:>9}",
            "at", "steps a puzzle", "exact", "valid", "any right"
        )?;
        for point in &series.points {
            writeln!(
                out,
                "{:>6} {:>14.1} {:>9} {:>9} {:>9}",
                point.at,
                point.segments,
                percent(point.exact),
                point.valid.map_or_else(|| "-".to_owned(), percent),
                percent(point.any)
            )?;
        }
    }
    Ok(())
}

/// Two panels over the steps that a puzzle takes: what is chosen, and what verification would find.
fn curve_picture(curve: &Curve) -> Picture {
    let panel = |title: &str, value: fn(&infer::CurvePoint) -> f64| Chart {
        title: title.to_owned(),
        x: render::Axis {
            label: "steps a puzzle".to_owned(),
            scale: Scale::Log,
            range: None,
            percent: false,
        },
        y: render::Axis { label: String::new(), scale: Scale::Linear, range: None, percent: true },
        series: curve
            .series
            .iter()
            .zip(Series::COLOURS)
            .map(|(series, colour)| Series {
                name: series_name(series.axis, series.select),
                colour,
                trace: render::Trace::Marked,
                points: series.points.iter().map(|point| (point.segments, value(point))).collect(),
            })
            .collect(),
    };
    let exact = panel("right answers chosen", |point| point.valid.unwrap_or(point.exact));
    let any = panel("any answer right (with --verify)", |point| point.any);
    charts(&format!("accuracy against compute, {}", count(curve.examples, "puzzle")), &[exact, any], 2)
}
