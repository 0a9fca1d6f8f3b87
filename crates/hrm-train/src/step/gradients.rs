//! Gradients by the name of their parameter.

use std::collections::BTreeMap;

use burn::{
    backend::Autodiff,
    module::Param,
    tensor::{Tensor, backend::AutodiffBackend},
};
use hrm_backend::{HrmBackend, ops};
use hrm_model::{
    Hrm,
    named::{NamedVisitor, visit_named},
};

/// The gradient of every parameter that has one, flattened, under the original's name of the parameter.
#[derive(Debug, Clone, Default)]
pub struct Gradients<B: HrmBackend>(pub BTreeMap<String, Tensor<B, 1>>);

/// The gradients of a step, before they are applied.
#[derive(Debug)]
pub struct StepGradients<B: HrmBackend> {
    /// Of the model's parameters.
    pub model: Gradients<B>,
    /// Of the rows of the puzzle embedding that the batch used, `[batch, puzzle_emb_ndim]`.
    pub puzzle_rows: Option<Tensor<B, 2>>,
}

impl<B: HrmBackend> Gradients<B> {
    /// Sorts out what a backward pass gave.
    pub fn of(model: &Hrm<Autodiff<B>>, grads: <Autodiff<B> as AutodiffBackend>::Gradients) -> Self {
        struct Collector<B: HrmBackend> {
            grads: <Autodiff<B> as AutodiffBackend>::Gradients,
            found: BTreeMap<String, Tensor<B, 1>>,
        }
        impl<B: HrmBackend> NamedVisitor<Autodiff<B>> for Collector<B> {
            fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<Autodiff<B>, D>>) {
                if let Some(grad) = param.val().grad_remove(&mut self.grads) {
                    let count = grad.shape().num_elements();
                    self.found.insert(name, grad.reshape([count]));
                }
            }
        }
        let mut collector = Collector { grads, found: BTreeMap::new() };
        visit_named(model, &mut collector);
        Self(collector.found)
    }

    /// Adds the gradients of another part of the batch.
    pub fn add(&mut self, other: Self) {
        for (name, grad) in other.0 {
            let sum = match self.0.remove(&name) {
                Some(sum) => sum + grad,
                None => grad,
            };
            self.0.insert(name, sum);
        }
    }

    /// The sum of squares of each gradient, in the order of the names, `[gradients]`; `None` if there is none.
    pub fn squares(&self) -> Option<Tensor<B, 1>> {
        ops::sums_of_squares(self.0.values().cloned())
    }

    /// The Euclidean norm of all gradients together, `[1]`; `None` if there is none.
    pub fn norm(&self) -> Option<Tensor<B, 1>> {
        self.squares().map(|squares| squares.sum().sqrt())
    }

    /// Scales all gradients down by one factor so that their norm together is at most `max_norm`.
    pub fn clip(self, max_norm: f64) -> Self {
        let Some(norm) = self.norm() else { return self };
        let factor = (norm + 1e-6).recip().mul_scalar(max_norm).clamp_max(1.0);
        Self(self.0.into_iter().map(|(name, grad)| (name, grad * factor.clone())).collect())
    }
}
