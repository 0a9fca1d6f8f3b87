//! Counter-based random streams: every draw is a pure function of (seed, purpose, two counters).
//!
//! The key of a ChaCha8 generator *is* the coordinate of the draw, so two different coordinates never share a
//! stream, and the order or the thread in which streams are opened does not matter. The helpers below (`below`,
//! `shuffle`, `permutation`) are written out here rather than taken from a distribution crate because their
//! results are part of the data format: a dataset built from a seed must not change when a dependency does.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is used for; streams of different purposes are independent even with equal counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// Order of the groups in one iteration of a training sampler.
    GroupOrder = 1,
    /// Puzzle and example draws of one training batch.
    BatchDraw = 2,
    /// Augmentation of one example in one epoch.
    Augmentation = 3,
    /// Which records of a source are kept.
    Subsample = 4,
    /// Augmented copies written to disk by a dataset builder.
    Materialize = 5,
    /// One generated puzzle.
    Generate = 6,
    /// The symmetries under which a model looks at a puzzle again.
    View = 8,
    /// Noise in the state of a model.
    StateNoise = 9,
    /// Blanks of one example that are filled in, in one epoch.
    Hints = 7,
    /// Anything a caller needs outside of this crate.
    Other = 1 << 32,
}

/// Opens the stream at the coordinate (`seed`, `purpose`, `a`, `b`).
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A uniform number in `0..bound`, without bias (Lemire's method); 0 if `bound` is 0.
pub fn below<R: Rng + ?Sized>(rng: &mut R, bound: u32) -> u32 {
    if bound == 0 {
        return 0;
    }
    let mut wide = u64::from(rng.next_u32()) * u64::from(bound);
    if (wide as u32) < bound {
        let threshold = bound.wrapping_neg() % bound;
        while (wide as u32) < threshold {
            wide = u64::from(rng.next_u32()) * u64::from(bound);
        }
    }
    (wide >> 32) as u32
}

/// A uniform number in `0..bound` for bounds beyond 32 bits, without bias; 0 if `bound` is 0.
pub fn below_u64<R: Rng + ?Sized>(rng: &mut R, bound: u64) -> u64 {
    if bound <= u64::from(u32::MAX) {
        return u64::from(below(rng, bound as u32));
    }
    // Rejection on the smallest power of two that covers the bound: at most two tries on average.
    let mask = u64::MAX >> (bound - 1).leading_zeros();
    loop {
        let draw = rng.next_u64() & mask;
        if draw < bound {
            return draw;
        }
    }
}

/// Shuffles `items` in place (Fisher-Yates); every order is equally likely.
pub fn shuffle<T, R: Rng + ?Sized>(rng: &mut R, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let j = below_u64(rng, i as u64 + 1) as usize;
        items.swap(i, j);
    }
}

/// A random permutation of `0..n`.
pub fn permutation<R: Rng + ?Sized>(rng: &mut R, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    shuffle(rng, &mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_in_every_coordinate() {
        let first = |seed, purpose, a, b| stream(seed, purpose, a, b).next_u64();
        let base = first(1, Purpose::Augmentation, 2, 3);
        assert_eq!(base, first(1, Purpose::Augmentation, 2, 3));
        assert_ne!(base, first(2, Purpose::Augmentation, 2, 3));
        assert_ne!(base, first(1, Purpose::BatchDraw, 2, 3));
        assert_ne!(base, first(1, Purpose::Augmentation, 3, 2));
        assert_ne!(base, first(1, Purpose::Augmentation, 2, 4));
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut rng = stream(7, Purpose::Other, 0, 0);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[below(&mut rng, 6) as usize] += 1;
        }
        // 10,000 expected each, standard deviation 91: six of them are never off by more than 500.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!(below(&mut rng, 1), 0);
        assert_eq!(below(&mut rng, 0), 0);
        let big = (1u64 << 40) + 3;
        assert!((0..1000).all(|_| below_u64(&mut rng, big) < big));
    }

    #[test]
    fn every_permutation_of_three_is_equally_likely() {
        let mut rng = stream(3, Purpose::Other, 0, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..12_000 {
            *counts.entry(permutation(&mut rng, 3)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|&c| c.abs_diff(2000) < 250), "{counts:?}");
    }
}
