//! A run that was stopped, killed or damaged goes on as if nothing had happened.

mod common;

use std::{fs, path::Path};

use hrm_train::{
    checkpoint::{self, Best},
    recipe::ResolvedRecipe,
    trainer::{Ending, TrainError, TrainSummary, saved_recipe},
};
use serde_json::Value;

use common::{curve, recipe, run};

/// Everything that a recipe may turn on and that has a state or depends on the step.
const EVERYTHING: &[&str] = &[
    "model.h_cycles=2",
    "train.accumulate=2",
    "train.batches_in_turn=3",
    "train.chains=2",
    "train.state_noise=0.1",
    "model.init_state=random",
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
fn a_run_starts_from_the_weights_of_another() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    run(&first, recipe(&["train.max_steps=3", "train.ema=0.5"]), false).0.unwrap();
    let from = format!("train.init_from={}", first.display());
    // Nothing moves without a learning rate: what is saved is what the run began with.
    let still = ["train.lr=0", "train.puzzle_emb_lr=0", "train.max_steps=1", "train.seed=9", &from];
    run(&second, recipe(&still), false).0.unwrap();
    let read = |run: &Path, file: &str| {
        hrm_model::weights::read(&run.join("checkpoints").join(file)).unwrap().into_iter().collect::<Vec<_>>()
    };
    let started = read(&second, "step-1/model.safetensors");
    assert_eq!(started, read(&first, "step-3/ema.safetensors"));
    assert_ne!(started, read(&first, "step-3/model.safetensors"));

    let third = root.path().join("third");
    let error = |sets: &[&str]| run(&third, recipe(sets), false).0.unwrap_err().to_string();
    let other = error(&["model.h_layers=2", &from]);
    assert!(other.contains("train.init_from") && other.contains("H_level.layers.1"), "{other}");
    let absent = error(&["train.init_from=nowhere"]);
    assert!(absent.contains("nowhere") && absent.contains("no checkpoint here"), "{absent}");
    assert!(!third.exists(), "nothing is left of a run that could not begin");
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
    // Nor may the file be edited to the same end: the checkpoint knows what made it.
    let config = dir.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("lr = 0.001", "lr = 0.25")).unwrap();
    let edited = told(run(&dir, saved_recipe(&dir, &[]).unwrap(), true).0);
    assert!(edited.contains("train.lr = 0.25 (the run has 0.001)"), "{edited}");
    let absent = root.path().join("absent");
    assert!(saved_recipe(&absent, &[]).unwrap_err().to_string().contains("absent"));
    assert_eq!(fs::read(dir.join("metrics.jsonl")).unwrap(), before, "a refused run leaves everything");
}

#[test]
fn a_run_resumes_with_another_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    run(&whole, recipe(&[]), false).0.unwrap();
    let with_threads = |threads: usize, recipe: ResolvedRecipe, resume: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&parts, recipe, resume)).0.unwrap()
    };
    with_threads(4, recipe(&["train.stop_after=5"]), false);
    with_threads(1, saved_recipe(&parts, &["train.stop_after=8".to_owned()]).unwrap(), true);
    with_threads(3, saved_recipe(&parts, &[]).unwrap(), true);
    assert_eq!(curve(&whole), curve(&parts));
    let model = |run: &Path| fs::read(run.join("checkpoints/step-12/model.safetensors")).unwrap();
    assert!(model(&whole) == model(&parts));
}

