//! What a recipe may change about a training step: the parts of the loss, accumulation, clipping, depth.

use burn::{
    backend::Autodiff,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};
use hrm_backend::HrmBackend;
use hrm_model::{
    Cycles, GroupKind, Hrm, Mixer, ModelConfig, PositionEncoding, RecurrenceKind, SegmentOutput, Structure,
    Tokens,
    act::{self, PuzzleBatch},
    loss::{self, ActLoss, Answers, IGNORE_LABEL, LossKind, LossSettings, Metrics},
};
use hrm_testing::{
    for_each_backend,
    parity::{rms, tensor_values},
};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Optimizer, SignSgd},
    step::{self, Commitment, Done, Gradients, Step, StepSettings},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

for_each_backend!(
    losses_are_their_formulas,
    parts_add_up_to_the_batch,
    clipping_bounds_the_norm,
    cycles_of_a_step_are_those_of_a_shallower_model,
    contradictions_are_learned_and_teach_no_cell,
    what_ends_unsolved_goes_on_with_a_value,
);

const ROWS: usize = 8;
const SEQ: usize = 16;
const VOCAB: usize = 6;

fn tokens<B: Backend>(rng: &mut ChaCha8Rng) -> Tensor<B, 2, Int> {
    let values: Vec<i32> = (0..ROWS * SEQ).map(|_| rng.random_range(1..VOCAB as i32)).collect();
    Tensor::from_data(TensorData::new(values, [ROWS, SEQ]), &B::Device::default())
}

fn floats<B: Backend, const D: usize>(rng: &mut ChaCha8Rng, shape: [usize; D]) -> Tensor<B, D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-3.0..3.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), &B::Device::default())
}

fn close(what: &str, got: f64, expected: f64, relative: f64) {
    assert!((got - expected).abs() <= relative * expected.abs(), "{what}: got {got}, expected {expected}");
}

/// In f64, from the definitions.
fn losses_are_their_formulas<B: HrmBackend>() {
    let device = B::Device::default();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let output = SegmentOutput {
        logits: floats::<B, 3>(&mut rng, [ROWS, SEQ, VOCAB]),
        q_halt: floats(&mut rng, [ROWS]),
        q_continue: floats(&mut rng, [ROWS]),
    };
    let mut labels: Vec<i64> = (0..ROWS * SEQ).map(|_| rng.random_range(0..VOCAB as i64)).collect();
    labels[3] = IGNORE_LABEL;
    let targets = floats::<B, 1>(&mut rng, [ROWS]) / 6.0 + 0.5;
    let steps = Tensor::<B, 1, Int>::from_ints([1, 2, 3, 1, 2, 3, 1, 5], &device);
    let settings = LossSettings {
        kind: LossKind::Softmax,
        label_smoothing: 0.2,
        halt_weight: 0.05,
        supervision_decay: 0.7,
        blanks_only: false,
    };

    let ints = TensorData::new(labels.clone(), [ROWS, SEQ]).convert::<B::IntElem>();
    let label_tensor = Tensor::<B, 2, Int>::from_data(ints, &device);
    let answers = Answers::new(&settings, &output, label_tensor.clone(), label_tensor);
    let act = ActLoss::new(&settings, &output, answers, Some(targets.clone()));
    let halted = steps.clone().greater_equal_elem(0);
    let (_, metrics) = act.sums(halted, steps.clone());
    let metrics = Metrics::from_values(&tensor_values(metrics));

    let (logits, q_halt, q_continue) =
        (tensor_values(output.logits), tensor_values(output.q_halt), tensor_values(output.q_continue));
    let (targets, steps) = (tensor_values(targets), hrm_testing::parity::values(&steps.into_data()));
    let bce = |x: f64, t: f64| (1.0 + x.exp()).ln() - t * x;
    let (mut plain, mut total) = (0.0, 0.0);
    for row in 0..ROWS {
        let (mut lm, mut smoothed, mut asked, mut exact) = (0.0, 0.0, 0.0, 1.0);
        for cell in row * SEQ..(row + 1) * SEQ {
            if labels[cell] == IGNORE_LABEL {
                continue;
            }
            let x = &logits[cell * VOCAB..(cell + 1) * VOCAB];
            let sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
            let nll = |token: usize| sum - x[token];
            let label = labels[cell] as usize;
            lm += nll(label);
            smoothed += 0.8 * nll(label) + 0.2 * (0..VOCAB).map(nll).sum::<f64>() / VOCAB as f64;
            asked += 1.0;
            if x.iter().any(|other| *other > x[label]) {
                exact = 0.0;
            }
        }
        let q = bce(q_halt[row], exact) + bce(q_continue[row], targets[row]);
        plain += lm / asked;
        total += 0.7_f64.powf(steps[row] - 1.0) * (smoothed / asked + 0.05 * q);
    }
    close("lm_loss is neither smoothed nor weighted", metrics.lm_loss, plain, 1e-5);
    close("the loss", metrics.loss, total, 1e-5);

    let widest = floats::<B, 2>(&mut rng, [4, VOCAB]).cast(B::WIDEST_FLOAT);
    let labels = Tensor::<B, 1, Int>::from_ints([0, 1, 2, 3], &device);
    let (one, smoothed) = LossKind::Stablemax.smoothed_cross_entropy(widest.clone(), labels.clone(), 0.5);
    assert_eq!(
        tensor_values(one.clone()),
        tensor_values(LossKind::Stablemax.cross_entropy(widest.clone(), labels))
    );
    let uniform = tensor_values(loss::log_stablemax(widest).mean_dim(1).cast(DType::F32));
    for ((one, smoothed), uniform) in tensor_values(one).into_iter().zip(tensor_values(smoothed)).zip(uniform)
    {
        close("smoothed stablemax", smoothed, 0.5 * one - 0.5 * uniform, 1e-5);
    }
}

