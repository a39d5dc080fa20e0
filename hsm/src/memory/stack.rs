//! A stack in protected pages, for computations whose intermediate values are secret.
//!
//! What C functions leave on the stack (table entries, scalars, half-reduced numbers) lies there as long as nothing
//! is written over it. On this stack it is where other secrets are, and [`ProtectedStack::wipe`] removes it.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;

use rustix::mm::{MprotectFlags, mprotect};

use super::arena;
use super::pages::{self, Protection};

/// Room for the computation, in bytes: eight times what tests have seen.
const ROOM: usize = 192 * 1024;

/// Below it: pages that nothing may touch, so that an overflow ends the process and damages nothing.
const GUARD: usize = 16 * 1024;

/// Written into what is not used, to find out how deep the stack was.
#[cfg(test)]
const PAINT: u8 = 0xa5;

/// A stack of 192 KiB that one computation at a time runs on.
pub struct ProtectedStack {
    pages: NonNull<u8>,
    protection: Protection,
}

impl fmt::Debug for ProtectedStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedStack").field("protection", &self.protection).finish_non_exhaustive()
    }
}

// SAFETY: the pages are this value's alone, and they belong to no thread while nothing runs on them.
unsafe impl Send for ProtectedStack {}

impl ProtectedStack {
    /// Maps a stack; `None` if the system has no memory for it.
    pub fn map() -> Option<Self> {
        let (pages, protection) = pages::map(GUARD + ROOM)?;
        let stack = Self { pages, protection };
        // SAFETY: the guard is the first part of pages that were just mapped and that nobody uses.
        unsafe { mprotect(pages.as_ptr().cast(), GUARD, MprotectFlags::empty()) }.ok()?;
        Some(stack)
    }

    /// Runs `work` on this stack, which begins `skew` bytes (a multiple of 16, below 4096) from its end. A panic in
    /// it goes on on the caller's.
    pub fn run<R>(&mut self, skew: usize, work: impl FnOnce() -> R) -> R {
        let skew = (skew % 4096) & !15;
        // A panic must not unwind through the switch of stacks.
        let work = || panic::catch_unwind(AssertUnwindSafe(work));
        // SAFETY: the pages above the guard are mapped, aligned to pages, and used by nothing else while this value
        // is borrowed; less a multiple of 16, the stack's start is aligned as it has to be.
        let result = unsafe { psm::on_stack(self.pages.as_ptr().add(GUARD), ROOM - skew, work) };
        result.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Overwrites the `depth` bytes that a computation used last.
    pub fn wipe(&mut self, depth: usize) {
        let depth = depth.min(ROOM);
        // SAFETY: the bytes end where the stack begins, inside of the mapping, and nothing runs on them.
        unsafe { arena::wipe(self.pages.add(GUARD + ROOM - depth), depth) };
    }

    /// How many bytes were used since [`ProtectedStack::paint`].
    #[cfg(test)]
    pub(crate) fn depth(&self) -> usize {
        // SAFETY: nothing runs on the pages above the guard.
        let room = unsafe { std::slice::from_raw_parts(self.pages.add(GUARD).as_ptr(), ROOM) };
        room.iter().position(|byte| *byte != PAINT).map_or(0, |unused| ROOM - unused)
    }

    /// Fills the stack with a pattern.
    #[cfg(test)]
    pub(crate) fn paint(&mut self) {
        // SAFETY: as for `depth`, and self is borrowed exclusively.
        unsafe { std::ptr::write_bytes(self.pages.add(GUARD).as_ptr(), PAINT, ROOM) };
    }
}

impl Drop for ProtectedStack {
    fn drop(&mut self) {
        self.wipe(ROOM);
        // SAFETY: mapped by `map` with this length, and nothing runs on it any more.
        unsafe { pages::unmap(self.pages, GUARD + ROOM) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_these_pages_and_leaves_nothing() {
        let mut stack = ProtectedStack::map().unwrap();
        let start = stack.pages.as_ptr() as usize;
        stack.paint();
        let at = stack.run(16, || {
            let secret = std::hint::black_box([0x5a_u8; 5000]);
            secret.as_ptr() as usize
        });
        assert!((start + GUARD..start + GUARD + ROOM).contains(&at));
        let depth = stack.depth();
        assert!((5000..ROOM / 2).contains(&depth), "{depth}");
        stack.wipe(depth);
        stack.paint();
        assert_eq!(stack.depth(), 0);
        stack.wipe(usize::MAX);
        assert_eq!(stack.depth(), ROOM);
    }

    #[test]
    fn a_panic_goes_on_on_the_callers_stack() {
        let mut stack = ProtectedStack::map().unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            stack.run(0, || panic!("on the other stack"));
        }));
        assert!(caught.is_err());
        assert_eq!(stack.run(0, || 7), 7);
    }
}
