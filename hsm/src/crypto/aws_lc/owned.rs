//! Owned objects of the library: freed exactly once, never null.

use std::ptr::NonNull;

use super::sys as c;

use super::library_error;
use crate::crypto::CryptoError;

macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $type:ty, $free:path) => {
        $(#[$doc])*
        pub(super) struct $name(NonNull<$type>);

        impl $name {
            /// Takes ownership; `None` for null, which is how the library says that it failed.
            ///
            /// # Safety
            ///
            /// `pointer` is null or a valid object that nobody else frees.
            pub(super) unsafe fn new(pointer: *mut $type) -> Option<Self> {
                NonNull::new(pointer).map(Self)
            }

            pub(super) fn as_ptr(&self) -> *mut $type {
                self.0.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: this type owns the object (see `new`) and is being dropped.
                unsafe { $free(self.0.as_ptr()) }
            }
        }
    };
}

owned!(
    /// A key, public or private. Reference-counted and locked inside the library.
    Pkey, c::EVP_PKEY, c::EVP_PKEY_free
);
owned!(Rsa, c::RSA, c::RSA_free);
owned!(EcKey, c::EC_KEY, c::EC_KEY_free);
owned!(EcdsaSig, c::ECDSA_SIG, c::ECDSA_SIG_free);
owned!(Bignum, c::BIGNUM, c::BN_free);
owned!(EcPoint, c::EC_POINT, c::EC_POINT_free);
owned!(
    /// An operation with a key, of which it has a reference.
    PkeyContext, c::EVP_PKEY_CTX, c::EVP_PKEY_CTX_free
);

owned!(
    /// A cipher with its key, in protected memory, wiped when it is freed.
    CipherContext, c::EVP_CIPHER_CTX, c::EVP_CIPHER_CTX_free
);

impl CipherContext {
    /// One without a cipher yet.
    pub(super) fn make() -> Result<Self, CryptoError> {
        // SAFETY: the result is null or owned here.
        unsafe { Self::new(c::EVP_CIPHER_CTX_new()) }.ok_or_else(|| library_error("EVP_CIPHER_CTX_new"))
    }
}

impl PkeyContext {
    /// An operation with this key, still to be said which.
    pub(super) fn of(pkey: &Pkey) -> Result<Self, CryptoError> {
        // SAFETY: the key is valid, and the context takes a reference of its own; the result is null or owned here.
        unsafe { Self::new(c::EVP_PKEY_CTX_new(pkey.as_ptr(), std::ptr::null_mut())) }
            .ok_or_else(|| library_error("EVP_PKEY_CTX_new"))
    }
}

// SAFETY: the library's keys may be used from several threads as long as nobody changes them (RSA and EC_KEY
// have locks for what they cache), and after construction this crate only reads them.
unsafe impl Send for Pkey {}
// SAFETY: as above.
unsafe impl Sync for Pkey {}

/// Bytes that the library writes and allocates itself (a CBB); wiped by the library's free.
pub(super) struct Written {
    data: NonNull<u8>,
    length: usize,
}

impl Written {
    /// Runs `write` over a fresh CBB; `None` if it or the library fails.
    pub(super) fn by(write: impl FnOnce(*mut c::CBB) -> bool) -> Option<Self> {
        let mut cbb = std::mem::MaybeUninit::<c::CBB>::zeroed();
        let mut data = std::ptr::null_mut();
        let mut length = 0;
        // SAFETY: CBB_init initialises the CBB (all zero is its valid empty state) before anything else uses
        // it; on each path it is ended by exactly one of finish and cleanup.
        unsafe {
            if c::CBB_init(cbb.as_mut_ptr(), 512) != 1 {
                return None;
            }
            if !write(cbb.as_mut_ptr()) || c::CBB_finish(cbb.as_mut_ptr(), &mut data, &mut length) != 1 {
                c::CBB_cleanup(cbb.as_mut_ptr());
                return None;
            }
        }
        NonNull::new(data).map(|data| Self { data, length })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: CBB_finish gave a buffer of this length, which lives until the drop.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.length) }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // SAFETY: the buffer is the library's and this type owns it. OPENSSL_free wipes it.
        unsafe { c::OPENSSL_free(self.data.as_ptr().cast()) }
    }
}
