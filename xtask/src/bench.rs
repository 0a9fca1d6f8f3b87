//! `cargo xtask bench`: criterion, and a comparison with PyTorch in one run.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::process::{Cmd, root, target_dir};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to run.
    #[arg(long, value_enum, default_value = "all")]
    only: Part,
    /// The Python to compare with; by default $HRM_PYTHON, then python3, if it has torch.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Measurements of each workload on each side; medians are compared.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Workloads to compare, for example act_step/1,training_step/32.
    #[arg(long, value_delimiter = ',', default_values_t = WORKLOADS.map(str::to_owned))]
    workloads: Vec<String>,
    /// The GPU (backend cuda) instead of the CPU.
    #[arg(long)]
    cuda: bool,
    /// Compute in bfloat16 on both sides.
    #[arg(long)]
    bf16: bool,
    /// Leave out torch.compile, whose compilation takes minutes.
    #[arg(long)]
    no_compile: bool,
    /// For criterion, for example `-- attention`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    All,
    Criterion,
    Pytorch,
}

/// Kind and sizes: sequences for those of the model, `[m, k] x [n, k]^T` for products.
const WORKLOADS: [&str; 8] = [
    "act_step/1",
    "act_step/32",
    "solve/1",
    "training_step/32",
    "block/32",
    "product/82/512/1536",
    "product/2624/512/3072",
    "product/2624/1536/512",
];

/// Sequences per step on a GPU: the recipes' batches.
pub const GPU_WORKLOADS: [&str; 4] =
    ["act_step/32", "act_step/384", "training_step/384", "training_step/768"];

/// Multiplications and additions of the 27M model for one 9x9 Sudoku, in 10^9: a segment; and a training step, which is two
/// segments (one for the target) and the backward pass of a third of one, at twice its forward pass.
const SEGMENT_GFLOP: f64 = 13.4;
const TRAINING_STEP_GFLOP: f64 = SEGMENT_GFLOP * (2.0 + 2.0 / 3.0);

/// Relative difference between what the two sides compute, beyond which their times do not compare.
const CHECKSUM_TOLERANCE: f64 = 1e-3;
const CHECKSUM_TOLERANCE_BF16: f64 = 3e-2;

