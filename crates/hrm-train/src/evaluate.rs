//! Evaluation as the original does it: every sequence runs a fixed number of segments, the last one counts. What happens on
//! the way can be kept as well: which puzzles are right after how many segments, and where the model would have halted.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use hrm_backend::HrmBackend;
use hrm_data::dataset::Batch;
use hrm_model::{
    Hrm, InitState,
    act::PuzzleBatch,
    loss::{self, Correctness, LossKind, Metrics},
};
use serde::{Deserialize, Serialize};

use crate::{
    data::{self, Evaluation, TaskScores},
    distributed::{CollectiveError, Team},
    noise::{Key, Noise},
};

/// How good a model is on a set of puzzles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Puzzles.
    pub examples: u64,
    /// Mean cross-entropy over puzzles, each the mean over its cells.
    pub lm_loss: f64,
    /// Mean binary cross-entropy of the halting value.
    pub q_halt_loss: f64,
    /// Mean over puzzles of the share of right cells.
    pub token_accuracy: f64,
    /// Share of puzzles right in every cell.
    pub exact_accuracy: f64,
    /// For which share the sign of `q_halt` tells exactness.
    pub q_halt_accuracy: f64,
    /// Mean number of segments.
    pub mean_steps: f64,
    /// How good the answers are by the rules of the task, whatever the labels say.
    #[serde(flatten)]
    pub task: TaskScores,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// What became of one puzzle, segment by segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Whether every cell is right after 1, 2, ... segments.
    pub exact: Vec<bool>,
    /// The first segment after which the model prefers to halt; `None` if it never does.
    pub halts: Option<usize>,
}

/// Runs `model` for `max_steps` segments on every batch of `puzzles`.
pub fn evaluate<B: HrmBackend>(
    model: &Hrm<B>,
    puzzles: Evaluation,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
) -> EvalReport {
    alone(evaluate_in_team(model, puzzles, loss, max_steps, device, &Team::alone(device.clone())))
}

/// As [`evaluate`], on the way to `last_step` segments (at least `max_steps`): the report is about the answers after
/// `max_steps`, and the course of every puzzle, in their order, goes on to the last one.
pub fn evaluate_courses<B: HrmBackend>(
    model: &Hrm<B>,
    puzzles: Evaluation,
    loss: LossKind,
    steps: (usize, usize),
    device: &B::Device,
) -> (EvalReport, Vec<Course>) {
    alone(evaluate_courses_in_team(model, puzzles, loss, steps, device, &Team::alone(device.clone())))
}

/// The result of a worker that has no others.
pub(crate) fn alone<T>(result: Result<T, CollectiveError>) -> T {
    result.unwrap_or_else(|error| unreachable!("nobody to lose: {error}"))
}

/// [`evaluate`] by several workers, each on its rows of every batch. The answers are gathered, so that all judge them by
/// the rules of the task and have the whole report.
///
/// # Errors
/// If a worker is lost.
pub fn evaluate_in_team<B: HrmBackend>(
    model: &Hrm<B>,
    puzzles: Evaluation,
    loss: LossKind,
    max_steps: usize,
    device: &B::Device,
    team: &Team<B>,
) -> Result<EvalReport, CollectiveError> {
    run(model, puzzles, loss, (max_steps, max_steps), device, team, None)
}

/// [`evaluate_courses`] by several workers.
///
/// # Errors
/// If a worker is lost.
pub fn evaluate_courses_in_team<B: HrmBackend>(
    model: &Hrm<B>,
    puzzles: Evaluation,
    loss: LossKind,
    (max_steps, last_step): (usize, usize),
    device: &B::Device,
    team: &Team<B>,
) -> Result<(EvalReport, Vec<Course>), CollectiveError> {
    let mut courses = Vec::new();
    let steps = (max_steps, last_step.max(max_steps));
    let report = run(model, puzzles, loss, steps, device, team, Some(&mut courses))?;
    Ok((report, courses))
}

