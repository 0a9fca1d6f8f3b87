//! How much a training step sends to a CUDA device: each copy costs the host more than starting a kernel does, and few may be under
//! way at a time. Counted in the log of the driver in `tools/cuda-without-gpu`; with a real driver there is nothing to see.

use std::{collections::BTreeMap, fs, path::PathBuf};

use burn::{
    backend::Autodiff,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};
use hrm_backend::HrmBackend;
use hrm_model::{ForwardDtype, Hrm, ModelConfig, act::PuzzleBatch, loss::LossKind};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Optimizer, SignSgd},
    step::{Step, StepSettings},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

hrm_backend::for_each_backend!(few_uploads);

/// Copies from the host that a step of the model below may make.
const MOST: usize = 45;

const ROWS: usize = 4;
const SEQ: usize = 17;

fn batch<B: Backend>(seed: usize) -> PuzzleBatch<B> {
    let device = B::Device::default();
    let tokens = |shift: usize| {
        let values: Vec<i32> = (0..ROWS * SEQ).map(|i| ((i * 7 + seed + shift) % 10 + 1) as i32).collect();
        Tensor::<B, 2, Int>::from_data(TensorData::new(values, [ROWS, SEQ]), &device)
    };
    let identifiers: Vec<i32> = (0..ROWS as i32).collect();
    let puzzle_identifiers = Tensor::from_data(TensorData::new(identifiers, [ROWS]), &device);
    PuzzleBatch { inputs: tokens(0), labels: tokens(3), puzzle_identifiers }
}

/// The log of the driver without a GPU from here on; `None` with another driver or backend.
fn log<B: Backend>() -> Option<PathBuf> {
    if std::env::var_os("HRM_WITHOUT_GPU").is_none() || !B::name(&B::Device::default()).contains("cuda") {
        return None;
    }
    let path = std::env::temp_dir().join(format!("hrm-uploads-{}", std::process::id()));
    // SAFETY: nothing else in this program changes or reads the environment: its other tests end before they come here.
    unsafe {
        std::env::set_var("HRM_FAKE_CUDA_LOG", &path);
        std::env::set_var("HRM_MATMUL_KERNEL", "cublas");
    }
    Some(path)
}

/// A step of HRM as on a GPU, in bf16 with heads for tensor cores: after two that compile and plan, the third is counted.
fn few_uploads<B: HrmBackend>() {
    let Some(log) = log::<B>() else {
        println!("skipped: only the driver in tools/cuda-without-gpu counts uploads");
        return;
    };
    let device = B::Device::default();
    let config = ModelConfig::new(11, SEQ).with_hidden_size(64).with_num_heads(2).with_layers(4, 4);
    let config =
        config.with_forward_dtype(ForwardDtype::Bf16).with(|config| config.num_puzzle_identifiers = ROWS);
    let mut model: Hrm<Autodiff<B>> =
        config.init(&mut ChaCha8Rng::seed_from_u64(3), &device).expect("a valid configuration");
    let mut carry = model.inner().empty_carry(ROWS);
    assert_eq!(carry.state.z_h.dtype(), DType::BF16);
    let mut adam = Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 0.1 });
    let team = Team::alone(device.clone());
    let mut lines = Vec::new();
    for step in 0..3 {
        B::sync(&device).expect("a device that works");
        let before = fs::read_to_string(&log).unwrap_or_default().len();
        let settings = StepSettings::new(LossKind::Stablemax, ROWS, 1e-3);
        let sign = SignSgd { weight_decay: 0.1 };
        let done = Step::new(settings, &mut adam, sign, &team)
            .run(model, carry, batch(step), None)
            .expect("no workers to lose");
        (model, carry) = (done.model, done.carry);
        B::sync(&device).expect("a device that works");
        let text = fs::read_to_string(&log).expect("the log of the driver");
        lines = text[before..].lines().map(str::to_owned).collect();
    }
    fs::remove_file(&log).expect("the log can be removed");
    let of = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    let [uploads, kernels, products] = ["upload ", "kernel ", "cublasLtMatmul "].map(of);
    println!("a training step: {uploads} uploads, {kernels} kernels, {products} products of cuBLASLt");
    // The kernel that is started after an upload is the one whose arguments it holds.
    let mut who = BTreeMap::<&str, usize>::new();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("upload ")) {
        *who.entry(pair[1].split(" stream").next().unwrap_or_default()).or_default() += 1;
    }
    let mut who: Vec<_> = who.into_iter().collect();
    who.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let who: Vec<String> = who.iter().map(|(name, count)| format!("{count:5} before {name}")).collect();
    assert!(kernels > 100 && products > 100, "the step is in the log");
    assert!(uploads <= MOST, "{uploads} uploads, at most {MOST} are allowed:\n{}", who.join("\n"));
}
