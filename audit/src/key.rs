//! The public key that checkpoints are verified with.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::chain::hex;

/// The label of the key's PEM.
const PEM_LABEL: &str = "PUBLIC KEY";

/// A SubjectPublicKeyInfo of an Ed25519 key (RFC 8410) before its 32 bytes.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a public key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM.
    #[error("not a public key in PEM")]
    Pem,
    /// A key of another type.
    #[error("not an Ed25519 public key")]
    Type,
}

/// An audit log's public key, Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&hex(&self.0)).finish()
    }
}

impl PublicKey {
    /// From DER, a SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`KeyError::Type`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let key = spki.strip_prefix(&SPKI).ok_or(KeyError::Type)?;
        Ok(PublicKey(key.try_into().map_err(|_| KeyError::Type)?))
    }

    /// From PEM, as `strongroom audit key` and `openssl pkey -pubout` write it.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, der) = pem_rfc7468::decode_vec(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        if label != PEM_LABEL {
            return Err(KeyError::Pem);
        }
        Self::from_spki(&der)
    }

    /// From hexadecimal digits of the SubjectPublicKeyInfo, as lines have it.
    ///
    /// # Errors
    ///
    /// [`KeyError::Type`].
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        Self::from_spki(&crate::chain::unhex(text).ok_or(KeyError::Type)?)
    }

    /// DER, a SubjectPublicKeyInfo.
    pub fn to_spki(&self) -> Vec<u8> {
        [&SPKI[..], &self.0].concat()
    }

    /// PEM, a SubjectPublicKeyInfo.
    pub fn to_pem(&self) -> String {
        // 44 bytes always fit.
        pem_rfc7468::encode_string(PEM_LABEL, pem_rfc7468::LineEnding::LF, &self.to_spki())
            .unwrap_or_default()
    }

    /// SHA-256 of the SubjectPublicKeyInfo, hexadecimal: what people compare.
    pub fn fingerprint(&self) -> String {
        hex(digest(&SHA256, &self.to_spki()).as_ref())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}
