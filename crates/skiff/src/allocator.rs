//! The process's allocator, and giving back to the system what it keeps.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use mimalloc::MiMalloc;

/// Guests are many small, short-lived allocations on several threads: the system allocator keeps far more of them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often a thread gives back. With every free (the allocator's `purge_delay` of 0) pods are a tenth slower.
const EVERY: Duration = Duration::from_secs(5);

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// For a thread that is about to sleep: gives back what is free, where the last time is [`EVERY`] ago. The allocator
/// itself would only when memory is used again, which after the last of thousands of pods is never.
#[allow(unsafe_code)]
pub fn give_back() {
    let now = Instant::now();
    let due = LAST.with(|last| match last.get() {
        Some(then) if now.duration_since(then) < EVERY => false,
        _ => {
            last.set(Some(now));
            true
        }
    });
    if due {
        // SAFETY: it touches free memory alone, and any thread may call it at any time.
        unsafe { libmimalloc_sys::mi_collect(true) }
    }
}
