//! The check of a machine with a GPU: one program that goes through all stages by itself, each within its time, and writes down
//! what it finds as soon as it has it.
//!
//! [`check`] is the order of the stages, [`Machine`] what they are made of. The program `gpu-check` has the real one
//! ([`processes`]): each part is a process of its own, so that one that hangs or crashes costs its time and no more.

pub mod output;
pub mod pieces;
pub mod plan;
pub mod processes;
pub mod record;

use std::{path::PathBuf, time::Duration};

use output::Output;
use plan::Plan;
use record::{Record, Section};

use crate::compare::Row;

/// Something that can be switched off where it fails, by a variable of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// What it is.
    pub what: &'static str,
    /// The variable.
    pub variable: &'static str,
    /// Its value that turns the part off.
    pub off: &'static str,
}

/// What can be switched off, what is most likely at fault first.
pub const SWITCHES: [Switch; 2] = [
    Switch { what: "the attention kernel", variable: "HRM_FLASH", off: "0" },
    Switch { what: "cuBLASLt", variable: "HRM_MATMUL_KERNEL", off: "specialized-tma-mma" },
];

/// What is switched off, in the order of [`SWITCHES`].
pub type Off = [bool; SWITCHES.len()];

/// The variables that switch parts off.
pub fn variables(off: Off) -> impl Iterator<Item = (&'static str, &'static str)> {
    SWITCHES.iter().zip(off).filter(|(_, off)| *off).map(|(switch, _)| (switch.variable, switch.off))
}

/// A file of tests on a backend: `hrm-backend/ops` on `cuda`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tests {
    /// Crate and file.
    pub group: String,
    /// The backend.
    pub backend: &'static str,
    /// Those of its tests that are run; all if there are none here.
    pub only: Vec<String>,
}

/// What a file of tests gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Tests that passed.
    pub passed: Vec<String>,
    /// Tests that failed.
    pub failed: Vec<String>,
    /// Why it did not come to its end, if it did not: the test that it was at, and what happened.
    pub unfinished: Option<String>,
    /// Sets of the original's numbers that were compared, and those of them that deviate.
    pub sets: (usize, usize),
    /// The largest deviation, in percent of what is allowed, and its line.
    pub worst: Option<(f64, String)>,
    /// How long it took.
    pub time: Duration,
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The device, as its driver names it.
    pub device: String,
    /// Names and values: driver, versions, rate of a product.
    pub facts: Vec<(String, String)>,
    /// Whether a Vulkan loader is there and the program has that backend.
    pub vulkan: bool,
}

/// What was measured beside PyTorch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Speed {
    /// The programs; the first one is ours.
    pub names: Vec<String>,
    /// A row for each workload, which no other program was measured in beside it.
    pub rows: Vec<Row>,
    /// Peak memory on the device of each program, in bytes.
    pub memory: Vec<Option<u64>>,
    /// What is switched off, and seconds of the first workload without it.
    pub fallbacks: Vec<(String, f64)>,
    /// Recipes, and seconds of the trainer's step.
    pub recipes: Vec<(String, f64)>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// Where the time of one step goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kernels {
    /// What measured it.
    pub by: String,
    /// Kernels, how often each ran, and seconds in all; the most expensive first.
    pub rows: Vec<(String, usize, f64)>,
}

/// What was trained.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trained {
    /// The run folder.
    pub run: PathBuf,
    /// The recipe and what was changed in it.
    pub recipe: String,
    /// Steps done before and now.
    pub steps: (u64, u64),
    /// Why it ended.
    pub ending: String,
    /// What went wrong, if anything did: what was trained before stays.
    pub trouble: Option<String>,
    /// Step, loss of a sequence, share of sequences that were right, at some points of the way.
    pub curve: Vec<(u64, f64, Option<f64>)>,
    /// Step and share of held-out puzzles that were right.
    pub evaluations: Vec<(u64, f64)>,
}

/// A machine with a GPU, or what stands for it in tests. What a stage returns as an error is written down, and the next one begins;
/// but for the gate, after which nothing would be worth its time.
pub trait Machine {
    /// Since the program was started.
    fn elapsed(&self) -> Duration;

    /// Looks whether all that the others need is there, and lets PyTorch compile in the background.
    ///
    /// # Errors
    /// If a piece is missing: which, and what to do.
    fn gate(&mut self, limit: Duration) -> Result<Gate, String>;

    /// Files of tests, all at the same time.
    fn test(&mut self, tests: &[Tests], off: Off, limit: Duration) -> Vec<Outcome>;

    /// The speed beside PyTorch's.
    ///
    /// # Errors
    /// If nothing could be measured.
    fn speed(&mut self, off: Off, limit: Duration) -> Result<Speed, String>;

    /// Where the time of a step goes.
    ///
    /// # Errors
    /// If nothing can tell.
    fn kernels(&mut self, off: Off, limit: Duration) -> Result<Kernels, String>;

    /// Trains, or goes on with a run, until the time is over or the recipe is at its end.
    ///
    /// # Errors
    /// If there is no checkpoint.
    fn train(&mut self, off: Off, limit: Duration) -> Result<Trained, String>;

    /// The archive of a run; or, if it is larger than `most` bytes, of its weights alone, and a word about that.
    ///
    /// # Errors
    /// If neither can be read, or both are too large.
    fn pack(&mut self, run: &std::path::Path, most: usize) -> Result<(Vec<u8>, Option<String>), String>;
}