fn run<B: HrmBackend>(
    model: &Hrm<B>,
    mut puzzles: Evaluation,
    loss: LossKind,
    (max_steps, last_step): (usize, usize),
    device: &B::Device,
    team: &Team<B>,
    mut courses: Option<&mut Vec<Course>>,
) -> Result<EvalReport, CollectiveError> {
    let start = Instant::now();
    // Time spent on what the report is not about.
    let mut beyond = Duration::ZERO;
    let noise = (model.config().init_state == InitState::Random).then(|| Noise::new(model, 0));
    let mut sum = Metrics::default();
    while max_steps > 0
        && let Some(rows) = puzzles.next()
    {
        let (all, valid) = (rows.batch.rows, rows.valid_rows);
        let own = team.rows(all);
        // The rows that only fill up the last batch do not count.
        let own_valid = valid.clamp(own.start, own.end) - own.start;
        let cells = rows.batch.seq_len;
        let recorded = courses.as_ref().map_or(0, |_| last_step);
        let mut parts = match own.is_empty() {
            true => [Metrics::VALUES, all * cells, all, all * recorded * RECORD]
                .map(|len| Tensor::zeros([len], device))
                .into(),
            false => {
                let share = Share { rows: &rows.batch.slice(own), valid: own_valid, noise: noise.as_ref() };
                let answers = share.answer(model, loss, max_steps, recorded, device);
                beyond += answers.beyond;
                let mut parts = vec![
                    answers.metrics,
                    team.in_place(answers.predictions, all),
                    team.in_place(answers.q_halt, all),
                ];
                parts.extend(answers.record.map(|record| team.in_place(record, all)));
                parts
            }
        };
        if recorded == 0 {
            parts.truncate(3);
        }
        let sums = team.sum(parts)?;
        let mut sums = sums.into_iter().map(|sum| sum.into_data().iter::<f64>().collect::<Vec<_>>());
        let mut next = || sums.next().expect("as many sums as summands");
        sum += Metrics::from_values(&next());
        let answers: Vec<u8> = next()[..valid * cells].iter().map(|value| token(*value as i64)).collect();
        let q_halt: Vec<f32> = next()[..valid].iter().map(|value| *value as f32).collect();
        puzzles.judge(&rows, &answers, &q_halt);
        if let Some(courses) = &mut courses {
            let record = next();
            courses.extend(record.chunks_exact(recorded * RECORD).take(valid).map(|row| {
                Course {
                    exact: row.chunks_exact(RECORD).map(|step| step[0] > 0.5).collect(),
                    halts: row
                        .chunks_exact(RECORD)
                        .position(|step| model.config().halts(step[1] as f32, step[2] as f32))
                        .map(|index| index + 1),
                }
            }));
        }
    }
    let count = sum.count.max(1.0);
    Ok(EvalReport {
        examples: sum.count as u64,
        lm_loss: sum.lm_loss / count,
        q_halt_loss: sum.q_halt_loss / count,
        token_accuracy: sum.accuracy / count,
        exact_accuracy: sum.exact_accuracy / count,
        q_halt_accuracy: sum.q_halt_accuracy / count,
        mean_steps: sum.steps / count,
        task: puzzles.scores(),
        seconds: (start.elapsed() - beyond).as_secs_f64(),
    })
}

/// What is recorded of a row after each segment: whether it is exact, `q_halt`, `q_continue`.
const RECORD: usize = 3;

/// The rows of a batch that one worker answers.
struct Share<'a, B: HrmBackend> {
    rows: &'a Batch,
    /// Of them the first ones that are no filling.
    valid: usize,
    noise: Option<&'a Noise<B>>,
}

struct Answers<B: HrmBackend> {
    /// Sums over the valid rows, `[Metrics::VALUES]`.
    metrics: Tensor<B, 1>,
    /// Tokens as floats, `[rows, seq_len]`.
    predictions: Tensor<B, 2>,
    /// `[rows]`
    q_halt: Tensor<B, 1>,
    /// `[rows, recorded * RECORD]`
    record: Option<Tensor<B, 2>>,
    /// Time spent on segments after the one that the report is about.
    beyond: Duration,
}

