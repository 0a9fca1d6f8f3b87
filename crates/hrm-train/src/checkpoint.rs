//! Checkpoints: everything that a run needs to go on as if nothing had happened.
//!
//! A checkpoint is a folder `step-N` with
//! - `model.safetensors`: weights, with the model's configuration as metadata: usable alone;
//! - `ema.safetensors`: the same with averaged weights, where the recipe asks for them: what is evaluated and used;
//! - `train.safetensors`: the moments of every parameter, and the carry;
//! - `state.json`: step, sampler position, the recipe, and the SHA-256 of the other files.
//!
//! It is written under another name, flushed to disk and renamed, so a folder of that name is always whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use burn::tensor::{Bool, DType, Int, Tensor, TensorData, backend::Backend};
use hrm_backend::{HrmAutodiffBackend, HrmBackend};
use hrm_model::{
    ForwardDtype, Hrm, ModelConfig, State,
    act::{Carry, PuzzleBatch},
    weights::{self, StateDict, WeightsError},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::optim::{Ema, Moments, Optimizer, trained_weights};

const FORMAT: u32 = 1;
const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const TRAIN: &str = "train.safetensors";
const STATE: &str = "state.json";
/// Extension of a checkpoint that is being written.
const PARTIAL: &str = "partial";

/// What can go wrong with checkpoints.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Weights cannot be read or do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file is not what was written.
    #[error("{path}: damaged checkpoint: {reason}")]
    Damaged {
        /// Which checkpoint.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no checkpoint at a path.
    #[error("{path}: no checkpoint here; expected a run folder, a folder step-N, or a .safetensors file")]
    Absent {
        /// Where.
        path: PathBuf,
    },
}

/// What `state.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainState<S> {
    /// Version of this layout.
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// The run's recipe as TOML.
    pub recipe: String,
    /// Where the sampler stands.
    pub sampler: S,
    /// Updates of each parameter.
    pub updates: BTreeMap<String, u64>,
    /// SHA-256 of the other files.
    pub sha256: BTreeMap<String, String>,
}

/// The name of a step's checkpoint.
pub fn folder_name(step: u64) -> String {
    format!("step-{step}")
}

/// The checkpoints in a folder, oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let io = |source| CheckpointError::Io { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if let Some(step) =
            entry.file_name().to_str().and_then(|n| n.strip_prefix("step-")).and_then(|n| n.parse().ok())
        {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a checkpoint into `folder` and removes the oldest beyond `keep`. Gives its path.
///
/// # Errors
/// If something cannot be written; nothing that was there before is lost then.
#[expect(clippy::too_many_arguments, reason = "the parts of a run's state, each named")]
pub fn save<A: HrmAutodiffBackend, S: Serialize>(
    folder: &Path,
    step: u64,
    recipe: &str,
    model: &Hrm<A>,
    optimizer: &Optimizer<A::InnerBackend>,
    ema: Option<&Ema<A::InnerBackend>>,
    carry: &Carry<A::InnerBackend>,
    sampler: S,
    keep: usize,
) -> Result<PathBuf, CheckpointError> {
    let target = folder.join(folder_name(step));
    let partial = folder.join(folder_name(step)).with_extension(PARTIAL);
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(io_at(&partial))?;
    }
    fs::create_dir_all(&partial).map_err(io_at(&partial))?;
    let written = (|| {
        model.inner().save(&partial.join(MODEL), ForwardDtype::F32)?;
        let mut files = vec![MODEL, TRAIN];
        if let Some(ema) = ema {
            ema.apply(model.inner()).save(&partial.join(EMA), ForwardDtype::F32)?;
            files.push(EMA);
        }
        let mut dict = carry_dict(carry);
        for (name, moments) in &optimizer.moments {
            dict.insert(format!("adam.m.{name}"), moments.m.clone().into_data());
            if let Some(v) = &moments.v {
                dict.insert(format!("adam.v.{name}"), v.clone().into_data());
            }
        }
        weights::write_safetensors(&partial.join(TRAIN), &dict, Default::default())?;
        let sha256 = files
            .into_iter()
            .map(|name| Ok((name.to_owned(), hash(&partial.join(name))?)))
            .collect::<Result<_, CheckpointError>>()?;
        let state = TrainState {
            format: FORMAT,
            step,
            recipe: recipe.to_owned(),
            sampler,
            updates: optimizer.moments.iter().map(|(name, m)| (name.clone(), m.step)).collect(),
            sha256,
        };
        let json = serde_json::to_vec_pretty(&state).map_err(io::Error::other).map_err(io_at(&partial))?;
        let path = partial.join(STATE);
        weights::write_atomically(&path, &json).map_err(io_at(&path))?;
        if target.exists() {
            // The same step again (a resumed run that stopped at once): the new one replaces it.
            fs::remove_dir_all(&target).map_err(io_at(&target))?;
        }
        sync_folder(&partial);
        fs::rename(&partial, &target).map_err(io_at(&target))
    })();
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    sync_folder(folder);
    let all = list(folder)?;
    for (_, old) in &all[..all.len().saturating_sub(keep)] {
        fs::remove_dir_all(old).map_err(io_at(old))?;
    }
    Ok(target)
}

