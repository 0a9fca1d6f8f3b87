//! Datasets in the reference's on-disk format, and sequential batches of them.
//!
//! A dataset is a tree: *groups* (one original puzzle and its augmentations) hold *puzzles* (one augmentation), puzzles
//! hold *examples* (one input and its label). For Sudoku each puzzle has one example; for ARC it has the task's pairs.

mod batch;
pub(crate) mod folder;
mod format;
pub mod npy;

pub use batch::{Batch, EvalBatch, EvalBatches, IGNORE_LABEL};
pub(crate) use batch::{mask_labels, widen};
pub use format::{
    Dataset, DatasetError, Metadata, Overwrite, PuzzleSet, load_identifiers, save_identifiers, save_pair,
};