impl<B: HrmBackend> Share<'_, B> {
    /// Answers after `max_steps` segments, with a record of the first `recorded` ones.
    fn answer(
        &self,
        model: &Hrm<B>,
        loss: LossKind,
        max_steps: usize,
        recorded: usize,
        device: &B::Device,
    ) -> Answers<B> {
        let Self { rows, valid, noise } = *self;
        let model = &model.clone().with_converted_blocks();
        let batch: PuzzleBatch<B> = data::to_device(rows, device);
        let labels = batch.labels.clone();
        let carry = model.empty_carry(rows.rows);
        // The initial state of the first attempt of inference, the same for all puzzles.
        let carry = match noise {
            None => carry.admit(model, batch),
            Some(noise) => {
                let keys = vec![Key { chain: 0, step: 0 }; rows.rows];
                carry.admit_from(noise.initial_states(model, &keys, 1), batch)
            }
        };
        let mut record = Vec::new();
        let mut step = |carry| {
            let (carry, output) = model.segment(carry);
            if record.len() < recorded {
                let exact = Correctness::new(output.predictions(), labels.clone()).exact.float();
                let values = [exact, output.q_halt.clone(), output.q_continue.clone()];
                record.push(Tensor::stack::<2>(values.to_vec(), 1)); // [rows, RECORD]
            }
            (carry, output)
        };
        let (mut carry, mut output) = step(carry);
        for _ in 1..max_steps {
            (carry, output) = step(carry);
        }
        let mut beyond = Duration::ZERO;
        if recorded > max_steps {
            // Waits for the device, so that each part has its own time.
            let _ = output.q_halt.to_data();
            let start = Instant::now();
            let (mut carry, mut last) = step(carry.clone());
            for _ in max_steps + 1..recorded {
                (carry, last) = step(carry);
            }
            let _ = last.q_halt.into_data();
            beyond = start.elapsed();
        }
        let record = (!record.is_empty()).then(|| Tensor::cat(record, 1));
        let (predictions, q_halt) = (output.predictions(), output.q_halt.clone());
        let metrics = match valid {
            0 => Tensor::zeros([Metrics::VALUES], device),
            _ => {
                output.logits = output.logits.narrow(0, 0, valid);
                output.q_halt = output.q_halt.narrow(0, 0, valid);
                output.q_continue = output.q_continue.narrow(0, 0, valid);
                let labels = labels.narrow(0, 0, valid);
                let steps = carry.steps.narrow(0, 0, valid);
                let correctness = Correctness::new(predictions.clone().narrow(0, 0, valid), labels.clone());
                let act_loss = loss::act_loss(loss, &output, labels, &correctness, None);
                let all = steps.clone().greater_equal_elem(0);
                Metrics::tensor(&act_loss, &correctness, output.q_halt, all, steps)
            }
        };
        Answers { metrics, predictions: predictions.float(), q_halt, record, beyond }
    }
}

/// Tokens are below the vocabulary size, which the dataset format bounds by 256.
fn token(token: i64) -> u8 {
    u8::try_from(token).unwrap_or(u8::MAX)
}

/// How good the answers are after some number of segments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Segments.
    pub steps: usize,
    /// Share of puzzles right in every cell after them.
    pub exact_accuracy: f64,
    /// Share of puzzles that the model would have halted by then.
    pub halted: f64,
}

/// The answers after some numbers of segments, of those that the courses reach.
pub fn by_steps(courses: &[Course], steps: &[usize]) -> Vec<StepRow> {
    let reached = courses.first().map_or(0, |course| course.exact.len());
    let rows = steps.iter().filter(|steps| (1..=reached).contains(*steps));
    rows.map(|&steps| StepRow {
        steps,
        exact_accuracy: share(courses, |course| course.exact[steps - 1]),
        halted: share(courses, |course| course.halts.is_some_and(|halts| halts <= steps)),
    })
    .collect()
}

/// Where a model halts on its own, and what its answers are then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HaltingTable {
    /// Puzzles that end after 1, 2, ... segments; those that the model does not halt end at the last one.
    pub histogram: Vec<u64>,
    /// Puzzles that the model does not halt.
    pub never: u64,
    /// Mean number of segments.
    pub mean_steps: f64,
    /// Share of puzzles right in every cell at their end.
    pub exact_accuracy: f64,
}

/// Where the model would halt within `max_steps` segments.
pub fn halting(courses: &[Course], max_steps: usize) -> HaltingTable {
    let end = |course: &Course| course.halts.unwrap_or(max_steps).min(max_steps);
    let mut histogram = vec![0; max_steps];
    for course in courses {
        histogram[end(course) - 1] += 1;
    }
    HaltingTable {
        histogram,
        never: courses.iter().filter(|course| course.halts.is_none_or(|halts| halts > max_steps)).count()
            as u64,
        mean_steps: mean(courses, |course| end(course) as f64),
        exact_accuracy: share(courses, |course| course.exact[end(course) - 1]),
    }
}

/// How good the answers are on puzzles of one difficulty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Lowest difficulty of the group.
    pub from: f64,
    /// What all difficulties of the group are below.
    pub below: f64,
    /// Puzzles.
    pub examples: u64,
    /// Share of them right in every cell after the fixed number of segments.
    pub exact_accuracy: f64,
    /// Mean number of segments after which the model would halt.
    pub mean_steps: f64,
}

