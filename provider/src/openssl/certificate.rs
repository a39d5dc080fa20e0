//! Certificates, as far as their public key.

use std::ptr;

use openssl_sys as ffi;

use super::{Context, PublicKey};
use crate::bindings;
use crate::error::{Error, Result};

/// The public key of a DER certificate.
///
/// # Errors
///
/// [`Error::Libcrypto`] if it is no certificate, or its key of a type that this libcrypto does not know.
pub fn certificate_public_key(context: &Context, der: &[u8]) -> Result<PublicKey> {
    let mut position = der.as_ptr();
    // SAFETY: `position` points to `der.len()` bytes. The certificate is ours, made in our context (so that its key is
    // of OpenSSL's own provider) and freed once; if d2i fails it has freed it and set the pointer to null. The key
    // that is returned is a reference of our own.
    unsafe {
        let mut certificate = bindings::X509_new_ex(context.as_ptr(), ptr::null());
        if certificate.is_null() {
            return Err(Error::Libcrypto("X509_new_ex"));
        }
        let read = ffi::d2i_X509(&mut certificate, &mut position, der.len() as std::ffi::c_long);
        let key = if read.is_null() { ptr::null_mut() } else { ffi::X509_get_pubkey(certificate) };
        ffi::X509_free(certificate);
        PublicKey::from_raw(key)
            .ok_or(Error::Libcrypto("d2i_X509: not a certificate with a key that it knows"))
    }
}
