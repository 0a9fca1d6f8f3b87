//! Weights in files: safetensors of our own, state dicts of the original PyTorch code, and back.
//!
//! A [`StateDict`] holds tensors under the original's keys without its wrappers' prefixes
//! (`H_level.layers.0.self_attn.qkv_proj.weight`).

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use burn::{
    module::Param,
    tensor::{BoolStore, DType, Shape, Tensor, TensorData, backend::Backend},
};
use safetensors::{Dtype, SafeTensors, tensor::View};
use thiserror::Error;

use crate::{
    Hrm, ModelConfig,
    named::{NamedMapper, NamedVisitor, map_named, visit_named},
};

/// Prefix of the model's keys in a state dict of the original.
pub const ORIGINAL_PREFIX: &str = "model.inner.";
/// Metadata entry of our safetensors files that holds the model's configuration as JSON.
pub const CONFIG_ENTRY: &str = "hrm.config";

/// Tensors by name.
pub type StateDict = BTreeMap<String, TensorData>;

/// What can go wrong with weights.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what its name says: truncated, corrupt, or another format.
    #[error("{path}: not a readable {format} file: {reason}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What it should have been.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither the extension nor the first bytes tell a known format.
    #[error(
        "{path}: unknown kind of weights; expected a file ending in .safetensors, .pt or .pth, or one of PyTorch"
    )]
    Extension {
        /// Which file.
        path: PathBuf,
    },
    /// The file holds other parameters than the model has.
    #[error(
        "weights do not fit the model: {}",
        problems.join("; ")
    )]
    Mismatch {
        /// One line for each parameter that is missing, unexpected or of another shape.
        problems: Vec<String>,
    },
    /// The file does not say what model it belongs to.
    #[error("{path}: no model configuration inside (metadata entry `{CONFIG_ENTRY}`); {hint}")]
    NoConfig {
        /// Which file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
}

/// A key of the original without the prefixes of `torch.compile` and of the loss head's wrappers.
pub fn normalize_key(key: &str) -> &str {
    let mut key = key;
    while let Some(rest) =
        ["_orig_mod.", "module.", "model.", "inner."].iter().find_map(|prefix| key.strip_prefix(prefix))
    {
        key = rest;
    }
    key
}

/// Reads every tensor of a `.safetensors`, `.pt` or `.pth` file, keys as they are.
///
/// # Errors
/// If the file is absent, of an unknown kind, truncated or corrupt.
pub fn read(path: &Path) -> Result<StateDict, WeightsError> {
    is_file(path)?;
    match path.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => Ok(read_safetensors(path)?.0),
        Some("pt" | "pth") => read_pytorch(path),
        // The original saves its checkpoints as `step_N`, without an extension.
        _ if is_zip(path)? => read_pytorch(path),
        _ => Err(WeightsError::Extension { path: path.to_owned() }),
    }
}

/// Whether a file starts as zip archives do, which `torch.save` writes.
fn is_zip(path: &Path) -> Result<bool, WeightsError> {
    let mut start = [0; 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) => Ok(start == *b"PK\x03\x04"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(WeightsError::Io { path: path.to_owned(), source }),
    }
}

/// Reads a state dict of the original (or of ours) with its keys normalised.
///
/// # Errors
/// As [`read`].
pub fn read_normalized(path: &Path) -> Result<StateDict, WeightsError> {
    let mut dict = StateDict::new();
    for (key, data) in read(path)? {
        if dict.insert(normalize_key(&key).to_owned(), data).is_some() {
            return Err(WeightsError::Format {
                path: path.to_owned(),
                format: "model",
                reason: format!("two of its tensors are {} without prefixes", normalize_key(&key)),
            });
        }
    }
    Ok(dict)
}

/// The names of tensors with numbers that are not finite (NaN or infinite), each with how many.
pub fn not_finite(dict: &StateDict) -> Vec<(String, usize)> {
    dict.iter()
        .filter(|(_, data)| data.dtype.is_float())
        .filter_map(|(name, data)| {
            let count = data.iter::<f32>().filter(|value| !value.is_finite()).count();
            (count > 0).then(|| (name.clone(), count))
        })
        .collect()
}

/// Reads a safetensors file with its metadata.
///
/// # Errors
/// If the file is absent, truncated or corrupt.
pub fn read_safetensors(path: &Path) -> Result<(StateDict, HashMap<String, String>), WeightsError> {
    decode_safetensors(path, &read_file(path)?)
}

/// The bytes of a file of weights.
///
/// # Errors
/// If it cannot be read, or is something else than a file.
pub fn read_file(path: &Path) -> Result<Vec<u8>, WeightsError> {
    is_file(path)?;
    fs::read(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })
}

