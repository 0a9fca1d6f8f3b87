//! Inference that scales: from one run of a model on a puzzle to many, and to certainty.
//!
//! A [`Solver`] gives every puzzle one or more *attempts*: runs of segments until the model halts or the steps are used up.
//! Attempts differ in the checkpoint (an ensemble), in the view of the puzzle (its symmetries), and in the noise added to the
//! model's state (restarts). Which of their answers counts is decided by the task's rules where these are known and
//! [`InferOptions::verify`] asks for them, otherwise by a [`Selection`]. What no attempt solves, a classical solver can
//! finish, guided by what the model believes ([`InferOptions::fallback`]).
//!
//! Attempts of all puzzles share batches: what is done leaves, what waits takes its place. An attempt's result does not depend
//! on the batch that it ran in.
//!
//! [`evaluate`] measures a model on puzzles with known answers, as the original does.

#![forbid(unsafe_code)]

mod answer;
mod attempts;
mod batch;
pub mod evaluate;
mod guess;
mod measure;
pub mod noise;
mod puzzles;
mod solver;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use answer::{Answer, Exactly, Source, Sources, Thought, Trace, sigmoid};
pub use batch::to_device;
pub use guess::{Guess, Guesses, SURE};
pub use measure::{Axis, Curve, CurveLimits, CurvePoint, CurveSeries, InferenceReport, Rows, curve, measure};
pub use puzzles::{Puzzles, TaskPuzzles, Unknown, of_shape, structure};
pub use solver::Solver;

/// When an attempt is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Halting {
    /// After the first segment whose `q_halt` exceeds its `q_continue` (0 for a model without one), as in training
    /// without exploration.
    #[default]
    Learned,
    /// As [`Learned`](Self::Learned), but not with an answer that breaks the rules of the task, where these are known: the model
    /// then thinks on, as if it had not chosen to halt.
    Unbroken,
    /// After the last step only, as the original evaluates.
    AtLastStep,
}

/// Which of several attempts' answers counts, where the rules do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The answer that most attempts give; of equally frequent ones the one with the higher mean halting probability.
    Votes,
    /// The answer of the attempt with the highest `q_halt` (PTRM, arXiv 2605.19943).
    BestQ,
    /// The answer of the attempt that halts after the fewest steps, of equally quick ones that with the higher `q_halt`
    /// (arXiv 2601.19085). Attempts that are too late are given up.
    FirstToHalt,
}

/// Where noise goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoiseAt {
    /// Into the state before every segment.
    #[default]
    EachStep,
    /// Into the initial state only.
    Start,
}

/// How inference runs. The default is a single attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InferOptions {
    /// Segments of an attempt at most; `None` for the model's `halt_max_steps`. More than that is allowed: the network is
    /// recurrent, and thinking longer can help.
    pub max_steps: Option<usize>,
    /// When an attempt is over.
    pub halting: Halting,
    /// Views of each puzzle, itself included: fewer are taken if the task has not so many symmetries.
    pub votes: usize,
    /// Attempts with different noise for each view and checkpoint. The first has none.
    pub restarts: usize,
    /// Further attempts at most, each of which takes some values that the model finds likely as given: trial and error, by the model's
    /// beliefs and its own halting, without rules. For one model on the puzzle itself.
    pub guesses: usize,
    /// Standard deviation of the noise, relative to the states' own root mean square of 1.
    pub noise: f32,
    /// Where the noise goes in.
    pub noise_at: NoiseAt,
    /// Seed of noise and of random initial states.
    pub seed: u64,
    /// Which answer counts; `None` for votes if there are several views or checkpoints, else the best `q_halt`.
    pub select: Option<Selection>,
    /// Stop as soon as an answer keeps the rules, also before the model halts; attempts of a puzzle then run one after the
    /// other.
    pub verify: bool,
    /// Finish what no attempt solved by exact search. Needs `verify`.
    pub fallback: bool,
    /// Attempts that go through a model together.
    pub batch: usize,
    /// Keep what every segment of the chosen attempt made of the puzzle, not only the last one.
    pub keep_thoughts: bool,
    /// Keep how certain the model is of each cell.
    pub keep_certainty: bool,
    /// Keep all attempts, not only the chosen one.
    pub keep_attempts: bool,
}

