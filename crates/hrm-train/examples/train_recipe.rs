use hrm_train::{config::ResolvedRecipe, trainer::*};
use std::sync::{Arc, atomic::AtomicBool};
struct P;
impl Observer for P {
    fn on_step(&mut self, s: &StepReport) {
        if s.step % 50 == 0 {
            println!(
                "{} loss {:.4} lm {:.4} exact {:?} steps {:?} {:.0}/s",
                s.step, s.loss, s.lm_loss, s.exact_accuracy, s.mean_steps, s.examples_per_second
            )
        }
    }
    fn on_eval(&mut self, e: &EvalRow) {
        println!("{e:?}")
    }
    fn on_message(&mut self, m: &str) {
        println!("{m}")
    }
}
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let sets = args[2..].to_vec();
    let recipe = ResolvedRecipe::load(Some(args[0].as_ref()), &sets).unwrap();
    let dir = args[1].clone();
    let o = TrainOptions {
        recipe,
        run_dir: dir.into(),
        resume: false,
        stop: Arc::new(AtomicBool::new(false)),
    };
    match train::<burn::backend::Autodiff<hrm_backend::Cpu>>(o, &Default::default(), &mut P) {
        Ok(s) => println!("{s:?}"),
        Err(e) => println!("error: {e}"),
    }
}
