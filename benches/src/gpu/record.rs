//! What a run found, as Markdown for `docs/benchmarks`.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use super::{Gate, Kernels, Off, Outcome, SWITCHES, Speed, Tests, Trained, plan::Plan};
use crate::compare;

/// What a run on a GPU must show: times of PyTorch's step, share of the data sheet's rate, times of PyTorch's memory.
const STEP: f64 = 1.0;
const MFU: f64 = 0.4;
const MEMORY: f64 = 1.1;
/// Kernels that the record shows; the rest is in `kernels.csv`.
const KERNELS: usize = 25;

/// A part of the record.
#[derive(Debug)]
pub enum Section {
    /// What is there.
    Gate(Result<Gate, String>),
    /// Correctness.
    Tests {
        /// Files of tests and what they gave.
        results: Vec<(Tests, Outcome)>,
        /// What is switched off from here on.
        off: Off,
        /// Tests that pass with something switched off, and what.
        mended: Vec<(String, String)>,
    },
    /// Speed, with the name of the device.
    Speed(Result<Speed, String>, String),
    /// Where the time goes.
    Kernels(Result<Kernels, String>),
    /// Training.
    Trained(Result<Trained, String>),
    /// Pieces and bytes of the run that are brought back, and a word about them.
    State(Result<(usize, usize, Option<String>), String>),
}

/// The record so far.
#[derive(Debug)]
pub struct Record {
    head: String,
    body: String,
    times: Vec<(&'static str, Duration)>,
    /// What failed, and what is not as it must be.
    pub failures: Vec<String>,
    /// What a run must show, what it showed, and whether that is enough.
    targets: Vec<(String, String, bool)>,
}

impl Record {
    /// Of a run that begins.
    pub fn new(plan: &Plan, seconds: Duration) -> Self {
        let head = format!(
            "# On a GPU, {}\n\n`gpu-check --plan {} --seconds {:.0}` at commit {}.\n",
            compare::date(),
            plan.name,
            seconds.as_secs_f64(),
            option_env!("HRM_COMMIT").map_or_else(compare::commit, str::to_owned),
        );
        Self { head, body: String::new(), times: Vec::new(), failures: Vec::new(), targets: Vec::new() }
    }

    /// Takes in what a stage gave, and when it ended.
    pub fn add(&mut self, section: Section, at: Duration) {
        let name = match &section {
            Section::Gate(_) => "gate",
            Section::Tests { .. } => "correctness",
            Section::Speed(..) => "speed",
            Section::Kernels(_) => "kernels",
            Section::Trained(_) => "training",
            Section::State(_) => "closing",
        };
        self.times.push((name, at));
        let text = match section {
            Section::Gate(Ok(gate)) => Ok(gate_text(&gate)),
            Section::Tests { results, off, mended } => Ok(self.tests(&results, off, &mended)),
            Section::Speed(Ok(speed), device) => Ok(self.speed(&speed, &device)),
            Section::Kernels(Ok(kernels)) => Ok(kernels_text(&kernels)),
            Section::Trained(Ok(trained)) => {
                self.failures.extend(trained.trouble.iter().map(|trouble| format!("{name}: {trouble}")));
                Ok(trained_text(&trained))
            }
            Section::State(Ok((pieces, bytes, word))) => {
                let word = word.map_or(String::new(), |word| format!(" {word}"));
                let pieces = if pieces == 1 { "One piece".to_owned() } else { format!("{pieces} pieces") };
                Ok(format!(
                    "{pieces}, {:.1} MB in all: `--resume FOLDER` with the folder they lie in goes on.{word}\n",
                    bytes as f64 / 1e6
                ))
            }
            Section::Gate(Err(error))
            | Section::Speed(Err(error), _)
            | Section::Kernels(Err(error))
            | Section::Trained(Err(error))
            | Section::State(Err(error)) => Err(error),
        };
        let title = match name {
            "gate" => "What is there",
            "correctness" => "Correctness",
            "speed" => "Speed",
            "kernels" => "Where the time of a step goes",
            "training" => "Training",
            _ => "State",
        };
        let text = text.unwrap_or_else(|error| {
            self.failures.push(format!("{name}: {error}"));
            format!("Failed: {error}\n")
        });
        let _ = write!(self.body, "\n## {title}\n\n{text}");
    }

