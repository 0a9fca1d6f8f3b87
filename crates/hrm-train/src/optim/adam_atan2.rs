use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, backend::AutodiffBackend},
};
use hrm_backend::{
    HrmAutodiffBackend, HrmBackend,
    ops::{self, AdamAtan2Update},
};
use hrm_model::weights::ParamPath;
use serde::{Deserialize, Serialize};

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
    /// `clip` scales all gradients down to that global norm.
    pub fn step<A, M>(&mut self, lr: f64, model: M, mut grads: A::Gradients, clip: Option<f64>) -> M
    where
        A: HrmAutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        let scale = clip.map(|max_norm| {
            let norm = global_norm::<A, M>(&model, &grads);
            (norm + 1e-6).recip().mul_scalar(max_norm).clamp_max(1.0)
        });
        let mut updater =
            Updater::<A> { optimizer: self, path: ParamPath::default(), lr, scale, grads: &mut grads };
        model.map(&mut updater)
    }
}

struct Updater<'a, A: HrmAutodiffBackend> {
    optimizer: &'a mut AdamAtan2<A::InnerBackend>,
    path: ParamPath,
    lr: f64,
    scale: Option<Tensor<A::InnerBackend, 1>>,
    grads: &'a mut A::Gradients,
}

impl<A: HrmAutodiffBackend> ModuleMapper<A> for Updater<'_, A> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let Some(grad) = param.val().grad_remove(self.grads) else {
            return param;
        };
        let AdamAtan2 { config, moments } = &mut *self.optimizer;
        let count = grad.shape().num_elements();
        let mut grad = grad.reshape([count]);
        if let Some(scale) = &self.scale {
            grad = grad * scale.clone();
        }
        let name = self.path.original_name();
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
            let (p, m, v) = ops::adam_atan2(tensor.inner().reshape([count]), grad, m, v, &update);
            moments.insert(name, Moments { step, m, v });
            Tensor::from_inner(p.reshape(shape)).require_grad()
        })
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
}

/// The Euclidean norm of all gradients together, `[1]`.
pub fn global_norm<A, M>(model: &M, grads: &A::Gradients) -> Tensor<A::InnerBackend, 1>
where
    A: AutodiffBackend,
    M: Module<A>,
{
    struct Norm<'a, A: AutodiffBackend> {
        grads: &'a A::Gradients,
        sum: Option<Tensor<A::InnerBackend, 1>>,
    }
    impl<A: AutodiffBackend> ModuleVisitor<A> for Norm<'_, A> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            if let Some(grad) = param.val().grad(self.grads) {
                let square = grad.square().sum();
                self.sum = Some(match self.sum.take() {
                    None => square,
                    Some(sum) => sum + square,
                });
            }
        }
    }
    let mut norm = Norm::<A> { grads, sum: None };
    model.visit(&mut norm);
    let device = model.devices().into_iter().next().unwrap_or_default();
    norm.sum.map_or_else(|| Tensor::zeros([1], &device), Tensor::sqrt)
}
