//! The power goes: a training writes to a real ext4 file system on an image of a disk, the image is copied at some moment, and
//! the run goes on from the copy, as from a disk after a reset. Needs root, `mkfs.ext4` and loop devices.
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    kill::{checkpoints, curve, lines, step_of},
    sandbox::{Sandbox, TINY_RECIPE},
};

/// Losses of a test; `HRM_POWER_LOSSES=25` for a long one.
fn losses() -> u64 {
    env::var("HRM_POWER_LOSSES").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

fn runs(program: &str, args: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// An image of a disk that is mounted as long as this lives.
struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// Mounts an image: ext4 first goes through its journal, as after a loss of power.
    fn mount(image: PathBuf, folder: PathBuf) -> Option<Self> {
        fs::create_dir_all(&folder).expect("a folder");
        // Data that nobody asks to flush are on disk soon, so that some of them are there and some are not.
        let options = ["-o", "loop,commit=1"].map(Path::new);
        let done = runs("mount", &[options[0], options[1], &image, &folder]);
        done.then_some(Self { image, folder })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(runs("umount", &[&self.folder]) || thread::panicking(), "umount {}", self.folder.display());
    }
}

#[test]
fn a_training_survives_losses_of_power() {
    let sandbox = Sandbox::new();
    let image = |n: u64| sandbox.path(&format!("disk-{n}.img"));
    fs::File::create(image(0)).and_then(|file| file.set_len(64 << 20)).expect("an image");
    let formatted = runs("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image(0)]);
    let disk = formatted.then(|| Disk::mount(image(0), sandbox.path("disk"))).flatten();
    let Some(mut disk) = disk else {
        println!("SKIPPED: needs root, mkfs.ext4 and loop devices");
        return;
    };
    sandbox.write("tiny.toml", TINY_RECIPE.replace("checkpoint_interval = 4", "checkpoint_interval = 2"));
    let endless = "--set train.max_steps=1000000 --set eval.interval=0";
    let run = sandbox.path("disk/run");
    let anew = "train --config tiny.toml --run-dir disk/run";
    let mut resumed = 0;
    for loss in 0..losses() {
        let is_run = run.join("config.toml").exists();
        resumed += u64::from(is_run);
        if !is_run && run.exists() {
            fs::remove_dir_all(&run).expect("what never became a run");
        }
        let args = format!("{} {endless}", if is_run { "train --resume disk/run" } else { anew });
        let said = fs::File::create(sandbox.path("said.txt")).expect("a file");
        let mut command = sandbox.command();
        command.args(args.split_whitespace()).stdout(Stdio::null()).stderr(said);
        let mut child = command.spawn().expect("starts");
        // From the start of the program to some seconds of training; the same in each run of the test.
        thread::sleep(Duration::from_millis(300 + loss * 7_919 % 2_500));
        let next = image(loss + 1);
        assert!(runs("cp", &[Path::new("--sparse=always"), &disk.image, &next]), "a copy of the disk");
        let at_work = child.try_wait().expect("a child").is_none();
        child.kill().expect("kill");
        child.wait().expect("a child");
        let said = String::from_utf8_lossy(&sandbox.read("said.txt")).into_owned();
        assert!(at_work, "the training goes on until the power goes: {said}");
        let former = disk.image.clone();
        drop(disk);
        fs::remove_file(former).expect("the former disk");
        disk = Disk::mount(next, sandbox.path("disk")).expect("the journal brings the copy in order");
        let names = if run.join("checkpoints").exists() { checkpoints(&run) } else { Vec::new() };
        for name in names.iter().filter(|name| step_of(name).is_some()) {
            sandbox.hrm(&format!("inspect checkpoint disk/run/checkpoints/{name}")).ok();
        }
    }
    assert!(resumed > 0, "no run was there after a loss");
    let steps = lines(&run) + 3;
    let end = format!("{endless} --set train.stop_after={steps}");
    sandbox.hrm(&format!("train --resume disk/run --quiet {end}")).ok();
    sandbox.hrm(&format!("train --config tiny.toml --run-dir whole --quiet {end}")).ok();
    assert_eq!(curve(&run), curve(&sandbox.path("whole")));
    let model = format!("checkpoints/step-{steps}/model.safetensors");
    assert!(sandbox.read(&format!("whole/{model}")) == sandbox.read(&format!("disk/run/{model}")));
    println!("{} losses of power, {resumed} of them in a run that went on, {steps} steps", losses());
}
