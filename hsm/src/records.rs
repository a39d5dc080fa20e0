//! What lies in the store: names and contents of records, before sealing.
//!
//! ```text
//! root                              sealed by the node key: RootRecord
//! ledger                            sealed by the node key: see store/ledger.rs
//! audit/node/…                      sealed by the node key: see audit/key.rs
//! node                              sealed by the node key: length of the NodeRecord ‖ NodeRecord ‖ PKCS#8 (if it was asked for)
//! cluster                           sealed by the node key: length of the ClusterRecord ‖ ClusterRecord ‖ the cluster's key (of a node of one)
//! partition/00000001/key            sealed by the node key: the partition's key, 32 bytes, and those that it had before (see seal.rs)
//! partition/00000001/header         sealed by the partition's key: HeaderRecord
//! partition/00000001/user/alice     UserRecord
//! partition/00000001/object/<hex>   length of the ObjectRecord (4, little-endian) ‖ ObjectRecord ‖ key
//! log-out/00000001/<hex>            sealed by the partition's key: a log-in that has ended, see partition/log_outs.rs
//! hand-over/<hex>                   in a cluster's store only: see vault/hand_over.rs
//! ```
//!
//! The key is PKCS#8 of private keys, the value of secret keys, and nothing of other objects.

use prost::Message;
use strongroom_protocol::v1::{ObjectInfo, Quorum};

use crate::memory::SecretBytes;

/// The name of the [`RootRecord`].
pub const ROOT: &str = "root";
/// The name of the node's own key and certificates, see [`crate::identity`].
pub const NODE: &str = "node";
/// The name of what a node keeps of its cluster, see [`ClusterRecord`].
pub const CLUSTER: &str = "cluster";
/// What the names of partitions' records begin with.
pub const PARTITIONS: &str = "partition/";
/// The name of the ledger, see [`crate::store::Ledger`].
pub const LEDGER: &str = "ledger";

/// All partitions.
#[derive(Clone, PartialEq, Message)]
pub struct RootRecord {
    /// The number that the next partition gets.
    #[prost(uint32, tag = "1")]
    pub next_number: u32,
    /// Those that exist.
    #[prost(message, repeated, tag = "2")]
    pub partitions: Vec<PartitionRecord>,
    /// Tampering that was found while the node ran, and that its owner has not cleared.
    #[prost(message, optional, tag = "50")]
    pub tampered: Option<TamperRecord>,
    /// Damaged partitions that the owner knows of: they are not used, and the others are.
    #[prost(uint32, repeated, tag = "51")]
    pub set_aside: Vec<u32>,
    /// Partitions that are being restored: what a restart finds of them was not finished.
    #[prost(uint32, repeated, tag = "52")]
    pub restoring: Vec<u32>,
    /// The public key of the audit log (SubjectPublicKeyInfo, hexadecimal); empty: none was made yet.
    #[prost(string, tag = "60")]
    pub audit_key: String,
    /// The nodes of a cluster.
    #[prost(message, repeated, tag = "100")]
    pub members: Vec<MemberRecord>,
    /// Of a cluster: the keys that were replaced when nodes went, oldest first, sealed by the present one. Backups need them.
    #[prost(bytes = "vec", repeated, tag = "105")]
    pub retired_keys: Vec<Vec<u8>>,
    /// The names of the records that hand the new keys over.
    #[prost(string, repeated, tag = "106")]
    pub hand_overs: Vec<String>,
    /// Of a cluster: partitions that are to have another key, because a node has gone that knows the present one.
    #[prost(uint32, repeated, tag = "108")]
    pub to_renew: Vec<u32>,
    /// Of a cluster: who is at which of [`RootRecord::restoring`].
    #[prost(message, repeated, tag = "107")]
    pub restorers: Vec<RestorerRecord>,
}

/// A node that is restoring a partition.
#[derive(Clone, PartialEq, Message)]
pub struct RestorerRecord {
    /// The partition's number.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// The node's name.
    #[prost(string, tag = "2")]
    pub node: String,
    /// Since when, seconds since 1970, UTC.
    #[prost(uint64, tag = "3")]
    pub since: u64,
}

/// A node of a cluster.
#[derive(Clone, PartialEq, Message)]
pub struct MemberRecord {
    /// 16 hexadecimal digits, of its public key's hash.
    #[prost(string, tag = "1")]
    pub name: String,
    /// SubjectPublicKeyInfo of its identity.
    #[prost(bytes = "vec", tag = "2")]
    pub public_key: Vec<u8>,
    /// When it was admitted, seconds since 1970, UTC.
    #[prost(uint64, tag = "3")]
    pub since: u64,
}

