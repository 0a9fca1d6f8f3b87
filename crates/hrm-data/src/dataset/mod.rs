//! Datasets in the reference's on-disk format, and batches drawn from them.
//!
//! A dataset is a tree: *groups* (one original puzzle and its augmentations) hold *puzzles* (one augmentation), puzzles
//! hold *examples* (one input and its label). For Sudoku each puzzle has one example; for ARC it has the task's pairs.

mod augment;
mod batch;
pub(crate) mod folder;
mod format;
pub mod npy;
mod sampler;

pub use augment::Augmentation;
pub use batch::{Batch, EvalBatch, EvalBatches, IGNORE_LABEL};
pub use format::{
    Dataset, DatasetError, Metadata, Overwrite, PuzzleSet, load_identifiers, save_identifiers, save_pair,
};
pub(crate) use sampler::draw_hints;
pub use sampler::{Part, SamplerConfig, SamplerError, SamplerState, TrainSampler};

/// What samplers of other sources share with [`TrainSampler`].
pub(crate) mod sampling {
    pub(crate) use super::batch::mask_labels;
    pub(crate) use super::sampler::{Draws, Layout, sample_batch};
}