fn model<B: HrmBackend>(config: ModelConfig) -> Hrm<Autodiff<B>> {
    config.init(&mut ChaCha8Rng::seed_from_u64(3), &B::Device::default()).expect("a valid config")
}

fn tiny() -> ModelConfig {
    let config = ModelConfig::new(VOCAB, SEQ).with_hidden_size(32).with_num_heads(2).with_layers(1, 1);
    config.with(|config| (config.num_puzzle_identifiers, config.halt_max_steps) = (5, 3))
}

fn batch<B: Backend>(rng: &mut ChaCha8Rng) -> PuzzleBatch<B> {
    let identifiers: Vec<i32> = (0..ROWS).map(|_| rng.random_range(0..5)).collect();
    PuzzleBatch {
        inputs: tokens(rng),
        labels: tokens(rng),
        puzzle_identifiers: Tensor::from_data(TensorData::new(identifiers, [ROWS]), &B::Device::default()),
    }
}

/// Parameters, puzzle embedding, carry and metrics after some steps.
fn trained<B: HrmBackend>(accumulate: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut model = model::<B>(tiny());
    let mut carry = model.inner().empty_carry(ROWS);
    let mut adam = Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 0.1 });
    let settings = StepSettings {
        accumulate,
        grad_clip: Some(0.1),
        ..StepSettings::new(LossKind::Stablemax, ROWS, 1e-3)
    };
    let team = Team::alone(B::Device::default());
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut metrics = Vec::new();
    for step in 0..6 {
        let explored = Tensor::<B, 1, Int>::from_ints([0, 2, 3, 0, 2, 0, 0, step % 3], &B::Device::default());
        let sign = SignSgd { weight_decay: 0.1 };
        let batch = batch::<B>(&mut rng);
        let step = Step::new(settings, &mut adam, sign, &team);
        let done: Done<B> = step.run(model, carry, batch, Some(explored)).expect("no workers to lose");
        (model, carry) = (done.model, done.carry);
        metrics.extend(tensor_values(done.metrics));
    }
    let dict = model.state_dict();
    let mut weights = Vec::new();
    for (name, data) in &dict {
        if !name.starts_with("puzzle_emb") {
            weights.extend(data.iter::<f64>());
        }
    }
    let puzzles = dict["puzzle_emb.weights"].iter::<f64>().collect();
    let halted: Vec<f64> = hrm_testing::parity::values(&carry.halted.int().into_data());
    let steps = hrm_testing::parity::values(&carry.steps.into_data());
    (weights, puzzles, [halted, steps].concat(), metrics)
}