/// Goes through all stages. Gives what failed; nothing if all is well.
///
/// # Errors
/// If the folder for results cannot be written to.
pub fn check(
    plan: &Plan,
    seconds: Duration,
    machine: &mut dyn Machine,
    output: &mut Output,
) -> anyhow::Result<Vec<String>> {
    let mut record = Record::new(plan, seconds);
    // The end of everything but the packing.
    let end = seconds.saturating_sub(plan.closing);
    let left = |machine: &dyn Machine, stage: Duration| stage.min(end.saturating_sub(machine.elapsed()));

    let gate = machine.gate(left(machine, plan.gate));
    record.add(Section::Gate(gate.clone()), machine.elapsed());
    output.write("record.md", record.text().as_bytes())?;
    let Ok(gate) = gate else {
        return Ok(record.failures);
    };

    let (tests, limit) = (plan.tests(gate.vulkan), left(machine, plan.correctness));
    let outcomes = machine.test(&tests, Off::default(), limit);
    let mut results: Vec<(Tests, Outcome)> = tests.into_iter().zip(outcomes).collect();
    let mut off = Off::default();
    let failing: Vec<Tests> = results.iter().filter_map(|(tests, outcome)| failing(tests, outcome)).collect();
    let mut mended = Vec::new();
    if !failing.is_empty() {
        // What decides about the rest may take longer.
        let limit = left(machine, plan.correctness);
        (off, mended) = mend(machine, &failing, limit);
    }
    record.add(Section::Tests { results: std::mem::take(&mut results), off, mended }, machine.elapsed());
    output.write("record.md", record.text().as_bytes())?;

    let limit = left(machine, plan.speed);
    let speed = in_time(limit, || machine.speed(off, limit));
    record.add(Section::Speed(speed, gate.device), machine.elapsed());
    output.write("record.md", record.text().as_bytes())?;

    let limit = left(machine, plan.kernels);
    let kernels = in_time(limit, || machine.kernels(off, limit));
    if let Ok(kernels) = &kernels {
        output.write("kernels.csv", record::csv(kernels).as_bytes())?;
    }
    record.add(Section::Kernels(kernels), machine.elapsed());
    output.write("record.md", record.text().as_bytes())?;

    let limit = end.saturating_sub(machine.elapsed());
    let trained = in_time(limit, || machine.train(off, limit));
    let run = trained.as_ref().ok().map(|trained| trained.run.clone());
    record.add(Section::Trained(trained), machine.elapsed());
    output.write("record.md", record.text().as_bytes())?;

    if let Some(run) = run {
        if let Ok(metrics) = std::fs::read(run.join("metrics.jsonl")) {
            output.write("metrics.jsonl", &metrics)?;
        }
        let brought = match machine.pack(&run, output.room()) {
            Ok((archive, word)) => {
                let pieces = output.pieces(&archive)?;
                Ok((pieces, archive.len(), word))
            }
            Err(error) => Err(error),
        };
        record.add(Section::State(brought), machine.elapsed());
    }
    output.write("record.md", record.text().as_bytes())?;
    Ok(record.failures)
}

/// Does something if there is any time for it.
fn in_time<T>(limit: Duration, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match limit < Duration::from_secs(1) {
        true => Err("there was no time left".to_owned()),
        false => work(),
    }
}

/// The tests of a file that failed on CUDA, which the rest is measured and trained on. A file that crashed or hung is run again as a
/// whole.
fn failing(tests: &Tests, outcome: &Outcome) -> Option<Tests> {
    let failed = !outcome.failed.is_empty() || outcome.unfinished.is_some();
    (failed && tests.backend == plan::BACKEND).then(|| Tests {
        only: if outcome.unfinished.is_some() { tests.only.clone() } else { outcome.failed.clone() },
        ..tests.clone()
    })
}

/// Runs failing tests with parts switched off, one at a time and then all. Gives what stays off, and for each test that passes then,
/// what had to be off.
fn mend(machine: &mut dyn Machine, failing: &[Tests], limit: Duration) -> (Off, Vec<(String, String)>) {
    let begin = machine.elapsed();
    let mut tries: Vec<Off> = (0..SWITCHES.len()).map(|one| std::array::from_fn(|i| i == one)).collect();
    tries.push([true; SWITCHES.len()]);
    let (mut left, mut off, mut mended) = (failing.to_vec(), Off::default(), Vec::new());
    for (index, attempt) in tries.iter().enumerate() {
        let spent = machine.elapsed().saturating_sub(begin);
        let share = limit.saturating_sub(spent) / u32::try_from(tries.len() - index).unwrap_or(1);
        if left.is_empty() || share < Duration::from_secs(1) {
            break;
        }
        let outcomes = machine.test(&left, *attempt, share);
        let parts = SWITCHES.iter().zip(attempt).filter(|(_, off)| **off).map(|(switch, _)| switch.what);
        let parts = parts.collect::<Vec<_>>().join(" and ");
        let mut still = Vec::new();
        for (tests, outcome) in left.iter().zip(outcomes) {
            let again = self::failing(tests, &outcome);
            let good = match (&again, tests.only.as_slice()) {
                (None, []) => vec!["all tests".to_owned()],
                (None, only) => only.to_vec(),
                (Some(again), only) => {
                    only.iter().filter(|test| !again.only.contains(test)).cloned().collect()
                }
            };
            if !good.is_empty() {
                off = std::array::from_fn(|i| off[i] || attempt[i]);
                mended.push((format!("{}: {}", tests.group, good.join(", ")), parts.clone()));
            }
            still.extend(again);
        }
        left = still;
    }
    (off, mended)
}

#[cfg(test)]
mod tests;
