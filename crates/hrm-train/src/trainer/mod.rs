//! The training loop: data, steps, metrics, evaluation, checkpoints, resumption.

mod evaluation;
mod one_step;
mod pending;
mod report;
mod save;
mod selection;
mod start;
mod steps;
mod supervision;
mod watch;

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use burn::backend::Autodiff;
use hrm_backend::HrmBackend;
use hrm_infer::{evaluate::EvalReport, noise::Noise};
use hrm_model::{Hrm, ModelError, Structure, act::Carry};
use thiserror::Error;

use crate::{
    checkpoint::CheckpointError,
    data::{DataError, Sampler},
    distributed::{CollectiveError, Team},
    optim::{Ema, Optimizer, Schedule, SignSgd},
    recipe::{ConfigError, ResolvedRecipe},
    run::RunError,
};

use evaluation::Background;
use report::Journal;
pub use report::{EvalRow, Observer, StartReport, StepReport};
pub use selection::{BestMetric, Selection};
pub use start::{saved_recipe, warm_up};
use supervision::Evidence;
pub use supervision::Progress;
pub use watch::{Trouble, Warning, Watch};

/// What to train and where.
#[derive(Debug)]
pub struct TrainOptions {
    /// The recipe. When resuming: what the command line says now; see [`Recipe::resumable`](crate::recipe::Recipe::resumable).
    pub recipe: ResolvedRecipe,
    /// The run directory.
    pub run_dir: PathBuf,
    /// Continue from the newest whole checkpoint of the run directory.
    pub resume: bool,
    /// Set by anyone to stop after the current step, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

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
         run; start a new run for that. These may change: {}", crate::recipe::Recipe::resumable().collect::<Vec<_>>().join(", ")
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
        needed: u64,
        /// GiB that there are.
        there: u64,
        /// Weights of the model.
        weights: u64,
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
        dtype: hrm_model::ForwardChoice,
        /// The backend.
        backend: String,
    },
}

/// Trains a recipe to its end, or to where it is stopped.
///
/// # Errors
/// If the data, the run directory or a checkpoint cannot be read or written; what was saved stays.
pub fn train<B: HrmBackend>(
    options: TrainOptions,
    device: &B::Device,
    observer: &mut dyn Observer,
) -> Result<TrainSummary, TrainError> {
    train_in_team::<B>(options, device, Team::alone(device.clone()), observer)
}

/// [`train`] as one of several workers, each of which calls this with the same options; see [`crate::distributed`].
///
/// # Errors
/// As [`train`]; and if workers do not agree about what they train, or one is lost.
pub fn train_in_team<B: HrmBackend>(
    options: TrainOptions,
    device: &B::Device,
    team: Team<B>,
    observer: &mut dyn Observer,
) -> Result<TrainSummary, TrainError> {
    let stop = Arc::clone(&options.stop);
    let started = start::start::<B>(options, device, &team, observer);
    // Nobody goes on before all have started.
    let failed = team.gather_bits(&[u64::from(started.is_err())])?;
    let (data, mut journal, mut trainer) = started?;
    let workers: Vec<usize> = (0..failed.len()).filter(|&worker| failed[worker] != [0]).collect();
    if !workers.is_empty() {
        return Err(CollectiveError::NotStarted { workers }.into());
    }
    let result = trainer.run(&data, &stop, &mut journal);
    let how = match &result {
        Ok(summary) => format!("{:?}", summary.ending),
        Err(error) => format!("stopped by an error: {error}"),
    };
    if result.is_err() {
        // The run directory may be what failed: the error itself is what counts.
        let _ = journal.run.log(&how);
    }
    if let Err(error) = journal.run.end(trainer.step, &how)
        && result.is_ok()
    {
        journal.observer.on_message(&format!("warning: {error}"));
    }
    result
}

/// The model, and the carries of the batches, the next one's first.
type State<B> = (Hrm<Autodiff<B>>, VecDeque<Carry<B>>);

/// What a model has to know of puzzles of one size: kinds of tokens, tokens, and which belong together.
type Puzzles = (usize, usize, Option<Structure>);

/// A run.
struct Trainer<B: HrmBackend> {
    recipe: ResolvedRecipe,
    /// A step takes it out, so that the optimizer may update in place what nobody else holds.
    state: Option<State<B>>,
    optimizer: Optimizer<B>,
    sign_sgd: SignSgd,
    ema: Option<Ema<B>>,
    schedule: Schedule,
    /// Where random states come from, if the recipe wants any.
    noise: Option<Noise<B>>,
    sampler: Sampler,
    /// The puzzles of each size, the recipe's own first.
    sizes: Vec<Puzzles>,
    step: u64,
    progress: Progress,
    /// What the last bad step started from, why it was bad, and where its state was saved.
    evidence: Option<Evidence<B>>,
    why: String,
    diagnostics: Option<PathBuf>,
    /// The evaluation that runs beside the training.
    background: Option<Background>,
    last_eval: Option<EvalReport>,
    /// The last checkpoint of this process and its step.
    saved: Option<(u64, PathBuf)>,
    team: Team<B>,
    /// Whether the workers have made sure that they train the same.
    agreed: bool,
}

impl<B: HrmBackend> Trainer<B> {
    fn state(&self) -> &State<B> {
        self.state.as_ref().expect("only a step takes the state, and gives it back")
    }

    fn model(&self) -> &Hrm<Autodiff<B>> {
        &self.state().0
    }

    /// Which size the batch of a step has.
    fn size_at(&self, step: u64) -> usize {
        let turns = self.recipe.train.batches_in_turn;
        size_of_turn(((step - 1) % turns as u64) as usize, turns, &self.sizes)
    }
}

/// Which size the batches of a turn have: the last turns are those of the further sizes, one each.
fn size_of_turn(turn: usize, turns: usize, sizes: &[Puzzles]) -> usize {
    (turn + sizes.len()).saturating_sub(turns)
}

#[cfg(test)]
mod tests;
