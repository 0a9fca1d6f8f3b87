//! `cargo xtask gpu-check`: everything that can only be checked on an NVIDIA GPU, in one go and one dated record. The operator,
//! function and parity tests without and with fusion; training in bf16 beside fp32; speed, utilisation and memory beside
//! PyTorch's.
//!
//! The programs are built first, into one folder. A machine with a GPU but without Rust can be handed that folder: see `--pack`.

use std::{
    env,
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{
    bench,
    process::{Cmd, root, target_dir},
};

/// Arguments of `gpu-check`.
#[derive(Debug, Args)]
pub struct GpuCheckArgs {
    /// Only build: put all programs of the check, this one too, into a folder. On a machine with a GPU, in a copy of the
    /// working tree, `FOLDER/xtask gpu-check --packed FOLDER` then needs no Rust.
    #[arg(long, value_name = "FOLDER", conflicts_with = "packed")]
    pack: Option<PathBuf>,
    /// Take the programs from a folder that --pack filled.
    #[arg(long, value_name = "FOLDER")]
    packed: Option<PathBuf>,
    /// Build with this profile.
    #[arg(long, default_value = "dev")]
    profile: String,
    /// What to check.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    only: Vec<Part>,
    /// Workloads to compare with PyTorch, for example training_step/384.
    #[arg(long, value_delimiter = ',', default_values_t = bench::GPU_WORKLOADS.map(str::to_owned))]
    workloads: Vec<String>,
    /// Measurements of each workload on each side; medians are compared.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// A part of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The tests without fusion.
    Tests,
    /// The tests with fusion, and its speed.
    Fusion,
    /// Training in bf16 beside fp32.
    Precision,
    /// Speed in bf16.
    Bf16,
    /// Speed in fp32.
    Fp32,
}

impl Part {
    const ALL: [Self; 5] = [Self::Tests, Self::Fusion, Self::Precision, Self::Bf16, Self::Fp32];
}

/// The sets of features that are checked; each is also a folder of programs.
const PLAIN: &str = "cuda";
const FUSION: &str = "cuda,fusion";

/// Tests that are generic over the backend.
const TESTS: [&str; 4] = ["functions", "ops", "parity", "components"];

/// The recipe that is trained in both precisions: it makes its own puzzles.
const RECIPE: &str = "configs/sudoku-9x9-cpu.toml";
const STEPS: usize = 1000;
/// Steps whose losses are averaged, to compare curves and not the noise of batches.
const WINDOW: usize = 100;
/// By how much the last windows may differ. Rounding makes two runs differ in every batch, but not in where they get.
const ALLOWED_LOSS_DIFFERENCE: f64 = 0.05;

/// What one run of the tests gave.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    passed: u32,
    failed: u32,
    /// The names of those that failed.
    failures: Vec<String>,
    /// How long they took.
    time: Duration,
    /// The largest deviation of any set, in percent of what is allowed, and its line.
    worst: Option<(f64, String)>,
}

impl Outcome {
    /// Takes in a line of the tests' output.
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result:") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
        }
        let percent = line
            .contains("largest deviation")
            .then(|| line.split('%').next()?.split_whitespace().last()?.parse::<f64>().ok())
            .flatten();
        if let Some(percent) = percent
            && self.worst.as_ref().is_none_or(|(worst, _)| percent > *worst)
        {
            // libtest puts its own words before the first line that a test prints.
            let own = line.rsplit(" ... ").next().unwrap_or(line);
            self.worst = Some((percent, own.to_owned()));
        }
    }

    /// As a row of a table.
    fn row(&self, features: &str) -> String {
        let Self { passed, failed, time, worst, .. } = self;
        let worst = worst.as_ref().map_or("-", |(_, line)| line.as_str());
        format!("| {features} | {passed} | {failed} | {:.0} | {worst} |\n", time.as_secs_f64())
    }
}

