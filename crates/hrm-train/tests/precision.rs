//! bfloat16 against fp32: a hundred steps of training go the same way. One test: the precision of matrix products is the
//! process's.
#![cfg(feature = "flex")]

use std::{
    fs,
    sync::{Arc, atomic::AtomicBool},
};

use burn::{backend::Autodiff, tensor::backend::Backend};
use hrm_backend::Cpu;
use hrm_model::ForwardDtype;
use hrm_train::{
    config::ResolvedRecipe,
    trainer::{TrainError, TrainOptions, train},
};
use serde_json::Value;

const TINY: &[&str] = &[
    "data.box_rows=2",
    "data.box_cols=2",
    "data.train_examples=200",
    "data.test_examples=10",
    "data.min_clues=8",
    "data.max_clues=12",
    "model.hidden_size=32",
    "model.num_heads=2",
    "model.h_layers=1",
    "model.l_layers=1",
    "model.puzzle_emb_ndim=0",
    // One segment a puzzle: both see the same puzzles, whatever the Q values say.
    "model.halt_max_steps=1",
    "train.global_batch_size=16",
    "train.max_steps=100",
    "train.lr=2e-3",
    "train.lr_warmup_steps=10",
    "train.weight_decay=0.1",
    "train.checkpoint_interval=0",
    "eval.interval=0",
];

/// The losses of a run, or why there is none.
fn losses(extra: &[&str]) -> Result<Vec<f64>, TrainError> {
    let sets: Vec<String> = TINY.iter().chain(extra).map(|s| (*s).to_owned()).collect();
    let recipe = ResolvedRecipe::load(None, &sets).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    let options = TrainOptions {
        recipe,
        run_dir: run_dir.clone(),
        resume: false,
        stop: Arc::new(AtomicBool::new(false)),
    };
    train::<Autodiff<Cpu>>(options, &Default::default(), &mut ())?;
    let text = fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    Ok(rows.filter_map(|row| row["loss"].as_f64()).collect())
}

#[test]
fn a_hundred_steps_in_bf16_go_the_way_of_fp32() {
    let exact = losses(&[]).unwrap();
    assert_eq!(exact.len(), 100);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&exact[90..]) < 0.8 * mean(&exact[..10]), "it learns: {exact:?}");
    let check = |what: &str, got: Vec<f64>| {
        assert_ne!(got, exact, "{what}: nothing was rounded");
        let difference = |range: std::ops::Range<usize>| {
            let (a, b) = (mean(&got[range.clone()]), mean(&exact[range]));
            (a - b).abs() / b
        };
        let worst = (0..10).map(|ten| difference(10 * ten..10 * ten + 10)).fold(0.0, f64::max);
        println!("{what}: mean loss of ten steps differs by at most {:.2} %", worst * 100.0);
        assert!(difference(0..10) < 0.01, "{what}: the first ten steps differ by {}", difference(0..10));
        assert!(worst < 0.05, "{what}: {worst}");
    };
    check("matmul_precision = bf16", losses(&["train.matmul_precision=bf16"]).unwrap());
    let forward = losses(&["model.forward_dtype=bf16"]);
    if Cpu::supports_dtype(&Default::default(), ForwardDtype::Bf16.into()) {
        check("forward_dtype = bf16", forward.unwrap());
    } else {
        let told = forward.unwrap_err().to_string();
        assert!(told.contains("forward_dtype") && told.contains("use f32"), "{told}");
    }
}
