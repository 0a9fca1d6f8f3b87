//! `hrm runs`: which runs there are and how they compare.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_train::run::history::RunSummary;
use serde_json::{Value, json};
use toml::Table;

use crate::{
    models::shown,
    terminal::{bytes, percent},
};

/// How deep below the given folder runs are looked for.
const DEPTH: usize = 3;

/// List and compare the runs below a folder
///
/// Exact accuracy is that on the held-out puzzles. Below the list stands what differs between the recipes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm runs
  hrm runs runs --sort best
  hrm runs runs --json | jq '.[] | {path, best}'")]
pub struct Args {
    /// Folder with runs, or a run
    #[arg(value_name = "DIR", default_value = "runs")]
    folder: PathBuf,
    /// Order of the list
    #[arg(long, value_enum, default_value_t = Order::Name, value_name = "BY")]
    sort: Order,
    /// Print one JSON array instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// By folder
    Name,
    /// Highest exact accuracy first
    Best,
    /// Newest first
    Started,
}

/// A run with its recipe, by dotted key.
struct Run {
    summary: RunSummary,
    config: BTreeMap<String, toml::Value>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    if !args.folder.is_dir() {
        bail!("{}: no such folder; expected one with runs in it", args.folder.display());
    }
    let mut found = Vec::new();
    find(&args.folder, DEPTH, &mut found)?;
    if found.is_empty() {
        bail!("{}: no runs here; `hrm train` makes one", args.folder.display());
    }
    found.sort();
    let mut runs = found.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let exact = |run: &Run| run.summary.best.map_or(-1.0, |(_, exact)| exact);
    let started = |run: &Run| run.summary.sessions.first().map(|session| session.started.clone());
    match args.sort {
        Order::Name => {}
        Order::Best => runs.sort_by(|a, b| exact(b).total_cmp(&exact(a))),
        Order::Started => runs.sort_by_key(|run| std::cmp::Reverse(started(run))),
    }
    let mut out = io::stdout().lock();
    if args.json {
        let list: Vec<Value> = runs.iter().map(to_json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list).context("cannot write JSON")?)?;
        return Ok(());
    }
    let header =
        ["run", "state", "step", "best exact", "at", "last exact", "loss", "puzzles/s", "memory", "started"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(cells));
    print_table(&mut out, &rows)?;
    let differences = differences(&runs);
    if !differences.is_empty() {
        writeln!(out, "\nwhat differs between the recipes")?;
        let width = differences.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        for (key, values) in differences {
            let values: Vec<String> =
                values.into_iter().map(|(value, names)| format!("{value} ({})", names.join(", "))).collect();
            writeln!(out, "  {key:<width$}  {}", values.join("  "))?;
        }
    }
    Ok(())
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if RunSummary::is_run(folder) {
        found.push(folder.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        // Links are not followed: they may lead in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), depth - 1, found)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Run> {
    let file = path.join("config.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    // As it stands there: a run of another version may have keys that this one does not know.
    let table: Table = text.parse().with_context(|| file.display().to_string())?;
    let mut config = BTreeMap::new();
    for (section, values) in &table {
        for (name, value) in values.as_table().into_iter().flatten() {
            config.insert(format!("{section}.{name}"), value.clone());
        }
    }
    Ok(Run { summary: RunSummary::read(path)?, config })
}

fn cells(run: &Run) -> Vec<String> {
    let RunSummary { path, step, loss, best, last, examples_per_second, peak_memory, sessions, .. } =
        &run.summary;
    let dash = || "-".to_owned();
    let total = sessions.last().map_or(0, |session| session.total_steps);
    // 2026-11-24T15:02:00Z
    let started = sessions.first().map(|session| session.started.chars().take(16).collect::<String>());
    vec![
        shown(path),
        match run.summary.state() {
            "" => dash(),
            state => state.to_owned(),
        },
        if total > 0 { format!("{step}/{total}") } else { step.to_string() },
        best.map_or_else(dash, |(_, exact)| percent(exact)),
        best.map_or_else(dash, |(step, _)| step.to_string()),
        last.map_or_else(dash, percent),
        loss.map_or_else(dash, |loss| format!("{loss:.4}")),
        examples_per_second.map_or_else(dash, |speed| format!("{speed:.0}")),
        peak_memory.map_or_else(dash, bytes),
        started.map_or_else(dash, |started| started.replace('T', " ")),
    ]
}

/// Columns as wide as they need; the first two to the left, numbers to the right.
fn print_table(out: &mut impl Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// A key of the recipes with the runs that have each of its values.
type Difference = (String, Vec<(String, Vec<String>)>);

/// Keys of the recipes that do not have the same value in all runs.
fn differences(runs: &[Run]) -> Vec<Difference> {
    let mut keys: Vec<&String> = runs.iter().flat_map(|run| run.config.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut found = Vec::new();
    for key in keys.into_iter().filter(|key| *key != "train.stop_after") {
        let mut values: Vec<(String, Vec<String>)> = Vec::new();
        for run in runs {
            let value = run.config.get(key).map_or_else(|| "(absent)".to_owned(), toml::Value::to_string);
            let name = shown(&run.summary.path);
            match values.iter_mut().find(|(known, _)| *known == value) {
                Some((_, names)) => names.push(name),
                None => values.push((value, vec![name])),
            }
        }
        if values.len() > 1 {
            found.push((key.clone(), values));
        }
    }
    found
}

fn to_json(run: &Run) -> Value {
    let RunSummary {
        path,
        sessions,
        step,
        loss,
        best,
        last,
        examples_per_second,
        peak_memory,
        checkpoints,
        best_checkpoint,
    } = &run.summary;
    json!({
        "path": path.to_string_lossy(),
        "state": run.summary.state(),
        "step": step,
        "total_steps": sessions.last().map(|session| session.total_steps),
        "parameters": sessions.last().map(|session| session.parameters),
        "loss": loss,
        "best": best.map(|(step, exact)| json!({ "step": step, "exact_accuracy": exact })),
        "last_exact_accuracy": last,
        "examples_per_second": examples_per_second,
        "peak_memory": peak_memory,
        "checkpoints": checkpoints,
        "best_checkpoint": best_checkpoint,
        "sessions": sessions,
        "config": run.config,
    })
}
