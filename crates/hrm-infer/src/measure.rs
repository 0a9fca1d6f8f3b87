//! How good inference is on puzzles with known answers, and how that grows with the work put in.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use hrm_backend::HrmBackend;
use hrm_data::dataset::Dataset;
use hrm_model::Hrm;
use serde::{Deserialize, Serialize};

use crate::{
    Answer, Halting, InferError, InferOptions, Puzzles, Query, Selection, Solver, Sources, Trace,
    attempts::{self, Outcome},
};

/// Puzzles with the answers that a dataset states.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The puzzles.
    pub queries: Vec<Query>,
    /// The answer of each, `None` in cells that do not count. `[seq_len]`
    labels: Vec<Vec<Option<u8>>>,
}

impl Rows {
    /// All examples of a dataset, in order.
    pub fn of_dataset(dataset: &Dataset) -> Self {
        let ignored = dataset.metadata().ignore_label_id;
        let mut rows = Self::default();
        for set in dataset.sets() {
            for example in 0..set.examples() {
                let identifier = set.puzzle_identifiers().get(set.puzzle_of(example)).copied().unwrap_or(0);
                rows.queries.push(Query { tokens: set.input(example).to_vec(), identifier });
                let counts = |token: &u8| ignored != Some(u32::from(*token));
                let label = set.label(example).iter().map(|token| Some(*token).filter(counts));
                rows.labels.push(label.collect());
            }
        }
        rows
    }

    /// Whether an answer is the stated one.
    fn is_exact(&self, row: usize, answer: &[u8]) -> bool {
        let label = &self.labels[row];
        label.len() == answer.len()
            && label.iter().zip(answer).all(|(label, token)| label.is_none_or(|label| label == *token))
    }
}

/// How good inference is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InferenceReport {
    /// Puzzles.
    pub examples: usize,
    /// Share of puzzles answered as the data say.
    pub exact_accuracy: f64,
    /// Share of answers that keep the rules, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<f64>,
    /// Wrong answers that a model halted on, as if they were right.
    pub taken_for_right: usize,
    /// Mean number of segments of the attempt that was chosen.
    pub mean_steps: f64,
    /// Mean number of segments of all attempts at a puzzle.
    pub mean_segments: f64,
    /// Mean number of attempts at a puzzle.
    pub mean_attempts: f64,
    /// How the answers came about.
    pub sources: Sources,
    /// Guesses of all searches.
    pub guesses: u64,
    /// Guesses that the same searches take without a model's beliefs.
    pub guesses_without_model: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Solves puzzles and compares with the stated answers; counts in `done` those that are answered.
///
/// # Errors
/// If the puzzles do not fit the models.
pub fn measure<B: HrmBackend>(
    solver: &Solver<'_, B>,
    puzzles: &dyn Puzzles,
    rows: &Rows,
    done: &AtomicUsize,
) -> Result<InferenceReport, InferError> {
    let start = Instant::now();
    let (mut exact, mut valid, mut taken_for_right) = (0, 0, 0);
    let (mut steps, mut segments, mut attempts) = (0, 0, 0);
    let (mut guesses, mut guesses_without_model) = (0, 0);
    let mut sources = Sources::default();
    solver.solve_each(&rows.queries, |row, answer| {
        done.fetch_add(1, Ordering::Relaxed);
        let is_exact = rows.is_exact(row, &answer.tokens);
        exact += usize::from(is_exact);
        let keeps_rules = puzzles.check(&rows.queries[row], &answer.tokens) == Some(true);
        valid += usize::from(keeps_rules);
        taken_for_right += usize::from(!is_exact && !keeps_rules && answer.trace.halted);
        steps += answer.trace.steps;
        segments += answer.segments;
        attempts += answer.attempts;
        sources.add(answer.source);
        guesses += answer.search.map_or(0, |search| search.guesses);
        guesses_without_model += answer.search.and_then(|search| search.guesses_without).unwrap_or(0);
    })?;
    let mean = |sum: usize| sum as f64 / rows.queries.len().max(1) as f64;
    Ok(InferenceReport {
        examples: rows.queries.len(),
        exact_accuracy: mean(exact),
        valid: puzzles.has_rules().then(|| mean(valid)),
        taken_for_right,
        mean_steps: mean(steps),
        mean_segments: mean(segments),
        mean_attempts: mean(attempts),
        sources,
        guesses,
        guesses_without_model,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Where the work of a curve goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// More segments of one attempt, all of them run.
    Steps,
    /// More segments at most, stopped where the model halts.
    StepsUntilHalt,
    /// More views of the puzzle.
    Votes,
    /// More restarts with noise.
    Restarts,
    /// More checkpoints.
    Checkpoints,
}

impl Axis {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::StepsUntilHalt => "steps until halt",
            Self::Votes => "votes",
            Self::Restarts => "restarts",
            Self::Checkpoints => "checkpoints",
        }
    }
}

