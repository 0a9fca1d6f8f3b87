use std::collections::BTreeMap;

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use hrm_backend::{
    HrmAutodiffBackend, HrmBackend,
    ops::{self, AdamAtan2Update},
};
use hrm_model::named::{NamedMapper, map_named};
use serde::{Deserialize, Serialize};

use crate::gradients::Gradients;

/// Scalars of [`AdamAtan2`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamAtan2Config {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay; every parameter decays, biases and embeddings too.
    pub weight_decay: f64,
}

/// What the optimizer remembers of one parameter, flattened.
#[derive(Debug, Clone)]
pub struct Moments<B: HrmBackend> {
    /// Updates so far.
    pub step: u64,
    /// First moment.
    pub m: Tensor<B, 1>,
    /// Second moment.
    pub v: Tensor<B, 1>,
}

/// Adam with `atan2` in place of the division, which makes it scale-invariant and free of an epsilon
/// (Everett et al. 2024, arXiv 2407.05872); see [`ops::adam_atan2`] for the formula.
#[derive(Debug, Clone)]
pub struct AdamAtan2<B: HrmBackend> {
    /// The scalars.
    pub config: AdamAtan2Config,
    /// State by parameter name (the original's), empty before the first step.
    pub moments: BTreeMap<String, Moments<B>>,
}

impl<B: HrmBackend> AdamAtan2<B> {
    /// An optimizer that has seen nothing.
    pub fn new(config: AdamAtan2Config) -> Self {
        Self { config, moments: BTreeMap::new() }
    }

    /// Updates every parameter that has a gradient; the others keep value and moments.
    pub fn step<A, M>(&mut self, lr: f64, model: M, grads: Gradients<B>) -> M
    where
        A: HrmAutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        map_named(model, &mut Updater { optimizer: self, lr, grads })
    }
}

struct Updater<'a, B: HrmBackend> {
    optimizer: &'a mut AdamAtan2<B>,
    lr: f64,
    grads: Gradients<B>,
}

impl<A: HrmAutodiffBackend> NamedMapper<A> for Updater<'_, A::InnerBackend> {
    fn map<const D: usize>(&mut self, name: String, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let Some(grad) = self.grads.0.remove(&name) else {
            return param;
        };
        let AdamAtan2 { config, moments } = &mut *self.optimizer;
        // Taken out of the map while updated, so that the backend may work in place.
        let Moments { step, m, v } = moments.remove(&name).unwrap_or_else(|| Moments {
            step: 0,
            m: grad.zeros_like(),
            v: grad.zeros_like(),
        });
        let step = step + 1;
        let update = AdamAtan2Update {
            lr: self.lr,
            beta1: config.beta1,
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            step,
        };
        param.map(|tensor| {
            let shape = tensor.shape();
            let flat = tensor.inner().reshape([shape.num_elements()]);
            let (p, m, v) = ops::adam_atan2(flat, grad, m, v, &update);
            moments.insert(name, Moments { step, m, v });
            Tensor::from_inner(p.reshape(shape)).require_grad()
        })
    }
}
