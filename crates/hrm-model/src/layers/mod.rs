//! The layers of a reasoning module, one file each.

mod attention;
mod block;
mod embedding;
mod group_mixer;
mod linear;
mod reasoning_module;
mod rotary;
mod swiglu;

pub use attention::Attention;
pub use block::Block;
pub use embedding::Embedding;
pub use group_mixer::GroupMixer;
pub use linear::Linear;
pub use reasoning_module::ReasoningModule;
pub use rotary::RotaryTables;
pub use swiglu::SwiGlu;
