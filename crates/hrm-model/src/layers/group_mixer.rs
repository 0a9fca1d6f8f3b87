use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{GroupTables, GroupWeights, Groups, HrmBackend, ops};

use super::Linear;
use crate::{Architecture, ModelConfig, init::Initializer};

/// A block that mixes nodes by the groups they lie in: with `u = silu(U x)` and `m_k` the mean of `u` over the node's group of kind `k`,
/// `[g, v] = W [x, m_1, m_2, ...]` and `rms_norm(x + D (silu(g) v))`. All nodes share the weights, so whatever maps nodes to nodes and
/// groups to groups maps the result alike (Deep Sets, arXiv 1703.06114; exchangeable matrix layers, arXiv 1803.02879), and the weights
/// fit a puzzle of any size.
#[derive(Module, Debug)]
pub struct GroupMixer<B: Backend> {
    /// `U`, `[group_width, hidden]`
    pub in_proj: Linear<B>,
    /// `W`, `[2 * inter, hidden + kinds * group_width]`: gate, then up; columns of the node, of its cell's values, of each kind of groups.
    pub gate_up_proj: Linear<B>,
    /// `D`, `[hidden, inter]`
    pub down_proj: Linear<B>,
    /// `[groups, cells]`
    pool: Tensor<B, 2>,
    /// `[cells, groups]`
    spread: Tensor<B, 2>,
    #[module(skip)]
    groups: Arc<Groups>,
    eps: f64,
}

impl<B: Backend> GroupMixer<B> {
    /// A block of the configured sizes.
    pub fn new(
        config: &ModelConfig,
        groups: &Arc<Groups>,
        init: &mut Initializer<'_>,
        device: &B::Device,
    ) -> Self {
        let Architecture { hidden_size: hidden, group_width: width, .. } = **config;
        let inter = config.group_inter();
        let kinds = groups.kinds().len() + usize::from(groups.values() > 1);
        let GroupTables { groups, pool, spread } = GroupTables::new(groups.clone(), device);
        Self {
            in_proj: Linear::new(init, hidden, width, device),
            gate_up_proj: Linear::new(init, hidden + kinds * width, 2 * inter, device),
            down_proj: Linear::new(init, inter, hidden, device),
            pool,
            spread,
            groups,
            eps: config.rms_norm_eps,
        }
    }

    /// Puts other groups, of the same kinds, in the place of those that it has.
    pub(crate) fn set_groups(&mut self, groups: &Arc<Groups>, device: &B::Device) {
        let GroupTables { groups, pool, spread } = GroupTables::new(groups.clone(), device);
        (self.groups, self.pool, self.spread) = (groups, pool, spread);
    }
}

impl<B: HrmBackend> GroupMixer<B> {
    /// # Shapes
    /// - `x`, `injection`, output: `[batch, nodes, hidden]`
    pub fn forward(&self, x: Tensor<B, 3>, injection: Option<Tensor<B, 3>>) -> Tensor<B, 3> {
        let weights = GroupWeights {
            input: self.in_proj.weight.val(),
            gate_up: self.gate_up_proj.weight.val(),
            down: self.down_proj.weight.val(),
        };
        let tables =
            GroupTables { groups: self.groups.clone(), pool: self.pool.clone(), spread: self.spread.clone() };
        ops::group_block(x, injection, weights, tables, self.eps)
    }
}
