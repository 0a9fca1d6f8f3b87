//! A workload on several programs in turn: ours, and PyTorch's beside it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::root;

/// Multiplications and additions of the 27M model for one 9x9 Sudoku, in 10^9: a segment; and a training step, which is two
/// segments (one for the target) and the backward pass of a third of one, at twice its forward pass.
const SEGMENT_GFLOP: f64 = 13.4;
const TRAINING_STEP_GFLOP: f64 = SEGMENT_GFLOP * (2.0 + 2.0 / 3.0);

/// Relative difference between what the two sides compute, beyond which their times do not compare.
const CHECKSUM_TOLERANCE: f64 = 1e-3;
const CHECKSUM_TOLERANCE_BF16: f64 = 3e-2;

/// A program that measures on request.
#[derive(Debug)]
pub struct Worker {
    /// What it calls itself.
    pub name: String,
    /// Threads that it uses.
    pub threads: u64,
    /// The most that it needed so far.
    pub memory: Memory,
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    patience: Duration,
}

/// Peak memory of a worker, in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Memory {
    /// Of the process, as it says itself.
    Host(u64),
    /// Of the GPU: what its use grew by while the worker ran. Allocators there keep what they once took.
    Gpu(u64),
}

impl Memory {
    fn bytes(self) -> u64 {
        match self {
            Self::Host(bytes) | Self::Gpu(bytes) => bytes,
        }
    }
}

/// What a worker answered.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// Seconds that the workload took.
    pub seconds: f64,
    /// Seconds until the work was handed to the device, where the worker tells it.
    pub issue_seconds: Option<f64>,
    /// Of what was computed.
    pub checksum: f64,
}