#[test]
fn values_changed_on_resume_are_written_down() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let config = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    run(&dir, recipe(&["train.stop_after=2"]), false).0.unwrap();
    let first = config("config.toml");
    assert!(
        first.contains("log_interval = 1\n") && first.contains("interval = 4  # flag --set\n"),
        "{first}"
    );

    let sets = ["train.stop_after=5".to_owned(), "train.log_interval=5".to_owned()];
    let (result, messages) = run(&dir, saved_recipe(&dir, &sets).unwrap(), true);
    result.unwrap();
    let told = "changed from here on: train.log_interval = 5 (before: 1)";
    assert!(messages.iter().any(|message| message == told), "{messages:?}");
    assert!(config("train.log").contains(told));
    let second = config("config.toml");
    assert!(second.contains("log_interval = 5  # flag --set after step 2\n"), "{second}");
    assert!(second.contains("interval = 4  # flag --set\n"), "other origins stay: {second}");
    assert_eq!(config("config.step-2.toml"), first, "what was before is kept");

    // Where it stops is no part of a recipe's history; the checkpoint has the recipe as it is now.
    run(&dir, saved_recipe(&dir, &[]).unwrap(), true).0.unwrap();
    assert!(!dir.join("config.step-5.toml").exists());
    assert_eq!(config("config.toml"), second.replace("stop_after = 5  # flag --set\n", "stop_after = 0\n"));
    let state = fs::read(dir.join("checkpoints/step-12/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["recipe"], config("config.toml"));
}

#[test]
fn moments_in_bf16_halve_the_state_and_keep_the_losses_close() {
    let root = tempfile::tempdir().unwrap();
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    let sets = ["train.max_steps=24", "train.checkpoint_interval=0"];
    run(&whole, recipe(&sets), false).0.unwrap();
    let half = [&sets[..], &["train.stop_after=12", "train.checkpoint_moments=bf16"]].concat();
    run(&parts, recipe(&half), false).0.unwrap();
    let size = |file: &str| fs::metadata(parts.join("checkpoints/step-12").join(file)).unwrap().len();
    // Both moments of a weight take as much as the weight itself; the rest is the carry.
    let (weights, state) = (size("model.safetensors"), size("train.safetensors"));
    let carry = 2 * 8 * (16 + 1) * 32 * 4 + 3 * 8 * 16 * 8;
    assert!(state < weights + carry + 8192, "{state} {weights}");

    let resumed = run(&parts, saved_recipe(&parts, &[]).unwrap(), true).0.unwrap();
    assert_eq!(resumed.step, 24);
    let losses =
        |run: &Path| -> Vec<f64> { curve(run).iter().filter_map(|row| row["loss"].as_f64()).collect() };
    let (expected, got) = (losses(&whole), losses(&parts));
    assert_eq!(expected[..12], got[..12]);
    let worst = expected.iter().zip(&got).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
    println!("largest relative difference of a loss after resuming from bf16 moments: {worst:.1e}");
    assert!(worst > 0.0, "the moments were not rounded");
    assert!(worst < 0.01, "{expected:?}\n{got:?}");
}

#[test]
fn without_the_carry_a_resumed_run_takes_new_puzzles() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let sets = ["train.max_steps=24", "train.checkpoint_interval=0", "train.stop_after=12"];
    let small = ["train.checkpoint_carry=false", "train.checkpoint_moments=bf16"];
    run(&dir, recipe(&[&sets[..], &small].concat()), false).0.unwrap();
    let size = |file: &str| fs::metadata(dir.join("checkpoints/step-12").join(file)).unwrap().len();
    let (weights, state) = (size("model.safetensors"), size("train.safetensors"));
    assert!(state < weights + 8192, "{state} {weights}");
    let resumed = run(&dir, saved_recipe(&dir, &[]).unwrap(), true).0.unwrap();
    assert_eq!(resumed.step, 24);
    let losses: Vec<f64> = curve(&dir).iter().filter_map(|row| row["loss"].as_f64()).collect();
    assert!(losses.len() == 24 && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    // All slots are in their first segment, so none of 3 at most has halted yet but by itself.
    let steps = |step: usize| curve(&dir)[step - 1]["count"].as_u64();
    assert_eq!(steps(13), Some(0), "{:?}", curve(&dir)[12]);
}

#[test]
fn sizes_take_turns_and_a_resumed_run_goes_on_with_the_right_one() {
    let root = tempfile::tempdir().unwrap();
    let model = [
        "model.tokens=lattice",
        "model.mixer=groups",
        "model.pos_encodings=none",
        "model.puzzle_emb_ndim=0",
        "model.halt_exploration_prob=0",
        "train.lr=0",
        "train.weight_decay=0",
        "train.checkpoint_carry=false",
        "train.checkpoint_interval=0",
        "eval.interval=0",
    ];
    let losses = |name: &str, extra: &[&str]| -> Vec<f64> {
        let dir = root.path().join(name);
        run(&dir, recipe(&[&model[..], extra].concat()), false).0.unwrap();
        if extra.contains(&"train.stop_after=3") {
            run(&dir, saved_recipe(&dir, &[]).unwrap(), true).0.unwrap();
        }
        curve(&dir).iter().filter_map(|row| row["loss"].as_f64()).collect()
    };
    let also = ["data.also=[{train_examples=100,box_rows=2,box_cols=3}]", "train.batches_in_turn=2"];
    let alone = losses("alone", &["train.max_steps=4"]);
    let mixed = losses("mixed", &[&also[..], &["train.max_steps=8"]].concat());
    let of_size = |size: usize| mixed.iter().copied().skip(size).step_by(2).collect::<Vec<_>>();
    // With weights that stay as they are, the recipe's own puzzles are those of a run on them alone.
    assert_eq!(of_size(0), alone);
    assert!(of_size(1).iter().all(|loss| loss.is_finite() && !alone.contains(loss)), "{mixed:?}");
    // A resumed run begins with the size whose turn it is, in other slots.
    let resumed = losses("resumed", &[&also[..], &["train.max_steps=8", "train.stop_after=3"]].concat());
    assert_eq!(resumed[..3], mixed[..3]);
    assert_eq!(resumed.len(), 8);
    assert!(resumed[3..].iter().all(|loss| loss.is_finite()), "{resumed:?}");
}

#[test]
fn the_newest_the_milestones_and_the_best_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let steps = |dir: &Path| -> Vec<u64> {
        checkpoint::list(&dir.join("checkpoints")).unwrap().into_iter().map(|(step, _)| step).collect()
    };
    let kept =
        ["train.checkpoint_interval=1", "train.keep_every=4", "train.keep_checkpoints=1", "eval.interval=0"];
    run(&dir, recipe(&[&kept[..], &["train.stop_after=3"]].concat()), false).0.unwrap();
    assert_eq!(steps(&dir), [3]);
    let folder = dir.join("checkpoints");
    let model = |path: &Path| checkpoint::model_file(path).unwrap();
    assert_eq!(model(&dir), folder.join("step-3/model.safetensors"));
    let best = Best { step: 3, metric: "exact_accuracy".to_owned(), value: 0.5 };
    checkpoint::mark_best(&folder, &best).unwrap();
    run(&dir, saved_recipe(&dir, &["train.stop_after=11".to_owned()]).unwrap(), true).0.unwrap();
    assert_eq!(steps(&dir), [3, 4, 8, 11]);
    assert_eq!(checkpoint::best(&folder), Some(best));
    // What a run means, and what the two names mean.
    assert_eq!(model(&dir), folder.join("step-3/model.safetensors"));
    assert_eq!(model(&folder.join("best")), model(&dir));
    assert_eq!(model(&folder.join("last")), folder.join("step-11/model.safetensors"));
    // A mark whose checkpoint is gone means nothing.
    fs::remove_dir_all(folder.join("step-3")).unwrap();
    assert_eq!(checkpoint::best(&folder), None);
    assert_eq!(model(&dir), folder.join("step-11/model.safetensors"));
}

