//! Runs workloads on request, for a comparison interleaved with `benches/pytorch/worker.py`, whose protocol it
//! speaks: a name on standard input, a line of JSON with seconds, peak memory and a checksum on standard output. Of a training
//! step also the seconds until it was issued to the device: on a GPU a small part of the whole, if nothing in it waits.
//!
//! It writes the weights that both sides use: those of the 27M model, and beside them, with `.lattice` behind the name, those of a
//! lattice like that of `configs/sudoku-9x9.toml`, of width 32.

use std::{
    collections::HashMap,
    error::Error,
    fs,
    io::{self, BufRead, Write},
    path::Path,
    time::Instant,
};

use burn::{
    backend::Autodiff,
    tensor::{Tensor, TensorData, backend::Backend},
};
use hrm_backend::{HrmBackend, MatmulPrecision, ops, set_matmul_precision};
use hrm_data::{
    puzzles::sudoku::{Geometry, Sudoku},
    registry::Shape,
};
use hrm_model::{
    Architecture, ForwardDtype, Hrm, Mixer, ModelConfig, PositionEncoding, Tokens,
    act::{Carry, PuzzleBatch},
    layers::RotaryTables,
    loss::{LossKind, LossSettings},
};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Optimizer, SignSgd},
    step::{Step, StepSettings},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{Device, batch};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SEGMENTS: usize = 16;

/// Answers requests until there are no more, with models whose weights are written to a file first.
///
/// # Errors
/// If the weights cannot be written, or a workload is not known.
pub fn serve(weights: &Path, bf16: bool) -> Result<()> {
    hrm_backend::keep_compiled_kernels();
    let dtype = if bf16 { ForwardDtype::Bf16 } else { ForwardDtype::F32 };
    let mut worker = Worker::<Device>::new(weights, dtype)?;
    let device = Device::name(&Default::default());
    println!(r#"{{"ready": "hrm {device}{}", "threads": {}}}"#, products(), rayon_threads());
    for line in io::stdin().lock().lines() {
        worker.issue_seconds = None;
        let (seconds, checksum) = worker.run(line?.trim())?;
        let issue = worker.issue_seconds.map_or("null".to_owned(), |seconds| format!("{seconds:e}"));
        println!(
            r#"{{"seconds": {seconds:e}, "issue_seconds": {issue}, "checksum": {checksum:e}, "peak_bytes": {}}}"#,
            peak_bytes().unwrap_or(0)
        );
        io::stdout().flush()?;
    }
    Ok(())
}

/// Runs a workload three times and says where the last of them begins and ends, for a profiler.
///
/// # Errors
/// If the workload is not known.
pub fn profile(weights: &Path, workload: &str, mark: impl Fn(bool)) -> Result<f64> {
    hrm_backend::keep_compiled_kernels();
    let mut worker = Worker::<Device>::new(weights, ForwardDtype::Bf16)?;
    for _ in 0..2 {
        worker.run(workload)?;
    }
    // What CubeCL has counted so far is told and forgotten when it is waited for.
    Device::sync(&Default::default())?;
    mark(true);
    let (seconds, _) = worker.run(workload)?;
    Device::sync(&Default::default())?;
    mark(false);
    Ok(seconds)
}

/// Whose matrix products are measured, where there is a choice.
fn products() -> &'static str {
    #[cfg(all(feature = "cuda", not(feature = "fusion")))]
    return if hrm_backend::cube::uses_cublas() { ", products by cuBLASLt" } else { ", products by cubek" };
    #[cfg(not(all(feature = "cuda", not(feature = "fusion"))))]
    ""
}

fn rayon_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The largest resident size so far, where the system tells it.
fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

struct Worker<B: HrmBackend> {
    model: Hrm<Autodiff<B>>,
    inner: Hrm<B>,
    training: Option<Training<B>>,
    lattice: Hrm<Autodiff<B>>,
    /// Precision of the lattice's products, where the backend has a choice.
    lattice_precision: MatmulPrecision,
    lattice_training: Option<Training<B>>,
    matrices: HashMap<[usize; 2], Tensor<B, 2>>,
    issue_seconds: Option<f64>,
}

struct Training<B: HrmBackend> {
    rows: usize,
    model: Hrm<Autodiff<B>>,
    carry: Carry<B>,
    adam: Optimizer<B>,
}

