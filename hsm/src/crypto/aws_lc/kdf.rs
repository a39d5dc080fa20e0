//! Key derivation that the library has: HKDF and PBKDF2.

use super::sys as c;

use super::sign::digest;
use super::{check, library_error, prepare};
use crate::crypto::{CryptoError, Hash};
use crate::memory::SecretBytes;

/// HKDF's first step (RFC 5869, 2.2): as many bytes as the hash has.
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn hkdf_extract(hash: Hash, key: &[u8], salt: &[u8]) -> Result<SecretBytes, CryptoError> {
    prepare();
    let mut out = SecretBytes::zeroed(c::EVP_MAX_MD_SIZE as usize);
    let mut length = 0;
    // SAFETY: the slices are valid for the lengths passed, the output has room for the longest digest.
    let made = unsafe {
        let (key, size) = (key.as_ptr(), key.len());
        c::HKDF_extract(out.as_mut_ptr(), &mut length, digest(hash), key, size, salt.as_ptr(), salt.len())
    };
    check(made, "HKDF's extraction")?;
    match out.get(..length) {
        Some(out) if out.len() == hash.length() => Ok(SecretBytes::from(out)),
        _ => Err(library_error("HKDF's extraction")),
    }
}

/// HKDF's second step (RFC 5869, 2.3).
///
/// # Errors
///
/// [`CryptoError::Library`], also for more than 255 times the hash's length.
pub fn hkdf_expand(hash: Hash, key: &[u8], info: &[u8], length: usize) -> Result<SecretBytes, CryptoError> {
    prepare();
    let mut out = SecretBytes::zeroed(length);
    // SAFETY: as above; the output has the length passed.
    let made = unsafe {
        let (key, size, room) = (key.as_ptr(), key.len(), out.len());
        c::HKDF_expand(out.as_mut_ptr(), room, digest(hash), key, size, info.as_ptr(), info.len())
    };
    check(made, "HKDF's expansion")?;
    Ok(out)
}

/// PBKDF2 (RFC 8018, 5.2).
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn pbkdf2(
    hash: Hash,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Result<SecretBytes, CryptoError> {
    prepare();
    let mut out = SecretBytes::zeroed(length);
    // SAFETY: as above.
    let made = unsafe {
        let (password, size, room) = (password.as_ptr().cast(), password.len(), out.len());
        let (salt, salt_size) = (salt.as_ptr(), salt.len());
        c::PKCS5_PBKDF2_HMAC(
            password,
            size,
            salt,
            salt_size,
            iterations,
            digest(hash),
            room,
            out.as_mut_ptr(),
        )
    };
    check(made, "PBKDF2")?;
    Ok(out)
}
