//! The engine of every backend.

use std::path::Path;
#[cfg(feature = "mpi")]
use std::rc::Rc;
use std::sync::{Arc, atomic::AtomicUsize};

use hrm_backend::HrmBackend;
use hrm_data::{puzzles::arc::ArcData, registry::Shape};
use hrm_infer::{
    Answer, Curve, CurveLimits, InferError, InferOptions, InferenceReport, Puzzles, Query, Rows, Solver,
    curve,
    evaluate::{Alone, Course, EvalReport, EvalSettings, Evaluation, evaluate},
    measure, structure,
};
use hrm_model::{
    ForwardDtype, Hrm, ModelConfig,
    weights::{self, StateDict, WeightsError},
};
#[cfg(feature = "mpi")]
use hrm_train::distributed::{Team, mpi::Mpi};
use hrm_train::{
    adapt::{AdaptError, AdaptOptions, AdaptReport, adapt},
    checkpoint::{self, CheckpointError},
    recipe::ResolvedRecipe,
    trainer::{self, Observer, TrainError, TrainOptions, TrainSummary},
};

use crate::{Engine, LoadError, Models, Weights};

/// A backend on a device.
#[derive(Debug)]
pub(crate) struct On<B: HrmBackend> {
    device: B::Device,
}

impl<B: HrmBackend> On<B> {
    pub(crate) const fn new(device: B::Device) -> Self {
        Self { device }
    }

    fn model(&self, weights: &Weights) -> Result<Hrm<B>, CheckpointError> {
        match weights {
            Weights::File(path) => checkpoint::load_weights(path, &self.device),
            Weights::Bundled(name, bytes) => Ok(Hrm::decode(Path::new(name), bytes, &self.device)?),
        }
    }
}

impl<B: HrmBackend> Engine for On<B> {
    fn train(&self, options: TrainOptions, observer: &mut dyn Observer) -> Result<TrainSummary, TrainError> {
        trainer::train::<B>(options, &self.device, observer)
    }

    #[cfg(feature = "mpi")]
    fn train_over_mpi(
        &self,
        options: TrainOptions,
        mpi: Rc<Mpi>,
        observer: &mut dyn Observer,
    ) -> Result<TrainSummary, TrainError> {
        let team = Team::new(mpi, self.device.clone());
        trainer::train_in_team::<B>(options, &self.device, team, observer)
    }

    fn warm_up(&self, recipe: ResolvedRecipe, steps: u64) -> Result<Vec<f64>, TrainError> {
        trainer::warm_up::<B>(recipe, steps, &self.device)
    }

    fn settle(&self, recipe: ResolvedRecipe) -> ResolvedRecipe {
        recipe.on_backend::<B>(&self.device)
    }

    fn load(&self, files: &[Weights], shape: Option<Shape>) -> Result<Box<dyn Models>, LoadError> {
        let load = |weights: &Weights| {
            let path = || weights.path().to_owned();
            let model = self.model(weights).map_err(|source| LoadError::Weights { path: path(), source })?;
            let model = match shape {
                None => model,
                Some(shape) => {
                    let (seq_len, vocab_size) = shape.tokens();
                    model
                        .on_puzzle(vocab_size, seq_len, structure(shape))
                        .map_err(|source| LoadError::Size { path: path(), source })?
                }
            };
            Ok(match ForwardDtype::fastest::<B>(&self.device) {
                ForwardDtype::F32 => model.with_forward_dtype(ForwardDtype::F32),
                ForwardDtype::Bf16 => model,
            })
        };
        match files.iter().map(load).collect::<Result<Vec<_>, _>>()? {
            models if models.is_empty() => Err(LoadError::NoFile),
            models => Ok(Box::new(Loaded(models))),
        }
    }

    fn assemble(&self, config: &ModelConfig, weights: StateDict) -> Result<Box<dyn Models>, WeightsError> {
        let model = Hrm::<B>::from_state_dict(config, weights, &self.device)?;
        Ok(Box::new(Loaded(vec![model])))
    }

    fn export_original(&self, from: &Weights, to: &Path) -> Result<(), CheckpointError> {
        let model = self.model(from)?;
        Ok(model.export_original(to)?)
    }
}

/// At least one model.
#[derive(Debug)]
struct Loaded<B: HrmBackend>(Vec<Hrm<B>>);

impl<B: HrmBackend> Loaded<B> {
    fn solver<'a>(
        &self,
        puzzles: &'a dyn Puzzles,
        options: InferOptions,
    ) -> Result<Solver<'a, B>, InferError> {
        Solver::new(&self.all(), puzzles, options)
    }

    fn all(&self) -> Vec<&Hrm<B>> {
        self.0.iter().collect()
    }
}

impl<B: HrmBackend> Models for Loaded<B> {
    fn configs(&self) -> Vec<&ModelConfig> {
        self.0.iter().map(Hrm::config).collect()
    }

    fn not_finite(&self) -> Vec<(String, usize)> {
        self.0.iter().flat_map(|model| weights::not_finite(&model.state_dict())).collect()
    }

    fn parameters(&self) -> usize {
        self.0.iter().map(|model| model.parameter_table().parameters()).sum()
    }

    fn evaluate(&self, puzzles: Evaluation, settings: EvalSettings) -> (EvalReport, Vec<Course>) {
        let Ok(result) = evaluate(&self.0[0], puzzles, settings, &Alone);
        result
    }

    fn solve_each(
        &self,
        puzzles: &dyn Puzzles,
        options: InferOptions,
        queries: &[Query],
        done: &mut dyn FnMut(usize, Answer),
    ) -> Result<(), InferError> {
        self.solver(puzzles, options)?.solve_each(queries, done)
    }

    fn measure(
        &self,
        puzzles: &dyn Puzzles,
        options: InferOptions,
        rows: &Rows,
        done: &AtomicUsize,
    ) -> Result<InferenceReport, InferError> {
        measure(&self.solver(puzzles, options)?, puzzles, rows, done)
    }

    fn curve(
        &self,
        puzzles: &dyn Puzzles,
        options: InferOptions,
        limits: CurveLimits,
        rows: &Rows,
    ) -> Result<Curve, InferError> {
        curve(&self.all(), puzzles, options, limits, rows)
    }

    fn adapt(
        &self,
        data: &Arc<ArcData>,
        rows: &[Option<u32>],
        options: AdaptOptions,
    ) -> Result<(Box<dyn Models>, AdaptReport), AdaptError> {
        let (model, report) = adapt(&self.0[0], data, rows, options)?;
        Ok((Box::new(Loaded(vec![model])), report))
    }

    fn save(&self, path: &Path) -> Result<(), WeightsError> {
        self.0[0].save(path, ForwardDtype::F32)
    }
}
