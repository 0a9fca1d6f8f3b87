//! Batches, solver and generator of Sudoku.
#![allow(missing_docs, reason = "criterion's macros")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hrm_benches::sudoku_set;
use hrm_data::{
    dataset::{SamplerConfig, TrainSampler},
    sudoku::{Generator, Geometry, Solver},
};

fn batches(c: &mut Criterion) {
    let (dataset, augmentation) = sudoku_set();
    let config = SamplerConfig { augmentation, epochs_per_iteration: 8, ..SamplerConfig::new(768, 1) };
    let mut sampler = TrainSampler::new(Arc::new(dataset), config).expect("a full batch");
    let mut group = c.benchmark_group("sudoku");
    group.throughput(Throughput::Elements(768));
    group.bench_function("batch_768_augmented", |b| b.iter(|| sampler.next_batch()));
    group.finish();
}

fn solver(c: &mut Criterion) {
    let mut generator = Generator::new(Geometry::S9, 1);
    let puzzles: Vec<_> = (0..100).map(|i| generator.generate(i).puzzle).collect();
    let mut solver = Solver::new();
    let mut group = c.benchmark_group("sudoku");
    group.throughput(Throughput::Elements(100));
    group.bench_function("solve_100_minimal", |b| {
        b.iter(|| puzzles.iter().map(|p| solver.count_solutions(p, 2)).sum::<u64>());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = batches, solver
}
criterion_main!(benches);
