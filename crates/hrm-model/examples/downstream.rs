//! A trained model in a program that depends on `hrm-model` alone, with its feature `flex`: the CPU.

use std::path::Path;

use hrm_model::{
    Hrm,
    act::Carry,
    burn::tensor::{Int, Tensor},
    hrm_backend::Cpu,
};

/// Weights with their configuration, as `hrm train` leaves them in a checkpoint.
const WEIGHTS: &[u8] = include_bytes!("../../../checkpoints/sudoku-4x4/model.safetensors");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Default::default();
    let model = Hrm::<Cpu>::decode(Path::new("sudoku-4x4"), WEIGHTS, &device)?;

    // 4x4 Sudoku: 16 cells; token 0 is padding, 1 a blank, 2 to 5 the values.
    let puzzle = "1....3...2....4.";
    let token = |cell: char| cell.to_digit(10).map_or(1, |value| value as i32 + 1);
    let tokens: Vec<i32> = puzzle.chars().map(token).collect();
    let tokens = Tensor::<Cpu, 1, Int>::from_ints(tokens.as_slice(), &device).reshape([1, 16]);
    let mut carry = Carry::fresh(&model, tokens, Tensor::zeros([1], &device));
    for step in 1..=model.config().halt_max_steps {
        let (next, output) = model.segment(carry);
        let answer = output.predictions().into_data();
        let answer: String = answer.iter::<i64>().map(|token| (token - 1).to_string()).collect();
        let (halt, go_on) = (output.q_halt.into_scalar(), output.q_continue.into_scalar());
        println!("step {step}: {answer}, q_halt {halt:.2}, q_continue {go_on:.2}");
        if halt > go_on {
            break;
        }
        carry = next;
    }
    Ok(())
}