/// The number before a word: `3` in `ok. 3 passed; 0 failed`.
fn count(line: &str, word: &str) -> u32 {
    line.find(word).and_then(|end| line[..end].split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

/// The whole check, or the parts that are asked for. What fails is named in the record, which is written after every part, and the
/// rest goes on: time on a GPU may be short. Fusion that fails its tests is not measured.
pub fn run(args: &GpuCheckArgs) -> Result<()> {
    let sets: Vec<&str> = [(PLAIN, true), (FUSION, args.only.contains(&Part::Fusion))]
        .iter()
        .filter(|set| set.1)
        .map(|set| set.0)
        .collect();
    if let Some(folder) = &args.pack {
        build(folder, &sets, &args.profile)?;
        println!(
            "packed into {0}: on the machine with the GPU, in a copy of this working tree, run \
             `{0}/xtask gpu-check --packed {0}`",
            folder.display()
        );
        return Ok(());
    }
    if !Path::new("/dev/nvidiactl").exists() && !Path::new("/proc/driver/nvidia/version").exists() {
        bail!(
            "no CUDA device: this machine has no NVIDIA driver loaded (neither /dev/nvidiactl nor \
             /proc/driver/nvidia). `cargo xtask ci --all-backends` runs the same tests without a GPU"
        );
    }
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"];
    let gpu = Cmd::new("nvidia-smi").args(query).output().context("nvidia-smi tells the GPU's name")?;
    let gpu = gpu.trim();
    let programs = match &args.packed {
        Some(folder) => {
            fs::canonicalize(folder).with_context(|| format!("cannot find {}", folder.display()))?
        }
        None => {
            let folder = target_dir().join("gpu-check").join("programs");
            build(&folder, &sets, &args.profile)?;
            folder
        }
    };
    let logs = target_dir().join("gpu-check").join("logs");
    let mut record = format!(
        "# On a GPU, {}\n\n`cargo xtask gpu-check` at commit {} (profile {}); {gpu}.\n",
        bench::date(),
        bench::commit(),
        args.profile,
    );
    let path = bench::record_path("gpu")?;
    let write_down = |record: &str, failures: &[String]| {
        fs::write(&path, with_failures(record, failures))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    let mut failures: Vec<String> = Vec::new();
    let mut fusion = args.only.contains(&Part::Fusion);
    if args.only.contains(&Part::Tests) {
        record += "\n## Tests\n\n| features | passed | failed | seconds | largest deviation |\n|---|---|---|---|---|\n";
        for features in &sets {
            let failed = match run_tests(&programs.join(features), &logs.join(features)) {
                Ok(outcome) => {
                    record += &outcome.row(features);
                    outcome.failures
                }
                Err(error) => vec![format!("{error:#}")],
            };
            fusion &= *features != FUSION || failed.is_empty();
            failures.extend(failed.into_iter().map(|why| format!("tests with `{features}`: {why}")));
        }
        if args.only.contains(&Part::Fusion) && !fusion {
            record += "\nFusion gives wrong results: it stays off, and is not measured.\n";
        }
        write_down(&record, &failures)?;
    }
    if args.only.contains(&Part::Precision) {
        record += "\n## Training in bf16 beside fp32\n\n";
        match precisions(&programs) {
            Ok((table, difference)) => {
                record += &table;
                if difference.abs() > ALLOWED_LOSS_DIFFERENCE || difference.is_nan() {
                    let percent = 100.0 * difference;
                    failures.push(format!(
                        "losses of bf16 and fp32 differ by {percent:.1} % in the last {WINDOW} steps"
                    ));
                }
            }
            Err(error) => failures.push(format!("bf16 beside fp32: {error:#}")),
        }
        write_down(&record, &failures)?;
    }
    let mut workers = vec![programs.join(PLAIN).join("worker")];
    if fusion {
        workers.push(programs.join(FUSION).join("worker"));
    }
    for (index, (part, bf16)) in [(Part::Bf16, true), (Part::Fp32, false)].into_iter().enumerate() {
        if !args.only.contains(&part) {
            continue;
        }
        if index == 0 || !args.only.contains(&Part::Bf16) {
            write!(
                record,
                "\n## Speed\n\nHRM 27M on 9x9 Sudoku; medians of {} measurements, the programs in turn. A ratio above 1 means \
                 that ours is faster, without or with fusion. \"Issued in\": until the host had handed a training step to the \
                 GPU (without fusion); a step that waited for the GPU would need as long as the step. Memory: by which the GPU's \
                 use grew, the CUDA context included. MFU: of the data sheet's dense bf16 rate.\n",
                args.rounds
            )?;
        }
        match bench::on_gpu(bf16, gpu, &workers, &args.workloads, args.rounds) {
            Ok(table) => write!(record, "\n{table}")?,
            Err(error) => {
                failures.push(format!("speed in {}: {error:#}", if bf16 { "bf16" } else { "fp32" }))
            }
        }
        write_down(&record, &failures)?;
    }
    println!("\n{record}\nwritten to {}", path.display());
    match failures.len() {
        0 => Ok(()),
        _ => bail!("failed: {}; the output of tests is in {}", failures.join("; "), logs.display()),
    }
}

/// A record with what failed before its first part.
fn with_failures(record: &str, failures: &[String]) -> String {
    let mut record = record.to_owned();
    if let (Some(end), false) = (record.find("\n\n## "), failures.is_empty()) {
        let list: String = failures.iter().map(|failure| format!("- {failure}\n")).collect();
        record.insert_str(end + 1, &format!("\n**Failed:**\n\n{list}"));
    }
    record
}

/// Builds the programs of each set of features into `folder`.
fn build(folder: &Path, sets: &[&str], profile: &str) -> Result<()> {
    for features in sets {
        let target = folder.join(features);
        fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
        // Tests and programs in one go: by itself `cargo build` leaves out what only tests need, and with other features of a
        // dependency Burn would compile again.
        let packages = "-p hrm-backend -p hrm-model -p hrm-infer -p hrm-train -p hrm-cli -p hrm-benches --bin hrm --bin worker --bin products";
        let tests = TESTS.map(|test| format!("--test {test}")).join(" ");
        let options =
            format!("--features {features} --profile {profile} --message-format json-render-diagnostics");
        let cmd = Cmd::cargo(&format!("build {packages} {tests} {options}"));
        println!("\n== {features}: {cmd}");
        for (name, program) in executables(&cmd.output()?)? {
            let copy = target.join(name);
            fs::copy(&program, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        }
    }
    let own = env::current_exe().context("cannot find this program")?;
    fs::copy(own, folder.join("xtask")).with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(())
}

/// What cargo says it has built: tests as `package-test`, programs by their name.
fn executables(messages: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).with_context(|| format!("cargo said {line}"))?;
        let (Some(program), Some(name)) =
            (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        let is_test = message["profile"]["test"].as_bool().unwrap_or(false);
        let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
        let package = manifest.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        found.push((if is_test { format!("{package}-{name}") } else { name.to_owned() }, program.into()));
    }
    Ok(found)
}

/// All tests in a folder at the same time: most of each is the compilation of kernels, which takes one core. What they print
/// goes to files in `logs` as they print it.
fn run_tests(folder: &Path, logs: &Path) -> Result<Outcome> {
    let start = Instant::now();
    fs::create_dir_all(logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if TESTS.iter().any(|test| name.ends_with(&format!("-{test}"))) {
            names.push(name);
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("no tests in {}", folder.display());
    }
    let log = |name: &str| logs.join(format!("{name}.log"));
    let run = |name: &String| {
        let package =
            TESTS.iter().find_map(|test| name.strip_suffix(&format!("-{test}"))).unwrap_or_default();
        let log = File::create(log(name)).with_context(|| format!("cannot write {}", log(name).display()))?;
        let errors = log.try_clone().context("cannot write a log twice")?;
        let mut command = Command::new(folder.join(name));
        // The CPU backend is compiled in too, and tested elsewhere.
        command.args(["cuda::", "--nocapture", "--test-threads", "1"]);
        command.current_dir(root().join("crates").join(package)).stdin(Stdio::null());
        command.stdout(log).stderr(errors);
        let fixtures = root().join("../shared/parity");
        if env::var_os("HRM_PARITY_DIR").is_none() && fixtures.is_dir() {
            command.env("HRM_PARITY_DIR", fixtures);
        }
        command.status().with_context(|| format!("cannot start {name}"))
    };
    let statuses: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || run(name))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that only waits")).collect()
    });
    let mut outcome = Outcome::default();
    for (name, status) in names.iter().zip(statuses) {
        let status = status?;
        let text = String::from_utf8_lossy(&fs::read(log(name)).context("cannot read a log")?).into_owned();
        println!("\n== {name}: {status}\n{text}");
        text.lines().for_each(|line| outcome.read(line));
        let failed = failed_tests(&text);
        if !status.success() && failed.is_empty() {
            outcome.failures.push(format!("{name} ended with {status}"));
        }
        outcome.failures.extend(failed);
    }
    outcome.time = start.elapsed();
    Ok(outcome)
}

/// The tests that a test program's last list names.
fn failed_tests(output: &str) -> Vec<String> {
    let list = output.rsplit_once("\nfailures:\n").map_or("", |(_, list)| list);
    list.lines().map_while(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

/// The same run in fp32 and in bf16: the losses as a table, and by which share those of the last steps differ.
fn precisions(programs: &Path) -> Result<(String, f64)> {
    let folder = target_dir().join("gpu-check");
    let mut curves = Vec::new();
    for dtype in ["f32", "bf16"] {
        let run = folder.join(dtype);
        // A run directory is never written over.
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))?;
        }
        Cmd::new(programs.join(PLAIN).join("hrm").display().to_string())
            .args(["train", "--backend", "cuda", "--quiet"])
            .args(["--config", RECIPE, "--run-dir", &run.display().to_string()])
            .args(["--set", &format!("model.forward_dtype={dtype}"), "--set", "train.matmul_precision=f32"])
            .args(["--set", &format!("train.max_steps={STEPS}"), "--set", "eval.limit=100"])
            .run()?;
        let metrics = run.join("metrics.jsonl");
        let text =
            fs::read_to_string(&metrics).with_context(|| format!("cannot read {}", metrics.display()))?;
        curves.push(windows(&text)?);
    }
    let mut table = format!(
        "`{RECIPE}`, {STEPS} steps from the same weights on the same batches; means of {WINDOW} steps.\n\n\
         | steps to | loss of a sequence, fp32 | bf16 | difference |\n|---|---|---|---|\n"
    );
    let mut last = f64::NAN;
    for (index, (f32, bf16)) in curves[0].iter().zip(&curves[1]).enumerate() {
        last = bf16 / f32 - 1.0;
        writeln!(table, "| {} | {f32:.4} | {bf16:.4} | {:+.1} % |", (index + 1) * WINDOW, 100.0 * last)?;
    }
    println!("\n{table}");
    Ok((table, last))
}

