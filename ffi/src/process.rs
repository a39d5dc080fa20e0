//! Which process this is, without a system call.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// A number that differs between this process and every process that it was forked from, and stays the same for
/// its life. The process id does not do: a child in a new pid namespace has its parent's id 1, and ids are used
/// again.
///
/// The number is kept in a page that the kernel hands zeroed to a child (madvise(2), `MADV_WIPEONFORK`, Linux 4.14);
/// the child then counts one on from what it inherited. Where that page cannot be had, the process id serves, with
/// a system call each time.
pub fn process_generation() -> u64 {
    // Not a OnceLock: a fork while another thread initialises it would leave it locked in the child.
    static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
    /// The greatest number in this process and its ancestors.
    static NEWEST: AtomicU64 = AtomicU64::new(0);
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        page = wiped_on_fork();
        if page.is_null() {
            return u64::from(std::process::id());
        }
        if let Err(other) =
            PAGE.compare_exchange(std::ptr::null_mut(), page, Ordering::AcqRel, Ordering::Acquire)
        {
            // Another thread was first; our page stays mapped, 4 KiB once.
            page = other;
        }
    }
    // SAFETY: not null: a page of ours that is never unmapped and holds zeros or a number, valid for an AtomicU64.
    let remembered = unsafe { &*page };
    match remembered.load(Ordering::Acquire) {
        0 => {
            let fresh = NEWEST.fetch_add(1, Ordering::AcqRel) + 1;
            match remembered.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => fresh,
                Err(other) => other,
            }
        }
        number => number,
    }
}

/// A page of zeros that a child sees as zeros again, or null.
fn wiped_on_fork() -> *mut AtomicU64 {
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
    fn a_child_and_its_child_differ_from_their_ancestors() {
        let own = process_generation();
        assert_eq!(process_generation(), own);
        // SAFETY: the children call only process_generation, fork, waitpid and _exit, which take no lock.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let first = process_generation();
                let grandchild = libc::fork();
                if grandchild == 0 {
                    let second = process_generation();
                    libc::_exit(i32::from(
                        second == first || second == own || second != process_generation(),
                    ));
                }
                let mut status = -1;
                libc::waitpid(grandchild, &mut status, 0);
                libc::_exit(i32::from(first == own || status != 0));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0);
        }
        assert_eq!(process_generation(), own);
    }
}
