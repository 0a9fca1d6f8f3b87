//! The parts of the check, each of which runs in a process of its own.

use std::{
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::tensor::{DType, Tensor, TensorData, TensorPrimitive, backend::Backend};
use clap::Subcommand;
use hrm_benches::{Device, worker};
use hrm_model::{ForwardDtype, Hrm};
use hrm_train::{
    recipe::ResolvedRecipe,
    trainer::{self, EvalRow, Observer, StartReport, TrainOptions},
};
use serde_json::json;

use crate::tests;

/// A part.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Multiply once by cuBLASLt, and tell how fast.
    #[command(hide = true)]
    Gate { m: usize, k: usize, n: usize },
    /// Run the tests of a file on a backend, or some of them.
    #[command(hide = true)]
    Tests { backend: String, file: String, only: Vec<String> },
    /// Answer requests to measure.
    #[command(hide = true)]
    Worker {
        weights: PathBuf,
        #[arg(long)]
        bf16: bool,
    },
    /// Run a workload for a profiler.
    #[command(hide = true)]
    Profile {
        weights: PathBuf,
        workload: String,
        /// Tell NVIDIA's profilers where the last step begins and ends.
        #[arg(long)]
        mark: bool,
    },
    /// Take some steps of a recipe, and tell how long each took.
    #[command(hide = true)]
    WarmUp {
        #[arg(long)]
        config: PathBuf,
        #[arg(long)]
        set: Vec<String>,
    },
    /// Train for a time.
    #[command(hide = true)]
    Train {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long)]
        run_dir: PathBuf,
        #[arg(long)]
        resume: bool,
        #[arg(long)]
        seconds: u64,
        #[arg(long)]
        set: Vec<String>,
    },
    /// Write weights in bf16.
    #[command(hide = true)]
    Weights { from: PathBuf, to: PathBuf },
    /// Put the pieces of a run together again.
    Join {
        /// The folder that they lie in
        pieces: PathBuf,
        /// Where the run goes
        run: PathBuf,
    },
}

/// Steps that tell how fast a recipe is, the first ones of which compile.
const STEPS: u64 = 12;

impl Part {
    /// Does it. Gives whether it went well.
    pub fn run(self) -> Result<bool> {
        hrm_backend::keep_compiled_kernels();
        match self {
            Self::Gate { m, k, n } => gate(m, k, n)?,
            Self::Tests { backend, file, only } => return run_tests(&backend, &file, &only),
            Self::Worker { weights, bf16 } => worker::serve(&weights, bf16).map_err(|e| anyhow!("{e}"))?,
            Self::Profile { weights, workload, mark: marks } => {
                let mark = |begins| {
                    if marks {
                        mark(begins)
                    }
                };
                let seconds = worker::profile(&weights, &workload, mark).map_err(|e| anyhow!("{e}"))?;
                println!("{seconds}");
                if !marks {
                    // CubeCL's log is written by a thread that nobody waits for.
                    thread::sleep(Duration::from_secs(1));
                }
            }
            Self::WarmUp { config, set } => {
                let recipe = ResolvedRecipe::load(Some(&config), &set)?;
                println!("{}", json!(trainer::warm_up::<Device>(recipe, STEPS, &Default::default())?));
            }
            Self::Train { config, run_dir, resume, seconds, set } => {
                let recipe = match resume {
                    true => trainer::saved_recipe(&run_dir, &set)?,
                    false => ResolvedRecipe::load(config.as_deref(), &set)?,
                };
                train(recipe, run_dir, resume, Duration::from_secs(seconds))?;
            }
            Self::Weights { from, to } => {
                Hrm::<Device>::load(&from, &Default::default())?.save(&to, ForwardDtype::Bf16)?;
            }
            Self::Join { pieces, run } => hrm_benches::gpu::pieces::unpack(&pieces, &run)?,
        }
        Ok(true)
    }
}

/// Tells a profiler where what it measures begins and ends.
fn mark(begins: bool) {
    use cudarc::driver::{CudaContext, profiler_start, profiler_stop};

    // CubeCL's context is that of another thread.
    let context = CudaContext::new(0);
    if let Err(error) = context.and_then(|_| if begins { profiler_start() } else { profiler_stop() }) {
        eprintln!("a profiler cannot be told: {error}");
    }
}