/// A device or a pipe has no end, or no beginning.
fn is_file(path: &Path) -> Result<(), WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    match fs::metadata(path).map_err(io)?.is_file() {
        true => Ok(()),
        false => Err(io(io::Error::other("not a file"))),
    }
}

/// The tensors and metadata of a safetensors file with these bytes; errors name `path`.
///
/// # Errors
/// If they are truncated or corrupt.
pub fn decode_safetensors(
    path: &Path,
    bytes: &[u8],
) -> Result<(StateDict, HashMap<String, String>), WeightsError> {
    let format =
        |reason: String| WeightsError::Format { path: path.to_owned(), format: "safetensors", reason };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format(e.to_string()))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format(e.to_string()))?;
    let mut dict = StateDict::new();
    for (name, view) in tensors.iter() {
        let dtype = burn_dtype(view.dtype())
            .ok_or_else(|| format(format!("tensor {name} has the unsupported type {:?}", view.dtype())))?;
        let bytes = burn::tensor::Bytes::from_bytes_vec(view.data().to_vec());
        dict.insert(
            name.to_owned(),
            TensorData::from_bytes(bytes, Shape::from(view.shape().to_vec()), dtype),
        );
    }
    Ok((dict, header.metadata().clone().unwrap_or_default()))
}

/// Writes a safetensors file: to a temporary file beside it, flushed to disk, then renamed, so that the name
/// never holds half a file.
///
/// # Errors
/// If the folder cannot be written to.
pub fn write_safetensors(
    path: &Path,
    dict: &StateDict,
    metadata: HashMap<String, String>,
) -> Result<(), WeightsError> {
    let bytes = encode_safetensors(path, dict, metadata)?;
    write_atomically(path, &bytes).map_err(|source| WeightsError::Io { path: path.to_owned(), source })
}

/// The bytes of a safetensors file that will stand at `path`; nothing is written.
///
/// # Errors
/// If the tensors cannot be encoded; the error names `path`.
pub fn encode_safetensors(
    path: &Path,
    dict: &StateDict,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, WeightsError> {
    let views = dict.iter().map(|(name, data)| (name.as_str(), DataView(data)));
    safetensors::serialize(views, Some(metadata)).map_err(|e| WeightsError::Format {
        path: path.to_owned(),
        format: "safetensors",
        reason: e.to_string(),
    })
}

/// Replaces a file as a whole or not at all: temporary file beside it, flush to disk, rename.
///
/// # Errors
/// If the folder cannot be written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    // What a kill has left goes, so that nothing is written through a link.
    let _ = fs::remove_file(&partial);
    let result = File::create_new(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    if result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    result
}

#[cfg(feature = "pytorch")]
use crate::pytorch::read as read_pytorch;

#[cfg(not(feature = "pytorch"))]
fn read_pytorch(path: &Path) -> Result<StateDict, WeightsError> {
    Err(WeightsError::Format {
        path: path.to_owned(),
        format: "PyTorch checkpoint",
        reason: "this program was built without the feature `pytorch`".to_owned(),
    })
}

struct DataView<'a>(&'a TensorData);

impl View for DataView<'_> {
    fn dtype(&self) -> Dtype {
        safetensors_dtype(self.0.dtype)
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.as_bytes())
    }
    fn data_len(&self) -> usize {
        self.0.as_bytes().len()
    }
}

fn burn_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        _ => return None,
    })
}

fn safetensors_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::U8 => Dtype::U8,
        DType::Bool(_) => Dtype::BOOL,
        _ => Dtype::F32,
    }
}

/// The original's name of a parameter path of ours.
pub fn original_name(path: &str) -> String {
    for (ours, original) in
        [("h_level.", "H_level."), ("l_level.", "L_level."), ("h_init", "H_init"), ("l_init", "L_init")]
    {
        if let Some(rest) = path.strip_prefix(ours) {
            return format!("{original}{rest}");
        }
    }
    path.to_owned()
}

