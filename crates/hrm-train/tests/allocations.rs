//! How much the tiny model allocates: counts that do not depend on how busy the machine is, so a fused operator that
//! falls apart, a weight that is packed again at each use or a graph that leaks shows in CI.
//!
//! If a change moves a count on purpose, up or down, write the new one here and say why in the commit.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use burn::{
    backend::Autodiff,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use hrm_backend::Cpu;
use hrm_model::{
    Cycles, Hrm, ModelConfig,
    act::{Carry, PuzzleBatch},
    loss::LossKind,
};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Optimizer, SignSgd},
    step::{self, Step, StepSettings},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Blocks smaller than this are bookkeeping, not tensors.
const TENSOR: usize = 2048;

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= TENSOR {
            COUNT.fetch_add(1, Relaxed);
            BYTES.fetch_add(layout.size() as u64, Relaxed);
        }
        let live = LIVE.fetch_add(layout.size() as i64, Relaxed) + layout.size() as i64;
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Allocated {
    tensors: u64,
    bytes: u64,
}

fn counted(work: impl FnOnce()) -> Allocated {
    let before = (COUNT.load(Relaxed), BYTES.load(Relaxed));
    work();
    Allocated { tensors: COUNT.load(Relaxed) - before.0, bytes: BYTES.load(Relaxed) - before.1 }
}

const ROWS: usize = 8;

fn model() -> Hrm<Autodiff<Cpu>> {
    let config = ModelConfig::new(6, 16).with_hidden_size(64).with_num_heads(2).with_layers(2, 2);
    config.init(&mut ChaCha8Rng::seed_from_u64(1), &Default::default()).expect("a valid config")
}

fn batch<B: Backend>() -> PuzzleBatch<B> {
    let tokens: Vec<i32> = (0..ROWS as i32 * 16).map(|i| 1 + i * 7 % 5).collect();
    let tokens: Tensor<B, 2, Int> =
        Tensor::from_data(TensorData::new(tokens, [ROWS, 16]), &Default::default());
    let puzzle_identifiers = Tensor::zeros([ROWS], &Default::default());
    PuzzleBatch { inputs: tokens.clone(), labels: tokens, puzzle_identifiers }
}

/// Steps to take the mean over: Burn's automatic differentiation keeps its graph in hash maps, whose order decides which
/// gradients are added in place, so that single steps differ by some 5 %.
const STEPS: u64 = 200;

/// One test: the counters are the process's.
#[test]
fn allocations_of_a_segment_and_of_a_training_step() {
    // One thread, as scratch buffers are kept by thread.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the first use of rayon");
    let model = model();

    let inner = model.inner();
    let carry = Carry::fresh(&inner, batch::<Cpu>().inputs, batch::<Cpu>().puzzle_identifiers);
    let segment = || drop(inner.segment(carry.clone()).1.q_halt.into_data());
    segment(); // packs the weights
    let ours = counted(segment);
    let again = counted(segment);
    println!("segment: {ours:?}");
    assert_eq!((ours.tensors, ours.bytes), (again.tensors, again.bytes), "each segment costs the same");
    assert_as_measured("a segment", ours, SEGMENT);

    let settings = StepSettings::new(LossKind::Stablemax, ROWS, 1e-4);
    let mut adam = Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 1.0 });
    let team = Team::alone(Default::default());
    let mut state = Some((model.clone(), inner.empty_carry(ROWS)));
    let mut step = || {
        let (model, carry) = state.take().expect("put back below");
        let done = Step::new(settings, &mut adam, SignSgd { weight_decay: 1.0 }, &team)
            .run(model, carry, batch(), None)
            .expect("no workers to lose");
        done.metrics.into_data();
        state = Some((done.model, done.carry));
    };
    (0..4).for_each(|_| step());
    let live = LIVE.load(Relaxed);
    let all = counted(|| (0..STEPS).for_each(|_| step()));
    let ours = Allocated { tensors: all.tensors / STEPS, bytes: all.bytes / STEPS };
    println!("training step: {ours:?}");
    assert_as_measured("a training step", ours, TRAINING_STEP);
    let growth = LIVE.load(Relaxed) - live;
    assert!(growth.unsigned_abs() < 64 << 10, "{STEPS} steps left {growth} bytes behind: a graph leaks");

    // Cycles without a gradient leave no graph: what a step holds at most does not depend on their number.
    let [shallow, deep] = [1, 8].map(|h_cycles| {
        let model = model.clone().with_cycles(Cycles { h_cycles, l_cycles: h_cycles });
        let carry = inner.empty_carry(ROWS);
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        drop(step::forward(&model, carry, batch(), None, &settings).backward(&model));
        PEAK.load(Relaxed) - before
    });
    println!("peak of a step: {shallow} bytes with 1 cycle of 1, {deep} with 8 of 8");
    assert!(deep as f64 <= shallow as f64 * 1.05, "1 cycle: {shallow} bytes, 64 cycles: {deep}");
}

/// Measured when this was written. A training step is the trainer's, vital signs included.
const SEGMENT: Allocated = Allocated { tensors: 100, bytes: 5_470_000 };
const TRAINING_STEP: Allocated = Allocated { tensors: 388, bytes: 19_800_000 };

/// One more tensor in each block is 12 more in a segment; 2 % leave room for one or two in the whole of it. Fewer fail too: the
/// count here must follow, or the next regression hides behind the old one. Bytes depend on the processor, by the layout of
/// packed weights, and may only not grow.
fn assert_as_measured(what: &str, got: Allocated, expected: Allocated) {
    assert!(
        got.tensors.abs_diff(expected.tensors) <= expected.tensors / 50
            && got.bytes <= expected.bytes + expected.bytes / 20,
        "{what} allocates {got:?}, before it was {expected:?}: if that is meant, write the new counts here"
    );
}
