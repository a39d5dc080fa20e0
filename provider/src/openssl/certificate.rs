//! Certificates: their public key, and what they are looked for by.

use std::ffi::{CString, c_long};
use std::ptr::{self, NonNull};

use openssl_sys as ffi;
use strongroom_ffi::pointer;

use super::{Context, PublicKey};
use crate::bindings;
use crate::error::{Error, Result};

/// An X.509 certificate.
pub struct Certificate(NonNull<ffi::X509>);

/// A distinguished name.
pub struct Name(NonNull<ffi::X509_NAME>);

// SAFETY: nobody changes the name, which is this value's alone.
unsafe impl Send for Name {}
// SAFETY: as above; it is read only, and its canonical form was made when it was parsed.
unsafe impl Sync for Name {}

impl Certificate {
    /// Reads a DER certificate.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it is none.
    pub fn from_der(context: &Context, der: &[u8]) -> Result<Self> {
        let mut position = der.as_ptr();
        // SAFETY: `position` points to `der.len()` bytes. The certificate is ours, made in our context (so that its key is
        // of OpenSSL's own provider); if d2i fails it has freed it and set the pointer to null.
        unsafe {
            let mut certificate = bindings::X509_new_ex(context.as_ptr(), ptr::null());
            if certificate.is_null() {
                return Err(Error::Libcrypto("X509_new_ex"));
            }
            ffi::d2i_X509(&mut certificate, &mut position, der.len() as c_long);
            NonNull::new(certificate).map(Certificate).ok_or(Error::Libcrypto("d2i_X509: not a certificate"))
        }
    }

    /// Its public key.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if the key is of a type that this libcrypto does not know.
    pub fn public_key(&self) -> Result<PublicKey> {
        // SAFETY: a valid certificate; the key that is returned is a reference of our own, of the certificate's context.
        unsafe { PublicKey::from_raw(ffi::X509_get_pubkey(self.0.as_ptr())) }
            .ok_or(Error::Libcrypto("X509_get_pubkey: not a key that it knows"))
    }

    /// Whether this is its subject.
    pub fn has_subject(&self, name: &Name) -> bool {
        // SAFETY: both are valid and only read; the certificate's name is borrowed for the call.
        unsafe { ffi::X509_NAME_cmp(ffi::X509_get_subject_name(self.0.as_ptr()), name.0.as_ptr()) == 0 }
    }

    /// Whether this is its issuer.
    pub fn has_issuer(&self, name: &Name) -> bool {
        // SAFETY: as above.
        unsafe { ffi::X509_NAME_cmp(ffi::X509_get_issuer_name(self.0.as_ptr()), name.0.as_ptr()) == 0 }
    }

    /// Whether this is its serial number, the most significant byte first, without leading zeros.
    pub fn has_serial(&self, serial: &[u8]) -> bool {
        // SAFETY: a valid certificate, whose serial number is borrowed for the call: that many bytes, without a sign.
        let own = unsafe {
            let own = ffi::X509_get_serialNumber(self.0.as_ptr()).cast::<ffi::ASN1_STRING>();
            let length = usize::try_from(ffi::ASN1_STRING_length(own)).unwrap_or(0);
            pointer::slice(ffi::ASN1_STRING_get0_data(own), length).unwrap_or_default()
        };
        let zeros = own.iter().take_while(|byte| **byte == 0).count();
        own.get(zeros..) == Some(serial)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { ffi::X509_free(self.0.as_ptr()) };
    }
}

impl Name {
    /// Reads a DER Name.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it is none.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let mut position = der.as_ptr();
        // SAFETY: `position` points to `der.len()` bytes; the name that is made is ours.
        let name = unsafe { bindings::d2i_X509_NAME(ptr::null_mut(), &mut position, der.len() as c_long) };
        NonNull::new(name).map(Name).ok_or(Error::Libcrypto("d2i_X509_NAME: not a name"))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { ffi::X509_NAME_free(self.0.as_ptr()) };
    }
}

/// The public key of a DER certificate.
///
/// # Errors
///
/// [`Error::Libcrypto`] if it is no certificate, or its key of a type that this libcrypto does not know.
pub fn certificate_public_key(context: &Context, der: &[u8]) -> Result<PublicKey> {
    Certificate::from_der(context, der)?.public_key()
}

/// The digest of `data` by the hash that libcrypto knows as `name`.
///
/// # Errors
///
/// [`Error::Libcrypto`] if it knows none.
pub fn digest_by_name(context: &Context, name: &str, data: &[u8]) -> Result<Vec<u8>> {
    let name = CString::new(name).map_err(|_| Error::Libcrypto("EVP_Q_digest"))?;
    let mut digest = vec![0; ffi::EVP_MAX_MD_SIZE as usize];
    let mut length = 0;
    // SAFETY: valid arguments; the digest fits into the longest digest's room.
    let done = unsafe {
        ffi::EVP_Q_digest(
            context.as_ptr(),
            name.as_ptr(),
            ptr::null(),
            data.as_ptr().cast(),
            data.len(),
            digest.as_mut_ptr(),
            &mut length,
        )
    };
    if done != 1 {
        return Err(Error::Libcrypto("EVP_Q_digest"));
    }
    digest.truncate(length);
    Ok(digest)
}
