//! `--backend` and `--precision`.

use clap::builder::TypedValueParser;
use hrm_engine::MatmulPrecision;
pub use hrm_engine::Name;

use crate::choice::{Choice, one_of};

/// Takes the name of a backend.
pub fn parser() -> impl TypedValueParser<Value = Name> {
    one_of(&Name::ALL)
}

/// Values of `--precision`: the operands of matrix products on the processor.
pub const PRECISIONS: [Choice<MatmulPrecision>; 2] = [
    ("f32", MatmulPrecision::F32, "As they are"),
    (
        "bf16",
        MatmulPrecision::Bf16,
        "Rounded to bfloat16: several times faster on processors with AMX or AVX512-BF16",
    ),
];
