//! Checkpoints: everything that a run needs to go on as if nothing had happened.
//!
//! A checkpoint is a folder `step-N` with
//! - `model.safetensors`: weights, with the model's configuration as metadata: usable alone;
//! - `ema.safetensors`: the same with averaged weights, where the recipe asks for them: what is evaluated and used;
//! - `train.safetensors`: the moments of every parameter, and the carry, if it is kept;
//! - `state.json`: step, sampler position, the recipe, and the SHA-256 of the other files and of itself.
//!
//! It is written under another name, flushed to disk and renamed, so a folder of that name is always whole; it is
//! renamed again before it is removed.
//!
//! Beside the checkpoints stand `last` and `best`: small JSON files that name a checkpoint (no links, so that they
//! survive any way of copying a run). A run means its best checkpoint where one is marked, and its newest otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use burn::{
    backend::Autodiff,
    tensor::{Bool, DType, Int, Tensor, TensorData, backend::Backend},
};
use hrm_backend::HrmBackend;
use hrm_data::checksum;
use hrm_model::{
    ForwardDtype, Hrm, ModelConfig, State,
    act::{Carry, PuzzleBatch},
    weights::{self, StateDict, WeightsError},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    disk,
    optim::{Ema, Moments, Optimizer, trained_weights},
    run::Written,
    trainer::Progress,
};

const FORMAT: u32 = 1;
const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const TRAIN: &str = "train.safetensors";
const STATE: &str = "state.json";
/// Extension of a checkpoint that is being written or removed.
const PARTIAL: &str = "partial";
/// Names the newest checkpoint.
const LAST: &str = "last";
/// Names the checkpoint with the best evaluation.
const BEST: &str = "best";

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
    /// A checkpoint of a later version of this program.
    #[error(
        "{path}: written by a newer version of this program (format {format}, this one reads up to {FORMAT}); \
         use that version, or a newer one"
    )]
    Newer {
        /// Which checkpoint.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// There is no checkpoint at a path.
    #[error(
        "{path}: no checkpoint here; expected the folder of a run that has one, a folder step-N, or a .safetensors file"
    )]
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
    /// What the run has learned about itself; runs of earlier versions had nothing to say.
    #[serde(default)]
    pub progress: Progress,
    /// Updates of each parameter.
    pub updates: BTreeMap<String, u64>,
    /// What `metrics.jsonl` was; runs of earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Written>,
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
        let path = entry.path();
        // `step-007` is the name of no checkpoint.
        if let Some(step) = step_of(&path).filter(|step| path.ends_with(folder_name(*step))) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// What a checkpoint is made of.
#[derive(Debug)]
pub struct Snapshot<'a, B: HrmBackend, S> {
    /// Steps done.
    pub step: u64,
    /// The run's recipe as TOML.
    pub recipe: &'a str,
    /// The model.
    pub model: &'a Hrm<Autodiff<B>>,
    /// The optimizer with its moments.
    pub optimizer: &'a Optimizer<B>,
    /// The averaged weights, if the run keeps them.
    pub ema: Option<&'a Ema<B>>,
    /// The carry, if it is to be kept.
    pub carry: Option<&'a Carry<B>>,
    /// Where the sampler stands.
    pub sampler: S,
    /// What the run has learned about itself.
    pub progress: &'a Progress,
    /// What the run has written to `metrics.jsonl`, and flushed.
    pub metrics: Option<Written>,
    /// Float type of the moments in the file.
    pub moments: ForwardDtype,
}

/// Which checkpoints stay; the one marked best always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// This many of the newest, at least one.
    pub newest: usize,
    /// Those of steps that are a multiple of this; 0 for none.
    pub every: u64,
}

/// The evaluation that made a checkpoint the best of its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The checkpoint's step.
    pub step: u64,
    /// What was compared, `exact_accuracy` for example.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// What `last` and `best` hold.
#[derive(Debug, Serialize, Deserialize)]
struct Pointer {
    /// Name of the checkpoint's folder.
    checkpoint: String,
    #[serde(flatten)]
    best: Option<Best>,
}

