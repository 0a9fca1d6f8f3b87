//! Training does not grow: the resident set after 2,000 steps is that after 200.
#![cfg(target_os = "linux")]

use burn::{
    backend::Autodiff,
    tensor::{Tensor, TensorData, backend::Backend},
};
use hrm_backend::Cpu;
use hrm_model::{Hrm, ModelConfig, act::PuzzleBatch, loss::LossKind};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Optimizer, SignSgd},
    run::environment::memory,
    step::{Step, StepSettings},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 2;
const SEQ: usize = 4;

fn batch<B: Backend>(step: i32) -> PuzzleBatch<B> {
    let device = B::Device::default();
    let tokens: Vec<i32> = (0..(ROWS * SEQ) as i32).map(|i| 1 + (i * 7 + step) % 5).collect();
    let tokens = Tensor::from_data(TensorData::new(tokens, [ROWS, SEQ]), &device);
    PuzzleBatch { inputs: tokens.clone(), labels: tokens, puzzle_identifiers: Tensor::zeros([ROWS], &device) }
}

#[test]
fn two_thousand_steps_leave_nothing_behind() {
    let config =
        ModelConfig::new(6, SEQ).with_hidden_size(8).with_num_heads(1).with_layers(1, 1).with_cycles(1, 1);
    let mut model: Hrm<Autodiff<Cpu>> =
        config.init(&mut ChaCha8Rng::seed_from_u64(1), &Default::default()).expect("a valid config");
    let mut carry = model.inner().empty_carry(ROWS);
    let mut optimizer = Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 1.0 });
    let settings = StepSettings::new(LossKind::Stablemax, ROWS, 1e-4);
    let team = Team::alone(Default::default());
    let mut early = 0;
    for step in 1..=2000 {
        let sign_sgd = SignSgd { weight_decay: 1.0 };
        let done = Step::new(settings, &mut optimizer, sign_sgd, &team)
            .run(model, carry, batch(step), None)
            .expect("no workers to lose");
        (model, carry) = (done.model, done.carry);
        if step == 200 {
            early = memory().expect("Linux tells").memory;
        }
    }
    let late = memory().expect("Linux tells").memory;
    println!("resident set after 200 steps {early} bytes, after 2,000 {late}");
    assert!(late as f64 <= early as f64 * 1.05, "grew from {early} to {late} bytes");
}
