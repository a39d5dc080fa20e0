//! One partition: its objects and users in memory, its records in the store.
//!
//! Reading takes the lock of the contents for a moment. Changes are made one after the other (change.rs):
//! sealed, committed to the store, and only then visible; readers and signatures go on meanwhile.

mod adopt;
mod change;
mod limits;
mod load;
pub(crate) mod log_outs;
pub mod once;
mod renewal;
pub mod restored;
mod room;
mod session_objects;
pub(crate) mod settings;

pub use change::Change;
pub use limits::{Limits, Quota};
pub use load::{LoadError, Loading};
use room::Room;
pub use session_objects::SessionObjects;
pub use settings::Settings;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use prost::Message;
use strongroom_protocol::v1::ObjectInfo;

use crate::access::Roles;
use crate::challenges::Challenges;
use crate::crypto::CryptoError;
use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::symmetric::{SecretKey, SecretKind};
use crate::failure::{Failure, refuse};
use crate::life::{Age, Policy};
use crate::memory::SecretBytes;
use crate::metrics::Meter;
use crate::object::{Key, Object, ObjectId, Objects};
use crate::records::{self, HeaderRecord, Names};
use crate::seal::{Element, SealError, SealingKey, SetHash, SetKey};
use crate::store::Store;
use crate::tickets::Tickets;
use crate::users::Users;

/// Objects that a partition holds at most.
pub const MAX_OBJECTS: usize = 400_000;
/// A partition's objects together, in bytes: they lie in memory.
pub const MAX_OBJECT_BYTES: usize = 1024 * 1024 * 1024;
/// Users that a partition has at most.
pub const MAX_USERS: usize = 1_000;

/// How many log-ins with different names are checked side by side; those of one user go one after the other.
const LOGIN_TURNS: usize = 16;

/// A partition that was loaded and found sound.
pub struct Partition {
    number: u32,
    label: String,
    serial: String,
    names: Names,
    store: Arc<dyn Store>,
    keys: RwLock<Arc<Keys>>,
    /// Held through a change.
    header: Mutex<Header>,
    contents: RwLock<Contents>,
    /// The partition's own time.
    age: Age,
    /// Log-in tickets, see [`crate::tickets`].
    tickets: Mutex<Tickets>,
    log_outs: log_outs::LogOuts,
    challenges: Mutex<Challenges>,
    login_turns: [tokio::sync::Mutex<()>; LOGIN_TURNS],
    meter: Arc<Meter>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("number", &self.number)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// What a partition's records are sealed with. Others take their place when a node of the cluster goes (renewal.rs).
#[derive(Debug)]
pub(crate) struct Keys {
    /// Seals records.
    pub(crate) sealing: SealingKey,
    /// Hashes the set of them.
    pub(crate) set: SetKey,
}

impl Keys {
    fn of(sealing: SealingKey) -> Result<Self, SealError> {
        Ok(Keys { set: sealing.set_key()?, sealing })
    }
}

#[derive(Debug, Clone, Default)]
struct Header {
    revision: u64,
    set_hash: SetHash,
    next_sequence: u64,
    settings: Arc<Settings>,
    /// What is done with deleted keys.
    life: Policy,
    /// Nothing may be written any more: it would belong to no partition.
    deleted: bool,
}

/// What a partition holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Keys, certificates and data.
    pub objects: Objects,
    /// Keys that were deleted softly: they do nothing, and nobody finds them.
    pub deleted: Objects,
    /// Session objects, which are in no store.
    pub session: SessionObjects,
    /// What is done with deleted keys.
    pub life: Policy,
    /// Users.
    pub users: Users,
    /// Roles that keys give.
    pub roles: Roles,
    /// What is set for the whole partition.
    pub settings: Arc<Settings>,
    /// Objects whose records name somebody in a role that is gone, until they are written without.
    pub stale: BTreeSet<ObjectId>,
    /// What requests that may come again have made.
    pub once: once::Made,
}

