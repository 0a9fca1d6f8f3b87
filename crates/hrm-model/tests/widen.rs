//! A widened model computes what the narrow one did.

use burn::tensor::{Int, Tensor};
use hrm_backend::HrmBackend;
use hrm_model::{
    GroupKind, Hrm, Mixer, ModelConfig, PositionEncoding, RecurrenceKind, Structure, Tokens, act::Carry,
};
use hrm_testing::{for_each_backend, parity::tensor_values};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

for_each_backend!(widened_weights_compute_the_same);

fn config(recurrence: RecurrenceKind, tokens: Tokens, hidden: usize, width: usize) -> ModelConfig {
    let kind = |name: &str, groups: Vec<Vec<u32>>| GroupKind { name: name.to_owned(), groups, own: false };
    let rows = (0..4).map(|row| (0..4).map(|col| 4 * row + col).collect()).collect();
    let cols = (0..4).map(|col| (0..4).map(|row| 4 * row + col).collect()).collect();
    let h_layers = usize::from(recurrence == RecurrenceKind::Hrm);
    let config = ModelConfig::new(6, 16).with_hidden_size(hidden).with_num_heads(2).with_layers(h_layers, 2);
    let vectors = if tokens == Tokens::Lattice { 4 } else { 1 };
    config.with_puzzle_emb_ndim(vectors * hidden).with(|config| {
        (config.mixer, config.tokens, config.recurrence) = (Mixer::Groups, tokens, recurrence);
        (config.group_width, config.pos_encodings) = (width, PositionEncoding::None);
        let groups = vec![kind("row", rows), kind("column", cols)];
        config.structure = Some(Structure { first_value: 2, after_values: 0, distinct_values: 0, groups });
    })
}

fn model<B: HrmBackend>(config: ModelConfig, seed: u64) -> Hrm<B> {
    let mut model: Hrm<B> = config
        .init(&mut ChaCha8Rng::seed_from_u64(seed), &B::Device::default())
        .expect("a valid configuration");
    // That of a fresh model reads nothing.
    let weight = model.lm_head.weight.val().narrow(0, 0, 1).repeat_dim(0, 2);
    model.q_head.weight = model.q_head.weight.map(|_| weight);
    // So does a row of zeros.
    model.puzzle_emb = model.puzzle_emb.map(|mut table| {
        let row = |weights: Tensor<B, 2>| {
            let [_, width] = weights.dims();
            let row = Tensor::arange(0..width as i64, &weights.device()).float();
            row.sin().reshape([1, width])
        };
        table.weights = table.weights.map(row);
        table
    });
    model
}

/// Logits and halting values of three segments.
fn think<B: HrmBackend>(model: &Hrm<B>) -> Vec<f64> {
    let device = B::Device::default();
    let inputs = Tensor::<B, 1, Int>::arange(0..32, &device).remainder_scalar(5).reshape([2, 16]) + 1;
    let mut carry = Carry::fresh(model, inputs, Tensor::zeros([2], &device));
    let mut values = Vec::new();
    for _ in 0..3 {
        let (next, output) = model.segment(carry);
        carry = next;
        values.extend(tensor_values(output.logits));
        values.extend(tensor_values(output.q_halt));
    }
    values
}

fn widened_weights_compute_the_same<B: HrmBackend>() {
    for (recurrence, tokens) in [
        (RecurrenceKind::Trm, Tokens::Lattice),
        (RecurrenceKind::Hrm, Tokens::Lattice),
        (RecurrenceKind::Trm, Tokens::Cells),
    ] {
        let narrow = model::<B>(config(recurrence, tokens, 16, 8), 1);
        let before = think(&narrow);
        for (hidden, width) in [(24, 8), (16, 12), (32, 16)] {
            let wide = model::<B>(config(recurrence, tokens, hidden, width), 2);
            let fresh = think(&wide);
            let dict = wide.widened(narrow.state_dict());
            let wide = wide.load_state_dict(dict).expect("the weights fit");
            let apart =
                |other: &[f64]| before.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let moved = apart(&think(&wide));
            assert!(moved < 1e-3, "{recurrence:?}, {tokens:?}, {hidden}, {width}: {moved}");
            assert!(apart(&fresh) > 0.1, "other weights compute something else");
        }
        // A wider one, or one of another depth, is no narrower model: it stays what it is, and is refused.
        let small = model::<B>(config(recurrence, tokens, 12, 8), 3);
        let dict = narrow.state_dict();
        assert!(small.widened(dict.clone()) == dict);
        let deep = model::<B>(
            config(recurrence, tokens, 32, 8).with_layers(usize::from(recurrence == RecurrenceKind::Hrm), 3),
            3,
        );
        assert!(deep.widened(dict.clone()) == dict);
    }
}
