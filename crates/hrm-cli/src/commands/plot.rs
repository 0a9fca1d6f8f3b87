//! `hrm plot`: the measurements of runs as curves.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_train::run::{
    curves::{self, CurveOptions, DEFAULT_METRICS},
    history::{History, Over},
};

use crate::{
    choice::{Choice, one_of},
    models::shown,
};

/// Draw the curves of one or more runs over one another
///
/// Thin lines are training (means of a stretch of steps), lines with dots are held-out puzzles.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm plot runs/sudoku-4x4                                  curves.svg and curves.png in the run's folder
  hrm plot runs/small runs/large --over hours               both over one another, in this folder
  hrm plot runs/* --metric exact_accuracy --out exact.png
  hrm plot runs/small --list                                what was measured")]
pub struct Args {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// What to draw, a panel for each: a name such as lm_loss, or one of several of that name such as train/lm_loss
    /// (repeatable) [default: loss, exact_accuracy, mean_steps, q_halt_accuracy]
    #[arg(long, short, value_name = "NAME")]
    metric: Vec<String>,
    /// The horizontal axis
    #[arg(long, value_parser = one_of(&AXES), default_value = "step", value_name = "AXIS")]
    over: Over,
    /// Points of a training curve at most; fewer are smoother
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..))]
    points: u32,
    /// What stands above [default: the run's name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Picture to write, .svg or .png (repeatable) [default: curves.svg and curves.png, in the folder of the run if it
    /// is one, else in this folder]
    #[arg(long, short, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Only list what was measured
    #[arg(long)]
    list: bool,
}

/// What curves may be drawn over.
const AXES: [Choice<Over>; 3] = [
    ("step", Over::Step, "Training steps"),
    ("epoch", Over::Epoch, "Passes over the training puzzles"),
    ("hours", Over::Hours, "Hours of training"),
];

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let names = names(&args.runs);
    let mut runs = Vec::new();
    for (path, name) in args.runs.iter().zip(names) {
        let history = History::read(path)
            .with_context(|| format!("{}: no measurements of a run here", path.display()))?;
        runs.push((name, history));
    }
    let mut out = io::stdout().lock();
    let mut tags: Vec<String> = runs.iter().flat_map(|(_, history)| history.tags()).collect();
    tags.sort();
    tags.dedup();
    if args.list {
        for tag in tags {
            writeln!(out, "{tag}")?;
        }
        return Ok(());
    }
    let missing = args.metric.iter().find(|metric| {
        let is_it = |tag: &String| tag == *metric || tag.rsplit('/').next() == Some(metric.as_str());
        !tags.iter().any(is_it)
    });
    if let Some(missing) = missing {
        bail!("--metric {missing}: not measured; there are: {}", tags.join(", "));
    }
    let title = match (&args.title, runs.as_slice()) {
        (Some(title), _) => title.clone(),
        (None, [(name, _)]) => name.clone(),
        (None, _) => String::new(),
    };
    let options = CurveOptions { metrics: args.metric, over: args.over, points: args.points as usize, title };
    let Some(picture) = curves::picture(&runs, &options) else {
        let names = DEFAULT_METRICS.map(|(name, _)| name).join(", ");
        bail!("nothing to draw yet: the runs have none of {names}");
    };
    let files = match (args.out.is_empty(), args.runs.as_slice()) {
        (false, _) => args.out,
        (true, [run]) => vec![run.join("curves.svg"), run.join("curves.png")],
        (true, _) => vec!["curves.svg".into(), "curves.png".into()],
    };
    for file in files {
        let bytes = match file.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => picture.svg().into_bytes(),
            Some("png") => picture.png(2.0).with_context(|| file.display().to_string())?,
            _ => bail!("--out {}: expected a file ending in .svg or .png", file.display()),
        };
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        writeln!(out, "{}", shown(&file))?;
    }
    Ok(())
}

/// What the legend calls runs: the names of their folders, or the paths where two names are the same.
fn names(runs: &[PathBuf]) -> Vec<String> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let names: Vec<String> =
        runs.iter().map(|path| name(path).unwrap_or_else(|| path.display().to_string())).collect();
    let is_twice = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
    names
        .iter()
        .zip(runs)
        .map(|(name, path)| if is_twice(name) { path.display().to_string() } else { name.clone() })
        .collect()
}
