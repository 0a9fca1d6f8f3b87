//! What the courses of puzzles tell: accuracy by segments, where the model halts, accuracy by difficulty.

use serde::{Deserialize, Serialize};

use super::Course;

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
