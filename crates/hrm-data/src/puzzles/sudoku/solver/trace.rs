//! What a solver did, step by step, as data that can be printed and serialised.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::puzzles::sudoku::board::Unit;

/// What kind of step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A value that follows from what stands on the board.
    Place,
    /// A value that is tried, one of several.
    Guess,
    /// The board cannot be completed as it stands.
    Contradiction,
    /// A guess is withdrawn, and with it everything since.
    Backtrack,
    /// The board is full.
    Solution,
}

/// The reason of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The cell has one value left.
    OnlyValue,
    /// The value has one place left in the unit.
    OnlyPlace(Unit),
    /// The cell has this many values left.
    OneOfValues(usize),
    /// The value has this many places left in the unit.
    OneOfPlaces(Unit, usize),
    /// The cell has no value left.
    NoValue,
    /// The value has no place left in the unit.
    NoPlace(Unit),
    /// The value stands more than once in the unit.
    Repeated(Unit),
    /// All that follows from the guess was searched.
    Searched,
    /// Every cell has a value.
    Full,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyValue => write!(f, "the only value left in the cell"),
            Self::OnlyPlace(unit) => write!(f, "the only place left in {unit}"),
            Self::OneOfValues(count) => write!(f, "one of {count} values left in the cell"),
            Self::OneOfPlaces(unit, count) => write!(f, "one of {count} places left in {unit}"),
            Self::NoValue => write!(f, "no value is left in the cell"),
            Self::NoPlace(unit) => write!(f, "no place is left in {unit}"),
            Self::Repeated(unit) => write!(f, "it stands twice in {unit}"),
            Self::Searched => write!(f, "all that follows from it was searched"),
            Self::Full => write!(f, "every cell has a value"),
        }
    }
}

/// One step of a search. Displayed on one line, indented by its depth, rows and columns 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub action: Action,
    /// Guesses that stand, this one included if it is one.
    pub depth: usize,
    /// Row of the cell, 0-based; `None` if the step is about no cell.
    pub row: Option<usize>,
    /// Column of the cell, 0-based.
    pub column: Option<usize>,
    /// The value, 1-based; `None` if the step is about no value.
    pub value: Option<u8>,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = 2 * self.depth;
        let verb = match self.action {
            Action::Place => "place",
            Action::Guess => "guess",
            Action::Contradiction => "contradiction",
            Action::Backtrack => "take back",
            Action::Solution => "solution",
        };
        write!(f, "{:indent$}{verb}", "")?;
        if let Some(value) = self.value {
            write!(f, " {value}")?;
        }
        if let (Some(row), Some(column)) = (self.row, self.column) {
            write!(f, " at r{}c{}", row + 1, column + 1)?;
        }
        write!(f, ": {}", self.why)
    }
}

/// The steps of a search, up to a number of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The first steps, in order.
    pub steps: Vec<Step>,
    /// How many more there were, not kept.
    pub dropped: u64,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        if self.dropped > 0 {
            writeln!(f, "... and {} more steps", self.dropped)?;
        }
        Ok(())
    }
}

/// Where a search writes its steps, if anywhere.
#[derive(Debug, Default)]
pub(super) struct Tracer {
    capacity: usize,
    side: usize,
    trace: Trace,
}

impl Tracer {
    /// Keeps the first `capacity` steps of a search on a board of this side.
    pub(super) fn new(side: usize, capacity: usize) -> Self {
        Self { capacity, side, trace: Trace::default() }
    }

    #[inline]
    pub(super) fn note(
        &mut self,
        action: Action,
        depth: usize,
        cell: Option<usize>,
        value: Option<u8>,
        why: Why,
    ) {
        // A tracer that keeps nothing is one that was not asked for.
        if self.capacity == 0 {
            return;
        }
        if self.trace.steps.len() == self.capacity {
            self.trace.dropped += 1;
            return;
        }
        let (row, column) = (cell.map(|c| c / self.side), cell.map(|c| c % self.side));
        self.trace.steps.push(Step { action, depth, row, column, value, why });
    }

    pub(super) fn finish(self) -> Trace {
        self.trace
    }
}
