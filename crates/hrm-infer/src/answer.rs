//! What inference gives.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What one segment made of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Thought {
    /// The most likely token of each cell.
    pub tokens: Vec<u8>,
    /// The probability that the model gives each of them; only of the puzzle itself, and with
    /// [`InferOptions::keep_certainty`](crate::InferOptions::keep_certainty).
    pub certainty: Vec<f32>,
    /// Value of halting, as a logit.
    pub q_halt: f32,
    /// Value of going on, or of a model with `conflict` that the givens contradict each other, as a logit.
    pub q_continue: f32,
}

impl Thought {
    /// The model's estimate of the chance that its answer is right, from 0 to 1.
    pub fn halt_probability(&self) -> f32 {
        sigmoid(self.q_halt)
    }

    /// The model's estimate of the chance that it gets there by going on, or with `conflict` that nothing does, from 0 to 1.
    pub fn continue_probability(&self) -> f32 {
        sigmoid(self.q_continue)
    }
}

/// The chance that a logit stands for.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// One attempt at a puzzle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// What each segment made of it, as answers to the puzzle itself whatever the view; only the last one unless
    /// [`InferOptions::keep_thoughts`](crate::InferOptions::keep_thoughts).
    pub thoughts: Vec<Thought>,
    /// Segments run.
    pub steps: usize,
    /// Whether the model chose to halt; `false` if it was stopped.
    pub halted: bool,
}

impl Trace {
    /// Attempts one after the other, as one.
    pub(crate) fn joined<'a>(traces: impl Iterator<Item = &'a Self>) -> Self {
        traces.fold(Self { thoughts: Vec::new(), steps: 0, halted: false }, |joined, trace| Self {
            thoughts: [joined.thoughts.as_slice(), &trace.thoughts].concat(),
            steps: joined.steps + trace.steps,
            halted: trace.halted,
        })
    }

    /// The final prediction.
    pub fn answer(&self) -> &[u8] {
        self.thoughts.last().map_or(&[], |last| &last.tokens)
    }

    /// The final halting probability.
    pub fn halt_probability(&self) -> f32 {
        self.thoughts.last().map_or(0.0, Thought::halt_probability)
    }
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The first attempt: one checkpoint on the puzzle itself, without noise.
    Neural,
    /// A vote, or a verified attempt on another view of the puzzle or with another checkpoint.
    Voted,
    /// An attempt with noise.
    Restarted,
    /// An attempt that took guessed values as given.
    Guessed,
    /// The classical solver.
    Searched,
}

/// How many answers came about in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// By the first attempt.
    pub neural: usize,
    /// By a vote, another view or another checkpoint.
    pub voted: usize,
    /// By a restart with noise.
    pub restarted: usize,
    /// With guessed values.
    #[serde(default)]
    pub guessed: usize,
    /// By exact search.
    pub searched: usize,
}

impl Sources {
    /// Counts one more.
    pub fn add(&mut self, source: Source) {
        *match source {
            Source::Neural => &mut self.neural,
            Source::Voted => &mut self.voted,
            Source::Restarted => &mut self.restarted,
            Source::Guessed => &mut self.guessed,
            Source::Searched => &mut self.searched,
        } += 1;
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { neural, voted, restarted, guessed, searched } = self;
        write!(
            f,
            "{neural} neural, {voted} voted, {restarted} restarted, {guessed} guessed, {searched} searched"
        )
    }
}

/// The work of the classical solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exactly {
    /// Guesses, the model's favourites first.
    pub guesses: u64,
    /// Search states.
    pub nodes: u64,
    /// Guesses that the same search takes without a model; `None` if that is far more than with one.
    pub guesses_without: Option<u64>,
    /// Time of the guided search.
    pub time: Duration,
}

/// What came out for a puzzle.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer. `[seq_len]`
    pub tokens: Vec<u8>,
    /// Where it comes from.
    pub source: Source,
    /// Whether it keeps the rules; `None` if that was not asked for.
    pub verified: Option<bool>,
    /// The attempt whose answer was chosen, of a searched answer the one that came closest by the selection.
    pub trace: Trace,
    /// Attempts started.
    pub attempts: usize,
    /// Attempts that gave the answer.
    pub votes: usize,
    /// Segments of all attempts.
    pub segments: usize,
    /// The search, if it came to that.
    pub search: Option<Exactly>,
    /// The puzzle's share of the time in the model, which attempts that run together share evenly.
    pub time: Duration,
    /// Every attempt that ran to its end, in the order in which they start; only with
    /// [`InferOptions::keep_attempts`](crate::InferOptions::keep_attempts).
    pub all: Vec<Trace>,
}
