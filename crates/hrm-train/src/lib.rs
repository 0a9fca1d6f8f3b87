//! Training, evaluation and inference of hierarchical reasoning models.
//!
//! [`step::train_step`] is the paper's training step; [`trainer::Trainer`] is the loop around it.

pub mod infer;
pub mod optim;
pub mod step;
