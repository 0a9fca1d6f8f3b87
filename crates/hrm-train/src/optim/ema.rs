use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{HrmAutodiffBackend, HrmBackend};
use hrm_model::{Hrm, weights::ParamPath};

/// Exponential moving average of the trained weights, `ema = rate ema + (1 - rate) w` after each step, from the initial
/// weights on (TRM, arXiv 2510.04871, section 4.5). Puzzle embeddings and fixed initial states are not averaged.
#[derive(Debug, Clone)]
pub struct Ema<B: HrmBackend> {
    /// Share of the old average that stays in each step.
    pub rate: f64,
    /// The averages by parameter name (the original's), flattened.
    pub weights: BTreeMap<String, Tensor<B, 1>>,
}

impl<B: HrmBackend> Ema<B> {
    /// The average of the weights of a model that has not been trained yet.
    pub fn new<A: HrmAutodiffBackend<InnerBackend = B>>(rate: f64, model: &Hrm<A>) -> Self {
        Self { rate, weights: trained_weights(model) }
    }

    /// Takes in the weights after a step.
    pub fn update<A: HrmAutodiffBackend<InnerBackend = B>>(&mut self, model: &Hrm<A>) {
        for (name, weight) in trained_weights(model) {
            let average = match self.weights.remove(&name) {
                Some(average) => average * self.rate + weight * (1.0 - self.rate),
                None => weight,
            };
            self.weights.insert(name, average);
        }
    }

    /// A model with the averaged weights; what is not averaged is the given model's.
    pub fn apply(&self, model: Hrm<B>) -> Hrm<B> {
        model.map(&mut Replace { weights: &self.weights, path: ParamPath::default() })
    }
}

/// The weights that the dense optimizer trains, by name and flattened.
pub fn trained_weights<A: HrmAutodiffBackend>(
    model: &Hrm<A>,
) -> BTreeMap<String, Tensor<A::InnerBackend, 1>> {
    struct Collector<A: HrmAutodiffBackend> {
        path: ParamPath,
        found: BTreeMap<String, Tensor<A::InnerBackend, 1>>,
    }
    impl<A: HrmAutodiffBackend> ModuleVisitor<A> for Collector<A> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            let tensor = param.val();
            if tensor.is_require_grad() {
                let count = tensor.shape().num_elements();
                self.found.insert(self.path.original_name(), tensor.inner().reshape([count]));
            }
        }
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.enter(name);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
    }
    let mut collector = Collector::<A> { path: ParamPath::default(), found: BTreeMap::new() };
    model.visit(&mut collector);
    collector.found
}

struct Replace<'a, B: Backend> {
    weights: &'a BTreeMap<String, Tensor<B, 1>>,
    path: ParamPath,
}

impl<B: Backend> ModuleMapper<B> for Replace<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        match self.weights.get(&self.path.original_name()) {
            Some(weight) => param.map(|tensor| weight.clone().reshape(tensor.shape())),
            None => param,
        }
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
}