/// Writes a checkpoint into `folder`, then removes those that `retention` does not keep. Gives its path.
///
/// A whole checkpoint of the same step that is there already stays: the same step of the same run has the same
/// state.
///
/// # Errors
/// If something cannot be written; nothing that was there before is lost then.
pub fn save<B: HrmBackend, S: Serialize>(
    folder: &Path,
    snapshot: Snapshot<'_, B, S>,
    retention: Retention,
) -> Result<PathBuf, CheckpointError> {
    let step = snapshot.step;
    let target = folder.join(folder_name(step));
    if target.exists() {
        if verify(&target).is_ok() {
            return Ok(target);
        }
        remove(&target)?;
    }
    let partial = target.with_extension(PARTIAL);
    if partial.exists() {
        disk::remove_folder(&partial).map_err(io_at(&partial))?;
    }
    if !folder.exists() {
        // Not the folders above it: where the run is gone, nothing is to be made in its place.
        disk::create_folder(folder).map_err(io_at(folder))?;
        sync_folder(folder.parent().unwrap_or(Path::new("")))?;
    }
    let written = write_parts(&partial, snapshot)
        .and_then(|()| disk::rename(&partial, &target).map_err(io_at(&target)))
        .and_then(|()| sync_folder(folder))
        .and_then(|()| point(folder, LAST, step, None));
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    prune(folder, retention, step)?;
    Ok(target)
}

/// Writes every file of a checkpoint and flushes it to disk.
fn write_parts<B: HrmBackend, S: Serialize>(
    partial: &Path,
    snapshot: Snapshot<'_, B, S>,
) -> Result<(), CheckpointError> {
    let Snapshot { step, recipe, model, optimizer, ema, carry, sampler, progress, metrics, moments } =
        snapshot;
    disk::create_folder(partial).map_err(io_at(partial))?;
    let mut sha256 = BTreeMap::new();
    // Hashed in memory, on the way to the disk: reading back would show what the page cache holds, not the disk.
    let mut write = |name: &str, bytes: &[u8]| -> Result<(), CheckpointError> {
        sha256.insert(name.to_owned(), checksum::sha256(bytes));
        let file = partial.join(name);
        disk::write_flushed(&file, bytes).map_err(io_at(&file))
    };
    write(MODEL, &model.inner().encode(&partial.join(MODEL), ForwardDtype::F32)?)?;
    if let Some(ema) = ema.filter(|ema| !ema.weights.is_empty()) {
        write(EMA, &ema.apply(model.inner()).encode(&partial.join(EMA), ForwardDtype::F32)?)?;
    }
    let mut dict = carry.map_or_else(StateDict::new, carry_dict);
    let saved = |tensor: &Tensor<B, 1>| tensor.to_data().convert_dtype(moments.into());
    for (name, moments) in &optimizer.moments {
        dict.insert(format!("adam.m.{name}"), saved(&moments.m));
        if let Some(v) = &moments.v {
            dict.insert(format!("adam.v.{name}"), saved(v));
        }
    }
    write(TRAIN, &weights::encode_safetensors(&partial.join(TRAIN), &dict, Default::default())?)?;
    let state = TrainState {
        format: FORMAT,
        step,
        recipe: recipe.to_owned(),
        sampler,
        progress: progress.clone(),
        updates: optimizer.moments.iter().map(|(name, m)| (name.clone(), m.step)).collect(),
        metrics,
        sha256,
    };
    let path = partial.join(STATE);
    let json = serde_json::to_string_pretty(&state).map_err(io::Error::other).map_err(io_at(&path))?;
    disk::write_flushed(&path, seal(&json).as_bytes()).map_err(io_at(&path))?;
    sync_folder(partial)
}

/// Before and after the checksum of `state.json`, which is its last field.
const SEAL: (&str, &str) = (",\n  \"checksum\": \"", "\"\n}");

/// The JSON of an object with one more field: the SHA-256 of what it was.
fn seal(json: &str) -> String {
    let open = json.strip_suffix("\n}").unwrap_or(json);
    format!("{open}{}{}{}", SEAL.0, checksum::sha256(json.as_bytes()), SEAL.1)
}

