//! The Abstraction and Reasoning Corpus: tasks from files, the canvas, augmentations that are drawn and never stored,
//! and the vote over augmented predictions.

mod augment;
mod baseline;
mod canvas;
mod data;
pub mod draw;
mod puzzle;
mod sampler;
mod sets;
mod submission;
mod task;
mod vote;

pub use augment::{NameError, Names, Transform, parse_name};
pub use baseline::Baseline;
pub use canvas::{CANVAS, SEQ_LEN, VOCAB_SIZE, crop, decode, encode, side_of};
pub use data::{ArcData, ArcOptions, BuildError, Leak, leaks};
pub use puzzle::Arc;
pub use sampler::{ArcEvalBatches, ArcSampler};
pub use sets::{Sets, SplitRule, load_sets, save};
pub use submission::{ATTEMPTS, Check, Score, Solutions, Submission, SubmissionError, TaskRow};
pub use task::{ArcError, ArcTask, Pair, Side, TaskError, load, load_kaggle};
pub use vote::{Candidate, Rule, Voting};