impl Contents {
    /// The object of this identity, also if it is a key that was deleted softly.
    pub fn known(&self, identity: &[u8]) -> Option<Arc<Object>> {
        self.objects.get(identity).or_else(|| self.deleted.get(identity)).map(Arc::clone)
    }

    /// Memory that all objects take, also deleted ones, in bytes.
    pub fn bytes(&self) -> usize {
        self.objects.bytes() + self.deleted.bytes()
    }
}

impl Partition {
    /// The slot number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The label, unique in the daemon.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// 16 hexadecimal digits.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Where its operations are counted.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// What the partition holds now. Held only for a look: a change waits for it.
    pub fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wipes what is in memory of it: nothing is found in it any more.
    pub fn wipe(&self) {
        drop(std::mem::take(&mut *self.contents.write().unwrap_or_else(PoisonError::into_inner)));
        *self.tickets() = Tickets::default();
    }

    /// What its records are sealed with.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The name of the header's record.
    pub fn header_name(&self) -> String {
        self.names.header()
    }

    /// A record's part of the partition's set hash.
    pub fn element(&self, name: &str, record: &[u8]) -> Element {
        self.keys().set.element(name, record)
    }

    /// The hash over all users and objects that a header's record asks for; `None` if it does not open.
    pub fn expected(&self, header: &[u8]) -> Option<SetHash> {
        let (_, plain) = self.keys().sealing.open(&self.names.header(), header).ok()?;
        SetHash::from_bytes(&HeaderRecord::decode(&*plain).ok()?.set_hash)
    }

    /// Whether so many more keys and other objects have room. What their attributes take is asked when they are added.
    ///
    /// # Errors
    ///
    /// LIMIT and QUOTA.
    pub fn has_room(&self, keys: usize, others: usize) -> Result<(), Failure> {
        let contents = self.contents();
        let before = Room::taken_by(&contents);
        before.with(keys, others).check(before, &contents.settings, &self.label)
    }

    /// The partition's own time.
    pub fn age(&self) -> &Age {
        &self.age
    }

    /// The log-in tickets.
    pub fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The challenges that wait for the owner.
    pub fn challenges(&self) -> MutexGuard<'_, Challenges> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other password of this user is being checked.
    pub async fn login_turn(&self, user: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let sum = user.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let [first, ..] = &self.login_turns;
        self.login_turns.get(sum % LOGIN_TURNS).unwrap_or(first).lock().await
    }

    /// The private key of an object, opened if this is its first use; that takes up to a millisecond (RSA).
    ///
    /// # Errors
    ///
    /// KEY_MAY_NOT if the object is no private key, INTERNAL if it does not open.
    pub fn private_key(&self, object: &Object) -> Result<Arc<PrivateKey>, Failure> {
        match self.key(object)? {
            Some(Key::Private(key)) => Ok(key),
            _ => refuse!(KeyMayNot, "{} is not a private key: it cannot sign", object.title()),
        }
    }

    /// The secret key of an object, opened if this is its first use; that takes some microseconds.
    ///
    /// # Errors
    ///
    /// KEY_MAY_NOT if the object is no secret key, INTERNAL if it does not open.
    pub fn secret_key(&self, object: &Object) -> Result<Arc<SecretKey>, Failure> {
        match self.key(object)? {
            Some(Key::Secret(key)) => Ok(key),
            _ => refuse!(KeyMayNot, "{} is not a secret key: it does not do this", object.title()),
        }
    }

    /// The key in an object, opened if this is its first use; `None` if there is none in it.
    ///
    /// # Errors
    ///
    /// INTERNAL if the object's record does not open; UNSUPPORTED for a key that only another build uses (docs/fips.md).
    pub fn key(&self, object: &Object) -> Result<Option<Key>, Failure> {
        if let Some(key) = object.key.get() {
            return Ok(Some(key.clone()));
        }
        let Some(sealed) = &object.sealed else { return Ok(None) };
        let opened = self.keys().sealing.open(&self.names.object(&object.id), sealed).ok();
        let bytes = opened.as_ref().and_then(|(_, plain)| records::split_object(plain));
        match bytes.map(|(_, bytes)| parse(&object.info, bytes)) {
            Some(Ok(key)) => Ok(Some(object.key.get_or_init(|| key).clone())),
            // Another build wrote it, and uses it: nobody has tampered with it.
            Some(Err(missing @ CryptoError::NotInBuild { .. })) => Err(object.blame(missing.into())),
            _ => {
                self.store.alarm(format!(
                    "{} of partition {} \"{}\" cannot be opened: its record is not what was written",
                    object.title(),
                    self.number,
                    self.label
                ));
                refuse!(Internal, "{} cannot be opened", object.title())
            }
        }
    }
}