/// Whether a sealed text is what was written; `None` for one without a seal, as earlier versions wrote.
fn seal_holds(text: &[u8]) -> Option<bool> {
    let (before, after) = (SEAL.0.as_bytes(), SEAL.1.as_bytes());
    let (open, sum) = text.strip_suffix(after)?.split_last_chunk::<64>()?;
    let open = open.strip_suffix(before)?;
    Some(checksum::sha256(&[open, b"\n}"].concat()).as_bytes() == sum)
}

/// Marks a checkpoint of `folder` as the best of its run, which keeps it and makes it what the run means.
///
/// # Errors
/// If the mark cannot be written.
pub fn mark_best(folder: &Path, best: &Best) -> Result<(), CheckpointError> {
    point(folder, BEST, best.step, Some(best.clone()))
}

/// The evaluation of the checkpoint that is marked best, if one is and is still there.
pub fn best(folder: &Path) -> Option<Best> {
    match mark(folder) {
        Mark::Best(best) => Some(best),
        Mark::None | Mark::Damaged => None,
    }
}

/// What to say of a file `best` that is there but cannot be read.
pub fn damaged_mark(folder: &Path) -> Option<String> {
    matches!(mark(folder), Mark::Damaged).then(|| {
        format!(
            "{} is damaged, so it is not known which checkpoint is the best: none is removed until an evaluation is \
             better than all before; remove the file if that does not matter",
            folder.join(BEST).display()
        )
    })
}

/// What `best` says.
enum Mark {
    None,
    Damaged,
    Best(Best),
}

fn mark(folder: &Path) -> Mark {
    let file = folder.join(BEST);
    match pointed_at(&file) {
        // A mark whose checkpoint is gone means nothing.
        Some((path, Some(best))) if path == folder.join(folder_name(best.step)) => match path.is_dir() {
            true => Mark::Best(best),
            false => Mark::None,
        },
        _ if file.exists() => Mark::Damaged,
        _ => Mark::None,
    }
}

fn point(folder: &Path, name: &str, step: u64, best: Option<Best>) -> Result<(), CheckpointError> {
    let path = folder.join(name);
    let pointer = Pointer { checkpoint: folder_name(step), best };
    let json = serde_json::to_vec(&pointer).map_err(io::Error::other).map_err(io_at(&path))?;
    disk::replace(&path, &json).map_err(io_at(&path))
}

/// The folder that a pointer file names, and the evaluation it was marked for; `None` if it is no pointer file.
fn pointed_at(pointer: &Path) -> Option<(PathBuf, Option<Best>)> {
    // Weights are far larger: never read as text.
    const LONGEST: u64 = 4096;
    if fs::metadata(pointer).ok().is_none_or(|file| !file.is_file() || file.len() > LONGEST) {
        return None;
    }
    let Pointer { checkpoint, best } = serde_json::from_slice(&fs::read(pointer).ok()?).ok()?;
    // A name beside it, and nothing elsewhere.
    step_of(Path::new(&checkpoint)).filter(|step| folder_name(*step) == checkpoint)?;
    Some((pointer.with_file_name(checkpoint), best))
}

/// The step that a folder's name tells.
fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

