//! What the tests share.

use crate::{bf16::Bf16Engine, simd::Isa};
use std::{cell::Cell, thread::LocalKey};

thread_local! {
    /// What kernels called on this thread take in place of [`Isa::best`].
    pub(crate) static ISA: Cell<Option<Isa>> = const { Cell::new(None) };
    /// And of [`Bf16Engine::best`].
    pub(crate) static ENGINE: Cell<Option<Bf16Engine>> = const { Cell::new(None) };
}

/// Runs `f` with a choice in place of the best one.
pub(crate) fn with<T, R>(choice: &'static LocalKey<Cell<Option<T>>>, value: T, f: impl FnOnce() -> R) -> R {
    let before = choice.replace(Some(value));
    let result = f();
    choice.set(before);
    result
}

/// Numbers of about unit size, the same on every run.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| (uniform() + uniform() + uniform() - 1.5) * 2.0).collect()
}

/// The sizes to try: all of them, but only the first two under Miri, which takes a thousand times as long.
pub(crate) fn tried<T>(sizes: &[T]) -> &[T] {
    &sizes[..unless_miri(sizes.len(), 2)]
}

/// A size, and one for Miri.
pub(crate) const fn unless_miri(size: usize, under_miri: usize) -> usize {
    if cfg!(miri) { under_miri } else { size }
}

/// Runs `f` in pools of 1, 2, 3 and 4 threads, checks that the results are the same bit for bit, and returns them.
pub(crate) fn in_pools(f: impl Fn() -> Vec<f32> + Send + Sync) -> Vec<f32> {
    let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f);
    let one = run(1);
    for threads in 2..=unless_miri(4, 2) {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(&run(threads)) == bits(&one), "result differs with {threads} threads");
    }
    one
}
