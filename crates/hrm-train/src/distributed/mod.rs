//! Data-parallel training: several workers, each with a copy of the model and a share of every batch, that take the
//! same steps as one worker with the whole batch would.
//!
//! Worker `w` of `n` owns the slots `w B / n` to `(w + 1) B / n` of the carry and the same rows of every batch. All
//! workers draw from one sampler stream by position, so their rows together are the batch of a single worker. After
//! the backward pass one message per step sums the gradients, the metrics and the gathered rows of the puzzle
//! embedding; the optimizers then do the same on every worker.
//!
//! The engines exist elsewhere: MPI between processes and machines (`mpi`, feature `mpi`), and NCCL between the CUDA
//! devices of one process (`nccl`, feature `nccl`). What an engine has to give is one operation, [`Collective::sum`].

mod collective;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "nccl")]
pub mod nccl;
mod team;

pub use collective::{Alone, Collective, CollectiveError};
pub use team::Team;
