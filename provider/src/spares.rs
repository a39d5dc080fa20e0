//! Objects that are used again instead of freed.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::thread_place::thread_place;

/// How many objects are kept at most.
const PLACES: usize = 32;

/// How many places a thread looks into, beginning at its own.
const NEAR: usize = 4;

/// Objects that wait for their next use. Taking and keeping one is one atomic exchange, without a lock.
pub struct Spares<T> {
    places: [AtomicPtr<T>; PLACES],
}

// SAFETY: what is kept is owned by this, and moves from one thread to another.
unsafe impl<T: Send> Send for Spares<T> {}
// SAFETY: as above; each object is handed to one thread only.
unsafe impl<T: Send> Sync for Spares<T> {}

impl<T> Spares<T> {
    /// None.
    pub const fn new() -> Self {
        Spares { places: [const { AtomicPtr::new(ptr::null_mut()) }; PLACES] }
    }

    /// Takes one, if there is one near this thread's place.
    pub fn take(&self) -> Option<Box<T>> {
        self.near().find_map(|place| {
            if place.load(Ordering::Relaxed).is_null() {
                return None;
            }
            let taken = place.swap(ptr::null_mut(), Ordering::Acquire);
            // SAFETY: not null, so made by `keep` from a box; the exchange gave it to this thread alone.
            (!taken.is_null()).then(|| unsafe { Box::from_raw(taken) })
        })
    }

    /// Keeps one; frees it where there is no room.
    pub fn keep(&self, spare: Box<T>) {
        let spare = Box::into_raw(spare);
        let is_kept = self.near().any(|place| {
            place.compare_exchange(ptr::null_mut(), spare, Ordering::Release, Ordering::Relaxed).is_ok()
        });
        if !is_kept {
            // SAFETY: made above, and given to nobody.
            drop(unsafe { Box::from_raw(spare) });
        }
    }

    fn near(&self) -> impl Iterator<Item = &AtomicPtr<T>> {
        self.places.iter().cycle().skip(thread_place(PLACES)).take(NEAR)
    }
}

impl<T> Drop for Spares<T> {
    fn drop(&mut self) {
        for place in &mut self.places {
            let spare = std::mem::replace(place.get_mut(), ptr::null_mut());
            if !spare.is_null() {
                // SAFETY: made by `keep` from a box, and nobody else has it.
                drop(unsafe { Box::from_raw(spare) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_was_kept_is_taken_once() {
        let spares = Spares::new();
        assert!(spares.take().is_none());
        let counted = Arc::new(());
        for _ in 0..NEAR + 3 {
            spares.keep(Box::new(counted.clone()));
        }
        assert_eq!(Arc::strong_count(&counted), 1 + NEAR);
        assert!(spares.take().is_some());
        assert_eq!(Arc::strong_count(&counted), NEAR);
        drop(spares);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
