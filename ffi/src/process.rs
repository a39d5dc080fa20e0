//! Which process this is, without a system call.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The id of this process, as getpid(2), correct in every child after fork(2).
///
/// The id is kept in a page that the kernel hands zeroed to a child (madvise(2), `MADV_WIPEONFORK`, Linux 4.14).
/// Where that page cannot be had, each call asks the kernel.
pub fn process_id() -> u32 {
    // Not a OnceLock: a fork while another thread initialises it would leave it locked in the child.
    static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        // Two threads may both map a page; the one that is not stored stays mapped, 4 KiB once.
        page = wiped_on_fork();
        if page.is_null() {
            return std::process::id();
        }
        PAGE.store(page, Ordering::Release);
    }
    // SAFETY: not null: a page of ours that is never unmapped and holds zeros or an id, valid for an AtomicU32.
    let remembered = unsafe { &*page };
    match remembered.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            remembered.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// A page of zeros that a child sees as zeros again, or null.
fn wiped_on_fork() -> *mut AtomicU32 {
    const SIZE: usize = 4096;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists; it is
    // checked before use, and unmapped only if it was never handed out.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        if libc::madvise(page, SIZE, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, SIZE);
            return std::ptr::null_mut();
        }
        page.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_its_own_id() {
        assert_eq!(process_id(), std::process::id());
        // SAFETY: the child calls only process_id, getpid and _exit, which take no lock.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(if process_id() == libc::getpid() as u32 { 0 } else { 1 });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0);
        }
        assert_eq!(process_id(), std::process::id());
    }
}
