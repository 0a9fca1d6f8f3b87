//! Single functions and layers against unit vectors of the original (`components.*` in `HRM_PARITY_DIR`, or in
//! the subset we ship).

use burn::{
    backend::Autodiff,
    module::Param,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};
use hrm_backend::{HrmAutodiffBackend, HrmBackend, ops, plain};
use hrm_model::{
    ModelConfig,
    init::{Initializer, lecun_std, param},
    layers::{Attention, Block, Linear, RotaryTables, SwiGlu},
    loss::{self, LossKind},
};
use hrm_testing::{
    for_each_backend,
    parity::{self, Deviations, Fixture, tensor_values},
};
use rand::SeedableRng;

for_each_backend!(
    parity_stablemax,
    parity_softmax,
    parity_rms_norm,
    parity_swiglu,
    normed_swiglu_is_its_formula,
    parity_rope,
    parity_attention,
    parity_block,
);

const THETA: f64 = 10_000.0;
const EPS: f64 = 1e-5;

fn line<B: Backend>(what: &str) -> Deviations {
    Deviations::new(format!("components.{what} [{}]", B::name(&B::Device::default())))
}

/// A cross-entropy and its gradient with respect to the logits.
fn cross_entropy<B: HrmBackend>(
    kind: LossKind,
    fixture: &Fixture,
    labels: Tensor<B, 1, Int>,
) -> (Vec<f64>, Vec<f64>) {
    let logits: Tensor<Autodiff<B>, 2> = fixture.tensor("stablemax.logits", &labels.device()).require_grad();
    let loss = kind.cross_entropy(logits.clone(), Tensor::from_inner(labels));
    let grads = loss.clone().sum().backward();
    let grad = logits.grad(&grads).expect("the logits have a gradient");
    (tensor_values(loss), tensor_values(grad))
}

