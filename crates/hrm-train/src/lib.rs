//! Training, evaluation and inference of hierarchical reasoning models.
//!
//! [`step::train_step`] is the paper's training step; [`trainer::train`] is the loop around it;
//! [`evaluate::evaluate`] and [`infer`] use what came out.

#![cfg_attr(not(feature = "mpi"), forbid(unsafe_code))]

mod accumulate;
pub mod chains;
pub mod checkpoint;
pub mod config;
pub mod curriculum;
pub mod data;
#[doc(hidden)]
pub mod disk;
pub mod distributed;
pub mod evaluate;
pub mod gradients;
pub mod infer;
pub mod noise;
pub mod optim;
pub mod run;
pub mod safety;
pub mod selection;
pub mod step;
pub mod trainer;
pub mod watch;
