//! How a run starts: anew, from other weights, or where it stopped.

use std::{collections::VecDeque, path::Path, sync::atomic::AtomicBool, time::Instant};

use burn::{backend::Autodiff, tensor::Tensor};
use hrm_backend::{HrmBackend, MatmulPrecision};
use hrm_data::{dataset::save_identifiers, registry::Shape};
use hrm_infer::{
    evaluate::{Alone, EvalSettings, Workers, evaluate},
    noise::Noise,
};
use hrm_model::{Hrm, InitState, ModelConfig, ModelError, act::Carry, weights};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    Journal, Observer, Progress, Puzzles, State, TrainError, TrainOptions, Trainer,
    one_step::{on_size, try_size},
    size_of_turn,
};
use crate::{
    checkpoint::{self, CheckpointError, Loaded, TrainState},
    data::{self, DataError, Drawn, Sampler, TaskData},
    distributed::Team,
    optim::{self, Ema, Optimizer, Schedule, SignSgd, total_steps, trained_weights},
    recipe::{ConfigError, Recipe, ResolvedRecipe},
    run::{CONFIG, Resumed, RunDir, RunLock, environment::total_memory},
};

/// What a worker needs before its first step.
pub(super) fn start<'a, B: HrmBackend>(
    options: TrainOptions,
    device: &B::Device,
    team: &Team<B>,
    observer: &'a mut dyn Observer,
) -> Result<(TaskData, Journal<'a>, Trainer<B>), TrainError> {
    let TrainOptions { recipe, run_dir, resume, .. } = options;
    let (recipe, data) = prepare::<B>(recipe, device)?;
    let (run, trainer) = if resume {
        resume_run::<B>(&run_dir, recipe, &data, device, team, observer)?
    } else {
        let trainer = Trainer::<B>::new(recipe, &data, device, team)?;
        let run = match team.leads() {
            true => RunDir::create(&run_dir, &trainer.recipe, &backend_name::<B>(device))?,
            false => RunDir::of_another_worker(&run_dir),
        };
        (run, trainer)
    };
    if let Some(arc) = data.arc().filter(|_| team.leads() && !run_dir.join("identifiers.json").exists()) {
        // Rows of the puzzle embedding are found by these names, wherever the tasks are later.
        let names: Vec<String> =
            (0..arc.identifiers() as u32).map(|identifier| arc.name(identifier)).collect();
        save_identifiers(&run_dir, &names).map_err(DataError::from)?;
    }
    let mut journal = Journal { run, observer };
    for warning in data.warnings.iter().filter(|_| team.leads()) {
        journal.say(&format!("warning: {warning}"))?;
    }
    Ok((data, journal, trainer))
}

/// A recipe with the choices of the backend, and its data.
fn prepare<B: HrmBackend>(
    recipe: ResolvedRecipe,
    device: &B::Device,
) -> Result<(ResolvedRecipe, TaskData), TrainError> {
    let recipe = recipe.on_backend::<B>(device);
    let data = data::load(&recipe.data)?;
    hrm_backend::set_matmul_precision(recipe.train.matmul_precision);
    Ok((recipe, data))
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
    match changes.iter().find(|(key, ..)| !Recipe::resumable().any(|free| free == *key)) {
        None => Ok(changes),
        Some((key, before, now)) => {
            let [key, before, now] = [key, before, now].map(Clone::clone);
            Err(TrainError::Changed { key, before, now })
        }
    }
}

