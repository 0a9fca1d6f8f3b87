//! On what and from what a run was made: machine, program, source, command.

use std::{
    env, fs,
    path::Path,
    process::{self, Command},
    thread,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::timestamp;

/// One process that worked on a run; `environment.json` holds one for each, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// When it started, UTC.
    pub started: String,
    /// The command line.
    pub command: String,
    /// The folder it was given in.
    pub folder: String,
    /// Version of this program.
    pub hrm: String,
    /// Version of Burn.
    pub burn: String,
    /// Commit of the source that it was compiled in, where that is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// Whether tracked files of that source differed from the commit at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_modified: Option<bool>,
    /// Name of the machine.
    pub host: String,
    /// Operating system and architecture.
    pub system: String,
    /// Model of the processor.
    pub cpu: String,
    /// Processors that it may use.
    pub cores: usize,
    /// Threads that compute on the processor.
    pub threads: usize,
    /// Backend and device.
    pub backend: String,
    /// Seed of the recipe.
    pub seed: u64,
    /// Process number on that machine.
    pub pid: u32,
    /// Steps that were done already.
    pub first_step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Trained parameters.
    pub parameters: usize,
    /// How it ended; `None` while it runs, or if it was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<SessionEnd>,
}

/// The end of a [`Session`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// When, UTC.
    pub time: String,
    /// Steps done then.
    pub step: u64,
    /// `Finished`, `StopAfter`, `Interrupted`, or the error.
    pub how: String,
    /// The most bytes of memory that the process held, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
}

/// The version that the workspace pins.
const BURN: &str = "0.21.0";

impl Session {
    /// This process, now.
    pub fn of_this_process(backend: &str, seed: u64, first_step: u64) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let git =
            |arguments: &[&str]| output("git", &[&["-C", env!("CARGO_MANIFEST_DIR")], arguments].concat());
        let git_commit = source.is_dir().then(|| git(&["rev-parse", "HEAD"])).flatten();
        let changes =
            git_commit.as_ref().and_then(|_| git(&["status", "--porcelain", "--untracked-files=no"]));
        Self {
            started: timestamp(SystemTime::now()),
            command: env::args_os()
                .map(|argument| quoted(&argument.to_string_lossy()))
                .collect::<Vec<_>>()
                .join(" "),
            folder: env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default(),
            hrm: env!("CARGO_PKG_VERSION").to_owned(),
            burn: BURN.to_owned(),
            system: format!("{} {}", env::consts::OS, env::consts::ARCH),
            git_modified: changes.map(|changes| !changes.is_empty()),
            git_commit,
            host: host(),
            cpu: cpu(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            backend: backend.to_owned(),
            seed,
            pid: process::id(),
            first_step,
            ..Self::default()
        }
    }

    /// Whether its process is still there, as far as can be told from this machine.
    pub fn is_running(&self) -> bool {
        self.ended.is_none() && self.host == host() && Path::new(&format!("/proc/{}", self.pid)).is_dir()
    }
}

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What it holds now.
    pub memory: u64,
    /// The most that it has held.
    pub peak_memory: u64,
}

/// The memory of this process, where the system tells (Linux).
pub fn memory() -> Option<Memory> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(Memory { memory: bytes("VmRSS:")?, peak_memory: bytes("VmHWM:")? })
}

/// The memory of this machine in bytes, where the system tells (Linux).
pub fn total_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Name of this machine.
pub(super) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| output("hostname", &[])).unwrap_or_default();
    let name: String = name.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    model
        .map(str::to_owned)
        .or_else(|| output("sysctl", &["-n", "machdep.cpu.brand_string"]))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Standard output of a program that succeeds, without the line end.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An argument as a shell reads it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_knows_its_process() {
        let session = Session::of_this_process("flex", 3, 0);
        assert!(session.cores >= 1 && session.threads >= 1);
        assert!(!session.command.is_empty() && !session.cpu.is_empty());
        assert_eq!(session.is_running(), cfg!(target_os = "linux"));
        let text = serde_json::to_string(&session).unwrap();
        assert_eq!(serde_json::from_str::<Session>(&text).unwrap(), session);
        // A file of another version may have fewer fields.
        assert_eq!(serde_json::from_str::<Session>("{\"seed\": 5}").unwrap().seed, 5);
        if cfg!(target_os = "linux") {
            let Memory { memory, peak_memory } = memory().unwrap();
            assert!(memory > 100_000 && peak_memory >= memory);
        }
    }

    #[test]
    fn commands_can_be_given_again() {
        assert_eq!(quoted("--set=train.lr=1e-4"), "--set=train.lr=1e-4");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn the_version_of_burn_is_the_locked_one() {
        let lock =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock")).unwrap();
        assert!(lock.contains(&format!("name = \"burn\"\nversion = \"{BURN}\"")));
    }
}
