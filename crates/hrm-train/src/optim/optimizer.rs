use std::collections::BTreeMap;

use burn::{backend::Autodiff, module::Param, tensor::Tensor};
use hrm_backend::{HrmBackend, ops};
use hrm_model::{
    Hrm,
    named::{NamedMapper, map_named},
};
use serde::{Deserialize, Serialize};

use super::{AdamConfig, MuonConfig};
use crate::step::Gradients;

/// What the optimizer remembers of one parameter, flattened.
#[derive(Debug, Clone)]
pub struct Moments<B: HrmBackend> {
    /// Updates so far.
    pub step: u64,
    /// First moment, or Muon's momentum.
    pub m: Tensor<B, 1>,
    /// Second moment; Muon has none.
    pub v: Option<Tensor<B, 1>>,
}

/// How a parameter is updated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// [`AdamConfig::adam_atan2`], the paper's.
    AdamAtan2(AdamConfig),
    /// [`AdamConfig::adam_w`].
    AdamW(AdamConfig),
    /// [`MuonConfig::step`], for matrices.
    Muon(MuonConfig),
}

/// The rule of some parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParamGroup {
    /// Which parameters, by the original's names: a pattern in which `*` stands for any text.
    pub params: String,
    /// How they are updated.
    pub rule: Rule,
    /// Their learning rate relative to the one of the step.
    pub lr_scale: f64,
}

/// The optimizer of all parameters but the puzzle embedding: the first group whose pattern fits a parameter's name says
/// how it is updated, and parameters that no group names stay as they are.
#[derive(Debug, Clone)]
pub struct Optimizer<B: HrmBackend> {
    /// In order of precedence.
    pub groups: Vec<ParamGroup>,
    /// State by parameter name (the original's), empty before the first step.
    pub moments: BTreeMap<String, Moments<B>>,
}

impl<B: HrmBackend> Optimizer<B> {
    /// An optimizer that has seen nothing.
    pub fn new(groups: Vec<ParamGroup>) -> Self {
        Self { groups, moments: BTreeMap::new() }
    }

    /// The paper's: AdamATan2 on every parameter.
    pub fn adam_atan2(config: AdamConfig) -> Self {
        Self::new(vec![ParamGroup { params: "*".to_owned(), rule: Rule::AdamAtan2(config), lr_scale: 1.0 }])
    }

    /// Updates every parameter that has a gradient; the others keep value and moments. With a flag `good`, `[1]`, that is 0 on the device,
    /// all keep them.
    pub fn step(
        &mut self,
        lr: f64,
        model: Hrm<Autodiff<B>>,
        grads: Gradients<B>,
        good: Option<&Tensor<B, 1>>,
    ) -> Hrm<Autodiff<B>> {
        map_named(model, &mut Updater { optimizer: self, lr, grads, good })
    }

    /// Takes the last update out of the count of each parameter, after its effect has been undone.
    pub fn take_back_update(&mut self) {
        for moments in self.moments.values_mut() {
            moments.step = moments.step.saturating_sub(1);
        }
    }

    fn group(&self, name: &str) -> Option<&ParamGroup> {
        self.groups.iter().find(|group| matches(&group.params, name))
    }
}

/// Whether a pattern with `*` for any text fits a name. The first place that fits a part between two `*` is as good as any
/// later one, so no choice is ever taken back.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let (middle, end) = tail.rsplit_once('*').unwrap_or(("", tail));
    let inner = name.strip_prefix(head).and_then(|rest| rest.strip_suffix(end));
    let find = |rest: &str, part: &str| rest.find(part).map(|at| at + part.len());
    inner.is_some_and(|inner| {
        middle
            .split('*')
            .try_fold(inner, |rest, part| find(rest, part).map(|at| rest.split_at(at).1))
            .is_some()
    })
}

/// Matrices that a parameter stacks along its rows.
fn stacked(name: &str) -> usize {
    match name {
        _ if name.contains("qkv_proj") => 3,
        _ if name.contains("gate_up_proj") => 2,
        _ => 1,
    }
}

struct Updater<'a, B: HrmBackend> {
    optimizer: &'a mut Optimizer<B>,
    lr: f64,
    grads: Gradients<B>,
    good: Option<&'a Tensor<B, 1>>,
}

impl<B: HrmBackend> Updater<'_, B> {
    /// What a rule that knows no flag gives, or what was before.
    fn guarded(
        &self,
        old: (Tensor<B, 1>, Option<Moments<B>>),
        update: impl FnOnce(Tensor<B, 1>, Option<Moments<B>>) -> (Tensor<B, 1>, Moments<B>),
    ) -> (Tensor<B, 1>, Moments<B>) {
        let (param, moments) = old;
        let Some(good) = self.good else { return update(param, moments) };
        let (new, Moments { step, m, v }) = update(param.clone(), moments.clone());
        let (old_m, old_v) = moments.map_or((None, None), |old| (Some(old.m), old.v));
        let keep = |new: Tensor<B, 1>, old: Option<Tensor<B, 1>>| {
            let old = old.unwrap_or_else(|| new.zeros_like());
            ops::if_good(good, new, old)
        };
        let moments = Moments { step, m: keep(m, old_m), v: v.map(|v| keep(v, old_v)) };
        (ops::if_good(good, new, param), moments)
    }
}

impl<B: HrmBackend> NamedMapper<Autodiff<B>> for Updater<'_, B> {
    fn map<const D: usize>(
        &mut self,
        name: String,
        param: Param<Tensor<Autodiff<B>, D>>,
    ) -> Param<Tensor<Autodiff<B>, D>> {
        let Some(ParamGroup { rule, lr_scale, .. }) = self.optimizer.group(&name).cloned() else {
            return param;
        };
        let Some(grad) = self.grads.0.remove(&name) else {
            return param;
        };
        let lr = self.lr * lr_scale;
        // Taken out of the map while updated, so that the backend may work in place.
        let moments = self.optimizer.moments.remove(&name);
        param.map(|tensor| {
            let shape = tensor.shape();
            let count = shape.num_elements();
            let flat = tensor.inner().reshape([count]);
            let (new, moments) = match rule {
                Rule::AdamAtan2(adam) => adam.adam_atan2(lr, flat, grad, moments, self.good),
                Rule::AdamW(adam) => {
                    self.guarded((flat, moments), |param, moments| adam.adam_w(lr, param, grad, moments))
                }
                Rule::Muon(muon) => self.guarded((flat, moments), |param, moments| {
                    let rows = shape[0];
                    muon.step(lr, param, grad, moments, [rows, count / rows], stacked(&name))
                }),
            };
            self.optimizer.moments.insert(name, moments);
            Tensor::from_inner(new.reshape(shape)).require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, expected) in [
            ("*", "lm_head.weight", true),
            ("lm_head.weight", "lm_head.weight", true),
            ("lm_head", "lm_head.weight", false),
            ("?_level.*", "L_level.layers.0.mlp.down_proj.weight", false),
            ("*_level.*", "L_level.layers.0.mlp.down_proj.weight", true),
            ("*_level.*.weight", "L_level.layers.0.mlp.down_proj.bias", false),
            ("*mlp*weight", "L_level.layers.0.mlp_t.down_proj.weight", true),
            ("", "q_head.bias", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
