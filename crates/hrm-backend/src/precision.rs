//! How exactly matrix products are computed.

use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// Precision of the operands of matrix products on fp32 tensors. Sums are fp32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// As they are.
    #[default]
    F32 = 0,
    /// Rounded to bfloat16, which processors with AMX or AVX512-BF16 multiply several times faster. Everything that
    /// is not a matrix product stays fp32. The CPU backend heeds it; others have `forward_dtype` for that.
    Bf16 = 1,
}

static PRECISION: AtomicU8 = AtomicU8::new(MatmulPrecision::F32 as u8);

/// Sets the precision for the whole process.
pub fn set_matmul_precision(precision: MatmulPrecision) {
    PRECISION.store(precision as u8, Ordering::Relaxed);
}

/// The precision in force.
pub fn matmul_precision() -> MatmulPrecision {
    if PRECISION.load(Ordering::Relaxed) == MatmulPrecision::Bf16 as u8 {
        MatmulPrecision::Bf16
    } else {
        MatmulPrecision::F32
    }
}
