use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Int, Tensor},
};
use hrm_backend::HrmAutodiffBackend;
use hrm_model::Hrm;

use super::{CollectiveError, Team};
use crate::step::StepGradients;

/// What a step of one worker gives, and of all workers after [`ShareOfStep::sum`].
#[derive(Debug)]
pub struct ShareOfStep<A: HrmAutodiffBackend> {
    /// Sums over the batch.
    pub metrics: Tensor<A::InnerBackend, 1>,
    /// Gradients of the parameters, and of the rows of the puzzle embedding.
    pub grads: StepGradients<A>,
    /// The identifier of each row, `[batch]`.
    pub identifiers: Tensor<A::InnerBackend, 1, Int>,
}

impl<A: HrmAutodiffBackend> ShareOfStep<A> {
    /// Sums metrics and gradients over all workers, and gathers the rows of the puzzle embedding with their
    /// identifiers in the order of the global batch, in one message.
    ///
    /// # Errors
    /// If a worker is lost.
    pub fn sum(
        self,
        team: &Team<A::InnerBackend>,
        model: &Hrm<A>,
        global_batch: usize,
    ) -> Result<Self, CollectiveError> {
        if team.is_alone() {
            return Ok(self);
        }
        let Self { metrics, mut grads, identifiers } = self;
        let mut tensors = vec![metrics];
        let width = grads.puzzle_rows.as_ref().map(|rows| rows.dims()[1]);
        if let Some(rows) = grads.puzzle_rows {
            tensors.push(team.in_place(rows, global_batch));
            tensors.push(team.in_place(identifiers.clone().float(), global_batch));
        }
        let mut taken = Take::<A> { grads: &mut grads.model, found: tensors };
        model.visit(&mut taken);
        let mut sums = team.sum(taken.found)?.into_iter();
        let mut next = || sums.next().expect("as many sums as summands");
        let metrics = next();
        let (puzzle_rows, identifiers) = match width {
            Some(width) => (Some(next().reshape([global_batch, width])), next().int()),
            None => (None, identifiers),
        };
        model.visit(&mut Put::<A> { grads: &mut grads.model, next: &mut next });
        Ok(Self { metrics, grads: StepGradients { model: grads.model, puzzle_rows }, identifiers })
    }
}

struct Take<'a, A: HrmAutodiffBackend> {
    grads: &'a mut A::Gradients,
    found: Vec<Tensor<A::InnerBackend, 1>>,
}

impl<A: HrmAutodiffBackend> ModuleVisitor<A> for Take<'_, A> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        if let Some(grad) = param.val().grad(self.grads) {
            let count = grad.shape().num_elements();
            self.found.push(grad.reshape([count]));
        }
    }
}

struct Put<'a, A: HrmAutodiffBackend> {
    grads: &'a mut A::Gradients,
    next: &'a mut dyn FnMut() -> Tensor<A::InnerBackend, 1>,
}

impl<A: HrmAutodiffBackend> ModuleVisitor<A> for Put<'_, A> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        let param = param.val();
        if param.grad(self.grads).is_some() {
            let sum = (self.next)().reshape(param.shape());
            param.grad_replace(self.grads, sum);
        }
    }
}
