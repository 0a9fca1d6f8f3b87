//! A worker's share of a step, in one message with those of the others.

use burn::tensor::{Int, Tensor};
use hrm_backend::HrmBackend;
use hrm_infer::evaluate::Workers;

use super::{Gradients, StepGradients};
use crate::distributed::{CollectiveError, Team};

/// What a step of one worker gives, and after [`sum`](Self::sum) that of all workers.
#[derive(Debug)]
pub(super) struct Share<B: HrmBackend> {
    /// Sums over the batch, `[sums]`.
    pub metrics: Tensor<B, 1>,
    /// Gradients of the parameters, and of the rows of the puzzle embedding.
    pub grads: StepGradients<B>,
    /// The identifier of each row, `[batch]`.
    pub identifiers: Tensor<B, 1, Int>,
    /// Whether someone asked this worker to stop, as 0 or 1, `[1]`.
    pub stop: Tensor<B, 1>,
}

impl<B: HrmBackend> Share<B> {
    /// Sums metrics and gradients over all workers, and gathers the rows of the puzzle embedding with their
    /// identifiers in the order of the global batch, all in one message.
    ///
    /// # Errors
    /// If a worker is lost.
    pub(super) fn sum(self, team: &Team<B>, global_batch: usize) -> Result<Self, CollectiveError> {
        if team.is_alone() {
            return Ok(self);
        }
        let Self { metrics, grads, identifiers, stop } = self;
        let (names, mut tensors): (Vec<_>, Vec<_>) = grads.model.0.into_iter().unzip();
        tensors.extend([metrics, stop]);
        let width = grads.puzzle_rows.as_ref().map(|rows| rows.dims()[1]);
        if let Some(rows) = grads.puzzle_rows {
            tensors.push(team.in_place(rows, global_batch));
            tensors.push(team.in_place(identifiers.clone().float(), global_batch));
        }
        let mut sums = team.sum(tensors)?.into_iter();
        let model = Gradients(names.into_iter().zip(sums.by_ref()).collect());
        let mut next = || sums.next().expect("as many sums as summands");
        let (metrics, stop) = (next(), next());
        let (puzzle_rows, identifiers) = match width {
            Some(width) => (Some(next().reshape([global_batch, width])), next().int()),
            None => (None, identifiers),
        };
        Ok(Self { metrics, grads: StepGradients { model, puzzle_rows }, identifiers, stop })
    }
}
