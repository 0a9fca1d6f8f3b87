use burn::{backend::Autodiff, tensor::Tensor};
use hrm_backend::HrmBackend;
use hrm_model::loss::Metrics;
use hrm_testing::{for_each_backend, parity::tensor_values};

use super::*;
use crate::data;

for_each_backend!(fixed_steps_run_every_sequence_to_its_last_segment);

const TINY: [&str; 15] = [
    "data.box_rows=2",
    "data.box_cols=2",
    "data.train_examples=16",
    "data.test_examples=4",
    "data.min_clues=6",
    "data.max_clues=9",
    "model.hidden_size=16",
    "model.num_heads=2",
    "model.h_layers=1",
    "model.l_layers=1",
    "model.puzzle_emb_ndim=0",
    "model.halt_max_steps=3",
    "train.global_batch_size=8",
    "train.lr_warmup_steps=1",
    "train.max_steps=20",
];

/// A model that would halt every sequence at once: how many halt at each step and their segments in all, and what becomes of
/// the bias of `q_halt`.
fn halting<B: HrmBackend>(sets: &[&str]) -> (Vec<(f64, f64)>, f64) {
    let device = B::Device::default();
    let sets: Vec<String> = TINY.iter().chain(sets).map(|set| (*set).to_owned()).collect();
    let recipe = ResolvedRecipe::load(None, &sets).unwrap_or_else(|e| panic!("{e}"));
    let data = data::load(&recipe.data).unwrap_or_else(|e| panic!("{e}"));
    let mut trainer = Trainer::<B>::new(recipe, &data, &device, &Team::alone(device.clone()))
        .unwrap_or_else(|e| panic!("{e}"));
    let (mut model, carry) = trainer.state.take().unwrap();
    let bias = Tensor::<Autodiff<B>, 1>::from_floats([5.0, -5.0], &device);
    model.q_head.bias = model.q_head.bias.map(|old| old.map(|_| bias.clone().require_grad()));
    trainer.state = Some((model, carry));
    let mut halts = Vec::new();
    for _ in 0..9 {
        let done = trainer.one_step(&AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
        let metrics = Metrics::from_values(&tensor_values(done.metrics));
        assert!(metrics.q_halt_loss > 0.0);
        halts.push((metrics.count, metrics.steps));
    }
    let bias = trainer.model().inner().q_head.bias.as_ref().map(|bias| tensor_values(bias.val()));
    (halts, bias.unwrap()[0])
}

fn fixed_steps_run_every_sequence_to_its_last_segment<B: HrmBackend>() {
    let (early, _) = halting::<B>(&["model.halt_exploration_prob=0"]);
    assert_eq!(early, [(8.0, 8.0); 9], "without it, the model decides");
    let mut expected = [(0.0, 0.0); 9];
    for last in [2, 5, 8] {
        expected[last] = (8.0, 24.0);
    }
    for exploration in ["0", "0.5"] {
        let exploration = format!("model.halt_exploration_prob={exploration}");
        let (halts, bias) = halting::<B>(&["train.fixed_steps=true", &exploration]);
        assert_eq!(halts, expected, "{exploration}");
        // Nothing is solved: q_halt learns that it promises too much.
        assert!(bias < 5.0, "{bias}");
    }
}
