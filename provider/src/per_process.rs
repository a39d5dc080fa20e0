//! State that belongs to one process.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use strongroom_ffi::process_generation;

/// A `T` for each process. After a fork the child finds its parent's and makes its own; the parent's is left alone,
/// without taking a lock in it, because a thread that the child does not have may hold it. What was made is never freed:
/// in the child that is one parent's state for each fork.
pub struct PerProcess<T>(AtomicPtr<Owned<T>>);

struct Owned<T> {
    generation: u64,
    state: T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        PerProcess(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's state; where it has none, what `make` makes of its parent's, if that had any. Only what `make` may
    /// read without a lock may be read there.
    pub fn get(&self, make: impl Fn(u64, Option<&T>) -> T) -> &'static T {
        loop {
            let current = self.0.load(Ordering::Acquire);
            // SAFETY: null, or made below and leaked.
            let known: Option<&'static Owned<T>> = unsafe { current.as_ref() };
            let generation = process_generation();
            match known {
                Some(owned) if owned.generation == generation => return &owned.state,
                _ => {}
            }
            let state = make(generation, known.map(|owned| &owned.state));
            let fresh = Box::into_raw(Box::new(Owned { generation, state }));
            if self.0.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }

    /// This process's state, if it has one.
    pub fn existing(&self) -> Option<&'static T> {
        // SAFETY: as in `get`.
        let known: Option<&'static Owned<T>> = unsafe { self.0.load(Ordering::Acquire).as_ref() };
        known.filter(|owned| owned.generation == process_generation()).map(|owned| &owned.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_in_each_process() {
        static NUMBERS: PerProcess<u64> = PerProcess::new();
        assert_eq!(NUMBERS.existing(), None);
        let next = |_, parent: Option<&u64>| parent.copied().unwrap_or(0) + 1;
        assert_eq!((*NUMBERS.get(next), *NUMBERS.get(next)), (1, 1));
        // SAFETY: the child allocates, which glibc allows after a fork, and calls _exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let fresh = NUMBERS.existing().is_none();
                libc::_exit(i32::from(!(fresh && *NUMBERS.get(next) == 2)));
            }
            let mut status = -1;
            assert_eq!((libc::waitpid(child, &mut status, 0), status), (child, 0));
        }
        assert_eq!(NUMBERS.existing(), Some(&1));
    }
}
