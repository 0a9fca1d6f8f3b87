use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use hrm_backend::{Groups, HrmBackend, ops};

use super::{Attention, GroupMixer, RotaryTables, SwiGlu};
use crate::{Architecture, Mixer, ModelConfig, init::Initializer};

/// A post-norm transformer block: `x = rms_norm(x + mix(x))`, `x = rms_norm(x + swiglu(x))`, where `mix` is attention
/// or, along the sequence axis and with its norm, another SwiGLU (TRM's MLP variant, arXiv 2510.04871). A [`GroupMixer`] is a block by
/// itself.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Attention over prefix and sequence.
    pub self_attn: Option<Attention<B>>,
    /// In its place: a SwiGLU over prefix and sequence, on vectors of `total_len`.
    pub mlp_t: Option<SwiGlu<B>>,
    /// In place of everything: means over groups.
    pub groups: Option<GroupMixer<B>>,
    /// Feed-forward layer.
    pub mlp: Option<SwiGlu<B>>,
    eps: f64,
}

impl<B: Backend> Block<B> {
    /// A block of the configured sizes; `groups` are those of the configuration.
    pub fn new(
        config: &ModelConfig,
        groups: Option<&Arc<Groups>>,
        init: &mut Initializer<'_>,
        device: &B::Device,
    ) -> Self {
        let Architecture { hidden_size: hidden, num_heads, mixer, .. } = **config;
        let len = config.total_len();
        Self {
            self_attn: (mixer == Mixer::Attention).then(|| Attention::new(init, hidden, num_heads, device)),
            mlp_t: (mixer == Mixer::Mlp).then(|| SwiGlu::new(config, len, init, device)),
            groups: groups.map(|groups| GroupMixer::new(config, groups, init, device)),
            mlp: (mixer != Mixer::Groups).then(|| SwiGlu::new(config, hidden, init, device)),
            eps: config.rms_norm_eps,
        }
    }
}

impl<B: HrmBackend> Block<B> {
    /// The block of `x + injection`.
    ///
    /// # Shapes
    /// - `x`, `injection`, output: `[batch, seq, hidden]`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        injection: Option<Tensor<B, 3>>,
        rotary: Option<&RotaryTables<B>>,
    ) -> Tensor<B, 3> {
        if let Some(groups) = &self.groups {
            return groups.forward(x, injection);
        }
        let x = match injection {
            Some(injection) => ops::add(x, injection),
            None => x,
        };
        let x = self.mix(x, rotary);
        let Some(mlp) = &self.mlp else { return x };
        let shape @ [batch, seq, hidden] = x.dims();
        let x = x.reshape([batch * seq, hidden]);
        ops::add_rms_norm(x.clone(), mlp.forward(x), self.eps).reshape(shape)
    }

    fn mix(&self, x: Tensor<B, 3>, rotary: Option<&RotaryTables<B>>) -> Tensor<B, 3> {
        let shape @ [batch, seq, hidden] = x.dims();
        if let Some(mlp_t) = &self.mlp_t {
            let columns = ops::transpose(x).reshape([batch * hidden, seq]);
            let mixed = ops::add_rms_norm(columns.clone(), mlp_t.forward(columns), self.eps);
            return ops::transpose(mixed.reshape([batch, hidden, seq]));
        }
        let rows = [batch * seq, hidden];
        match &self.self_attn {
            Some(attention) => {
                let attended = attention.forward(x.clone(), rotary);
                ops::add_rms_norm(x.reshape(rows), attended.reshape(rows), self.eps).reshape(shape)
            }
            None => x,
        }
    }
}
