//! The README's example of `hrm-model` as a dependency of another crate.
//! `cargo run -p hrm-model --example downstream`

use burn::tensor::{Int, Tensor};
use hrm_backend::Cpu;
use hrm_model::{Hrm, ModelConfig, act::Carry};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Default::default();
    // 4x4 Sudoku: 16 cells; token 0 is padding, 1 a blank, 2 to 5 the values.
    let config = ModelConfig::new(6, 16).with_hidden_size(64).with_num_heads(2).with_layers(2, 2);
    let model: Hrm<Cpu> = config.init(&mut ChaCha8Rng::seed_from_u64(0), &device)?;
    println!("{}", model.parameter_table());
    // With trained weights: let model = Hrm::<Cpu>::load("model.safetensors".as_ref(), &device)?;

    let puzzle = [2, 1, 1, 1, 1, 4, 1, 1, 1, 3, 1, 1, 1, 1, 5, 1];
    let tokens = Tensor::<Cpu, 1, Int>::from_ints(puzzle, &device).reshape([1, 16]);
    let mut carry = Carry::fresh(&model, tokens, Tensor::zeros([1], &device));
    for step in 1..=config.halt_max_steps {
        let (next, output) = model.segment(carry);
        let (halt, go_on) = (output.q_halt.clone().into_scalar(), output.q_continue.clone().into_scalar());
        println!("step {step}: q_halt {halt:.2}, q_continue {go_on:.2}, answer {}", output.predictions());
        if halt > go_on {
            break;
        }
        carry = next;
    }
    Ok(())
}
