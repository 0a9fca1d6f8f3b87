//! Finding trained models: those that come with the program, and what a path on the command line means.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_data::registry::{Family, Shape};
use hrm_model::{ModelConfig, weights::CONFIG_ENTRY};
use hrm_train::checkpoint;
use serde::Deserialize;

/// The folders that may hold bundled models, first come first served: `$HRM_CHECKPOINTS`, `checkpoints` beside
/// the program, `checkpoints` of the workspace that the program was built in.
fn roots() -> Vec<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("checkpoints")));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints");
    match env::var_os("HRM_CHECKPOINTS") {
        Some(folder) => vec![folder.into()],
        None => beside.into_iter().chain([workspace]).collect(),
    }
}

/// The bundled model for puzzles of a shape.
pub fn bundled(shape: Shape) -> Option<PathBuf> {
    let mut candidates = roots().into_iter().map(|root| root.join(shape.folder()).join("model.safetensors"));
    let found = candidates.find(|file| file.is_file())?;
    Some(found.canonicalize().unwrap_or(found))
}

/// The sizes of a family with a bundled model, smallest first: `9x9`.
fn bundled_sizes(family: Family) -> Vec<String> {
    let names = roots().into_iter().flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
    let names = names.filter(|entry| entry.path().join("model.safetensors").is_file());
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut sizes: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix(family.name())?.strip_prefix('-')?.to_owned()))
        .collect();
    sizes.sort_by_key(|size| (size.len(), size.clone()));
    sizes.dedup();
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

/// The file with the weights that a path means: a file, a checkpoint folder, or a run folder (its newest
/// checkpoint).
pub fn file(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        bail!("{}: no such file or folder; expected a checkpoint", path.display());
    }
    Ok(checkpoint::model_file(path)?)
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
        eprintln!("warning: {told}; what the model computes is of no use");
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
    /// The file.
    pub path: PathBuf,
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
    pub fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default, rename = "__metadata__")]
            metadata: BTreeMap<String, String>,
            #[serde(flatten)]
            tensors: BTreeMap<String, TensorHeader>,
        }
        // The format's own limit for headers.
        const LONGEST: u64 = 100_000_000;
        let shown = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let metadata = file.metadata().with_context(|| format!("cannot read {shown}"))?;
        if !metadata.is_file() {
            bail!("{shown}: not a file");
        }
        let bytes = metadata.len();
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
        Ok(Self { path: path.to_owned(), bytes, metadata: raw.metadata, tensors: raw.tensors })
    }

    /// The model's configuration, which our files hold.
    pub fn config(&self) -> Result<ModelConfig> {
        let Some(json) = self.metadata.get(CONFIG_ENTRY) else {
            bail!(
                "{}: no model configuration inside; weights of the original are converted with `hrm import`",
                self.path.display()
            );
        };
        let shown = self.path.display();
        let config: ModelConfig =
            serde_json::from_str(json).with_context(|| format!("{shown}: unreadable model configuration"))?;
        config.validate().with_context(|| shown.to_string())?;
        Ok(config)
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

/// Makes sure that a file about to be written does not replace another one.
pub fn may_write(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force {
        bail!("{} exists already; choose another name, or replace it with --force", path.display());
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    Ok(())
}
