//! Every recipe in `configs/` trains: two real steps of a shrunken copy, and its evaluation.
#![cfg(feature = "flex")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use burn::backend::Autodiff;
use hrm_train::{
    config::{Recipe, ResolvedRecipe},
    trainer::{Ending, TrainOptions, train},
};

/// Small enough for a test. What makes a recipe what it is stays: recurrence, positions, halting, optimizers.
const SHRINK: &[&str] = &[
    "data.source=generate",
    "data.train_examples=16",
    "data.test_examples=4",
    "model.hidden_size=32",
    "model.num_heads=2",
    "model.halt_max_steps=2",
    "model.forward_dtype=f32",
    "train.global_batch_size=4",
    "train.max_steps=2",
    "train.lr_warmup_steps=1",
    "train.log_interval=1",
    "eval.batch_size=4",
];

fn recipes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let entries = fs::read_dir(&folder).expect("configs");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    files
}

#[test]
fn every_recipe_trains() {
    for file in recipes() {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let as_written = ResolvedRecipe::load(Some(&file), &[]).unwrap_or_else(|e| panic!("{e}")).recipe;
        let mut sets: Vec<String> = SHRINK.iter().map(|s| (*s).to_owned()).collect();
        if as_written.model.puzzle_emb_ndim > 0 {
            sets.push("model.puzzle_emb_ndim=32".to_owned());
        }
        let recipe = ResolvedRecipe::load(Some(&file), &sets).unwrap_or_else(|e| panic!("{e}"));
        let dir = tempfile::tempdir().unwrap();
        let options = TrainOptions {
            recipe,
            run_dir: dir.path().join("run"),
            resume: false,
            stop: Arc::new(AtomicBool::new(false)),
        };
        let summary = train::<Autodiff<hrm_backend::Cpu>>(options, &Default::default(), &mut ())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((summary.step, summary.ending), (2, Ending::Finished), "{name}");
        let eval = summary.eval.expect("evaluated at the end");
        assert_eq!(eval.examples, 4, "{name}");
        assert!(eval.lm_loss.is_finite() && eval.lm_loss > 0.0, "{name}: {eval:?}");
        let averaged = summary.checkpoint.join("ema.safetensors").exists();
        assert_eq!(averaged, as_written.train.ema > 0.0, "{name}: averaged weights");
    }
}

#[test]
fn every_recipe_is_listed() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/README.md");
    let readme = fs::read_to_string(readme).expect("configs/README.md");
    for file in recipes() {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(readme.contains(&format!("({name})")), "configs/README.md does not list {name}");
        let first = fs::read_to_string(&file).expect("recipe");
        assert!(first.starts_with("# "), "{name}: says first what it is");
    }
}

#[test]
fn defaults_are_a_recipe() {
    assert!(ResolvedRecipe::load(None, &[]).is_ok_and(|resolved| resolved.recipe == Recipe::default()));
}
