//! Weights survive every way in and out: our files, the original's checkpoints, and back, bit for bit.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, TensorData};
use hrm_backend::Cpu;
use hrm_model::{
    ForwardDtype, Hrm, ModelConfig, PositionEncoding,
    weights::{self, StateDict, WeightsError},
};
use rand::SeedableRng;

fn tiny() -> ModelConfig {
    ModelConfig::new(6, 16).with_hidden_size(16).with_num_heads(2).with_layers(1, 2)
}

fn random(config: &ModelConfig, seed: u64) -> Hrm<Cpu> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    config.init(&mut rng, &Default::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"))
}

fn load_dict(config: &ModelConfig, dict: StateDict) -> Hrm<Cpu> {
    Hrm::untrained(config, &Default::default()).load_state_dict(dict).unwrap_or_else(|e| panic!("{e}"))
}

/// Equal to the last bit, types and shapes included.
#[track_caller]
fn assert_same(a: &StateDict, b: &StateDict) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, data) in a {
        assert_eq!(data.dtype, b[name].dtype, "{name}");
        assert_eq!(data.shape, b[name].shape, "{name}");
        assert_eq!(data.as_bytes(), b[name].as_bytes(), "{name}");
    }
}

fn f32_dict(dict: &StateDict) -> StateDict {
    dict.iter().map(|(name, data)| (name.clone(), data.clone().convert_dtype(DType::F32))).collect()
}

#[test]
fn save_and_load() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    for config in [
        tiny(),
        tiny().with_puzzle_emb_ndim(0),
        tiny().with_puzzle_emb_ndim(40),
        tiny().with(|config| {
            (config.pos_encodings, config.num_puzzle_identifiers) = (PositionEncoding::Learned, 3);
        }),
    ] {
        let model = random(&config, 1);
        model.save(&path, ForwardDtype::F32).unwrap_or_else(|e| panic!("{e}"));
        let loaded: Hrm<Cpu> = Hrm::load(&path, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded.config(), &config);
        assert_same(&loaded.state_dict(), &model.state_dict());
    }
    assert_eq!(fs::read_dir(dir.path()).map(Iterator::count).ok(), Some(1), "no temporary file stays");
}

#[test]
fn half_precision_files_are_half_the_size_and_round_once() {
    let dir = folder();
    let (full, half) = (dir.path().join("full.safetensors"), dir.path().join("half.safetensors"));
    let model = random(&tiny(), 2);
    model.save(&full, ForwardDtype::F32).unwrap_or_else(|e| panic!("{e}"));
    model.save(&half, ForwardDtype::Bf16).unwrap_or_else(|e| panic!("{e}"));
    let size = |path: &Path| fs::metadata(path).map(|m| m.len()).unwrap_or_default();
    assert!(size(&half) < size(&full) * 6 / 10);
    let once: Hrm<Cpu> = Hrm::load(&half, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
    once.save(&half, ForwardDtype::Bf16).unwrap_or_else(|e| panic!("{e}"));
    let twice: Hrm<Cpu> = Hrm::load(&half, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&once.state_dict(), &twice.state_dict());
}

#[test]
fn keys_of_every_wrapper_are_understood() {
    let dir = folder();
    let path = dir.path().join("wrapped.safetensors");
    let dict = random(&tiny(), 3).state_dict();
    for prefix in ["", "inner.", "model.inner.", "_orig_mod.model.inner.", "module._orig_mod.model.inner."] {
        for dtype in [DType::F32, DType::BF16] {
            let wrapped = dict
                .iter()
                .map(|(name, data)| (format!("{prefix}{name}"), data.clone().convert_dtype(dtype)))
                .collect();
            weights::write_safetensors(&path, &wrapped, HashMap::new()).unwrap_or_else(|e| panic!("{e}"));
            let read = weights::read_normalized(&path).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read.keys().collect::<Vec<_>>(), dict.keys().collect::<Vec<_>>(), "{prefix}");
            assert!(read.values().all(|data| data.dtype == dtype));
            let model = load_dict(&tiny(), read.clone());
            assert_same(&model.state_dict(), &f32_dict(&read));
        }
    }
}

