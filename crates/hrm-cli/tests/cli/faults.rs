//! Disks that fill up, files that outgrow a limit, permissions that are taken away: a training stops with a clear word,
//! keeps its checkpoints, and goes on once the cause is gone.
#![cfg(unix)]

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    kill::curve,
    sandbox::{Run, Sandbox, TINY_RECIPE, assert_says, snapshot},
};

/// A run that stopped after step 5, with checkpoints of steps 4 and 5, and a whole one to compare with.
fn stopped_run() -> Sandbox {
    let sandbox = Sandbox::new();
    // Evaluations only at the end: the best one of a run is saved as well.
    sandbox.write("tiny.toml", TINY_RECIPE.replace("interval = 6", "interval = 0"));
    sandbox.hrm("train --config tiny.toml --run-dir whole --quiet").ok();
    sandbox.hrm("train --config tiny.toml --run-dir run --quiet --set train.stop_after=5").ok();
    sandbox
}

/// The run goes on to the end of the whole one.
#[track_caller]
fn assert_goes_on(sandbox: &Sandbox) {
    sandbox.hrm("train --resume run --quiet").ok();
    assert_eq!(curve(&sandbox.path("run")), curve(&sandbox.path("whole")));
    let model = "checkpoints/step-12/model.safetensors";
    assert!(sandbox.read(&format!("run/{model}")) == sandbox.read(&format!("whole/{model}")));
}

/// Names in the folder of checkpoints.
fn names(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.path("run/checkpoints")).expect("checkpoints");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_outgrows_its_limit() {
    let sandbox = stopped_run();
    let before = snapshot(&sandbox.path("run/checkpoints"));
    let resume = |trap: &str| {
        // 20 or 40 KB, as the shell counts: less than a checkpoint.
        let script = format!("{trap} ulimit -f 40 && exec \"$0\" train --resume run --quiet");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_hrm")).current_dir(sandbox.path(""));
        command.output().expect("starts")
    };
    // The write fails, as on a full disk.
    let told = Run::from(resume("trap '' XFSZ;")).error();
    assert_says(
        &told,
        &["File too large", "step-8.partial", "all steps up to 5 are in a checkpoint", "--resume run"],
    );
    assert_eq!(
        snapshot(&sandbox.path("run/checkpoints")),
        before,
        "no checkpoint changes, and nothing is left over"
    );
    // The signal kills, in the middle of a file.
    let output = resume("");
    assert!(output.status.signal().is_some() || output.status.code() > Some(128), "{:?}", output.status);
    for name in ["step-4", "step-5"] {
        sandbox.hrm(&format!("inspect checkpoint run/checkpoints/{name}")).ok();
    }
    assert_goes_on(&sandbox);
    let kept: Vec<String> = names(&sandbox).into_iter().filter(|name| name.starts_with("step-")).collect();
    assert_eq!(kept, ["step-12", "step-8"]);
}

/// Memory that runs out, at one place or another, ends a program as a kill does.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out() {
    let sandbox = stopped_run();
    let resume = |kilobytes: usize| {
        let script = format!("ulimit -v {kilobytes} && exec \"$0\" train --resume run --quiet");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_hrm")).current_dir(sandbox.path(""));
        command.output().expect("starts").status.success()
    };
    let fails = (30_000..200_000).step_by(5_000).take_while(|kilobytes| !resume(*kilobytes)).count();
    assert!(fails > 0, "it takes some memory");
    assert_goes_on(&sandbox);
}

/// A small file system of its own, gone at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&path).expect("folder");
        let arguments = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(status.expect("mount").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_up() {
    let sandbox = Sandbox::new();
    let Some(disk) = SmallDisk::mount(sandbox.path("run"), "3m") else {
        eprintln!(
            "skipped: file systems cannot be mounted here; a_file_that_outgrows_its_limit covers the rest"
        );
        return;
    };
    sandbox.write("tiny.toml", TINY_RECIPE.replace("checkpoint_interval = 4", "checkpoint_interval = 1"));
    let keep = "--set train.keep_checkpoints=100 --set train.max_steps=40";
    sandbox.hrm(&format!("train --config tiny.toml --run-dir whole --quiet {keep}")).ok();
    // A folder that is there already, but holds no run.
    let told = sandbox.hrm(&format!("train --config tiny.toml --run-dir run --quiet {keep}")).error();
    assert_says(&told, &["No space left on device", "training stopped", "--resume run"]);
    let checkpoints: Vec<String> =
        names(&sandbox).into_iter().filter(|name| name.starts_with("step-")).collect();
    assert!(checkpoints.len() > 2 && checkpoints.len() < 40, "{checkpoints:?}");
    for name in &checkpoints {
        sandbox.hrm(&format!("inspect checkpoint run/checkpoints/{name}")).ok();
    }
    disk.resize("64m");
    sandbox.hrm("train --resume run --quiet").ok();
    assert_eq!(curve(&sandbox.path("run")), curve(&sandbox.path("whole")));
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

/// The program as somebody whom permissions bind: they do not bind root, who becomes `nobody`.
fn bound_by_permissions(sandbox: &Sandbox) -> Command {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        return sandbox.command();
    }
    const NOBODY: u32 = 65_534;
    // The program's own folder may be closed to others.
    let program = sandbox.path("hrm");
    if !program.exists() {
        let built = env!("CARGO_BIN_EXE_hrm");
        fs::hard_link(built, &program)
            .or_else(|_| fs::copy(built, &program).map(|_| ()))
            .expect("the program");
    }
    set_mode(&sandbox.path(""), 0o755);
    let mut folders = vec![sandbox.path("run")];
    while let Some(path) = folders.pop() {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("owner");
        if path.is_dir() {
            folders.extend(fs::read_dir(&path).expect("folder").map(|entry| entry.expect("entry").path()));
        }
    }
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir(sandbox.path(""));
    command
}

#[test]
fn permissions_that_are_taken_away() {
    let sandbox = stopped_run();
    let resume = || {
        let mut command = bound_by_permissions(&sandbox);
        Run::from(command.args(["train", "--resume", "run", "--quiet"]).output().expect("starts")).error()
    };
    let folder = sandbox.path("run/checkpoints");
    let before = snapshot(&folder);
    set_mode(&folder, 0o555);
    let told = resume();
    assert_says(&told, &["Permission denied", "step-8.partial", "all steps up to 5 are in a checkpoint"]);
    set_mode(&folder, 0o755);
    assert_eq!(snapshot(&folder), before);

    // A checkpoint that is whole but closed is no damaged one: going back further would lose steps.
    let newest = sandbox.path("run/checkpoints/step-5/train.safetensors");
    set_mode(&newest, 0o000);
    assert_says(&resume(), &["Permission denied", "step-5/train.safetensors"]);
    set_mode(&newest, 0o644);

    // The run's own folder.
    set_mode(&sandbox.path("run"), 0o555);
    assert_says(&resume(), &["Permission denied", "run"]);
    set_mode(&sandbox.path("run"), 0o755);
    assert_goes_on(&sandbox);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let sandbox = Sandbox::new();
    let generate =
        "data maze generate --size 9x9 --kind unique --min-path 4 --max-path 30 --train 9 --test 1 --out";
    let mut child = sandbox
        .command()
        .args(generate.split(' '))
        .arg("piped")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    assert!(sandbox.path("piped/train/dataset.json").exists(), "the work is done all the same");

    if let Ok(full) = fs::File::create("/dev/full") {
        let output =
            sandbox.command().args(generate.split(' ')).arg("full").stdout(full).output().expect("starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{stderr}");
        assert_says(&stderr, &["cannot write to standard output"]);
    }
}