/// One partition, as the root names it.
#[derive(Clone, PartialEq, Message)]
pub struct PartitionRecord {
    /// The slot number.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// The label.
    #[prost(string, tag = "2")]
    pub label: String,
    /// 16 hexadecimal digits.
    #[prost(string, tag = "3")]
    pub serial: String,
    /// The security domain.
    #[prost(message, optional, tag = "50")]
    pub domain: Option<DomainRecord>,
    /// When its last backup was read to the end, seconds since 1970, UTC.
    #[prost(uint64, tag = "51")]
    pub last_backup: u64,
}

/// A partition's security domain.
#[derive(Clone, PartialEq, Message)]
pub struct DomainRecord {
    /// Who can put its key together.
    #[prost(message, optional, tag = "1")]
    pub quorum: Option<Quorum>,
    /// Its key, sealed by the node's.
    #[prost(bytes = "vec", tag = "2")]
    pub sealed_key: Vec<u8>,
}

/// Of which cluster a node is. The cluster's key lies beside it, see [`join`].
#[derive(Clone, PartialEq, Message)]
pub struct ClusterRecord {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "100")]
    pub id: Vec<u8>,
    /// The partitions are being moved there. What a restart finds so was not finished, and counts for nothing.
    #[prost(bool, tag = "101")]
    pub moving: bool,
    /// The node that has expelled this one: there is no key beside it then. Empty: it is of the cluster.
    #[prost(string, tag = "105")]
    pub expelled_by: String,
    /// When this node found that out, seconds since 1970, UTC.
    #[prost(uint64, tag = "106")]
    pub found: u64,
}

/// What was found, and when.
#[derive(Clone, PartialEq, Message)]
pub struct TamperRecord {
    /// Seconds since 1970, UTC.
    #[prost(uint64, tag = "1")]
    pub found: u64,
    /// For people.
    #[prost(string, tag = "2")]
    pub what: String,
}

/// What tells whether a partition's records are all there, and no others.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderRecord {
    /// Counts the changes of the partition.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// The [`crate::seal::SetHash`] of all users and objects, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub set_hash: Vec<u8>,
    /// The sequence number that the next object gets.
    #[prost(uint64, tag = "3")]
    pub next_sequence: u64,
    /// The certificate of the partition's owner, DER. Empty: none.
    #[prost(bytes = "vec", tag = "20")]
    pub owner_certificate: Vec<u8>,
    /// [`crate::partition::Settings::max_attempts`]; 0: the default.
    #[prost(uint32, tag = "21")]
    pub max_attempts: u32,
    /// [`crate::partition::Settings::keep_initial_passwords`].
    #[prost(bool, tag = "22")]
    pub keep_initial_passwords: bool,
    /// The partition's own roles of [`crate::access`].
    #[prost(message, repeated, tag = "30")]
    pub roles: Vec<RoleRecord>,
    /// The quota: keys, bytes of memory and operations a second; 0: none.
    #[prost(uint64, tag = "31")]
    pub quota_keys: u64,
    /// See [`HeaderRecord::quota_keys`].
    #[prost(uint64, tag = "32")]
    pub quota_memory: u64,
    /// See [`HeaderRecord::quota_keys`].
    #[prost(uint32, tag = "33")]
    pub quota_operations: u32,
    /// FIPS state 2, fixed when the partition was made.
    #[prost(bool, tag = "34")]
    pub fips: bool,
    /// The partition's age in seconds when this was written, see [`crate::life`].
    #[prost(uint64, tag = "40")]
    pub age: u64,
    /// The time of day then, in seconds since 1970; 0: the partition's age was never written down.
    #[prost(uint64, tag = "41")]
    pub wall: u64,
    /// For how many days deleted keys are kept; 0: [`crate::life::USUAL_RETENTION`].
    #[prost(uint32, tag = "42")]
    pub retention_days: u32,
    /// See [`crate::life::Policy`].
    #[prost(bool, tag = "43")]
    pub purge_protection: bool,
    /// See [`crate::life::Policy`].
    #[prost(bool, tag = "44")]
    pub destroy_at_once: bool,
    /// [`crate::partition::Settings::audit_each`].
    #[prost(bool, tag = "60")]
    pub audit_each: bool,
    /// So much of the age is in doubt, see [`crate::life::age::Written`].
    #[prost(uint64, tag = "70")]
    pub age_doubt: u64,
    /// For so long the daemon has run since, in seconds.
    #[prost(uint64, tag = "71")]
    pub age_served: u64,
}

/// A role that keys give.
#[derive(Clone, PartialEq, Message)]
pub struct RoleRecord {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A bit for each [`strongroom_protocol::v1::Permission`], by its number.
    #[prost(uint32, tag = "2")]
    pub permissions: u32,
}

