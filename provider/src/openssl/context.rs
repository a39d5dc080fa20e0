//! The library context of our own.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use openssl_sys as ffi;

use super::digest::Hash;
use crate::bindings;
use crate::error::{Error, Result};

/// A library context (OSSL_LIB_CTX(3)) with the default provider, and the digests fetched from it.
pub struct Context {
    context: NonNull<ffi::OSSL_LIB_CTX>,
    /// Fetched on first use; a pointer per [`enum@Hash`], never freed before the context.
    digests: [AtomicPtr<ffi::EVP_MD>; Hash::ALL.len()],
}

// SAFETY: OSSL_LIB_CTX and EVP_MD are thread-safe (openssl-threads(7)).
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Makes the context. The default provider is loaded in it at the first fetch, by libcrypto's rule for contexts without configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] when there is no memory.
    pub fn new() -> Result<Self> {
        // SAFETY: takes nothing; null is checked.
        let context =
            NonNull::new(unsafe { ffi::OSSL_LIB_CTX_new() }).ok_or(Error::Libcrypto("OSSL_LIB_CTX_new"))?;
        Ok(Context { context, digests: [const { AtomicPtr::new(std::ptr::null_mut()) }; Hash::ALL.len()] })
    }

    /// For libcrypto's functions; valid as long as this is.
    pub fn as_ptr(&self) -> *mut ffi::OSSL_LIB_CTX {
        self.context.as_ptr()
    }

    /// Fills `buffer` with random bytes that are to stay secret, from OpenSSL's own generator.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it has none.
    pub fn random(&self, buffer: &mut [u8]) -> Result<()> {
        // SAFETY: a valid context, and a buffer of that many bytes; 0 asks for the usual strength.
        match unsafe { bindings::RAND_priv_bytes_ex(self.as_ptr(), buffer.as_mut_ptr(), buffer.len(), 0) } {
            1 => Ok(()),
            _ => Err(Error::Libcrypto("RAND_priv_bytes_ex")),
        }
    }

    /// The implementation of a digest, fetched once. It belongs to the context.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if this libcrypto does not have it.
    pub fn digest(&self, hash: Hash) -> Result<NonNull<ffi::EVP_MD>> {
        let missing = || Error::Unsupported(format!("this libcrypto has no {hash:?}"));
        let slot = self.digests.get(hash as usize).ok_or_else(missing)?;
        if let Some(digest) = NonNull::new(slot.load(Ordering::Acquire)) {
            return Ok(digest);
        }
        let name: &CStr = hash.name();
        // SAFETY: a valid context and a static string; null is checked.
        let fetched = unsafe { ffi::EVP_MD_fetch(self.as_ptr(), name.as_ptr(), std::ptr::null()) };
        let fetched = NonNull::new(fetched).ok_or_else(missing)?;
        match slot.compare_exchange(
            std::ptr::null_mut(),
            fetched.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => Ok(fetched),
            Err(other) => {
                // SAFETY: another thread was first; ours has this one reference.
                unsafe { ffi::EVP_MD_free(fetched.as_ptr()) };
                NonNull::new(other).ok_or_else(missing)
            }
        }
    }
}

/// Runs `operation` and takes away what it leaves on this thread's error queue.
pub fn quietly<T>(operation: impl FnOnce() -> T) -> T {
    // SAFETY: takes nothing; the queue is this thread's.
    unsafe { bindings::ERR_set_mark() };
    let result = operation();
    // SAFETY: as above.
    unsafe { bindings::ERR_pop_to_mark() };
    result
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: each pointer is null or ours; nothing that uses the context is left, since all of it holds the
        // provider that owns this.
        unsafe {
            for digest in &self.digests {
                ffi::EVP_MD_free(digest.load(Ordering::Acquire));
            }
            ffi::OSSL_LIB_CTX_free(self.as_ptr());
        }
    }
}
