//! The part of the parity fixtures that is small enough to be committed.
//!
//! The full set (`../shared/parity`) has 22 MB of numbers that the original implementation computed. The tests
//! take any folder of such fixtures; this makes the one they find by default, from the full one.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use safetensors::{SafeTensors, tensor::TensorView};

/// The whole folder may be this large, the README included.
const LIMIT: u64 = 3_000_000;

/// Tells from a tensor's key whether it stays.
type Keep = fn(&str) -> bool;

/// Files that are copied as they are.
const WHOLE: &[&str] = &[
    "components.json",
    "hrm_rope.eval.json",
    "hrm_rope.eval.safetensors",
    "hrm_rope.state_dict.safetensors",
    "hrm_rope.train_softmax.json",
    "hrm_rope.train_softmax.steps.safetensors",
    "hrm_rope.train_stablemax.json",
];

/// Of `components`: everything but the block, whose weights take a quarter of the file and which every set
/// of the whole model runs sixteen times a step.
fn keep_component(key: &str) -> bool {
    !key.starts_with("block.")
}

/// Of the training steps: everything but the states, which are two thirds of the file and of which the logits
/// and Q values of each step are a function.
fn keep_step(key: &str) -> bool {
    !key.ends_with(".z_H") && !key.ends_with(".z_L")
}

/// Of gradients and parameters: all the small ones, the gradients of one block per level (every kind of matrix),
/// and two matrices after ten steps. The JSON has the norm of every gradient and parameter at every step.
fn keep_param(key: &str) -> bool {
    const BLOCKS: [&str; 2] = ["H_level.layers.0.", "L_level.layers.1."];
    const AFTER: [&str; 2] =
        ["H_level.layers.1.self_attn.qkv_proj.weight", "L_level.layers.0.self_attn.o_proj.weight"];
    let matrix = key.contains("_level.layers.");
    match key.split_once('.') {
        Some(("grad1", name)) => !matrix || BLOCKS.iter().any(|block| name.contains(block)),
        Some(("after10", name)) => !matrix || AFTER.iter().any(|suffix| name.ends_with(suffix)),
        _ => false,
    }
}

/// Files of which some tensors are left out, and which are kept.
const TRIMMED: &[(&str, Keep)] = &[
    ("components.safetensors", keep_component),
    ("hrm_rope.train_stablemax.steps.safetensors", keep_step),
    ("hrm_rope.train_stablemax.params.safetensors", keep_param),
];

/// Writes the subset of the fixtures in `source` to `target`.
pub fn run(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
    for name in WHOLE {
        fs::write(target.join(name), read(&source.join(name))?)
            .with_context(|| format!("cannot write {name} in {}", target.display()))?;
    }
    for (name, keep) in TRIMMED {
        let bytes = trim(&read(&source.join(name))?, *keep).with_context(|| (*name).to_owned())?;
        fs::write(target.join(name), bytes)
            .with_context(|| format!("cannot write {name} in {}", target.display()))?;
    }
    let size = folder_size(target)?;
    println!("{}: {size} bytes of at most {LIMIT}", target.display());
    ensure!(size <= LIMIT, "the subset is too large: keep less of it");
    Ok(())
}

/// The unit vectors, as they are committed: names and bytes.
pub fn of_components(source: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let name = "components.safetensors";
    let trimmed = trim(&read(&source.join(name))?, keep_component).with_context(|| name.to_owned())?;
    let json = "components.json";
    Ok(vec![(json.to_owned(), read(&source.join(json))?), (name.to_owned(), trimmed)])
}

/// What the tests of evaluation and training need of a set: names and bytes. Of its large matrices the gradients of one block are
/// kept where the committed subset keeps them, and elsewhere none: the JSON has the norm of each.
pub fn of_set(source: &Path, set: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(source).with_context(|| format!("cannot read {}", source.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(set).filter(|rest| rest.starts_with('.')) else { continue };
        let bytes = || read(&source.join(&name));
        let told = |bytes: Result<Vec<u8>>| bytes.with_context(|| name.clone());
        let keep_small: Keep = |key| keep_param(key) && !key.contains("_level.layers.");
        let bytes = match rest {
            _ if rest.ends_with(".steps.safetensors") => told(trim(&bytes()?, keep_step))?,
            _ if WHOLE.contains(&name.as_str()) => bytes()?,
            _ if TRIMMED.iter().any(|(file, _)| *file == name) => told(trim(&bytes()?, keep_param))?,
            _ if rest.ends_with(".params.safetensors") => told(trim(&bytes()?, keep_small))?,
            _ if rest.ends_with(".json") || rest.ends_with(".safetensors") => bytes()?,
            _ => continue,
        };
        files.push((name, bytes));
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The same safetensors file with only the tensors whose key `keep` accepts.
fn trim(bytes: &[u8], keep: Keep) -> Result<Vec<u8>> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut kept: Vec<(String, TensorView<'_>)> =
        tensors.tensors().into_iter().filter(|(key, _)| keep(key)).collect();
    ensure!(!kept.is_empty(), "nothing is left");
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(safetensors::serialize(kept, header.metadata().clone())?)
}

fn folder_size(path: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(path)? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_gradient_is_kept() {
        for level in ["H_level.layers.0", "L_level.layers.1"] {
            for kind in ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"] {
                assert!(keep_param(&format!("grad1.model.inner.{level}.{kind}.weight")));
            }
        }
        assert!(keep_param("grad1.model.inner.q_head.bias"));
        assert!(keep_param("after10.model.inner.puzzle_emb.weights"));
        assert!(!keep_param("after1.model.inner.q_head.bias"));
        assert!(!keep_param("grad1.model.inner.H_level.layers.1.mlp.down_proj.weight"));
    }

    #[test]
    fn the_shipped_subset_is_small_and_complete() {
        let folder = crate::process::root().join("crates/hrm-testing/parity");
        assert!(folder_size(&folder).expect("the subset is committed") <= LIMIT);
        for name in WHOLE.iter().chain(TRIMMED.iter().map(|(name, _)| name)) {
            assert!(folder.join(name).is_file(), "{name} is missing");
        }
    }
}