/// Removes the checkpoints that the policy does not keep. The one of step `written`, which was written just now, always stays.
/// One that is damaged is no use: it takes no place among the newest, and goes with those that are older than these.
fn prune(folder: &Path, retention: Retention, written: u64) -> Result<(), CheckpointError> {
    let best = match mark(folder) {
        Mark::Damaged => return Ok(()),
        Mark::Best(best) => Some(best.step),
        Mark::None => None,
    };
    // The best one is kept besides the newest ones: it takes the place of none of them.
    let mut all = list(folder)?;
    all.retain(|(step, _)| best != Some(*step));
    let newest = retention.newest.max(1);
    if all.len() <= newest {
        return Ok(());
    }
    let mut kept = BTreeSet::from([written]);
    for (step, path) in all.iter().rev() {
        if kept.len() < newest && *step != written && verify(path).is_ok() {
            kept.insert(*step);
        }
    }
    // Newer than all that are kept: left by a run that went further, and damaged, or it would have gone on from there.
    let last = kept.last().copied().unwrap_or(written);
    for (step, path) in all {
        let milestone = retention.every > 0 && step.is_multiple_of(retention.every);
        if !kept.contains(&step) && !milestone && step < last {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a checkpoint; killed in between, it leaves no half of one under its name.
fn remove(path: &Path) -> Result<(), CheckpointError> {
    let partial = path.with_extension(PARTIAL);
    if partial.exists() {
        disk::remove_folder(&partial).map_err(io_at(&partial))?;
    }
    disk::rename(path, &partial).map_err(io_at(path))?;
    disk::remove_folder(&partial).map_err(io_at(&partial))
}

/// Removes what a killed process left half-written.
///
/// # Errors
/// If the folder cannot be read or something in it not be removed.
pub fn remove_partial(folder: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(folder).map_err(io_at(folder))? {
        let path = entry.map_err(io_at(folder))?.path();
        if path.extension().is_some_and(|extension| extension == PARTIAL) {
            // A checkpoint is a folder, a pointer a file.
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(io_at(&path))?;
        }
    }
    Ok(())
}

/// Names the file or folder of an error.
fn io_at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + use<> {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

/// Flushes a folder's entries to disk.
fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    disk::flush_folder(folder).map_err(io_at(folder))
}

/// A run's state as a checkpoint holds it.
#[derive(Debug)]
pub struct Loaded<B: HrmBackend, S> {
    /// The model.
    pub model: Hrm<Autodiff<B>>,
    /// What the optimizer remembers, by parameter.
    pub moments: BTreeMap<String, Moments<B>>,
    /// The averaged weights by parameter, if the run keeps them.
    pub ema: Option<BTreeMap<String, Tensor<B, 1>>>,
    /// The carry, if it was kept.
    pub carry: Option<Carry<B>>,
    /// Step, sampler, recipe.
    pub state: TrainState<S>,
}

/// Reads the newest whole checkpoint of a folder; `None` if there is none at all. `sound` says what is wrong with a state that
/// no run can have been in. `warn` hears of each damaged one that was passed over.
///
/// # Errors
/// If every checkpoint is damaged, or the newest undamaged one cannot be read for another reason (permissions, a
/// newer version): going further back would lose steps that are there.
pub fn load_newest<B: HrmBackend, S: for<'de> Deserialize<'de>>(
    folder: &Path,
    device: &B::Device,
    sound: impl Fn(&TrainState<S>) -> Result<(), String>,
    mut warn: impl FnMut(&str),
) -> Result<Option<Loaded<B, S>>, CheckpointError> {
    let all = list(folder)?;
    for (_, path) in all.iter().rev() {
        let loaded = load(path, device).and_then(|loaded: Loaded<B, S>| match sound(&loaded.state) {
            Ok(()) => Ok(loaded),
            Err(reason) => {
                Err(CheckpointError::Damaged { path: path.clone(), reason: format!("{STATE}: {reason}") })
            }
        });
        match loaded {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) if error.is_damage() => warn(&format!("warning: {error}; trying the one before")),
            Err(error) => return Err(error),
        }
    }
    match all.is_empty() {
        true => Ok(None),
        false => Err(CheckpointError::Absent { path: folder.to_owned() }),
    }
}

impl CheckpointError {
    /// Whether a checkpoint is not what was written, and no longer will be.
    fn is_damage(&self) -> bool {
        let absent = |source: &io::Error| source.kind() == io::ErrorKind::NotFound;
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } | Self::Weights(WeightsError::Io { source, .. }) => absent(source),
            Self::Weights(_) => true,
            Self::Newer { .. } | Self::Absent { .. } => false,
        }
    }
}