impl<B: HrmBackend> Worker<B> {
    fn new(weights: &Path, dtype: ForwardDtype) -> Result<Self> {
        let config = ModelConfig::hrm_sudoku_extreme().with_forward_dtype(dtype);
        let model: Hrm<Autodiff<B>> = config.init(&mut ChaCha8Rng::seed_from_u64(0), &Default::default())?;
        let inner = model.inner();
        inner.save(weights, ForwardDtype::F32)?;
        // On the CPU, bf16 means the operands of products.
        let (states, lattice_precision) = match dtype {
            ForwardDtype::Bf16 if B::HAS_MATMUL_PRECISION => (ForwardDtype::F32, MatmulPrecision::Bf16),
            dtype => (dtype, MatmulPrecision::F32),
        };
        let lattice: Hrm<Autodiff<B>> =
            lattice_config(states).init(&mut ChaCha8Rng::seed_from_u64(0), &Default::default())?;
        let mut beside = weights.as_os_str().to_owned();
        beside.push(".lattice");
        lattice.inner().save(Path::new(&beside), ForwardDtype::F32)?;
        Ok(Self {
            model,
            inner,
            training: None,
            lattice,
            lattice_precision,
            lattice_training: None,
            matrices: HashMap::new(),
            issue_seconds: None,
        })
    }

    /// Seconds and checksum of a workload: `act_step/32`.
    fn run(&mut self, name: &str) -> Result<(f64, f64)> {
        let mut parts = name.split('/');
        let kind = parts.next().unwrap_or_default();
        let sizes: Vec<usize> = parts.map(str::parse).collect::<std::result::Result<_, _>>()?;
        match (kind, sizes.as_slice()) {
            ("act_step", &[rows]) => Ok(timed(|| segments(&self.inner, batch(rows, &Default::default()), 1))),
            ("solve", &[rows]) => {
                Ok(timed(|| segments(&self.inner, batch(rows, &Default::default()), SEGMENTS)))
            }
            ("training_step", &[rows]) => {
                let (seconds, checksum) = timed(|| self.training_step(rows));
                Ok((seconds, checksum?))
            }
            ("lattice_solve", &[rows]) => {
                let model = self.lattice.inner();
                let puzzles = puzzles(rows, &Default::default());
                Ok(timed(|| with_precision(self.lattice_precision, || segments(&model, puzzles, SEGMENTS))))
            }
            ("lattice_training_step", &[rows]) => {
                let (seconds, checksum) = timed(|| self.lattice_training_step(rows));
                Ok((seconds, checksum?))
            }
            ("product", &[m, k, n]) => {
                let (x, weight) = (self.matrix(m, k), self.matrix(n, k));
                let (seconds, y) = timed(|| ops::linear(x, weight));
                Ok((seconds, mean_abs(y)))
            }
            ("block", &[rows]) => {
                let config = self.inner.config();
                let (seq, hidden) = (config.total_len(), config.hidden_size);
                let rotary =
                    RotaryTables::new(seq, config.head_dim(), config.rope_theta, &Default::default());
                let block = self.inner.l_level.layers[0].clone();
                let x = self.matrix(rows * seq, hidden).reshape([rows, seq, hidden]);
                let (seconds, y) = timed(|| block.forward(x, None, Some(&rotary)));
                Ok((seconds, mean_abs(y.reshape([rows * seq, hidden]))))
            }
            _ => Err(format!("unknown workload {name}").into()),
        }
    }

    fn training_step(&mut self, rows: usize) -> Result<f64> {
        let settings = StepSettings::new(LossKind::Stablemax, rows, 1e-4);
        let start = Instant::now();
        let (training, metrics) =
            step(self.training.take(), &self.model, batch(rows, &Default::default()), settings)?;
        self.issue_seconds = Some(start.elapsed().as_secs_f64());
        self.training = Some(training);
        Ok(lm_loss(metrics) / rows as f64)
    }

    fn lattice_training_step(&mut self, rows: usize) -> Result<f64> {
        let loss = LossSettings { blanks_only: true, ..LossKind::Softmax.into() };
        let settings = StepSettings { loss, ..StepSettings::new(LossKind::Softmax, rows, 1e-4) };
        let (before, puzzles) = (self.lattice_training.take(), puzzles(rows, &Default::default()));
        let (training, metrics) =
            with_precision(self.lattice_precision, || step(before, &self.lattice, puzzles, settings))?;
        self.lattice_training = Some(training);
        Ok(lm_loss(metrics) / rows as f64)
    }

