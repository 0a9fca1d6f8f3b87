//! Finding trained models: those that come with the program, and what a path on the command line means.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{Cursor, Read},
    path::Path,
};

use anyhow::{Context, Result, bail};
use hrm_data::registry::{Family, Shape};
use hrm_engine::Weights;
use hrm_model::{ModelConfig, weights::CONFIG_ENTRY};
use hrm_train::checkpoint;
use serde::Deserialize;

/// A folder with models to use in place of those in the program.
const FOLDER: &str = "HRM_CHECKPOINTS";

/// The bundled model of a name: in `$HRM_CHECKPOINTS` if that is set, else in the program.
fn named(name: &str) -> Option<Weights> {
    match env::var_os(FOLDER) {
        Some(folder) => {
            let file = Path::new(&folder).join(name).join("model.safetensors");
            file.is_file().then_some(Weights::File(file))
        }
        None => {
            let (name, bytes) = hrm_checkpoints::ALL.into_iter().find(|(known, _)| *known == name)?;
            Some(Weights::Bundled(name, bytes))
        }
    }
}

/// The bundled model for puzzles of a shape: one of that size, else one that is named by the family alone, for every size.
pub fn bundled(shape: Shape) -> Option<Weights> {
    named(&shape.folder()).or_else(|| named(shape.family().name()))
}

/// The names of all bundled models.
fn names() -> Vec<String> {
    match env::var_os(FOLDER) {
        Some(folder) => {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(|name| named(name).is_some()).collect()
        }
        None => hrm_checkpoints::ALL.map(|(name, _)| name.to_owned()).to_vec(),
    }
}

/// The sizes of a family with a bundled model, smallest first: `9x9`.
fn bundled_sizes(family: Family) -> Vec<String> {
    let size = |name: &String| Some(name.strip_prefix(family.name())?.strip_prefix('-')?.to_owned());
    let mut sizes: Vec<String> = names().iter().filter_map(size).collect();
    sizes.sort_by_key(|size| (size.len(), size.clone()));
    sizes
}

/// What to say when no bundled model fits.
pub fn no_bundled_model(shape: Shape) -> String {
    let family = shape.family();
    let sizes = bundled_sizes(family);
    let have = if sizes.is_empty() {
        "none is bundled here".to_owned()
    } else {
        format!("bundled: {}", sizes.join(", "))
    };
    let classical = family.methods().first().copied().unwrap_or_default();
    format!(
        "no model for {shape} puzzles ({have}); give one with --checkpoint, or answer with a classical solver: \
         --with {classical}"
    )
}

/// The weights that a path means: a file, a checkpoint folder, a run folder (its best checkpoint, else its newest), or the name
/// of a bundled model.
pub fn file(path: &Path) -> Result<Weights> {
    if path.exists() {
        return Ok(checkpoint::model_file(path)?.into());
    }
    if let Some(weights) = path.to_str().and_then(named) {
        return Ok(weights);
    }
    let bundled = match names().as_slice() {
        [] => String::new(),
        names => format!(", or the name of a model that comes with the program ({})", names.join(", ")),
    };
    bail!("{}: no such file or folder; expected a checkpoint{bundled}", path.display())
}

/// What there is to say of weights that are not finite, see [`hrm_model::weights::not_finite`]; nothing if there are none.
pub fn told_not_finite(bad: &[(String, usize)]) -> Option<String> {
    let (first, _) = bad.first()?;
    let count: usize = bad.iter().map(|(_, count)| count).sum();
    let names: Vec<&str> = bad.iter().take(3).map(|(name, _)| name.as_str()).collect();
    let more = if bad.len() > names.len() { ", ..." } else { "" };
    Some(match count {
        1 => format!("a weight of {first} is not finite (NaN or infinite)"),
        _ => format!("{count} weights are not finite (NaN or infinite), in {}{more}", names.join(", ")),
    })
}

/// Warns of models with weights that are not finite.
pub fn warn_not_finite(models: &dyn hrm_engine::Models) {
    if let Some(told) = told_not_finite(&models.not_finite()) {
        note!("warning: {told}; what the model computes is of no use");
    }
}

/// Whether a model works on puzzles of a shape.
pub fn fits(config: &ModelConfig, shape: Shape) -> bool {
    let (seq_len, vocab_size) = shape.tokens();
    config.on_puzzle(vocab_size, seq_len, hrm_infer::structure(shape)).is_ok()
}

