//! Evaluations of a run: while training waits, or in its background.

use std::{collections::BTreeMap, panic, thread};

use hrm_backend::{HrmAutodiffBackend, HrmBackend};
use hrm_model::{Hrm, loss::LossKind};

use super::{EvalRow, Observer, TrainError, Trainer};
use crate::{
    config::Recipe,
    data::{Evaluation, TaskData},
    distributed::{CollectiveError, Team},
    evaluate::{self, evaluate_courses_in_team, evaluate_in_team},
    run::RunDir,
};

/// An evaluation that may run in any thread: it shares nothing with the training but memory that neither changes.
struct Job<B: HrmBackend> {
    step: u64,
    model: Hrm<B>,
    puzzles: Evaluation,
    training_puzzles: Option<Evaluation>,
    loss: LossKind,
    /// Numbers of segments after which exact accuracy counts as well.
    steps: Vec<usize>,
    device: B::Device,
}

impl<B: HrmBackend> Job<B> {
    fn run(self, team: &Team<B>) -> Result<EvalRow, CollectiveError> {
        let Self { step, model, puzzles, training_puzzles, loss, steps, device } = self;
        let max_steps = model.config().halt_max_steps;
        let (eval, exact_after) = match steps.iter().max() {
            None => (evaluate_in_team(&model, puzzles, loss, max_steps, &device, team)?, BTreeMap::new()),
            Some(&last) => {
                let (report, courses) =
                    evaluate_courses_in_team(&model, puzzles, loss, (max_steps, last), &device, team)?;
                let rows = evaluate::by_steps(&courses, &steps);
                (report, rows.into_iter().map(|row| (row.steps, row.exact_accuracy)).collect())
            }
        };
        let eval_train = training_puzzles
            .map(|puzzles| evaluate_in_team(&model, puzzles, loss, max_steps, &device, team))
            .transpose()?;
        Ok(EvalRow { step, eval, exact_after, eval_train })
    }
}

/// An evaluation that runs beside the training.
pub(super) struct Background {
    train_loss: Option<f64>,
    thread: thread::JoinHandle<EvalRow>,
}

impl<A: HrmAutodiffBackend> Trainer<A> {
    fn evaluation(&self, data: &TaskData) -> Job<A::InnerBackend> {
        let Recipe { train, eval, .. } = &self.recipe.recipe;
        Job {
            step: self.step,
            model: self.evaluated_model(),
            puzzles: data.evaluation(eval.batch_size, eval.limit),
            training_puzzles: (eval.train_limit > 0)
                .then(|| data.training_evaluation(eval.batch_size, eval.train_limit))
                .flatten(),
            loss: train.loss,
            steps: eval.steps.clone(),
            device: self.model().device(),
        }
    }

    /// The model whose results count: with averaged weights, if the recipe asks for them.
    fn evaluated_model(&self) -> Hrm<A::InnerBackend> {
        let inner = self.model().inner();
        match &self.ema {
            Some(ema) => ema.apply(inner),
            None => inner,
        }
    }

    /// Evaluates while training waits. If it is the best so far, there is a checkpoint then.
    pub(super) fn evaluate(
        &mut self,
        data: &TaskData,
        run: &mut RunDir,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.wait_for_evaluation(run, observer)?;
        if self.progress.evaluated == Some(self.step) {
            // A finished run that is resumed: its last evaluation has been written down.
            self.last_eval = Some(self.evaluation(data).run(&self.team)?.eval);
            return Ok(());
        }
        let train_loss = self.progress.watch.take_train_loss();
        let row = self.evaluation(data).run(&self.team)?;
        if self.take_in(&row, train_loss, run, observer)? {
            self.save(run, observer)?;
            self.mark_best(&row, run)?;
        }
        Ok(())
    }

    /// Begins an evaluation in the background. The step's checkpoint is written first: the evaluation may find that it is the
    /// best one, and a run that is killed meanwhile evaluates again.
    pub(super) fn begin_evaluation(
        &mut self,
        data: &TaskData,
        run: &mut RunDir,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.wait_for_evaluation(run, observer)?;
        self.progress.evaluating = true;
        self.save(run, observer)?;
        let train_loss = self.progress.watch.take_train_loss();
        let job = self.evaluation(data);
        let thread = thread::Builder::new().name("evaluation".to_owned()).spawn(move || {
            let team = Team::alone(job.device.clone());
            evaluate::alone(job.run(&team))
        });
        self.background = Some(Background { train_loss, thread: thread.map_err(TrainError::Thread)? });
        Ok(())
    }

    /// Takes in the evaluation in the background if it has ended.
    pub(super) fn look_at_evaluation(
        &mut self,
        run: &mut RunDir,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        match self.background.as_ref().is_some_and(|background| background.thread.is_finished()) {
            true => self.wait_for_evaluation(run, observer),
            false => Ok(()),
        }
    }

    /// Waits for the evaluation in the background, if there is one, and takes it in.
    pub(super) fn wait_for_evaluation(
        &mut self,
        run: &mut RunDir,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(Background { train_loss, thread }) = self.background.take() else { return Ok(()) };
        let row = thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
        self.progress.evaluating = false;
        if self.take_in(&row, train_loss, run, observer)? {
            self.mark_best(&row, run)?;
        }
        Ok(())
    }

    /// Writes an evaluation down; whether it is the best so far.
    fn take_in(
        &mut self,
        row: &EvalRow,
        train_loss: Option<f64>,
        run: &mut RunDir,
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        let report = &row.eval;
        run.metrics(row)?;
        let by_rules: String = report
            .task
            .rows()
            .iter()
            .map(|(name, share)| format!(", {name} {:.2} %", share * 100.0))
            .collect();
        run.log(&format!(
            "step {} evaluation: exact {:.2} %{by_rules}, cells {:.2} %, loss {:.4}, halting right {:.2} % on {} puzzles in {:.1} s",
            row.step,
            report.exact_accuracy * 100.0,
            report.token_accuracy * 100.0,
            report.lm_loss,
            report.q_halt_accuracy * 100.0,
            report.examples,
            report.seconds,
        ))?;
        observer.on_eval(row);
        self.last_eval = Some(*report);
        self.progress.evaluated = Some(row.step);
        self.judge(row, train_loss, run, observer)
    }
}