/// The key that an object's record holds.
fn parse(info: &ObjectInfo, bytes: &[u8]) -> Result<Key, CryptoError> {
    match SecretKind::from_wire(info.key_type()) {
        Some(kind) => Ok(Key::Secret(Arc::new(SecretKey::new(kind, SecretBytes::from(bytes))?))),
        None => Ok(Key::Private(Arc::new(PrivateKey::from_pkcs8(bytes)?))),
    }
}

/// Why what is no key to this build was refused: another build has such keys, or `otherwise`.
fn not_parsed(error: CryptoError, otherwise: Failure) -> Failure {
    if matches!(error, CryptoError::NotInBuild { .. }) { error.into() } else { otherwise }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use strongroom_protocol::v1::{ErrorCode, KeyType, ObjectClass};

    use super::*;
    use crate::access::Access;
    use crate::crypto::{KeyKind, aws_lc};
    use crate::records::{self, ObjectRecord};
    use crate::vault::Vault;

    /// A key on brainpoolP256r1 as openssl writes it, up to its public half: that may be left out.
    const BRAINPOOL: &[u8] = b"\x30\x42\x02\x01\x00\x30\x14\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x09\x2b\x24\x03\x03\x02\
        \x08\x01\x01\x07\x04\x27\x30\x25\x02\x01\x01\x04\x20\x05\x4e\xc4\x7c\x12\x9b\x9e\xe1\x2c\xdd\xe9\xbf\x7d\xed\x29\
        \x4a\xc6\xc1\xc9\x51\x64\xb4\x79\x4c\x1c\xd2\x06\x36\xa1\x14\x87\xb0";

    /// A build with the feature `fips` does not have the curve. That is no tampering: the store goes on.
    #[test]
    fn a_key_that_another_build_wrote_is_refused_and_one_that_nobody_wrote_is_an_alarm() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let partition = vault.create("tls", Vec::new(), Settings::default()).unwrap();
        let object = |bytes: &[u8]| {
            let id: ObjectId = aws_lc::random_array();
            let info = ObjectInfo {
                object: id.to_vec(),
                class: ObjectClass::PrivateKey.into(),
                key_type: KeyType::BrainpoolP256r1.into(),
                ..ObjectInfo::default()
            };
            let name = partition.names.object(&id);
            let record = ObjectRecord {
                sequence: 1,
                info: Some(info.clone()),
                access: Access::default().to_records(),
                once: Vec::new(),
            };
            let sealed =
                partition.keys().sealing.seal(&name, 1, records::join_object(&record, bytes)).unwrap();
            let element = partition.keys().set.element(&name, &sealed);
            Object {
                id,
                sequence: 1,
                info,
                access: Access::default(),
                kind: Some(KeyKind::BrainpoolP256r1),
                sealed: Some(sealed),
                key: OnceLock::new(),
                element,
            }
        };
        let used = partition.private_key(&object(BRAINPOOL)).map(|key| key.kind()).map_err(|f| f.code);
        let expected = if aws_lc::has(KeyKind::BrainpoolP256r1) {
            Ok(KeyKind::BrainpoolP256r1)
        } else {
            Err(ErrorCode::Unsupported)
        };
        assert_eq!(used, expected);
        assert!(vault.ready().is_ok());
        let (_, garbage) = BRAINPOOL.split_at(40);
        assert_eq!(partition.private_key(&object(garbage)).unwrap_err().code, ErrorCode::Internal);
    }
}
