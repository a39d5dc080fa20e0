//! Where a key was found last: read at each signature, without a lock.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

use cryptoki_sys::CK_OBJECT_HANDLE;

use super::slot::Slot;

/// A key's place in its token: found, and logged in to, in a life of the token's sessions.
#[derive(Clone, Copy)]
pub struct Found {
    /// The token. It knows which process's it is.
    pub slot: &'static Slot,
    /// The life of the sessions in which the handle is valid.
    pub epoch: u64,
    /// The private key's handle.
    pub handle: CK_OBJECT_HANDLE,
}

/// A [`Found`] that many threads read and a few write: a sequence lock. Writers exclude each other by the lowest bit of the
/// sequence, which is set while one writes; one that comes second goes without, since both write the same or one of both
/// is out of date. The upper half is the writer's process generation, so that a child that was forked from the middle of a
/// write is not shut out by a thread that it does not have.
#[derive(Default)]
pub struct Remembered {
    sequence: AtomicU64,
    slot: AtomicPtr<Slot>,
    epoch: AtomicU64,
    handle: AtomicU64,
}

impl Remembered {
    /// What was remembered last.
    pub fn get(&self) -> Option<Found> {
        let before = self.sequence.load(Ordering::Acquire);
        let slot = self.slot.load(Ordering::Relaxed);
        let epoch = self.epoch.load(Ordering::Relaxed);
        let handle = self.handle.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if before & 1 == 1 || self.sequence.load(Ordering::Relaxed) != before {
            return None;
        }
        // SAFETY: null, or a `&'static Slot` that `write` was given.
        let slot: &'static Slot = unsafe { slot.as_ref() }?;
        Some(Found { slot, epoch, handle })
    }

    /// Remembers.
    pub fn set(&self, found: Found) {
        self.write(ptr::from_ref(found.slot).cast_mut(), found.epoch, found.handle);
    }

    /// Forgets: the handle is not the key's any more.
    pub fn forget(&self) {
        self.write(ptr::null_mut(), 0, 0);
    }

    fn write(&self, slot: *mut Slot, epoch: u64, handle: u64) {
        let generation = strongroom_ffi::process_generation() << 32;
        let before = self.sequence.load(Ordering::Relaxed);
        if before & 1 == 1 && before & !u64::from(u32::MAX) == generation {
            return;
        }
        let writing = generation | u64::from((before as u32).wrapping_add(2) | 1);
        if self.sequence.compare_exchange(before, writing, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        fence(Ordering::Release);
        self.slot.store(slot, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
        self.handle.store(handle, Ordering::Relaxed);
        self.sequence.store(writing ^ 1, Ordering::Release);
    }
}
