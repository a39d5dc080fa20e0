//! Shared memory: mapped, and looked at as atomics only, because the other side may write at any time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{self, MemfdFlags, SealFlags};
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

const WORD: usize = size_of::<u64>();

/// Memory that another process sees too. Unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    /// In bytes, a multiple of 8.
    length: usize,
    writable: bool,
}

// SAFETY: the memory belongs to no thread, and is accessed through atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Makes a file of memory of `length` bytes that cannot change its size. With `read_only`, only mappings made so
/// far (none: the caller maps first, with [`Mapping::of`]) can write.
pub(crate) fn create(name: &str, length: usize) -> io::Result<OwnedFd> {
    let file = fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    fs::ftruncate(&file, length as u64)?;
    fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

/// No later mapping of this file can write, and no seal can be added or changed.
pub(crate) fn seal_writing(file: &OwnedFd) -> io::Result<()> {
    Ok(fs::fcntl_add_seals(file, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?)
}

/// What may be done with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Mapping {
    /// Maps a file that has exactly `length` bytes and cannot shrink. Not inherited by children (they would
    /// write into their parent's slots), and not in core dumps.
    pub(crate) fn of(file: &OwnedFd, length: usize, access: Access) -> io::Result<Self> {
        // The seals first: what cannot shrink any more is as long afterwards as is seen now.
        let seals = fs::fcntl_get_seals(file)?;
        let size = fs::fstat(file.as_fd())?.st_size;
        if usize::try_from(size) != Ok(length) || !seals.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "shared memory of another release"));
        }
        let writable = access == Access::ReadWrite;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists. The file has
        // `length` bytes and cannot shrink, so that no access to them faults.
        let start =
            unsafe { mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file.as_fd(), 0)? };
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mapping = Mapping { start, length, writable };
        // SAFETY: advice about our own mapping.
        unsafe {
            mm::madvise(start.as_ptr().cast(), length, Advice::LinuxDontFork)?;
            mm::madvise(start.as_ptr().cast(), length, Advice::LinuxDontDump)?;
        }
        Ok(mapping)
    }

    /// The 32-bit number at `offset`; `None` outside, or not aligned.
    pub(crate) fn number(&self, offset: usize) -> Option<&AtomicU32> {
        let inside = offset.checked_add(size_of::<u32>())? <= self.length;
        // SAFETY: inside the mapping, aligned (it begins at a page), valid as long as self; other processes'
        // accesses are atomics too, or a hostile one's, whose values are checked by those who use them.
        (inside && offset.is_multiple_of(size_of::<u32>()))
            .then(|| unsafe { self.start.add(offset).cast::<AtomicU32>().as_ref() })
    }

    /// The 64-bit number at `offset`; `None` outside, or not aligned.
    pub(crate) fn word(&self, offset: usize) -> Option<&AtomicU64> {
        self.words(offset, WORD)?.first()
    }

    /// At least `length` bytes from `offset` on, as words.
    fn words(&self, offset: usize, length: usize) -> Option<&[AtomicU64]> {
        let count = length.div_ceil(WORD);
        let inside = offset.checked_add(count.checked_mul(WORD)?)? <= self.length;
        // SAFETY: as in number, for `count` words.
        (inside && offset.is_multiple_of(WORD)).then(|| unsafe {
            std::slice::from_raw_parts(self.start.add(offset).cast::<AtomicU64>().as_ptr(), count)
        })
    }

    /// Copies from `offset`, a multiple of 8; false outside.
    #[must_use]
    pub(crate) fn copy_out(&self, offset: usize, into: &mut [u8]) -> bool {
        let Some(words) = self.words(offset, into.len()) else { return false };
        for (word, bytes) in words.iter().zip(into.chunks_mut(WORD)) {
            let value = word.load(Ordering::Relaxed).to_le_bytes();
            match <&mut [u8; WORD]>::try_from(&mut *bytes) {
                Ok(whole) => *whole = value,
                Err(_) => bytes.iter_mut().zip(value).for_each(|(to, from)| *to = from),
            }
        }
        true
    }

    /// Copies to `offset`, a multiple of 8; up to 7 bytes behind become 0. False outside, or where only reading is
    /// allowed.
    #[must_use]
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) -> bool {
        let Some(words) = self.words(offset, from.len()).filter(|_| self.writable) else { return false };
        for (word, bytes) in words.iter().zip(from.chunks(WORD)) {
            let mut value = [0; WORD];
            match <[u8; WORD]>::try_from(bytes) {
                Ok(whole) => value = whole,
                Err(_) => value.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
            }
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
        true
    }

    /// Writes zeros from `offset` on, up to 7 bytes more than `length`, if that is inside.
    pub(crate) fn wipe(&self, offset: usize, length: usize) {
        for word in self.words(offset, length).filter(|_| self.writable).unwrap_or_default() {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Copies the pieces one behind the other, as [`Mapping::copy_in`].
    #[must_use]
    pub(crate) fn copy_in_all(&self, offset: usize, pieces: &[&[u8]]) -> bool {
        let (mut at, mut value, mut filled) = (offset, [0u8; WORD], 0);
        for piece in pieces {
            let mut piece = *piece;
            if filled == 0 {
                // Whole words at once; what is left is collected.
                let whole = piece.len() - piece.len() % WORD;
                let (words, rest) = piece.split_at(whole);
                if !self.copy_in(at, words) {
                    return false;
                }
                at += whole;
                piece = rest;
            }
            for byte in piece {
                if let Some(place) = value.get_mut(filled) {
                    *place = *byte;
                }
                filled += 1;
                if filled == WORD {
                    if !self.copy_in(at, &value) {
                        return false;
                    }
                    (at, value, filled) = (at + WORD, [0; WORD], 0);
                }
            }
        }
        filled == 0 || self.copy_in(at, value.get(..filled).unwrap_or_default())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which no reference outlives (they borrow self).
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_come_out_and_nothing_beside_them_changes() {
        let file = create("test", 4096).unwrap();
        let mapping = Mapping::of(&file, 4096, Access::ReadWrite).unwrap();
        for length in 0..40 {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8 + 1).collect();
            assert!(mapping.copy_in(16, &[0xee; 64]));
            assert!(mapping.copy_in(64, &bytes));
            let mut back = vec![0; length];
            assert!(mapping.copy_out(64, &mut back));
            assert_eq!(back, bytes);
            let mut before = [0; 8];
            assert!(mapping.copy_out(56, &mut before));
            assert_eq!(before, [0xee; 8]);
            for cut in 0..length {
                let (one, two) = bytes.split_at(cut);
                assert!(mapping.copy_in(64, &[0; 64]));
                assert!(mapping.copy_in_all(64, &[one, &[], two, &[7]]));
                let mut back = vec![0; length + 1];
                assert!(mapping.copy_out(64, &mut back));
                assert_eq!(back, [&bytes[..], &[7]].concat());
            }
        }
    }

    #[test]
    fn nothing_outside_is_touched() {
        let file = create("test", 4096).unwrap();
        let mapping = Mapping::of(&file, 4096, Access::ReadWrite).unwrap();
        assert!(!mapping.copy_in(4096, &[1]));
        assert!(!mapping.copy_in(4088, &[1; 9]));
        assert!(!mapping.copy_out(4088, &mut [0; 9]));
        assert!(!mapping.copy_out(usize::MAX - 7, &mut [0; 9]));
        assert!(!mapping.copy_in(4, &[1]), "not aligned");
        assert!(mapping.number(4092).is_some() && mapping.number(4096).is_none());
        assert!(mapping.word(4088).is_some() && mapping.word(4092).is_none());
        assert!(Mapping::of(&file, 8192, Access::ReadWrite).is_err());
    }

    #[test]
    fn sealed_memory_neither_shrinks_nor_is_written() {
        let file = create("test", 4096).unwrap();
        let ours = Mapping::of(&file, 4096, Access::ReadWrite).unwrap();
        seal_writing(&file).unwrap();
        assert!(fs::ftruncate(&file, 0).is_err());
        assert!(Mapping::of(&file, 4096, Access::ReadWrite).is_err());
        let theirs = Mapping::of(&file, 4096, Access::ReadOnly).unwrap();
        assert!(ours.copy_in(0, &[7; 8]));
        assert_eq!(theirs.number(0).unwrap().load(Ordering::Relaxed), 0x0707_0707);
        assert!(!theirs.copy_in(0, &[1]));
    }
}
