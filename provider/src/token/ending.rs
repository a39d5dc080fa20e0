//! The end of the process, while other threads sign.
//!
//! exit(3) runs the destructors of the PKCS#11 module and libcrypto's own clean-up while other threads go on. A thread that is
//! in the module then would meet its ruins, and one that comes out of it, libcrypto's. So the end waits for those that are
//! in the module, and they go no further: the end of the process is theirs too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_ffi::process_generation;

use crate::thread_place::thread_name;

/// How long the end waits for the threads that are in a module, and how long they go no further: an exit handler that runs
/// later may wait for one of them.
pub const LEAVE: Duration = Duration::from_secs(3);

/// The thread that ends the process, or 0.
static ENDED_BY: AtomicU64 = AtomicU64::new(0);
/// Which process that is: a child that an exit handler forks does not end.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// The process ends from now on.
pub fn begin() {
    ENDED.store(process_generation(), Ordering::SeqCst);
    ENDED_BY.store(thread_name(), Ordering::SeqCst);
}

/// Whether the process ends.
pub fn has_begun() -> bool {
    ENDED_BY.load(Ordering::SeqCst) != 0 && ENDED.load(Ordering::SeqCst) == process_generation()
}

/// Holds the calling thread back, unless it is the one that ends the process.
pub fn hold() {
    if ENDED_BY.load(Ordering::SeqCst) == thread_name() {
        return;
    }
    let until = Instant::now() + LEAVE;
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An exit handler may start a program, or a child that goes on: that one does not end.
    #[test]
    fn a_child_that_is_forked_at_the_end_goes_on() {
        // SAFETY: the children use atomics, fork, wait and call _exit, which glibc allows after a fork.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                begin();
                let ends = has_begun();
                let grandchild = libc::fork();
                if grandchild == 0 {
                    libc::_exit(i32::from(has_begun()));
                }
                let mut status = -1;
                libc::waitpid(grandchild, &mut status, 0);
                libc::_exit(if ends && has_begun() && status == 0 { 0 } else { 1 });
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0);
        }
    }
}
