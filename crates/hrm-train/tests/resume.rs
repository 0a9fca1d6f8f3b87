//! A run that was stopped, killed or damaged goes on as if nothing had happened.
#![cfg(feature = "flex")]

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use burn::backend::Autodiff;
use hrm_train::{
    config::ResolvedRecipe,
    trainer::{Ending, Observer, TrainError, TrainOptions, TrainSummary, saved_recipe, train},
};
use serde_json::Value;

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

/// Everything that a recipe may turn on and that has a state or depends on the step.
const EVERYTHING: &[&str] = &[
    "model.h_cycles=2",
    "train.accumulate=2",
    "train.optimizer=muon",
    "train.lr_schedule=linear",
    "train.lr_min_ratio=0.1",
    "train.grad_clip=1",
    "train.label_smoothing=0.2",
    "train.halt_loss_weight=0.05",
    "train.supervision_decay=0.7",
    "train.curriculum=[{from=0,h_cycles=1,l_cycles=1},{from=0.5,h_cycles=2,l_cycles=2}]",
    "train.ema=0.9",
    "train.ema_start=6",
];

fn recipe(extra: &[&str]) -> ResolvedRecipe {
    let sets: Vec<String> = TINY.iter().chain(extra).map(|s| (*s).to_owned()).collect();
    ResolvedRecipe::load(None, &sets).unwrap()
}

#[derive(Default)]
struct Messages(Vec<String>);

impl Observer for Messages {
    fn on_message(&mut self, message: &str) {
        self.0.push(message.to_owned());
    }
}

fn run(dir: &Path, recipe: ResolvedRecipe, resume: bool) -> (Result<TrainSummary, TrainError>, Vec<String>) {
    let options =
        TrainOptions { recipe, run_dir: dir.to_owned(), resume, stop: Arc::new(AtomicBool::new(false)) };
    let mut messages = Messages::default();
    let result = train::<Autodiff<hrm_backend::Cpu>>(options, &Default::default(), &mut messages);
    (result, messages.0)
}

/// The rows of `metrics.jsonl` without what the clock says.
fn curve(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            for clock in ["seconds", "examples_per_second"] {
                row.as_object_mut().unwrap().remove(clock);
                if let Some(eval) = row["eval"].as_object_mut() {
                    eval.remove(clock);
                }
            }
            if row["eval"].is_null() {
                row.as_object_mut().unwrap().remove("eval");
            }
            row
        })
        .collect()
}

#[test]
fn resumed_run_equals_uninterrupted_run() {
    compare_resumed(&[], &["model.safetensors", "train.safetensors"]);
}

#[test]
fn resumed_run_with_everything_equals_uninterrupted_run() {
    compare_resumed(EVERYTHING, &["model.safetensors", "train.safetensors", "ema.safetensors"]);
}

fn compare_resumed(extra: &[&str], files: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    assert_eq!(run(&whole, recipe(extra), false).0.unwrap().ending, Ending::Finished);

    let stopped = run(&parts, recipe(&[extra, &["train.stop_after=5"]].concat()), false).0.unwrap();
    assert_eq!((stopped.ending, stopped.step), (Ending::StopAfter, 5));
    let again = saved_recipe(&parts, &["train.stop_after=7".to_owned()]).unwrap();
    assert_eq!(run(&parts, again, true).0.unwrap().step, 7);
    let resumed = run(&parts, saved_recipe(&parts, &[]).unwrap(), true).0.unwrap();
    assert_eq!((resumed.ending, resumed.step), (Ending::Finished, 12));

    let (expected, got) = (curve(&whole), curve(&parts));
    assert_eq!(expected.iter().filter(|row| row["loss"].is_number()).count(), 12);
    assert_eq!(expected, got);
    for file in files {
        let read = |run: &Path| fs::read(run.join("checkpoints/step-12").join(file)).unwrap();
        assert!(read(&whole) == read(&parts), "{file} differs after resuming");
    }
}

#[test]
fn losses_do_not_depend_on_the_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    let curves = [1, 2, 4].map(|threads| {
        let dir = root.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&dir, recipe(&["train.max_steps=6"]), false)).0.unwrap();
        curve(&dir)
    });
    assert_eq!(curves[0], curves[1]);
    assert_eq!(curves[0], curves[2]);
}

#[test]
fn damaged_checkpoint_is_told_and_the_one_before_used() {
    let root = tempfile::tempdir().unwrap();
    let (whole, hurt) = (root.path().join("whole"), root.path().join("hurt"));
    run(&whole, recipe(&[]), false).0.unwrap();
    run(&hurt, recipe(&["train.stop_after=8"]), false).0.unwrap();
    // As a disk that lost the end of a file would leave it.
    let newest = hurt.join("checkpoints/step-8/train.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();

    let (result, messages) = run(&hurt, saved_recipe(&hurt, &[]).unwrap(), true);
    assert_eq!(result.unwrap().step, 12);
    assert!(messages[0].contains("damaged checkpoint") && messages[0].contains("step-8"), "{messages:?}");
    assert!(messages.iter().any(|m| m == "resumed after step 6"), "{messages:?}");
    assert_eq!(curve(&whole), curve(&hurt));
}

#[test]
fn a_run_without_a_checkpoint_starts_again() {
    let root = tempfile::tempdir().unwrap();
    let (whole, killed) = (root.path().join("whole"), root.path().join("killed"));
    run(&whole, recipe(&[]), false).0.unwrap();
    run(&killed, recipe(&["train.stop_after=2"]), false).0.unwrap();
    // As a kill during the first checkpoint leaves it.
    let checkpoints = killed.join("checkpoints");
    fs::rename(checkpoints.join("step-2"), checkpoints.join("step-2.partial")).unwrap();
    let (result, messages) = run(&killed, saved_recipe(&killed, &[]).unwrap(), true);
    assert_eq!(result.unwrap().step, 12);
    assert!(messages[0].contains("no checkpoint yet"), "{messages:?}");
    assert_eq!(curve(&whole), curve(&killed));
    assert!(!checkpoints.join("step-2.partial").exists());
}

#[test]
fn unsound_changes_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    run(&dir, recipe(&["train.stop_after=2"]), false).0.unwrap();
    let before = fs::read(dir.join("metrics.jsonl")).unwrap();

    let told = |result: Result<TrainSummary, TrainError>| result.unwrap_err().to_string();
    let again = told(run(&dir, recipe(&[]), false).0);
    assert!(again.contains("already holds a run") && again.contains("--resume"), "{again}");
    let changed = told(run(&dir, saved_recipe(&dir, &["train.lr=0.5".to_owned()]).unwrap(), true).0);
    assert!(changed.contains("train.lr = 0.5 (the run has 0.001)"), "{changed}");
    let absent = root.path().join("absent");
    assert!(saved_recipe(&absent, &[]).unwrap_err().to_string().contains("absent"));
    assert_eq!(fs::read(dir.join("metrics.jsonl")).unwrap(), before, "a refused run leaves everything");
}
