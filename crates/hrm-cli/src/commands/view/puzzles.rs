//! The data of a page about puzzles that are judged one by one.

use anyhow::{Result, bail};
use hrm_data::{dataset::Dataset, registry::Shape, task::AnyTask};
use hrm_infer::{Answer, Halting, InferOptions, Query, Thought};
use serde_json::{Value, json};

use super::Args;
use crate::{
    commands::eval_data::Puzzles,
    models::{self, Header},
    terminal::count,
};

/// Puzzles shown, unless --limit says how many.
const USUAL: usize = 100;

/// Solves the puzzles and describes them.
pub fn data(args: &Args) -> Result<Value> {
    let file = models::file(&args.source)?;
    let config = Header::read(&file)?.config()?;
    let (dataset, shape, ratings) = match args.puzzles.load(file.path(), &config, None)? {
        Puzzles::Rows { dataset, shape: Some(shape), ratings } => (dataset, shape, ratings),
        Puzzles::Rows { shape: None, .. } => {
            bail!("the sizes of the puzzles do not tell what they are; say so with --task")
        }
        Puzzles::Arc { .. } => bail!(
            "ARC tasks are answered by `hrm arc predict TASKS --checkpoint {}`; show its votes: hrm view submission.votes.jsonl",
            models::told(&file)
        ),
    };
    let shown = if args.puzzles.has_limit() { usize::MAX } else { USUAL };
    let rows: Vec<(Vec<u8>, Vec<u8>, u32)> = rows(&dataset).take(shown).collect();
    let models = args.compute.choose()?.open(None)?.load(std::slice::from_ref(&file), Some(shape))?;
    models::warn_not_finite(&*models);
    let options = InferOptions {
        max_steps: args.max_steps.map(|steps| steps as usize),
        halting: if args.all_steps { Halting::AtLastStep } else { Halting::Learned },
        keep_thoughts: true,
        keep_certainty: true,
        ..InferOptions::default()
    };
    let puzzles = hrm_infer::of_shape(Some(shape), 1, 0);
    let queries: Vec<Query> = rows
        .iter()
        .map(|(tokens, _, identifier)| Query { tokens: tokens.clone(), identifier: *identifier })
        .collect();
    let mut answers: Vec<Option<Answer>> = vec![None; queries.len()];
    models.solve_each(&*puzzles, options, &queries, &mut |index, answer| answers[index] = Some(answer))?;
    let task = shape.task();
    let rated = ratings.iter().any(Option::is_some);
    let items: Vec<Value> = rows
        .iter()
        .zip(answers)
        .enumerate()
        .map(|(index, ((input, label, _), answer))| {
            let given = || task.givens(input).map(|givens| givens as f64);
            let difficulty = if rated { ratings.get(index).copied().flatten() } else { given() };
            item(&task, index, (input, label), answer.as_ref(), difficulty)
        })
        .collect();
    let (rows, cols) = shape.size().unwrap_or_else(|| square(shape));
    Ok(json!({
        "kind": "puzzle",
        "title": format!("{shape}: {}", count(items.len(), "puzzle")),
        "about": models::told(&file),
        "rows": rows,
        "cols": cols,
        "boxes": boxes(shape),
        "blank": ".0",
        "difficulty": if rated { "rating" } else { "givens" },
        "items": items,
    }))
}

fn square(shape: Shape) -> (usize, usize) {
    let side = shape.tokens().0.isqrt();
    (side, side)
}

/// Rows and columns of a box, of puzzles that have boxes.
fn boxes(shape: Shape) -> Option<(usize, usize)> {
    match shape {
        Shape::Sudoku(task) => Some((task.geometry.box_rows(), task.geometry.box_cols())),
        Shape::Killer(task) => Some((task.geometry().box_rows(), task.geometry().box_cols())),
        Shape::Samurai(_) => Some((3, 3)),
        _ => None,
    }
}

fn rows(dataset: &Dataset) -> impl Iterator<Item = (Vec<u8>, Vec<u8>, u32)> + '_ {
    dataset.sets().iter().flat_map(|set| {
        (0..set.examples()).map(|example| {
            let identifier = set.puzzle_identifiers().get(set.puzzle_of(example)).copied().unwrap_or(0);
            (set.input(example).to_vec(), set.label(example).to_vec(), identifier)
        })
    })
}

/// One character for each cell; blanks where the task has no such text.
fn cells(task: &AnyTask, input: &[u8], answer: &[u8]) -> String {
    let text: String =
        task.answer_line(input, answer).unwrap_or_default().chars().filter(|c| !"/\n".contains(*c)).collect();
    let text: String = text.chars().map(|c| if c == ' ' { '.' } else { c }).collect();
    if text.chars().count() == input.len() { text } else { ".".repeat(input.len()) }
}

fn item(
    task: &AnyTask,
    index: usize,
    (input, label): (&[u8], &[u8]),
    answer: Option<&Answer>,
    difficulty: Option<f64>,
) -> Value {
    let step = |thought: &Thought| {
        let digit = |chance: &f32| char::from_digit((chance * 15.0).round() as u32, 16).unwrap_or('0');
        let sure: String = thought.certainty.iter().map(digit).collect();
        json!({
            "cells": cells(task, input, &thought.tokens),
            "sure": (!sure.is_empty()).then_some(sure),
            "q": thought.halt_probability(),
        })
    };
    let halted = answer.is_some_and(|answer| answer.trace.halted);
    let right = answer.is_some_and(|answer| task.verify(input, &answer.tokens).is_ok());
    let state = match (right, halted) {
        (true, _) => "solved",
        (false, true) => "wrong",
        (false, false) => "undecided",
    };
    let thoughts = answer.map_or(&[][..], |answer| &answer.trace.thoughts);
    // Where several answers are right, the stated one marks no faults.
    let stated = (!task.wants_the_best() || !right).then(|| cells(task, input, label));
    json!({
        "name": format!("puzzle {}", index + 1),
        "state": state,
        "difficulty": difficulty,
        "input": cells(task, input, input),
        "answer": stated,
        "halted": halted,
        "steps": thoughts.iter().map(step).collect::<Vec<_>>(),
    })
}