fn parts_add_up_to_the_batch<B: HrmBackend>() {
    let (initial, ..) = {
        let model = model::<B>(tiny());
        let dict = model.state_dict();
        let weights: Vec<f64> = dict
            .iter()
            .filter(|(name, _)| !name.starts_with("puzzle_emb"))
            .flat_map(|(_, data)| data.iter::<f64>().collect::<Vec<_>>())
            .collect();
        (weights,)
    };
    let whole = trained::<B>(1);
    let difference = |a: &[f64], b: &[f64]| rms(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
    let moved = difference(&whole.0, &initial);
    assert!(moved > 1e-3, "the steps move the weights: {moved}");
    for accumulate in [2, 4, 8] {
        let parts = trained::<B>(accumulate);
        // The sign of a gradient that is zero but for rounding is a matter of chance: hence not every weight by itself.
        let apart = difference(&whole.0, &parts.0) / moved;
        assert!(apart < 1e-3, "{accumulate} parts: weights differ by {apart} of the way they went");
        assert!(
            difference(&whole.1, &parts.1) < 1e-3 * rms(&whole.1),
            "{accumulate} parts: puzzle embedding"
        );
        assert_eq!(whole.2, parts.2, "{accumulate} parts: halting");
        for (index, (a, b)) in whole.3.iter().zip(&parts.3).enumerate() {
            close(&format!("{accumulate} parts, metric {index}"), *b, *a, 1e-4);
        }
    }
}

fn clipping_bounds_the_norm<B: HrmBackend>() {
    let model = model::<B>(tiny());
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let carry = model.inner().empty_carry(ROWS);
    let settings = StepSettings::new(LossKind::Stablemax, ROWS, 1e-3);
    let grads = step::forward(&model, carry, batch(&mut rng), None, &settings).backward(&model).grads;
    let norm = |grads: &Gradients<B>| tensor_values(grads.norm().expect("gradients"))[0];
    let before = norm(&grads.model);
    let by_hand: f64 = grads.model.0.values().flat_map(|g| tensor_values(g.clone())).map(|g| g * g).sum();
    close("norm", before, by_hand.sqrt(), 1e-5);
    assert_eq!(grads.model.0.len(), model.state_dict().len() - 3, "all but puzzles and initial states");

    let clipped = grads.model.clone().clip(before / 4.0);
    close("clipped", norm(&clipped), before / 4.0, 1e-4);
    for (name, grad) in &grads.model.0 {
        let scaled = tensor_values(clipped.0[name].clone());
        for (scaled, grad) in scaled.into_iter().zip(tensor_values(grad.clone())) {
            close(name, scaled, grad / 4.0, 1e-4);
        }
    }
    let untouched = grads.model.clone().clip(before * 1.01);
    for (name, grad) in grads.model.0 {
        assert_eq!(tensor_values(grad), tensor_values(untouched.0[&name].clone()), "{name}: below the bound");
    }
}

fn cycles_of_a_step_are_those_of_a_shallower_model<B: HrmBackend>() {
    let logits = |config: ModelConfig, cycles: Option<Cycles>| {
        let model = model::<B>(config);
        let carry = model.inner().empty_carry(ROWS);
        let settings = StepSettings { cycles, ..StepSettings::new(LossKind::Softmax, ROWS, 1e-3) };
        let batch = batch(&mut ChaCha8Rng::seed_from_u64(7));
        tensor_values(step::forward(&model, carry, batch, None, &settings).output.logits.inner())
    };
    for base in [
        tiny(),
        tiny().with(|config| {
            (config.recurrence, config.h_layers) = (hrm_model::RecurrenceKind::Trm, 0);
            config.no_act_continue = true;
        }),
    ] {
        let full = base.clone().with_cycles(3, 2);
        let shallow = logits(base.with_cycles(1, 2), None);
        assert_eq!(logits(full.clone(), Some(Cycles { h_cycles: 1, l_cycles: 2 })), shallow);
        assert_ne!(logits(full, None), shallow);
    }
}

/// A lattice of 16 cells and the values 2 to 5, that learns to tell contradictions.
fn doubting() -> ModelConfig {
    let rows = (0..4).map(|row| (4 * row..4 * row + 4).collect()).collect();
    let groups = vec![GroupKind { name: "row".into(), groups: rows, own: false }];
    let config = tiny().with_layers(0, 1).with_puzzle_emb_ndim(0);
    config.with(|config| {
        config.structure = Some(Structure { first_value: 2, after_values: 0, distinct_values: 0, groups });
        (config.tokens, config.mixer, config.recurrence) =
            (Tokens::Lattice, Mixer::Groups, RecurrenceKind::Trm);
        config.pos_encodings = PositionEncoding::None;
        (config.no_act_continue, config.conflict) = (true, true);
    })
}

/// Every third cell is given; row 2 has a wrong given, row 5 a label that is not asked for where something is given.
fn half_given<B: HrmBackend>() -> PuzzleBatch<B> {
    let device = B::Device::default();
    let ints =
        |values: Vec<i32>| Tensor::<B, 2, Int>::from_data(TensorData::new(values, [ROWS, SEQ]), &device);
    let label = |cell: usize| 2 + (cell % 4) as i32;
    let mut inputs: Vec<i32> =
        (0..ROWS * SEQ).map(|cell| if cell % 3 == 0 { label(cell) } else { 1 }).collect();
    let mut labels: Vec<i32> = (0..ROWS * SEQ).map(label).collect();
    inputs[2 * SEQ + 4] = 2 + (label(2 * SEQ + 4) - 1) % 4;
    (inputs[5 * SEQ], labels[5 * SEQ]) = (3, IGNORE_LABEL as i32);
    PuzzleBatch {
        inputs: ints(inputs),
        labels: ints(labels),
        puzzle_identifiers: Tensor::zeros([ROWS], &device),
    }
}

fn contradictions_are_learned_and_teach_no_cell<B: HrmBackend>() {
    let model = model::<B>(doubting());
    let batch = half_given::<B>();

    let wrong = model.config().contradicted(batch.inputs.clone(), batch.labels.clone());
    let mut expected = vec![0.0; ROWS];
    expected[2] = 1.0;
    assert_eq!(tensor_values(wrong.expect("the model has a sense of it").float()), expected);
    let without = doubting().with(|config| config.conflict = false);
    assert!(without.contradicted(batch.inputs.clone(), batch.labels.clone()).is_none());

    let settings = StepSettings::new(LossKind::Softmax, ROWS, 1e-3);
    let run = |model: &Hrm<Autodiff<B>>, batch: PuzzleBatch<B>| {
        let forward = step::forward(model, model.inner().empty_carry(ROWS), batch, None, &settings);
        let metrics = Metrics::from_values(&tensor_values(forward.metrics.clone()));
        (forward.q_continue_target.clone().map(tensor_values), metrics, forward.backward(model).grads.model)
    };
    let (target, metrics, grads) = run(&model, batch.clone());
    assert_eq!(target, Some(expected));
    // Both halting values start at -5: only the one contradiction is a surprise.
    let surprise = (1.0 + 5.0_f64.exp()).ln();
    close("conflict loss", metrics.q_continue_loss, surprise + 7.0 * (1.0 + (-5.0_f64).exp()).ln(), 1e-4);
    let bias = tensor_values(grads.0["q_head.bias"].clone());
    assert!(bias[1] < 0.0, "one contradiction among eight is more than was foreseen: {bias:?}");

    // The row with the contradiction teaches no cell: whatever its labels, the other gradients are the same.
    let other = batch.labels.clone().slice_fill([2..3, 5..SEQ], 2);
    let (_, _, same) = run(&model, PuzzleBatch { labels: other, ..batch });
    for (name, grad) in &grads.0 {
        assert_eq!(tensor_values(grad.clone()), tensor_values(same.0[name].clone()), "{name}");
    }

    let device = B::Device::default();
    let q = |values: [f32; 3]| Tensor::<B, 1>::from_floats(values, &device);
    let steps = Tensor::<B, 1, Int>::from_ints([1, 1, 1], &device);
    let halts = |config: &ModelConfig| {
        let (halted, _) = act::halt(config, steps.clone(), q([-1.0, 1.0, -1.0]), q([-1.0, -1.0, 1.0]), None);
        tensor_values(halted.float())
    };
    assert_eq!(halts(&doubting()), [0.0, 1.0, 1.0]);
    assert_eq!(halts(&without), [0.0, 1.0, 0.0]);
}

fn what_ends_unsolved_goes_on_with_a_value<B: HrmBackend>() {
    let model = model::<B>(doubting().with(|config| config.halt_max_steps = 1));
    let batch = half_given::<B>();
    let whole = |tensor: Tensor<B, 2, Int>| hrm_testing::parity::values(&tensor.into_data());
    let (inputs, labels) = (whole(batch.inputs.clone()), whole(batch.labels.clone()));
    let run = |commitment: Option<Commitment>| {
        let settings = StepSettings { commitment, ..StepSettings::new(LossKind::Softmax, ROWS, 1e-3) };
        step::forward(&model, model.inner().empty_carry(ROWS), batch.clone(), None, &settings)
    };
    let plain = run(None);
    assert_eq!(tensor_values(plain.carry.halted.clone().float()), [1.0; ROWS]);
    let logits = tensor_values(plain.output.logits.clone());
    for commitment in [Commitment::Right, Commitment::Wrong] {
        let done = run(Some(commitment));
        assert_eq!(
            tensor_values(done.metrics),
            tensor_values(plain.metrics.clone()),
            "the step itself is the same"
        );
        let halted = tensor_values(done.carry.halted.clone().float());
        assert_eq!(halted, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "all but the contradicted row go on");
        let steps: Vec<f64> = hrm_testing::parity::values(&done.carry.steps.clone().into_data());
        assert_eq!(steps, halted, "from step 0");
        assert_eq!(tensor_values(done.carry.state.z_h), tensor_values(plain.carry.state.z_h.clone()));
        let after = whole(done.carry.batch.inputs);
        for row in 0..ROWS {
            let weights = |cell: usize| {
                let of = &logits[cell * VOCAB..][2..VOCAB];
                let sum: f64 = of.iter().map(|x| x.exp()).sum();
                of.iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
            };
            let second = |cell: usize| {
                let mut weights = weights(cell);
                weights.sort_by(f64::total_cmp);
                weights[weights.len() - 2]
            };
            let cells = row * SEQ..(row + 1) * SEQ;
            let changed: Vec<usize> = cells.clone().filter(|&cell| after[cell] != inputs[cell]).collect();
            assert_eq!(changed.len(), usize::from(row != 2), "{commitment:?}, row {row}");
            for cell in changed {
                assert!(inputs[cell] < 2.0, "it was open");
                let most = cells.clone().filter(|&cell| inputs[cell] < 2.0).map(second).fold(0.0, f64::max);
                assert!(second(cell) > most - 1e-5, "the least sure one: {} of {most}", second(cell));
                let is_right = after[cell] == labels[cell];
                assert_eq!(is_right, commitment == Commitment::Right);
                let wrong =
                    weights(cell).into_iter().zip(2..).filter(|(_, token)| f64::from(*token) != labels[cell]);
                let likeliest = wrong.map(|(weight, _)| weight).fold(0.0, f64::max);
                let weight = weights(cell)[after[cell] as usize - 2];
                assert!(
                    is_right || weight > likeliest - 1e-5,
                    "the likeliest wrong one: {weight} of {likeliest}"
                );
            }
        }
    }
    let draws: Vec<_> = (0..400).map(|step| Commitment::of_step(0.5, 7, step)).collect();
    let count = |what| draws.iter().filter(|draw| **draw == what).count();
    assert!((160..240).contains(&count(None)) && (70..130).contains(&count(Some(Commitment::Wrong))));
    assert_eq!(Commitment::of_step(0.0, 7, 3), None);
}