    /// The whole, as far as it is known.
    pub fn text(&self) -> String {
        let mut text = self.head.clone();
        if !self.failures.is_empty() {
            text += "\n**Failed:**\n\n";
            text.extend(self.failures.iter().map(|failure| format!("- {failure}\n")));
        }
        if !self.targets.is_empty() {
            text += "\n| what a run must show | shown | |\n|---|---|---|\n";
            for (what, shown, enough) in &self.targets {
                let _ = writeln!(text, "| {what} | {shown} | {} |", if *enough { "yes" } else { "**no**" });
            }
        }
        text += &self.body;
        text += "\n## Time\n\n| stage | ended after, s | took, s |\n|---|---|---|\n";
        let mut before = Duration::ZERO;
        for (name, at) in &self.times {
            let took = at.saturating_sub(before).as_secs_f64();
            let _ = writeln!(text, "| {name} | {:.0} | {took:.0} |", at.as_secs_f64());
            before = *at;
        }
        text
    }

    fn tests(&mut self, results: &[(Tests, Outcome)], off: Off, mended: &[(String, String)]) -> String {
        let mut text =
            "| tests | on | passed | failed | sets right | seconds | largest deviation |\n|---|---|---|---|---|---|---|\n"
                .to_owned();
        let mut sets = (0, 0);
        for (Tests { group, backend, .. }, outcome) in results {
            let Outcome { passed, failed, unfinished, sets: (compared, wrong), worst, time } = outcome;
            sets = (sets.0 + compared, sets.1 + wrong);
            let _ = writeln!(
                text,
                "| {group} | {backend} | {} | {} | {} of {compared} | {:.0} | {} |",
                passed.len(),
                failed.len(),
                compared - wrong,
                time.as_secs_f64(),
                worst.as_ref().map_or("-", |(_, line)| line)
            );
            for test in failed {
                self.failures.push(format!("test {group} on {backend}: {test}"));
            }
            if let Some(why) = unfinished {
                self.failures.push(format!("tests {group} on {backend}: {why}"));
            }
        }
        for (tests, part) in mended {
            let _ = writeln!(text, "\nPass without {part}: {tests}.");
        }
        for (switch, _) in SWITCHES.iter().zip(off).filter(|(_, off)| *off) {
            let _ = writeln!(
                text,
                "\n**Switched off for all that follows: {}** ({}={}).",
                switch.what, switch.variable, switch.off
            );
        }
        let shown = format!("{} of {} sets", sets.0 - sets.1, sets.0);
        self.targets.push(("numbers of the original, all sets".to_owned(), shown, sets.0 > 0 && sets.1 == 0));
        text
    }

    fn speed(&mut self, speed: &Speed, device: &str) -> String {
        let peak = compare::peak_tflops(device);
        let names: Vec<&str> = speed.names.iter().map(String::as_str).collect();
        let rounds: Vec<String> =
            speed.rows.iter().map(|row| format!("{} {}", row.workload, row.rounds)).collect();
        let mut text = format!(
            "Medians of rounds in which the programs take turns ({}). A ratio above 1 means that ours is faster. MFU: of the data sheet's dense bf16 \
             rate. \"Issued in\": until the host had handed a step to the GPU.\n\n",
            rounds.join(", ")
        );
        text += &compare::rows_table(&names, 1, &speed.rows, peak);
        let memory: Vec<String> = speed
            .names
            .iter()
            .zip(&speed.memory)
            .filter_map(|(name, bytes)| Some(format!("{name} {:.0} MB", (*bytes)? as f64 / 1e6)))
            .collect();
        if !memory.is_empty() {
            let _ = writeln!(text, "\nMemory on the device, CUDA's context included: {}.", memory.join(", "));
        }
        if let (Some(first), false) = (speed.rows.first(), speed.fallbacks.is_empty()) {
            let _ = writeln!(text, "\n| {} without | step | with it |\n|---|---|---|", first.workload);
            for (what, seconds) in &speed.fallbacks {
                let with = first.medians.first().copied().unwrap_or(f64::NAN);
                let _ = writeln!(
                    text,
                    "| {what} | {} | {:.2} times as fast |",
                    compare::milliseconds(*seconds),
                    seconds / with
                );
            }
        }
        if !speed.recipes.is_empty() {
            text += "\n| recipe | step of the trainer |\n|---|---|\n";
            for (recipe, seconds) in &speed.recipes {
                let _ = writeln!(text, "| {recipe} | {} |", compare::milliseconds(*seconds));
            }
        }
        for note in &speed.notes {
            let _ = writeln!(text, "\nNot measured: {note}.");
            self.failures.push(format!("speed: {note}"));
        }
        self.speed_targets(speed, peak);
        text
    }

