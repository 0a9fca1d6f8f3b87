//! The 27M model on Sudoku: one ACT step, a whole solve, a training step.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hrm_benches::{B, batch, paper_model, paper_model_inner};
use hrm_model::{act::Carry, loss::LossKind};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Optimizer, SignSgd},
    step::{Step, StepSettings},
};

fn act_step(c: &mut Criterion) {
    let model = paper_model_inner();
    let device = Default::default();
    let mut group = c.benchmark_group("act_step");
    for rows in [1, 32] {
        let batch = batch::<B>(rows, &device);
        let carry = Carry::fresh(&model, batch.inputs, batch.puzzle_identifiers);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("batch_{rows}"), |b| {
            b.iter(|| model.segment(carry.clone()).1.q_halt.into_data());
        });
    }
    group.finish();
}

fn solve_16_steps(c: &mut Criterion) {
    let model = paper_model_inner();
    let batch = batch::<B>(1, &Default::default());
    c.bench_function("solve_16_steps/batch_1", |b| {
        b.iter(|| {
            let mut carry = Carry::fresh(&model, batch.inputs.clone(), batch.puzzle_identifiers.clone());
            for _ in 0..15 {
                carry = model.segment(carry).0;
            }
            model.segment(carry).1.q_halt.into_data()
        });
    });
}

fn training_step(c: &mut Criterion) {
    let device = Default::default();
    let rows = 32;
    let settings = StepSettings::new(LossKind::Stablemax, rows, 1e-4);
    let mut adam = Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 1.0 });
    let sign_sgd = SignSgd { weight_decay: 1.0 };
    let model = paper_model();
    let carry = model.inner().empty_carry(rows);
    let team = Team::alone(device);
    let mut state = Some((model, carry));
    let mut group = c.benchmark_group("training_step");
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function("batch_32", |b| {
        b.iter(|| {
            let (model, carry) = state.take().expect("put back below");
            let batch = batch::<B>(rows, &device);
            let done = Step::new(settings, &mut adam, sign_sgd, &team)
                .run(model, carry, batch, None)
                .expect("no workers to lose");
            let metrics = done.metrics.into_data();
            state = Some((done.model, done.carry));
            metrics
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = act_step, solve_16_steps, training_step
}
criterion_main!(benches);
