//! The tables of `hrm eval`: accuracy by steps, where the model halts, accuracy by difficulty.

use std::io::{self, Write};

use hrm_data::{dataset::Dataset, registry::Shape};
use hrm_infer::evaluate::{self, Course, GroupRow, HaltingTable, StepRow};
use serde::Serialize;

use crate::terminal::percent;

/// What the courses of the puzzles tell.
#[derive(Debug, Serialize)]
pub struct Tables {
    /// Accuracy against the number of steps, where it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_steps: Vec<StepRow>,
    /// Where the model would halt.
    halting_steps: HaltingTable,
    /// Puzzles by the number of their givens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_givens: Vec<GroupRow>,
    /// Puzzles by the rating that their file has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_rating: Vec<GroupRow>,
}

impl Tables {
    /// The tables of courses that went at least `max_steps` far.
    pub fn new(
        courses: &[Course],
        (max_steps, steps): (usize, &[usize]),
        givens: &[Option<f64>],
        ratings: &[Option<f64>],
    ) -> Self {
        Self {
            by_steps: evaluate::by_steps(courses, steps),
            halting_steps: evaluate::halting(courses, max_steps),
            by_givens: evaluate::by_difficulty(courses, max_steps, givens, evaluate::equal_groups(givens)),
            by_rating: evaluate::by_difficulty(courses, max_steps, ratings, evaluate::half_decades),
        }
    }

    /// Writes those that were asked for: accuracy by steps always, the others with `all`.
    pub fn print(&self, out: &mut impl Write, all: bool) -> io::Result<()> {
        if !self.by_steps.is_empty() {
            writeln!(out, "\nsteps      exact   halted by then")?;
            for StepRow { steps, exact_accuracy, halted } in &self.by_steps {
                writeln!(out, "{steps:>5}  {:>9}  {:>15}", percent(*exact_accuracy), percent(*halted))?;
            }
        }
        if !all {
            return Ok(());
        }
        let HaltingTable { histogram, never, .. } = &self.halting_steps;
        let most = histogram.iter().copied().max().unwrap_or(0).max(1);
        writeln!(out, "\nsteps  puzzles that the model halts there ({never} it does not halt)")?;
        for (index, &count) in histogram.iter().enumerate() {
            let bar = "#".repeat((40 * count).div_ceil(most) as usize);
            writeln!(out, "{:>5}  {count:>7}  {bar}", index + 1)?;
        }
        for (name, groups) in [("givens", &self.by_givens), ("rating", &self.by_rating)] {
            if groups.is_empty() {
                continue;
            }
            writeln!(out, "\n{name:>9}  puzzles      exact  steps until halting")?;
            for GroupRow { from, below, examples, exact_accuracy, mean_steps } in groups {
                let group =
                    if *below == from + 1.0 { format!("{from}") } else { format!("{from}-{}", below - 1.0) };
                writeln!(
                    out,
                    "{group:>9}  {examples:>7}  {:>9}  {mean_steps:>19.1}",
                    percent(*exact_accuracy)
                )?;
            }
        }
        Ok(())
    }
}

/// The number of givens of each puzzle, where that says something; in the order of evaluation.
pub fn givens(dataset: &Dataset, shape: Option<Shape>) -> Vec<Option<f64>> {
    let Some(task) = shape.map(Shape::task) else { return Vec::new() };
    let sets = dataset.sets().iter();
    let inputs = sets.flat_map(|set| (0..set.examples()).map(|example| set.input(example)));
    inputs.map(|input| task.givens(input).map(|givens| givens as f64)).collect()
}
