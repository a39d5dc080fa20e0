//! Secret bytes in protected memory.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::arena;

/// Secret bytes of a fixed length, in the arena, wiped on drop.
pub struct SecretBytes {
    block: NonNull<u8>,
    length: usize,
}

// SAFETY: the block is this value's alone, like a Box's.
unsafe impl Send for SecretBytes {}
// SAFETY: as above.
unsafe impl Sync for SecretBytes {}

impl SecretBytes {
    /// `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        let Some(block) = arena::allocate(length) else {
            std::alloc::handle_alloc_error(
                std::alloc::Layout::array::<u8>(length).unwrap_or(std::alloc::Layout::new::<u8>()),
            );
        };
        // SAFETY: the block has `length` bytes and nobody else has it.
        unsafe { std::ptr::write_bytes(block.as_ptr(), 0, length) };
        Self { block, length }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        // SAFETY: the block is this value's, and it ends here.
        unsafe { arena::free(self.block) };
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut secret = Self::zeroed(bytes.len());
        secret.copy_from_slice(bytes);
        secret
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block has `length` bytes, all written, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.length) }
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for Deref, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr(), self.length) }
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.length)
    }
}