impl<B: Backend> Hrm<B> {
    /// Every weight under the original's (unprefixed) keys, buffers included, in fp32.
    pub fn state_dict(&self) -> StateDict {
        struct Collector(StateDict);
        impl<B: Backend> NamedVisitor<B> for Collector {
            fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>) {
                self.0.insert(name, param.val().into_data());
            }
        }
        let mut collector = Collector(StateDict::new());
        visit_named(self, &mut collector);
        collector.0
    }

    /// The model with the weights of a state dict of normalised keys, cast to fp32.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] lists every parameter that is missing, unexpected or of another shape.
    pub fn load_state_dict(self, dict: StateDict) -> Result<Self, WeightsError> {
        struct Loader {
            dict: StateDict,
            problems: Vec<String>,
        }
        impl<B: Backend> NamedMapper<B> for Loader {
            fn map<const D: usize>(
                &mut self,
                name: String,
                param: Param<Tensor<B, D>>,
            ) -> Param<Tensor<B, D>> {
                let Some(data) = self.dict.remove(&name) else {
                    self.problems.push(format!("{name}: missing"));
                    return param;
                };
                param.map(|old| {
                    let expected = old.shape();
                    if data.shape != expected {
                        self.problems
                            .push(format!("{name}: expected shape {:?}, got {:?}", &*expected, &*data.shape));
                        return old;
                    }
                    let trains = old.is_require_grad();
                    Tensor::from_data(data.convert::<f32>(), &old.device()).set_require_grad(trains)
                })
            }
        }
        let mut loader = Loader { dict, problems: Vec::new() };
        let model = map_named(self, &mut loader);
        let mut problems = loader.problems;
        problems.extend(loader.dict.into_keys().map(|name| format!("{name}: not a parameter of this model")));
        if problems.is_empty() { Ok(model) } else { Err(WeightsError::Mismatch { problems }) }
    }

    /// Saves weights and configuration in one safetensors file, in `dtype` (fp32 or bf16).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, dtype: crate::ForwardDtype) -> Result<(), WeightsError> {
        let bytes = self.encode(path, dtype)?;
        write_atomically(path, &bytes).map_err(|source| WeightsError::Io { path: path.to_owned(), source })
    }

    /// The bytes that [`save`](Self::save) writes.
    ///
    /// # Errors
    /// If the weights cannot be encoded; the error names `path`.
    pub fn encode(&self, path: &Path, dtype: crate::ForwardDtype) -> Result<Vec<u8>, WeightsError> {
        let config = serde_json::to_string(&self.config()).unwrap_or_default();
        let dict =
            self.state_dict().into_iter().map(|(k, data)| (k, data.convert_dtype(dtype.into()))).collect();
        encode_safetensors(path, &dict, HashMap::from([(CONFIG_ENTRY.to_owned(), config)]))
    }

    /// Loads a model that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If the file is unreadable, holds no configuration, or its weights do not fit that configuration.
    pub fn load(path: &Path, device: &B::Device) -> Result<Self, WeightsError>
    where
        B: hrm_backend::HrmBackend,
    {
        Self::decode(path, &read_file(path)?, device)
    }

    /// The model of a file with these bytes, see [`load`](Self::load); errors name `path`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn decode(path: &Path, bytes: &[u8], device: &B::Device) -> Result<Self, WeightsError>
    where
        B: hrm_backend::HrmBackend,
    {
        let (dict, metadata) = decode_safetensors(path, bytes)?;
        let format =
            |reason: String| WeightsError::Format { path: path.to_owned(), format: "HRM checkpoint", reason };
        let config = metadata.get(CONFIG_ENTRY).ok_or_else(|| WeightsError::NoConfig {
            path: path.to_owned(),
            hint: "convert weights of the original with `hrm import`",
        })?;
        let config: ModelConfig = serde_json::from_str(config).map_err(|e| format(e.to_string()))?;
        config.validate().map_err(|e| format(e.to_string()))?;
        Self::from_state_dict(&config, dict, device)
    }

    /// The model of a valid configuration with the weights of a state dict of normalised keys. Nothing is allocated before names
    /// and shapes are found to agree.
    ///
    /// # Errors
    /// As [`load_state_dict`](Self::load_state_dict).
    pub fn from_state_dict(
        config: &ModelConfig,
        dict: StateDict,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let shapes = config.weight_shapes();
        let mut problems: Vec<String> = shapes
            .iter()
            .filter_map(|(name, expected)| match dict.get(name) {
                None => Some(format!("{name}: missing")),
                Some(data) if *data.shape != **expected => {
                    Some(format!("{name}: expected shape {expected:?}, got {:?}", &*data.shape))
                }
                Some(data) if !data.dtype.is_float() => {
                    Some(format!("{name}: expected floats, got {:?}", data.dtype))
                }
                Some(_) => None,
            })
            .collect();
        let surplus = dict.keys().filter(|name| !shapes.contains_key(*name));
        problems.extend(surplus.map(|name| format!("{name}: not a parameter of this model")));
        match problems.is_empty() {
            true => Hrm::untrained(config, device).load_state_dict(dict),
            false => Err(WeightsError::Mismatch { problems }),
        }
    }

    /// Writes the weights under the original's keys (`model.inner.*`), fp32, as safetensors.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn export_original(&self, path: &Path) -> Result<(), WeightsError> {
        let dict =
            self.state_dict().into_iter().map(|(k, data)| (format!("{ORIGINAL_PREFIX}{k}"), data)).collect();
        write_safetensors(path, &dict, HashMap::from([("format".to_owned(), "pt".to_owned())]))
    }
}