/// Checks that every file of a checkpoint folder is as it was written.
///
/// # Errors
/// [`CheckpointError::Damaged`] if a file is truncated or altered, [`CheckpointError::Io`] if it is missing.
pub fn verify(path: &Path) -> Result<(), CheckpointError> {
    read_verified::<serde::de::IgnoredAny>(path).map(|_| ())
}

fn read_verified<S: for<'de> Deserialize<'de>>(path: &Path) -> Result<TrainState<S>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let state: TrainState<S> = read_state(path)?;
    if let Some(step) = step_of(path).filter(|step| *step != state.step) {
        return Err(damaged(format!("{STATE} is of step {}, the folder of step {step}", state.step)));
    }
    if let Some(name) = state.sha256.keys().find(|name| ![MODEL, EMA, TRAIN].contains(&name.as_str())) {
        return Err(damaged(format!("{STATE} has a checksum of {name:?}, which is no part of a checkpoint")));
    }
    for name in [MODEL, TRAIN] {
        if !state.sha256.contains_key(name) {
            return Err(damaged(format!("no checksum of {name}")));
        }
    }
    for (name, expected) in &state.sha256 {
        let file = path.join(name);
        if checksum::sha256_of_file(&file).map_err(io_at(&file))? != *expected {
            return Err(damaged(format!("{name} is not what was written (checksum differs)")));
        }
    }
    Ok(state)
}

/// Reads a checkpoint folder after checking that every file is as it was written.
///
/// # Errors
/// [`CheckpointError::Damaged`] if a file is truncated or altered, [`CheckpointError::Io`] if it is missing.
pub fn load<B: HrmBackend, S: for<'de> Deserialize<'de>>(
    path: &Path,
    device: &B::Device,
) -> Result<Loaded<B, S>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let state: TrainState<S> = read_verified(path)?;
    let weights = |name: &str| match Hrm::<Autodiff<B>>::load(&path.join(name), device) {
        Err(error @ WeightsError::Mismatch { .. }) => Err(damaged(format!("{name}: {error}"))),
        loaded => Ok(loaded?),
    };
    let model = weights(MODEL)?;
    let trained = trained_weights(&model);
    let ema = match state.sha256.contains_key(EMA) {
        true => {
            let averaged = weights(EMA)?;
            if averaged.config() != model.config() {
                return Err(damaged(format!("{EMA} and {MODEL} are of different models")));
            }
            // A model that is not finite is told at its first step. Its average would stay so unnoticed.
            if let Some((name, _)) = weights::not_finite(&averaged.state_dict()).first() {
                return Err(damaged(format!("{EMA}: {name} is not finite")));
            }
            Some(trained_weights(&averaged))
        }
        false => None,
    };
    let (mut dict, _) = weights::read_safetensors(&path.join(TRAIN))?;
    let mut moments = BTreeMap::new();
    for (name, step) in &state.updates {
        let expected = trained.get(name).map(|weight| weight.dims()[0]);
        let expected =
            expected.ok_or_else(|| damaged(format!("{STATE}: {name:?} is no weight of the model")))?;
        if *step > state.step {
            return Err(damaged(format!(
                "{STATE}: {name} has had {step} updates after {} steps",
                state.step
            )));
        }
        let mut moment = |kind: &str| -> Result<_, CheckpointError> {
            let key = format!("adam.{kind}.{name}");
            let Some(data) = dict.remove(&key) else { return Ok(None) };
            if *data.shape != [expected] || !data.dtype.is_float() {
                let found = format!("{:?} of shape {:?}", data.dtype, &*data.shape);
                return Err(damaged(format!("{TRAIN}: {key} is {found}; expected {expected} floats")));
            }
            if !data.iter::<f32>().all(f32::is_finite) {
                return Err(damaged(format!("{TRAIN}: {key} is not finite")));
            }
            Ok(Some(Tensor::from_data(data.convert_dtype(DType::F32), device)))
        };
        let m = moment("m")?.ok_or_else(|| damaged(format!("{TRAIN} lacks the first moment of {name}")))?;
        moments.insert(name.clone(), Moments { step: *step, m, v: moment("v")? });
    }
    let kept = dict.keys().any(|key| key.starts_with("carry."));
    let take = |key: &str| dict.remove(key).ok_or_else(|| damaged(format!("{TRAIN} lacks {key}")));
    let carry = kept.then(|| load_carry(path, model.config(), device, take)).transpose()?;
    Ok(Loaded { model, moments, ema, carry, state })
}

