//! Fast CPU kernels of the hierarchical reasoning model, on plain slices.
//!
//! Everything is `f32`, row-major, and knows nothing of a tensor library. The instruction set is found at run time ([`Isa`]); threads are
//! those of the current rayon pool. **Results do not depend on the number of threads**: work is split over the elements of the result, never
//! over a sum.

// Loops over the registers of a tile are clearer with the indices of the formula.
#![allow(clippy::needless_range_loop)]

mod adam;
#[cfg(target_pointer_width = "64")]
mod alloc;
mod attention;
mod bf16;
mod gate_up;
mod gemm;
mod groups;
mod math;
mod norm;
mod scratch;
mod simd;
mod swiglu;
#[cfg(test)]
mod testing;

pub use adam::{AdamAtan2Step, adam_atan2_step};
#[cfg(target_pointer_width = "64")]
pub use alloc::TensorAllocator;
pub use attention::{AttentionShape, Rotary, attention, attention_backward};
pub use bf16::{Bf16Engine, PackedBf16, gemm_bf16, gemm_bf16_packed};
pub use gate_up::{PackedGateUp, PackedGateUpBf16, gemm_swiglu, gemm_swiglu_bf16};
pub use gemm::{Matrix, PackedMatrix, Store, gemm, gemm_packed};
pub use groups::{
    CellGroups, GroupBlock, GroupIndex, GroupShape, GroupWeight, Lists, group_block, group_block_backward,
};
pub use norm::{rms_norm, rms_norm_backward};
pub use simd::Isa;
pub use swiglu::{swiglu, swiglu_backward};
