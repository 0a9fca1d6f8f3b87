//! `--backend` and `--precision`.

use clap::builder::TypedValueParser;
pub use hrm_engine::Name;
use hrm_engine::{EngineError, MatmulPrecision};

use crate::choice::{Choice, one_of};

/// Takes the name of a backend.
pub fn parser() -> impl TypedValueParser<Value = Name> {
    one_of(&Name::ALL)
}

/// Where to compute.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BackendArgs {
    /// Where to compute [default: the fastest that is compiled in]
    #[arg(long, value_parser = parser(), value_name = "B")]
    backend: Option<Name>,
}

impl BackendArgs {
    /// The backend asked for, or the best one.
    pub fn choose(&self) -> Result<Name, EngineError> {
        Name::or_best(self.backend)
    }
}

/// Where to compute, and how exactly.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ComputeArgs {
    #[command(flatten)]
    backend: BackendArgs,
    /// Operands of matrix products on the processor
    #[arg(long, value_parser = one_of(&PRECISIONS), default_value = "f32", value_name = "P")]
    precision: MatmulPrecision,
}

impl ComputeArgs {
    /// As [`BackendArgs::choose`]; the precision is set for the whole program.
    pub fn choose(&self) -> Result<Name, EngineError> {
        hrm_engine::set_matmul_precision(self.precision);
        self.backend.choose()
    }
}

/// Values of `--precision`: the operands of matrix products on the processor.
const PRECISIONS: [Choice<MatmulPrecision>; 2] = [
    ("f32", MatmulPrecision::F32, "As they are"),
    (
        "bf16",
        MatmulPrecision::Bf16,
        "Rounded to bfloat16: several times faster on processors with AMX or AVX512-BF16",
    ),
];
