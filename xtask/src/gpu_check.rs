//! `cargo xtask gpu-check`: everything that can only be checked on an NVIDIA GPU, in one go and one dated record. The operator,
//! function and parity tests without and with fusion; training in bf16 beside fp32; speed, utilisation and memory beside
//! PyTorch's.

use std::{
    fmt::Write,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    bench,
    process::{Cmd, root, target_dir},
};

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
            self.worst = Some((percent, line.to_owned()));
        }
    }
}

/// The number before a word: `3` in `ok. 3 passed; 0 failed`.
fn count(line: &str, word: &str) -> u32 {
    line.find(word).and_then(|end| line[..end].split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

/// The whole check. Stops at the first part that fails, as wrong results have no speed; if only fusion fails, the rest goes on
/// without it.
pub fn run() -> Result<()> {
    if !Path::new("/dev/nvidiactl").exists() && !Path::new("/proc/driver/nvidia/version").exists() {
        bail!(
            "no CUDA device: this machine has no NVIDIA driver loaded (neither /dev/nvidiactl nor \
             /proc/driver/nvidia). `cargo xtask ci --all-backends` runs the same tests without a GPU"
        );
    }
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"];
    let gpu = Cmd::new("nvidia-smi").args(query).output().context("nvidia-smi tells the GPU's name")?;
    let gpu = gpu.trim();
    let (tests, fusion) = tests()?;
    let mut record = format!(
        "# On a GPU, {}\n\n`cargo xtask gpu-check` at commit {}; {gpu}.\n\n## Tests\n\n{tests}",
        bench::date(),
        bench::commit(),
    );
    if !fusion {
        record += "\nFusion gives wrong results: it stays off, and is not measured.\n";
    }
    write!(record, "\n## Training in bf16 beside fp32\n\n{}", precisions()?)?;
    write!(
        record,
        "\n## Speed\n\nHRM 27M on 9x9 Sudoku; medians of 5 measurements, the programs in turn. A ratio above 1 means that ours \
         is faster, without or with fusion. \"Issued in\": until the host had handed a training step to the GPU (without fusion); a \
         step that waited for the GPU would need as long as the step. Memory: by which the GPU's use grew, the CUDA context \
         included. MFU: of the data sheet's dense bf16 rate.\n",
    )?;
    for bf16 in [false, true] {
        write!(record, "\n{}", bench::on_gpu(bf16, gpu, fusion)?)?;
    }
    println!("\n{record}");
    bench::write_record("gpu", &record)
}

/// The tests with `cuda` alone, then with fusion, as a table; and whether they pass with fusion.
fn tests() -> Result<(String, bool)> {
    let mut rows: Vec<(&str, bool, Outcome, Duration)> = Vec::new();
    for features in ["cuda", "cuda,fusion"] {
        let mut cmd = Cmd::cargo(&format!(
            "test --no-fail-fast --package hrm-backend --package hrm-model --package hrm-train \
             --no-default-features --features {features} --test functions --test ops --test parity --test components \
             -- --nocapture --test-threads 1"
        ));
        let fixtures = root().join("../shared/parity");
        if fixtures.is_dir() {
            cmd = cmd.env("HRM_PARITY_DIR", fixtures.display().to_string());
        }
        println!("\n== {features}: {cmd}");
        let start = Instant::now();
        let (success, outcome) = watch(&cmd)?;
        rows.push((features, success, outcome, start.elapsed()));
    }

    let mut table =
        "| features | passed | failed | seconds | largest deviation |\n|---|---|---|---|---|\n".to_owned();
    for (features, _, outcome, time) in &rows {
        let worst = outcome.worst.as_ref().map_or("-", |(_, line)| line.as_str());
        let Outcome { passed, failed, .. } = outcome;
        writeln!(table, "| {features} | {passed} | {failed} | {:.0} | {worst} |", time.as_secs_f64())?;
    }
    println!("\n{table}");
    if !rows[0].1 {
        bail!("the tests fail with `{}`", rows[0].0);
    }
    Ok((table, rows[1].1))
}

/// The same run in fp32 and in bf16: the losses as a table.
fn precisions() -> Result<String> {
    let folder = target_dir().join("gpu-check");
    let mut curves = Vec::new();
    for dtype in ["f32", "bf16"] {
        let run = folder.join(dtype);
        // A run directory is never written over.
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))?;
        }
        Cmd::cargo(
            "run --package hrm-cli --no-default-features --features cuda -- train --backend cuda --quiet",
        )
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
    if last.abs() > ALLOWED_LOSS_DIFFERENCE || last.is_nan() {
        bail!("in the last {WINDOW} steps the losses of bf16 and fp32 differ by {:.1} %", 100.0 * last);
    }
    Ok(table)
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

/// Runs a command, prints what it prints and counts.
fn watch(cmd: &Cmd) -> Result<(bool, Outcome)> {
    let mut child =
        cmd.command().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut outcome = Outcome::default();
    let stdout = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        outcome.read(&line);
        println!("{line}");
    }
    Ok((child.wait()?.success(), outcome))
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
        assert_eq!(outcome.worst.expect("two lines").0, 12.0);
    }
}
