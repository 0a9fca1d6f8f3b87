//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    backend::Backend,
    bench, book, ci, dist, gpu_check, parity_subset,
    process::{Cmd, root},
    web,
};

/// Build tasks of the workspace.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
pub struct Xtask {
    #[command(subcommand)]
    pub command: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Everything that must pass before a change lands, cheapest first.
    Ci {
        /// Also run the tests of the model and the training on ndarray and on Vulkan (through Mesa's software
        /// driver, which is installed with apt-get where that works).
        #[arg(long)]
        all_backends: bool,
        /// Also what takes long: --all-backends, each fuzz target for a minute, every fault of a disk in turn, and cargo-deny
        /// where it is installed.
        #[arg(long)]
        all: bool,
    },
    /// Build `hrm` for one backend and train with it.
    Train(TrainArgs),
    /// Measure: criterion benches of operators, model and data, then the same model in PyTorch where a Python with
    /// torch is found, turn by turn in one run; prints ratios and writes a dated record to docs/benchmarks.
    Bench(bench::BenchArgs),
    /// Make what is given away, in target/dist: the program (release profile) in a tarball with completions and manual pages, and in
    /// a Python wheel; checksums. Both are tried out. A web demo that `web` built is packed too.
    Dist(dist::DistArgs),
    /// Make a book of the documents, in target/book (needs mdBook: cargo install mdbook).
    Book,
    /// Build the web demo into target/web: static files, to be served from any folder. `dist` packs them.
    Web(web::WebArgs),
    /// Everything that needs an NVIDIA GPU, in one go and a given time: what is there, the operator, function and parity tests, speed and
    /// memory beside PyTorch's, where the time of a step goes, a training; and a record of it. Or pack all that for a machine without Rust.
    GpuCheck(gpu_check::GpuCheckArgs),
    /// Write configs/recipe.schema.json, by which editors complete and check recipes, from the documentation of the keys.
    Schema,
    /// Make the committed subset of the parity fixtures from the full folder.
    ParitySubset {
        /// The full folder, `../shared/parity`.
        source: PathBuf,
        /// Where the subset goes, `crates/hrm-testing/parity`.
        target: PathBuf,
    },
}

/// Arguments of `train`. Everything that is not known here goes to `hrm train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Which backend to compile in and train on.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Build with the release profile. The dev profile is tuned for speed too; this gains a few percent at a
    /// much longer build.
    #[arg(long)]
    release: bool,
    /// For `hrm train`, for example `--config configs/sudoku-4x4.toml`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl TrainArgs {
    /// Takes the options that are ours out of what follows an unknown option, where clap leaves them:
    /// `train --config F --backend cuda` means the same as `train --backend cuda --config F`.
    fn in_any_order(mut self) -> Result<Self> {
        let mut rest = Vec::new();
        let mut args = self.args.into_iter();
        while let Some(arg) = args.next() {
            let backend = match arg.strip_prefix("--backend") {
                Some("") => Some(args.next().context("--backend needs a value")?),
                Some(value) => value.strip_prefix('=').map(str::to_owned),
                None => None,
            };
            match (backend, arg.as_str()) {
                (Some(name), _) => {
                    self.backend = name.parse().map_err(anyhow::Error::msg)?;
                }
                (None, "--release") => self.release = true,
                (None, "--") if rest.is_empty() => {}
                (None, _) => rest.push(arg),
            }
        }
        self.args = rest;
        Ok(self)
    }

    fn command(&self) -> Cmd {
        let mut cmd = Cmd::cargo("run --package hrm-cli").args(self.backend.cargo_args());
        if self.release {
            cmd = cmd.args(["--release"]);
        }
        cmd.args(["--", "train", "--backend", self.backend.name()]).args(self.args.clone())
    }
}

impl Task {
    /// Does it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Ci { all_backends, all } => ci::run(all_backends || all, all),
            Self::Train(args) => args.in_any_order()?.command().run_interactive(),
            Self::Bench(args) => bench::run(&args),
            Self::Dist(args) => dist::run(&args),
            Self::Book => book::run(),
            Self::Web(args) => web::run(&args),
            Self::GpuCheck(args) => gpu_check::run(&args),
            Self::Schema => schema(),
            Self::ParitySubset { source, target } => parity_subset::run(&source, &target),
        }
    }
}

fn schema() -> Result<()> {
    let text = Cmd::cargo("run --quiet -p hrm-train --features schema --example schema").output()?;
    let path = root().join("configs/recipe.schema.json");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(line: &str) -> String {
        let args = ["xtask", "train"].into_iter().chain(line.split_whitespace());
        match Xtask::try_parse_from(args).expect("parses").command {
            Task::Train(args) => args.in_any_order().expect("is valid").command().to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Xtask::command().debug_assert();
    }

    #[test]
    fn train_passes_on_what_it_does_not_know() {
        let cpu = "cargo run --package hrm-cli -- train --backend cpu --config F --set a=1";
        assert_eq!(train("--backend cpu --config F --set a=1"), cpu);
        assert_eq!(train("--config F --set a=1"), cpu);
        assert_eq!(train("-- --config F --set a=1"), cpu);
        let cuda = "cargo run --package hrm-cli --no-default-features --features cuda --features download --release -- train --backend cuda --config F";
        assert_eq!(train("--backend cuda --release -- --config F"), cuda);
        assert_eq!(train("--config F --backend=cuda --release"), cuda);
    }
}
