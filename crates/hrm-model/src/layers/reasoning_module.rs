use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::HrmBackend;

use super::{Block, RotaryTables};
use crate::{ModelConfig, init::Initializer};

/// One level of the hierarchy: an injection and a stack of blocks.
#[derive(Module, Debug)]
pub struct ReasoningModule<B: Backend> {
    /// The blocks, first to last.
    pub layers: Vec<Block<B>>,
}

impl<B: Backend> ReasoningModule<B> {
    /// `depth` blocks.
    pub fn new(config: &ModelConfig, depth: usize, init: &mut Initializer<'_>, device: &B::Device) -> Self {
        Self { layers: (0..depth).map(|_| Block::new(config, init, device)).collect() }
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
        self.layers.iter().fold(z + injection, |x, block| block.forward(x, rotary))
    }
}
