//! Key derivation over a shared secret, computed by OpenSSL.

use std::ffi::CStr;
use std::ptr::{self, NonNull};

use super::{Context, Hash};
use crate::bindings;
use crate::error::{Error, Result};
use crate::params::{self, END};

/// Fills `key` by ANSI X9.63's key derivation function from `secret` and the shared data `ukm`.
///
/// # Errors
///
/// [`Error::Libcrypto`] if this libcrypto does not have it, or not the hash with these properties.
pub fn x963_kdf(
    context: &Context,
    hash: Hash,
    properties: Option<&CStr>,
    secret: &[u8],
    ukm: &[u8],
    key: &mut [u8],
) -> Result<()> {
    let mut list = vec![
        params::utf8(bindings::OSSL_KDF_PARAM_DIGEST, hash.name()),
        params::octets(bindings::OSSL_KDF_PARAM_KEY, secret),
    ];
    list.extend(properties.map(|properties| params::utf8(bindings::OSSL_KDF_PARAM_PROPERTIES, properties)));
    if !ukm.is_empty() {
        list.push(params::octets(bindings::OSSL_KDF_PARAM_INFO, ukm));
    }
    list.push(END);
    let failed = |what| move || Error::Libcrypto(what);
    // SAFETY: a valid context and strings, a terminated list that lives for the call, as what it points to does, and a buffer
    // of that size; both objects are freed on every way (the second holds the first).
    unsafe {
        let kdf = bindings::EVP_KDF_fetch(context.as_ptr(), c"X963KDF".as_ptr(), ptr::null());
        let kdf = NonNull::new(kdf).ok_or_else(failed("EVP_KDF_fetch: X963KDF"))?;
        let operation = bindings::EVP_KDF_CTX_new(kdf.as_ptr());
        bindings::EVP_KDF_free(kdf.as_ptr());
        let operation = NonNull::new(operation).ok_or_else(failed("EVP_KDF_CTX_new"))?;
        let done = bindings::EVP_KDF_derive(operation.as_ptr(), key.as_mut_ptr(), key.len(), list.as_ptr());
        bindings::EVP_KDF_CTX_free(operation.as_ptr());
        if done == 1 { Ok(()) } else { Err(Error::Libcrypto("EVP_KDF_derive: X963KDF")) }
    }
}
