//! Where the time of a segment goes: each operator alone at the paper's shapes, how often a segment runs it, and how
//! near its rate is to what the machine can do. Prints a table in Markdown.
//!
//! Usage: `profile [BATCH] [f32|bf16]`

use std::{env, hint::black_box, time::Instant};

use burn::tensor::{Int, Tensor, TensorData};
use hrm_backend::{MatmulPrecision, ops, set_matmul_precision};
use hrm_benches::{B, batch, paper_model_inner};
use hrm_model::{act::Carry, layers::RotaryTables};

#[global_allocator]
static ALLOCATOR: hrm_backend::TensorAllocator = hrm_backend::TensorAllocator::new();

struct Row {
    name: &'static str,
    calls: usize,
    seconds: f64,
    gflop: f64,
    gbyte: f64,
}

fn main() {
    let rows: usize = env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(32);
    let bf16 = env::args().nth(2).is_some_and(|p| p == "bf16");
    if bf16 {
        set_matmul_precision(MatmulPrecision::Bf16);
    }
    let model = paper_model_inner();
    let config = model.config().clone();
    let (seq, hidden, heads) = (config.total_len(), config.hidden_size, config.num_heads);
    let (inter, blocks) = (config.intermediate_size(), config.h_layers);
    let tokens = rows * seq;
    let calls = config.h_cycles * (config.l_cycles + 1) * blocks;
    let levels = config.h_cycles * (config.l_cycles + 1);
    let device = Default::default();
    let matrix = |rows: usize, cols: usize| {
        let values: Vec<f32> =
            (0..rows * cols).map(|i| (i * 2_654_435_761 % 2003) as f32 / 1e3 - 1.0).collect();
        Tensor::<B, 2>::from_data(TensorData::new(values, [rows, cols]), &device)
    };
    let rotary = RotaryTables::<B>::new(seq, config.head_dim(), config.rope_theta, &device);
    let block = &model.l_level.layers[0];
    let attention = block.self_attn.as_ref().expect("the paper's blocks have attention");
    let mlp = block.mlp.as_ref().expect("the paper's blocks have a feed-forward layer");
    let weight = |linear: &hrm_model::layers::Linear<B>| linear.weight.val();
    let (x, wide, qkv) = (matrix(tokens, hidden), matrix(tokens, inter), matrix(tokens, 3 * hidden));
    let qkv = qkv.reshape([rows, seq, 3 * hidden]);
    let inputs = batch::<B>(rows, &device);
    let product = |m: usize, k: usize, n: usize| 2e-9 * (m * k * n) as f64;
    let traffic = |floats: usize| 4e-9 * floats as f64;

    let table = [
        Row {
            name: "qkv projection",
            calls,
            seconds: time(|| ops::linear(x.clone(), weight(&attention.qkv_proj))),
            gflop: product(tokens, hidden, 3 * hidden),
            gbyte: traffic(tokens * 4 * hidden),
        },
        Row {
            name: "attention with rotary positions",
            calls,
            seconds: time(|| {
                ops::attention(qkv.clone(), Some((rotary.cos.clone(), rotary.sin.clone())), heads)
            }),
            gflop: 2.0 * product(tokens, seq, hidden),
            gbyte: traffic(tokens * 4 * hidden),
        },
        Row {
            name: "output projection",
            calls,
            seconds: time(|| ops::linear(x.clone(), weight(&attention.o_proj))),
            gflop: product(tokens, hidden, hidden),
            gbyte: traffic(tokens * 2 * hidden),
        },
        Row {
            name: "gate, up and SwiGLU",
            calls,
            seconds: time(|| ops::linear_swiglu(x.clone(), weight(&mlp.gate_up_proj))),
            gflop: product(tokens, hidden, 2 * inter),
            gbyte: traffic(tokens * (hidden + inter)),
        },
        Row {
            name: "down projection",
            calls,
            seconds: time(|| ops::linear(wide.clone(), weight(&mlp.down_proj))),
            gflop: product(tokens, inter, hidden),
            gbyte: traffic(tokens * (hidden + inter)),
        },
        Row {
            name: "residual and RMSNorm",
            calls: 2 * calls,
            seconds: time(|| ops::add_rms_norm(x.clone(), x.clone(), 1e-5)),
            gflop: 4e-9 * (tokens * hidden) as f64,
            gbyte: traffic(tokens * 3 * hidden),
        },
        Row {
            name: "injection",
            calls: levels + config.h_cycles * config.l_cycles,
            seconds: time(|| x.clone() + x.clone()),
            gflop: 1e-9 * (tokens * hidden) as f64,
            gbyte: traffic(tokens * 3 * hidden),
        },
        Row {
            name: "embeddings",
            calls: 1,
            seconds: time(|| {
                let ids: Tensor<B, 1, Int> = inputs.puzzle_identifiers.clone();
                model.input_embeddings(inputs.inputs.clone(), model.puzzle_rows(ids))
            }),
            gflop: 0.0,
            gbyte: traffic(tokens * 4 * hidden),
        },
    ];

    let carry = Carry::fresh(&model, inputs.inputs.clone(), inputs.puzzle_identifiers.clone());
    let segment = time(|| model.segment(carry.clone()).1.q_halt.into_data());
    let (best, bandwidth) = roofline();
    println!(
        "Batch {rows}, {} products, {calls} blocks a segment. Best product {best:.0} GFLOP/s, copy {bandwidth:.1} GB/s.\n",
        if bf16 { "bf16" } else { "fp32" }
    );
    println!("| operator | calls | ms each | ms a segment | share | GFLOP/s | of the best | GB/s |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut sum = 0.0;
    for Row { name, calls, seconds, gflop, gbyte } in &table {
        let total = seconds * *calls as f64;
        sum += total;
        let rate = gflop / seconds;
        println!(
            "| {name} | {calls} | {:.3} | {:.1} | {:.1} % | {rate:.0} | {:.0} % | {:.1} |",
            seconds * 1e3,
            total * 1e3,
            100.0 * total / segment,
            100.0 * rate / best,
            gbyte / seconds
        );
    }
    let gflop: f64 = table.iter().map(|row| row.gflop * row.calls as f64).sum();
    println!("| sum | | | {:.1} | {:.1} % | | | |", sum * 1e3, 100.0 * sum / segment);
    println!(
        "| segment, measured | | | {:.1} | 100 % | {:.0} | {:.0} % | |",
        segment * 1e3,
        gflop / segment,
        100.0 * gflop / segment / best
    );
}

/// The median of some runs, after one that does not count.
fn time<R>(mut work: impl FnMut() -> R) -> f64 {
    black_box(work());
    let start = Instant::now();
    black_box(work());
    let once = start.elapsed().as_secs_f64();
    let runs = (1.0 / once).clamp(5.0, 51.0) as usize;
    let mut seconds: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[runs / 2]
}

/// What the machine can do by our own kernels: the rate of a product whose operands stay in the caches (GFLOP/s), and
/// of a copy between arrays that do not (GB/s, read and written).
fn roofline() -> (f64, f64) {
    let device = Default::default();
    let a = Tensor::<B, 2>::ones([384, 512], &device);
    let b = Tensor::<B, 2>::ones([512, 512], &device);
    let product = time(|| ops::linear(a.clone(), b.clone()));
    let (source, mut target) = (vec![1.0_f32; 32 << 20], vec![0.0_f32; 32 << 20]);
    let half = source.len() / 2;
    let copy = time(|| {
        let (left, right) = target.split_at_mut(half);
        std::thread::scope(|scope| {
            scope.spawn(|| left.copy_from_slice(&source[..half]));
            right.copy_from_slice(&source[half..]);
        });
    });
    (2e-9 * (384 * 512 * 512) as f64 / product, 8e-9 * source.len() as f64 / copy)
}