/// One amount of work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Steps, votes, restarts or checkpoints.
    pub at: usize,
    /// Mean number of segments at a puzzle.
    pub segments: f64,
    /// Share of puzzles answered as the data say.
    pub exact: f64,
    /// Share of answers that keep the rules, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<f64>,
    /// Share of puzzles with at least one attempt (at steps: one segment) that is right, by the rules if there are any: what
    /// verification reaches.
    pub any: f64,
}

/// Accuracy along one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveSeries {
    /// Which.
    pub axis: Axis,
    /// How an answer is chosen among several attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<Selection>,
    /// From little work to much.
    pub points: Vec<CurvePoint>,
}

/// Accuracy against compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Puzzles.
    pub examples: usize,
    /// One for each way to spend work.
    pub series: Vec<CurveSeries>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// How far a curve goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurveLimits {
    /// Segments at most.
    pub steps: usize,
    /// Views at most; 1 for no such series.
    pub votes: usize,
    /// Restarts at most; 1 for no such series.
    pub restarts: usize,
}

/// Measures how accuracy grows with steps, votes, restarts and checkpoints, one at a time; everything else is as `options`
/// say. Each axis takes one pass at its limit, from which the smaller amounts of work are read off.
///
/// # Errors
/// If options, puzzles and models do not fit together.
pub fn curve<B: HrmBackend>(
    models: &[&Hrm<B>],
    puzzles: &dyn Puzzles,
    options: InferOptions,
    limits: CurveLimits,
    rows: &Rows,
) -> Result<Curve, InferError> {
    let start = Instant::now();
    let single = InferOptions {
        votes: 1,
        restarts: 1,
        verify: false,
        fallback: false,
        keep_thoughts: false,
        keep_attempts: false,
        ..options
    };
    let Some(first) = models.first() else { return Err(InferError::None("checkpoint")) };
    let measured = Measured { rows, puzzles };

    let deep = InferOptions {
        max_steps: Some(limits.steps),
        halting: Halting::AtLastStep,
        keep_thoughts: true,
        ..single
    };
    let halts = |thought: &super::Thought| first.config().halts(thought.q_halt, thought.q_continue);
    let mut every = Tallies::new(limits.steps);
    let mut halting = Tallies::new(limits.steps);
    Solver::new(&models[..1], puzzles, deep)?.solve_each(&rows.queries, |row, answer| {
        let thoughts = &answer.trace.thoughts;
        let right: Vec<[bool; 3]> =
            thoughts.iter().map(|thought| measured.right(row, &thought.tokens)).collect();
        let end = thoughts.iter().position(halts).unwrap_or(thoughts.len());
        let (mut any, mut any_before_halt) = (false, false);
        for step in 0..thoughts.len() {
            any |= right[step][2];
            every.add(step, step + 1, right[step], any);
            let last = step.min(end);
            any_before_halt |= right[last][2];
            halting.add(step, last + 1, right[last], any_before_halt);
        }
    })?;
    let mut series = vec![
        every.series(Axis::Steps, None, &measured),
        halting.series(Axis::StepsUntilHalt, None, &measured),
    ];

    let axes = [
        (Axis::Votes, puzzles.views(limits.votes), InferOptions { votes: limits.votes, ..single }, 1),
        (Axis::Restarts, limits.restarts, InferOptions { restarts: limits.restarts, ..single }, 1),
        (Axis::Checkpoints, models.len(), single, models.len()),
    ];
    for (axis, count, options, models_used) in axes {
        if count < 2 {
            continue;
        }
        let rule = attempts::selection(&options, models_used);
        // No attempt may be given up: fewer attempts would have needed it.
        let all = InferOptions { keep_attempts: true, select: Some(Selection::BestQ), ..options };
        let mut tallies = Tallies::new(count);
        Solver::new(&models[..models_used], puzzles, all)?.solve_each(&rows.queries, |row, answer| {
            let outcomes = outcomes(answer);
            let mut any = false;
            for count in 1..=outcomes.len() {
                let some = &outcomes[..count];
                let Some((chosen, _)) = attempts::select(some, rule) else { continue };
                any |= measured.right(row, some[count - 1].trace.answer())[2];
                let work: usize = some
                    .iter()
                    .map(|outcome| match rule {
                        // Those that are later than the first are stopped with it.
                        Selection::FirstToHalt if chosen.trace.halted => {
                            outcome.trace.steps.min(chosen.trace.steps)
                        }
                        _ => outcome.trace.steps,
                    })
                    .sum();
                tallies.add(count - 1, work, measured.right(row, chosen.trace.answer()), any);
            }
        })?;
        series.push(tallies.series(axis, Some(rule), &measured));
    }
    Ok(Curve { examples: rows.queries.len(), series, seconds: start.elapsed().as_secs_f64() })
}

