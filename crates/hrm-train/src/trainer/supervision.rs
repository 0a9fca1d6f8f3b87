//! What the trainer does with what it reads: rows of metrics, bad steps, warnings, the best checkpoint.

use hrm_backend::HrmBackend;
use hrm_infer::evaluate::EvalReport;
use hrm_model::act::{Carry, PuzzleBatch};
use serde::{Deserialize, Serialize};

use super::{
    EvalRow, Journal, Selection, TrainError, Trainer, Watch,
    one_step::on_size,
    pending::{Done, Pending},
};
use crate::{
    checkpoint::{self, Best},
    step::{Guard, Skipped, advice, explain},
};

/// What a run has learned about itself; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Bad steps.
    pub skipped: Skipped,
    /// The best evaluation.
    pub selection: Selection,
    /// What is watched.
    pub watch: Watch,
    /// Whether an evaluation of the step had begun in the background and its result is not in here.
    pub evaluating: bool,
    /// The step of the last evaluation whose result is in here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<u64>,
}

/// What a bad step started from.
pub(super) struct Evidence<B: HrmBackend> {
    pub carry: Carry<B>,
    pub batch: PuzzleBatch<B>,
}

impl<B: HrmBackend> Trainer<B> {
    /// How the next step is guarded, see [`Guard`].
    pub(super) fn guard(&self) -> Guard {
        if self.progress.skipped.in_a_row == 0 { Guard::of::<B>() } else { Guard::Read }
    }

    /// Reads what has been computed and writes it down.
    pub(super) fn report(
        &mut self,
        pending: &mut Pending<B>,
        journal: &mut Journal<'_>,
    ) -> Result<(), TrainError> {
        let batch = self.recipe.train.global_batch_size;
        for done in pending.read() {
            journal.step(&done.report)?;
            let good = !done.report.skipped;
            self.progress.skipped.count(good);
            if good {
                let config = self.model().config().clone();
                let warnings = self.progress.watch.step(done.report.step, &done.metrics, batch, &config);
                for warning in warnings {
                    journal.warn(&warning)?;
                }
            } else {
                self.bad_step(&done, journal)?;
            }
        }
        Ok(())
    }

    fn bad_step(&mut self, done: &Done, journal: &mut Journal<'_>) -> Result<(), TrainError> {
        let Skipped { total, in_a_row } = self.progress.skipped;
        let step = done.report.step;
        if !done.known {
            // The mask kept the moments; the count of updates is the program's.
            self.optimizer.take_back_update();
        }
        if in_a_row == 1 {
            let evidence = self.evidence.take();
            let on_size = |size: usize| on_size(self.model().inner(), &self.sizes[size]);
            let found = match evidence {
                Some(Evidence { carry, batch }) => {
                    let inner = on_size(self.size_at(step));
                    inner.first_non_finite(&carry.admit(&inner, batch))
                }
                // The one that the step ran on is among them.
                None => (self.step + 1..)
                    .zip(&self.state().1)
                    .find_map(|(next, carry)| on_size(self.size_at(next)).first_non_finite(carry)),
            };
            self.why = explain(found, &done.signs);
            let path = self.save_to(&journal.run.diagnostics(), journal)?;
            let message = format!(
                "warning: step {step} was skipped ({total} so far): {}; state in {}",
                self.why,
                path.display()
            );
            journal.say(&message)?;
            self.diagnostics = Some(path);
        }
        let most = self.recipe.train.max_bad_steps;
        if most > 0 && in_a_row >= most {
            let advice = advice(in_a_row, step, &self.why, self.diagnostics.as_ref());
            return Err(TrainError::Diverged { advice });
        }
        Ok(())
    }

    /// Whether an evaluation is the best so far; a warning if the model overfits.
    pub(super) fn judge(
        &mut self,
        row: &EvalRow,
        train_loss: Option<f64>,
        journal: &mut Journal<'_>,
    ) -> Result<bool, TrainError> {
        let EvalReport { lm_loss, exact_accuracy, .. } = row.eval;
        if let Some(warning) = self.progress.watch.evaluation(row.step, train_loss, lm_loss, exact_accuracy) {
            journal.warn(&warning)?;
        }
        Ok(self.progress.selection.judge(self.recipe.eval.best_metric, &row.eval))
    }

    /// Marks the checkpoint of an evaluation as the best of the run.
    pub(super) fn mark_best(&self, row: &EvalRow, journal: &Journal<'_>) -> Result<(), TrainError> {
        let metric = self.recipe.eval.best_metric;
        let best = Best { step: row.step, metric: metric.name().to_owned(), value: metric.of(&row.eval) };
        if self.team.leads() {
            checkpoint::mark_best(&journal.run.checkpoints(), &best)?;
        }
        Ok(())
    }

    /// Whether too many evaluations in a row were no better than the best.
    pub(super) fn has_stalled(&self) -> bool {
        let patience = self.recipe.train.early_stop_patience;
        patience > 0 && self.progress.selection.since_best >= patience
    }
}