/// Removes what a killed process left half-written.
///
/// # Errors
/// If the folder cannot be read or something in it not be removed.
pub fn remove_partial(folder: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(folder).map_err(io_at(folder))? {
        let path = entry.map_err(io_at(folder))?.path();
        if path.extension().is_some_and(|extension| extension == PARTIAL) {
            fs::remove_dir_all(&path).map_err(io_at(&path))?;
        }
    }
    Ok(())
}

/// Names the file or folder of an error.
fn io_at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + use<> {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

/// Flushes a folder's entries to disk, where the system can.
fn sync_folder(folder: &Path) {
    if let Ok(file) = File::open(folder) {
        let _ = file.sync_all();
    }
}

/// A run's state as a checkpoint holds it.
#[derive(Debug)]
pub struct Loaded<A: HrmAutodiffBackend, S> {
    /// The model.
    pub model: Hrm<A>,
    /// What the optimizer remembers, by parameter.
    pub moments: BTreeMap<String, Moments<A::InnerBackend>>,
    /// The averaged weights by parameter, if the run keeps them.
    pub ema: Option<BTreeMap<String, Tensor<A::InnerBackend, 1>>>,
    /// The carry.
    pub carry: Carry<A::InnerBackend>,
    /// Step, sampler, recipe.
    pub state: TrainState<S>,
}

/// Reads a checkpoint folder after checking that every file is as it was written.
///
/// # Errors
/// [`CheckpointError::Damaged`] if a file is truncated, altered or missing.
pub fn load<A: HrmAutodiffBackend, S: for<'de> Deserialize<'de>>(
    path: &Path,
    device: &A::Device,
) -> Result<Loaded<A, S>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let state: TrainState<S> = read_state(path)?;
    for name in [MODEL, TRAIN] {
        if !state.sha256.contains_key(name) {
            return Err(damaged(format!("no checksum of {name}")));
        }
    }
    for (name, expected) in &state.sha256 {
        if hash(&path.join(name))? != *expected {
            return Err(damaged(format!("{name} is not what was written (checksum differs)")));
        }
    }
    let model = Hrm::load(&path.join(MODEL), device)?;
    let ema = match state.sha256.contains_key(EMA) {
        true => Some(trained_weights::<A>(&Hrm::load(&path.join(EMA), device)?)),
        false => None,
    };
    let (mut dict, _) = weights::read_safetensors(&path.join(TRAIN))?;
    let mut moments = BTreeMap::new();
    for (name, step) in &state.updates {
        let mut moment = |kind: &str| dict.remove(&format!("adam.{kind}.{name}"));
        let m = moment("m").ok_or_else(|| damaged(format!("{TRAIN} lacks the first moment of {name}")))?;
        let v = moment("v").map(|v| Tensor::from_data(v, device));
        moments.insert(name.clone(), Moments { step: *step, m: Tensor::from_data(m, device), v });
    }
    let take = |key: &str| dict.remove(key).ok_or_else(|| damaged(format!("{TRAIN} lacks {key}")));
    let carry = load_carry(model.config(), device, take)?;
    Ok(Loaded { model, moments, ema, carry, state })
}

