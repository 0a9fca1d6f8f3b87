//! Training of hierarchical reasoning models.
//!
//! [`step::Step`] is the paper's training step; [`trainer::train`] is the loop around it. What comes out is used by `hrm-infer`.

#![cfg_attr(not(feature = "mpi"), forbid(unsafe_code))]

pub mod adapt;
pub mod checkpoint;
pub mod data;
#[doc(hidden)]
pub mod disk;
pub mod distributed;
pub mod optim;
pub mod recipe;
pub mod run;
pub mod step;
pub mod trainer;
