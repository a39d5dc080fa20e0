//! The crypto library (AWS-LC) behind safe types: the only code that calls its C functions.
//!
//! The library's own Rust face (aws-lc-rs) signs messages; PKCS#11 signs digests and ready DigestInfos, so
//! keys are used through the C functions here: keys.rs makes, parses and writes keys, curves.rs has the curves; sign.rs, ml_dsa.rs, decrypt.rs,
//! derive.rs and ml_kem.rs use them; key_wrap.rs wraps them; aead.rs, cipher.rs and mac.rs
//! use secret keys, kdf.rs makes keys of them; parts.rs gives crypto_mb what it takes of them; allocation.rs gives the library its memory;
//! lacks.rs says what a build with the FIPS module does not have.

mod aead;
mod allocation;
mod cipher;
mod curves;
mod decrypt;
mod derive;
mod kdf;
mod key_wrap;
mod keys;
mod lacks;
mod mac;
mod ml_dsa;
mod ml_kem;
mod owned;
mod parts;
mod sign;

pub use aead::AesGcm;
pub use allocation::prepare;
pub use cipher::{BlockCipher, Direction, open_ccm, run_blocks, seal_ccm, set_parity};
pub use decrypt::Padding;
pub use kdf::{hkdf_expand, hkdf_extract, pbkdf2};
pub use key_wrap::{unwrap_with_aes, wrap_with_aes};
pub use keys::{PrivateKey, PublicKey};
pub use mac::{CmacState, HmacState, hmac};
pub use parts::Parts;

use std::ffi::CStr;

#[cfg(feature = "fips")]
use aws_lc_fips_sys as sys;
#[cfg(not(feature = "fips"))]
use aws_lc_sys as sys;

use super::{CryptoError, KeyKind};

/// The library's name and version: "AWS-LC 5.12.0", or "AWS-LC FIPS 4.2.0" in a build with the feature `fips`.
pub fn module() -> String {
    let version = CStr::from_bytes_with_nul(sys::AWSLC_VERSION_NUMBER_STRING).unwrap_or_default();
    let fips = if is_fips_module() { "FIPS " } else { "" };
    format!("AWS-LC {fips}{}", version.to_string_lossy())
}

/// Whether the library is built as its FIPS module, has compared itself with its own checksum at start and passed its
/// self-tests: it does not run otherwise.
pub fn is_fips_module() -> bool {
    // SAFETY: without arguments; it reads a constant of the library's.
    unsafe { sys::FIPS_mode() == 1 }
}

/// Whether this build has keys of a kind (docs/fips.md).
pub fn has(kind: KeyKind) -> bool {
    lacks::kind(kind).is_none()
}

/// Fills `buffer` with random bytes from the library's generator (CTR_DRBG seeded by the kernel).
pub fn random(buffer: &mut [u8]) {
    prepare();
    // SAFETY: the pointer and length are those of an exclusive slice. RAND_bytes always succeeds: it aborts
    // the process if the system has no entropy.
    unsafe { sys::RAND_bytes(buffer.as_mut_ptr(), buffer.len()) };
}

/// Fills `words` with random bits, see [`random`].
pub fn random_words(words: &mut [u64]) {
    prepare();
    // SAFETY: as for `random`: an exclusive slice and its length in bytes; words may have any bits.
    unsafe { sys::RAND_bytes(words.as_mut_ptr().cast(), size_of_val(words)) };
}

/// `N` random bytes, see [`random`].
pub fn random_array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random(&mut bytes);
    bytes
}

/// Takes what the library says of this thread's last failure, and clears it.
fn library_error(what: &str) -> CryptoError {
    CryptoError::Library(format!("{what}: {}", library_reason()))
}

fn library_reason() -> String {
    let mut text = [0u8; 160];
    // SAFETY: the buffer is exclusive and its true length is passed; the function ends the text with a NUL.
    // The error queue belongs to this thread.
    unsafe {
        let code = sys::ERR_get_error();
        sys::ERR_clear_error();
        if code == 0 {
            return "no reason given".to_owned();
        }
        sys::ERR_error_string_n(code, text.as_mut_ptr().cast(), text.len());
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(text.get(..end).unwrap_or_default()).into_owned()
}

/// 1 is success for most of the library's functions.
fn check(result: std::ffi::c_int, what: &str) -> Result<(), CryptoError> {
    if result == 1 { Ok(()) } else { Err(library_error(what)) }
}
