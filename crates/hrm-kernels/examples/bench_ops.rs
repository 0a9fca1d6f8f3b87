//! Nanoseconds per element (or GFLOP/s) of the kernels that are not plain matrix products: `cargo run -p hrm-kernels --example bench_ops`.
//!
//! The model's shapes at batch 32 of Sudoku: 82 tokens, hidden 512, 8 heads, feed-forward 1536. Best of several rounds.

use hrm_kernels::{
    AdamAtan2Step, AttentionShape, Matrix, PackedBf16, PackedGateUp, PackedGateUpBf16, PackedMatrix, Rotary,
    Store, adam_atan2_step, add, attention, attention_backward, gemm_bf16_packed, gemm_packed, gemm_swiglu,
    gemm_swiglu_bf16, rms_norm, rms_norm_backward, swiglu, swiglu_backward,
};
use std::time::Instant;

mod clock;

fn best(rounds: usize, mut f: impl FnMut()) -> f64 {
    let zero = Instant::now();
    (0..rounds)
        .map(|_| {
            let start = clock::seconds(zero);
            f();
            clock::seconds(zero) - start
        })
        .fold(f64::INFINITY, f64::min)
}

fn per_element(name: &str, elements: usize, f: impl FnMut()) {
    let t = best(40, f);
    println!("{name:<28} {:>8.3} ms  {:>7.3} ns/element", t * 1e3, t / elements as f64 * 1e9);
}

fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn main() {
    println!("{:?}, {} threads; best of N", hrm_kernels::Isa::best(), rayon::current_num_threads());
    for rows in [82, 82 * 32] {
        println!("{rows} rows");
        let (x, r) = (wave(rows * 512), wave(rows * 512));
        let (mut y, mut inv) = (vec![0.0; x.len()], vec![0.0; rows]);
        per_element("add", x.len(), || add(&x, &r, &mut y));
        per_element("rms_norm residual", x.len(), || {
            rms_norm(&x, Some(&r), 512, 1e-5, &mut y, Some(&mut inv))
        });
        let mut du = vec![0.0; x.len()];
        per_element("rms_norm backward", x.len(), || rms_norm_backward(&y, &inv, &r, 512, &mut du));
        let (gate_up, dout) = (wave(rows * 3072), wave(rows * 1536));
        let (mut out, mut grad) = (vec![0.0; rows * 1536], vec![0.0; rows * 3072]);
        per_element("swiglu", out.len(), || swiglu(&gate_up, 1536, &mut out));
        let (x, w) = (Matrix::new(&x, rows, 512), wave(3072 * 512));
        let single = PackedMatrix::pack_weight(&w, 3072, 512);
        let half = PackedBf16::pack_weight(&w, 3072, 512);
        let fused = PackedGateUp::pack(&w, 1536, 512);
        let fused_half = PackedGateUpBf16::pack(&w, 1536, 512);
        per_element("gate_up, swiglu", out.len(), || {
            gemm_packed(x, &single, &mut grad, Store::Set);
            swiglu(&grad, 1536, &mut out);
        });
        per_element("gate_up with swiglu", out.len(), || gemm_swiglu(x, &fused, &mut out));
        per_element("bf16 gate_up, swiglu", out.len(), || {
            gemm_bf16_packed(x, &half, &mut grad, Store::Set);
            swiglu(&grad, 1536, &mut out);
        });
        per_element("bf16 gate_up with swiglu", out.len(), || gemm_swiglu_bf16(x, &fused_half, &mut out));
        per_element("swiglu backward", out.len(), || swiglu_backward(&gate_up, &dout, 1536, &mut grad));
    }
    let len = 3_407_872;
    let (mut p, g, mut m, mut v) = (wave(len), wave(len), vec![0.0; len], vec![0.0; len]);
    let step = AdamAtan2Step { lr: 1e-4, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, step: 10 };
    per_element("adam_atan2", len, || adam_atan2_step(&mut p, &g, &mut m, &mut v, step));

    for (batch, seq, heads, head_dim) in
        [(1, 82, 8, 64), (32, 82, 8, 64), (2, 900, 8, 64), (32, 97, 4, 32), (32, 17, 4, 16)]
    {
        let shape = AttentionShape { batch, seq, heads, head_dim };
        let (qkv, dout) = (wave(shape.qkv_len()), wave(shape.out_len()));
        let tables = wave(seq * head_dim);
        let rotary = Some(Rotary { cos: &tables, sin: &tables });
        let (mut out, mut lse) = (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()]);
        let mut grad = vec![0.0; shape.qkv_len()];
        let flop = 4.0 * (batch * heads * seq * seq * head_dim) as f64;
        let forward = best(20, || attention(shape, &qkv, rotary, &mut out, Some(&mut lse)));
        let backward = best(20, || attention_backward(shape, &qkv, rotary, &out, &lse, &dout, &mut grad));
        println!(
            "attention {batch:>2} x {seq:>3} x {heads} x {head_dim}: forward {:>8.3} ms {:>6.1} GFLOP/s, backward {:>8.3} ms {:>6.1} GFLOP/s",
            forward * 1e3,
            flop / forward / 1e9,
            backward * 1e3,
            flop * 2.5 / backward / 1e9
        );
    }
}
