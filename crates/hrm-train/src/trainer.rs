//! The training loop: data, steps, metrics, evaluation, checkpoints, resumption.

mod evaluation;
mod pending;
mod supervision;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use hrm_backend::HrmAutodiffBackend;
use hrm_data::dataset::{Batch, SamplerState};
use hrm_model::{
    Hrm, InitState, ModelConfig, ModelError,
    act::{Carry, PuzzleBatch},
    weights,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use thiserror::Error;

use crate::{
    chains,
    checkpoint::{self, CheckpointError, Loaded, Retention, Snapshot, TrainState},
    config::{ConfigError, MatmulPrecision, Recipe, ResolvedRecipe},
    curriculum,
    data::{self, DataError, Sampler, TaskData},
    distributed::{CollectiveError, ShareOfStep, Team},
    evaluate::{EvalReport, evaluate},
    noise::{Key, Noise},
    optim::{self, Ema, Optimizer, Schedule, SignSgd, total_steps, trained_weights},
    run::{
        CONFIG, Resumed, RunDir, RunError, RunLock,
        environment::{Memory, total_memory},
    },
    safety::{self, Guard, Vitals},
    step::{self, StepSettings},
};

use evaluation::Background;
use pending::{Pending, PendingStep};
use supervision::Evidence;
pub use supervision::Progress;

/// What to train and where.
#[derive(Debug)]
pub struct TrainOptions {
    /// The recipe. When resuming: what the command line says now; see [`RESUMABLE_CHANGES`].
    pub recipe: ResolvedRecipe,
    /// The run directory.
    pub run_dir: PathBuf,
    /// Continue from the newest whole checkpoint of the run directory.
    pub resume: bool,
    /// Set by anyone to stop after the current step, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

/// What may differ when a run is resumed: values that do not change what the remaining steps compute.
pub const RESUMABLE_CHANGES: [&str; 15] = [
    "train.stop_after",
    "train.max_bad_steps",
    "train.early_stop_patience",
    "train.log_interval",
    "train.checkpoint_interval",
    "train.keep_checkpoints",
    "train.keep_every",
    "train.checkpoint_moments",
    "train.checkpoint_carry",
    "eval.interval",
    "eval.background",
    "eval.batch_size",
    "eval.limit",
    "eval.train_limit",
    "eval.steps",
];

/// One row of `metrics.jsonl` about training.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Step, counted from 1.
    pub step: u64,
    /// Passes over the training puzzles so far.
    pub epoch: f64,
    /// What was minimised: the total loss divided by the global batch.
    pub loss: f64,
    /// Cross-entropy per sequence, against the labels themselves and with all segments weighing the same.
    pub lm_loss: f64,
    /// Binary cross-entropy of `q_halt` per sequence.
    pub q_halt_loss: f64,
    /// Binary cross-entropy of `q_continue` per sequence.
    pub q_continue_loss: f64,
    /// Sequences that halted in this step; the means below are over them, and absent if there is none.
    pub count: u64,
    /// Mean share of right cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Share of sequences right in every cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_accuracy: Option<f64>,
    /// For which share the sign of `q_halt` tells exactness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_halt_accuracy: Option<f64>,
    /// Mean chance of being right that `q_halt` promises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_halt: Option<f64>,
    /// Mean number of segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_steps: Option<f64>,
    /// Euclidean norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Whether loss or gradient was not finite, so that the step changed nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub skipped: bool,
    /// Learning rate.
    pub lr: f64,
    /// Learning rate of the puzzle embedding.
    pub puzzle_emb_lr: f64,
    /// Sequences per second since the last report.
    pub examples_per_second: f64,
    /// Memory of this process when the row was written, where the system tells: on the processor that of the training; GPUs
    /// have memory of their own.
    #[serde(flatten)]
    pub memory: Option<Memory>,
    /// Seconds since this process started the run.
    pub seconds: f64,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// One row of `metrics.jsonl` about evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct EvalRow {
    /// After this step.
    pub step: u64,
    /// The results on the held-out puzzles.
    pub eval: EvalReport,
    /// Exact accuracy on them after the numbers of segments that the recipe asks for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exact_after: BTreeMap<usize, f64>,
    /// The results on training puzzles, if the recipe asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_train: Option<EvalReport>,
}

/// What a run starts from.
#[derive(Debug, Clone)]
pub struct StartReport {
    /// The model.
    pub model: ModelConfig,
    /// Trained parameters.
    pub parameters: usize,
    /// Steps in all.
    pub total_steps: u64,
    /// Steps done already.
    pub first_step: u64,
    /// Training puzzles.
    pub train_examples: usize,
    /// Held-out puzzles.
    pub test_examples: usize,
    /// Sequences per step.
    pub batch_size: usize,
}

/// Someone who watches a run.
pub trait Observer {
    /// Before the first step.
    fn on_start(&mut self, _start: &StartReport) {}
    /// After each reported step.
    fn on_step(&mut self, _step: &StepReport) {}
    /// After each evaluation.
    fn on_eval(&mut self, _eval: &EvalRow) {}
    /// Anything else worth a line.
    fn on_message(&mut self, _message: &str) {}
}

/// Nobody watches.
impl Observer for () {}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// Evaluations got no better for `train.early_stop_patience` times.
    EarlyStopped,
    /// At `train.stop_after`.
    StopAfter,
    /// Someone asked for it.
    Interrupted,
}