#[test]
fn a_checkpoint_of_a_newer_version_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    run(&dir, recipe(&["train.stop_after=6"]), false).0.unwrap();
    let newest = dir.join("checkpoints/step-6/state.json");
    // Other fields may have changed as well.
    fs::write(&newest, "{\"format\": 99, \"steps\": {}}").unwrap();
    let (result, messages) = run(&dir, saved_recipe(&dir, &[]).unwrap(), true);
    let told = result.unwrap_err().to_string();
    assert!(told.contains("newer version") && told.contains("format 99"), "{told}");
    assert!(messages.is_empty(), "an older checkpoint is no way out: {messages:?}");
    assert!(dir.join("checkpoints/step-3").exists());
}

/// Checkpoints are folders, `last` and `best` files: a kill may leave either half-written.
#[test]
fn what_a_killed_process_left_half_written_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    std::fs::create_dir_all(folder.join("step-4.partial")).unwrap();
    std::fs::write(folder.join("step-4.partial/model.safetensors"), "half").unwrap();
    std::fs::write(folder.join("last.partial"), "{").unwrap();
    std::fs::create_dir(folder.join("step-3")).unwrap();
    std::fs::write(folder.join("last"), "{}").unwrap();
    hrm_train::checkpoint::remove_partial(folder).unwrap();
    let mut left: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["last", "step-3"]);
}
