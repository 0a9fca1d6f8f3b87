//! Evaluations of a run: while training waits, or in its background.

use std::{panic, thread};

use hrm_backend::HrmBackend;
use hrm_infer::evaluate::{Alone, EvalSettings, Evaluation, Workers, by_steps, evaluate};
use hrm_model::{Hrm, loss::LossKind};

use super::{EvalRow, Journal, TrainError, Trainer};
use crate::{data::TaskData, recipe::Recipe};

/// An evaluation that may run in any thread: it shares nothing with the training but memory that neither changes.
struct Job<B: HrmBackend> {
    step: u64,
    model: Hrm<B>,
    puzzles: Evaluation,
    training_puzzles: Option<Evaluation>,
    loss: LossKind,
    /// Numbers of segments after which exact accuracy counts as well.
    steps: Vec<usize>,
}

impl<B: HrmBackend> Job<B> {
    fn run<W: Workers<B>>(self, workers: &W) -> Result<EvalRow, W::Error> {
        let Self { step, model, puzzles, training_puzzles, loss, steps } = self;
        let max_steps = model.config().halt_max_steps;
        let settings =
            EvalSettings { loss, max_steps, course_steps: steps.iter().copied().max().unwrap_or(0) };
        let (eval, courses) = evaluate(&model, puzzles, settings, workers)?;
        let rows = by_steps(&courses, &steps).into_iter();
        let exact_after = rows.map(|row| (row.steps, row.exact_accuracy)).collect();
        let settings = EvalSettings { course_steps: 0, ..settings };
        let eval_train = training_puzzles
            .map(|puzzles| evaluate(&model, puzzles, settings, workers))
            .transpose()?
            .map(|(report, _)| report);
        Ok(EvalRow { step, eval, exact_after, eval_train })
    }
}

/// An evaluation that runs beside the training.
pub(super) struct Background {
    train_loss: Option<f64>,
    thread: thread::JoinHandle<EvalRow>,
}

impl<B: HrmBackend> Trainer<B> {
    fn evaluation(&self, data: &TaskData) -> Job<B> {
        let Recipe { train, eval, .. } = &*self.recipe;
        Job {
            step: self.step,
            model: self.evaluated_model(),
            puzzles: data.evaluation(eval.batch_size, eval.limit),
            training_puzzles: (eval.train_limit > 0)
                .then(|| data.training_evaluation(eval.batch_size, eval.train_limit))
                .flatten(),
            loss: train.loss,
            steps: eval.steps.clone(),
        }
    }

    /// The model whose results count: with averaged weights, if the recipe asks for them.
    fn evaluated_model(&self) -> Hrm<B> {
        let inner = self.model().inner();
        match &self.ema {
            Some(ema) => ema.apply(inner),
            None => inner,
        }
    }

    /// Evaluates: beside the training if that is wanted, else while it waits. If it is the best so far, there is a checkpoint
    /// then.
    pub(super) fn evaluate(
        &mut self,
        data: &TaskData,
        beside: bool,
        journal: &mut Journal<'_>,
    ) -> Result<(), TrainError> {
        self.wait_for_evaluation(journal)?;
        if self.progress.evaluated == Some(self.step) {
            // A finished run that is resumed: its last evaluation has been written down.
            self.last_eval = Some(self.evaluation(data).run(&self.team)?.eval);
            return Ok(());
        }
        if beside {
            return self.begin_evaluation(data, journal);
        }
        let train_loss = self.progress.watch.take_train_loss();
        let row = self.evaluation(data).run(&self.team)?;
        if self.take_in(&row, train_loss, journal)? {
            self.save(journal)?;
            self.mark_best(&row, journal)?;
        }
        Ok(())
    }

    /// Begins an evaluation in the background. The step's checkpoint is written first: the evaluation may find that it is the
    /// best one, and a run that is killed meanwhile evaluates again.
    fn begin_evaluation(&mut self, data: &TaskData, journal: &mut Journal<'_>) -> Result<(), TrainError> {
        self.progress.evaluating = true;
        self.save(journal)?;
        let train_loss = self.progress.watch.take_train_loss();
        let job = self.evaluation(data);
        let thread = thread::Builder::new().name("evaluation".to_owned()).spawn(move || {
            let Ok(row) = job.run(&Alone);
            row
        });
        self.background = Some(Background { train_loss, thread: thread.map_err(TrainError::Thread)? });
        Ok(())
    }

    /// Takes in the evaluation in the background if it has ended.
    pub(super) fn look_at_evaluation(&mut self, journal: &mut Journal<'_>) -> Result<(), TrainError> {
        match self.background.as_ref().is_some_and(|background| background.thread.is_finished()) {
            true => self.wait_for_evaluation(journal),
            false => Ok(()),
        }
    }

    /// Waits for the evaluation in the background, if there is one, and takes it in.
    pub(super) fn wait_for_evaluation(&mut self, journal: &mut Journal<'_>) -> Result<(), TrainError> {
        let Some(Background { train_loss, thread }) = self.background.take() else { return Ok(()) };
        let row = thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
        self.progress.evaluating = false;
        if self.take_in(&row, train_loss, journal)? {
            self.mark_best(&row, journal)?;
        }
        Ok(())
    }

    /// Writes an evaluation down; whether it is the best so far.
    fn take_in(
        &mut self,
        row: &EvalRow,
        train_loss: Option<f64>,
        journal: &mut Journal<'_>,
    ) -> Result<bool, TrainError> {
        journal.evaluation(row)?;
        self.last_eval = Some(row.eval);
        self.progress.evaluated = Some(row.step);
        self.judge(row, train_loss, journal)
    }
}