fn parity_stablemax<B: HrmBackend>() {
    let Some((fixture, _)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("stablemax");
    // In the widest type that the backend has; f64 has 53 bits to show.
    let (suffix, tolerance) = match B::WIDEST_FLOAT {
        DType::F64 => ("f64", 1e-13),
        _ => ("f32", 1e-6),
    };

    // s(x) itself: the original's grid from -1e6 to 1e6, read off a row with x and 0, since s(0) = 1.
    let expected = fixture.values(&format!("stablemax.grid_s_{suffix}"));
    for (x, expected) in fixture.values("stablemax.grid_x").into_iter().zip(expected) {
        let row = Tensor::<B, 2>::from_data([[x, 0.0]], (&device, B::WIDEST_FLOAT));
        let logs = tensor_values(loss::log_stablemax(row));
        let s = (logs[0] - logs[1]).exp();
        check.check_within(&format!("s({x})"), &[s], &[expected], 0.0, tolerance * 10.0);
    }

    let logits = fixture.tensor::<B, 2>("stablemax.logits", &device).cast(B::WIDEST_FLOAT);
    check.check_within(
        "log_stablemax",
        &tensor_values(loss::log_stablemax(logits)),
        &fixture.values(&format!("stablemax.log_stablemax_{suffix}")),
        0.0,
        tolerance,
    );

    let (values, grad) =
        cross_entropy::<B>(LossKind::Stablemax, &fixture, fixture.int("stablemax.labels", &device));
    check.check("cross-entropy", &values, &fixture.values("stablemax.ce_f64"), 0.0);
    let expected = fixture.values("stablemax.ce_grad_logits_f32");
    check.check("gradient of the logits", &grad, &expected, 0.0);
    check.finish();
}

fn parity_softmax<B: HrmBackend>() {
    let Some((fixture, _)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("softmax");
    let (values, grad) =
        cross_entropy::<B>(LossKind::Softmax, &fixture, fixture.int("stablemax.labels", &device));
    // One logit of 1000 gives a loss of 2000 that would hide the others: compare each.
    for (cell, (got, expected)) in values.iter().zip(fixture.values("softmax.ce_f32")).enumerate() {
        let rounding = 1e-7;
        check.check(&format!("cross-entropy of cell {cell}"), &[*got], &[expected], rounding);
    }
    let expected = fixture.values("softmax.ce_grad_logits_f32");
    check.check("gradient of the logits", &grad, &expected, 0.0);
    check.finish();
}

/// The rows of a fixture's tensor of any rank.
fn rows<B: Backend>(fixture: &Fixture, key: &str, device: &B::Device) -> Tensor<B, 2> {
    let [.., _, width] = fixture.shape::<3>(key);
    fixture.tensor::<B, 3>(key, device).reshape([-1, width as i32])
}

fn parity_rms_norm<B: HrmBackend>() {
    let Some((fixture, _)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("rms_norm");

    let x: Tensor<Autodiff<B>, 2> = rows(&fixture, "rms_norm.x", &device).require_grad();
    let y = ops::add_rms_norm(x.clone(), x.zeros_like(), EPS);
    let grads = (y.clone() * rows(&fixture, "rms_norm.grad_out", &device)).sum().backward();
    check.check("y", &tensor_values(y), &fixture.values("rms_norm.y"), 0.0);
    let grad = tensor_values(x.grad(&grads).expect("x has a gradient"));
    check.check("gradient of x", &grad, &fixture.values("rms_norm.grad_x"), 0.0);

    let tiny: Tensor<B, 2> = rows(&fixture, "rms_norm.tiny_x", &device);
    let y = ops::add_rms_norm(tiny.clone(), tiny.zeros_like(), EPS);
    check.check("tiny y", &tensor_values(y), &fixture.values("rms_norm.tiny_y"), 0.0);

    if B::supports_dtype(&device, DType::BF16) {
        let x = rows::<B>(&fixture, "rms_norm.x_bf16", &device).cast(DType::BF16);
        let y = ops::add_rms_norm(x.clone(), x.zeros_like(), EPS);
        check.check_equal("type of bf16 y", y.dtype(), DType::BF16);
        // Half a unit in the last place of 8 bits, should a value fall on the other side of a tie.
        let expected = fixture.values("rms_norm.y_bf16");
        check.check_within("bf16 y", &tensor_values(y.cast(DType::F32)), &expected, 0.0, 1e-3);
    }
    check.finish();
}

/// A trainable parameter of a fixture's values.
fn weight<A: Backend>(fixture: &Fixture, key: &str, device: &A::Device) -> Param<Tensor<A, 2>> {
    let values = fixture.values(key).into_iter().map(|v| v as f32).collect();
    param(values, fixture.shape(key), device)
}

fn linear<A: Backend>(fixture: &Fixture, key: &str, device: &A::Device) -> Linear<A> {
    Linear { weight: weight(fixture, key, device), bias: None }
}

fn grad_of<A: HrmAutodiffBackend, const D: usize>(tensor: &Tensor<A, D>, grads: &A::Gradients) -> Vec<f64> {
    tensor_values(tensor.grad(grads).expect("has a gradient"))
}

/// The formula of SiC in f64 on the host.
fn normed_swiglu_is_its_formula<B: HrmBackend>() {
    let (rows, inter, eps) = (3, 8, 1e-5);
    let values: Vec<f32> = (0..rows * 2 * inter).map(|i| ((i * 29 % 47) as f32 / 10.0 - 2.3) * 1.7).collect();
    let input =
        Tensor::<B, 2>::from_data(TensorData::new(values.clone(), [rows, 2 * inter]), &B::Device::default());
    let got = tensor_values(ops::normed_swiglu(input, eps));
    for (row, values) in values.chunks(2 * inter).enumerate() {
        let gate: Vec<f64> = values[..inter].iter().map(|&v| f64::from(v)).collect();
        let product: Vec<f64> = gate.iter().zip(&values[inter..]).map(|(g, &u)| g * f64::from(u)).collect();
        let rms = (product.iter().map(|p| p * p).sum::<f64>() / inter as f64 + eps).sqrt();
        for column in 0..inter {
            let expected = product[column] / rms / (1.0 + (-gate[column]).exp());
            let got = got[row * inter + column];
            assert!((got - expected).abs() < 1e-5, "row {row}, column {column}: {got}, expected {expected}");
        }
    }
}

fn parity_swiglu<B: HrmBackend>() {
    let Some((fixture, _)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("swiglu");

    let [hidden, _] = fixture.shape("swiglu.down_proj.weight");
    let mut layer: SwiGlu<Autodiff<B>> =
        SwiGlu::new(&ModelConfig::new(2, 1), hidden, &mut Initializer::zeros(), &device);
    layer.gate_up_proj = linear(&fixture, "swiglu.gate_up_proj.weight", &device);
    layer.down_proj = linear(&fixture, "swiglu.down_proj.weight", &device);
    let x = rows::<Autodiff<B>>(&fixture, "swiglu.x", &device).require_grad();
    let y = layer.forward(x.clone());
    let grads = (y.clone() * rows(&fixture, "swiglu.grad_out", &device)).sum().backward();
    check.check("y", &tensor_values(y), &fixture.values("swiglu.y"), 0.0);
    for (key, got) in [
        ("swiglu.grad_x", grad_of(&x, &grads)),
        ("swiglu.grad_gate_up", grad_of(&layer.gate_up_proj.weight.val(), &grads)),
        ("swiglu.grad_down", grad_of(&layer.down_proj.weight.val(), &grads)),
    ] {
        check.check(key, &got, &fixture.values(key), 0.0);
    }
    check.finish();
}

/// Tables of every size in the file (`rope.cos_d64_n916`: head width 64, 916 positions, of which the JSON may
/// say that only some rows are there), and their application to queries and keys.
fn parity_rope<B: HrmBackend>() {
    let Some((fixture, json)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("rope");

    for size in fixture.keys("rope.cos_") {
        let (head_dim, seq) = size
            .strip_prefix('d')
            .and_then(|size| size.split_once("_n"))
            .and_then(|(d, n)| Some((d.parse().ok()?, n.parse().ok()?)))
            .unwrap_or_else(|| panic!("rope.cos_{size}: expected rope.cos_dD_nN"));
        let tables = RotaryTables::<B>::new(seq, head_dim, THETA, &device);
        let only: Vec<usize> = match json[format!("rope_{size}_rows")].as_array() {
            None => (0..seq).collect(),
            Some(rows) => rows.iter().map(|row| row.as_u64().expect("a row") as usize).collect(),
        };
        for (key, table) in [("cos", tables.cos), ("sin", tables.sin)] {
            let all = tensor_values(table);
            let got: Vec<f64> =
                only.iter().flat_map(|row| &all[row * head_dim..][..head_dim]).copied().collect();
            let key = format!("rope.{key}_{size}");
            check.check(&key, &got, &fixture.values(&key), 0.0);
        }
    }

    let [_, seq, _, head_dim] = fixture.shape("rope.q");
    let tables = RotaryTables::<B>::new(seq, head_dim, THETA, &device);
    for (key, expected) in [("rope.q", "rope.q_out"), ("rope.k", "rope.k_out")] {
        let x = fixture.tensor::<B, 4>(key, &device).swap_dims(1, 2); // [batch, heads, seq, head_dim]
        let rotated = plain::rotate(x, &tables.cos, &tables.sin).swap_dims(1, 2);
        check.check(expected, &tensor_values(rotated), &fixture.values(expected), 0.0);
    }
    check.finish();
}

fn parity_attention<B: HrmBackend>() {
    let Some((fixture, _)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("attention");

    let [_, seq, hidden] = fixture.shape("attn.x");
    let [_, _, heads, head_dim] = fixture.shape("rope.q");
    let tables = RotaryTables::<Autodiff<B>>::new(seq, head_dim, THETA, &device);
    let mut layer: Attention<Autodiff<B>> = Attention::new(&mut Initializer::zeros(), hidden, heads, &device);
    layer.qkv_proj = linear(&fixture, "attn.qkv_proj.weight", &device);
    layer.o_proj = linear(&fixture, "attn.o_proj.weight", &device);
    for (set, rotary) in [("rope", Some(&tables)), ("norope", None)] {
        let x = fixture.tensor::<Autodiff<B>, 3>("attn.x", &device).require_grad();
        let y = layer.forward(x.clone(), rotary);
        let grads = (y.clone() * fixture.tensor("attn.grad_out", &device)).sum().backward();
        for (what, got) in [
            ("y", tensor_values(y)),
            ("grad_x", grad_of(&x, &grads)),
            ("grad_qkv", grad_of(&layer.qkv_proj.weight.val(), &grads)),
            ("grad_o", grad_of(&layer.o_proj.weight.val(), &grads)),
        ] {
            let key = format!("attn.{set}.{what}");
            check.check(&key, &got, &fixture.values(&key), 0.0);
        }
    }
    check.finish();
}

fn parity_block<B: HrmBackend>() {
    let Some((fixture, _)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    if fixture.get("block.x").is_none() {
        // The subset leaves it out for its size; there the sets of whole models cover it.
        println!("parity components.block: not in {}, skipped", parity::dir().display());
        return;
    }
    let mut check = line::<B>("block");
    let [_, seq, hidden] = fixture.shape("block.x");
    let [_, _, heads, head_dim] = fixture.shape("rope.q");
    let config = ModelConfig::new(6, seq).with_hidden_size(hidden).with_num_heads(heads);
    let mut block: Block<B> = Block::new(&config, None, &mut Initializer::zeros(), &device);
    let attention = block.self_attn.as_mut().expect("a block with attention");
    attention.qkv_proj = linear(&fixture, "block.w.self_attn.qkv_proj.weight", &device);
    attention.o_proj = linear(&fixture, "block.w.self_attn.o_proj.weight", &device);
    let mlp = block.mlp.as_mut().expect("a block of attention has a feed-forward layer");
    mlp.gate_up_proj = linear(&fixture, "block.w.mlp.gate_up_proj.weight", &device);
    mlp.down_proj = linear(&fixture, "block.w.mlp.down_proj.weight", &device);
    let tables = RotaryTables::new(seq, head_dim, THETA, &device);
    let y = block.forward(fixture.tensor("block.x", &device), None, Some(&tables));
    check.check("block.y", &tensor_values(y), &fixture.values("block.y"), 0.0);
    check.finish();
}

#[test]
fn parity_swiglu_widths() {
    let Some((_, json)) = parity::components() else {
        return;
    };
    let mut check = Deviations::new("components.swiglu_inter");
    for case in json["swiglu_inter"].as_array().expect("swiglu_inter") {
        let hidden = case["hidden"].as_u64().expect("hidden") as usize;
        let mut config = ModelConfig::new(6, 16).with_hidden_size(hidden);
        config.expansion = case["expansion"].as_f64().expect("expansion");
        let expected = case["inter"].as_u64().expect("inter") as usize;
        check.check_equal(&case.to_string(), config.intermediate_size(), expected);
    }
    check.finish();
}

/// Ours draws by rejection where the original inverts the distribution function, so samples differ and moments
/// must agree.
#[test]
fn parity_initial_weights() {
    let Some((_, json)) = parity::components() else {
        return;
    };
    let mut check = Deviations::new("components.trunc_normal");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let sets = json["trunc_normal"].as_object().expect("trunc_normal");
    let sets = sets.iter().filter_map(|(key, set)| Some((key.strip_prefix("std=")?.parse().ok()?, set)));
    const SAMPLES: usize = 400_000;
    for (std, set) in sets {
        let std: f64 = std;
        let x: Vec<f64> =
            Initializer::random(&mut rng).trunc_normal(std, SAMPLES).into_iter().map(f64::from).collect();
        let mean_of = |f: &dyn Fn(f64) -> f64| x.iter().map(|x| f(*x)).sum::<f64>() / SAMPLES as f64;
        let mean = mean_of(&|x| x);
        let var = mean_of(&|x| (x - mean).powi(2));
        let kurtosis = mean_of(&|x| (x - mean).powi(4)) / var / var;
        let expected = |key: &str| set[key].as_f64().unwrap_or_else(|| panic!("std={std}: no {key}"));
        let bound = expected("bound");
        let inside = mean_of(&|x| f64::from(u8::from(x.abs() < bound / 2.0)));
        let largest = x.iter().fold(0.0f64, |a, x| a.max(x.abs()));
        for (key, got, tolerance) in [
            ("mean", mean, 4e-3 * std),
            ("std", var.sqrt(), 4e-3 * std),
            ("kurtosis", kurtosis, 0.02),
            ("frac_abs_lt_half_bound", inside, 4e-3),
            ("max", largest, 1e-3 * std),
            ("bound", largest, 1e-3 * std),
        ] {
            // `check_within` allows ten times the floor.
            check.check_within(&format!("std={std} {key}"), &[got], &[expected(key)], tolerance / 10.0, 0.0);
        }
        check.check_equal("within the bound", largest <= bound * (1.0 + 1e-6), true);
    }
    check.check("1/sqrt(fan_in)", &[lecun_std(512)], &[1.0 / 512f64.sqrt()], 0.0);
    check.finish();
}
