//! A tiny run for tests of the trainer.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use burn::backend::Autodiff;
use hrm_train::{
    config::ResolvedRecipe,
    trainer::{Observer, TrainError, TrainOptions, TrainSummary, train},
};

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

/// What a run said.
#[derive(Default)]
struct Messages(Vec<String>);

impl Observer for Messages {
    fn on_message(&mut self, message: &str) {
        self.0.push(message.to_owned());
    }
}

/// Runs a recipe in a folder; gives how it ended and what it said.
pub fn run(
    dir: &Path,
    recipe: ResolvedRecipe,
    resume: bool,
) -> (Result<TrainSummary, TrainError>, Vec<String>) {
    let options =
        TrainOptions { recipe, run_dir: dir.to_owned(), resume, stop: Arc::new(AtomicBool::new(false)) };
    let mut messages = Messages::default();
    let result = train::<Autodiff<hrm_backend::Cpu>>(options, &Default::default(), &mut messages);
    (result, messages.0)
}