/// Reads only `state.json`.
///
/// # Errors
/// If it is absent, not readable, or of a newer version.
pub fn read_state<S: for<'de> Deserialize<'de>>(path: &Path) -> Result<TrainState<S>, CheckpointError> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let file = path.join(STATE);
    let text = weights::read_file(&file)?;
    let damaged = |e: serde_json::Error| CheckpointError::Damaged {
        path: path.to_owned(),
        reason: format!("{STATE}: {e}"),
    };
    let sealed = seal_holds(&text);
    if sealed == Some(false) {
        return Err(CheckpointError::Damaged {
            path: path.to_owned(),
            reason: format!("{STATE} is not what was written (checksum differs)"),
        });
    }
    let Version { format } = serde_json::from_slice(&text).map_err(damaged)?;
    if format > FORMAT {
        return Err(CheckpointError::Newer { path: path.to_owned(), format });
    }
    if sealed.is_none() {
        // Only earlier versions wrote no seal, and they had no other fields: this one is a seal that was hit.
        const FIELDS: [&str; 7] = ["format", "step", "recipe", "sampler", "progress", "updates", "sha256"];
        let fields: BTreeMap<String, serde::de::IgnoredAny> =
            serde_json::from_slice(&text).map_err(damaged)?;
        if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            return Err(CheckpointError::Damaged {
                path: path.to_owned(),
                reason: format!("{STATE} has a field {field:?} but no checksum"),
            });
        }
    }
    serde_json::from_slice(&text).map_err(damaged)
}

/// The file with the weights that a path means: the file itself, a checkpoint's (the averaged ones, if there are),
/// that of the checkpoint that `best` or `last` names, or that of a run: of its best checkpoint where one is
/// marked, and of its newest otherwise.
///
/// # Errors
/// [`CheckpointError::Absent`] if there is none, [`CheckpointError::Damaged`] if a mark cannot be read.
pub fn model_file(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        return Ok(match pointed_at(path) {
            Some((checkpoint, _)) => used_weights(&checkpoint).unwrap_or_else(|| checkpoint.join(MODEL)),
            None => path.to_owned(),
        });
    }
    if let Some(file) = used_weights(path) {
        return Ok(file);
    }
    for folder in [path.join("checkpoints"), path.to_owned()] {
        if !folder.is_dir() {
            continue;
        }
        let best = match mark(&folder) {
            Mark::Best(best) => Some(folder.join(folder_name(best.step))),
            Mark::None => None,
            Mark::Damaged => {
                return Err(CheckpointError::Damaged {
                    path: folder.join(BEST),
                    reason: "it does not name a checkpoint; name one yourself, or remove the file to use the newest"
                        .to_owned(),
                });
            }
        };
        if let Some(file) = best.and_then(|checkpoint| used_weights(&checkpoint)) {
            return Ok(file);
        }
        if let Some((_, newest)) = list(&folder)?.pop() {
            return Ok(used_weights(&newest).unwrap_or_else(|| newest.join(MODEL)));
        }
    }
    Err(CheckpointError::Absent { path: path.to_owned() })
}

/// The weights of a checkpoint that are evaluated and used: the averaged ones, if there are.
fn used_weights(checkpoint: &Path) -> Option<PathBuf> {
    [EMA, MODEL].map(|name| checkpoint.join(name)).into_iter().find(|file| file.is_file())
}

