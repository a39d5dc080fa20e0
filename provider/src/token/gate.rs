//! Lets operations in, and keeps them out while the module is initialised again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::thread_place::thread_place;

/// How many counters there are, so that threads seldom share one.
const COUNTERS: usize = 64;

/// How often one who closes the gate looks whether all have left.
const GLANCE: Duration = Duration::from_millis(1);

/// A readers' lock whose readers do not meet: each counts itself in and out at a counter of its own. Closing it is for
/// one at a time, which the caller sees to. It begins closed.
pub struct Gate {
    open: AtomicBool,
    inside: [Counter; COUNTERS],
}

/// On a cache line of its own.
#[repr(align(64))]
struct Counter(AtomicUsize);

/// Somebody inside.
pub struct Pass<'a>(&'a Counter);

impl Gate {
    /// A closed gate.
    pub const fn new() -> Self {
        Gate { open: AtomicBool::new(false), inside: [const { Counter(AtomicUsize::new(0)) }; COUNTERS] }
    }

    /// Goes in, if the gate is open.
    pub fn enter(&self) -> Option<Pass<'_>> {
        let counter = self.inside.get(thread_place(COUNTERS))?;
        // Counted before the look at the gate, and `close` closes before it counts: one of both sees the other.
        counter.0.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(counter);
        self.open.load(Ordering::SeqCst).then_some(pass)
    }

    /// Lets operations in.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Lets nobody in any more and waits until all have left. False, and open as it was, if some have not after `limit`.
    pub fn close(&self, limit: Duration) -> bool {
        let was_open = self.open.swap(false, Ordering::SeqCst);
        let until = Instant::now() + limit;
        while self.inside.iter().any(|counter| counter.0.load(Ordering::SeqCst) != 0) {
            if Instant::now() >= until {
                self.open.store(was_open, Ordering::SeqCst);
                return false;
            }
            thread::sleep(GLANCE);
        }
        true
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_inside_keeps_it_from_closing() {
        let gate = Gate::new();
        assert!(gate.enter().is_none());
        gate.open();
        let pass = gate.enter();
        assert!(pass.is_some());
        assert!(!gate.close(Duration::from_millis(5)));
        assert!(gate.enter().is_some(), "open again");
        drop(pass);
        assert!(gate.close(Duration::from_millis(5)));
        assert!(gate.enter().is_none());
    }
}