#[test]
fn export_carries_the_originals_keys() {
    let dir = folder();
    let path = dir.path().join("original.safetensors");
    let model = random(&tiny(), 4);
    model.export_original(&path).unwrap_or_else(|e| panic!("{e}"));
    let (exported, metadata) = weights::read_safetensors(&path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(metadata.get("format").map(String::as_str), Some("pt"));
    for key in [
        "model.inner.H_level.layers.0.self_attn.qkv_proj.weight",
        "model.inner.L_level.layers.1.mlp.down_proj.weight",
        "model.inner.puzzle_emb.weights",
        "model.inner.H_init",
        "model.inner.q_head.bias",
        "model.inner.embed_tokens.embedding_weight",
    ] {
        assert!(exported.contains_key(key), "{key} in {:?}", exported.keys());
    }
    let back = load_dict(&tiny(), weights::read_normalized(&path).unwrap_or_else(|e| panic!("{e}")));
    assert_same(&back.state_dict(), &model.state_dict());
}

/// Import -> export -> import of the original's own files: `.pt` of `torch.compile`, bf16 and fp32, safetensors.
#[test]
fn the_originals_checkpoints_survive_import_and_export() {
    let dir = env::var_os("HRM_PARITY_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parity"), PathBuf::from);
    let entries: Vec<PathBuf> = fs::read_dir(&dir)
        .map(|entries| entries.filter_map(|e| Some(e.ok()?.path())).collect())
        .unwrap_or_default();
    let temp = folder();
    let mut done = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((set, kind)) = name.split_once('.') else {
            continue;
        };
        let is_weights = kind == "state_dict.safetensors" || kind.starts_with("compiled_ckpt");
        let json = dir.join(format!("{set}.eval.json"));
        if !set.starts_with("hrm_") || !is_weights || !json.exists() {
            continue;
        }
        let json = fs::read_to_string(&json).unwrap_or_else(|e| panic!("{e}"));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}"));
        let config = hrm_testing::parity::model_config(&json);

        let original = weights::read_normalized(&path).unwrap_or_else(|e| panic!("{e}"));
        let imported = load_dict(&config, original.clone());
        assert_same(&imported.state_dict(), &f32_dict(&original));

        let ours = temp.path().join("model.safetensors");
        imported.save(&ours, ForwardDtype::F32).unwrap_or_else(|e| panic!("{e}"));
        let loaded: Hrm<Cpu> = Hrm::load(&ours, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
        let export = temp.path().join("export.safetensors");
        loaded.export_original(&export).unwrap_or_else(|e| panic!("{e}"));
        let again = weights::read_normalized(&export).unwrap_or_else(|e| panic!("{e}"));
        assert_same(&again, &f32_dict(&original));
        let again = load_dict(&config, again);
        assert_same(&again.state_dict(), &imported.state_dict());
        done.push(name);
    }
    if done.is_empty() {
        eprintln!("SKIPPED: no checkpoints of the original in {}; set HRM_PARITY_DIR", dir.display());
    } else {
        println!("exact through import, save, load, export, import: {}", done.join(", "));
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let mut dict = random(&tiny(), 5).state_dict();
    dict.remove("q_head.bias");
    dict.insert("surplus".to_owned(), TensorData::from([1.0f32]));
    dict.insert("lm_head.weight".to_owned(), TensorData::zeros::<f32, _>([7, 16]));
    let error = match Hrm::<Cpu>::untrained(&tiny(), &Default::default()).load_state_dict(dict) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("accepted"),
    };
    assert!(error.contains("q_head.bias: missing"), "{error}");
    assert!(error.contains("surplus: not a parameter"), "{error}");
    assert!(error.contains("lm_head.weight: expected shape [6, 16], got [7, 16]"), "{error}");
}

#[test]
fn broken_files_are_refused_and_nothing_is_overwritten() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let load = || -> WeightsError {
        match Hrm::<Cpu>::load(&path, &Default::default()) {
            Err(e) => e,
            Ok(_) => panic!("accepted"),
        }
    };
    assert!(matches!(load(), WeightsError::Io { .. }));
    let model = random(&tiny(), 6);
    model.save(&path, ForwardDtype::F32).unwrap_or_else(|e| panic!("{e}"));
    let whole = fs::read(&path).unwrap_or_else(|e| panic!("{e}"));
    for length in [0, 4, 100, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap_or_else(|e| panic!("{e}"));
        let error = load();
        assert!(matches!(error, WeightsError::Format { .. }), "{length}: {error}");
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
    model.export_original(&path).unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(load(), WeightsError::NoConfig { .. }));

    let nowhere = dir.path().join("absent/model.safetensors");
    assert!(matches!(model.save(&nowhere, ForwardDtype::F32), Err(WeightsError::Io { .. })));
    let pt = dir.path().join("cut.pt");
    fs::write(&pt, b"PK\x03\x04 cut short").unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(weights::read(&pt), Err(WeightsError::Format { .. })));
    let odd = dir.path().join("weights.h5");
    assert!(matches!(weights::read(&odd), Err(WeightsError::Io { .. })), "absent");
    fs::write(&odd, b"\x89HDF\r\n").unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(weights::read(&odd), Err(WeightsError::Extension { .. })));
    // Whatever its name, a zip archive is read as PyTorch's.
    fs::write(&odd, b"PK\x03\x04 cut short").unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(weights::read(&odd), Err(WeightsError::Format { .. })));
}
