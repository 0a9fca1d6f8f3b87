//! Everything that a machine with a GPU can tell about this project, by itself and in a given time: `gpu-check --out FOLDER`.
//! docs/backends.md says how to get it there, `hrm_benches::gpu` what it does.

mod parts;
mod tests;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, Parser};
use hrm_benches::gpu::{
    check,
    output::Output,
    plan::{PLANS, Plan},
    processes::{Processes, Training},
};
use parts::Part;

/// The command line.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    check: Check,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Check this machine: what is there, correctness, speed beside PyTorch, a training; and write down what comes of it.
#[derive(Debug, Args)]
struct Check {
    /// Where the results go: at most 8 files of at most 15 MiB
    #[arg(long, value_name = "FOLDER", default_value = "gpu-check-out")]
    out: PathBuf,
    /// How long it may take in all
    #[arg(long, default_value_t = 575)]
    seconds: u64,
    /// What is done in which time: default, or dry (a little of everything, for a machine without a GPU)
    #[arg(long, default_value = "default", value_parser = PLANS.map(|plan| plan.name))]
    plan: String,
    /// The recipe to train; by default a wide form of configs/sudoku-9x9.toml. Without train.max_steps, as many steps as there is
    /// time for
    #[arg(long, value_name = "RECIPE")]
    train: Option<PathBuf>,
    /// Change a value of that recipe (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on with the run whose pieces (state.0, ...) lie in this folder
    #[arg(long, value_name = "FOLDER")]
    resume: Option<PathBuf>,
    /// Where configs, datasets and parity lie; by default beside the program, else the source tree
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Where everything runs, and compiled kernels stay
    #[arg(long, value_name = "FOLDER", default_value = "gpu-check-work")]
    work: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.part {
        Some(part) => part.run(),
        None => whole(cli.check),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All stages. Gives whether nothing failed.
fn whole(args: Check) -> Result<bool> {
    let plan = Plan::named(&args.plan).context("a plan that the command line does not know")?;
    let beside = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let packed = beside.filter(|folder| folder.join("configs").is_dir());
    let root = args.root.or(packed).unwrap_or_else(hrm_benches::root);
    let mut sets = args.set;
    let recipe = args.train.unwrap_or_else(|| {
        sets.splice(0..0, plan.train.1.iter().map(|set| (*set).to_owned()));
        plan.train.0.into()
    });
    let training = Training { recipe, sets, resume: args.resume };
    let mut output = Output::open(&args.out)?;
    let mut machine = Processes::new(plan, training, &root, &args.work, output.log().clone())?;
    let failures = check(&plan, Duration::from_secs(args.seconds), &mut machine, &mut output)?;
    let record = args.out.join("record.md");
    println!(
        "{}",
        std::fs::read_to_string(&record).with_context(|| format!("cannot read {}", record.display()))?
    );
    for failure in &failures {
        eprintln!("gpu-check: failed: {failure}");
    }
    Ok(failures.is_empty())
}
