//! Pages that are kept out of reach: memfd_secret(2), or mlock(2), or what there is.

use std::ffi::c_void;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// How many bytes of pages for secrets the process has.
pub fn taken() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

/// How pages are protected, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protection {
    /// memfd_secret: not even the kernel's own map of memory has these pages.
    MemfdSecret = 0,
    /// Locked into memory and left out of core dumps.
    Locked = 1,
    /// Left out of core dumps; may be swapped out.
    Unlocked = 2,
}

impl Protection {
    /// Every protection, the best first.
    pub const ALL: [Protection; 3] = [Protection::MemfdSecret, Protection::Locked, Protection::Unlocked];

    /// As the protocol's Status names it.
    pub fn name(self) -> &'static str {
        match self {
            Protection::MemfdSecret => "memfd_secret",
            Protection::Locked => "mlock",
            Protection::Unlocked => "unlocked",
        }
    }
}

/// Maps `length` bytes of zero pages for this process, protected as well as the system allows; `None` if
/// there is no memory at all.
pub(super) fn map(length: usize) -> Option<(NonNull<u8>, Protection)> {
    let mapped = map_protected(length)?;
    TAKEN.fetch_add(length, Ordering::Relaxed);
    Some(mapped)
}

fn map_protected(length: usize) -> Option<(NonNull<u8>, Protection)> {
    if let Some(pages) = map_secret(length) {
        return Some((pages, Protection::MemfdSecret));
    }
    // SAFETY: a new private mapping at an address that the kernel chooses touches nothing that is in use.
    let pages = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the range is the mapping made above. Neither call changes its contents.
    let locked = unsafe {
        let _ = rustix::mm::madvise(pages, length, Advice::LinuxDontDump);
        rustix::mm::mlock(pages, length).is_ok()
    };
    let protection = if locked { Protection::Locked } else { Protection::Unlocked };
    NonNull::new(pages.cast()).map(|pages| (pages, protection))
}

fn map_secret(length: usize) -> Option<NonNull<u8>> {
    let file = memfd_secret()?;
    rustix::fs::ftruncate(&file, length as u64).ok()?;
    // SAFETY: as for the anonymous mapping; nobody else has the descriptor, so the mapping is not shared.
    let pages = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            file.as_fd(),
            0,
        )
    }
    .ok()?;
    NonNull::new(pages.cast())
}

/// A descriptor of secret memory, close-on-exec; `None` where the kernel has none (before 5.14, or switched
/// off).
fn memfd_secret() -> Option<OwnedFd> {
    // SAFETY: the system call takes one integer and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: the kernel just opened this descriptor, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Gives pages back.
///
/// # Safety
///
/// `pages` and `length` are those of one call of [`map`], and nobody uses the pages any more.
pub(super) unsafe fn unmap(pages: NonNull<u8>, length: usize) {
    // SAFETY: by the caller's promise. Failing leaves the pages mapped, and they were wiped.
    let _ = unsafe { rustix::mm::munmap(pages.as_ptr().cast::<c_void>(), length) };
    TAKEN.fetch_sub(length, Ordering::Relaxed);
}
