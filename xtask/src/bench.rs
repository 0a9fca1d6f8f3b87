//! `cargo xtask bench`: criterion, and a comparison with PyTorch in one run.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::process::Cmd;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to run.
    #[arg(long, value_enum, default_value = "all")]
    only: Part,
    /// The Python to compare with; by default $HRM_PYTHON, then python3, if it has torch.
    #[arg(long)]
    python: Option<String>,
    /// Measurements of each workload on each side; medians are compared.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Workloads to compare, for example act_step/1,training_step/32.
    #[arg(long)]
    workloads: Option<String>,
    /// The GPU (backend cuda) instead of the CPU.
    #[arg(long)]
    cuda: bool,
    /// Compute in bfloat16 on both sides.
    #[arg(long)]
    bf16: bool,
    /// Leave out torch.compile, whose compilation takes minutes.
    #[arg(long)]
    no_compile: bool,
    /// For criterion, for example `-- attention`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    All,
    Criterion,
    Pytorch,
}

pub fn run(args: &BenchArgs) -> Result<()> {
    if args.only != Part::Pytorch {
        // The dev profile is the one that programs run with, and what it needs is compiled already.
        Cmd::cargo("bench --profile dev --package hrm-benches").args(args.args.clone()).run()?;
    }
    if args.only == Part::Criterion {
        return Ok(());
    }
    compare(args).run()
}

/// The comparison with PyTorch.
fn compare(args: &BenchArgs) -> Cmd {
    let mut cmd = Cmd::cargo("run --package hrm-benches --bin pytorch");
    if args.cuda {
        cmd = cmd.args(["--features", "cuda"]);
    }
    cmd = cmd.args(["--", "compare", "--rounds", &args.rounds.to_string()]);
    for (option, value) in [("--python", &args.python), ("--workloads", &args.workloads)] {
        cmd = cmd.args(value.iter().flat_map(|value| [option, value]));
    }
    let flags = [
        ("--bf16", args.bf16),
        ("--no-compile", args.no_compile),
        // Nobody asked for Python in particular.
        ("--or-nothing", args.only == Part::All && args.python.is_none()),
    ];
    cmd.args(flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag))
}
