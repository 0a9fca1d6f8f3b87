//! `kill -9` in the middle of a training: no checkpoint is half-written and `--resume` goes on to the same losses.
#![cfg(unix)]

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::sandbox::{Sandbox, TINY_RECIPE, assert_says};

const STEPS: usize = 120;
const KILLS: u64 = 8;

/// The rows of training steps, without what the clock says.
fn curve(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line of JSON"));
    rows.filter(|row| row["loss"].is_number())
        .map(|mut row| {
            let fields = row.as_object_mut().expect("an object");
            fields.retain(|key, _| !matches!(key.as_str(), "seconds" | "examples_per_second"));
            row
        })
        .collect()
}

fn lines(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Names in the folder of checkpoints.
fn checkpoints(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).expect("checkpoints");
    entries.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect()
}

/// Lets the training go on for some rows and a moment, then kills it; whether it was still at work.
fn kill_after(child: &mut Child, run: &Path, rows: usize, moment: Duration) -> bool {
    let goal = lines(run) + rows;
    let deadline = Instant::now() + Duration::from_secs(60);
    while lines(run) < goal && child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "no progress in a minute");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(moment);
    child.kill().expect("kill"); // SIGKILL
    child.wait().expect("a child").code().is_none()
}

#[test]
fn killed_training_resumes_to_the_same_losses() {
    let sandbox = Sandbox::new();
    // A checkpoint after every step: most of the time goes into writing them, so most kills hit one.
    sandbox.write("tiny.toml", TINY_RECIPE.replace("checkpoint_interval = 4", "checkpoint_interval = 1"));
    let train = |args: &str| {
        let args = format!("train {args} --set train.max_steps={STEPS}");
        let mut command = sandbox.command();
        command.args(args.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(train("--config tiny.toml --run-dir whole --quiet").status().expect("starts").success());

    let run = sandbox.path("killed");
    let mut child = train("--config tiny.toml --run-dir killed").spawn().expect("starts");
    let mut killed = 0;
    for kill in 0..KILLS {
        // Moments spread over the time of a step, the same in each run of the test.
        let moment = Duration::from_micros(kill * 7_919 % 10_000);
        let at_work = kill_after(&mut child, &run, 4 + kill as usize, moment);
        killed += usize::from(at_work);
        // What bears a checkpoint's name is whole.
        for name in checkpoints(&run).iter().filter(|name| !name.ends_with(".partial")) {
            sandbox.hrm(&format!("inspect checkpoint killed/checkpoints/{name}")).ok();
        }
        if !at_work {
            break;
        }
        child = train("--resume killed").spawn().expect("starts");
    }
    child.wait().expect("a child");
    assert!(killed >= 4, "only {killed} kills hit a training at work");

    let text = sandbox.hrm(&format!("train --resume killed --set train.max_steps={STEPS}")).ok();
    assert_says(&text, &[&format!("step {STEPS}")]);
    let (expected, got) = (curve(&sandbox.path("whole")), curve(&run));
    assert_eq!(expected.len(), STEPS);
    assert_eq!(expected, got);
    let model = format!("checkpoints/step-{STEPS}/model.safetensors");
    assert!(sandbox.read(&format!("whole/{model}")) == sandbox.read(&format!("killed/{model}")));
    let left: Vec<String> = checkpoints(&run).into_iter().filter(|name| name.ends_with(".partial")).collect();
    assert!(left.is_empty(), "{left:?} is left over");
}