/// The answers after `max_steps` segments by difficulty: `difficulties` has one for each course, `group` gives the
/// interval `[from, below)` of a difficulty. Puzzles of unknown difficulty are left out.
pub fn by_difficulty(
    courses: &[Course],
    max_steps: usize,
    difficulties: &[Option<f64>],
    group: impl Fn(f64) -> (f64, f64),
) -> Vec<GroupRow> {
    let mut groups: Vec<((f64, f64), Vec<Course>)> = Vec::new();
    for (course, difficulty) in courses.iter().zip(difficulties) {
        let Some(interval) = difficulty.map(&group) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == interval) {
            Some((_, members)) => members.push(course.clone()),
            None => groups.push((interval, vec![course.clone()])),
        }
    }
    groups.sort_by(|(a, _), (b, _)| a.0.total_cmp(&b.0));
    groups
        .into_iter()
        .map(|((from, below), members)| GroupRow {
            from,
            below,
            examples: members.len() as u64,
            exact_accuracy: share(&members, |course| course.exact[max_steps - 1]),
            mean_steps: halting(&members, max_steps).mean_steps,
        })
        .collect()
}

/// Intervals of equal width for whole numbers, at most ten of them.
pub fn equal_groups(difficulties: &[Option<f64>]) -> impl Fn(f64) -> (f64, f64) + use<> {
    let known = || difficulties.iter().copied().flatten();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let width = ((high - low + 1.0) / 10.0).ceil().max(1.0);
    move |difficulty| {
        let from = ((difficulty - low) / width).floor().mul_add(width, low);
        (from, from + width)
    }
}

/// Two intervals for each power of ten, for ratings that spread over several: below 1, 1 to 3, 3 to 10, 10 to 30, ...
pub fn half_decades(difficulty: f64) -> (f64, f64) {
    if difficulty < 1.0 {
        return (0.0, 1.0);
    }
    let (mut from, mut below) = (1.0, 3.0);
    while difficulty >= below {
        (from, below) = (below, from * 10.0);
    }
    (from, below)
}

fn mean(courses: &[Course], value: impl Fn(&Course) -> f64) -> f64 {
    courses.iter().map(value).sum::<f64>() / courses.len().max(1) as f64
}

fn share(courses: &[Course], is: impl Fn(&Course) -> bool) -> f64 {
    mean(courses, |course| f64::from(u8::from(is(course))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(exact: [bool; 4], halts: Option<usize>) -> Course {
        Course { exact: exact.to_vec(), halts }
    }

    fn courses() -> Vec<Course> {
        vec![
            course([true, true, true, true], Some(1)),
            course([false, true, true, true], Some(3)),
            course([false, true, false, false], Some(2)),
            course([false, false, false, true], None),
        ]
    }

    #[test]
    fn tables_follow_the_courses() {
        let rows = by_steps(&courses(), &[1, 2, 4, 8]);
        let shown: Vec<_> = rows.iter().map(|row| (row.steps, row.exact_accuracy, row.halted)).collect();
        assert_eq!(shown, [(1, 0.25, 0.25), (2, 0.75, 0.5), (4, 0.75, 0.75)]);
        let table = halting(&courses(), 4);
        assert_eq!((table.histogram, table.never), (vec![1, 1, 1, 1], 1));
        assert_eq!((table.mean_steps, table.exact_accuracy), (2.5, 1.0));
        // Stopped after 2 segments, the second and the last puzzle have not halted.
        let table = halting(&courses(), 2);
        assert_eq!((table.histogram, table.never, table.exact_accuracy), (vec![1, 3], 2, 0.75));
        assert_eq!(halting(&[], 2).exact_accuracy, 0.0);
    }

    #[test]
    fn puzzles_are_grouped_by_difficulty() {
        let difficulties = [Some(20.0), Some(21.0), None, Some(45.0)];
        let rows = by_difficulty(&courses(), 4, &difficulties, equal_groups(&difficulties));
        let shown: Vec<_> =
            rows.iter().map(|row| (row.from, row.below, row.examples, row.exact_accuracy)).collect();
        assert_eq!(shown, [(20.0, 23.0, 2, 1.0), (44.0, 47.0, 1, 1.0)]);
        assert_eq!(rows[0].mean_steps, 2.0);
        let intervals = [0.0, 0.5, 1.0, 2.9, 3.0, 10.0, 99.0, 100.0].map(half_decades);
        let expected =
            [(0., 1.), (0., 1.), (1., 3.), (1., 3.), (3., 10.), (10., 30.), (30., 100.), (100., 300.)];
        assert_eq!(intervals, expected);
    }
}
