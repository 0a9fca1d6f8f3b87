//! Every recipe in `configs/` trains: two real steps of a shrunken copy, and its evaluation.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use hrm_data::registry::Family;
use hrm_train::{
    recipe::{Recipe, ResolvedRecipe},
    trainer::{Ending, TrainOptions, train},
};

/// Small enough for a test. What makes a recipe what it is stays: recurrence, positions, halting, optimizers.
const SHRINK: &[&str] = &[
    "data.train_examples=16",
    "data.test_examples=4",
    "data.also=[]",
    "model.hidden_size=32",
    "model.num_heads=2",
    "model.halt_max_steps=2",
    "model.forward_dtype=f32",
    "train.global_batch_size=4",
    "train.max_steps=2",
    "train.lr_warmup_steps=1",
    "train.ema_start=0",
    "train.init_from=\"\"",
    "train.log_interval=1",
    "eval.batch_size=4",
];

/// Data for a test: generated, or for ARC a few tasks written to `dir`.
fn small_data(task: Family, dir: &Path) -> Vec<String> {
    let mut sets: Vec<String> =
        ["data.extra_paths=[]", "data.extra_shares=[]", "data.path=\"\"", "data.test_path=\"\""]
            .map(str::to_owned)
            .into();
    match task {
        Family::Arc => {
            let tasks = |offset: usize| {
                let grid = |n: usize| vec![vec![n % 10, (n + 3) % 10], vec![(n * 7) % 10, 1]];
                let pair = |n: usize| serde_json::json!({"input": grid(n), "output": grid(n + 1)});
                let task = |n: usize| {
                    let pairs: Vec<_> = (0..3).map(|i| pair(offset + 5 * n + i)).collect();
                    let name = format!("task{}", offset + n);
                    (name, serde_json::json!({"train": pairs, "test": [pair(offset + 5 * n + 4)]}))
                };
                serde_json::Value::Object((0..4).map(task).collect()).to_string()
            };
            for (key, offset) in [("path", 0), ("test_path", 100)] {
                let file = dir.join(key).with_extension("json");
                fs::write(&file, tasks(offset)).unwrap();
                sets.push(format!("data.{key}={:?}", file.display().to_string()));
            }
            sets.extend(["data.augmentations=3", "data.votes=1", "data.on_leak=allow"].map(str::to_owned));
        }
        Family::Maze => {
            let small = ["source=generate", "grid_rows=8", "grid_cols=8", "min_path=6", "max_path=30"];
            sets.extend(small.map(|set| format!("data.{set}")));
        }
        _ => sets.push("data.source=generate".to_owned()),
    }
    sets
}

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
        let origin = &as_written.train.init_from;
        let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(origin);
        assert!(origin.is_empty() || weights.is_file(), "{name}: {origin} is not in the repository");
        let mut sets: Vec<String> = SHRINK.iter().map(|s| (*s).to_owned()).collect();
        let data = tempfile::tempdir().unwrap();
        sets.extend(small_data(as_written.data.task, data.path()));
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
        let summary = train::<hrm_backend::Cpu>(options, &Default::default(), &mut ())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((summary.step, summary.ending), (2, Ending::Finished), "{name}");
        let eval = summary.eval.expect("evaluated at the end");
        assert_eq!(eval.examples, 4, "{name}");
        let by_rules = eval.task.rows();
        let measures = if as_written.data.task == Family::Arc { 4 } else { 1 };
        assert_eq!(by_rules.len(), measures, "{name}: {by_rules:?}");
        assert!(by_rules.iter().all(|(_, share)| (0.0..=1.0).contains(share)), "{name}: {by_rules:?}");
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
        let text = fs::read_to_string(&file).expect("recipe");
        // After the line that tells editors the schema.
        let first = text.lines().find(|line| !line.starts_with("#:schema "));
        assert!(first.is_some_and(|line| line.starts_with("# ")), "{name}: says first what it is");
    }
}

#[test]
fn defaults_are_a_recipe() {
    assert!(ResolvedRecipe::load(None, &[]).is_ok_and(|resolved| resolved.recipe == Recipe::default()));
}
