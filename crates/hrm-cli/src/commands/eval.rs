//! `hrm eval`: how good a model is on a set of puzzles.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
};

use anyhow::{Context, Result, bail};
use hrm_data::render::{self, Chart, Picture, Scale, Series, charts};
use hrm_engine::{Engine, Weights};
use hrm_infer::{
    Axis, Curve, CurveLimits, InferOptions, InferenceReport, Rows, Selection,
    evaluate::{EvalReport, EvalSettings, Evaluation as HeldOut},
};
use hrm_model::loss::LossKind;
use serde::Serialize;

use super::{
    eval_data::{PuzzleArgs, Puzzles},
    eval_tables::{self, Tables},
};
use crate::{
    backend::ComputeArgs,
    choice::{Choice, one_of},
    infer::InferArgs,
    models::{self, Header},
    terminal::{Working, count, percent},
};

/// Measure a model on held-out puzzles
///
/// Every puzzle gets the same number of steps and the last one counts, as in the paper. With --halt early, puzzles also
/// run as `hrm solve` runs them: each until the model halts it, which leaves the batch to the others. With --vote, --restarts, --ensemble or --verify, only such
/// a run is measured. --curve shows what steps, votes and restarts are worth, each alone.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm eval --checkpoint runs/sudoku-4x4
  hrm eval --checkpoint runs/sudoku-4x4 --data datasets/sudoku-4x4
  hrm eval --checkpoint runs/arc-1 --vote 1000
  hrm eval --checkpoint sudoku-9x9 --data test.csv.gz --limit 1000 --json
  hrm eval --checkpoint runs/sudoku-4x4 --data datasets/sudoku-4x4 --split train --tables
  hrm eval --checkpoint runs/sudoku-4x4 --data datasets/sudoku-4x4 --steps 1,2,4,8,16,32,64 --halt early
  hrm eval --checkpoint runs/big --data test.csv.gz --restarts 32 --verify --fallback exact
  hrm eval --checkpoint runs/big --data test.csv.gz --limit 500 --curve=docs/curve --max-steps 64 --vote 16

A run means its best checkpoint where one is marked (checkpoints/best), its newest otherwise.
--data DIR takes DIR/test if it is there. Without it, the puzzles are those that the run's recipe holds out; the answers to
ARC tasks vote over their augmentations.