impl Worker {
    /// Starts a program, which may take a while until it is [`ready`](Self::ready).
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(mut command: Command, memory: Memory, patience: Duration) -> Result<Self> {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let requests = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, answers) = channel();
        // A thread of its own, as a read cannot be given up.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { name, threads: 0, memory, child, requests, answers, patience })
    }

    /// Waits until it has told its name.
    ///
    /// # Errors
    /// If it ends before, or takes too long.
    pub fn ready(&mut self) -> Result<()> {
        let before = self.bytes();
        let ready = self.line()?;
        self.grow(before);
        self.name = ready["ready"].as_str().unwrap_or("?").to_owned();
        self.threads = ready["threads"].as_u64().unwrap_or(0);
        Ok(())
    }

    /// Asks for a workload, without waiting.
    ///
    /// # Errors
    /// If it has ended.
    pub fn ask(&mut self, workload: &str) -> Result<()> {
        writeln!(self.requests, "{workload}").with_context(|| format!("{} has ended", self.name))
    }

    /// The next answer to what it was asked.
    ///
    /// # Errors
    /// If it ends before, answers something else, or takes too long.
    pub fn answer(&mut self) -> Result<Measurement> {
        let answer = self.line()?;
        if let Memory::Host(bytes) = &mut self.memory {
            *bytes = answer["peak_bytes"].as_u64().unwrap_or(0);
        }
        let number =
            |key: &str| answer[key].as_f64().with_context(|| format!("{}: no {key} in {answer}", self.name));
        Ok(Measurement {
            seconds: number("seconds")?,
            issue_seconds: answer["issue_seconds"].as_f64(),
            checksum: number("checksum")?,
        })
    }

    /// Runs a workload once.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn measure(&mut self, workload: &str) -> Result<Measurement> {
        let before = self.bytes();
        self.ask(workload)?;
        let answer = self.answer()?;
        self.grow(before);
        Ok(answer)
    }

    /// How long it may take from now on.
    pub const fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    fn line(&mut self) -> Result<Value> {
        match self.answers.recv_timeout(self.patience) {
            Ok(line) => {
                serde_json::from_str(&line).with_context(|| format!("{} answered {line:?}", self.name))
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} did not answer for {:.0} s", self.name, self.patience.as_secs_f64())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{} ended without an answer; what it said is in the log", self.name)
            }
        }
    }

    /// What is in use on the GPU, if that is this worker's memory: asking takes a while.
    fn bytes(&self) -> Option<u64> {
        matches!(self.memory, Memory::Gpu(_)).then(gpu_bytes).flatten()
    }

    fn grow(&mut self, before: Option<u64>) {
        let now = self.bytes();
        if let (Memory::Gpu(bytes), Some(before), Some(now)) = (&mut self.memory, before, now) {
            *bytes += now.saturating_sub(before);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The memory in use on the GPU, in bytes: seen from outside, it means the same for every program.
pub fn gpu_bytes() -> Option<u64> {
    let query = Command::new("nvidia-smi")
        .args(["--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let mebibytes: u64 = String::from_utf8(query.stdout).ok()?.trim().parse().ok()?;
    Some(mebibytes << 20)
}

/// Pythons that may have torch, best first.
pub fn pythons(given: Option<&Path>) -> Vec<PathBuf> {
    match given {
        Some(path) => vec![path.to_owned()],
        None => env::var_os("HRM_PYTHON")
            .into_iter()
            .chain(["python3".into(), "/opt/torch/.venv/bin/python3".into()])
            .map(PathBuf::from)
            .collect(),
    }
}

/// The first of them that has torch.
pub fn find_python(candidates: &[PathBuf]) -> Option<PathBuf> {
    let has_torch = |python: &&PathBuf| {
        // Looking for it takes a moment, importing it seconds.
        let find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)";
        let status = Command::new(python).args(["-c", find]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    candidates.iter().find(has_torch).cloned()
}

/// PyTorch's side, eager or compiled, in a folder with the source tree or a part of it.
pub fn pytorch(python: &Path, root: &Path, weights: &Path, mode: &str, cuda: bool, bf16: bool) -> Command {
    let mut command = Command::new(python);
    command.arg(root.join("benches/pytorch/worker.py")).arg(weights).arg(mode);
    command.arg(if cuda { "cuda" } else { "cpu" }).arg(if bf16 { "bf16" } else { "f32" });
    command
}

/// A workload on all workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub workload: String,
    /// Median seconds of each worker.
    pub medians: Vec<f64>,
    /// Median seconds until the first worker has handed its work to the device.
    pub issue: Option<f64>,
    /// Measurements of each.
    pub rounds: usize,
}

/// Measures a workload on all workers in turn, after two runs of each that do not count.
///
/// # Errors
/// If a worker fails, or they do not compute the same.
pub fn interleaved(workers: &mut [Worker], workload: &str, rounds: usize, bf16: bool) -> Result<Row> {
    let mut checksums = Vec::new();
    for worker in &mut *workers {
        // The first call compiles, packs weights and warms caches; and all start from the same state.
        checksums.push(worker.measure(workload)?.checksum);
        worker.measure(workload)?;
    }
    same(workers, workload, &checksums, bf16)?;
    let row = rounds_of(workers, workload, rounds, || false)?;
    println!("  {}", row.medians.iter().map(|s| format!("{s:.4} s")).collect::<Vec<_>>().join("  "));
    Ok(row)
}

/// Whether the first steps of all workers computed the same.
///
/// # Errors
/// If not.
pub fn same(workers: &[Worker], workload: &str, checksums: &[f64], bf16: bool) -> Result<()> {
    let tolerance = if bf16 { CHECKSUM_TOLERANCE_BF16 } else { CHECKSUM_TOLERANCE };
    for (worker, checksum) in workers.iter().zip(checksums).skip(1) {
        let off = (checksum - checksums[0]).abs();
        if off > tolerance * checksums[0].abs() || off.is_nan() {
            bail!("{workload}: {} computes {checksum}, ours is {}", worker.name, checksums[0]);
        }
    }
    Ok(())
}

/// Measures a workload on warm workers in turn, until all rounds are done or there is no time for more.
///
/// # Errors
/// If a worker fails.
pub fn rounds_of(
    workers: &mut [Worker],
    workload: &str,
    rounds: usize,
    over: impl Fn() -> bool,
) -> Result<Row> {
    let mut times: Vec<Vec<Measurement>> = workers.iter().map(|_| Vec::new()).collect();
    let mut done = 0;
    while done < rounds && (done == 0 || !over()) {
        for (worker, times) in workers.iter_mut().zip(&mut times) {
            times.push(worker.measure(workload)?);
        }
        done += 1;
    }
    let issue = times.first().and_then(|times| times.iter().map(|m| m.issue_seconds).collect());
    Ok(Row {
        workload: workload.to_owned(),
        medians: times.iter().map(|t| median(t.iter().map(|m| m.seconds).collect())).collect(),
        issue: issue.map(median),
        rounds: done,
    })
}

/// The middle value, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// A row for each workload. Ratios are those of the fastest of the first `ours` workers; with the device's peak rate, also which
/// share of it that reaches (model FLOP utilisation).
pub fn table(workers: &[Worker], ours: usize, rows: &[Row], peak_tflops: Option<f64>) -> String {
    let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
    let mut text = rows_table(&names, ours, rows, peak_tflops);
    text += "| peak memory |";
    for worker in workers {
        text += &format!(" {:.0} MB |", worker.memory.bytes() as f64 / 1e6);
    }
    let least = workers[..ours].iter().map(|w| w.memory.bytes()).min().unwrap_or(0).max(1);
    for worker in &workers[ours..] {
        text += &format!(" {:.2} |", worker.memory.bytes() as f64 / least as f64);
    }
    text += &" - |".repeat(3 + usize::from(peak_tflops.is_some()));
    text + "\n"
}

/// The same without memory.
pub fn rows_table(names: &[&str], ours: usize, rows: &[Row], peak_tflops: Option<f64>) -> String {
    let mut text = "| workload |".to_owned();
    for name in names {
        text += &format!(" {name} |");
    }
    for name in &names[ours..] {
        text += &format!(" ratio to {} |", name.rsplit(' ').next().unwrap_or("?"));
    }
    text += " ours, sequences/s | TFLOP/s |";
    if peak_tflops.is_some() {
        text += " MFU |";
    }
    text += " issued in |\n|---|";
    let columns = names.len() + names[ours..].len() + 3 + usize::from(peak_tflops.is_some());
    text += &format!("{}\n", "---|".repeat(columns));
    for Row { workload, medians, issue, .. } in rows {
        let best = medians[..ours].iter().copied().fold(f64::INFINITY, f64::min);
        text += &format!("| {workload} |");
        for seconds in medians {
            text += &format!(" {} |", milliseconds(*seconds));
        }
        for seconds in &medians[ours..] {
            text += &format!(" **{:.2}** |", seconds / best);
        }
        let rate = teraflops(workload, best);
        let sequences = workload.split('/').nth(1).and_then(|rows| rows.parse::<f64>().ok());
        let sequences = sequences.filter(|_| workload.contains("step") || workload.contains("solve"));
        let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        text += &format!(" {} |", or_none(sequences.map(|rows| format!("{:.0}", rows / best))));
        text += &format!(" {} |", or_none(rate.map(|rate| format!("{rate:.2}"))));
        if let Some(peak) = peak_tflops {
            text += &format!(" {} |", or_none(rate.map(|rate| format!("{:.1} %", 100.0 * rate / peak))));
        }
        text += &format!(" {} |\n", or_none(issue.map(milliseconds)));
    }
    text
}

/// What our side reaches in a workload of the 27M model, in TFLOP/s.
pub fn teraflops(workload: &str, seconds: f64) -> Option<f64> {
    let (kind, rows) = workload.split_once('/')?;
    let rows: f64 = rows.parse().ok()?;
    let gflop = match kind {
        "act_step" => SEGMENT_GFLOP,
        "solve" => 16.0 * SEGMENT_GFLOP,
        "training_step" => TRAINING_STEP_GFLOP,
        _ => return None,
    };
    Some(gflop * rows / seconds / 1e3)
}

/// The rate of a GPU's bf16 products on tensor cores by its data sheet, dense, in TFLOP/s.
pub fn peak_tflops(gpu: &str) -> Option<f64> {
    const BF16: [(&str, f64); 13] = [
        ("H100 PCIe", 756.0),
        ("H100 NVL", 835.0),
        ("H100", 989.4),
        ("H200", 989.4),
        ("GH200", 989.4),
        ("B200", 2250.0),
        ("A100", 312.0),
        ("A10", 125.0),
        ("L40S", 362.0),
        ("L4", 121.0),
        ("RTX 3090", 71.0),
        ("RTX 4090", 165.2),
        ("RTX 5090", 209.5),
    ];
    BF16.iter().find(|(name, _)| gpu.contains(name)).map(|(_, rate)| *rate)
}

/// As a table shows it.
pub fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// What a program prints, or nothing.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(root()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The commit of the working tree, `-dirty` if it has changed since.
pub fn commit() -> String {
    said("git", &["describe", "--always", "--dirty"]).unwrap_or_else(|| "unknown".to_owned())
}

/// Today.
pub fn date() -> String {
    said("date", &["-u", "+%F"]).unwrap_or_else(|| "undated".to_owned())
}

/// A file of today in `docs/benchmarks` that is not there yet.
///
/// # Errors
/// If there are too many.
pub fn record_path(kind: &str) -> Result<PathBuf> {
    let folder = root().join("docs/benchmarks");
    let date = date();
    let mut names = std::iter::once(format!("{date}-{kind}.md"))
        .chain((2..100).map(|n| format!("{date}-{kind}-{n}.md")))
        .map(|name| folder.join(name));
    names.find(|path| !path.exists()).context("docs/benchmarks holds a hundred records of today")
}

/// The moment until which something may take.
pub fn until(limit: Duration) -> impl Fn() -> bool {
    let end = Instant::now() + limit;
    move || Instant::now() >= end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_of_the_right_gpu() {
        assert_eq!(peak_tflops("NVIDIA H100 80GB HBM3"), Some(989.4));
        assert_eq!(peak_tflops("NVIDIA H100 PCIe"), Some(756.0));
        assert_eq!(peak_tflops("NVIDIA GH200 480GB"), Some(989.4));
        assert_eq!(peak_tflops("NVIDIA L40S"), Some(362.0));
        assert_eq!(peak_tflops("NVIDIA RTX of tomorrow"), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_table_has_ratios_and_utilisation() {
        let row = Row {
            workload: "training_step/384".to_owned(),
            medians: vec![0.040, 0.036],
            issue: Some(0.013),
            rounds: 7,
        };
        let text = rows_table(&["hrm", "PyTorch 2 compile"], 1, &[row], Some(989.4));
        let last = text.lines().last().expect("a row");
        assert_eq!(last, "| training_step/384 | 40 ms | 36 ms | **0.90** | 9600 | 343.04 | 34.7 % | 13 ms |");
        let columns = |line: &str| line.matches('|').count();
        assert!(text.lines().all(|line| columns(line) == columns(last)), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_worker_that_is_silent_is_given_up() {
        let mut command = Command::new("sleep");
        command.arg("5");
        let mut worker =
            Worker::start(command, Memory::Host(0), Duration::from_millis(50)).expect("sleep starts");
        let error = worker.ready().expect_err("sleep says nothing").to_string();
        assert!(error.contains("did not answer"), "{error}");
    }
}