/// What a safetensors file says about itself before the numbers come.
#[derive(Debug)]
pub struct Header {
    /// Whose it is.
    pub weights: Weights,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Entries such as `hrm.config`.
    pub metadata: BTreeMap<String, String>,
    /// Type and shape of every tensor.
    pub tensors: BTreeMap<String, TensorHeader>,
}

/// One tensor of a [`Header`].
#[derive(Debug, Deserialize)]
pub struct TensorHeader {
    /// `F32`, `BF16`, ...
    pub dtype: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Header {
    /// Reads the header of a file and checks that the file has the length that it promises.
    pub fn read(weights: &Weights) -> Result<Self> {
        let shown = weights.to_string();
        match weights {
            Weights::File(path) => {
                let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
                let metadata = file.metadata().with_context(|| format!("cannot read {shown}"))?;
                if !metadata.is_file() {
                    bail!("{shown}: not a file");
                }
                Self::parse(weights, file, metadata.len())
            }
            Weights::Bundled(_, bytes) => Self::parse(weights, Cursor::new(bytes), bytes.len() as u64),
        }
    }

    fn parse(weights: &Weights, mut file: impl Read, bytes: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default, rename = "__metadata__")]
            metadata: BTreeMap<String, String>,
            #[serde(flatten)]
            tensors: BTreeMap<String, TensorHeader>,
        }
        // The format's own limit for headers.
        const LONGEST: u64 = 100_000_000;
        let shown = weights;
        let mut length = [0; 8];
        if bytes < 8 {
            bail!("{shown}: not a safetensors file: {bytes} bytes long (truncated?)");
        }
        file.read_exact(&mut length).with_context(|| format!("cannot read {shown}"))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST {
            bail!("{shown}: not a safetensors file");
        }
        if length > bytes - 8 {
            bail!("{shown}: truncated: the header alone takes {} bytes, the file has {bytes}", length + 8);
        }
        let mut json = vec![0; length as usize];
        file.read_exact(&mut json).with_context(|| format!("cannot read {shown}"))?;
        let raw: Raw =
            serde_json::from_slice(&json).with_context(|| format!("{shown}: not a safetensors file"))?;
        let end = raw.tensors.values().map(|tensor| tensor.data_offsets.1).max().unwrap_or(0);
        let expected = end.saturating_add(8 + length);
        if expected != bytes {
            bail!("{shown}: truncated or damaged: expected {expected} bytes, got {bytes}");
        }
        for (name, TensorHeader { shape, .. }) in &raw.tensors {
            let count = shape.iter().try_fold(1u64, |count, size| count.checked_mul(*size as u64));
            if count.is_none_or(|count| count > bytes) {
                bail!("{shown}: damaged: tensor {name} of shape {shape:?} does not fit in {bytes} bytes");
            }
        }
        Ok(Self { weights: weights.clone(), bytes, metadata: raw.metadata, tensors: raw.tensors })
    }

    /// The model's configuration, which our files hold.
    pub fn config(&self) -> Result<ModelConfig> {
        let Some(json) = self.metadata.get(CONFIG_ENTRY) else {
            bail!(
                "{}: no model configuration inside; weights of the original are converted with `hrm import`",
                self.weights
            );
        };
        let shown = &self.weights;
        let config: ModelConfig =
            serde_json::from_str(json).with_context(|| format!("{shown}: unreadable model configuration"))?;
        config.validate().with_context(|| shown.to_string())?;
        Ok(config)
    }
}

/// Weights as they are told: a file as short as it can be said from here, or the name of a model and where it is.
pub fn told(weights: &Weights) -> String {
    match weights {
        Weights::File(path) => shown(path),
        Weights::Bundled(name, _) => format!("{name}, which comes with the program"),
    }
}

/// A path as short as it can be said from here.
pub fn shown(path: &Path) -> String {
    let here = env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    short.unwrap_or_else(|| path.to_owned()).display().to_string()
}

/// Writes a path into JSON, whatever bytes it is made of.
pub fn path_to_json<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// Makes sure that a file about to be written does not replace another one, nor a part of a checkpoint.
pub fn may_replace(path: &Path, force: bool) -> Result<()> {
    if path.with_file_name("state.json").is_file() {
        bail!(
            "{}: its folder is a checkpoint, of which each file counts; choose another folder",
            path.display()
        );
    }
    if path.exists() && !force {
        bail!("{} exists already; choose another name, or replace it with --force", path.display());
    }
    Ok(())
}

/// The same, and makes the folder of the file.
pub fn may_write(path: &Path, force: bool) -> Result<()> {
    may_replace(path, force)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    Ok(())
}
