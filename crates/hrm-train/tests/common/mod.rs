//! A tiny run for tests of the trainer.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use hrm_train::{
    recipe::ResolvedRecipe,
    trainer::{EvalRow, Observer, StepReport, TrainError, TrainOptions, TrainSummary, train},
};
use serde_json::Value;

/// 4x4 Sudoku, a dozen steps.
const TINY: &[&str] = &[
    "data.box_rows=2",
    "data.box_cols=2",
    "data.train_examples=40",
    "data.test_examples=10",
    "data.min_clues=5",
    "data.max_clues=8",
    "model.hidden_size=32",
    "model.num_heads=2",
    "model.h_layers=1",
    "model.l_layers=1",
    "model.puzzle_emb_ndim=32",
    "model.halt_max_steps=4",
    "model.halt_exploration_prob=0.5",
    "train.global_batch_size=8",
    "train.max_steps=12",
    "train.lr=1e-3",
    "train.lr_warmup_steps=4",
    "train.checkpoint_interval=3",
    "eval.interval=4",
    "eval.batch_size=10",
];

/// The tiny recipe with other values on top.
pub fn recipe(extra: &[&str]) -> ResolvedRecipe {
    let sets: Vec<String> = TINY.iter().chain(extra).map(|s| (*s).to_owned()).collect();
    ResolvedRecipe::load(None, &sets).unwrap()
}

/// What a run told, in order.
#[derive(Default)]
struct Listener {
    messages: Vec<String>,
    /// `step N` and `evaluation N`
    rows: Vec<String>,
}

impl Observer for Listener {
    fn on_step(&mut self, step: &StepReport) {
        self.rows.push(format!("step {}", step.step));
    }

    fn on_eval(&mut self, eval: &EvalRow) {
        self.rows.push(format!("evaluation {}", eval.step));
    }

    fn on_message(&mut self, message: &str) {
        self.messages.push(message.to_owned());
    }
}

/// Runs a recipe in a folder; gives how it ended and what it said.
pub fn run(
    dir: &Path,
    recipe: ResolvedRecipe,
    resume: bool,
) -> (Result<TrainSummary, TrainError>, Vec<String>) {
    let (result, listener) = listen(dir, recipe, resume);
    (result, listener.messages)
}

/// As [`run`]; gives the rows, `step N` and `evaluation N`, in the order in which they came.
pub fn run_for_rows(
    dir: &Path,
    recipe: ResolvedRecipe,
    resume: bool,
) -> (Result<TrainSummary, TrainError>, Vec<String>) {
    let (result, listener) = listen(dir, recipe, resume);
    (result, listener.rows)
}

fn listen(dir: &Path, recipe: ResolvedRecipe, resume: bool) -> (Result<TrainSummary, TrainError>, Listener) {
    let options =
        TrainOptions { recipe, run_dir: dir.to_owned(), resume, stop: Arc::new(AtomicBool::new(false)) };
    let mut listener = Listener::default();
    let result = train::<hrm_backend::Cpu>(options, &Default::default(), &mut listener);
    (result, listener)
}

/// The rows of `metrics.jsonl`.
pub fn rows(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows of `metrics.jsonl` without what the clock and the system say.
pub fn curve(dir: &Path) -> Vec<Value> {
    let mut rows = rows(dir);
    for row in &mut rows {
        let fields = row.as_object_mut().unwrap();
        for own in ["seconds", "examples_per_second", "memory", "peak_memory"] {
            fields.remove(own);
            for eval in ["eval", "eval_train"] {
                if let Some(eval) = fields.get_mut(eval) {
                    eval.as_object_mut().unwrap().remove(own);
                }
            }
        }
    }
    rows
}
