//! `hrm arc solve`

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use hrm_data::{
    puzzles::arc::{self, ArcTask, Baseline, Pair, Voting, draw},
    render::Style,
};
use serde_json::{Value, json};

use super::predictor::{Group, Predictor, PredictorArgs, thoughts_json};
use crate::{
    models,
    terminal::{self, count},
};

/// Answer any task: two attempts for each of its tests
///
/// A task that the model was not trained on, or whose name it does not know, needs --adapt-steps: the model gets a row of the
/// puzzle embedding for it and trains on its demonstrations. If the file has the outputs of the tests, they are only looked at
/// to say whether the answers are right.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm arc solve 007bbfb7.json --checkpoint runs/arc-1 --votes 100
  hrm arc solve mine.json --checkpoint runs/arc-1 --adapt-steps 300 --leave-one-out
  hrm arc solve tasks/ --checkpoint runs/arc-1 --json")]
pub struct Args {
    /// Files of tasks, or folders
    #[arg(required = true, value_name = "TASK")]
    tasks: Vec<PathBuf>,
    /// Model: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(long, short, value_name = "DIR|FILE")]
    checkpoint: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Digits instead of colours
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    predictor: PredictorArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let mut tasks: Vec<ArcTask> = Vec::new();
    for path in &args.tasks {
        tasks.extend(arc::load(path)?);
    }
    let mut hidden = tasks.clone();
    hidden.iter_mut().flat_map(|task| &mut task.test).for_each(|pair| pair.output = None);
    let (predictor, file) = Predictor::load(&args.checkpoint, &args.predictor)?;
    let mut voting = Voting::new(&hidden);
    let style = terminal::stdout_style(args.plain);
    let mut out = io::stdout().lock();
    let (mut all, mut right, mut judged) = (Vec::new(), 0, 0);
    let size = args.predictor.group as usize;
    for (number, group) in hidden.chunks(size).enumerate() {
        let first = number * size;
        let Group { outcomes, report, .. } = predictor.answer(group, &mut voting, first, None)?;
        let submission = voting.submission(Some(Baseline::Transform));
        for (index, outcome) in outcomes.iter().enumerate() {
            let task = &tasks[first + index];
            let mut tests = Vec::new();
            if !args.json {
                writeln!(out, "{}", draw::task(&ArcTask { test: Vec::new(), ..task.clone() }, style))?;
                if let Some(note) = &outcome.note {
                    writeln!(out, "note: {note}\n")?;
                }
            }
            for (test, pair) in task.test.iter().enumerate() {
                let ranking = voting.ranking(first + index, test);
                let attempts =
                    submission.of(&task.id).and_then(|tests| tests.get(test)).cloned().unwrap_or_default();
                let is_right =
                    pair.output.as_ref().map(|output| attempts.iter().flatten().any(|a| a == output));
                judged += usize::from(is_right.is_some());
                right += usize::from(is_right == Some(true));
                let votes = |grid: &hrm_data::grid::Grid| {
                    ranking
                        .iter()
                        .find(|candidate| candidate.grid == *grid)
                        .map_or(0, |candidate| candidate.votes)
                };
                let json_of = |grid: &hrm_data::grid::Grid| {
                    json!({
                        "grid": grid.iter_rows().map(Value::from).collect::<Vec<_>>(),
                        "votes": votes(grid),
                        "right": pair.output.as_ref().map(|output| output == grid),
                    })
                };
                tests.push(json!({
                    "attempts": attempts.iter().flatten().map(json_of).collect::<Vec<_>>(),
                    "answers": ranking.len(),
                    "right": is_right,
                }));
                if !args.json {
                    print_test(&mut out, style, test, pair, &attempts, &votes)?;
                }
            }
            all.push(json!({
                "task": task.id,
                "tests": tests,
                "thoughts": thoughts_json(outcome),
                "note": outcome.note,
                "adapted": report,
            }));
        }
    }
    if args.json {
        let text = serde_json::to_string_pretty(&json!({ "model": file.to_string(), "tasks": all }));
        writeln!(out, "{}", text.context("cannot write JSON")?)?;
    } else if judged > 0 {
        writeln!(out, "{right} of {} right, model {}", count(judged, "test"), models::told(&file))?;
    }
    Ok(())
}

fn print_test(
    out: &mut impl Write,
    style: Style,
    test: usize,
    pair: &Pair,
    attempts: &[Option<hrm_data::grid::Grid>],
    votes: &dyn Fn(&hrm_data::grid::Grid) -> usize,
) -> io::Result<()> {
    let mut panels =
        vec![terminal::Panel { title: format!("test {}", test + 1), body: draw::grid(&pair.input, style) }];
    for (index, grid) in attempts.iter().enumerate() {
        let Some(grid) = grid else { continue };
        let verdict = match &pair.output {
            Some(output) if output == grid => ", right",
            Some(_) => ", wrong",
            None => "",
        };
        let votes = match votes(grid) {
            0 => "guessed".to_owned(),
            votes => count(votes, "vote"),
        };
        let title = format!("attempt {} ({votes}{verdict})", index + 1);
        panels.push(terminal::Panel { title, body: draw::grid(grid, style) });
    }
    writeln!(out, "{}\n", terminal::side_by_side(&panels, terminal::width()))
}