pub fn run(args: &BenchArgs) -> Result<()> {
    if args.only != Part::Pytorch {
        // The dev profile is the one that programs run with, and what it needs is compiled already.
        Cmd::cargo("bench --profile dev --package hrm-benches").args(args.args.clone()).run()?;
    }
    if args.only == Part::Criterion {
        return Ok(());
    }
    match find_python(args.python.as_deref()) {
        Some(python) => compare(args, &python),
        None if args.only == Part::All && args.python.is_none() => {
            println!(
                "\nno Python with torch found: the comparison with PyTorch is left out. To get it: \
                 python3 -m venv V; V/bin/pip install torch numpy; cargo xtask bench --python V/bin/python"
            );
            Ok(())
        }
        None => bail!(
            "no Python with torch: tried {}; install it with `pip install torch numpy`",
            candidates(args.python.as_deref())
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// The workloads on the GPU, by each of our programs and beside PyTorch where there is one: a section of a record.
pub fn on_gpu(
    bf16: bool,
    gpu: &str,
    programs: &[PathBuf],
    workloads: &[String],
    rounds: usize,
) -> Result<String> {
    let python = find_python(None);
    if python.is_none() {
        println!("no Python with torch (set HRM_PYTHON): the comparison with PyTorch is left out");
    }
    let args = BenchArgs {
        only: Part::Pytorch,
        python: None,
        rounds,
        workloads: workloads.to_vec(),
        cuda: true,
        bf16,
        no_compile: false,
        args: Vec::new(),
    };
    let measured = measure(&args, programs, python.as_deref())?;
    Ok(format!("### {}\n\n{}", if bf16 { "bf16" } else { "fp32" }, measured.table(peak_tflops(gpu, bf16))))
}

/// The rate of a GPU's matrix products by its data sheet, dense, in TFLOP/s: of bf16 on tensor cores; none is stated for the
/// fp32 products here, which do without tensor cores (with fusion: are made of TF32 ones).
fn peak_tflops(gpu: &str, bf16: bool) -> Option<f64> {
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
    BF16.iter().find(|(name, _)| bf16 && gpu.contains(name)).map(|(_, rate)| *rate)
}

/// What our side reaches in a workload of the model, in TFLOP/s.
fn teraflops(workload: &str, seconds: f64) -> Option<f64> {
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

/// The memory in use on the GPU, in bytes: seen from outside, it means the same for every program.
fn gpu_bytes() -> Option<u64> {
    let query = Command::new("nvidia-smi")
        .args(["--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"])
        .output()
        .ok()?;
    let mebibytes: u64 = String::from_utf8(query.stdout).ok()?.trim().parse().ok()?;
    Some(mebibytes << 20)
}

fn candidates(given: Option<&Path>) -> Vec<PathBuf> {
    match given {
        Some(path) => vec![path.to_owned()],
        None => env::var_os("HRM_PYTHON").into_iter().chain(["python3".into()]).map(PathBuf::from).collect(),
    }
}

fn find_python(given: Option<&Path>) -> Option<PathBuf> {
    candidates(given).into_iter().find(|python| {
        let import = Command::new(python).args(["-c", "import torch"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    })
}

/// A program that measures on request.
struct Worker {
    name: String,
    threads: u64,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    memory: Memory,
}

/// Peak memory of a worker, in bytes.
enum Memory {
    /// Of the process, as it says itself.
    Host(u64),
    /// Of the GPU: what its use grew by while the worker ran. Allocators there keep what they once took.
    Gpu(u64),
}

impl Memory {
    fn bytes(&self) -> u64 {
        match self {
            Self::Host(bytes) | Self::Gpu(bytes) => *bytes,
        }
    }
}

struct Measurement {
    seconds: f64,
    /// Seconds until the work was handed to the device, where the worker tells it.
    issue_seconds: Option<f64>,
    checksum: f64,
}

impl Worker {
    fn start(mut command: Command, on_gpu: bool) -> Result<Self> {
        let program = format!("{command:?}");
        let before = gpu_bytes();
        let mut child = command
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let requests = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let memory = if on_gpu { Memory::Gpu(0) } else { Memory::Host(0) };
        let mut worker = Self { name: program, threads: 0, child, requests, answers, memory };
        let ready = worker.answer()?;
        worker.grow(before);
        worker.name = ready["ready"].as_str().unwrap_or("?").to_owned();
        worker.threads = ready["threads"].as_u64().unwrap_or(0);
        Ok(worker)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended without an answer; what it said is above", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("{} answered {line:?}", self.name))
    }

    fn measure(&mut self, workload: &str) -> Result<Measurement> {
        let before = gpu_bytes();
        writeln!(self.requests, "{workload}")?;
        let answer = self.answer()?;
        self.grow(before);
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

    fn grow(&mut self, before: Option<u64>) {
        if let (Memory::Gpu(bytes), Some(before), Some(now)) = (&mut self.memory, before, gpu_bytes()) {
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

fn compare(args: &BenchArgs, python: &Path) -> Result<()> {
    let program = build_worker(if args.cuda { &["cuda"] } else { &[] })?;
    let measured = measure(args, &[program], Some(python))?;
    let record = measured.record(args);
    println!("\n{record}");
    write_record("pytorch", &record)
}

/// Our worker with some features, copied so that a build with others does not replace it.
fn build_worker(features: &[&str]) -> Result<PathBuf> {
    let mut cmd = Cmd::cargo("build --package hrm-benches --bin worker");
    if !features.is_empty() {
        cmd = cmd.args(["--features".to_owned(), features.join(",")]);
    }
    cmd.run()?;
    let built = target_dir().join("debug/worker");
    let name = features.iter().fold("worker".to_owned(), |name, feature| name + "-" + feature);
    let copy = target_dir().join("bench").join(name);
    fs::create_dir_all(target_dir().join("bench"))
        .and_then(|()| fs::copy(&built, &copy))
        .with_context(|| format!("cannot copy {} to {}", built.display(), copy.display()))?;
    Ok(copy)
}

/// What a comparison gave.
struct Measured {
    /// The first ones are ours.
    workers: Vec<Worker>,
    ours: usize,
    rows: Vec<Row>,
}

struct Row {
    workload: String,
    /// Median seconds of each worker.
    medians: Vec<f64>,
    /// Median seconds until each worker has handed its work to the device.
    issue: Vec<Option<f64>>,
}

fn measure(args: &BenchArgs, programs: &[PathBuf], python: Option<&Path>) -> Result<Measured> {
    let weights = env::temp_dir().join(format!("hrm-bench-{}.safetensors", std::process::id()));
    let result = measure_with(args, programs, python, &weights);
    let _ = fs::remove_file(&weights);
    result
}

fn measure_with(
    args: &BenchArgs,
    programs: &[PathBuf],
    python: Option<&Path>,
    weights: &Path,
) -> Result<Measured> {
    let dtype = if args.bf16 { "bf16" } else { "f32" };
    let mut workers = Vec::new();
    for program in programs {
        let mut ours = Command::new(program);
        ours.arg(weights).arg(dtype);
        workers.push(Worker::start(ours, args.cuda)?);
    }
    let modes: &[&str] = if args.no_compile { &["eager"] } else { &["eager", "compile"] };
    for (python, mode) in python.iter().flat_map(|python| modes.iter().map(move |mode| (python, mode))) {
        let mut theirs = Command::new(python);
        theirs.arg("benches/pytorch/worker.py").arg(weights).arg(mode);
        theirs.arg(if args.cuda { "cuda" } else { "cpu" }).arg(dtype);
        // As many threads on each side.
        theirs.env("OMP_NUM_THREADS", workers[0].threads.to_string());
        workers.push(Worker::start(theirs, args.cuda)?);
    }
    let mut rows = Vec::new();
    for workload in &args.workloads {
        println!("{workload}");
        let mut checksums = Vec::new();
        for worker in &mut workers {
            // The first call compiles, packs weights and warms caches; and all start from the same state.
            checksums.push(worker.measure(workload)?.checksum);
            worker.measure(workload)?;
        }
        let tolerance = if args.bf16 { CHECKSUM_TOLERANCE_BF16 } else { CHECKSUM_TOLERANCE };
        for (worker, checksum) in workers.iter().zip(&checksums).skip(1) {
            if (checksum - checksums[0]).abs() > tolerance * checksums[0].abs() {
                bail!("{workload}: {} computes {checksum}, ours is {}", worker.name, checksums[0]);
            }
        }
        let mut times: Vec<Vec<Measurement>> = workers.iter().map(|_| Vec::new()).collect();
        for _ in 0..args.rounds {
            for (worker, times) in workers.iter_mut().zip(&mut times) {
                times.push(worker.measure(workload)?);
            }
        }
        let medians: Vec<f64> = times.iter().map(|t| median(t.iter().map(|m| m.seconds).collect())).collect();
        let issue =
            times.iter().map(|t| t.iter().map(|m| m.issue_seconds).collect::<Option<_>>().map(median));
        println!("  {}", medians.iter().map(|s| format!("{s:.4} s")).collect::<Vec<_>>().join("  "));
        rows.push(Row { workload: workload.clone(), issue: issue.collect(), medians });
    }
    Ok(Measured { workers, ours: programs.len(), rows })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

impl Measured {
    /// A record of a comparison by itself.
    fn record(&self, args: &BenchArgs) -> String {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
        format!(
            "# The same model in PyTorch, {}\n\n`cargo xtask bench --only pytorch --rounds {}{}{}` at commit {}; {}, {} \
             threads{}; HRM 27M on 9x9 Sudoku, {}.\nMedians of {} measurements, the sides in turn. A ratio above 1 means \
             that ours is faster.\n\n{}",
            date(),
            args.rounds,
            if args.cuda { " --cuda" } else { "" },
            if args.bf16 { " --bf16" } else { "" },
            commit(),
            cpu.trim_start_matches([' ', '\t', ':']),
            self.workers[0].threads,
            if args.cuda { " and its GPU" } else { "" },
            if args.bf16 { "bf16" } else { "fp32" },
            args.rounds,
            self.table(None),
        )
    }

    /// A row for each workload. Ratios are those of the fastest of ours; with the device's peak rate, also which share of it
    /// that reaches (model FLOP utilisation).
    fn table(&self, peak_tflops: Option<f64>) -> String {
        let theirs = &self.workers[self.ours..];
        let mut text = "| workload |".to_owned();
        for worker in &self.workers {
            text += &format!(" {} |", worker.name);
        }
        for worker in theirs {
            text += &format!(" ratio to {} |", worker.name.rsplit(' ').next().unwrap_or("?"));
        }
        text += " ours, sequences/s | TFLOP/s |";
        if peak_tflops.is_some() {
            text += " MFU |";
        }
        text += " issued in |\n|---|";
        let columns = self.workers.len() + theirs.len() + 3 + usize::from(peak_tflops.is_some());
        text += &format!("{}\n", "---|".repeat(columns));
        for Row { workload, medians, issue } in &self.rows {
            let best = medians[..self.ours].iter().copied().fold(f64::INFINITY, f64::min);
            text += &format!("| {workload} |");
            for seconds in medians {
                text += &format!(" {} |", milliseconds(*seconds));
            }
            for seconds in &medians[self.ours..] {
                text += &format!(" **{:.2}** |", seconds / best);
            }
            let rate = teraflops(workload, best);
            let rows = workload.split('/').nth(1).and_then(|rows| rows.parse::<f64>().ok());
            let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
            text += &format!(" {} |", or_none(rate.and(rows).map(|rows| format!("{:.0}", rows / best))));
            text += &format!(" {} |", or_none(rate.map(|rate| format!("{rate:.2}"))));
            if let Some(peak) = peak_tflops {
                text += &format!(" {} |", or_none(rate.map(|rate| format!("{:.1} %", 100.0 * rate / peak))));
            }
            text += &format!(" {} |\n", or_none(issue[0].map(milliseconds)));
        }
        text += "| peak memory |";
        for worker in &self.workers {
            text += &format!(" {:.0} MB |", worker.memory.bytes() as f64 / 1e6);
        }
        let ours = self.workers[..self.ours].iter().map(|w| w.memory.bytes()).min().unwrap_or(0).max(1);
        for worker in theirs {
            text += &format!(" {:.2} |", worker.memory.bytes() as f64 / ours as f64);
        }
        text += &" - |".repeat(3 + usize::from(peak_tflops.is_some()));
        text + "\n"
    }
}

/// The commit of the working tree, `-dirty` if it has changed since.
pub fn commit() -> String {
    let described = Cmd::new("git").args(["describe", "--always", "--dirty"]).output();
    described.unwrap_or_default().trim().to_owned()
}

fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// Today.
pub fn date() -> String {
    let date = Cmd::new("date").args(["-u", "+%F"]).output().unwrap_or_default();
    if date.trim().is_empty() { "undated".to_owned() } else { date.trim().to_owned() }
}

/// A file of today in `docs/benchmarks` that is not there yet.
pub fn record_path(kind: &str) -> Result<PathBuf> {
    let folder = root().join("docs/benchmarks");
    let date = date();
    let mut names = std::iter::once(format!("{date}-{kind}.md"))
        .chain((2..100).map(|n| format!("{date}-{kind}-{n}.md")))
        .map(|name| folder.join(name));
    names.find(|path| !path.exists()).context("docs/benchmarks holds a hundred records of today")
}

/// Writes a record of today.
pub fn write_record(kind: &str, text: &str) -> Result<()> {
    let path = record_path(kind)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_of_the_right_gpu() {
        assert_eq!(peak_tflops("NVIDIA H100 80GB HBM3", true), Some(989.4));
        assert_eq!(peak_tflops("NVIDIA H100 PCIe", true), Some(756.0));
        assert_eq!(peak_tflops("NVIDIA GH200 480GB", true), Some(989.4));
        assert_eq!(peak_tflops("NVIDIA L40S", true), Some(362.0));
        assert_eq!(peak_tflops("NVIDIA H100 PCIe", false), None);
        assert_eq!(peak_tflops("NVIDIA RTX of tomorrow", true), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