    /// From -1 to 1 in even steps, kept: a model's weights stay too.
    fn matrix(&mut self, rows: usize, cols: usize) -> Tensor<B, 2> {
        let matrix = self.matrices.entry([rows, cols]).or_insert_with(|| {
            let last = (rows * cols - 1) as f32;
            let values: Vec<f32> = (0..rows * cols).map(|i| 2.0 * i as f32 / last - 1.0).collect();
            Tensor::from_data(TensorData::new(values, [rows, cols]), &Default::default())
        });
        matrix.clone()
    }
}

/// A model like that of `configs/sudoku-9x9.toml`, of width 32, untrained.
fn lattice_config(dtype: ForwardDtype) -> ModelConfig {
    let architecture = Architecture {
        tokens: Tokens::Lattice,
        mixer: Mixer::Groups,
        expansion: 3.0,
        pos_encodings: PositionEncoding::None,
        h_cycles: 1,
        l_cycles: 3,
        ..Architecture::trm()
    };
    let structure = hrm_infer::structure(Shape::Sudoku(Sudoku { geometry: Geometry::S9 }));
    architecture
        .on(11, 81, 1, structure)
        .with_hidden_size(32)
        .with_puzzle_emb_ndim(0)
        .with_forward_dtype(dtype)
}

fn with_precision<R>(precision: MatmulPrecision, work: impl FnOnce() -> R) -> R {
    set_matmul_precision(precision);
    let result = work();
    set_matmul_precision(MatmulPrecision::F32);
    result
}

/// The checksum is of the first segment: with random weights the recurrence is chaotic, and rounding grows.
fn segments<B: HrmBackend>(model: &Hrm<B>, batch: PuzzleBatch<B>, count: usize) -> f64 {
    let mut carry = Carry::fresh(model, batch.inputs, batch.puzzle_identifiers);
    let mut checksums = Vec::new();
    for _ in 0..count {
        let (next, output) = model.segment(carry);
        carry = next;
        // Of a lattice, those of its values: tokens that are none come first.
        let logits = match (model.config().values(), output.logits.dims()[2]) {
            (1, _) => output.logits,
            (values, all) => output.logits.narrow(2, all - values, values),
        };
        checksums.push(mean_abs(logits.flatten(0, 1)));
    }
    checksums[0]
}

/// Sudoku-shaped tokens and labels, every third cell given.
fn puzzles<B: HrmBackend>(rows: usize, device: &B::Device) -> PuzzleBatch<B> {
    let tokens = |of: fn(i32) -> i32| {
        let values: Vec<i32> = (0..rows as i32 * 81).map(of).collect();
        Tensor::from_data(TensorData::new(values, [rows, 81]).convert::<B::IntElem>(), device)
    };
    PuzzleBatch {
        inputs: tokens(|i| if i % 3 == 0 { i * 7919 % 9 + 2 } else { 1 }),
        labels: tokens(|i| i * 7919 % 9 + 2),
        puzzle_identifiers: Tensor::zeros([rows], device),
    }
}

/// One training step by AdamATan2, from where the last one of the same size stopped.
fn step<B: HrmBackend>(
    before: Option<Training<B>>,
    fresh: &Hrm<Autodiff<B>>,
    batch: PuzzleBatch<B>,
    settings: StepSettings,
) -> Result<(Training<B>, Tensor<B, 1>)> {
    let rows = settings.global_batch;
    let Training { model, carry, mut adam, .. } =
        before.filter(|training| training.rows == rows).unwrap_or_else(|| Training {
            rows,
            model: fresh.clone(),
            carry: fresh.inner().empty_carry(rows),
            adam: Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 1.0 }),
        });
    let team = Team::alone(Default::default());
    let done = Step::new(settings, &mut adam, SignSgd { weight_decay: 1.0 }, &team)
        .run(model, carry, batch, None)?;
    Ok((Training { rows, model: done.model, carry: done.carry, adam }, done.metrics))
}

fn lm_loss<B: HrmBackend>(metrics: Tensor<B, 1>) -> f64 {
    let metrics: Vec<f64> = metrics.into_data().iter::<f64>().collect();
    hrm_model::loss::Metrics::from_values(&metrics).lm_loss
}

fn timed<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

/// Reads the tensor back, so that the device has finished.
fn mean_abs<B: HrmBackend>(tensor: Tensor<B, 2>) -> f64 {
    tensor.abs().mean().into_data().iter::<f64>().sum()
}
