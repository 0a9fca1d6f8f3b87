//! bfloat16 against fp32: a hundred steps of training go the same way. One test: the precision of matrix products is the
//! process's.

mod common;

use std::fs;

use burn::tensor::backend::Backend;
use hrm_backend::Cpu;
use hrm_model::ForwardDtype;
use hrm_train::trainer::TrainError;
use serde_json::Value;

use common::{recipe, run};

/// A hundred steps of the tiny recipe. One segment a puzzle: both precisions see the same puzzles, whatever the Q values
/// say.
const HUNDRED: &[&str] = &[
    "data.min_clues=8",
    "data.max_clues=12",
    "model.halt_max_steps=1",
    "model.halt_exploration_prob=0",
    "model.puzzle_emb_ndim=0",
    "train.global_batch_size=16",
    "train.max_steps=100",
    "train.lr=1e-3",
    "train.weight_decay=0.1",
    "train.checkpoint_interval=0",
    "eval.interval=0",
];

/// The losses of a run, or why there is none.
fn losses(extra: &[&str]) -> Result<Vec<f64>, TrainError> {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    run(&run_dir, recipe(&[HUNDRED, extra].concat()), false).0?;
    let text = fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    Ok(rows.filter_map(|row| row["loss"].as_f64()).collect())
}

#[test]
fn a_hundred_steps_in_bf16_go_the_way_of_fp32() {
    let exact = losses(&[]).unwrap();
    assert_eq!(exact.len(), 100);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&exact[90..]) < 0.9 * mean(&exact[..10]), "it learns: {exact:?}");
    let check = |what: &str, got: Vec<f64>| {
        assert_ne!(got, exact, "{what}: nothing was rounded");
        let difference = |range: std::ops::Range<usize>| {
            let (a, b) = (mean(&got[range.clone()]), mean(&exact[range]));
            (a - b).abs() / b
        };
        let worst = (0..10).map(|ten| difference(10 * ten..10 * ten + 10)).fold(0.0, f64::max);
        let (first, all) = (difference(0..10), difference(0..100));
        println!(
            "{what}: the mean loss differs by {:.2} % over the first ten steps, {:.2} % over all, {:.2} % in the worst ten",
            first * 100.0,
            all * 100.0,
            worst * 100.0
        );
        // Rounding grows from step to step, as between any two machines: late steps agree in the mean only.
        assert!(first < 0.005 && all < 0.01 && worst < 0.08, "{what}: {first} {all} {worst}");
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
