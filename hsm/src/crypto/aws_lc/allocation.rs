//! The library's memory: everything that it allocates lies in the arena and is wiped when it is freed.
//!
//! That covers private exponents, primes, CRT and Montgomery forms, the random generator's state and the
//! numbers of computations under way. What the library keeps on the stack it wipes itself where it matters.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Once;

use crate::memory::arena;

/// Gives the library its allocator. Has to come before the library allocates anything: every constructor of
/// this crate's types over it calls this first.
pub fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // SAFETY: the three functions agree with each other and keep C's rules for malloc, realloc and free.
        // The library refuses (and keeps malloc, without protection) if it was given an allocator before.
        let taken = unsafe {
            super::sys::CRYPTO_set_mem_functions(Some(allocate), Some(reallocate), Some(release)) == 1
        };
        if !taken {
            tracing::error!("the crypto library does not take its memory from the protected arena");
        }
    });
}

/// malloc. The file and line are the library's own.
extern "C" fn allocate(length: usize, _file: *const c_char, _line: c_int) -> *mut c_void {
    arena::allocate(length).map_or(ptr::null_mut(), |block| block.as_ptr().cast())
}

/// realloc: the old block is wiped.
///
/// # Safety
///
/// `old` is null or comes from these functions and was not freed.
unsafe extern "C" fn reallocate(
    old: *mut c_void,
    length: usize,
    _file: *const c_char,
    _line: c_int,
) -> *mut c_void {
    let Some(new) = arena::allocate(length) else { return ptr::null_mut() };
    if let Some(old) = NonNull::new(old.cast::<u8>()) {
        // SAFETY: by the caller's promise `old` is a block of the arena; both have the bytes that are copied,
        // and the new one is nobody else's.
        unsafe {
            ptr::copy_nonoverlapping(old.as_ptr(), new.as_ptr(), arena::length(old).min(length));
            arena::free(old);
        }
    }
    new.as_ptr().cast()
}

/// free.
///
/// # Safety
///
/// `block` is null or comes from these functions and was not freed.
unsafe extern "C" fn release(block: *mut c_void, _file: *const c_char, _line: c_int) {
    if let Some(block) = NonNull::new(block.cast()) {
        // SAFETY: by the caller's promise.
        unsafe { arena::free(block) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_allocates_in_the_arena() {
        prepare();
        // SAFETY: a block of the library's allocator, freed once; its length is read while it lives.
        unsafe {
            let block = NonNull::new(super::super::sys::OPENSSL_malloc(1234)).unwrap();
            assert_eq!(arena::length(block.cast()), 1234);
            let block = NonNull::new(super::super::sys::OPENSSL_realloc(block.as_ptr(), 99)).unwrap();
            assert_eq!(arena::length(block.cast()), 99);
            super::super::sys::OPENSSL_free(block.as_ptr());
        }
    }
}
