//! A global allocator for programs that compute: large blocks are kept for the next tensor instead of going back to the system.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Log2 of the smallest block that is kept; smaller ones go to the system's allocator.
const MIN_SHIFT: u32 = 16;
/// Log2 of the largest.
const MAX_SHIFT: u32 = 38;
/// Sizes per doubling, so at most a quarter of a block is wasted.
const STEPS: usize = 4;
const CLASSES: usize = (MAX_SHIFT - MIN_SHIFT) as usize * STEPS + 1;
/// The size of a huge page, and the alignment of blocks that hold one.
const HUGE: usize = 2 << 20;
const PAGE: usize = 4096;
/// Bytes that may be held beyond the most that was in use at once.
const SLACK: usize = 256 << 20;

/// The system's allocator with a store of large blocks.
///
/// Each operator of a tensor library allocates its output, of some megabytes, and soon frees it. Common allocators map such blocks anew
/// each time, and the kernel clears every page of them: a quarter of the time of training a small model. This one keeps them by size,
/// on huge pages where the system has those. Blocks in use and idle ones together never exceed the most that was in use at once by more than
/// 256 MiB: where a new block would, idle ones of other sizes go back to the system first.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: hrm_kernels::TensorAllocator = hrm_kernels::TensorAllocator::new();
/// # fn main() {
/// let tensor = vec![1.0_f32; 1 << 20];
/// # assert_eq!(tensor[7], 1.0);
/// # }
/// ```
#[derive(Debug)]
pub struct TensorAllocator {
    /// For each class, the first idle block; its first word is the address of the next one.
    idle: [Mutex<usize>; CLASSES],
    idle_bytes: AtomicUsize,
    used_bytes: AtomicUsize,
    /// The most that was in use at once.
    peak_bytes: AtomicUsize,
}

/// A size of blocks that are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Class {
    index: usize,
    size: usize,
}

impl Class {
    /// The smallest class for a layout; `None` if it is for the system's allocator.
    fn of(layout: Layout) -> Option<Self> {
        let size = layout.size();
        if !(1 << MIN_SHIFT..=1 << MAX_SHIFT).contains(&size) || layout.align() > PAGE {
            return None;
        }
        if size == 1 << MIN_SHIFT {
            return Some(Self { index: 0, size });
        }
        // base < size <= 2 base
        let shift = (size - 1).ilog2();
        let step = (1 << shift) / STEPS;
        let steps = (size - (1 << shift)).div_ceil(step);
        Some(Self { index: (shift - MIN_SHIFT) as usize * STEPS + steps, size: (1 << shift) + steps * step })
    }

    /// The size of the class with an index.
    fn size_at(index: usize) -> usize {
        match index.checked_sub(1) {
            None => 1 << MIN_SHIFT,
            Some(above) => (1 << (above / STEPS) << MIN_SHIFT) / STEPS * (STEPS + 1 + above % STEPS),
        }
    }

    fn layout(self) -> Layout {
        let align = if self.size >= HUGE { HUGE } else { PAGE };
        // SAFETY: a power of two, and the sizes are far below isize::MAX.
        unsafe { Layout::from_size_align_unchecked(self.size, align) }
    }
}

impl TensorAllocator {
    /// An allocator that keeps nothing yet.
    #[expect(clippy::new_without_default, reason = "made once, as a static")]
    pub const fn new() -> Self {
        Self {
            idle: [const { Mutex::new(0) }; CLASSES],
            idle_bytes: AtomicUsize::new(0),
            used_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
        }
    }

    fn take(&self, class: Class) -> *mut u8 {
        let used = self.used_bytes.fetch_add(class.size, Relaxed) + class.size;
        self.peak_bytes.fetch_max(used, Relaxed);
        if let Some(block) = self.pop(class.index, class.size) {
            return block;
        }
        self.make_room(used);
        // SAFETY: the size is not 0.
        let block = unsafe { System.alloc(class.layout()) };
        if block.is_null() {
            self.used_bytes.fetch_sub(class.size, Relaxed);
        } else {
            advise_huge_pages(block, class.size);
        }
        block
    }

    /// Gives idle blocks back to the system, the largest first, until those that stay are within bounds.
    fn make_room(&self, used: usize) {
        let most = self.peak_bytes.load(Relaxed) + SLACK - used;
        for index in (0..CLASSES).rev() {
            let size = Class::size_at(index);
            while self.idle_bytes.load(Relaxed) > most {
                let Some(block) = self.pop(index, size) else { break };
                // SAFETY: `take` allocated it with this layout, and now nobody else has it.
                unsafe { System.dealloc(block, Class { index, size }.layout()) };
            }
        }
    }

    /// An idle block of a class.
    fn pop(&self, index: usize, size: usize) -> Option<*mut u8> {
        let mut first = self.idle[index].lock().unwrap_or_else(PoisonError::into_inner);
        let block = ptr::with_exposed_provenance_mut::<usize>(*first);
        if block.is_null() {
            return None;
        }
        // SAFETY: an idle block is ours, page-aligned, and `give` has written the next one's address to its first word.
        *first = unsafe { *block };
        self.idle_bytes.fetch_sub(size, Relaxed);
        Some(block.cast())
    }

    /// # Safety
    /// `block` was taken from this allocator with this class, and nobody uses it any more.
    unsafe fn give(&self, block: *mut u8, class: Class) {
        self.used_bytes.fetch_sub(class.size, Relaxed);
        self.idle_bytes.fetch_add(class.size, Relaxed);
        let mut first = self.idle[class.index].lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the block is page-aligned, longer than a word, and no longer used.
        unsafe { *block.cast::<usize>() = *first };
        *first = block.expose_provenance();
    }
}

