//! Several workers as processes over Open MPI: the same run as one process gives, and clear ends when a worker is
//! killed, hangs or shall stop.
#![cfg(all(feature = "flex", feature = "mpi", target_os = "linux"))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The tiny recipe of the other tests, with a batch that several numbers of workers share, puzzle embeddings and exploration.
fn recipe() -> String {
    let changes = [
        ("global_batch_size = 8", "global_batch_size = 12"),
        ("puzzle_emb_ndim = 0", "puzzle_emb_ndim = 16\nhalt_exploration_prob = 0.3"),
    ];
    changes.iter().fold(include_str!("tiny.toml").to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    })
}

struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        fs::write(sandbox.path("tiny.toml"), recipe()).unwrap();
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn train(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hrm"));
        command.arg("train").args(args.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    /// Runs to the end; gives standard output.
    #[track_caller]
    fn ok(&self, args: &str) -> String {
        let output = self.train(args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A long training that has written a checkpoint.
    fn start(&self, args: &str) -> Training {
        let args = format!("--config tiny.toml --run-dir run --set train.max_steps=1000000 {args}");
        let mut command = self.train(&args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let training = Training { child: Some(child), run: self.path("run") };
        let start = Instant::now();
        while newest_checkpoint(&training.run).is_none() {
            assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint in two minutes");
            thread::sleep(Duration::from_millis(20));
        }
        training
    }
}

struct Training {
    child: Option<Child>,
    run: PathBuf,
}

impl Training {
    fn launcher(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The process of a worker: of this run and with this number.
    fn worker(&self, number: usize) -> u32 {
        let rank = format!("OMPI_COMM_WORLD_RANK={number}");
        let folder = self.run.parent().unwrap();
        let is_worker = |pid: &u32| {
            let process = PathBuf::from(format!("/proc/{pid}"));
            fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder)
                && fs::read(process.join("environ"))
                    .is_ok_and(|env| env.split(|byte| *byte == 0).any(|value| value == rank.as_bytes()))
        };
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(is_worker)
            .expect("the worker is there")
    }

    /// Waits for the end, which must come soon.
    #[track_caller]
    fn end(mut self) -> Output {
        let mut child = self.child.take().unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                signal(child.id(), libc::SIGTERM);
                signal(child.id(), libc::SIGTERM);
                panic!("hangs: {}", text(&child.wait_with_output().unwrap()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.wait_with_output().unwrap()
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        // A failed test leaves nothing running: the workers go with their launcher.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(process: u32, signal: i32) {
    // SAFETY: a plain system call on a process that this test started.
    assert_eq!(unsafe { libc::kill(process as i32, signal) }, 0);
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn newest_checkpoint(run: &Path) -> Option<u64> {
    let names = fs::read_dir(run.join("checkpoints")).ok()?.flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()).max()
}

/// Loss, halted sequences and their steps of each row, and the evaluations.
fn curve(run: &Path) -> Vec<(f64, u64, f64)> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            match row.get("eval") {
                Some(eval) => (
                    eval["lm_loss"].as_f64().unwrap(),
                    eval["examples"].as_u64().unwrap(),
                    eval["mean_steps"].as_f64().unwrap(),
                ),
                None => (
                    row["loss"].as_f64().unwrap(),
                    row["count"].as_u64().unwrap(),
                    row["mean_steps"].as_f64().unwrap_or(0.0),
                ),
            }
        })
        .collect()
}

#[track_caller]
fn assert_same_run(one: &Path, other: &Path) {
    let (one, other) = (curve(one), curve(other));
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert!((one.0 - other.0).abs() <= 1e-4 * one.0, "{one:?} and {other:?}");
        assert_eq!((one.1, one.2), (other.1, other.2));
    }
}

#[test]
fn processes_train_as_one_does() {
    let sandbox = Sandbox::new();
    sandbox.ok("--config tiny.toml --run-dir one");
    for workers in [2, 4] {
        let run = format!("with-{workers}");
        let said = sandbox.ok(&format!("--config tiny.toml --run-dir {run} --workers {workers}"));
        assert_eq!(said.matches("finished after step 12").count(), 1, "one worker speaks: {said}");
        assert_same_run(&sandbox.path("one"), &sandbox.path(&run));
    }
    // The launcher chooses a folder once, for all.
    sandbox.ok("--config tiny.toml --workers 2 --quiet");
    assert!(sandbox.path("runs/tiny").is_dir() && !sandbox.path("runs/tiny-2").exists());
    // As on several machines: without the launcher.
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["-n", "2", "--oversubscribe", env!("CARGO_BIN_EXE_hrm"), "train", "--config", "tiny.toml"]);
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    let output = mpirun.args(["--run-dir", "direct"]).current_dir(sandbox.0.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_same_run(&sandbox.path("one"), &sandbox.path("direct"));
}

#[test]
fn a_killed_worker_ends_the_run_and_any_number_goes_on() {
    for (victim, resume_with) in [(1, 1), (0, 2)] {
        let sandbox = Sandbox::new();
        let training = sandbox.start("--workers 3");
        signal(training.worker(victim), libc::SIGKILL);
        let output = training.end();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let error = said.lines().find(|line| line.starts_with("error:")).unwrap_or_else(|| panic!("{said}"));
        assert!(error.contains(&format!("worker {victim} on ")) && error.contains("signal 9"), "{said}");
        let step = newest_checkpoint(&sandbox.path("run")).unwrap();
        assert!(error.contains(&format!("checkpoint of step {step}")), "{error}");
        assert!(error.contains("hrm train --resume run"), "{error}");

        let goal = step + 3;
        let said = sandbox.ok(&format!("--resume run --set train.stop_after={goal} --workers {resume_with}"));
        assert!(said.contains(&format!("stopped after step {goal}")), "{said}");
        // Nothing is missing and nothing is there twice.
        let text = fs::read_to_string(sandbox.path("run/metrics.jsonl")).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let steps: Vec<u64> =
            rows.filter(|row| row["loss"].is_number()).map(|row| row["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=goal).collect::<Vec<_>>());
    }
}

#[test]
fn a_worker_that_hangs_is_named() {
    let sandbox = Sandbox::new();
    let training = sandbox.start("--workers 3 --worker-timeout 3");
    signal(training.worker(2), libc::SIGSTOP);
    let output = training.end();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("waited 3 s for worker 2: killed, stuck or cut off"), "{said}");
    assert!(said.contains("hrm train --resume run"), "{said}");
    let log = fs::read_to_string(sandbox.path("run/train.log")).unwrap();
    assert!(log.contains("stopped by an error"), "{log}");
}

#[test]
fn ctrl_c_stops_all_workers_with_a_checkpoint() {
    let sandbox = Sandbox::new();
    let training = sandbox.start("--workers 2");
    signal(training.launcher(), libc::SIGINT);
    let output = training.end();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let step = newest_checkpoint(&sandbox.path("run")).unwrap();
    assert!(said.contains(&format!("stopped after step {step}")), "{said}");
}

#[test]
fn mistakes_are_told_once() {
    let sandbox = Sandbox::new();
    let told = |args: &str| -> String {
        let output = sandbox.train(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = text(&output);
        assert_eq!(said.matches("error:").count(), 1, "{said}");
        said
    };
    let uneven = told("--config tiny.toml --run-dir uneven --workers 5");
    assert!(uneven.contains("train.global_batch_size = 12 cannot be shared by 5 workers"), "{uneven}");
    let devices = told("--config tiny.toml --devices 0,1");
    assert!(devices.contains("--workers N"), "{devices}");
    sandbox.ok("--config tiny.toml --run-dir run --quiet --set train.max_steps=2");
    let occupied = told("--config tiny.toml --run-dir run --workers 2");
    assert!(occupied.contains("already holds a run"), "{occupied}");
}