/// Reads only `state.json`.
///
/// # Errors
/// If it is absent, not readable, or of a newer version.
pub fn read_state<S: for<'de> Deserialize<'de>>(path: &Path) -> Result<TrainState<S>, CheckpointError> {
    let file = path.join(STATE);
    let text =
        fs::read_to_string(&file).map_err(|source| CheckpointError::Io { path: file.clone(), source })?;
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let state: TrainState<S> = serde_json::from_str(&text).map_err(|e| damaged(format!("{STATE}: {e}")))?;
    if state.format > FORMAT {
        return Err(damaged(format!(
            "written by a newer version (format {}, this one reads up to {FORMAT})",
            state.format
        )));
    }
    Ok(state)
}

/// The file with the weights that a path means: the file itself, a checkpoint's (the averaged ones, if there are), or
/// that of a run's newest checkpoint.
///
/// # Errors
/// [`CheckpointError::Absent`] if there is none.
pub fn model_file(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    if let Some(file) = best_weights(path) {
        return Ok(file);
    }
    for folder in [path.join("checkpoints"), path.to_owned()] {
        if folder.is_dir()
            && let Some((_, newest)) = list(&folder)?.pop()
        {
            return Ok(best_weights(&newest).unwrap_or_else(|| newest.join(MODEL)));
        }
    }
    Err(CheckpointError::Absent { path: path.to_owned() })
}

fn best_weights(checkpoint: &Path) -> Option<PathBuf> {
    [EMA, MODEL].map(|name| checkpoint.join(name)).into_iter().find(|file| file.is_file())
}

/// Loads the model that a path means, see [`model_file`].
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn load_model<B: HrmBackend>(path: &Path, device: &B::Device) -> Result<Hrm<B>, CheckpointError> {
    Ok(Hrm::load(&model_file(path)?, device)?)
}

fn hash(path: &Path) -> Result<String, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(io)?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn carry_dict<B: Backend>(carry: &Carry<B>) -> StateDict {
    let Carry { state, steps, halted, batch } = carry.clone();
    StateDict::from([
        ("carry.z_h".to_owned(), state.z_h.into_data()),
        ("carry.z_l".to_owned(), state.z_l.into_data()),
        ("carry.steps".to_owned(), steps.into_data().convert_dtype(DType::I64)),
        ("carry.halted".to_owned(), halted.int().into_data().convert_dtype(DType::I64)),
        ("carry.inputs".to_owned(), batch.inputs.into_data().convert_dtype(DType::I64)),
        ("carry.labels".to_owned(), batch.labels.into_data().convert_dtype(DType::I64)),
        (
            "carry.puzzle_identifiers".to_owned(),
            batch.puzzle_identifiers.into_data().convert_dtype(DType::I64),
        ),
    ])
}

fn load_carry<B: Backend>(
    config: &ModelConfig,
    device: &B::Device,
    mut take: impl FnMut(&str) -> Result<TensorData, CheckpointError>,
) -> Result<Carry<B>, CheckpointError> {
    let dtype: DType = config.forward_dtype.into();
    let mut int =
        |key: &str| -> Result<TensorData, CheckpointError> { Ok(take(key)?.convert::<B::IntElem>()) };
    let steps: Tensor<B, 1, Int> = Tensor::from_data(int("carry.steps")?, device);
    let halted: Tensor<B, 1, Bool> =
        Tensor::<B, 1, Int>::from_data(int("carry.halted")?, device).equal_elem(1);
    let batch = PuzzleBatch {
        inputs: Tensor::from_data(int("carry.inputs")?, device),
        labels: Tensor::from_data(int("carry.labels")?, device),
        puzzle_identifiers: Tensor::from_data(int("carry.puzzle_identifiers")?, device),
    };
    let state = State {
        z_h: Tensor::from_data(take("carry.z_h")?, (device, dtype)),
        z_l: Tensor::from_data(take("carry.z_l")?, (device, dtype)),
    };
    Ok(Carry { state, steps, halted, batch })
}
