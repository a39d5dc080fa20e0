//! A node proves that it is one of the owner's: with a key of its own, whose certificate the owner has signed.

use std::str::FromStr;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use der::asn1::{BitString, SetOfVec, UintRef};
use der::{Decode, Encode, Sequence};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, Version};
use x509_cert::spki::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::certificate::{Certificate, CertificateError, ECDSA_SHA256, OwnerCertificate, verify_by};

/// The size of a client's nonce, in bytes.
pub const NONCE: usize = 32;

/// What a node signs to prove that it is there now: nothing else that it signs begins like this.
pub fn proof(serial: &str, nonce: &[u8; NONCE]) -> Vec<u8> {
    [b"Strongroom: node proof 1\n", serial.as_bytes(), b"\n", nonce.as_slice()].concat()
}

/// Checks that a certificate is a node's of this owner, and valid now.
///
/// # Errors
///
/// [`CertificateError`].
pub fn check_certificate(
    owner: &OwnerCertificate,
    certificate: &Certificate,
    now: SystemTime,
) -> Result<(), CertificateError> {
    owner.check_issued(certificate)?;
    match certificate.is_valid_at(now) {
        true => Ok(()),
        false => Err(CertificateError::Validity),
    }
}

/// Checks a node's answer to a nonce: the certificate, as [`check_certificate`], and the signature.
///
/// # Errors
///
/// [`CertificateError`].
pub fn check_proof(
    owner: &OwnerCertificate,
    certificate: &Certificate,
    now: SystemTime,
    message: &[u8],
    signature: &[u8],
) -> Result<(), CertificateError> {
    check_certificate(owner, certificate, now)?;
    verify_by(&certificate.public_key, message, signature)
}

/// The subject of a node's certificate, RFC 4514. It names the node's key, so that no other certificate that the owner has
/// signed, a client's for instance, is taken for a node's.
pub fn subject(spki: &[u8]) -> String {
    let hash = digest(&SHA256, spki);
    let name: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("CN=strongroom node {name}")
}

/// Checks the certificate that a node shows in a TLS handshake: as [`check_certificate`], and that it is a node's.
///
/// # Errors
///
/// [`CertificateError`].
pub fn check_server(
    owner: &OwnerCertificate,
    certificate: &Certificate,
    now: SystemTime,
) -> Result<(), CertificateError> {
    check_certificate(owner, certificate, now)?;
    match certificate.subject == subject(&certificate.public_key) {
        true => Ok(()),
        false => Err(CertificateError::NotANode),
    }
}

/// A node's certificate request (RFC 2986): DER. `spki` is its P-256 public key; `sign` signs a message with SHA-256, as
/// r ‖ s. `None` if a part is not what it has to be.
pub fn request(spki: &[u8], sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let info = CertReqInfo {
        version: Version::V1,
        subject: Name::from_str(&subject(spki)).ok()?,
        public_key: SubjectPublicKeyInfo::from_der(spki).ok()?,
        attributes: SetOfVec::new(),
    };
    let signature = sign(&info.to_der().ok()?).and_then(|signature| ecdsa_der(&signature))?;
    let algorithm = AlgorithmIdentifier { oid: ECDSA_SHA256, parameters: None };
    CertReq { info, algorithm, signature: BitString::from_bytes(&signature).ok()? }.to_der().ok()
}

/// An ECDSA signature as OpenSSL has it (RFC 3279, 2.2.3), of r ‖ s.
pub fn ecdsa_der(signature: &[u8]) -> Option<Vec<u8>> {
    #[derive(Sequence)]
    struct Signature<'a> {
        r: UintRef<'a>,
        s: UintRef<'a>,
    }
    let (r, s) = signature.split_at_checked(signature.len() / 2)?;
    Signature { r: UintRef::new(r).ok()?, s: UintRef::new(s).ok()? }.to_der().ok()
}