/// What a run gives.
#[derive(Debug, Clone)]
pub struct TrainSummary {
    /// Steps done.
    pub step: u64,
    /// Why it ended.
    pub ending: Ending,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The last evaluation of this process, if there was one.
    pub eval: Option<EvalReport>,
}

/// What can go wrong in a run.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The recipe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The architecture.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The other workers.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// The run cannot go on with another value of this key.
    #[error(
        "cannot resume with {key} = {now} (the run has {before}): its remaining steps would not be those of the \
         run; start a new run for that. These may change: {}", RESUMABLE_CHANGES.join(", ")
    )]
    Changed {
        /// Dotted name.
        key: String,
        /// The run's value.
        before: String,
        /// The value asked for.
        now: String,
    },
    /// Several workers evaluate together, and train meanwhile they cannot.
    #[error(
        "eval.background = true: {workers} workers share each evaluation, and none can train meanwhile; use \
         --set eval.background=false"
    )]
    Background {
        /// How many.
        workers: usize,
    },
    /// The system has no thread for an evaluation in the background.
    #[error("eval.background = true: cannot start a thread: {0}")]
    Thread(io::Error),
    /// Too many bad steps in a row.
    #[error("{advice}")]
    Diverged {
        /// What happened and what to do.
        advice: String,
    },
    /// The weights to start from cannot be read, or are those of another architecture.
    #[error("train.init_from = {path:?}: {source}")]
    InitFrom {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        source: CheckpointError,
    },
    /// The model or the batch is larger than the memory.
    #[error(
        "this takes at least {needed} GiB, and the machine has {there} GiB: {weights} weights with their gradients and \
         moments, and the states of {slots} sequences; make the model or train.global_batch_size smaller"
    )]
    Memory {
        /// GiB that it takes at least.
        needed: u128,
        /// GiB that there are.
        there: u64,
        /// Weights of the model.
        weights: u128,
        /// Sequences of a step.
        slots: usize,
    },
    /// The backend does not heed the precision of matrix products.
    #[error(
        "train.matmul_precision = \"bf16\": {backend} does not heed it, only the CPU backend does; use \
         model.forward_dtype = \"bf16\""
    )]
    MatmulPrecision {
        /// The backend.
        backend: String,
    },
    /// The backend lacks the forward type.
    #[error("model.forward_dtype = {dtype:?}: {backend} cannot compute in it; use f32")]
    Dtype {
        /// The type.
        dtype: hrm_model::ForwardDtype,
        /// The backend.
        backend: String,
    },
}

/// Trains a recipe to its end, or to where it is stopped.
///
/// # Errors
/// If the data, the run directory or a checkpoint cannot be read or written; what was saved stays.
pub fn train<A: HrmAutodiffBackend>(
    options: TrainOptions,
    device: &A::Device,
    observer: &mut dyn Observer,
) -> Result<TrainSummary, TrainError> {
    train_in_team::<A>(options, device, Team::alone(device.clone()), observer)
}

/// [`train`] as one of several workers, each of which calls this with the same options; see [`crate::distributed`].
///
/// # Errors
/// As [`train`]; and if workers do not agree about what they train, or one is lost.
pub fn train_in_team<A: HrmAutodiffBackend>(
    options: TrainOptions,
    device: &A::Device,
    team: Team<A::InnerBackend>,
    observer: &mut dyn Observer,
) -> Result<TrainSummary, TrainError> {
    let stop = Arc::clone(&options.stop);
    let started = start::<A>(options, device, &team, observer);
    // Nobody goes on before all have started.
    let failed = team.gather_bits(&[u64::from(started.is_err())])?;
    let (data, mut run, mut trainer) = started?;
    let workers: Vec<usize> = (0..failed.len()).filter(|&worker| failed[worker] != [0]).collect();
    if !workers.is_empty() {
        return Err(CollectiveError::NotStarted { workers }.into());
    }
    let result = trainer.run(&mut run, &data, &stop, observer);
    let how = match &result {
        Ok(summary) => format!("{:?}", summary.ending),
        Err(error) => format!("stopped by an error: {error}"),
    };
    if result.is_err() {
        // The run directory may be what failed: the error itself is what counts.
        let _ = run.log(&how);
    }
    if let Err(error) = run.end(trainer.step, &how)
        && result.is_ok()
    {
        observer.on_message(&format!("warning: {error}"));
    }
    result
}

