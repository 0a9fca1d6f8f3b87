//! What a run tells, and who hears it.

use std::collections::BTreeMap;

use hrm_infer::evaluate::EvalReport;
use hrm_model::ModelConfig;
use serde::Serialize;

use super::watch::Warning;
use crate::run::{RunDir, RunError, environment::Memory};

/// One row of `metrics.jsonl` about training.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Step, counted from 1.
    pub step: u64,
    /// Passes over the training puzzles so far.
    pub epoch: f64,
    /// What was minimised: the total loss divided by the global batch.
    pub loss: f64,
    /// Cross-entropy per sequence, against the labels themselves and with all segments weighing the same.
    pub lm_loss: f64,
    /// Binary cross-entropy of `q_halt` per sequence.
    pub q_halt_loss: f64,
    /// Binary cross-entropy of `q_continue` per sequence.
    pub q_continue_loss: f64,
    /// Sequences that halted in this step; the means below are over them, and absent if there is none.
    pub count: u64,
    /// Mean share of right cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Share of sequences right in every cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_accuracy: Option<f64>,
    /// For which share the sign of `q_halt` tells exactness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_halt_accuracy: Option<f64>,
    /// Mean chance of being right that `q_halt` promises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_halt: Option<f64>,
    /// Mean number of segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_steps: Option<f64>,
    /// Euclidean norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Whether loss or gradient was not finite, so that the step changed nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub skipped: bool,
    /// Learning rate.
    pub lr: f64,
    /// Learning rate of the puzzle embedding.
    pub puzzle_emb_lr: f64,
    /// Sequences per second since the last report.
    pub examples_per_second: f64,
    /// Memory of this process when the row was written, where the system tells: on the processor that of the training; GPUs
    /// have memory of their own.
    #[serde(flatten)]
    pub memory: Option<Memory>,
    /// Seconds since this process started the run.
    pub seconds: f64,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// One row of `metrics.jsonl` about evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct EvalRow {
    /// After this step.
    pub step: u64,
    /// The results on the held-out puzzles.
    pub eval: EvalReport,
    /// Exact accuracy on them after the numbers of segments that the recipe asks for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exact_after: BTreeMap<usize, f64>,
    /// The results on training puzzles, if the recipe asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_train: Option<EvalReport>,
}

/// What a run starts from.
#[derive(Debug, Clone)]
pub struct StartReport {
    /// The model.
    pub model: ModelConfig,
    /// Trained parameters.
    pub parameters: usize,
    /// Steps in all.
    pub total_steps: u64,
    /// Steps done already.
    pub first_step: u64,
    /// Training puzzles.
    pub train_examples: usize,
    /// Held-out puzzles.
    pub test_examples: usize,
    /// Sequences per step.
    pub batch_size: usize,
}

/// Someone who watches a run.
pub trait Observer {
    /// Before the first step.
    fn on_start(&mut self, _start: &StartReport) {}
    /// After each reported step.
    fn on_step(&mut self, _step: &StepReport) {}
    /// After each evaluation.
    fn on_eval(&mut self, _eval: &EvalRow) {}
    /// Anything else worth a line.
    fn on_message(&mut self, _message: &str) {}
}

/// Nobody watches.
impl Observer for () {}

/// Where a run writes down what it does: its folder, and whoever watches.
pub(super) struct Journal<'a> {
    pub run: RunDir,
    pub observer: &'a mut dyn Observer,
}

impl Journal<'_> {
    /// Before the first step.
    pub fn start(&mut self, start: &StartReport) -> Result<(), RunError> {
        self.observer.on_start(start);
        self.run.begin(start.total_steps, start.parameters)?;
        self.run.log(&format!(
            "{} parameters, {} training and {} held-out puzzles, batch {}, steps {} to {}",
            start.parameters,
            start.train_examples,
            start.test_examples,
            start.batch_size,
            start.first_step + 1,
            start.total_steps,
        ))
    }

    /// A step.
    pub fn step(&mut self, report: &StepReport) -> Result<(), RunError> {
        self.run.metrics(report)?;
        self.observer.on_step(report);
        Ok(())
    }

    /// An evaluation.
    pub fn evaluation(&mut self, row: &EvalRow) -> Result<(), RunError> {
        let report = &row.eval;
        self.run.metrics(row)?;
        let by_rules: String = report
            .task
            .rows()
            .iter()
            .map(|(name, share)| format!(", {name} {:.2} %", share * 100.0))
            .collect();
        self.run.log(&format!(
            "step {} evaluation: exact {:.2} %{by_rules}, cells {:.2} %, loss {:.4}, halting right {:.2} % on {} puzzles in {:.1} s",
            row.step,
            report.exact_accuracy * 100.0,
            report.token_accuracy * 100.0,
            report.lm_loss,
            report.q_halt_accuracy * 100.0,
            report.examples,
            report.seconds,
        ))?;
        self.observer.on_eval(row);
        Ok(())
    }

    /// A warning about how the training goes.
    pub fn warn(&mut self, warning: &Warning) -> Result<(), RunError> {
        self.run.metrics(warning)?;
        self.say(&format!("warning: step {}: {}", warning.step, warning.message))
    }

    /// A line for the log and for whoever watches.
    pub fn say(&mut self, line: &str) -> Result<(), RunError> {
        self.run.log(line)?;
        self.observer.on_message(line);
        Ok(())
    }
}
