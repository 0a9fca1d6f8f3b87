//! Reusable cache-line-aligned buffers, and the few threading helpers that the kernels share.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growable buffer of floats that starts on a cache line.
#[derive(Clone, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} floats", self.len)
    }
}

impl Buffer {
    pub(crate) fn zeroed(len: usize) -> Self {
        Buffer { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Sets the length; what the buffer holds afterwards is unspecified (but initialised).
    fn set_len(&mut self, len: usize) {
        let lines = len.div_ceil(16);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; 16]));
        }
        self.len = len;
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` initialised floats without padding (`repr(C)`, size 64).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as in `as_slice`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

thread_local! {
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Lends a buffer of `len` floats of unspecified value, which the thread keeps for the next call. Calls nest.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with(|free| free.borrow_mut().pop()).unwrap_or_default();
    buffer.set_len(len);
    let result = f(buffer.as_mut_slice());
    FREE.with(|free| free.borrow_mut().push(buffer));
    result
}

/// The product of sizes. Far below what wraps, so that rounding up, three parts of it and the like do not wrap either.
///
/// # Panics
/// If it is larger than any memory.
#[track_caller]
pub(crate) fn floats(sizes: &[usize]) -> usize {
    let product = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    match product.filter(|product| *product <= usize::MAX >> 8) {
        Some(product) => product,
        None => panic!("sizes {sizes:?}: their product is larger than any memory"),
    }
}

/// A pointer that tasks on several threads may use, each on its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: a `Shared` is only a pointer; every use states why the parts are disjoint.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Shared(slice.as_mut_ptr())
    }

    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// Runs `f` for each index below `tasks`, in parallel where there are several threads and `parallel` holds.
pub(crate) fn for_each_task(tasks: usize, parallel: bool, f: impl Fn(usize) + Send + Sync) {
    if tasks <= 1 || !parallel || rayon::current_num_threads() == 1 {
        (0..tasks).for_each(f);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Elements below which work stays on the calling thread.
const SERIAL_BELOW: usize = if cfg!(miri) { 64 } else { 16 * 1024 };

/// Splits `items`, each of `cost` elements, into contiguous ranges and runs `f` on each. The split never changes what an item computes.
pub(crate) fn for_each_range(items: usize, cost: usize, f: impl Fn(Range<usize>) + Send + Sync) {
    let threads = rayon::current_num_threads();
    let most = (items * cost / SERIAL_BELOW).clamp(1, threads * 4);
    let step = items.div_ceil(most).max(1);
    for_each_task(items.div_ceil(step), true, |task| {
        let start = task * step;
        f(start..items.min(start + step));
    });
}
