//! The loop around the step: metrics, evaluation, checkpoints, and when it ends.

use std::sync::atomic::{AtomicBool, Ordering};

use hrm_backend::HrmBackend;

use super::{Ending, Journal, StartReport, TrainError, TrainSummary, Trainer, pending::Pending};
use crate::{data::TaskData, recipe::Recipe};

impl<B: HrmBackend> Trainer<B> {
    /// Trains to the end of the recipe, or to where it is stopped.
    pub(super) fn run(
        &mut self,
        data: &TaskData,
        stop: &AtomicBool,
        journal: &mut Journal<'_>,
    ) -> Result<TrainSummary, TrainError> {
        let result = self.steps(data, stop, journal);
        if result.is_err() {
            // What is under way still counts; the error that ended the run is the one to tell.
            let _ = self.wait_for_evaluation(journal);
        }
        result
    }

    fn steps(
        &mut self,
        data: &TaskData,
        stop: &AtomicBool,
        journal: &mut Journal<'_>,
    ) -> Result<TrainSummary, TrainError> {
        let Recipe { train, eval, .. } = self.recipe.recipe.clone();
        let total = self.schedule.total_steps;
        let start = StartReport {
            model: self.model().config().clone(),
            parameters: self.model().parameter_table().parameters(),
            total_steps: total,
            first_step: self.step,
            train_examples: data.train_examples(),
            test_examples: data.test_examples(),
            batch_size: train.global_batch_size,
        };
        journal.start(&start)?;

        let mut pending = Pending::<B>::new(train.global_batch_size);
        let due = |interval: u64, step: u64| interval > 0 && step.is_multiple_of(interval);
        if std::mem::take(&mut self.progress.evaluating) {
            // The run was killed before the evaluation had ended.
            self.evaluate(data, eval.background, journal)?;
            pending.restart_clock();
        }
        let ending = loop {
            if let Some(ending) = self.ending(stop, &pending) {
                break ending;
            }
            pending.add(self.one_step(stop)?);
            let step = self.step;
            let saves = due(train.checkpoint_interval, step);
            let evaluates = due(eval.interval, step) && step < total;
            if due(train.log_interval, step) || saves || evaluates || pending.is_bad() {
                self.report(&mut pending, journal)?;
            }
            self.look_at_evaluation(journal)?;
            if evaluates {
                // Where the run stops next, there is nothing to do meanwhile.
                self.evaluate(data, eval.background && step != train.stop_after, journal)?;
            }
            if saves {
                self.save(journal)?;
            }
            if evaluates || saves {
                pending.restart_clock();
            }
        };
        self.report(&mut pending, journal)?;
        self.wait_for_evaluation(journal)?;
        if ending == Ending::Finished {
            self.evaluate(data, false, journal)?;
        }
        let checkpoint = self.save(journal)?;
        journal.run.log(&format!(
            "{ending:?} after step {}, checkpoint {}",
            self.step,
            checkpoint.display()
        ))?;
        Ok(TrainSummary { step: self.step, ending, checkpoint, eval: self.last_eval })
    }

    /// Whether the run ends before the next step, and why.
    fn ending(&self, stop: &AtomicBool, pending: &Pending<B>) -> Option<Ending> {
        let stop_after = self.recipe.train.stop_after;
        // Several workers stop after the same step: when all have read that one was asked to.
        let asked_to_stop = match self.team.is_alone() {
            true => stop.load(Ordering::SeqCst),
            false => pending.asked_to_stop(),
        };
        match () {
            () if self.step >= self.schedule.total_steps => Some(Ending::Finished),
            () if asked_to_stop => Some(Ending::Interrupted),
            () if stop_after > 0 && self.step >= stop_after => Some(Ending::StopAfter),
            () if self.has_stalled() => Some(Ending::EarlyStopped),
            () => None,
        }
    }
}