/// Somebody whom a key names: exactly one of the three, and the role.
#[derive(Clone, PartialEq, Message)]
pub struct GrantRecord {
    /// A local user id.
    #[prost(uint32, optional, tag = "1")]
    pub uid: Option<u32>,
    /// A user's identity.
    #[prost(uint64, optional, tag = "2")]
    pub user: Option<u64>,
    /// SHA-256 of a certificate's public key.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub certificate: Option<Vec<u8>>,
    /// The role's name.
    #[prost(string, tag = "4")]
    pub role: String,
}

/// A user.
#[derive(Clone, PartialEq, Message)]
pub struct UserRecord {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// [`strongroom_protocol::v1::Role`].
    #[prost(int32, tag = "2")]
    pub role: i32,
    /// Admitted user ids.
    #[prost(uint32, repeated, tag = "3")]
    pub uids: Vec<u32>,
    /// Argon2id of the password; empty: none.
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
    /// Salt of the hash.
    #[prost(bytes = "vec", tag = "5")]
    pub salt: Vec<u8>,
    /// Argon2id's memory in KiB.
    #[prost(uint32, tag = "6")]
    pub memory_kib: u32,
    /// Argon2id's passes.
    #[prost(uint32, tag = "7")]
    pub passes: u32,
    /// Passwords tried since the last right one.
    #[prost(uint32, tag = "8")]
    pub attempts: u32,
    /// The revision that last set the password: log-ins from before it are over.
    #[prost(uint64, tag = "9")]
    pub epoch: u64,
    /// Somebody else has set the password.
    #[prost(bool, tag = "20")]
    pub must_change: bool,
    /// Uses only keys that name it.
    #[prost(bool, tag = "30")]
    pub limited: bool,
    /// The revision that made it: what keys name it by.
    #[prost(uint64, tag = "31")]
    pub identity: u64,
}

/// An object, apart from the key in it.
#[derive(Clone, PartialEq, Message)]
pub struct ObjectRecord {
    /// Its place in the order of creation.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// What clients see.
    #[prost(message, optional, tag = "2")]
    pub info: Option<ObjectInfo>,
    /// Of keys: whom they name.
    #[prost(message, repeated, tag = "30")]
    pub access: Vec<GrantRecord>,
    /// `Request.once` of the request that made it, 16 bytes, until it is written anew.
    #[prost(bytes = "vec", tag = "110")]
    pub once: Vec<u8>,
}

/// A session object, apart from the key in it: given to the client sealed, and in no store.
#[derive(Clone, PartialEq, Message)]
pub struct SessionRecord {
    /// What clients see.
    #[prost(message, optional, tag = "1")]
    pub info: Option<ObjectInfo>,
    /// The identity of the user who made it.
    #[prost(uint64, tag = "2")]
    pub owner: u64,
}

/// The node's certificates, apart from its key.
#[derive(Clone, PartialEq, Message)]
pub struct NodeRecord {
    /// By partition, DER: each owner signs one.
    #[prost(btree_map = "uint32, bytes", tag = "1")]
    pub certificates: std::collections::BTreeMap<u32, Vec<u8>>,
}

/// The names of one partition's records.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Of the partition with this number.
    pub fn of(partition: u32) -> Self {
        Self { prefix: format!("partition/{partition:08}/") }
    }

    /// What all the partition's names begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The partition's key.
    pub fn key(&self) -> String {
        format!("{}key", self.prefix)
    }

    /// The header.
    pub fn header(&self) -> String {
        format!("{}header", self.prefix)
    }

    /// A user.
    pub fn user(&self, name: &str) -> String {
        format!("{}user/{name}", self.prefix)
    }

    /// What session objects are sealed as. Nothing of that name is in the store.
    pub fn session_object(&self) -> String {
        format!("{}session", self.prefix)
    }

    /// An object.
    pub fn object(&self, object: &[u8]) -> String {
        format!("{}object/{}", self.prefix, hex(object))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An object's record as bytes: `key` only ever lies in secret memory.
pub fn join_object(record: &ObjectRecord, key: &[u8]) -> SecretBytes {
    join(record, key)
}

/// A record and a key as bytes: the length of the record, the record, the key.
pub fn join(record: &impl Message, key: &[u8]) -> SecretBytes {
    let public = record.encode_to_vec();
    // Public parts are bounded by the protocol's frames, far below 32 bits.
    let length = (public.len() as u32).to_le_bytes();
    let mut bytes = SecretBytes::zeroed(length.len() + public.len() + key.len());
    for (to, from) in bytes.iter_mut().zip(length.iter().chain(&public).chain(key)) {
        *to = *from;
    }
    bytes
}

/// The parts that [`join_object`] joined; `None` if the bytes are not such a record.
pub fn split_object(bytes: &[u8]) -> Option<(ObjectRecord, &[u8])> {
    split(bytes)
}

/// The parts that [`join`] joined; `None` if the bytes are not such a record.
pub fn split<T: Message + Default>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (public, key) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((T::decode(public).ok()?, key))
}
