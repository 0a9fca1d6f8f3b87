//! `cargo xtask gpu-check`: the operator and parity tests on this machine's NVIDIA GPU, without and with fusion, in fp32 and
//! bf16, and its speed beside PyTorch's.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    bench,
    process::{Cmd, root},
};

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

/// Runs the tests with `cuda` alone, then with fusion, and prints a table.
pub fn run() -> Result<()> {
    if !Path::new("/dev/nvidiactl").exists() && !Path::new("/proc/driver/nvidia/version").exists() {
        bail!(
            "no CUDA device: this machine has no NVIDIA driver loaded (neither /dev/nvidiactl nor \
             /proc/driver/nvidia). `cargo xtask ci --all-backends` runs the same tests without a GPU"
        );
    }
    let mut rows = Vec::new();
    for features in ["cuda", "cuda,fusion"] {
        let mut cmd = Cmd::cargo(&format!(
            "test --no-fail-fast --package hrm-backend --package hrm-model --package hrm-train \
             --no-default-features --features {features} --test ops --test parity --test components -- --nocapture"
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

    println!("\n{:<14} {:>7} {:>7} {:>8}  largest deviation", "features", "passed", "failed", "seconds");
    for (features, _, outcome, time) in &rows {
        let worst = outcome.worst.as_ref().map_or("-", |(_, line)| line.as_str());
        let Outcome { passed, failed, .. } = outcome;
        println!("{features:<14} {passed:>7} {failed:>7} {:>8.0}  {worst}", time.as_secs_f64());
    }
    if let Some((features, ..)) = rows.iter().find(|(_, success, ..)| !success) {
        bail!("the tests fail with `{features}`: nothing is measured, as wrong results have no speed");
    }
    bench::run_on_gpu()
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
