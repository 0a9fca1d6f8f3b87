//! The readers of a run's files against damaged and arbitrary bytes.

mod common;

use std::fs;

use hrm_data::sampler::SamplerState;
use hrm_testing::fuzz::fuzz;
use hrm_train::{
    checkpoint,
    recipe::ResolvedRecipe,
    run::history::{History, RunSummary},
};

use common::{recipe, run};

#[test]
fn files_of_a_run() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    run(&dir, recipe(&["train.max_steps=4", "eval.interval=2"]), false).0.unwrap();
    let folder = dir.join("checkpoints/step-4");
    let file = |name: &str| (dir.join(name), fs::read(dir.join(name)).unwrap());

    let (path, whole) = file("checkpoints/step-4/state.json");
    let mut unsealed: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    unsealed.as_object_mut().unwrap().retain(|key, _| key != "checksum" && key != "metrics");
    let old = serde_json::to_vec_pretty(&unsealed).unwrap();
    fuzz("state", &[whole.clone(), old], |bytes| {
        fs::write(&path, bytes).unwrap();
        let read = checkpoint::read_state::<SamplerState>(&folder);
        // What is read from a sealed file is what was written.
        if bytes.ends_with(&whole[whole.len() - 80..]) && read.is_ok() {
            assert_eq!(bytes, whole);
        }
    });
    fs::write(&path, &whole).unwrap();

    let (path, whole) = file("checkpoints/last");
    fuzz("mark", std::slice::from_ref(&whole), |bytes| {
        for name in ["last", "best"] {
            fs::write(path.with_file_name(name), bytes).unwrap();
        }
        let _ = (checkpoint::best(&path.with_file_name("")), checkpoint::model_file(&dir));
        let found = checkpoint::model_file(&path);
        assert!(found.is_err() || found.unwrap().starts_with(&dir));
    });
    fs::remove_file(path.with_file_name("best")).unwrap();
    fs::write(&path, whole).unwrap();

    for name in ["metrics.jsonl", "environment.json"] {
        let (path, whole) = file(name);
        fuzz(name, std::slice::from_ref(&whole), |bytes| {
            fs::write(&path, bytes).unwrap();
            let _ = (History::read(&dir), RunSummary::read(&dir));
        });
        fs::write(&path, whole).unwrap();
    }
    let (path, whole) = file("config.toml");
    fuzz("config", &[whole], |bytes| {
        fs::write(&path, bytes).unwrap();
        let _ = (ResolvedRecipe::load(Some(&path), &[]), ResolvedRecipe::load_saved(&path, &[]));
    });
}
