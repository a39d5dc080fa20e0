//! Panics where a test wants one. Only in builds with debug assertions, which are not shipped.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// The next call from libcrypto in this thread panics.
    static AT_ENTRY: Cell<bool> = const { Cell::new(false) };
}

/// The PKCS#11 call of this process that panics, counted down; 0 for none.
static AT_TOKEN: AtomicU64 = AtomicU64::new(0);

/// In each call from libcrypto.
#[allow(clippy::panic)] // what it is for
pub fn at_entry() {
    assert!(!AT_ENTRY.take(), "injected at an entry point");
}

/// Before each PKCS#11 call.
#[allow(clippy::panic)] // what it is for
pub fn at_token() {
    let before = AT_TOKEN.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    assert!(before != Ok(1), "injected before a PKCS#11 call");
}

/// Has this thread's next call from libcrypto panic, or takes that back. Returns whether one was still to panic.
#[unsafe(no_mangle)]
pub extern "C" fn strongroom_inject_at_entry(panics: bool) -> bool {
    AT_ENTRY.replace(panics)
}

/// Has the PKCS#11 call panic that comes as the so-manieth from here on; 0 for none. Returns how many were still to come.
#[unsafe(no_mangle)]
pub extern "C" fn strongroom_inject_at_token(count: u64) -> u64 {
    AT_TOKEN.swap(count, Ordering::Relaxed)
}
