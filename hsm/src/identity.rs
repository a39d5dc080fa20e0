//! The node's own key, with which it proves which node it is, and the certificates that partitions' owners have
//! signed for it. (The node *key* of [`crate::node_key`] is another one: it seals.)

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use strongroom_owner::node;

use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::{CryptoError, KeyKind, Mechanism};
use crate::memory::SecretBytes;
use crate::records::{self, NodeRecord};

/// A P-256 key and its certificates. A change makes a new one in its place.
#[derive(Debug)]
pub struct Identity {
    key: PrivateKey,
    certificates: BTreeMap<u32, Vec<u8>>,
}

impl Identity {
    /// A new key, without certificates.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn generate() -> Result<Self, CryptoError> {
        Ok(Identity { key: PrivateKey::generate(KeyKind::P256)?, certificates: BTreeMap::new() })
    }

    /// The identity of a record; `None` if it is none.
    pub fn from_record(bytes: &[u8]) -> Option<Self> {
        let (record, key) = records::split::<NodeRecord>(bytes)?;
        Some(Identity { key: PrivateKey::from_pkcs8(key).ok()?, certificates: record.certificates })
    }

    /// What lies in the store, before sealing.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn to_record(&self) -> Result<SecretBytes, CryptoError> {
        Ok(records::join(&NodeRecord { certificates: self.certificates.clone() }, &self.key.to_pkcs8()?))
    }

    /// The same key with another certificate for a partition.
    ///
    /// # Errors
    ///
    /// [`CryptoError`].
    pub fn with_certificate(&self, partition: u32, der: Vec<u8>) -> Result<Self, CryptoError> {
        let key = PrivateKey::from_pkcs8(&self.key.to_pkcs8()?)?;
        let mut certificates = self.certificates.clone();
        certificates.insert(partition, der);
        Ok(Identity { key, certificates })
    }

    /// The certificate that a partition's owner has signed, DER.
    pub fn certificate(&self, partition: u32) -> Option<&[u8]> {
        self.certificates.get(&partition).map(Vec::as_slice)
    }

    /// Those of all partitions, DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.values().map(Vec::as_slice)
    }

    /// The public key, DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn public_key(&self) -> Result<Vec<u8>, CryptoError> {
        self.key.public_spki()
    }

    /// The certificate request, DER.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn request(&self) -> Result<Vec<u8>, CryptoError> {
        node::request(&self.public_key()?, |message| self.sign_raw(message).ok()).ok_or_else(failed)
    }

    /// Signs with SHA-256; ECDSA in DER.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        node::ecdsa_der(&self.sign_raw(message)?).ok_or_else(failed)
    }

    /// Agrees on a secret with the owner of a P-256 public key, an uncompressed point.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::derive`].
    pub fn agree(&self, point: &[u8]) -> Result<SecretBytes, CryptoError> {
        self.key.derive(point)
    }

    fn sign_raw(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.key.sign(Mechanism::Ecdsa, digest(&SHA256, message).as_ref())
    }
}

fn failed() -> CryptoError {
    CryptoError::Library("a signature of the node's key has another form".to_owned())
}
