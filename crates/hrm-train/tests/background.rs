//! Evaluations in the background of training: the same run, in another order.

mod common;

use std::{fs, path::Path};

use hrm_train::{
    checkpoint,
    trainer::{Ending, saved_recipe},
};
use serde_json::Value;

use common::{curve, recipe, run, run_for_rows};

/// Everything that an evaluation may ask for, and checkpoints of all steps.
const EVALUATED: &[&str] = &[
    "train.ema=0.9",
    "train.keep_every=1",
    "train.checkpoint_interval=5",
    "eval.steps=[1,2,8]",
    "eval.train_limit=20",
    "eval.best_metric=lm_loss",
];

/// By step; each step's evaluation after it.
fn sorted(dir: &Path) -> Vec<Value> {
    let mut rows = curve(dir);
    rows.sort_by_key(|row| (row["step"].as_u64(), row.get("eval").is_some()));
    rows
}

fn model(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("checkpoints/step-12/ema.safetensors")).unwrap()
}

#[test]
fn training_is_the_same_with_evaluations_in_the_background() {
    let root = tempfile::tempdir().unwrap();
    let (waits, goes_on) = (root.path().join("waits"), root.path().join("goes-on"));
    run(&waits, recipe(EVALUATED), false).0.unwrap();
    let background = [EVALUATED, &["eval.background=true", "train.stop_after=10"]].concat();
    // The last evaluation before the stop is waited for, and the run goes on after it.
    run(&goes_on, recipe(&background), false).0.unwrap();
    assert!(curve(&goes_on).iter().any(|row| row["step"] == 8 && row.get("eval").is_some()));
    let summary = run(&goes_on, saved_recipe(&goes_on, &[]).unwrap(), true).0.unwrap();
    assert_eq!(summary.ending, Ending::Finished);
    assert_eq!(sorted(&waits), sorted(&goes_on), "losses, gradients and evaluations");
    assert!(model(&waits) == model(&goes_on));
    let best = |dir: &Path| checkpoint::best(&dir.join("checkpoints")).unwrap();
    assert_eq!(best(&waits), best(&goes_on));
}

#[test]
fn a_killed_run_evaluates_again() {
    let root = tempfile::tempdir().unwrap();
    let (whole, killed) = (root.path().join("whole"), root.path().join("killed"));
    let recipe = || recipe(&[EVALUATED, &["eval.background=true"]].concat());
    run(&whole, recipe(), false).0.unwrap();
    run(&killed, recipe(), false).0.unwrap();
    // As a kill before the next checkpoint leaves it.
    for step in 5..=12 {
        let _ = fs::remove_dir_all(killed.join(format!("checkpoints/step-{step}")));
    }
    let state = fs::read(killed.join("checkpoints/step-4/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["progress"]["evaluating"], true);
    run(&killed, saved_recipe(&killed, &[]).unwrap(), true).0.unwrap();
    assert_eq!(sorted(&whole), sorted(&killed));
    assert!(model(&whole) == model(&killed));
}

#[test]
fn training_does_not_wait() {
    let root = tempfile::tempdir().unwrap();
    // Two thousand segments take longer than a step of eight.
    let slow = ["data.test_examples=500", "train.checkpoint_interval=0", "eval.background=true"];
    let (result, rows) = run_for_rows(&root.path().join("run"), recipe(&slow), false);
    result.unwrap();
    let place =
        |row: &str| rows.iter().position(|other| other == row).unwrap_or_else(|| panic!("{row}: {rows:?}"));
    assert!(place("step 5") < place("evaluation 4"), "{rows:?}");
    assert!(place("evaluation 4") < place("evaluation 8") && place("evaluation 8") < place("evaluation 12"));
}