/// Gives the idle blocks back.
impl Drop for TensorAllocator {
    fn drop(&mut self) {
        for index in 0..CLASSES {
            let size = Class::size_at(index);
            while let Some(block) = self.pop(index, size) {
                // SAFETY: as in `make_room`.
                unsafe { System.dealloc(block, Class { index, size }.layout()) };
            }
        }
    }
}

// SAFETY: blocks come from `System` with at least the layout asked for; each is either idle, in exactly one list, or in use. Nothing here
// panics or allocates.
unsafe impl GlobalAlloc for TensorAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            Some(class) => self.take(class),
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let block = self.take(class);
        if !block.is_null() {
            // SAFETY: the block is at least this long.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Class::of(layout) {
            // SAFETY: `alloc` took it with the class of the same layout.
            Some(class) => unsafe { self.give(block, class) },
            // SAFETY: the caller's promise.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size suits the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            // SAFETY: the caller's promise.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (before, after) if before == after => block,
            // SAFETY: both blocks are at least as long as the shorter layout, and distinct.
            _ => unsafe {
                let new = self.alloc(wanted);
                if !new.is_null() {
                    ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                new
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(block: *mut u8, size: usize) {
    if size >= HUGE {
        // SAFETY: the range lies within one allocation, which starts on a huge page. Advice never changes what memory holds, and a system
        // that does not take it does no harm.
        unsafe { libc::madvise(block.cast(), size / HUGE * HUGE, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::unless_miri;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn classes_are_tight_and_in_order() {
        let mut last = 0;
        for size in
            (1 << MIN_SHIFT..1 << 20).step_by(613).chain([1 << 21, (1 << 21) + 1, 5 << 30, 1 << MAX_SHIFT])
        {
            let class = Class::of(layout(size, 64)).unwrap();
            assert!(class.size >= size && class.size < size + size.div_ceil(STEPS) + 1, "{size} {class:?}");
            assert_eq!(Class::of(layout(class.size, 64)), Some(class), "a class holds its own size");
            assert_eq!(Class::size_at(class.index), class.size);
            assert!(class.index >= last && class.index < CLASSES);
            last = class.index;
        }
        assert_eq!(Class::of(layout((1 << MIN_SHIFT) - 1, 64)), None);
        assert_eq!(Class::of(layout((1 << MAX_SHIFT) + 1, 64)), None);
        assert_eq!(Class::of(layout(1 << 20, 1 << 20)), None, "alignments beyond a page are not ours");
    }

    #[test]
    fn blocks_are_kept_and_hold_what_was_written() {
        let allocator = TensorAllocator::new();
        let (small, large) = (layout(100_000, 64), layout(unless_miri(3 << 20, 70_000), 64));
        // SAFETY: each block is used as its layout says and freed once.
        unsafe {
            let a = allocator.alloc(large);
            let b = allocator.alloc(large);
            assert_ne!(a, b);
            a.write_bytes(1, large.size());
            b.write_bytes(2, large.size());
            assert_eq!((*a, *a.add(large.size() - 1), *b), (1, 1, 2));
            allocator.dealloc(a, large);
            assert_eq!(allocator.alloc_zeroed(large), a, "the block that was just freed");
            assert!((0..large.size()).all(|i| *a.add(i) == 0));

            let c = allocator.alloc(small);
            c.write_bytes(3, small.size());
            assert_eq!(allocator.realloc(c, small, 100_001), c, "there is room");
            let grown = allocator.realloc(c, layout(100_001, 64), 1 << 20);
            assert!((0..small.size()).all(|i| *grown.add(i) == 3));
            let shrunk = allocator.realloc(grown, layout(1 << 20, 64), 10);
            assert!((0..10).all(|i| *shrunk.add(i) == 3));
            allocator.dealloc(shrunk, layout(10, 64));
            allocator.dealloc(b, large);
            allocator.dealloc(a, large);
        }
        assert_eq!(allocator.used_bytes.load(Relaxed), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "asks for huge pages")]
    fn idle_blocks_are_bounded() {
        let allocator = TensorAllocator::new();
        let held = || allocator.idle_bytes.load(Relaxed) + allocator.used_bytes.load(Relaxed);
        let small = layout(64 << 20, 64);
        let allocate = |layout, count| -> Vec<*mut u8> {
            // SAFETY: the size is not 0.
            (0..count).map(|_| unsafe { allocator.alloc(layout) }).collect()
        };
        let free = |blocks: Vec<*mut u8>, layout| {
            // SAFETY: each block is freed once and never touched.
            blocks.into_iter().for_each(|block| unsafe { allocator.dealloc(block, layout) });
        };
        free(allocate(small, 12), small);
        assert_eq!(held(), 12 * small.size(), "all are kept");
        // Others that together need no more: idle ones make room for them.
        let large = layout(128 << 20, 64);
        free(allocate(large, 6), large);
        assert!(held() <= 12 * small.size() + SLACK, "{}", held());
        assert_eq!(allocator.peak_bytes.load(Relaxed), 12 * small.size());
    }

    #[test]
    fn threads_share_blocks() {
        let allocator = TensorAllocator::new();
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let allocator = &allocator;
                scope.spawn(move || {
                    for round in 0..unless_miri(200, 3) {
                        let layout = layout((64 << 10) + round * 1_000, 64);
                        // SAFETY: the block is this thread's own until it is freed.
                        unsafe {
                            let block = allocator.alloc(layout);
                            block.write_bytes(thread, layout.size());
                            assert!((0..layout.size()).step_by(101).all(|i| *block.add(i) == thread));
                            allocator.dealloc(block, layout);
                        }
                    }
                });
            }
        });
        assert_eq!(allocator.used_bytes.load(Relaxed), 0);
    }
}
