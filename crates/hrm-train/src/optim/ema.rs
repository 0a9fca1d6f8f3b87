use std::collections::BTreeMap;

use burn::{backend::Autodiff, module::Param, tensor::Tensor};
use hrm_backend::HrmBackend;
use hrm_model::{
    Hrm,
    named::{NamedMapper, NamedVisitor, map_named, visit_named},
};

/// Exponential moving average of the trained weights, `ema = rate ema + (1 - rate) w` after each step (TRM, arXiv
/// 2510.04871, section 4.5). Puzzle embeddings and fixed initial states are not averaged.
///
/// The average starts from the initial weights, as TRM's does, or from the weights after a later step (SiC, arXiv
/// 2601.19085, averages the last part of the training only); before that step there is none.
#[derive(Debug, Clone)]
pub struct Ema<B: HrmBackend> {
    /// Share of the old average that stays in each step.
    pub rate: f64,
    /// The step whose weights are the first average; 0 for the initial weights.
    pub start: u64,
    /// The averages by parameter name (the original's), flattened; empty before `start`.
    pub weights: BTreeMap<String, Tensor<B, 1>>,
}

impl<B: HrmBackend> Ema<B> {
    /// The average for a model that has not been trained yet.
    pub fn new(rate: f64, start: u64, model: &Hrm<Autodiff<B>>) -> Self {
        let weights = if start == 0 { trained_weights(model) } else { BTreeMap::new() };
        Self { rate, start, weights }
    }

    /// Takes in the weights after a step, counted from 1.
    pub fn update(&mut self, step: u64, model: &Hrm<Autodiff<B>>) {
        if step < self.start {
            return;
        }
        for (name, weight) in trained_weights(model) {
            let average = match self.weights.remove(&name) {
                Some(average) => average * self.rate + weight * (1.0 - self.rate),
                None => weight,
            };
            self.weights.insert(name, average);
        }
    }

    /// A model with the averaged weights; what is not averaged (before `start`, nothing is) is the given model's.
    pub fn apply(&self, model: Hrm<B>) -> Hrm<B> {
        map_named(model, &mut Replace(&self.weights))
    }
}

/// The weights that the dense optimizer trains, by name and flattened.
pub fn trained_weights<B: HrmBackend>(model: &Hrm<Autodiff<B>>) -> BTreeMap<String, Tensor<B, 1>> {
    struct Collector<B: HrmBackend> {
        found: BTreeMap<String, Tensor<B, 1>>,
    }
    impl<B: HrmBackend> NamedVisitor<Autodiff<B>> for Collector<B> {
        fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<Autodiff<B>, D>>) {
            let tensor = param.val();
            if tensor.is_require_grad() {
                let count = tensor.shape().num_elements();
                self.found.insert(name, tensor.inner().reshape([count]));
            }
        }
    }
    let mut collector = Collector { found: BTreeMap::new() };
    visit_named(model, &mut collector);
    collector.found
}

struct Replace<'a, B: HrmBackend>(&'a BTreeMap<String, Tensor<B, 1>>);

impl<B: HrmBackend> NamedMapper<B> for Replace<'_, B> {
    fn map<const D: usize>(&mut self, name: String, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        match self.0.get(&name) {
            Some(weight) => param.map(|tensor| weight.clone().reshape(tensor.shape())),
            None => param,
        }
    }
}