/// What a worker needs before its first step.
fn start<A: HrmAutodiffBackend>(
    options: TrainOptions,
    device: &A::Device,
    team: &Team<A::InnerBackend>,
    observer: &mut dyn Observer,
) -> Result<(TaskData, RunDir, Trainer<A>), TrainError> {
    let TrainOptions { recipe, run_dir, resume, .. } = options;
    let recipe = recipe.on_backend::<A::InnerBackend>(device);
    let data = data::load(&recipe.recipe.data)?;
    hrm_backend::set_matmul_precision(recipe.recipe.train.matmul_precision.into());
    let (mut run, trainer) = if resume {
        resume_run::<A>(&run_dir, recipe, &data, device, team, observer)?
    } else {
        let trainer = Trainer::<A>::new(recipe, &data, device, team)?;
        let run = match team.leads() {
            true => RunDir::create(&run_dir, &trainer.recipe, &backend_name::<A>(device))?,
            false => RunDir::of_another_worker(&run_dir),
        };
        (run, trainer)
    };
    for warning in data.warnings.iter().filter(|_| team.leads()) {
        let line = format!("warning: {warning}");
        run.log(&line)?;
        observer.on_message(&line);
    }
    Ok((data, run, trainer))
}

/// Runs some steps of a recipe and throws them away: GPU backends compile the kernels of the recipe's shapes, and may keep them
/// on disk for the runs that follow ([`hrm_backend::keep_compiled_kernels`]). Gives the seconds of each step, and of one
/// evaluated batch at the end.
///
/// # Errors
/// As [`train`], but for the run directory: nothing is written.
pub fn warm_up<A: HrmAutodiffBackend>(
    recipe: ResolvedRecipe,
    steps: u64,
    device: &A::Device,
) -> Result<Vec<f64>, TrainError> {
    let recipe = recipe.on_backend::<A::InnerBackend>(device);
    let data = data::load(&recipe.recipe.data)?;
    hrm_backend::set_matmul_precision(recipe.recipe.train.matmul_precision.into());
    let Recipe { train, eval, .. } = recipe.recipe.clone();
    let mut trainer = Trainer::<A>::new(recipe, &data, device, &Team::alone(device.clone()))?;
    let never = AtomicBool::new(false);
    let mut seconds = Vec::new();
    for _ in 0..steps {
        let start = Instant::now();
        // Reading back waits for the device.
        trainer.one_step(&never)?.metrics.into_data();
        seconds.push(start.elapsed().as_secs_f64());
    }
    let inner = trainer.model().inner();
    let batches = data.evaluation(eval.batch_size, eval.batch_size);
    let report = evaluate(&inner, batches, train.loss, inner.config().halt_max_steps, device);
    seconds.push(report.seconds);
    Ok(seconds)
}

/// The recipe that a run directory was started with.
///
/// # Errors
/// If its `config.toml` cannot be read.
pub fn saved_recipe(run_dir: &Path, sets: &[String]) -> Result<ResolvedRecipe, ConfigError> {
    let mut recipe = ResolvedRecipe::load_saved(&run_dir.join(CONFIG), sets)?;
    // Where the first part of a run stopped says nothing about where the next one should.
    let is_stop = |set: &String| set.split('=').next().is_some_and(|key| key.trim() == "train.stop_after");
    if !sets.iter().any(is_stop) {
        recipe.forget_stop();
    }
    Ok(recipe)
}

/// The values that are not those of the run, by key, if all of them may change.
fn sound_changes(
    before: &ResolvedRecipe,
    now: &ResolvedRecipe,
) -> Result<Vec<(String, String, String)>, TrainError> {
    let changes = before.differences(now);
    match changes.iter().find(|(key, ..)| !RESUMABLE_CHANGES.contains(&key.as_str())) {
        None => Ok(changes),
        Some((key, before, now)) => {
            let [key, before, now] = [key, before, now].map(Clone::clone);
            Err(TrainError::Changed { key, before, now })
        }
    }
}

