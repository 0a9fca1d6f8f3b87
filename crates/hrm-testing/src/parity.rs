//! Fixtures that the original implementation computed, and how close is close enough.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
pub use hrm_backend::testing::{Deviations, rms, tensor_values, values};
use hrm_model::{ModelConfig, weights};
use serde_json::Value;

/// The folder with fixtures: `HRM_PARITY_DIR`, or the subset that the project ships.
pub fn dir() -> PathBuf {
    env::var_os("HRM_PARITY_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("parity"), PathBuf::from)
}

/// Names of the sets whose file name ends in `suffix` and starts with `prefix`, without the suffix.
///
/// # Panics
/// If there is none: a parity test without numbers checks nothing.
pub fn sets(prefix: &str, suffix: &str) -> Vec<String> {
    let dir = dir();
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("HRM_PARITY_DIR {}: {e}", dir.display()));
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(suffix)?.to_owned()))
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no parity set {prefix}*{suffix} in {}", dir.display());
    names
}

/// Compares every set that [`sets`] finds, also after one has failed, and fails with all deviations out of bounds.
///
/// # Panics
/// If there is no set, or one of them deviates.
pub fn each_set(prefix: &str, suffix: &str, mut compare: impl FnMut(&str) -> Deviations) {
    let failures: Vec<String> =
        sets(prefix, suffix).iter().filter_map(|set| compare(set).report().err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A safetensors fixture (empty if the file is absent).
#[derive(Debug, Default)]
pub struct Fixture {
    tensors: weights::StateDict,
    name: String,
}

impl Fixture {
    /// Reads `NAME.safetensors`; `None` if there is none.
    pub fn open(name: &str) -> Option<Self> {
        let path = dir().join(format!("{name}.safetensors"));
        path.exists().then(|| {
            let (tensors, _) = weights::read_safetensors(&path).unwrap_or_else(|e| panic!("{e}"));
            Self { tensors, name: name.to_owned() }
        })
    }

    /// Like [`open`](Self::open), for a file that must be there.
    pub fn require(name: &str) -> Self {
        Self::open(name)
            .unwrap_or_else(|| panic!("parity file {name}.safetensors is missing in {}", dir().display()))
    }

    /// A tensor's data.
    pub fn data(&self, key: &str) -> TensorData {
        self.get(key).unwrap_or_else(|| panic!("{}: no tensor {key}", self.name))
    }

    /// A tensor's data, if the file has it.
    pub fn get(&self, key: &str) -> Option<TensorData> {
        self.tensors.get(key).cloned()
    }

    /// A tensor's values.
    pub fn values(&self, key: &str) -> Vec<f64> {
        values(&self.data(key))
    }

    /// The shape of a tensor.
    pub fn shape<const D: usize>(&self, key: &str) -> [usize; D] {
        let data = self.data(key);
        <[usize; D]>::try_from(&data.shape[..])
            .unwrap_or_else(|_| panic!("{}: {key} has the shape {:?}", self.name, data.shape))
    }

    /// A float tensor on a device.
    pub fn tensor<B: Backend, const D: usize>(&self, key: &str, device: &B::Device) -> Tensor<B, D> {
        Tensor::from_data(self.data(key).convert::<f32>(), device)
    }

    /// An int tensor on a device.
    pub fn int<B: Backend, const D: usize>(&self, key: &str, device: &B::Device) -> Tensor<B, D, Int> {
        Tensor::from_data(self.data(key).convert::<i32>(), device)
    }

    /// Entry `index` of the first axis of an int tensor.
    pub fn int_at<B: Backend, const D: usize>(
        &self,
        key: &str,
        index: usize,
        device: &B::Device,
    ) -> Tensor<B, D, Int> {
        let data = self.data(key);
        let shape: Vec<usize> = data.shape[1..].to_vec();
        let count: usize = shape.iter().product();
        let all: Vec<i32> = data.convert::<i32>().to_vec().unwrap_or_else(|e| panic!("{key}: {e:?}"));
        Tensor::from_data(TensorData::new(all[index * count..][..count].to_vec(), shape), device)
    }

    /// Entry `index` of the first axis, as values.
    pub fn values_at(&self, key: &str, index: usize) -> Vec<f64> {
        let data = self.data(key);
        let count: usize = data.shape[1..].iter().product();
        values(&data)[index * count..][..count].to_vec()
    }

    /// The keys that start with `prefix`, without it.
    pub fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().filter_map(move |key| key.strip_prefix(prefix))
    }

    /// All tensors, keys normalised.
    pub fn state_dict(&self) -> weights::StateDict {
        self.tensors.iter().map(|(k, v)| (weights::normalize_key(k).to_owned(), v.clone())).collect()
    }
}

/// The JSON beside a set.
pub fn json(name: &str) -> Value {
    let path = dir().join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The unit vectors: `components.safetensors` and the JSON beside it.
///
/// `None`, with a line that says so, if a folder that `HRM_PARITY_DIR` names has none.
///
/// # Panics
/// If the folder that the project ships has none.
pub fn components() -> Option<(Fixture, Value)> {
    if let Some(fixture) = Fixture::open("components") {
        return Some((fixture, json("components")));
    }
    assert!(env::var_os("HRM_PARITY_DIR").is_some(), "no components.safetensors in {}", dir().display());
    println!("parity components: none in {}, skipped", dir().display());
    None
}

/// The model of a set, from the `config` that its eval JSON holds.
pub fn model_config(json: &Value) -> ModelConfig {
    let mut config = json["config"].clone();
    let object = config.as_object_mut().expect("eval JSON has a `config` object");
    // Not the model's business, or implied.
    object.remove("batch_size");
    assert_eq!(object.remove("causal"), Some(Value::Bool(false)), "HRM's attention is bidirectional");
    if json["arch"]["name"].as_str().is_some_and(|name| name.contains("trm")) {
        object.insert("recurrence".to_owned(), "trm".into());
    }
    serde_json::from_value(config).unwrap_or_else(|e| panic!("config of the parity set: {e}"))
}