fn outcomes(answer: Answer) -> Vec<Outcome> {
    let outcome = |(attempt, trace): (usize, Trace)| Outcome { attempt, trace };
    answer.all.into_iter().enumerate().map(outcome).collect()
}

struct Measured<'a> {
    rows: &'a Rows,
    puzzles: &'a dyn Puzzles,
}

impl Measured<'_> {
    /// Whether an answer is the stated one, keeps the rules, and is right by the rules or, without any, as stated.
    fn right(&self, row: usize, answer: &[u8]) -> [bool; 3] {
        let exact = self.rows.is_exact(row, answer);
        let valid = self.puzzles.check(&self.rows.queries[row], answer);
        [exact, valid == Some(true), valid.unwrap_or(exact)]
    }
}

/// Sums over puzzles for each amount of work.
struct Tallies(Vec<Tally>);

#[derive(Clone, Copy, Default)]
struct Tally {
    segments: usize,
    exact: usize,
    valid: usize,
    any: usize,
}

impl Tallies {
    fn new(count: usize) -> Self {
        Self(vec![Tally::default(); count])
    }

    fn add(&mut self, index: usize, segments: usize, [exact, valid, _]: [bool; 3], any: bool) {
        let tally = &mut self.0[index];
        tally.segments += segments;
        tally.exact += usize::from(exact);
        tally.valid += usize::from(valid);
        tally.any += usize::from(any);
    }

    /// Powers of 2, and the last.
    fn series(&self, axis: Axis, select: Option<Selection>, measured: &Measured<'_>) -> CurveSeries {
        let share = |sum: usize| sum as f64 / measured.rows.queries.len().max(1) as f64;
        let shown = |at: &usize| at.is_power_of_two() || *at == self.0.len();
        let point = |at: usize| {
            let Tally { segments, exact, valid, any } = self.0[at - 1];
            CurvePoint {
                at,
                segments: share(segments),
                exact: share(exact),
                valid: measured.puzzles.has_rules().then(|| share(valid)),
                any: share(any),
            }
        };
        let points = (1..=self.0.len()).filter(shown).map(point).collect();
        CurveSeries { axis, select, points }
    }
}