/// Checks a file of weights against the SHA-256 that `state.json` beside it tells of it; weights that stand alone pass.
///
/// # Errors
/// [`CheckpointError::Damaged`] if it is not what was written, or `state.json` is not.
pub fn verify_weights(file: &Path) -> Result<(), CheckpointError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if ![MODEL, EMA].contains(&name) || !folder.join(STATE).exists() {
        return Ok(());
    }
    let state: TrainState<serde::de::IgnoredAny> = read_state(folder)?;
    let damaged = |reason: &str| CheckpointError::Damaged {
        path: folder.to_owned(),
        reason: format!("{name} {reason}; if there is another checkpoint of the run, use that"),
    };
    let expected = state.sha256.get(name).ok_or_else(|| damaged("has no checksum in state.json"))?;
    match checksum::sha256_of_file(file).map_err(io_at(file))? == *expected {
        true => Ok(()),
        false => Err(damaged("is not what was written (checksum differs)")),
    }
}

/// Loads the model of a file of weights after [`verify_weights`].
///
/// # Errors
/// If it is not what was written, or cannot be read.
pub fn load_weights<B: HrmBackend>(file: &Path, device: &B::Device) -> Result<Hrm<B>, CheckpointError> {
    verify_weights(file)?;
    Ok(Hrm::load(file, device)?)
}

/// Loads the model that a path means, see [`model_file`].
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn load_model<B: HrmBackend>(path: &Path, device: &B::Device) -> Result<Hrm<B>, CheckpointError> {
    load_weights(&model_file(path)?, device)
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
    path: &Path,
    config: &ModelConfig,
    device: &B::Device,
    mut take: impl FnMut(&str) -> Result<TensorData, CheckpointError>,
) -> Result<Carry<B>, CheckpointError> {
    let steps = take("carry.steps")?;
    let slots = steps.shape.first().copied().unwrap_or(0);
    let checked = |key: &str, data: TensorData, shape: &[usize], is_float: bool| match *data.shape == *shape
        && data.dtype.is_float() == is_float
    {
        true => Ok(data),
        false => Err(CheckpointError::Damaged {
            path: path.to_owned(),
            reason: format!(
                "{TRAIN}: {key} is {:?} of shape {:?}; expected {} of shape {shape:?}",
                data.dtype,
                &*data.shape,
                if is_float { "floats" } else { "whole numbers" }
            ),
        }),
    };
    let dtype: DType = config.forward_dtype.into();
    let mut int = |key: &str, shape: &[usize], below: usize| -> Result<TensorData, CheckpointError> {
        let data = match key {
            "carry.steps" => steps.clone(),
            _ => take(key)?,
        };
        let data = checked(key, data, shape, false)?;
        // A label below 0 is a cell that does not count.
        let least = if key == "carry.labels" { i64::MIN } else { 0 };
        let wrong = data.iter::<i64>().find(|value| *value < least || *value >= below as i64);
        match wrong {
            None => Ok(data.convert::<B::IntElem>()),
            Some(value) => Err(CheckpointError::Damaged {
                path: path.to_owned(),
                reason: format!("{TRAIN}: {key} holds {value}; expected 0 to {}", below - 1),
            }),
        }
    };
    let cells = [slots, config.seq_len];
    let steps: Tensor<B, 1, Int> =
        Tensor::from_data(int("carry.steps", &[slots], config.halt_max_steps + 1)?, device);
    let halted: Tensor<B, 1, Bool> =
        Tensor::<B, 1, Int>::from_data(int("carry.halted", &[slots], 2)?, device).equal_elem(1);
    let batch = PuzzleBatch {
        inputs: Tensor::from_data(int("carry.inputs", &cells, config.vocab_size)?, device),
        labels: Tensor::from_data(int("carry.labels", &cells, config.vocab_size)?, device),
        puzzle_identifiers: Tensor::from_data(
            int("carry.puzzle_identifiers", &[slots], config.num_puzzle_identifiers)?,
            device,
        ),
    };
    let states = [slots, config.total_len(), config.hidden_size];
    let mut state = |key: &str| -> Result<Tensor<B, 3>, CheckpointError> {
        Ok(Tensor::from_data(checked(key, take(key)?, &states, true)?, (device, dtype)))
    };
    let state = State { z_h: state("carry.z_h")?, z_l: state("carry.z_l")? };
    Ok(Carry { state, steps, halted, batch })
}