fn resume_run<A: HrmAutodiffBackend>(
    run_dir: &Path,
    recipe: ResolvedRecipe,
    data: &TaskData,
    device: &A::Device,
    team: &Team<A::InnerBackend>,
    observer: &mut dyn Observer,
) -> Result<(RunDir, Trainer<A>), TrainError> {
    // Before anything is read: another process may be writing it.
    let lock = team.leads().then(|| RunLock::take(run_dir)).transpose()?;
    let config = run_dir.join(CONFIG);
    let before = ResolvedRecipe::load_saved(&config, &[])?.on_backend::<A::InnerBackend>(device);
    let changes = sound_changes(&before, &recipe)?;
    let folder = run_dir.join("checkpoints");
    let warn = |warning: &str| observer.on_message(warning);
    let sound = |state: &TrainState<SamplerState>| {
        let SamplerState { batches, iteration, .. } = state.sampler;
        if batches != state.step || iteration > batches {
            return Err(format!("batch {batches} of pass {iteration} after {} steps", state.step));
        }
        ResolvedRecipe::saved(&config, &state.recipe, &[]).map(|_| ()).map_err(|e| format!("recipe: {e}"))
    };
    let mut metrics = None;
    let mut trainer = match checkpoint::load_newest::<A, SamplerState>(&folder, device, sound, warn)? {
        Some(loaded) => {
            // The file may have been edited since.
            let before = ResolvedRecipe::saved(&config, &loaded.state.recipe, &[])?;
            sound_changes(&before.on_backend::<A::InnerBackend>(device), &recipe)?;
            metrics = loaded.state.metrics.clone();
            Trainer::<A>::from_checkpoint(recipe, data, loaded, team)?
        }
        // Killed before the first checkpoint: nothing is lost but the steps since the start.
        None => Trainer::<A>::new(recipe, data, device, team)?,
    };
    let Some(lock) = lock else {
        return Ok((RunDir::of_another_worker(run_dir), trainer));
    };
    checkpoint::remove_partial(&folder)?;
    let step = trainer.step;
    if step > 0 {
        let keys = changes.iter().map(|(key, ..)| key.as_str()).filter(|key| *key != "train.stop_after");
        trainer.recipe.changed_after(step, keys);
    }
    let from = Resumed { step, evaluates_again: trainer.progress.evaluating, metrics: metrics.as_ref() };
    let backend = backend_name::<A>(device);
    let (mut run, warnings) = RunDir::resume(run_dir, lock, &from, &trainer.recipe, &backend)?;
    for warning in warnings.into_iter().chain(checkpoint::damaged_mark(&folder)) {
        let line = format!("warning: {warning}");
        run.log(&line)?;
        observer.on_message(&line);
    }
    let message = match trainer.step {
        0 => "the run has no checkpoint yet: starting from the beginning".to_owned(),
        step => format!("resumed after step {step}"),
    };
    let changed = |(key, before, now): &(String, String, String)| {
        (key != "train.stop_after").then(|| format!("changed from here on: {key} = {now} (before: {before})"))
    };
    for message in std::iter::once(message).chain(changes.iter().filter_map(changed)) {
        run.log(&message)?;
        observer.on_message(&message);
    }
    Ok((run, trainer))
}

/// The name of the backend that trains, without Burn's wrapper for gradients.
fn backend_name<A: HrmAutodiffBackend>(device: &A::Device) -> String {
    <A::InnerBackend as Backend>::name(device)
}

/// The slots of a worker, all of which take new puzzles at the next step.
fn empty_slots<A: HrmAutodiffBackend>(
    recipe: &ResolvedRecipe,
    model: &Hrm<A>,
    team: &Team<A::InnerBackend>,
) -> Carry<A::InnerBackend> {
    let train = &recipe.recipe.train;
    model.inner().empty_carry(team.rows(train.global_batch_size).len() * train.chains)
}

/// Refuses what cannot fit, before any of it is allocated: an allocation that fails ends the process without a word.
fn check_memory<A: HrmAutodiffBackend>(
    recipe: &Recipe,
    config: &ModelConfig,
    team: &Team<A::InnerBackend>,
) -> Result<(), TrainError> {
    let Some(there) = total_memory() else { return Ok(()) };
    let (slots, weights) = (recipe.train.global_batch_size * recipe.train.chains, config.weight_count());
    let needed = match A::ASYNCHRONOUS {
        // The rest is in the memory of a device; weights are drawn on the host.
        true => 4 * weights,
        // Weights, gradients and two moments; two states of each slot.
        false => {
            let state = (slots / team.workers()) as u128 * (config.total_len() * config.hidden_size) as u128;
            4 * (4 * weights + 2 * state)
        }
    };
    match needed > u128::from(there) {
        true => Err(TrainError::Memory { needed: needed >> 30, there: there >> 30, weights, slots }),
        false => Ok(()),
    }
}

