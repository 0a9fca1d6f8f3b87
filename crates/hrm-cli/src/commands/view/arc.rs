//! The data of a page about ARC tasks.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, bail};
use hrm_data::{
    grid::Grid,
    puzzles::arc::{self, ArcTask, Baseline, Candidate, Check, Pair, Score, Solutions, Submission, Voting},
};
use serde_json::{Value, json};

use super::Args;
use crate::{commands::arc::Lines, terminal::count};

/// Answers of a vote that are shown.
const SHOWN: usize = 8;

/// Describes the tasks and what was answered.
pub fn data(args: &Args) -> Result<Value> {
    let shown = args.source.display();
    let Some(path) = &args.puzzles.data else {
        bail!("{shown}: give the tasks, for demonstrations and truth, with --data TASKS.json");
    };
    let tasks = arc::load(path)?;
    let mut voting = Voting::new(&tasks);
    let mut lines: HashMap<String, Value> = HashMap::new();
    let submission = if args.source.extension().is_some_and(|ending| ending == "jsonl") {
        let mut journal = Lines::open(&args.source)?;
        while let Some((task, line)) = journal.next_task()? {
            lines.insert(task, line);
        }
        for (index, task) in tasks.iter().enumerate() {
            if let Some(line) = lines.get(&task.id) {
                let told = |why: String| anyhow!("{shown}, task {}: {why}", task.id);
                voting.merge(index, &line["ballots"]).map_err(told)?;
            }
        }
        if !tasks.iter().any(|task| lines.contains_key(&task.id)) {
            bail!("{shown} has votes on none of the {} of {}", count(tasks.len(), "task"), path.display());
        }
        voting.submission(Some(Baseline::Transform))
    } else {
        // Of tasks whose truth is unknown, only the names and numbers of tests can be checked.
        let known: Vec<ArcTask> = tasks
            .iter()
            .cloned()
            .map(|mut task| {
                task.test
                    .iter_mut()
                    .for_each(|pair| pair.output = pair.output.take().or(Some(Grid::default())));
                task
            })
            .collect();
        Submission::load(&args.source, &Solutions::of_tasks(path, &known)?, Check::Lenient)?
    };
    let items: Vec<Value> = tasks
        .iter()
        .enumerate()
        .filter(|(_, task)| submission.of(&task.id).is_some())
        .map(|(index, task)| item(task, index, &voting, &submission, lines.get(&task.id)))
        .collect();
    let score = score(&tasks, path, &submission).context("score")?;
    let about = match score {
        Some(score) => format!(
            "{shown}: score {:.1} % +- {:.1}, {} of {} solved",
            100.0 * score.mean(),
            100.0 * score.standard_error(),
            score.solved(),
            count(score.tasks.len(), "task")
        ),
        None => shown.to_string(),
    };
    Ok(json!({
        "kind": "arc",
        "title": format!("ARC: {}", count(items.len(), "task")),
        "about": about,
        "difficulty": "cells of the largest grid",
        "items": items,
    }))
}

/// What the submission scores, if the truth is known.
fn score(tasks: &[ArcTask], path: &std::path::Path, submission: &Submission) -> Result<Option<Score>> {
    let known = tasks.iter().flat_map(|task| &task.test).all(|pair| pair.output.is_some());
    Ok(if known { Some(submission.score(&Solutions::of_tasks(path, tasks)?)) } else { None })
}

/// Rows of digits, apart by slashes.
fn text(grid: &Grid) -> String {
    let row = |row: &[u8]| row.iter().map(|&colour| char::from(b'0' + colour.min(9))).collect::<String>();
    grid.iter_rows().map(row).collect::<Vec<_>>().join("/")
}

fn text_of_json(grid: &Value) -> String {
    let row = |row: &Value| {
        row.as_array().into_iter().flatten().map(|colour| colour.to_string()).collect::<String>()
    };
    grid.as_array().into_iter().flatten().map(row).collect::<Vec<_>>().join("/")
}

fn item(
    task: &ArcTask,
    index: usize,
    voting: &Voting,
    submission: &Submission,
    line: Option<&Value>,
) -> Value {
    let tests = submission.of(&task.id).unwrap_or_default();
    let right = |(test, pair): (usize, &Pair)| {
        let output = pair.output.as_ref()?;
        Some(tests.get(test).is_some_and(|attempts| attempts.iter().flatten().any(|grid| grid == output)))
    };
    let verdicts: Vec<Option<bool>> = task.test.iter().enumerate().map(right).collect();
    let state = match () {
        () if verdicts.contains(&Some(false)) => "wrong",
        () if verdicts.contains(&None) => "undecided",
        () => "solved",
    };
    let described = |(test, pair): (usize, &Pair)| {
        let ranking = voting.ranking(index, test);
        let votes = |grid: &Grid| ranking.iter().find(|c| c.grid == *grid).map_or(0, |c| c.votes);
        let attempt = |grid: &Grid| json!({ "grid": text(grid), "votes": votes(grid) });
        let candidate = |c: &Candidate| json!({ "grid": text(&c.grid), "votes": c.votes, "q": c.mean_q });
        let thoughts = line.and_then(|line| line["thoughts"][test].as_array()).map_or(&[][..], Vec::as_slice);
        let step =
            |thought: &Value| json!({ "grid": text_of_json(&thought["grid"]), "q": thought["q_halt"] });
        json!({
            "input": text(&pair.input),
            "output": pair.output.as_ref().map(text),
            "attempts": tests.get(test).into_iter().flatten().flatten().map(attempt).collect::<Vec<_>>(),
            "answers": ranking.len(),
            "votes": ranking.iter().take(SHOWN).map(candidate).collect::<Vec<_>>(),
            "steps": thoughts.iter().map(step).collect::<Vec<_>>(),
        })
    };
    let pair = |pair: &Pair| json!({ "input": text(&pair.input), "output": pair.output.as_ref().map(text) });
    json!({
        "name": task.id,
        "state": state,
        "difficulty": task.grids().map(|grid| grid.cells().len()).max(),
        "note": line.map(|line| line["note"].clone()),
        "train": task.train.iter().map(pair).collect::<Vec<_>>(),
        "tests": task.test.iter().enumerate().map(described).collect::<Vec<_>>(),
    })
}
