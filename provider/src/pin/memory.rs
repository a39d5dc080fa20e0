//! Memory for PINs: locked, left out of core dumps, wiped. The one place where its system calls are made.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The size of a [`Page`] in bytes. Where the system's pages are larger, the rest of one is not used.
pub const SIZE: usize = 4096;

/// A page that holds one PIN. Where no more memory may be locked (RLIMIT_MEMLOCK) it is not: a server that signs with its
/// PIN in memory that may be swapped out is better than one that stops.
#[derive(Debug)]
pub struct Page(NonNull<u8>);

// SAFETY: the page is this value's alone, like a Box's.
unsafe impl Send for Page {}
// SAFETY: as above; it is written through an exclusive borrow only.
unsafe impl Sync for Page {}

/// The pages in use, to be locked again in a child: locks are not inherited (mlock(2)). Those beyond have to do without.
static IN_USE: [AtomicPtr<u8>; 256] = [const { AtomicPtr::new(ptr::null_mut()) }; 256];

impl Page {
    /// A page of zeros; `None` if there is no memory.
    pub fn new() -> Option<Self> {
        static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
        if !IS_REGISTERED.load(Ordering::Acquire) {
            // Two threads may both do it: to lock twice does no harm, and nobody relies on a handler that is not there yet.
            // SAFETY: the handler makes system calls only, and this library is never unloaded (see build.rs).
            unsafe { libc::pthread_atfork(None, None, Some(lock_again)) };
            IS_REGISTERED.store(true, Ordering::Release);
        }
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists. The other calls are
        // for that mapping, and leave its content as it is.
        let page = unsafe {
            let page = libc::mmap(
                ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if page == libc::MAP_FAILED {
                return None;
            }
            libc::madvise(page, SIZE, libc::MADV_DONTDUMP);
            libc::mlock(page, SIZE);
            page.cast::<u8>()
        };
        for place in &IN_USE {
            if place.compare_exchange(ptr::null_mut(), page, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        NonNull::new(page).map(Page)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: SIZE bytes of ours, all initialised, and nobody writes while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), SIZE) }
    }

    /// Its bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), SIZE) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(self.bytes_mut());
        let page = self.0.as_ptr();
        for place in &IN_USE {
            if place.compare_exchange(page, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        // SAFETY: mapped in `new` with this size, and nobody has it any more. This unlocks it too.
        unsafe { libc::munmap(page.cast(), SIZE) };
    }
}

/// In a child, right after the fork: locks what the parent had locked.
extern "C" fn lock_again() {
    for place in &IN_USE {
        let page = place.load(Ordering::Acquire);
        if !page.is_null() {
            // SAFETY: a page in use, or one that was being freed when the fork came: then the call fails, or locks a page of
            // somebody else's, which does no harm.
            unsafe { libc::mlock(page.cast(), SIZE) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of a page (proc_pid_smaps(5)): "lo" for locked, "dd" for not dumped.
    fn flags(page: &Page) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let address = page.0.as_ptr() as usize;
        // The kernel may have joined it with its neighbours.
        let is_in = |line: &&str| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            range.and_then(|(start, end)| Some((number(start)?..number(end)?).contains(&address)))
                == Some(true)
        };
        let mut lines = maps.lines().skip_while(|line| !is_in(line));
        let line = lines.find(|line| line.starts_with("VmFlags:"))?;
        Some(format!("{line} "))
    }

    /// The kernel writes its list in pieces, and leaves out what other threads move between two of them: asked again.
    fn is_protected(page: &Page) -> bool {
        (0..100).any(|_| flags(page).is_some_and(|flags| flags.contains(" lo ") && flags.contains(" dd ")))
    }

    #[test]
    fn is_locked_and_not_dumped_here_and_in_a_child() {
        let mut page = Page::new().unwrap();
        page.bytes_mut()[0] = 7;
        assert!(is_protected(&page), "{:?}", flags(&page));
        // SAFETY: the child reads a file, which allocates, as glibc allows after a fork, and calls _exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(!(is_protected(&page) && page.bytes()[0] == 7)));
            }
            let mut status = -1;
            assert_eq!((libc::waitpid(child, &mut status, 0), status), (child, 0));
        }
    }
}
