//! Lets operations in, and keeps them out while the module is initialised again or the process forks.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::ending;
use crate::thread_place::{thread_name, thread_place};

/// How many counters there are, so that threads seldom share one.
const COUNTERS: usize = 64;

/// How often one who waits for others looks whether they have left.
const GLANCE: Duration = Duration::from_micros(100);

/// A readers' lock whose readers do not meet: each counts itself in and out at a counter of its own. Closing it is for
/// one at a time, which the caller sees to. It begins closed.
pub struct Gate {
    open: AtomicBool,
    /// Forks that are being made: nobody goes in, but who makes one.
    forks: AtomicUsize,
    /// The thread that began the last of them, or 0. An application's own fork handler may sign, in that thread.
    forking: AtomicU64,
    /// The thread that initialises or finalises the module, or 0.
    changing: AtomicU64,
    inside: [Counter; COUNTERS],
}

/// On a cache line of its own.
#[repr(align(64))]
struct Counter {
    count: AtomicUsize,
    /// The thread that went in last.
    last: AtomicU64,
}

/// Somebody inside.
pub struct Pass<'a>(&'a Counter);

/// The module is being initialised or finalised by this thread.
pub struct Change<'a>(&'a Gate);

impl Gate {
    /// A closed gate.
    pub const fn new() -> Self {
        Gate {
            open: AtomicBool::new(false),
            forks: AtomicUsize::new(0),
            forking: AtomicU64::new(0),
            changing: AtomicU64::new(0),
            inside: [const { Counter { count: AtomicUsize::new(0), last: AtomicU64::new(0) } }; COUNTERS],
        }
    }

    /// Goes in, if the gate is open and the process does not end. While the process forks it waits.
    pub fn enter(&self) -> Option<Pass<'_>> {
        let counter = self.inside.get(thread_place(COUNTERS))?;
        loop {
            // Counted before the look at the gate, and `close` closes before it counts: one of both sees the other.
            counter.count.fetch_add(1, Ordering::SeqCst);
            counter.last.store(thread_name(), Ordering::Relaxed);
            let pass = Pass(counter);
            if ending::has_begun() {
                return None;
            }
            if !self.others_fork() {
                return self.open.load(Ordering::SeqCst).then_some(pass);
            }
            drop(pass);
            thread::sleep(GLANCE);
        }
    }

    /// Lets operations in.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Lets nobody in any more and waits until all have left. False, and open as it was, if some have not after `limit`.
    pub fn close(&self, limit: Duration) -> bool {
        let was_open = self.open.swap(false, Ordering::SeqCst);
        let until = Instant::now() + limit;
        while self.inside.iter().any(|counter| counter.count.load(Ordering::SeqCst) != 0) {
            if Instant::now() >= until {
                self.open.store(was_open, Ordering::SeqCst);
                return false;
            }
            thread::sleep(GLANCE);
        }
        true
    }

    /// Begins to initialise or finalise the module, for one at a time; waits while the process forks.
    pub fn change(&self) -> Change<'_> {
        loop {
            // As in `enter`: either this sees the fork, or the fork sees this.
            self.changing.store(thread_name(), Ordering::SeqCst);
            if !self.others_fork() {
                return Change(self);
            }
            self.changing.store(0, Ordering::SeqCst);
            thread::sleep(GLANCE);
        }
    }

    /// Lets nobody in while the process forks, and waits, at most for `limit`, until no other thread is inside: a lock of the
    /// module's that one of them holds would be locked in the child for ever. The thread that forks may itself be inside,
    /// in an application's callback or in a module that starts a program.
    pub fn hold_for_fork(&self, limit: Duration) {
        self.forking.store(thread_name(), Ordering::SeqCst);
        self.forks.fetch_add(1, Ordering::SeqCst);
        self.wait_for_others(limit);
    }

    /// Whether another thread forks. Of two that do at the same time the first one may wait for the second, which waits for nobody.
    fn others_fork(&self) -> bool {
        self.forks.load(Ordering::SeqCst) != 0 && self.forking.load(Ordering::SeqCst) != thread_name()
    }

    /// Waits, at most for `limit`, until no other thread is inside.
    pub fn wait_for_others(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.others_are_inside() && Instant::now() < until {
            thread::sleep(GLANCE);
        }
    }

    /// The fork is made. Without effect on a gate that was made meanwhile.
    pub fn release_after_fork(&self) {
        let _ = self.forks.try_update(Ordering::SeqCst, Ordering::SeqCst, |forks| forks.checked_sub(1));
    }

    fn others_are_inside(&self) -> bool {
        let this = thread_name();
        let changing = self.changing.load(Ordering::SeqCst);
        (changing != 0 && changing != this)
            || self.inside.iter().any(|counter| {
                let count = counter.count.load(Ordering::SeqCst);
                count > usize::from(counter.last.load(Ordering::Relaxed) == this)
            })
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        if ending::has_begun() {
            ending::hold();
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.changing.store(0, Ordering::SeqCst);
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

    #[test]
    fn a_fork_waits_for_others_and_not_for_itself() {
        const LONG: Duration = Duration::from_secs(20);
        let gate = Gate::new();
        gate.open();
        // This thread forks inside, in a callback.
        let own = gate.enter();
        let begun = Instant::now();
        gate.hold_for_fork(LONG);
        // And an application's handler signs once more.
        assert!(gate.enter().is_some());
        drop(gate.change());
        gate.release_after_fork();
        drop(own);
        assert!(begun.elapsed() < LONG);
        let (left, entered) = (AtomicBool::new(false), AtomicBool::new(false));
        let (gate, left, entered) = (&gate, &left, &entered);
        // Another thread is inside: its leaving is waited for, and nobody goes in meanwhile.
        thread::scope(|scope| {
            let (is_in, sees) = std::sync::mpsc::channel();
            scope.spawn(move || {
                let pass = gate.enter();
                is_in.send(()).unwrap();
                thread::sleep(Duration::from_millis(50));
                left.store(true, Ordering::SeqCst);
                drop(pass);
            });
            sees.recv().unwrap();
            gate.hold_for_fork(LONG);
            assert!(left.load(Ordering::SeqCst));
            scope.spawn(move || {
                let pass = gate.enter();
                entered.store(true, Ordering::SeqCst);
                drop(pass);
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!entered.load(Ordering::SeqCst));
            gate.release_after_fork();
        });
    }
}
