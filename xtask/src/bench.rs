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
const GPU_WORKLOADS: [&str; 4] = ["act_step/32", "act_step/384", "training_step/384", "training_step/768"];

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

/// Both precisions on the GPU, beside PyTorch where there is one.
pub fn run_on_gpu() -> Result<()> {
    let Some(python) = find_python(None) else {
        println!("no Python with torch (set HRM_PYTHON): the comparison with PyTorch is left out");
        return Ok(());
    };
    for bf16 in [false, true] {
        let args = BenchArgs {
            only: Part::Pytorch,
            python: Some(python.clone()),
            rounds: 5,
            workloads: GPU_WORKLOADS.map(str::to_owned).to_vec(),
            cuda: true,
            bf16,
            no_compile: false,
            args: Vec::new(),
        };
        compare(&args, &python)?;
    }
    Ok(())
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
    peak_bytes: u64,
}

struct Measurement {
    seconds: f64,
    checksum: f64,
}

impl Worker {
    fn start(mut command: Command) -> Result<Self> {
        let program = format!("{command:?}");
        let mut child = command
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let requests = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut worker = Self { name: program, threads: 0, child, requests, answers, peak_bytes: 0 };
        let ready = worker.answer()?;
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
        writeln!(self.requests, "{workload}")?;
        let answer = self.answer()?;
        let number =
            |key: &str| answer[key].as_f64().with_context(|| format!("{}: no {key} in {answer}", self.name));
        self.peak_bytes = answer["peak_bytes"].as_u64().unwrap_or(0);
        Ok(Measurement { seconds: number("seconds")?, checksum: number("checksum")? })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn compare(args: &BenchArgs, python: &Path) -> Result<()> {
    let features: &[&str] = if args.cuda { &["--features", "cuda"] } else { &[] };
    Cmd::cargo("build --package hrm-benches --bin worker").args(features.iter().copied()).run()?;
    let weights = env::temp_dir().join(format!("hrm-bench-{}.safetensors", std::process::id()));
    let result = compare_with(args, python, &weights);
    let _ = fs::remove_file(&weights);
    let record = result?;
    println!("\n{record}");
    let path = record_path()?;
    fs::write(&path, record).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

fn compare_with(args: &BenchArgs, python: &Path, weights: &Path) -> Result<String> {
    let dtype = if args.bf16 { "bf16" } else { "f32" };
    let mut ours = Command::new(target_dir().join("debug/worker"));
    ours.arg(weights).arg(dtype);
    let mut workers = vec![Worker::start(ours)?];
    let modes: &[&str] = if args.no_compile { &["eager"] } else { &["eager", "compile"] };
    for mode in modes {
        let mut theirs = Command::new(python);
        theirs.arg("benches/pytorch/worker.py").arg(weights).arg(mode);
        theirs.arg(if args.cuda { "cuda" } else { "cpu" }).arg(dtype);
        // As many threads on each side.
        theirs.env("OMP_NUM_THREADS", workers[0].threads.to_string());
        workers.push(Worker::start(theirs)?);
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
        let mut times = vec![Vec::new(); workers.len()];
        for _ in 0..args.rounds {
            for (worker, times) in workers.iter_mut().zip(&mut times) {
                times.push(worker.measure(workload)?.seconds);
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        println!("  {}", medians.iter().map(|s| format!("{:.4} s", s)).collect::<Vec<_>>().join("  "));
        rows.push((workload.clone(), medians));
    }
    Ok(record(args, &workers, &rows))
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

fn record(args: &BenchArgs, workers: &[Worker], rows: &[(String, Vec<f64>)]) -> String {
    let output = |cmd: Cmd| cmd.output().unwrap_or_default().trim().to_owned();
    let commit = output(Cmd::new("git").args(["describe", "--always", "--dirty"]));
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let mut text = format!(
        "# The same model in PyTorch, {}\n\n`cargo xtask bench --only pytorch --rounds {}{}{}` at commit {commit}; {}, {} threads{}; \
         HRM 27M on 9x9 Sudoku, {}.\nMedians of {} measurements, the sides in turn. A ratio above 1 means that ours is faster.\n\n",
        date(),
        args.rounds,
        if args.cuda { " --cuda" } else { "" },
        if args.bf16 { " --bf16" } else { "" },
        cpu.trim_start_matches([' ', '\t', ':']),
        workers[0].threads,
        if args.cuda { " and its GPU" } else { "" },
        if args.bf16 { "bf16" } else { "fp32" },
        args.rounds,
    );
    text += "| workload |";
    for worker in workers {
        text += &format!(" {} |", worker.name);
    }
    for worker in &workers[1..] {
        text += &format!(" ratio to {} |", worker.name.rsplit(' ').next().unwrap_or("?"));
    }
    text += &format!(" ours, TFLOP/s |\n|---|{}\n", "---|".repeat(2 * workers.len()));
    for (workload, medians) in rows {
        text += &format!("| {workload} |");
        for seconds in medians {
            text += &format!(" {} |", milliseconds(*seconds));
        }
        for seconds in &medians[1..] {
            text += &format!(" **{:.2}** |", seconds / medians[0]);
        }
        let rate = teraflops(workload, medians[0]).map_or("-".to_owned(), |rate| format!("{rate:.2}"));
        text += &format!(" {rate} |\n");
    }
    text += "| peak memory |";
    for worker in workers {
        text += &format!(" {:.0} MB |", worker.peak_bytes as f64 / 1e6);
    }
    for worker in &workers[1..] {
        text += &format!(" {:.2} |", worker.peak_bytes as f64 / workers[0].peak_bytes.max(1) as f64);
    }
    text += " - |\n";
    text
}

fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

fn date() -> String {
    let date = Cmd::new("date").args(["-u", "+%F"]).output().unwrap_or_default();
    if date.trim().is_empty() { "undated".to_owned() } else { date.trim().to_owned() }
}

/// A file of today that does not exist yet.
fn record_path() -> Result<PathBuf> {
    let folder = root().join("docs/benchmarks");
    let date = date();
    let mut names = std::iter::once(format!("{date}-pytorch.md"))
        .chain((2..100).map(|n| format!("{date}-pytorch-{n}.md")))
        .map(|name| folder.join(name));
    names.find(|path| !path.exists()).context("docs/benchmarks holds a hundred records of today")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