--curve[=PREFIX] prints a table and writes PREFIX.json, PREFIX.svg and PREFIX.png. It goes up to --max-steps (by default
four times the model's), --vote and --restarts (by default 8 each); 1 leaves an axis out.")]
pub struct Args {
    /// Model: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(long, short, value_name = "DIR|FILE", required_unless_present = "ensemble")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    puzzles: PuzzleArgs,
    /// Cross-entropy to report
    #[arg(long, value_parser = one_of(&LOSSES), default_value = "stablemax")]
    loss: LossKind,
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
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    infer: InferArgs,
}

/// Values of `--loss`.
const LOSSES: [Choice<LossKind>; 2] =
    [("stablemax", LossKind::Stablemax, ""), ("softmax", LossKind::Softmax, "")];

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Halt {
    /// After the same number of steps for all
    Fixed,
    /// Also measure with the model's own halting, and what it saves
    Early,
}

/// What is printed.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// The model's file, or the first of several.
    #[serde(serialize_with = "models::path_to_json")]
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
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Report(Box<Report>),
    Curve(Curve),
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let backend = args.compute.choose()?;
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
    let pictures = args.curve.as_deref().map(|prefix| curve_files(prefix, args.force)).transpose()?;
    let puzzles = {
        let _working = Working::on("reading the puzzles");
        args.puzzles.load(file.path(), &config, args.infer.vote)?
    };
    let closer = on_the_way || args.curve.is_some();
    let more = args.infer.scales_beyond_votes() || args.infer.select.is_some();
    if matches!(puzzles, Puzzles::Arc { .. }) && (closer || more) {
        bail!(
            "ARC tasks are answered by a vote over their augmentations after a fixed number of steps; of the options that \
             look closer or try more, --vote N (augmentations of each test) and --max-steps apply"
        );
    }
    let outcome = {
        let working = Working::on(match &puzzles {
            Puzzles::Rows { dataset, .. } => format!("measuring {}", count(dataset.groups(), "puzzle")),
            Puzzles::Arc { .. } => "measuring ARC tasks".to_owned(),
        });
        measure(backend.open(None)?.as_ref(), &files, puzzles, &args, &working.done)?
    };
    let mut out = io::stdout().lock();
    let json = serde_json::to_string_pretty(&outcome).context("cannot write JSON")?;
    if let (Outcome::Curve(curve), Some(files)) = (&outcome, &pictures) {
        let picture = curve_picture(curve);
        let contents = [json.clone().into_bytes(), picture.svg().into_bytes(), picture.png(2.0)?];
        for (file, bytes) in files.iter().zip(contents) {
            fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    match &outcome {
        _ if args.json => writeln!(out, "{json}")?,
        Outcome::Report(report) => print(&mut out, report, args.tables)?,
        Outcome::Curve(curve) => {
            print_curve(&mut out, curve)?;
            if let Some(files) = &pictures {
                let [json, svg, png] = files.each_ref().map(|file| file.display());
                writeln!(out, "\nwrote {json}, {svg}, {png}")?;
            }
        }
    }
    Ok(())
}

fn measure(
    engine: &dyn Engine,
    files: &[Weights],
    puzzles: Puzzles,
    args: &Args,
    done: &Arc<AtomicUsize>,
) -> Result<Outcome> {
    let shape = match &puzzles {
        Puzzles::Rows { shape, .. } => *shape,
        Puzzles::Arc { .. } => None,
    };
    let models = engine.load(files, shape)?;
    models::warn_not_finite(&*models);
    let options = args.infer.options();
    let trained_steps = models.configs()[0].halt_max_steps;
    let steps = options.max_steps.unwrap_or(trained_steps);
    let checkpoint = files.first().map(|file| file.path().to_owned()).unwrap_or_default();
    let (dataset, shape, ratings) = match puzzles {
        Puzzles::Rows { dataset, shape, ratings } => (dataset, shape, ratings),
        Puzzles::Arc { data, limit } => {
            let settings = EvalSettings { loss: args.loss, max_steps: steps, course_steps: 0 };
            let puzzles = data.evaluation(options.batch, limit).counted_by(Arc::clone(done));
            let (report, _) = models.evaluate(puzzles, settings);
            return Ok(Outcome::Report(Box::new(Report {
                checkpoint,
                fixed: Some(report),
                ..Report::default()
            })));
        }
    };
    if args.curve.is_some() {
        let limits = CurveLimits {
            steps: options.max_steps.unwrap_or(4 * trained_steps),
            votes: args.infer.vote.map_or(8, |n| n as usize),
            restarts: args.infer.restarts.map_or(8, |n| n as usize),
        };
        // The axis of steps goes further than the others, which run as the model was trained.
        let options = InferOptions { max_steps: None, ..options };
        let puzzles = hrm_infer::of_shape(shape, limits.votes, options.seed);
        let rows = Rows::of_dataset(&dataset);
        return Ok(Outcome::Curve(models.curve(puzzles.as_ref(), options, limits, &rows)?));
    }
    let puzzles = hrm_infer::of_shape(shape, options.votes, options.seed);
    let measured = |wanted: bool| -> Result<Option<InferenceReport>> {
        if !wanted {
            return Ok(None);
        }
        Ok(Some(models.measure(puzzles.as_ref(), options, &Rows::of_dataset(&dataset), done)?))
    };
    let scales = args.infer.scales();
    let fixed = (!scales).then(|| {
        let asked: Vec<usize> = args.steps.iter().map(|n| *n as usize).collect();
        let last = asked.iter().copied().max().unwrap_or(0);
        let puzzles = HeldOut::of_rows(&dataset, shape, options.batch, 0).counted_by(Arc::clone(done));
        let settings = EvalSettings { loss: args.loss, max_steps: steps, course_steps: last.max(steps) };
        let (report, courses) = models.evaluate(puzzles, settings);
        let givens = eval_tables::givens(&dataset, shape);
        (report, Tables::new(&courses, (steps, &asked), &givens, &ratings))
    });
    let (fixed, tables) = fixed.unzip();
    let (halting, inference) = (measured(args.halt == Halt::Early)?, measured(scales)?);
    let time_saved = match (&fixed, &halting) {
        (Some(fixed), Some(halting)) if fixed.seconds > 0.0 => Some(1.0 - halting.seconds / fixed.seconds),
        _ => None,
    };
    Ok(Outcome::Report(Box::new(Report { checkpoint, fixed, tables, halting, time_saved, inference })))
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
    writeln!(out, "wrong, but sure  {}", report.taken_for_right)?;
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

/// The files of a curve: `PREFIX.json`, `PREFIX.svg`, `PREFIX.png`.
fn curve_files(prefix: &Path, force: bool) -> Result<[PathBuf; 3]> {
    let files = ["json", "svg", "png"].map(|ending| {
        let mut name = prefix.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        PathBuf::from(name)
    });
    files.iter().try_for_each(|file| models::may_write(file, force))?;
    Ok(files)
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
    let panel = |title: &str, value: fn(&hrm_infer::CurvePoint) -> f64| Chart {
        title: title.to_owned(),
        x: render::Axis { label: "steps a puzzle".to_owned(), scale: Scale::Log, ..render::Axis::default() },
        y: render::Axis { percent: true, ..render::Axis::default() },
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
