//! Certificates of clients: whose key it is, and until when. Who signed them is for the TLS library to say.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use der::{Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw};

use crate::certificate::{CertificateError, MAX_CERTIFICATE};

/// What a client's certificate says, signed by any algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The subject as text, RFC 4514.
    pub subject: String,
    /// SHA-256 of the public key (DER SubjectPublicKeyInfo): what a key names a client by.
    pub key: [u8; 32],
    /// When the certificate stops being valid.
    pub not_after: SystemTime,
}

impl Holder {
    /// Reads a DER certificate.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Large`], [`CertificateError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(CertificateError::Large);
        }
        let malformed = |_| CertificateError::Malformed;
        let parsed = CertificateInner::<Raw>::from_der(bytes).map_err(malformed)?;
        let tbs = parsed.tbs_certificate();
        let spki = tbs.subject_public_key_info().to_der().map_err(malformed)?;
        Ok(Holder {
            subject: tbs.subject().to_string(),
            key: digest(&SHA256, &spki).as_ref().try_into().map_err(|_| CertificateError::Malformed)?,
            not_after: tbs.validity().not_after.to_system_time(),
        })
    }
}