fn resume_run<B: HrmBackend>(
    run_dir: &Path,
    recipe: ResolvedRecipe,
    data: &TaskData,
    device: &B::Device,
    team: &Team<B>,
    observer: &mut dyn Observer,
) -> Result<(RunDir, Trainer<B>), TrainError> {
    // Before anything is read: another process may be writing it.
    let lock = team.leads().then(|| RunLock::take(run_dir)).transpose()?;
    let config = run_dir.join(CONFIG);
    let before = ResolvedRecipe::load_saved(&config, &[])?.on_backend::<B>(device);
    let changes = sound_changes(&before, &recipe)?;
    let folder = run_dir.join("checkpoints");
    let warn = |warning: &str| observer.on_message(warning);
    let sound = |state: &TrainState<Drawn>| {
        if state.sampler.batches() != Some(state.step) {
            return Err(format!("not the batches of {} steps: {:?}", state.step, state.sampler));
        }
        ResolvedRecipe::saved(&config, &state.recipe, &[]).map(|_| ()).map_err(|e| format!("recipe: {e}"))
    };
    let mut metrics = None;
    let loaded = checkpoint::load_newest::<B, Drawn>(&folder, device, sound, warn)?;
    let mut trainer = match loaded {
        Some(loaded) => {
            // The file may have been edited since.
            let before = ResolvedRecipe::saved(&config, &loaded.state.recipe, &[])?;
            sound_changes(&before.on_backend::<B>(device), &recipe)?;
            metrics = loaded.state.metrics.clone();
            Trainer::<B>::from_checkpoint(recipe, data, loaded, team)?
        }
        // Killed before the first checkpoint: nothing is lost but the steps since the start.
        None => Trainer::<B>::new(recipe, data, device, team)?,
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
    let backend = backend_name::<B>(device);
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
fn backend_name<B: HrmBackend>(device: &B::Device) -> String {
    B::name(device)
}

/// What the model has to know of the puzzles of each size.
fn sizes<B: HrmBackend>(data: &TaskData, model: &Hrm<Autodiff<B>>) -> Result<Vec<Puzzles>, ModelError> {
    let of_shape = |shape: Shape| {
        let (seq_len, vocab_size) = shape.tokens();
        (vocab_size, seq_len, data::structure(shape))
    };
    let config = model.config();
    let own = (config.vocab_size, config.seq_len, config.structure.clone());
    let sizes: Vec<Puzzles> = std::iter::once(own).chain(data.further_shapes().map(of_shape)).collect();
    sizes.iter().try_for_each(|puzzles| try_size(model.clone(), puzzles).map(drop))?;
    Ok(sizes)
}

/// The slots of a worker after a step, all of which take new puzzles when it is their turn.
fn empty_slots<B: HrmBackend>(
    recipe: &ResolvedRecipe,
    (model, sizes): (&Hrm<Autodiff<B>>, &[Puzzles]),
    step: u64,
    team: &Team<B>,
) -> VecDeque<Carry<B>> {
    let train = &recipe.train;
    let slots = team.rows(train.global_batch_size).len() * train.chains;
    let turns = train.batches_in_turn;
    let of_turn = |turn| on_size(model.inner(), &sizes[size_of_turn(turn, turns, sizes)]).empty_carry(slots);
    let next = (step % turns as u64) as usize;
    (next..turns).chain(0..next).map(of_turn).collect()
}

/// Refuses what cannot fit, before any of it is allocated: an allocation that fails ends the process without a word.
fn check_memory<B: HrmBackend>(
    recipe: &Recipe,
    config: &ModelConfig,
    team: &Team<B>,
) -> Result<(), TrainError> {
    let Some(there) = total_memory() else { return Ok(()) };
    let slots = recipe.train.global_batch_size * recipe.train.chains * recipe.train.batches_in_turn;
    let weights = config.weight_count();
    let needed = match B::ASYNCHRONOUS {
        // The rest is in the memory of a device; weights are drawn on the host.
        true => 4 * weights,
        // Weights, gradients and two moments; two states of each slot.
        false => {
            let state = (slots / team.workers()) as u128 * (config.total_len() * config.hidden_size) as u128;
            4 * (4 * weights + 2 * state)
        }
    };
    match needed > u128::from(there) {
        true => Err(TrainError::Memory {
            needed: u64::try_from(needed >> 30).unwrap_or(u64::MAX),
            there: there >> 30,
            weights: u64::try_from(weights).unwrap_or(u64::MAX),
            slots,
        }),
        false => Ok(()),
    }
}

/// A group that names no parameter is a slip of the pen, not a wish.
fn check_groups<B: HrmBackend>(recipe: &ResolvedRecipe, model: &Hrm<Autodiff<B>>) -> Result<(), ConfigError> {
    let names: Vec<String> = trained_weights(model).into_keys().collect();
    for group in &recipe.train.groups {
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
fn start_from<B: HrmBackend>(model: Hrm<Autodiff<B>>, origin: &Path) -> Result<Hrm<Autodiff<B>>, TrainError> {
    let told = |source: CheckpointError| TrainError::InitFrom { path: origin.to_owned(), source };
    let file = checkpoint::model_file(origin).map_err(told)?;
    checkpoint::verify_weights(&file).map_err(told)?;
    let dict = weights::read_normalized(&file).map_err(|e| told(e.into()))?;
    let dict = model.widened(dict);
    model.load_state_dict(dict).map_err(|e| told(e.into()))
}

impl<B: HrmBackend> Trainer<B> {
    pub(super) fn new(
        recipe: ResolvedRecipe,
        data: &TaskData,
        device: &B::Device,
        team: &Team<B>,
    ) -> Result<Self, TrainError> {
        let metadata = data.metadata();
        let config = recipe.model.on(
            metadata.vocab_size,
            metadata.seq_len,
            metadata.num_puzzle_identifiers,
            data::structure(data.shape),
        );
        if !config.runs_on::<B>(device) {
            return Err(TrainError::Dtype {
                dtype: config.forward_dtype,
                backend: backend_name::<B>(device),
            });
        }
        if recipe.train.matmul_precision == MatmulPrecision::Bf16 && !B::HAS_MATMUL_PRECISION {
            return Err(TrainError::MatmulPrecision { backend: backend_name::<B>(device) });
        }
        config.validate()?;
        check_memory(&recipe, &config, team)?;
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.train.seed);
        let mut model = config.init(&mut rng, device)?;
        let origin = &recipe.train.init_from;
        if !origin.is_empty() {
            model = start_from(model, Path::new(origin))?;
        }
        check_groups(&recipe, &model)?;
        let sizes = sizes(data, &model)?;
        let carries = empty_slots(&recipe, (&model, &sizes), 0, team);
        let sampler = data.sampler(&recipe, None)?;
        Self::assemble(recipe, data, (model, carries), (sampler, sizes), team)
    }

    fn from_checkpoint(
        recipe: ResolvedRecipe,
        data: &TaskData,
        loaded: Loaded<B, Drawn>,
        team: &Team<B>,
    ) -> Result<Self, TrainError> {
        let Loaded { model, moments, ema, carry, state } = loaded;
        let sampler = data.sampler(&recipe, Some(state.sampler))?;
        let sizes = sizes(data, &model)?;
        let carries = match carry {
            Some(carry) => {
                let batches = recipe.train.batches_in_turn;
                let each = carry.steps.dims()[0] / batches;
                let of_batch = |batch: usize| {
                    let slots = (batch * each) as i64..((batch + 1) * each) as i64;
                    team.own_slots(carry.clone().select(Tensor::arange(slots, &model.device())))
                };
                (0..batches).map(of_batch).collect()
            }
            None => empty_slots(&recipe, (&model, &sizes), state.step, team),
        };
        let mut trainer = Self::assemble(recipe, data, (model, carries), (sampler, sizes), team)?;
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
        state: State<B>,
        (sampler, sizes): (Sampler, Vec<Puzzles>),
        team: &Team<B>,
    ) -> Result<Self, TrainError> {
        let train = &recipe.train;
        let metadata = data.metadata();
        team.check(train.global_batch_size, train.accumulate, metadata.num_puzzle_identifiers)?;
        if recipe.eval.background && !team.is_alone() {
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
            sizes,
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
}

/// Runs some steps of a recipe and throws them away: GPU backends compile the kernels of the recipe's shapes, and may keep them
/// on disk for the runs that follow ([`hrm_backend::keep_compiled_kernels`]). Gives the seconds of each step, and of one
/// evaluated batch at the end.
///
/// # Errors
/// As [`train`](super::train), but for the run directory: nothing is written.
pub fn warm_up<B: HrmBackend>(
    recipe: ResolvedRecipe,
    steps: u64,
    device: &B::Device,
) -> Result<Vec<f64>, TrainError> {
    let (recipe, data) = prepare::<B>(recipe, device)?;
    let Recipe { train, eval, .. } = recipe.recipe.clone();
    let mut trainer = Trainer::<B>::new(recipe, &data, device, &Team::alone(device.clone()))?;
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
    let max_steps = inner.config().halt_max_steps;
    let settings = EvalSettings { loss: train.loss, max_steps, course_steps: 0 };
    let Ok((report, _)) = evaluate(&inner, batches, settings, &Alone);
    seconds.push(report.seconds);
    Ok(seconds)
}
