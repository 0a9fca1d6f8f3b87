use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{Groups, HrmBackend};

use super::{Block, RotaryTables};
use crate::{ModelConfig, init::Initializer};

/// One level of the hierarchy: an injection and a stack of blocks.
#[derive(Module, Debug)]
pub struct ReasoningModule<B: Backend> {
    /// The blocks, first to last.
    pub layers: Vec<Block<B>>,
}

impl<B: Backend> ReasoningModule<B> {
    /// `depth` blocks; `groups` are those of the configuration.
    pub fn new(
        config: &ModelConfig,
        groups: Option<&Arc<Groups>>,
        depth: usize,
        init: &mut Initializer<'_>,
        device: &B::Device,
    ) -> Self {
        Self { layers: (0..depth).map(|_| Block::new(config, groups, init, device)).collect() }
    }

    /// The same weights on a puzzle with other groups.
    #[must_use]
    pub(crate) fn with_groups(mut self, groups: Option<&Arc<Groups>>, device: &B::Device) -> Self {
        for mixer in self.layers.iter_mut().filter_map(|block| block.groups.as_mut()) {
            groups.into_iter().for_each(|groups| mixer.set_groups(groups, device));
        }
        self
    }
}

impl<B: HrmBackend> ReasoningModule<B> {
    /// The level's next state from its state and what is injected into it.
    ///
    /// # Shapes
    /// - all: `[batch, seq, hidden]`
    pub fn forward(
        &self,
        z: Tensor<B, 3>,
        injection: Tensor<B, 3>,
        rotary: Option<&RotaryTables<B>>,
    ) -> Tensor<B, 3> {
        let mut injection = Some(injection);
        self.layers.iter().fold(z, |x, block| block.forward(x, injection.take(), rotary))
    }
}
