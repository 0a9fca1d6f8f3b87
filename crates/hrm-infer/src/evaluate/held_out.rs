//! Sequential batches of held-out puzzles, and the judge of the answers to them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hrm_data::{
    dataset::{Dataset, EvalBatch, EvalBatches},
    puzzles::arc::{ArcData, ArcEvalBatches, Rule, Voting},
    registry::Shape,
    task::AnyTask,
};
use serde::{Deserialize, Serialize};

/// How good answers are by the rules of their task, whatever the labels say. What a task does not have is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskScores {
    /// Mazes: the share of answers that mark a shortest path, canonical or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_optimal: Option<f64>,
    /// Other puzzles: the share of answers that keep the rules and what is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<f64>,
    /// ARC: what the vote over augmentations gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arc: Option<ArcScores>,
}

/// Shares of ARC tasks that are solved by the first, or one of the first two, answers of the vote.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ArcScores {
    /// Tasks voted on.
    pub tasks: usize,
    /// One answer, HRM's rule: all tests of a task must be right.
    pub pass_1_hrm: f64,
    /// Two answers, HRM's rule.
    pub pass_2_hrm: f64,
    /// One answer, TRM's rule: a task counts by the share of its tests that are right.
    pub pass_1_trm: f64,
    /// Two answers, TRM's rule.
    pub pass_2_trm: f64,
}

impl TaskScores {
    /// The scores with their names, for people.
    pub fn rows(&self) -> Vec<(&'static str, f64)> {
        let Self { any_optimal, valid, arc } = *self;
        let one = |name, score: Option<f64>| score.map(|score| (name, score));
        [one("any-optimal", any_optimal), one("valid", valid)]
            .into_iter()
            .flatten()
            .chain(arc.into_iter().flat_map(|scores| {
                [
                    ("pass@1", scores.pass_1_hrm),
                    ("pass@2", scores.pass_2_hrm),
                    ("pass@1 (TRM's rule)", scores.pass_1_trm),
                    ("pass@2 (TRM's rule)", scores.pass_2_trm),
                ]
            }))
            .collect()
    }
}

/// Held-out puzzles in batches, all of the same number of rows, with the judge of their answers. A fresh one for each
/// evaluation.
#[derive(Debug)]
pub struct Evaluation {
    batches: Batches,
    judge: Judge,
    done: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Batches {
    Rows(EvalBatches),
    Arc(ArcEvalBatches),
}

#[derive(Debug)]
enum Judge {
    /// Nobody knows the rules: only labels count.
    Labels,
    /// The rules of a puzzle.
    Rules { task: AnyTask, judged: usize, right: usize },
    /// The vote of ARC.
    Vote { data: Arc<ArcData>, voting: Box<Voting> },
}

impl Evaluation {
    /// The puzzles of a data set, at most `limit` (0 for all), judged by the rules of their shape if that is known.
    pub fn of_rows(dataset: &Arc<Dataset>, shape: Option<Shape>, batch_size: usize, limit: usize) -> Self {
        let dataset = if limit == 0 { Arc::clone(dataset) } else { Arc::new(dataset.head(limit)) };
        let batches = Batches::Rows(EvalBatches::new(dataset, batch_size));
        let judge = match shape.map(Shape::task).filter(|task| task.has_rules()) {
            None => Judge::Labels,
            Some(task) => Judge::Rules { task, judged: 0, right: 0 },
        };
        Self { batches, judge, done: Arc::default() }
    }

    /// The tests of the first `limit` evaluation tasks (0 for all) under their augmentations, at most `votes` of each.
    pub fn of_arc(data: &Arc<ArcData>, votes: Option<usize>, batch_size: usize, limit: usize) -> Self {
        let tasks = if limit == 0 { usize::MAX } else { limit };
        let batches = ArcEvalBatches::new(Arc::clone(data), batch_size, votes).limit(tasks);
        let voted = &data.evaluation()[..data.evaluation().len().min(tasks)];
        let judge = Judge::Vote { data: Arc::clone(data), voting: Box::new(Voting::new(voted)) };
        Self { batches: Batches::Arc(batches), judge, done: Arc::default() }
    }

    /// Counts answers here while they are judged, for whoever waits.
    #[must_use]
    pub fn counted_by(self, done: Arc<AtomicUsize>) -> Self {
        Self { done, ..self }
    }

    /// Judges the answers to the rows of a batch that stand for a puzzle.
    ///
    /// # Shapes
    /// - `answers`: tokens, `[valid_rows or more, seq_len]`, flat; `q_halt`: logits, `[valid_rows or more]`
    pub fn judge(&mut self, batch: &EvalBatch, answers: &[u8], q_halt: &[f32]) {
        let rows = &batch.batch;
        self.done.fetch_add(batch.valid_rows, Ordering::Relaxed);
        let answers = answers.chunks_exact(rows.seq_len.max(1)).take(batch.valid_rows);
        for (row, (answer, q_halt)) in answers.zip(q_halt).enumerate() {
            match &mut self.judge {
                Judge::Labels => {}
                Judge::Rules { task, judged, right, .. } => {
                    let input: Vec<u8> =
                        rows.input(row).iter().map(|&t| u8::try_from(t).unwrap_or(u8::MAX)).collect();
                    *judged += 1;
                    *right += usize::from(task.verify(&input, answer).is_ok());
                }
                Judge::Vote { data, voting } => {
                    let identifier = u32::try_from(rows.puzzle_identifiers[row]).unwrap_or(0);
                    let first = data.tasks().len() - data.evaluation().len();
                    let puzzle = data
                        .puzzle(identifier)
                        .and_then(|(task, transform)| Some((task.checked_sub(first)?, transform)));
                    if let Some((task, transform)) = puzzle {
                        voting.add(task, &transform, rows.input(row), answer, f64::from(*q_halt));
                    }
                }
            }
        }
    }

    /// The scores of all answers judged.
    pub fn scores(&self) -> TaskScores {
        match &self.judge {
            Judge::Labels => TaskScores::default(),
            Judge::Rules { task, judged, right } => {
                let share = Some(*right as f64 / (*judged).max(1) as f64);
                match task.wants_the_best() {
                    true => TaskScores { any_optimal: share, ..TaskScores::default() },
                    false => TaskScores { valid: share, ..TaskScores::default() },
                }
            }
            Judge::Vote { voting, .. } => {
                let [hrm, trm] = [Rule::Hrm, Rule::Trm].map(|rule| voting.pass_at(rule, &[1, 2]));
                let arc = ArcScores {
                    tasks: voting.tasks().len(),
                    pass_1_hrm: hrm[0],
                    pass_2_hrm: hrm[1],
                    pass_1_trm: trm[0],
                    pass_2_trm: trm[1],
                };
                TaskScores { arc: Some(arc), ..TaskScores::default() }
            }
        }
    }
}

impl Iterator for Evaluation {
    type Item = EvalBatch;

    fn next(&mut self) -> Option<EvalBatch> {
        match &mut self.batches {
            Batches::Rows(batches) => batches.next(),
            Batches::Arc(batches) => batches.next(),
        }
    }
}
