//! Everything that `hrm` computes, on a backend that is chosen at run time.
//!
//! A [`Name`] opens an [`Engine`]. It trains, and loads [`Models`], which solve puzzles and are measured. Both are traits without
//! a type of a backend in them, implemented once for all backends. A program that holds a `Box<dyn Engine>` compiles neither
//! Burn nor a model: the code of this crate does, once.

#![cfg_attr(not(feature = "nccl"), forbid(unsafe_code))]

mod backend;
mod name;
#[cfg(feature = "nccl")]
pub mod nccl;
mod on;
mod weights;

#[cfg(feature = "mpi")]
use std::rc::Rc;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
};

use hrm_data::{puzzles::arc::ArcData, registry::Shape};
use hrm_infer::{
    Answer, Curve, CurveLimits, InferError, InferOptions, InferenceReport, Puzzles, Query, Rows,
    evaluate::{Course, EvalReport, EvalSettings, Evaluation},
};
use hrm_model::{
    ModelConfig, ModelError,
    weights::{StateDict, WeightsError},
};
#[cfg(feature = "mpi")]
use hrm_train::distributed::mpi::Mpi;
use hrm_train::{
    adapt::{AdaptError, AdaptOptions, AdaptReport},
    checkpoint::CheckpointError,
    recipe::ResolvedRecipe,
    trainer::{Observer, TrainError, TrainOptions, TrainSummary},
};
use thiserror::Error;

pub use backend::EngineError;
#[cfg(feature = "flex")]
pub use hrm_backend::TensorAllocator;
pub use hrm_backend::{MatmulPrecision, keep_compiled_kernels, set_matmul_precision};
pub use name::Name;
pub use weights::Weights;

/// A backend on one of its devices.
pub trait Engine: fmt::Debug {
    /// Trains a recipe, see [`hrm_train::trainer::train`].
    ///
    /// # Errors
    /// As there.
    fn train(&self, options: TrainOptions, observer: &mut dyn Observer) -> Result<TrainSummary, TrainError>;

    /// The same as one of several workers over MPI.
    ///
    /// # Errors
    /// As [`hrm_train::trainer::train_in_team`].
    #[cfg(feature = "mpi")]
    fn train_over_mpi(
        &self,
        options: TrainOptions,
        mpi: Rc<Mpi>,
        observer: &mut dyn Observer,
    ) -> Result<TrainSummary, TrainError>;

    /// Takes some steps of a recipe and throws them away, see [`hrm_train::trainer::warm_up`].
    ///
    /// # Errors
    /// As there.
    fn warm_up(&self, recipe: ResolvedRecipe, steps: u64) -> Result<Vec<f64>, TrainError>;

    /// A recipe with the choices that it leaves to the backend.
    fn settle(&self, recipe: ResolvedRecipe) -> ResolvedRecipe;

    /// Loads one checkpoint, or several that answer together, for puzzles of a shape, if one is named: models that mix by groups
    /// fit puzzles of other sizes than they were trained on. A model that was trained in bf16 computes in fp32 where bf16 is not
    /// faster, or not there at all.
    ///
    /// # Errors
    /// If there is no file, one cannot be read, or a model does not fit the puzzles.
    fn load(&self, files: &[Weights], shape: Option<Shape>) -> Result<Box<dyn Models>, LoadError>;

    /// The model of a configuration with these weights.
    ///
    /// # Errors
    /// If they do not fit.
    fn assemble(&self, config: &ModelConfig, weights: StateDict) -> Result<Box<dyn Models>, WeightsError>;

    /// Writes the weights of a checkpoint under the names of the original, also those of a model that the backend cannot run.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    fn export_original(&self, from: &Weights, to: &Path) -> Result<(), CheckpointError>;
}

/// One model, or several that answer together.
pub trait Models: fmt::Debug {
    /// Of each model.
    fn configs(&self) -> Vec<&ModelConfig>;

    /// The names of weights with numbers that are not finite, each with how many.
    fn not_finite(&self) -> Vec<(String, usize)>;

    /// Trained and fixed numbers of all models.
    fn parameters(&self) -> usize;

    /// Evaluates the first model, see [`hrm_infer::evaluate::evaluate`].
    fn evaluate(&self, puzzles: Evaluation, settings: EvalSettings) -> (EvalReport, Vec<Course>);

    /// Solves puzzles and gives each answer, with the place of its query, as soon as it is there; see
    /// [`hrm_infer::Solver::solve_each`].
    ///
    /// # Errors
    /// If options, puzzles and models do not fit together.
    fn solve_each(
        &self,
        puzzles: &dyn Puzzles,
        options: InferOptions,
        queries: &[Query],
        done: &mut dyn FnMut(usize, Answer),
    ) -> Result<(), InferError>;

    /// Solves puzzles and compares with the stated answers, counted in `done`; see [`hrm_infer::measure`].
    ///
    /// # Errors
    /// If options, puzzles and models do not fit together.
    fn measure(
        &self,
        puzzles: &dyn Puzzles,
        options: InferOptions,
        rows: &Rows,
        done: &AtomicUsize,
    ) -> Result<InferenceReport, InferError>;

    /// Accuracy against work, see [`hrm_infer::curve`].
    ///
    /// # Errors
    /// If options, puzzles and models do not fit together.
    fn curve(
        &self,
        puzzles: &dyn Puzzles,
        options: InferOptions,
        limits: CurveLimits,
        rows: &Rows,
    ) -> Result<Curve, InferError>;

    /// The first model with rows of its own for ARC tasks, trained on their demonstrations; see [`hrm_train::adapt`].
    ///
    /// # Errors
    /// If tasks and model do not fit together.
    fn adapt(
        &self,
        data: &Arc<ArcData>,
        rows: &[Option<u32>],
        options: AdaptOptions,
    ) -> Result<(Box<dyn Models>, AdaptReport), AdaptError>;

    /// Writes the first model in fp32.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn save(&self, path: &Path) -> Result<(), WeightsError>;
}

/// Why models cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Not one file was named.
    #[error("expected a checkpoint")]
    NoFile,
    /// A file that cannot be used.
    #[error("cannot load the model {}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: CheckpointError,
    },
    /// A model for other puzzles.
    #[error("the model {}", path.display())]
    Size {
        /// Its file.
        path: PathBuf,
        /// Why it does not fit.
        source: ModelError,
    },
}
