//! What unseals a node besides a key file or a credential: the file `node.seal`, with the node key wrapped by a
//! passphrase (Argon2id) or by a key that was split among holders.

use argon2::{Algorithm, Argon2, Params, Version};
use prost::Message;
use strongroom_protocol::v1::{ErrorCode, Quorum};

use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::quorum;
use crate::seal::{KEY_LENGTH, SealingKey};

/// Argon2id's memory, passes and lanes: RFC 9106's second choice (64 MiB, 3, 4), on one thread. It guards
/// everything, and is computed once at a start.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What a file may ask for at most: 1 GiB, and 100 passes.
const MOST_MEMORY_KIB: u32 = 1024 * 1024;
const MOST_PASSES: u32 = 100;
/// The shortest passphrase, in bytes.
pub const MIN_PASSPHRASE: usize = 12;
/// The longest passphrase, in bytes.
pub const MAX_PASSPHRASE: usize = 1024;

/// The largest `node.seal`, in bytes.
pub(super) const MAX_FILE: u64 = 256 * 1024;

const WRAPPED: &str = "node/key";

/// The content of `node.seal`. Nothing in it is secret.
#[derive(Clone, PartialEq, Message)]
pub struct SealRecord {
    /// 1.
    #[prost(uint32, tag = "1")]
    format: u32,
    /// The node key, sealed.
    #[prost(bytes = "vec", tag = "2")]
    wrapped: Vec<u8>,
    /// By a key from a passphrase.
    #[prost(message, optional, tag = "3")]
    passphrase: Option<PassphraseRecord>,
    /// By a key that was split.
    #[prost(message, optional, tag = "4")]
    shares: Option<Quorum>,
}

#[derive(Clone, PartialEq, Message)]
struct PassphraseRecord {
    #[prost(bytes = "vec", tag = "1")]
    salt: Vec<u8>,
    #[prost(uint32, tag = "2")]
    memory_kib: u32,
    #[prost(uint32, tag = "3")]
    passes: u32,
    #[prost(uint32, tag = "4")]
    lanes: u32,
}

impl SealRecord {
    /// Wraps a node key by a passphrase. Takes 64 MiB and some tenths of a second.
    ///
    /// # Errors
    ///
    /// ATTRIBUTE_WRONG for the passphrase's length.
    pub fn by_passphrase(key: &SealingKey, passphrase: &str) -> Result<Self, Failure> {
        if !(MIN_PASSPHRASE..=MAX_PASSPHRASE).contains(&passphrase.len()) {
            return refuse!(
                AttributeWrong,
                "the passphrase that seals a node has {MIN_PASSPHRASE} to {MAX_PASSPHRASE} bytes"
            );
        }
        let salt = aws_lc::random_array::<16>().to_vec();
        let costs = PassphraseRecord { salt, memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES };
        let wrapped = costs.derive(passphrase)?.seal(WRAPPED, 0, SecretBytes::from(key.bytes()))?;
        Ok(Self { format: 1, wrapped, passphrase: Some(costs), shares: None })
    }

    /// Wraps a node key by one that is split among holders.
    ///
    /// # Errors
    ///
    /// As [`quorum::create`].
    pub fn by_shares(key: &SealingKey, holders: &[Vec<u8>], needed: u32) -> Result<(Self, Quorum), Failure> {
        let (wrapping, quorum) = quorum::create("", holders, needed)?;
        let wrapped = wrapping.seal(WRAPPED, 0, SecretBytes::from(key.bytes()))?;
        Ok((Self { format: 1, wrapped, passphrase: None, shares: Some(quorum.clone()) }, quorum))
    }

    /// What a file says; `None` if it makes no sense.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let record = Self::decode(bytes).ok()?;
        let one = record.passphrase.is_some() != record.shares.is_some();
        (record.format == 1 && one).then_some(record)
    }

    /// "passphrase" or "shares".
    pub fn name(&self) -> &'static str {
        if self.shares.is_some() { "shares" } else { "passphrase" }
    }

    /// The holders of shares, if those unseal.
    pub fn quorum(&self) -> Option<&Quorum> {
        self.shares.as_ref()
    }

    /// The node key.
    ///
    /// # Errors
    ///
    /// UNSEAL_WRONG: the passphrase or the shares.
    pub fn open(&self, passphrase: &str, shares: &[SecretBytes]) -> Result<SealingKey, Failure> {
        let wrapping = match (&self.passphrase, &self.shares) {
            (Some(_), _) if passphrase.is_empty() => {
                return refuse!(
                    UnsealWrong,
                    "a passphrase unseals this node: 'strongroom unseal' asks for it"
                );
            }
            (Some(costs), _) => costs.derive(passphrase)?,
            (None, Some(quorum)) => quorum::combine(quorum, shares)?,
            (None, None) => return refuse!(Internal, "nothing unseals this node"),
        };
        let opened = wrapping.open(WRAPPED, &self.wrapped).ok().and_then(|(_, bytes)| SealingKey::new(bytes));
        match opened {
            Some(key) => Ok(key),
            None => refuse!(UnsealWrong, "the passphrase is wrong, or the file node.seal was changed"),
        }
    }
}

impl PassphraseRecord {
    fn derive(&self, passphrase: &str) -> Result<SealingKey, Failure> {
        if self.memory_kib > MOST_MEMORY_KIB || self.passes > MOST_PASSES {
            return refuse!(
                UnsealWrong,
                "the file node.seal was changed: it asks for more memory than any passphrase does"
            );
        }
        let failed = |e: argon2::Error| {
            Failure::new(ErrorCode::Internal, format!("a passphrase cannot be hashed: {e}"))
        };
        let mut key = SecretBytes::zeroed(KEY_LENGTH);
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LENGTH)).map_err(failed)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &self.salt, &mut key)
            .map_err(failed)?;
        SealingKey::new(key).ok_or_else(|| Failure::new(ErrorCode::Internal, "a key of another length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_opens_and_another_does_not() {
        let key = SealingKey::generate();
        let record = SealRecord::by_passphrase(&key, "correct horse battery").unwrap();
        let read = SealRecord::read(&record.encode_to_vec()).unwrap();
        assert_eq!(read.open("correct horse battery", &[]).unwrap().bytes(), key.bytes());
        assert_eq!(read.open("correct horse staple.", &[]).unwrap_err().code, ErrorCode::UnsealWrong);
        assert_eq!(read.open("", &[]).unwrap_err().code, ErrorCode::UnsealWrong);
        assert_eq!(SealRecord::by_passphrase(&key, "short").unwrap_err().code, ErrorCode::AttributeWrong);
    }

    #[test]
    fn a_file_that_asks_for_the_whole_memory_is_refused() {
        let mut record = SealRecord::by_passphrase(&SealingKey::generate(), "correct horse battery").unwrap();
        record.passphrase.as_mut().unwrap().memory_kib = u32::MAX;
        assert_eq!(record.open("correct horse battery", &[]).unwrap_err().code, ErrorCode::UnsealWrong);
        assert!(SealRecord::read(b"nonsense").is_none());
        assert!(
            SealRecord::read(&SealRecord { shares: None, passphrase: None, ..record }.encode_to_vec())
                .is_none()
        );
    }
}