    fn speed_targets(&mut self, speed: &Speed, peak: Option<f64>) {
        let Some(row) = speed.rows.iter().find(|row| row.workload.starts_with("training_step/")) else {
            return;
        };
        let mut target = |what: String, shown: Option<(String, bool)>| {
            let (shown, enough) = shown.unwrap_or_else(|| ("not measured".to_owned(), false));
            self.targets.push((what, shown, enough));
        };
        let times = |ratio: f64, most: f64| (format!("{ratio:.2} times"), ratio <= most);
        let ratio = match row.medians[..] {
            [ours, theirs, ..] => Some(times(ours / theirs, STEP)),
            _ => None,
        };
        target(format!("{}, HRM 27M: at most {STEP:.1} times PyTorch's", row.workload), ratio);
        let share =
            peak.zip(compare::teraflops(&row.workload, row.medians[0])).map(|(peak, rate)| rate / peak);
        let share = share.map(|share| (format!("{:.1} %", 100.0 * share), share >= MFU));
        target(format!("MFU: at least {:.0} %", 100.0 * MFU), share);
        let ratio = match speed.memory[..] {
            [Some(ours), Some(theirs), ..] => Some(times(ours as f64 / theirs.max(1) as f64, MEMORY)),
            _ => None,
        };
        target(format!("memory: at most {MEMORY:.1} times PyTorch's"), ratio);
    }
}

fn gate_text(gate: &Gate) -> String {
    let mut text = format!("| | |\n|---|---|\n| device | {} |\n", gate.device);
    for (name, value) in &gate.facts {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let _ = writeln!(text, "| Vulkan | {} |", if gate.vulkan { "tested too" } else { "no loader" });
    text
}

fn kernels_text(kernels: &Kernels) -> String {
    let all: f64 = kernels.rows.iter().map(|row| row.2).sum();
    let runs: usize = kernels.rows.iter().map(|row| row.1).sum();
    let mut text = format!(
        "Measured by {}: {runs} runs of {} kernels, {} in all.\n\n| kernel | runs | ms | share |\n|---|---|---|---|\n",
        kernels.by,
        kernels.rows.len(),
        compare::milliseconds(all),
    );
    for (name, count, seconds) in kernels.rows.iter().take(KERNELS) {
        let short: String = name.chars().take(80).collect();
        let _ = writeln!(
            text,
            "| `{}` | {count} | {:.3} | {:.1} % |",
            short.replace('|', "/"),
            seconds * 1e3,
            100.0 * seconds / all
        );
    }
    text
}

/// Kernels as a table for programs.
pub fn csv(kernels: &Kernels) -> String {
    let mut text = "kernel,runs,seconds\n".to_owned();
    for (name, count, seconds) in &kernels.rows {
        let _ = writeln!(text, "\"{}\",{count},{seconds:e}", name.replace('"', "\"\""));
    }
    text
}

fn trained_text(trained: &Trained) -> String {
    let (before, now) = trained.steps;
    let steps = match trained.trouble {
        None => format!("steps {} to {now}", before + 1),
        Some(_) => format!("up to step {now}"),
    };
    let mut text = format!("{}: {steps}, {}.\n", trained.recipe, trained.ending);
    if !trained.curve.is_empty() {
        text += "\n| step | loss of a sequence | right among those that halted |\n|---|---|---|\n";
        for (step, loss, exact) in &trained.curve {
            let exact = exact.map_or("-".to_owned(), |exact| format!("{:.1} %", 100.0 * exact));
            let _ = writeln!(text, "| {step} | {loss:.4} | {exact} |");
        }
    }
    let evaluations: BTreeMap<u64, f64> = trained.evaluations.iter().copied().collect();
    if !evaluations.is_empty() {
        text += "\n| step | held-out puzzles right |\n|---|---|\n";
        for (step, exact) in evaluations {
            let _ = writeln!(text, "| {step} | {:.1} % |", 100.0 * exact);
        }
    }
    text
}
