//! Steps whose metrics are still on the device.

use std::time::Instant;

use burn::tensor::Tensor;
use hrm_backend::HrmBackend;
use hrm_model::loss::Metrics;

use super::StepReport;
use crate::{
    run::environment,
    step::{Signs, Vitals},
};

/// A step whose metrics are still on the device.
pub(super) struct PendingStep<B: HrmBackend> {
    pub step: u64,
    pub epoch: f64,
    pub lr: f64,
    pub puzzle_emb_lr: f64,
    pub metrics: Tensor<B, 1>,
    pub vitals: Vitals<B>,
    /// Whether it was skipped, if that is known already.
    pub skipped: Option<bool>,
    /// How many workers had been asked to stop, `[1]`.
    pub stop: Tensor<B, 1>,
}

/// A step that has been read back.
pub(super) struct Done {
    pub report: StepReport,
    pub metrics: Metrics,
    pub signs: Signs,
    /// Whether the program knew that it was bad before it went on.
    pub known: bool,
}

/// Steps to be read back together, so that the device is not waited for at each.
pub(super) struct Pending<B: HrmBackend> {
    batch: usize,
    steps: Vec<PendingStep<B>>,
    start: Instant,
    since: Instant,
    stop: bool,
}

impl<B: HrmBackend> Pending<B> {
    pub(super) fn new(batch: usize) -> Self {
        let now = Instant::now();
        Self { batch, steps: Vec::new(), start: now, since: now, stop: false }
    }

    pub(super) fn add(&mut self, step: PendingStep<B>) {
        self.steps.push(step);
    }

    /// Whether the last step is known to have been skipped.
    pub(super) fn is_bad(&self) -> bool {
        self.steps.last().is_some_and(|step| step.skipped == Some(true))
    }

    /// Whether a worker had been asked to stop in a step that has been read.
    pub(super) fn asked_to_stop(&self) -> bool {
        self.stop
    }

    /// Leaves out what is not training from the throughput.
    pub(super) fn restart_clock(&mut self) {
        self.since = Instant::now();
    }

    /// Waits for the device.
    pub(super) fn read(&mut self) -> Vec<Done> {
        if self.steps.is_empty() {
            return Vec::new();
        }
        let parts =
            self.steps.iter().flat_map(|s| [s.metrics.clone(), s.vitals.values.clone(), s.stop.clone()]);
        let values: Vec<f64> = Tensor::cat(parts.collect(), 0).into_data().iter::<f64>().collect();
        let memory = environment::memory();
        let rate = (self.steps.len() * self.batch) as f64 / self.since.elapsed().as_secs_f64();
        let mut values = values.as_slice();
        let mut done = Vec::new();
        for step in self.steps.drain(..) {
            let (own, rest) = values.split_at(step.metrics.dims()[0]);
            let (vitals, rest) = rest.split_at(step.vitals.values.dims()[0]);
            let (asked, rest) = rest.split_at(1);
            self.stop |= asked[0] > 0.0;
            values = rest;
            let metrics = Metrics::from_values(own);
            let signs = step.vitals.signs(vitals.iter().copied());
            let per_sequence = |sum: f64| sum / self.batch as f64;
            let mean = |sum: f64| (metrics.count > 0.0).then(|| sum / metrics.count);
            let report = StepReport {
                step: step.step,
                epoch: step.epoch,
                loss: per_sequence(metrics.loss),
                lm_loss: per_sequence(metrics.lm_loss),
                q_halt_loss: per_sequence(metrics.q_halt_loss),
                q_continue_loss: per_sequence(metrics.q_continue_loss),
                count: metrics.count as u64,
                accuracy: mean(metrics.accuracy),
                exact_accuracy: mean(metrics.exact_accuracy),
                q_halt_accuracy: mean(metrics.q_halt_accuracy),
                q_halt: mean(metrics.q_halt),
                mean_steps: mean(metrics.steps),
                grad_norm: signs.grad_norm(),
                skipped: !signs.finite(),
                lr: step.lr,
                puzzle_emb_lr: step.puzzle_emb_lr,
                examples_per_second: rate,
                memory,
                seconds: self.start.elapsed().as_secs_f64(),
            };
            done.push(Done { report, metrics, signs, known: step.skipped.is_some() });
        }
        self.since = Instant::now();
        done
    }
}
