//! The CPU kernels at the shapes of the 27M model: 32 puzzles of 82 tokens.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hrm_kernels::{AdamAtan2Step, AttentionShape, Matrix, Store};

const ROWS: usize = 2624;

fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 2_654_435_761) % 2003) as f32 / 1000.0 - 1.0).collect()
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("matrix_product");
    for (name, inner, outer) in
        [("qkv", 512, 1536), ("o", 512, 512), ("gate_up", 512, 3072), ("down", 1536, 512)]
    {
        let (x, w) = (noise(ROWS * inner), noise(outer * inner));
        let mut out = vec![0.0; ROWS * outer];
        group.throughput(Throughput::Elements(2 * (ROWS * inner * outer) as u64));
        group.bench_function(format!("f32/{name}"), |b| {
            b.iter(|| {
                let weight = Matrix::new(&w, outer, inner).transposed();
                hrm_kernels::gemm(Matrix::new(&x, ROWS, inner), weight, &mut out, Store::Set);
            });
        });
        group.bench_function(format!("bf16/{name}"), |b| {
            b.iter(|| {
                let weight = Matrix::new(&w, outer, inner).transposed();
                hrm_kernels::gemm_bf16(Matrix::new(&x, ROWS, inner), weight, &mut out, Store::Set);
            });
        });
    }
    group.finish();
}

fn fused(c: &mut Criterion) {
    let shape = AttentionShape { batch: 32, seq: 82, heads: 8, head_dim: 64 };
    let qkv = noise(shape.qkv_len());
    let mut out = vec![0.0; shape.out_len()];
    c.bench_function("attention", |b| b.iter(|| hrm_kernels::attention(shape, &qkv, None, &mut out, None)));

    let gate_up = noise(ROWS * 3072);
    let mut out = vec![0.0; ROWS * 1536];
    c.bench_function("swiglu", |b| b.iter(|| hrm_kernels::swiglu(&gate_up, 1536, &mut out)));

    let (x, residual) = (noise(ROWS * 512), noise(ROWS * 512));
    let mut out = vec![0.0; ROWS * 512];
    c.bench_function("rms_norm", |b| {
        b.iter(|| hrm_kernels::rms_norm(&x, Some(&residual), 512, 1e-5, &mut out, None));
    });

    let n = 1 << 20;
    let grad = noise(n);
    let (mut p, mut m, mut v) = (noise(n), vec![0.0; n], vec![0.0; n]);
    let step = AdamAtan2Step { lr: 1e-4, beta1: 0.9, beta2: 0.95, weight_decay: 1.0, step: 10 };
    c.bench_function("adam_atan2/1M", |b| {
        b.iter(|| hrm_kernels::adam_atan2_step(&mut p, &grad, &mut m, &mut v, step));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = products, fused
}
criterion_main!(benches);
