//! Speed, beside PyTorch's.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Processes, read::last_json};
use crate::{
    compare::{self, Memory, Worker},
    gpu::{Off, SWITCHES, Speed},
};

impl Processes {
    /// Starts PyTorch's side, and asks for all that it must compile for.
    pub(super) fn start_pytorch(&mut self, python: &Path) -> Result<()> {
        let mut command =
            compare::pytorch(python, &self.root, Path::new(&self.weights()), "compile", true, true);
        command.current_dir(&self.work);
        let errors = fs::File::create(self.work.join("pytorch.log")).context("cannot write a log")?;
        command.stderr(errors);
        let mut worker = Worker::start(command, Memory::Host(0), Duration::ZERO)?;
        for workload in self.plan.workloads {
            worker.ask(workload)?;
            worker.ask(workload)?;
        }
        self.pytorch = Some(worker);
        Ok(())
    }

    /// Our worker, warm; the checksum of each workload's first run; and what it needs on the GPU.
    fn ours(&self, off: Off, workloads: &[&str], limit: Duration) -> Result<(Worker, Vec<f64>, Option<u64>)> {
        let mut command = self.part(off, &["worker", &self.weights(), "--bf16"]);
        command.stderr(fs::File::create(self.work.join("worker.log")).context("cannot write a log")?);
        let before = compare::gpu_bytes();
        let mut worker = Worker::start(command, Memory::Host(0), limit)?;
        worker.ready()?;
        let mut checksums = Vec::new();
        for workload in workloads {
            checksums.push(worker.measure(workload)?.checksum);
            worker.measure(workload)?;
        }
        let grown = before.zip(compare::gpu_bytes()).map(|(before, now)| now.saturating_sub(before));
        Ok((worker, checksums, grown))
    }

    pub(super) fn measure(&mut self, off: Off, limit: Duration) -> Result<Speed> {
        let over = compare::until(limit);
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        let mut speed = Speed::default();
        let (ours, checksums, bytes) = self.ours(off, self.plan.workloads, left())?;
        speed.names.push(ours.name.clone());
        speed.memory.push(bytes);
        let mut workers = vec![ours];
        // First what decides how long a training can be; meanwhile PyTorch may still compile.
        let training = (self.training.recipe.display().to_string(), self.training.sets.clone());
        self.step_seconds = self.recipe_step(off, &training, left(), &mut speed);
        if let Some(mut worker) = self.pytorch.take() {
            match warm(&mut worker, self.plan.workloads, left().mul_f64(0.6)) {
                Ok(its) => {
                    let others = self.bytes_before.zip(bytes).map(|(before, ours)| before + ours);
                    let now = compare::gpu_bytes();
                    speed.memory.push(others.zip(now).map(|(others, now)| now.saturating_sub(others)));
                    speed.names.push(worker.name.clone());
                    workers.push(worker);
                    for ((workload, ours), its) in self.plan.workloads.iter().zip(&checksums).zip(its) {
                        let same = compare::same(&workers, workload, &[*ours, its], true);
                        speed.notes.extend(same.err().map(|error| format!("{error:#}")));
                    }
                }
                Err(error) => speed.notes.push(format!("PyTorch: {error:#}")),
            }
        }
        for (index, workload) in self.plan.workloads.iter().enumerate() {
            workers.iter_mut().for_each(|worker| worker.be_patient(left() + Duration::from_secs(5)));
            if index == 0 || !over() {
                speed.rows.push(compare::rounds_of(&mut workers, workload, self.plan.rounds, &over)?);
            }
            if index == 0 {
                self.fallbacks(off, &over, left(), &mut speed);
            }
        }
        for (recipe, sets) in self.plan.recipes {
            let recipe = ((*recipe).to_owned(), sets.iter().map(|set| (*set).to_owned()).collect());
            match (recipe == training, over()) {
                (true, _) => {}
                (false, true) => self.log.line("speed", &format!("no time for {}", recipe.0)),
                (false, false) => _ = self.recipe_step(off, &recipe, left(), &mut speed),
            }
        }
        Ok(speed)
    }

    /// Seconds of a step of a recipe.
    fn recipe_step(
        &self,
        off: Off,
        (recipe, sets): &(String, Vec<String>),
        limit: Duration,
        speed: &mut Speed,
    ) -> Option<f64> {
        let done = self.run(&format!("warm-up {recipe}"), self.warm_up(off, recipe, sets), limit);
        let steps = last_json(&done.lines).filter(|_| done.trouble.is_none());
        let steps: Vec<f64> =
            steps.iter().flat_map(Value::as_array).flatten().filter_map(Value::as_f64).collect();
        if steps.len() < 3 {
            let why = done.trouble.unwrap_or_else(|| "said nothing".to_owned());
            let last = done.errors.last().map_or("", String::as_str);
            speed.notes.push(format!("the step of {recipe} ({why}: {last})"));
            return None;
        }
        // The first ones compile, the last number is an evaluation.
        let seconds = compare::median(steps[steps.len() / 2..steps.len() - 1].to_vec());
        speed.recipes.push((recipe.clone(), seconds));
        Some(seconds)
    }

    /// The first workload with each part switched off that is not.
    fn fallbacks(&self, off: Off, over: &impl Fn() -> bool, limit: Duration, speed: &mut Speed) {
        let Some(first) = self.plan.workloads.first() else { return };
        for (index, switch) in SWITCHES.iter().enumerate().take(self.plan.fallbacks) {
            if off[index] || over() {
                continue;
            }
            let without = std::array::from_fn(|i| off[i] || i == index);
            let seconds = self
                .ours(without, &[first], limit)
                .and_then(|(worker, ..)| compare::rounds_of(&mut [worker], first, 3, over));
            match seconds {
                Ok(row) => speed.fallbacks.push((switch.what.to_owned(), row.medians[0])),
                Err(error) => speed.notes.push(format!("without {}: {error:#}", switch.what)),
            }
        }
    }
}

/// Waits for the answers to what PyTorch was asked at the start: checksums of the first runs.
fn warm(worker: &mut Worker, workloads: &[&str], limit: Duration) -> Result<Vec<f64>> {
    let end = Instant::now() + limit;
    let left = || end.saturating_duration_since(Instant::now());
    worker.be_patient(left());
    worker.ready()?;
    let mut checksums = Vec::new();
    for _ in workloads {
        worker.be_patient(left());
        checksums.push(worker.answer()?.checksum);
        worker.be_patient(left());
        worker.answer()?;
    }
    Ok(checksums)
}
