//! Training of hierarchical reasoning models.
//!
//! [`step::Step`] is the paper's training step; [`trainer::train`] is the loop around it. What comes out is used by `hrm-infer`.

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod distributed;
pub mod optim;
pub mod run;
pub mod step;
pub mod trainer;
