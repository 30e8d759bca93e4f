//! An allocator that counts: the benches' proof that the packet path does not allocate.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering},
};

/// The system's allocator, counting what it gives. A bench installs it as `#[global_allocator]`.
#[derive(Debug)]
pub struct CountingAllocator(AtomicU64);

impl CountingAllocator {
    /// An allocator that has given nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "a global allocator is made in a constant"
    )]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// How many allocations `work` makes, on all threads.
    pub fn count(&self, work: impl FnOnce()) -> u64 {
        let before = self.0.load(Ordering::Relaxed);
        work();
        self.0.load(Ordering::Relaxed) - before
    }
}

// SAFETY: every call goes to `System` unchanged, which upholds the contract; growing and zeroed allocation
// have default implementations over `alloc`.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}
