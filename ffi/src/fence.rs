//! Panics stop here.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs the body of a C entry point. A panic in it becomes `failure`, the value by which that C function
/// reports an error; it neither crosses into C (which is undefined behaviour) nor prints anything.
pub fn fence<T>(failure: T, body: impl FnOnce() -> T) -> T {
    guarded(body).unwrap_or(failure)
}

/// As [`fence()`]; `None` after a panic.
pub fn guarded<T>(body: impl FnOnce() -> T) -> Option<T> {
    silence_panics();
    // Unwind safety: what a panic may leave half done is ours behind a lock, and our locks are poison-aware
    // or hold only data that is replaced as a whole.
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // Whatever somebody threw may panic when it is dropped, here, outside of the fence. It is left where it is.
            std::mem::forget(payload);
            None
        }
    }
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
        assert_eq!(guarded(|| panic!("inside")), None::<()>);
    }

    #[test]
    fn what_was_thrown_is_not_dropped() {
        struct Mine;
        impl Drop for Mine {
            fn drop(&mut self) {
                panic!("outside");
            }
        }
        assert_eq!(fence(-1, || panic::panic_any(Mine)), -1);
    }
}