/// Mean cross-entropy of each [`WINDOW`] steps of a `metrics.jsonl`.
fn windows(metrics: &str) -> Result<Vec<f64>> {
    let mut losses = Vec::new();
    for line in metrics.lines() {
        let row: Value = serde_json::from_str(line).with_context(|| format!("metrics.jsonl: {line}"))?;
        losses.extend(row["lm_loss"].as_f64());
    }
    Ok(losses.chunks_exact(WINDOW).map(|window| window.iter().sum::<f64>() / WINDOW as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_averaged_and_other_rows_left_out() {
        let mut text = String::new();
        for step in 1..=2 * WINDOW + 1 {
            let loss = if step <= WINDOW { 2.0 } else { 1.0 };
            text += &format!("{{\"step\": {step}, \"lm_loss\": {loss}, \"loss\": 9}}\n");
            if step == WINDOW {
                text += "{\"step\": 100, \"eval\": {\"lm_loss\": 7.0}}\n";
            }
        }
        assert_eq!(windows(&text).expect("JSON"), [2.0, 1.0]);
        assert!(windows("half a li").is_err());
    }

    #[test]
    fn cargo_tells_what_it_built() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/hrm-train/Cargo.toml","target":{"name":"parity"},"profile":{"test":true},"executable":"/t/parity-1"}
{"reason":"compiler-artifact","manifest_path":"/w/benches/Cargo.toml","target":{"name":"worker"},"profile":{"test":false},"executable":"/t/worker"}
{"reason":"compiler-artifact","manifest_path":"/w/crates/hrm-data/Cargo.toml","target":{"name":"hrm_data"},"profile":{"test":false},"executable":null}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages).expect("JSON");
        assert_eq!(
            found,
            [
                ("hrm-train-parity".to_owned(), "/t/parity-1".into()),
                ("worker".to_owned(), "/t/worker".into())
            ]
        );
    }

    #[test]
    fn counts_come_from_the_output() {
        let mut outcome = Outcome::default();
        for line in [
            "parity a [cuda]  76 checks, largest deviation   3.5 % of allowed: x: rms 1e-7 = 2e-7 relative",
            "parity b [cuda]  76 checks, largest deviation  12.0 % of allowed: y",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.51s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            outcome.read(line);
        }
        assert_eq!((outcome.passed, outcome.failed), (4, 2));
        assert!(outcome.row("cuda").starts_with("| cuda | 4 | 2 | 0 | parity b"), "{}", outcome.row("cuda"));
        assert_eq!(outcome.worst.expect("two lines").0, 12.0);
    }

    #[test]
    fn failed_tests_are_named_and_lead_the_record() {
        let output = "test cuda::a ... parity a [cuda]\nFAILED\ntest cuda::b ... ok\n\nfailures:\n\nfailures:\n    cuda::a\n    cuda::c\n\n\
                      test result: FAILED. 1 passed; 2 failed;\n";
        assert_eq!(failed_tests(output), ["cuda::a", "cuda::c"]);
        assert!(failed_tests("test cuda::b ... ok\n\ntest result: ok. 1 passed\n").is_empty());
        let record = with_failures("# Title\n\nA GPU.\n\n## Tests\n\nrest", &["a: b".to_owned()]);
        assert_eq!(record, "# Title\n\nA GPU.\n\n**Failed:**\n\n- a: b\n\n## Tests\n\nrest");
        assert_eq!(with_failures("# Title\n\n## Tests\n", &[]), "# Title\n\n## Tests\n");
    }
}
