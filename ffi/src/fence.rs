//! Panics stop here.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs the body of a C entry point. A panic in it becomes `failure`, the value by which that C function
/// reports an error; it neither crosses into C (which is undefined behaviour) nor prints anything.
pub fn fence<T>(failure: T, body: impl FnOnce() -> T) -> T {
    silence_panics();
    // Unwind safety: what a panic may leave half done is ours behind a lock, and our locks are poison-aware
    // or hold only data that is replaced as a whole.
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(failure)
}

/// Replaces the hook that would print to the host program's standard error. A cdylib carries its own copy of
/// Rust's standard library, so a host program written in Rust keeps its own hook.
fn silence_panics() {
    // Not a Once: a fork while another thread is inside it would leave it locked in the child.
    static DONE: AtomicBool = AtomicBool::new(cfg!(test));
    if !DONE.load(Ordering::Relaxed) && !DONE.swap(true, Ordering::Relaxed) {
        panic::set_hook(Box::new(|_| {}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_failure_value() {
        assert_eq!(fence(-1, || panic!("inside")), -1);
        assert_eq!(fence(-1, || 3), 3);
    }
}
