//! `kill -9` in the middle of a training: no checkpoint is half-written and `--resume` goes on to the same losses.
#![cfg(unix)]

use std::{
    env, fs,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::sandbox::{Sandbox, TINY_RECIPE, assert_says};

/// Kills of a test; `HRM_KILLS=200` for a long one.
fn kills() -> u64 {
    env::var("HRM_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// The rows of training steps, without what the clock says.
pub fn curve(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line of JSON"));
    rows.filter(|row| row["loss"].is_number())
        .map(|mut row| {
            let fields = row.as_object_mut().expect("an object");
            fields.retain(|key, _| {
                !matches!(key.as_str(), "seconds" | "examples_per_second" | "memory" | "peak_memory")
            });
            row
        })
        .collect()
}

pub fn lines(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Names in the folder of checkpoints.
pub fn checkpoints(run: &Path) -> Vec<String> {
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
    let kills = kills();
    let sandbox = Sandbox::new();
    // A checkpoint after every step: most of the time goes into writing them, so most kills hit one.
    sandbox.write("tiny.toml", TINY_RECIPE.replace("checkpoint_interval = 4", "checkpoint_interval = 1"));
    // No machine gets to the last step: the training is at work whenever it is killed.
    let endless = "--set train.max_steps=1000000 --set eval.interval=0";
    let train = |args: &str, threads: u64| {
        let args = format!("train {args} {endless}");
        let mut command = sandbox.command();
        let said = fs::File::create(sandbox.path("said.txt")).expect("a file");
        command.args(args.split_whitespace()).stdout(Stdio::null()).stderr(said);
        command.env("RAYON_NUM_THREADS", threads.to_string());
        command
    };
    let run = sandbox.path("killed");
    let mut child = train("--config tiny.toml --run-dir killed", 1).spawn().expect("starts");
    let (mut killed, mut in_checkpoint) = (0, 0);
    for kill in 0..kills {
        // Moments spread over the time of a step, and every fifth over the start of the program; the same in each
        // run of the test.
        let (rows, moment) = match kill % 5 {
            4 => (0, Duration::from_millis(kill * 7_919 % 100)),
            rows => (1 + rows as usize, Duration::from_micros(kill * 7_919 % 10_000)),
        };
        let at_work = kill_after(&mut child, &run, rows, moment);
        killed += u64::from(at_work);
        let names = checkpoints(&run);
        in_checkpoint += u64::from(names.iter().any(|name| name.ends_with(".partial")));
        // What bears a checkpoint's name is whole.
        let whole: Vec<&String> = names.iter().filter(|name| step_of(name).is_some()).collect();
        for name in &whole {
            sandbox.hrm(&format!("inspect checkpoint killed/checkpoints/{name}")).ok();
        }
        // At most the step since the last checkpoint is lost.
        let newest = whole.iter().filter_map(|name| step_of(name)).max().unwrap_or(0);
        let done = lines(&run);
        assert!(newest + 1 >= done, "step {done} was done, the newest checkpoint is of step {newest}");
        if !at_work {
            break;
        }
        // Another number of threads each time.
        child = train("--resume killed", 1 + kill % 3).spawn().expect("starts");
    }
    child.kill().expect("kill");
    child.wait().expect("a child");
    println!(
        "{killed} of {kills} kills hit a training at work, {in_checkpoint} of them while it wrote a checkpoint"
    );
    let said = String::from_utf8_lossy(&sandbox.read("said.txt")).into_owned();
    assert_eq!(killed, kills, "every kill hits a training at work: {said}");

    let steps = lines(&run) + 3;
    let end = format!("{endless} --set train.stop_after={steps}");
    let text = sandbox.hrm(&format!("train --resume killed {end}")).ok();
    assert_says(&text, &[&format!("step {steps}")]);
    sandbox.hrm(&format!("train --config tiny.toml --run-dir whole --quiet {end}")).ok();
    let (expected, got) = (curve(&sandbox.path("whole")), curve(&run));
    assert_eq!(expected.len(), steps);
    assert_eq!(expected, got);
    let model = format!("checkpoints/step-{steps}/model.safetensors");
    assert!(sandbox.read(&format!("whole/{model}")) == sandbox.read(&format!("killed/{model}")));
    let left: Vec<String> = checkpoints(&run).into_iter().filter(|name| name.ends_with(".partial")).collect();
    assert!(left.is_empty(), "{left:?} is left over");
}

/// The step of a checkpoint's name.
pub fn step_of(name: &str) -> Option<usize> {
    name.strip_prefix("step-")?.parse().ok()
}
