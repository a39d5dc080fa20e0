//! The key that signs checkpoints, and what the sealed store knows of the logs' ends.
//!
//! ```text
//! audit/node/key     sealed by the node key: the key, PKCS#8
//! audit/node/heads   sealed by the node key: HeadsRecord
//! ```

use std::collections::BTreeMap;

use prost::Message;
use strongroom_audit::PublicKey;
use strongroom_audit::chain::{Head, LineHash};

use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::{KeyKind, Mechanism};
use crate::memory::SecretBytes;
use crate::seal::{SealError, SealingKey};

/// What the names of the audit log's records begin with.
pub const RECORDS: &str = "audit/node/";

const KEY: &str = "audit/node/key";
const HEADS: &str = "audit/node/heads";

/// Signs checkpoints: an Ed25519 key in protected memory.
#[derive(Debug)]
pub struct AuditKey {
    private: PrivateKey,
    public: PublicKey,
}

impl AuditKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn generate() -> Result<Self, SealError> {
        PrivateKey::generate(KeyKind::Ed25519).ok().and_then(Self::new).ok_or(SealError::Library)
    }

    fn new(private: PrivateKey) -> Option<Self> {
        let public = PublicKey::from_spki(&private.public_spki().ok()?).ok()?;
        Some(AuditKey { private, public })
    }

    /// What verifies its signatures.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.private.sign(Mechanism::EdDsa, message).ok()
    }
}

/// The sealed records of the audit log, as the store has them.
#[derive(Debug, Default)]
pub struct Records {
    key: Option<Vec<u8>>,
    heads: Option<Vec<u8>>,
}

impl Records {
    /// Takes records by their names; the name of one that is not the audit log's is the error.
    ///
    /// # Errors
    ///
    /// The name.
    pub fn of(sealed: Vec<(String, Vec<u8>)>) -> Result<Self, String> {
        let mut records = Records::default();
        for (name, record) in sealed {
            match name.as_str() {
                KEY => records.key = Some(record),
                HEADS => records.heads = Some(record),
                _ => return Err(name),
            }
        }
        Ok(records)
    }

    /// Keeps what was written under a name since.
    pub fn note(&mut self, name: &str, record: Vec<u8>) {
        match name {
            KEY => self.key = Some(record),
            HEADS => self.heads = Some(record),
            _ => {}
        }
    }

    /// The key, if there is one.
    ///
    /// # Errors
    ///
    /// Why its record does not open.
    pub fn key(&self, node_key: &SealingKey) -> Result<Option<AuditKey>, SealError> {
        let Some(record) = &self.key else { return Ok(None) };
        let (_, pkcs8) = node_key.open(KEY, record)?;
        let key = PrivateKey::from_pkcs8(&pkcs8).ok().and_then(AuditKey::new);
        key.map(Some).ok_or(SealError::Format)
    }

    /// The ends that the logs had when they were last noted, by log.
    ///
    /// # Errors
    ///
    /// Why the record does not open.
    pub fn heads(&self, node_key: &SealingKey) -> Result<BTreeMap<u32, Head>, SealError> {
        let Some(record) = &self.heads else { return Ok(BTreeMap::new()) };
        let (_, plain) = node_key.open(HEADS, record)?;
        let heads = HeadsRecord::decode(&*plain).map_err(|_| SealError::Format)?;
        heads
            .heads
            .into_iter()
            .map(|head| {
                let hash = LineHash::try_from(head.hash).map_err(|_| SealError::Format)?;
                Ok((head.log, Head { seq: head.seq, hash }))
            })
            .collect()
    }
}

/// A new key as a record: name and sealed bytes.
///
/// # Errors
///
/// [`SealError::Library`].
pub fn seal_key(node_key: &SealingKey, key: &AuditKey) -> Result<(String, Vec<u8>), SealError> {
    let pkcs8 = key.private.to_pkcs8().map_err(|_| SealError::Library)?;
    Ok((KEY.to_owned(), node_key.seal(KEY, 0, pkcs8)?))
}

/// The logs' ends as a record: name and sealed bytes.
///
/// # Errors
///
/// [`SealError::Library`].
pub fn seal_heads(
    node_key: &SealingKey,
    heads: &BTreeMap<u32, Head>,
) -> Result<(String, Vec<u8>), SealError> {
    let record = HeadsRecord {
        heads: heads
            .iter()
            .map(|(log, head)| HeadRecord { log: *log, seq: head.seq, hash: head.hash.to_vec() })
            .collect(),
    };
    let plain = SecretBytes::from(record.encode_to_vec().as_slice());
    Ok((HEADS.to_owned(), node_key.seal(HEADS, 0, plain)?))
}

/// Where the logs ended when they were last signed.
#[derive(Clone, PartialEq, Message)]
struct HeadsRecord {
    #[prost(message, repeated, tag = "1")]
    heads: Vec<HeadRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct HeadRecord {
    #[prost(uint32, tag = "1")]
    log: u32,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(bytes = "vec", tag = "3")]
    hash: Vec<u8>,
}