/// A product by cuBLASLt, compared with that of a kernel, and its rate.
#[cfg(not(feature = "fusion"))]
fn gate(m: usize, k: usize, n: usize) -> Result<()> {
    use hrm_backend::cube::product_by;

    const RUNS: u32 = 10;
    let device = Default::default();
    // From 0 to 1: a product that is not computed has another mean.
    let matrix = |rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns).map(|i| (i % 8192 * 7919 % 251) as f32 / 251.0).collect();
        Tensor::<Device, 2>::from_data(TensorData::new(values, [rows, columns]), &device).cast(DType::BF16)
    };
    let (lhs, rhs) = (matrix(m, k), matrix(k, n));
    let run = || {
        product_by(
            "cublas",
            lhs.clone().into_primitive().tensor(),
            rhs.clone().into_primitive().tensor(),
            DType::BF16,
        )
    };
    let first = run().map_err(|error| anyhow!("cuBLASLt: {error}"))?;
    let product: Tensor<Device, 2> = Tensor::from_primitive(TensorPrimitive::Float(first));
    let mean = |x: Tensor<Device, 2>| -> f64 { x.mean().into_data().iter::<f64>().sum() };
    // The mean of all elements is a product of sums, which no kernel of products computes.
    let sums = lhs.clone().cast(DType::F32).sum_dim(0).transpose() * rhs.clone().cast(DType::F32).sum_dim(1);
    let (got, expected) = (mean(product.cast(DType::F32)), mean(sums) * k as f64 / (m * n) as f64);
    ensure!(
        (got / expected - 1.0).abs() <= 0.01,
        "cuBLASLt's product has the mean {got}, expected {expected} within 1 %"
    );
    Device::sync(&device)?;
    let start = Instant::now();
    for _ in 0..RUNS {
        let _ = run().map_err(|error| anyhow!("cuBLASLt: {error}"))?;
    }
    Device::sync(&device)?;
    let seconds = start.elapsed().as_secs_f64() / f64::from(RUNS);
    let found = json!({
        "device": Device::name(&device),
        "tflops": 2e-12 * (m * k * n) as f64 / seconds,
        "vulkan": cfg!(feature = "vulkan") && has_vulkan_loader(),
    });
    println!("{found}");
    Ok(())
}

#[cfg(feature = "fusion")]
fn gate(_: usize, _: usize, _: usize) -> Result<()> {
    bail!("kernels are chosen without the feature `fusion` only")
}

/// Whether a Vulkan driver can be found: its loader, and a manifest that names it.
#[cfg(not(feature = "fusion"))]
fn has_vulkan_loader() -> bool {
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let mut folders = std::env::split_paths(&folders).chain(usual.map(PathBuf::from));
    let manifests = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some());
    folders.any(|folder| folder.join("libvulkan.so.1").exists())
        && (named || manifests.iter().any(|folder| Path::new(folder).is_dir()))
}

/// Runs tests one after the other and says how each ended, also after one has failed.
fn run_tests(backend: &str, file: &str, only: &[String]) -> Result<bool> {
    let Some(tests) = tests::of(backend, file) else {
        bail!("no tests {file} on {backend} in this program");
    };
    let mut good = true;
    for (name, test) in tests.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|one| one == name))
    {
        println!("test {name}");
        let start = Instant::now();
        let passed = panic::catch_unwind(test).is_ok();
        good &= passed;
        println!("{} {name}", if passed { "passed" } else { "failed" });
        eprintln!("{name} took {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(good)
}

/// Writes down what a training says.
#[derive(Default)]
struct Listener {
    first_step: u64,
}

impl Observer for Listener {
    fn on_start(&mut self, start: &StartReport) {
        self.first_step = start.first_step;
        eprintln!(
            "{} parameters, {} steps, {} training puzzles",
            start.parameters, start.total_steps, start.train_examples
        );
    }

    fn on_eval(&mut self, eval: &EvalRow) {
        eprintln!("step {}: {:.2} % of held-out puzzles", eval.step, 100.0 * eval.eval.exact_accuracy);
    }

    fn on_message(&mut self, message: &str) {
        eprintln!("{message}");
    }
}

/// Trains until the recipe or the time is at its end.
fn train(recipe: ResolvedRecipe, run_dir: PathBuf, resume: bool, limit: Duration) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let clock = Arc::clone(&stop);
    thread::spawn(move || {
        thread::sleep(limit);
        clock.store(true, Ordering::SeqCst);
    });
    let mut listener = Listener::default();
    let options = TrainOptions { recipe, run_dir, resume, stop };
    let summary =
        trainer::train::<Device>(options, &Default::default(), &mut listener).context("training")?;
    let ending = format!("{:?}", summary.ending);
    println!("{}", json!({ "first_step": listener.first_step, "step": summary.step, "ending": ending }));
    Ok(())
}
