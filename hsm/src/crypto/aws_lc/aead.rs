//! Authenticated encryption: contexts that hold an expanded key, each used by any number of threads.

use std::fmt;
use std::ptr::NonNull;

use super::sys as c;

use super::{library_error, prepare};
use crate::crypto::CryptoError;

/// An expanded AES key and its GHASH table, for tags of one length. They lie in protected memory and are wiped
/// on drop.
pub struct AesGcm {
    context: NonNull<c::EVP_AEAD_CTX>,
    tag_length: usize,
}

// SAFETY: the context is this value's alone. It is written when it is made and when it is freed; sealing and
// opening take it as const and keep what they compute on their stack.
unsafe impl Send for AesGcm {}
// SAFETY: as above.
unsafe impl Sync for AesGcm {}

impl fmt::Debug for AesGcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesGcm").field("tag_length", &self.tag_length).finish_non_exhaustive()
    }
}

impl Drop for AesGcm {
    fn drop(&mut self) {
        // SAFETY: made by EVP_AEAD_CTX_new, and freed here only.
        unsafe { c::EVP_AEAD_CTX_free(self.context.as_ptr()) };
    }
}

impl AesGcm {
    /// Expands a key of 16, 24 or 32 bytes, for tags of `tag_length` bytes (at most 16).
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`] for another length of the key, [`CryptoError::Library`] without memory.
    pub fn new(key: &[u8], tag_length: usize) -> Result<Self, CryptoError> {
        prepare();
        // SAFETY: the three return pointers to the library's constants; the key is read during the call, and
        // the context that comes back is null or the caller's.
        let context = unsafe {
            let cipher = match key.len() {
                16 => c::EVP_aead_aes_128_gcm(),
                24 => c::EVP_aead_aes_192_gcm(),
                32 => c::EVP_aead_aes_256_gcm(),
                other => {
                    let what = format!("an AES key has 16, 24 or 32 bytes, not {other}");
                    return Err(CryptoError::KeyMalformed(what));
                }
            };
            NonNull::new(c::EVP_AEAD_CTX_new(cipher, key.as_ptr(), key.len(), tag_length))
        };
        let context = context.ok_or_else(|| library_error("expanding an AES key"))?;
        Ok(Self { context, tag_length })
    }

    /// Encrypts `plain` to `out`, which is as long, and writes the tag, of the context's length.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`] if a length does not fit; nothing of `plain` is in `out` then.
    pub fn seal(
        &self,
        iv: &[u8],
        aad: &[u8],
        plain: &[u8],
        out: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), CryptoError> {
        if out.len() != plain.len() || tag.len() != self.tag_length {
            return Err(CryptoError::Library("sealing into a place of another length".to_owned()));
        }
        let mut written = 0;
        // SAFETY: all pointers and lengths are those of slices, the exclusive ones as long as the library
        // writes (checked above), and no slice overlaps an exclusive one.
        let sealed = unsafe {
            c::EVP_AEAD_CTX_seal_scatter(
                self.context.as_ptr(),
                out.as_mut_ptr(),
                tag.as_mut_ptr(),
                &mut written,
                tag.len(),
                iv.as_ptr(),
                iv.len(),
                plain.as_ptr(),
                plain.len(),
                std::ptr::null(),
                0,
                aad.as_ptr(),
                aad.len(),
            )
        };
        if sealed == 1 && written == tag.len() { Ok(()) } else { Err(library_error("AES-GCM")) }
    }

    /// Decrypts `ciphertext` to `out`, which is as long, if `tag` fits. If it does not, `out` is all zeros, but
    /// had plaintext in it before that was known: nobody else may be able to read it meanwhile.
    ///
    /// # Errors
    ///
    /// [`CryptoError::CiphertextWrong`].
    pub fn open(
        &self,
        iv: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        if out.len() != ciphertext.len() {
            return Err(CryptoError::Library("opening into a place of another length".to_owned()));
        }
        // SAFETY: as for sealing.
        let opened = unsafe {
            c::EVP_AEAD_CTX_open_gather(
                self.context.as_ptr(),
                out.as_mut_ptr(),
                iv.as_ptr(),
                iv.len(),
                ciphertext.as_ptr(),
                ciphertext.len(),
                tag.as_ptr(),
                tag.len(),
                aad.as_ptr(),
                aad.len(),
            )
        };
        if opened == 1 {
            return Ok(());
        }
        // SAFETY: the error queue belongs to this thread.
        unsafe { c::ERR_clear_error() };
        Err(CryptoError::CiphertextWrong)
    }
}
