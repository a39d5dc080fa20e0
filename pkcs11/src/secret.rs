//! A PIN and a ticket kept for logging in again: in memory that is not swapped, dumped, or handed to a child.

use std::fmt;
use std::ptr::NonNull;

use zeroize::Zeroize;

/// A secret in pages of its own, wiped when it is dropped.
pub struct Secret {
    start: NonNull<u8>,
    length: usize,
    mapped: usize,
}

// SAFETY: the pages belong to this value alone and are only read through it, as those of a Vec.
unsafe impl Send for Secret {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Secret {}

impl Secret {
    /// Copies `secret`; `None` if the kernel gives no memory. Locking the pages is tried (the limit of locked
    /// memory may be 0), keeping them out of core dumps and of children is too.
    pub fn new(secret: &[u8]) -> Option<Self> {
        let mapped = secret.len().max(1).next_multiple_of(4096);
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists; what
        // follows is advice about that mapping only, whose failure changes nothing but the protection.
        let start = unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                return None;
            }
            libc::mlock(start, mapped);
            libc::madvise(start, mapped, libc::MADV_DONTDUMP);
            libc::madvise(start, mapped, libc::MADV_WIPEONFORK);
            start.cast::<u8>()
        };
        let start = NonNull::new(start)?;
        // SAFETY: the mapping has at least this size, is ours alone, and cannot overlap `secret`.
        unsafe { std::ptr::copy_nonoverlapping(secret.as_ptr(), start.as_ptr(), secret.len()) };
        Some(Secret { start, length: secret.len(), mapped })
    }

    /// The secret. Whoever copies it wipes the copy.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `length` bytes were written by `new` and are not written again before the drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The secret, if it is text. Whoever copies it wipes the copy.
    pub fn expose_text(&self) -> &str {
        std::str::from_utf8(self.expose()).unwrap_or_default()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of `mapped` bytes, and nobody can have a reference to it any more.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.mapped).zeroize();
            libc::munmap(self.start.as_ptr().cast(), self.mapped);
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_and_not_shown() {
        let secret = Secret::new(b"user:hunter22").unwrap();
        assert_eq!(secret.expose_text(), "user:hunter22");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(Secret::new(b"").unwrap().expose(), b"");
    }

    #[test]
    fn a_child_does_not_inherit_it() {
        let secret = Secret::new(b"hunter22").unwrap();
        // SAFETY: the child reads memory and calls _exit, which take no lock.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let wiped = secret.expose().iter().all(|byte| *byte == 0);
                libc::_exit(if wiped { 0 } else { 1 });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0);
        }
        assert_eq!(secret.expose(), b"hunter22");
    }
}
