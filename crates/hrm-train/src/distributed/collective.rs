use std::fmt;

use burn::tensor::{Tensor, backend::Backend};
use thiserror::Error;

/// What connects the workers of a run.
pub trait Collective<B: Backend>: fmt::Debug {
    /// This worker, counted from 0.
    fn worker(&self) -> usize;

    /// How many workers there are.
    fn workers(&self) -> usize;

    /// The elementwise sum over all workers, the same bits on each. All workers call it in the same order with
    /// tensors of the same length, in fp32.
    ///
    /// # Shapes
    /// - `values`, output: `[elements]`
    ///
    /// # Errors
    /// [`CollectiveError::Lost`] if a worker does not take part.
    fn sum(&self, values: Tensor<B, 1>) -> Result<Tensor<B, 1>, CollectiveError>;
}

/// One worker that does everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl<B: Backend> Collective<B> for Alone {
    fn worker(&self) -> usize {
        0
    }

    fn workers(&self) -> usize {
        1
    }

    fn sum(&self, values: Tensor<B, 1>) -> Result<Tensor<B, 1>, CollectiveError> {
        Ok(values)
    }
}

/// What can go wrong between workers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CollectiveError {
    /// The batch cannot be shared out evenly.
    #[error(
        "train.global_batch_size = {batch} cannot be shared by {workers} workers{parts}; use a multiple of {divisor}, or \
         another number of workers",
        parts = if *.accumulate > 1 { format!(" in train.accumulate = {accumulate} parts each") } else { String::new() },
        divisor = workers * accumulate
    )]
    Batch {
        /// Sequences per step.
        batch: usize,
        /// Workers.
        workers: usize,
        /// Parts that each worker computes its share in.
        accumulate: usize,
    },
    /// Identifiers travel as fp32, which holds integers up to 2^24 exactly.
    #[error(
        "the data has {identifiers} puzzle identifiers; several workers can train at most 16777216 (2^24), as they are \
         sent as fp32"
    )]
    Identifiers {
        /// Puzzle identifiers of the data.
        identifiers: usize,
    },
    /// Workers that were not started alike.
    #[error(
        "{} not agree with worker 0 about {what}; start all workers with the same program, recipe, data and checkpoints \
         on one kind of machine",
        workers_do(workers)
    )]
    Differ {
        /// What differs.
        what: &'static str,
        /// The workers that have something else than worker 0.
        workers: Vec<usize>,
    },
    /// A worker that no longer takes part.
    #[error(
        "worker {worker} waited {seconds} s for {}: killed, stuck or cut off; the run goes on from its newest checkpoint \
         with any number of workers (--resume)",
        names(lost)
    )]
    Lost {
        /// The worker that waited.
        worker: usize,
        /// Those that did not answer; empty if all answered, only too late.
        lost: Vec<usize>,
        /// How long it waited.
        seconds: u64,
    },
    /// Other workers could not start.
    #[error("{} could not start, and said why", names(workers))]
    NotStarted {
        /// Which.
        workers: Vec<usize>,
    },
    /// The engine cannot start.
    #[error("{0}")]
    Engine(String),
}

/// `worker 2`, `workers 1, 2`, or `the other workers`.
fn names(workers: &[usize]) -> String {
    match workers {
        [] => "the other workers".to_owned(),
        [one] => format!("worker {one}"),
        many => {
            format!("workers {}", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

fn workers_do(workers: &[usize]) -> String {
    format!("{} do{}", names(workers), if workers.len() == 1 { "es" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_workers() {
        let lost = CollectiveError::Lost { worker: 0, lost: vec![2, 3], seconds: 60 }.to_string();
        assert!(lost.starts_with("worker 0 waited 60 s for workers 2, 3: "), "{lost}");
        let differ = CollectiveError::Differ { what: "the recipe", workers: vec![1] }.to_string();
        assert!(differ.starts_with("worker 1 does not agree with worker 0 about the recipe"), "{differ}");
        let batch = CollectiveError::Batch { batch: 10, workers: 4, accumulate: 1 }.to_string();
        assert!(batch.contains("10 cannot be shared by 4 workers; use a multiple of 4"), "{batch}");
    }
}