impl Default for InferOptions {
    fn default() -> Self {
        Self {
            max_steps: None,
            halting: Halting::Learned,
            votes: 1,
            restarts: 1,
            guesses: 0,
            noise: 0.3,
            noise_at: NoiseAt::EachStep,
            seed: 0,
            select: None,
            verify: false,
            fallback: false,
            batch: 64,
            keep_thoughts: false,
            keep_certainty: false,
            keep_attempts: false,
        }
    }
}

/// What can be wrong with options or a puzzle.
#[derive(Debug, Error, PartialEq)]
pub enum InferError {
    /// A row of another length than the model's sequences.
    #[error("sequence {row}: expected {expected} tokens, got {got}")]
    Length {
        /// Which row, from 0.
        row: usize,
        /// The model's sequence length.
        expected: usize,
        /// Tokens in the row.
        got: usize,
    },
    /// A token that the model does not know.
    #[error("sequence {row}, token {position}: expected a token below {vocab_size}, got {got}")]
    Token {
        /// Which row, from 0.
        row: usize,
        /// Where in the row, from 0.
        position: usize,
        /// The token.
        got: u8,
        /// The model's vocabulary.
        vocab_size: usize,
    },
    /// A puzzle without a row in the puzzle embedding.
    #[error("sequence {row}: expected a puzzle identifier below {known}, got {got}")]
    Identifier {
        /// Which row, from 0.
        row: usize,
        /// The identifier.
        got: u32,
        /// Rows of the table.
        known: usize,
    },
    /// A count of which at least one is needed.
    #[error("expected at least 1 {0}, got 0")]
    None(&'static str),
    /// Noise of a size that is none.
    #[error("expected noise of at least 0, got {0}")]
    Noise(f32),
    /// Restarts that would all be the same.
    #[error("{0} restarts without noise are the same attempt {0} times; give a noise above 0")]
    SameRestarts(usize),
    /// Guesses beside other kinds of attempts.
    #[error("guesses are for one checkpoint on the puzzle itself; leave out votes, restarts and ensembles")]
    GuessesOnly,
    /// Guesses in puzzles where none could be given.
    #[error("guesses fill in blank cells, and {0} puzzles have none")]
    NoGuesses(String),
    /// Checkpoints of an ensemble for different puzzles.
    #[error(
        "checkpoint {number} of the ensemble reads {got_len} tokens of a vocabulary of {got_vocab}, the first one {len} of {vocab}"
    )]
    Ensemble {
        /// Which checkpoint, from 1.
        number: usize,
        /// Its sequence length.
        got_len: usize,
        /// Its vocabulary.
        got_vocab: usize,
        /// The first one's sequence length.
        len: usize,
        /// The first one's vocabulary.
        vocab: usize,
    },
    /// Verification of a task without rules.
    #[error("answers to {0} cannot be verified: no rules are known")]
    NoRules(String),
    /// A classical solver for a task that has none.
    #[error("there is no classical solver for {0} to fall back to")]
    NoSearch(String),
    /// A fallback that would never be used.
    #[error("a fallback needs verification, which says when it is needed")]
    Unverified,
    /// The device cannot compute in the model's type.
    #[error("this backend does not compute in the model's forward_dtype ({0}); use another backend")]
    Dtype(String),
}

/// A sequence to infer: tokens and the row of the puzzle embedding (0 where puzzles have no identity).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// `seq_len` tokens.
    pub tokens: Vec<u8>,
    /// Row of the puzzle embedding.
    pub identifier: u32,
}

impl From<Vec<u8>> for Query {
    fn from(tokens: Vec<u8>) -> Self {
        Self { tokens, identifier: 0 }
    }
}

#[cfg(test)]
mod tests;