/// A group that names no parameter is a slip of the pen, not a wish.
fn check_groups<A: HrmAutodiffBackend>(recipe: &ResolvedRecipe, model: &Hrm<A>) -> Result<(), ConfigError> {
    let names: Vec<String> = trained_weights(model).into_keys().collect();
    for group in &recipe.recipe.train.groups {
        if !names.iter().any(|name| optim::matches(&group.params, name)) {
            return Err(ConfigError::Value {
                origin: recipe.origin("train.groups"),
                key: "train.groups".to_owned(),
                got: format!("{{ params = {:?} }}", group.params),
                expected: format!("a pattern that fits a parameter: {}", names.join(", ")),
            });
        }
    }
    Ok(())
}

/// The model with the weights of another run or file.
fn start_from<A: HrmAutodiffBackend>(model: Hrm<A>, origin: &Path) -> Result<Hrm<A>, TrainError> {
    let told = |source: CheckpointError| TrainError::InitFrom { path: origin.to_owned(), source };
    let file = checkpoint::model_file(origin).map_err(told)?;
    checkpoint::verify_weights(&file).map_err(told)?;
    let dict = weights::read_normalized(&file).map_err(|e| told(e.into()))?;
    model.load_state_dict(dict).map_err(|e| told(e.into()))
}

/// The state of a run.
struct Trainer<A: HrmAutodiffBackend> {
    recipe: ResolvedRecipe,
    /// Model and carry; a step takes them out, so that the optimizer may update in place what nobody else holds.
    state: Option<(Hrm<A>, Carry<A::InnerBackend>)>,
    optimizer: Optimizer<A::InnerBackend>,
    sign_sgd: SignSgd,
    ema: Option<Ema<A::InnerBackend>>,
    schedule: Schedule,
    /// Where random states come from, if the recipe wants any.
    noise: Option<Noise<A::InnerBackend>>,
    sampler: Sampler,
    step: u64,
    progress: Progress,
    /// What the last bad step started from, why it was bad, and where its state was saved.
    evidence: Option<Evidence<A>>,
    why: String,
    diagnostics: Option<PathBuf>,
    /// The evaluation that runs beside the training.
    background: Option<Background>,
    last_eval: Option<EvalReport>,
    /// The last checkpoint of this process and its step.
    saved: Option<(u64, PathBuf)>,
    team: Team<A::InnerBackend>,
    /// Whether the workers have made sure that they train the same.
    agreed: bool,
}

