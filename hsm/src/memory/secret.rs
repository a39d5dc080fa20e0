//! Secret bytes and words in protected memory.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::arena;

/// Secret bytes of a fixed length, in the arena, wiped on drop.
pub type SecretBytes = Secret<u8>;

/// Secret 64-bit words (the limbs of large numbers), like [`SecretBytes`].
pub type SecretWords = Secret<u64>;

/// A fixed number of secret elements in the arena, aligned to 16 bytes, wiped on drop.
pub struct Secret<T: Plain> {
    block: NonNull<T>,
    length: usize,
}

/// Elements that may have any bits, zeros too, and an alignment of at most 16 bytes.
pub trait Plain: Copy + sealed::Sealed {}

impl Plain for u8 {}
impl Plain for u64 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u64 {}
}

// SAFETY: the block is this value's alone, like a Box's, and plain elements belong to no thread.
unsafe impl<T: Plain> Send for Secret<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Secret<T> {}

impl<T: Plain> Secret<T> {
    /// `length` elements, all zero.
    pub fn zeroed(length: usize) -> Self {
        let layout = std::alloc::Layout::array::<T>(length).unwrap_or(std::alloc::Layout::new::<T>());
        let bytes = length.checked_mul(size_of::<T>());
        let Some(block) = bytes.and_then(arena::allocate) else {
            std::alloc::handle_alloc_error(layout);
        };
        // SAFETY: the block has as many bytes, and nobody else has it.
        unsafe { std::ptr::write_bytes(block.as_ptr(), 0, layout.size()) };
        Self { block: block.cast(), length }
    }

    /// Overwrites the first `count` elements with zeros, many at a time.
    pub fn wipe(&mut self, count: usize) {
        let count = count.min(self.length);
        // SAFETY: the block has at least so many elements, and self is borrowed exclusively.
        unsafe { arena::wipe(self.block.cast(), count * size_of::<T>()) };
    }
}

impl<T: Plain> Drop for Secret<T> {
    fn drop(&mut self) {
        // SAFETY: the block is this value's, and it ends here.
        unsafe { arena::free(self.block.cast()) };
    }
}

impl<T: Plain> From<&[T]> for Secret<T> {
    fn from(elements: &[T]) -> Self {
        let mut secret = Self::zeroed(elements.len());
        secret.copy_from_slice(elements);
        secret
    }
}

impl<T: Plain> Deref for Secret<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the block has `length` elements, all written and aligned, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.length) }
    }
}

impl<T: Plain> DerefMut for Secret<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for Deref, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr(), self.length) }
    }
}

impl<T: Plain> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.length * size_of::<T>())
    }
}
