//! Certificates, as far as it matters here: whose key it is, and who signed it.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use der::{Decode, Encode, Sequence};
use x509_cert::certificate::{CertificateInner, Raw};

/// The largest certificate that is read, in bytes.
pub const MAX_CERTIFICATE: usize = 16 * 1024;

/// The largest signature that is looked at, in bytes: RSA's of 8,192 bits has 1,024.
pub const MAX_SIGNATURE: usize = 1_024;

/// Why a certificate or a signature is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("is not an X.509 certificate in DER")]
    Malformed,
    /// Longer than [`MAX_CERTIFICATE`].
    #[error("is larger than 16 KiB")]
    Large,
    /// A key that nothing is verified with here.
    #[error("has a key of another type than RSA (2048 to 8192 bits), P-256, P-384 and P-521")]
    KeyType,
    /// A signature algorithm that is not verified here.
    #[error(
        "is signed by another algorithm than RSA (PKCS#1 v1.5) and ECDSA with SHA-256, SHA-384 or SHA-512"
    )]
    Algorithm,
    /// An owner's certificate that somebody else signed.
    #[error("is not self-signed: the owner's certificate is signed with the owner's own key")]
    NotSelfSigned,
    /// The signature was made with another key, or over something else.
    #[error("has a signature that the owner's key did not make")]
    Signature,
    /// Not valid yet, or no longer.
    #[error("is not valid now: look at its dates")]
    Validity,
    /// Signed by the owner, but not for a node.
    #[error("is not a node's: its subject is not the one that 'strongroom node request' wrote")]
    NotANode,
}

/// A certificate that was read. What signed it is for [`OwnerCertificate`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// The subject as text, RFC 4514.
    pub subject: String,
    /// The public key, DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// When it becomes valid.
    pub not_before: SystemTime,
    /// When it stops being valid.
    pub not_after: SystemTime,
    is_self_issued: bool,
    issuer: Vec<u8>,
    subject_der: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
    hash: Hash,
    is_ecdsa: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// RFC 5280, 4.1: the outermost structure, with the signed part as it stands.
#[derive(Sequence)]
struct Signed<'a> {
    tbs: AnyRef<'a>,
    algorithm: x509_cert::spki::AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
pub(crate) const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");

impl Certificate {
    /// Reads a DER certificate.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Large`], [`CertificateError::Malformed`], [`CertificateError::Algorithm`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(CertificateError::Large);
        }
        let malformed = |_| CertificateError::Malformed;
        let outer = Signed::from_der(bytes).map_err(malformed)?;
        let (is_ecdsa, hash) = match outer.algorithm.oid {
            RSA_SHA256 => (false, Hash::Sha256),
            RSA_SHA384 => (false, Hash::Sha384),
            RSA_SHA512 => (false, Hash::Sha512),
            ECDSA_SHA256 => (true, Hash::Sha256),
            ECDSA_SHA384 => (true, Hash::Sha384),
            ECDSA_SHA512 => (true, Hash::Sha512),
            _ => return Err(CertificateError::Algorithm),
        };
        let signature = outer.signature.as_bytes().ok_or(CertificateError::Malformed)?;
        let parsed = CertificateInner::<Raw>::from_der(bytes).map_err(malformed)?;
        let tbs = parsed.tbs_certificate();
        let (subject, issuer) = (tbs.subject().to_der(), tbs.issuer().to_der());
        let (subject_der, issuer) = (subject.map_err(malformed)?, issuer.map_err(malformed)?);
        Ok(Certificate {
            der: bytes.to_vec(),
            subject: tbs.subject().to_string(),
            public_key: tbs.subject_public_key_info().to_der().map_err(malformed)?,
            not_before: tbs.validity().not_before.to_system_time(),
            not_after: tbs.validity().not_after.to_system_time(),
            is_self_issued: subject_der == issuer,
            issuer,
            subject_der,
            signed: outer.tbs.to_der().map_err(malformed)?,
            signature: signature.to_vec(),
            hash,
            is_ecdsa,
        })
    }

    /// The certificate as it was read.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The name of who signed it, DER.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The name of whose it is, DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Vec<u8> {
        digest(&SHA256, &self.der).as_ref().to_vec()
    }

    /// Whether `moment` is between its dates.
    pub fn is_valid_at(&self, moment: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&moment)
    }
}

/// The certificate of a partition's owner: self-signed, with a key that signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerCertificate {
    certificate: Certificate,
    key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Rsa,
    P256,
    P384,
    P521,
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

impl Key {
    fn of(spki: &[u8]) -> Option<Self> {
        let spki = x509_cert::spki::SubjectPublicKeyInfoRef::from_der(spki).ok()?;
        match spki.algorithm.oid {
            RSA => Some(Key::Rsa),
            EC => match spki.algorithm.parameters_oid().ok()? {
                P256 => Some(Key::P256),
                P384 => Some(Key::P384),
                P521 => Some(Key::P521),
                _ => None,
            },
            _ => None,
        }
    }

    fn algorithm(self, hash: Hash) -> &'static dyn VerificationAlgorithm {
        match (self, hash) {
            (Key::Rsa, Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Key::Rsa, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Key::Rsa, Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Key::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Key::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (Key::P256, Hash::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
            (Key::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (Key::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Key::P384, Hash::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
            (Key::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
            (Key::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
            (Key::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
        }
    }
}

impl OwnerCertificate {
    /// Reads the certificate of an owner. Its dates do not count: an owner whose certificate has run out still owns
    /// the partition.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]: it does not parse, is not self-signed, or has a key that is not known here.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Certificate::parse(der)?;
        let key = Key::of(&certificate.public_key).ok_or(CertificateError::KeyType)?;
        let owner = OwnerCertificate { certificate, key };
        match owner.check_issued(&owner.certificate) {
            Ok(()) if owner.certificate.is_self_issued => Ok(owner),
            _ => Err(CertificateError::NotSelfSigned),
        }
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Verifies what `openssl dgst -sha256 -sign` made with the owner's key.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CertificateError> {
        self.check(Hash::Sha256, message, signature)
    }

    /// Checks that the owner has signed a certificate. Its dates are for the caller.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Signature`].
    pub fn check_issued(&self, other: &Certificate) -> Result<(), CertificateError> {
        if other.issuer != self.certificate.subject_der || other.is_ecdsa == (self.key == Key::Rsa) {
            return Err(CertificateError::Signature);
        }
        self.check(other.hash, &other.signed, &other.signature)
    }

    fn check(&self, hash: Hash, message: &[u8], signature: &[u8]) -> Result<(), CertificateError> {
        verify(self.key, hash, &self.certificate.public_key, message, signature)
    }
}

/// Verifies a signature, over the SHA-256 of a message, by the key of a SubjectPublicKeyInfo.
///
/// # Errors
///
/// [`CertificateError::KeyType`] and [`CertificateError::Signature`].
pub fn verify_by(spki: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CertificateError> {
    let key = Key::of(spki).ok_or(CertificateError::KeyType)?;
    verify(key, Hash::Sha256, spki, message, signature)
}

fn verify(
    key: Key,
    hash: Hash,
    spki: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CertificateError> {
    if signature.len() > MAX_SIGNATURE {
        return Err(CertificateError::Signature);
    }
    UnparsedPublicKey::new(key.algorithm(hash), spki)
        .verify(message, signature)
        .map_err(|_| CertificateError::Signature)
}