impl<A: HrmAutodiffBackend> Trainer<A> {
    fn new(
        recipe: ResolvedRecipe,
        data: &TaskData,
        device: &A::Device,
        team: &Team<A::InnerBackend>,
    ) -> Result<Self, TrainError> {
        let metadata = data.metadata();
        let config = recipe.recipe.model.resolve(
            metadata.vocab_size,
            metadata.seq_len,
            metadata.num_puzzle_identifiers,
        );
        if !config.runs_on::<A>(device) {
            return Err(TrainError::Dtype {
                dtype: config.forward_dtype,
                backend: backend_name::<A>(device),
            });
        }
        if recipe.recipe.train.matmul_precision == MatmulPrecision::Bf16 && !A::HAS_MATMUL_PRECISION {
            return Err(TrainError::MatmulPrecision { backend: backend_name::<A>(device) });
        }
        config.validate()?;
        check_memory::<A>(&recipe.recipe, &config, team)?;
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.recipe.train.seed);
        let mut model = config.init(&mut rng, device)?;
        let origin = &recipe.recipe.train.init_from;
        if !origin.is_empty() {
            model = start_from(model, Path::new(origin))?;
        }
        check_groups(&recipe, &model)?;
        let carry = empty_slots(&recipe, &model, team);
        let sampler = data.sampler(&recipe.recipe)?;
        Self::assemble(recipe, data, (model, carry), sampler, team)
    }

    fn from_checkpoint(
        recipe: ResolvedRecipe,
        data: &TaskData,
        loaded: Loaded<A, SamplerState>,
        team: &Team<A::InnerBackend>,
    ) -> Result<Self, TrainError> {
        let Loaded { model, moments, ema, carry, state } = loaded;
        let sampler = data.sampler_from(&recipe.recipe, state.sampler)?;
        let carry = match carry {
            Some(carry) => team.own_slots(carry),
            None => empty_slots(&recipe, &model, team),
        };
        let mut trainer = Self::assemble(recipe, data, (model, carry), sampler, team)?;
        trainer.optimizer.moments = moments;
        if let (Some(average), Some(weights)) = (&mut trainer.ema, ema) {
            average.weights = weights;
        }
        trainer.step = state.step;
        trainer.progress = state.progress;
        Ok(trainer)
    }

    fn assemble(
        recipe: ResolvedRecipe,
        data: &TaskData,
        state: (Hrm<A>, Carry<A::InnerBackend>),
        sampler: Sampler,
        team: &Team<A::InnerBackend>,
    ) -> Result<Self, TrainError> {
        let Recipe { train, .. } = &recipe.recipe;
        let metadata = data.metadata();
        team.check(train.global_batch_size, train.accumulate, metadata.num_puzzle_identifiers)?;
        if recipe.recipe.eval.background && !team.is_alone() {
            return Err(TrainError::Background { workers: team.workers() });
        }
        let total_steps = match train.max_steps {
            0 => total_steps(
                train.epochs,
                metadata.total_groups,
                metadata.mean_puzzle_examples,
                train.global_batch_size,
            ),
            steps => steps,
        };
        Ok(Self {
            sign_sgd: SignSgd { weight_decay: train.puzzle_emb_weight_decay },
            schedule: Schedule {
                decay: train.lr_schedule,
                warmup_steps: train.lr_warmup_steps,
                total_steps,
                min_ratio: train.lr_min_ratio,
            },
            ema: (train.ema > 0.0).then(|| Ema::new(train.ema, train.ema_start, &state.0)),
            noise: (train.state_noise > 0.0
                || train.chains > 1
                || state.0.config().init_state == InitState::Random)
                .then(|| Noise::new(&state.0.inner(), train.seed)),
            state: Some(state),
            optimizer: Optimizer::new(train.param_groups()),
            sampler,
            recipe,
            step: 0,
            progress: Progress::default(),
            evidence: None,
            why: String::new(),
            diagnostics: None,
            background: None,
            last_eval: None,
            saved: None,
            team: team.clone(),
            agreed: false,
        })
    }

    fn state(&self) -> &(Hrm<A>, Carry<A::InnerBackend>) {
        self.state.as_ref().expect("only a step takes the state, and gives it back")
    }

    fn model(&self) -> &Hrm<A> {
        &self.state().0
    }

    fn run(
        &mut self,
        run: &mut RunDir,
        data: &TaskData,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<TrainSummary, TrainError> {
        let result = self.steps(run, data, stop, observer);
        if result.is_err() {
            // What is under way still counts; the error that ended the run is the one to tell.
            let _ = self.wait_for_evaluation(run, observer);
        }
        result
    }

    fn steps(
        &mut self,
        run: &mut RunDir,
        data: &TaskData,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<TrainSummary, TrainError> {
        let Recipe { train, eval, .. } = self.recipe.recipe.clone();
        let total = self.schedule.total_steps;
        let start = StartReport {
            model: self.model().config().clone(),
            parameters: self.model().parameter_table().parameters(),
            total_steps: total,
            first_step: self.step,
            train_examples: data.train_examples(),
            test_examples: data.test_examples(),
            batch_size: train.global_batch_size,
        };
        observer.on_start(&start);
        run.begin(total, start.parameters)?;
        run.log(&format!(
            "{} parameters, {} training and {} held-out puzzles, batch {}, steps {} to {total}",
            start.parameters,
            start.train_examples,
            start.test_examples,
            start.batch_size,
            self.step + 1,
        ))?;

        let mut pending = Pending::<A::InnerBackend>::new(train.global_batch_size);
        let due = |interval: u64, step: u64| interval > 0 && step.is_multiple_of(interval);
        if std::mem::take(&mut self.progress.evaluating) {
            // The run was killed before the evaluation had ended.
            match eval.background {
                true => self.begin_evaluation(data, run, observer)?,
                false => self.evaluate(data, run, observer)?,
            }
            pending.restart_clock();
        }
        let ending = loop {
            if self.step >= total {
                break Ending::Finished;
            }
            // Several workers stop after the same step: when all have read that one was asked to.
            let asked_to_stop = match self.team.is_alone() {
                true => stop.load(Ordering::SeqCst),
                false => pending.asked_to_stop(),
            };
            if asked_to_stop {
                break Ending::Interrupted;
            }
            if train.stop_after > 0 && self.step >= train.stop_after {
                break Ending::StopAfter;
            }
            if self.has_stalled() {
                break Ending::EarlyStopped;
            }
            pending.add(self.one_step(stop)?);
            let step = self.step;
            let saves = due(train.checkpoint_interval, step);
            let evaluates = due(eval.interval, step) && step < total;
            if due(train.log_interval, step) || saves || evaluates || pending.is_bad() {
                self.report(&mut pending, run, observer)?;
            }
            self.look_at_evaluation(run, observer)?;
            if evaluates {
                // Where the run stops next, there is nothing to do meanwhile.
                match eval.background && step != train.stop_after {
                    true => self.begin_evaluation(data, run, observer)?,
                    false => self.evaluate(data, run, observer)?,
                }
            }
            if saves {
                self.save(run, observer)?;
            }
            if evaluates || saves {
                pending.restart_clock();
            }
        };
        self.report(&mut pending, run, observer)?;
        self.wait_for_evaluation(run, observer)?;
        if ending == Ending::Finished {
            self.evaluate(data, run, observer)?;
        }
        let checkpoint = self.save(run, observer)?;
        run.log(&format!("{ending:?} after step {}, checkpoint {}", self.step, checkpoint.display()))?;
        Ok(TrainSummary { step: self.step, ending, checkpoint, eval: self.last_eval })
    }

    fn one_step(&mut self, stop: &AtomicBool) -> Result<PendingStep<A::InnerBackend>, TrainError> {
        self.step += 1;
        let settings = self.settings();
        let device = self.model().device();
        // The whole batch on every worker: drawing is cheap, and the sampler stands at the same place for all.
        let batch = self.sampler.next_batch();
        if !self.agreed {
            self.agree(&batch)?;
        }
        let batch = batch.slice(self.team.rows(batch.rows));
        let batch = chains::spread(data::to_device(&batch, &device), settings.chains);
        let min_steps = self.exploration(&device).map(|steps| chains::spread_steps(steps, settings.chains));
        let (model, carry) = self.state.take().expect("only a step takes the state, and gives it back");
        let carry = match &self.noise {
            None => carry,
            Some(noise) => self.start_at_random(noise, &model.inner(), carry, batch.clone()),
        };
        let guard = self.guard();
        let evidence =
            (guard == Guard::Read).then(|| Evidence { carry: carry.clone(), batch: batch.clone() });
        let (output, grads) = step::gradients(&model, carry, batch, min_steps, &settings);
        let share = ShareOfStep {
            metrics: output.metrics,
            grads,
            identifiers: output.carry.batch.puzzle_identifiers.clone(),
            stop: Tensor::full([1], f32::from(u8::from(stop.load(Ordering::SeqCst))), &device),
        };
        let ShareOfStep { metrics, grads, identifiers, stop } =
            share.sum(&self.team, settings.global_batch * settings.chains)?;
        let vitals = Vitals::of(&metrics, &grads);
        let (model, signs) =
            safety::guarded(model, &mut self.optimizer, &vitals, guard, |model, optimizer| {
                step::apply_gradients(model, grads, identifiers, optimizer, self.sign_sgd, &settings)
            });
        let skipped = signs.map(|signs| !signs.finite());
        self.evidence = evidence.filter(|_| skipped == Some(true));
        if let Some(ema) = &mut self.ema {
            ema.update(self.step, &model);
        }
        self.state = Some((model, output.carry));
        Ok(PendingStep {
            step: self.step,
            epoch: self.step as f64 / self.sampler.batches_per_epoch(),
            lr: settings.lr,
            puzzle_emb_lr: settings.puzzle_emb_lr,
            metrics,
            vitals,
            skipped,
            stop,
        })
    }

    /// Makes sure before the first step that all workers train the same; `batch` is the whole one of that step.
    fn agree(&mut self, batch: &Batch) -> Result<(), TrainError> {
        let set = self.recipe.differences(&ResolvedRecipe::from_recipe(Recipe::default()));
        self.team.agree("the recipe", hash(&set))?;
        self.team.agree("the step", self.step)?;
        self.team
            .agree("the training data", hash(&(&batch.inputs, &batch.labels, &batch.puzzle_identifiers)))?;
        self.agreed = true;
        Ok(())
    }

    /// Gives halted slots their puzzles and initial states, and all slots the noise of the step: a function of the seed, the
    /// step and the slot.
    fn start_at_random(
        &self,
        noise: &Noise<A::InnerBackend>,
        model: &Hrm<A::InnerBackend>,
        carry: Carry<A::InnerBackend>,
        batch: PuzzleBatch<A::InnerBackend>,
    ) -> Carry<A::InnerBackend> {
        let Recipe { train, .. } = &self.recipe.recipe;
        let [slots] = carry.halted.dims();
        let own = self.team.rows(train.global_batch_size * train.chains);
        let keys: Vec<Key> = own.map(|slot| Key { chain: slot as u64, step: self.step }).collect();
        let carry = carry.admit_from(noise.initial_states(model, &keys, train.chains), batch);
        let state = noise.add_to(carry.state, &keys, &vec![train.state_noise as f32; slots]);
        // They are running now: the step admits nobody else.
        let halted = Tensor::<A::InnerBackend, 1, Int>::zeros([slots], &model.device()).bool();
        Carry { state, halted, ..carry }
    }

    /// What the recipe says about the step.
    fn settings(&self) -> StepSettings {
        let Recipe { train, .. } = &self.recipe.recipe;
        StepSettings {
            loss: train.loss_settings(),
            global_batch: train.global_batch_size,
            accumulate: train.accumulate,
            chains: train.chains,
            cycles: curriculum::cycles(&train.curriculum, self.step, self.schedule.total_steps),
            grad_clip: (train.grad_clip > 0.0).then_some(train.grad_clip),
            lr: self.schedule.rate(train.lr, self.step),
            puzzle_emb_lr: self.schedule.rate(train.puzzle_emb_lr, self.step),
        }
    }

    /// Minimum numbers of segments of this worker's slots for this step, from the seed, the step and the slot alone.
    fn exploration(
        &self,
        device: &<A::InnerBackend as burn::tensor::backend::BackendTypes>::Device,
    ) -> Option<Tensor<A::InnerBackend, 1, Int>> {
        let config = self.model().config();
        let Recipe { train, .. } = &self.recipe.recipe;
        let explores_ever = config.halt_exploration_prob > 0.0 || train.fixed_steps;
        if !explores_ever || config.halt_max_steps < 2 {
            return None;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(train.seed);
        rng.set_stream(self.step);
        let draws: Vec<i32> = (0..train.global_batch_size)
            .map(|_| {
                let explores = rng.random_bool(config.halt_exploration_prob);
                let steps = rng.random_range(2..=config.halt_max_steps as i32);
                match (train.fixed_steps, explores) {
                    (true, _) => config.halt_max_steps as i32,
                    (false, true) => steps,
                    (false, false) => 0,
                }
            })
            .collect();
        let own = &draws[self.team.rows(train.global_batch_size)];
        let draws = TensorData::new(own.to_vec(), [own.len()])
            .convert::<<A::InnerBackend as burn::tensor::backend::BackendTypes>::IntElem>();
        Some(Tensor::from_data(draws, device))
    }

    /// Writes the checkpoint of the step, unless it has been written. It holds what is known of an evaluation in the
    /// background, so that is waited for first.
    fn save(&mut self, run: &mut RunDir, observer: &mut dyn Observer) -> Result<PathBuf, TrainError> {
        if let Some((step, path)) = &self.saved
            && *step == self.step
        {
            return Ok(path.clone());
        }
        self.wait_for_evaluation(run, observer)?;
        let path = self.save_to(&run.checkpoints(), run)?;
        self.saved = Some((self.step, path.clone()));
        Ok(path)
    }

    fn save_to(&self, folder: &Path, run: &mut RunDir) -> Result<PathBuf, TrainError> {
        let (model, carry) = self.state();
        // Workers that drifted apart would train on, each another model.
        if !self.team.is_alone() {
            self.team.agree("the weights", fingerprint(model))?;
        }
        let train = &self.recipe.recipe.train;
        let carry = match train.checkpoint_carry {
            true => Some(self.team.gather_carry(carry.clone())?),
            false => None,
        };
        if !self.team.leads() {
            return Ok(folder.join(checkpoint::folder_name(self.step)));
        }
        // Rows that a checkpoint counts on are on the disk before it.
        let metrics = run.flush()?;
        let snapshot = Snapshot {
            step: self.step,
            recipe: &self.recipe.to_toml(),
            model,
            optimizer: &self.optimizer,
            ema: self.ema.as_ref(),
            carry: carry.as_ref(),
            sampler: self.sampler.state(),
            progress: &self.progress,
            metrics,
            moments: train.checkpoint_moments,
        };
        let retention = Retention { newest: train.keep_checkpoints, every: train.keep_every };
        let path = checkpoint::save(folder, snapshot, retention)?;
        run.log(&format!("step {} checkpoint {}", self.step, path.display()))?;
        Ok(path)
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A number that differs if any weight does, but for a coincidence.
fn fingerprint<A: HrmAutodiffBackend>(model: &Hrm<A>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for weight in trained_weights(model).into_values() {
        weight.into_data().as_bytes().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
