//! Seconds of an ACT step of the 27M model.
use std::time::Instant;

use burn::tensor::{Int, Tensor};
use hrm_model::{Hrm, ModelConfig, act::Carry};
use rand::SeedableRng;

fn main() {
    type B = hrm_backend::Cpu;
    let device = Default::default();
    let config = ModelConfig::hrm_sudoku_extreme();
    let t = Instant::now();
    let model: Hrm<B> = config.init(&mut rand_chacha::ChaCha8Rng::seed_from_u64(0), &device).unwrap();
    println!("init {:.2}s", t.elapsed().as_secs_f64());
    for batch in [1, 32] {
        let tokens = Tensor::<B, 2, Int>::ones([batch, 81], &device);
        let mut carry = Carry::fresh(&model, tokens, Tensor::zeros([batch], &device));
        let mut best = f64::MAX;
        for _ in 0..4 {
            let t = Instant::now();
            let (next, out) = model.segment(carry);
            let _ = out.q_halt.into_data();
            best = best.min(t.elapsed().as_secs_f64());
            carry = next;
        }
        println!("batch {batch}: {best:.3} s");
    }
}
