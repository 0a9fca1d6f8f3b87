//! Fast CPU kernels of the hierarchical reasoning model, on plain slices.
//!
//! Everything is `f32`, row-major, and knows nothing of a tensor library. The instruction set is found at run time ([`Isa`]); threads are
//! those of the current rayon pool. **Results do not depend on the number of threads**: work is split over the elements of the result, never
//! over a sum.

mod gemm;
mod scratch;
mod simd;
#[cfg(test)]
mod testing;

pub use gemm::{Matrix, PackedMatrix, Store, gemm, gemm_packed};
pub use simd::Isa;
