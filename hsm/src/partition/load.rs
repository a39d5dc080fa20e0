//! Loading a partition: every record is opened and the set of them compared with the header, before any is used.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use prost::Message;

use super::{Contents, Header, Keys, Partition, Settings, once};
use crate::access::{Access, Roles};
use crate::crypto::KeyKind;
use crate::life::age::{Age, Written};
use crate::life::{Policy, USUAL_RETENTION};
use crate::metrics::Meter;
use crate::object::{self, Object, ObjectId};
use crate::records::{self, HeaderRecord, Names, PartitionRecord, UserRecord};
use crate::seal::{Element, SealError, SealingKey, SetHash};
use crate::store::Store;
use crate::tickets::Tickets;
use crate::users::User;

/// Why a partition is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A record that has to be there is not.
    #[error("the record {0} is missing")]
    Missing(String),
    /// A record does not open.
    #[error("the record {name}: {source}")]
    Sealed {
        /// Its name in the store.
        name: String,
        /// Why.
        source: SealError,
    },
    /// A record opens and makes no sense: this release cannot have written it.
    #[error("the record {0} is of a form that this release does not know")]
    Form(String),
    /// Records are missing, added, or put back to an earlier state.
    #[error(
        "its {0} records are not the ones that it last had: some are missing, added, or from an earlier time"
    )]
    Set(usize),
}

impl Partition {
    /// A new, empty partition. Nothing is stored before its first change.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn new(record: &PartitionRecord, key: SealingKey, store: Arc<dyn Store>) -> Result<Self, SealError> {
        Self::with(
            record,
            Keys::of(key)?,
            store,
            Header { next_sequence: 1, ..Header::default() },
            Contents::default(),
            Age::default(),
        )
    }

    fn with(
        record: &PartitionRecord,
        keys: Keys,
        store: Arc<dyn Store>,
        header: Header,
        contents: Contents,
        age: Age,
    ) -> Result<Self, SealError> {
        let meter = Arc::<Meter>::default();
        meter.last_backup.store(record.last_backup, Ordering::Relaxed);
        meter.limits.set(&header.settings);
        Ok(Partition {
            number: record.number,
            label: record.label.clone(),
            serial: record.serial.clone(),
            names: Names::of(record.number),
            store,
            tickets: Mutex::new(Tickets::new(keys.sealing.ticket_key()?)),
            keys: RwLock::new(Arc::new(keys)),
            header: Mutex::new(header),
            contents: RwLock::new(contents),
            age,
            log_outs: Default::default(),
            challenges: Mutex::default(),
            login_turns: Default::default(),
            meter,
        })
    }

    /// Loads a partition from its sealed records (names and bytes), all but its key's.
    ///
    /// # Errors
    ///
    /// Which record is wrong, and how. Nothing of the partition may be used then.
    pub fn load(
        record: &PartitionRecord,
        key: SealingKey,
        sealed: Vec<(String, Vec<u8>)>,
        store: Arc<dyn Store>,
    ) -> Result<Self, LoadError> {
        let header = Names::of(record.number).header();
        let found = sealed.iter().find(|(name, _)| *name == header).map(|(_, bytes)| bytes.as_slice());
        let mut loading = Loading::begin(record, key, found)?;
        for (name, bytes) in sealed.into_iter().filter(|(name, _)| *name != header) {
            loading.take(name, bytes)?;
        }
        loading.finish(record, store)
    }
}

/// A partition that is being loaded, record by record.
pub struct Loading {
    names: Names,
    pub(super) keys: Keys,
    set_hash: SetHash,
    pub(super) header: Header,
    age: Age,
    pub(super) contents: Contents,
    count: usize,
}

impl Loading {
    /// Begins with the header's record.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn begin(
        record: &PartitionRecord,
        key: SealingKey,
        header: Option<&[u8]>,
    ) -> Result<Self, LoadError> {
        let names = Names::of(record.number);
        let keys = Keys::of(key).map_err(|source| LoadError::Sealed { name: names.key(), source })?;
        let (header, age) = open_header(&names, &keys.sealing, header)?;
        let mut contents =
            Contents { settings: Arc::clone(&header.settings), life: header.life, ..Contents::default() };
        contents.roles.set(&header.settings.roles);
        Ok(Self { names, keys, set_hash: SetHash::default(), header, age, contents, count: 1 })
    }

    /// Takes in a user or an object: its record's name and bytes.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn take(&mut self, name: String, bytes: Vec<u8>) -> Result<(), LoadError> {
        let contents = &mut self.contents;
        let record = open_record(&self.names, &self.keys, &contents.roles, &name, bytes)?;
        self.set_hash.toggle(record.element());
        self.count += 1;
        match record {
            Record::User(user) => contents.users.put(user),
            Record::Object { object, stale, once } => {
                if let Some(once) = once {
                    contents.once.note(once, object.id);
                }
                if stale {
                    contents.stale.insert(object.id);
                }
                let to =
                    if object.info.deleted_at == 0 { &mut contents.objects } else { &mut contents.deleted };
                to.put(object);
            }
        }
        Ok(())
    }

    /// Whether the records are the ones that the header asks for.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        match self.header.set_hash == self.set_hash {
            true => Ok(()),
            false => Err(LoadError::Set(self.count)),
        }
    }

    /// The partition, if its records are the ones that the header asks for.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn finish(self, record: &PartitionRecord, store: Arc<dyn Store>) -> Result<Partition, LoadError> {
        self.check()?;
        let library = |source| LoadError::Sealed { name: self.names.key(), source };
        Partition::with(record, self.keys, store, self.header, self.contents, self.age).map_err(library)
    }
}

/// A record of a partition that was opened.
pub(super) enum Record {
    User(Arc<User>),
    Object {
        object: Arc<Object>,
        /// It names somebody in a role that is gone, and is to be written anew.
        stale: bool,
        /// The request that has made it, if it may come again.
        once: Option<once::Once>,
    },
}

impl Record {
    /// The record's part of the partition's set hash.
    pub(super) fn element(&self) -> Element {
        match self {
            Record::User(user) => user.element,
            Record::Object { object, .. } => object.element,
        }
    }
}

/// Opens a user or an object: its record's name and bytes.
pub(super) fn open_record(
    names: &Names,
    keys: &Keys,
    roles: &Roles,
    name: &str,
    bytes: Vec<u8>,
) -> Result<Record, LoadError> {
    let (_, plain) = keys
        .sealing
        .open(name, &bytes)
        .map_err(|source| LoadError::Sealed { name: name.to_owned(), source })?;
    let form = || LoadError::Form(name.to_owned());
    let element = keys.set.element(name, &bytes);
    if let Ok(user) = user_of(names, name, &plain, element) {
        return Ok(Record::User(Arc::new(user)));
    }
    let (record, key) = records::split_object(&plain).ok_or_else(form)?;
    let info = record.info.ok_or_else(form)?;
    let id = ObjectId::try_from(info.object.as_slice()).map_err(|_| form())?;
    if name != names.object(&id) {
        return Err(form());
    }
    let holds_key = object::holds_key(info.class());
    if holds_key == key.is_empty() {
        return Err(form());
    }
    let once = once::may_come_again(&record.once, info.created);
    let access = Access::from_records(&record.access, roles).ok_or_else(form)?;
    let stale = access.grants().len() < record.access.len();
    if stale {
        let object = object::title(&info);
        tracing::error!(record = name, object, "it names somebody in a role that is gone: left out");
    }
    let object = Arc::new(Object {
        id,
        sequence: record.sequence,
        access,
        kind: KeyKind::from_wire(info.key_type()),
        info,
        sealed: holds_key.then_some(bytes),
        key: OnceLock::new(),
        element,
    });
    Ok(Record::Object { object, stale, once })
}

pub(super) fn open_header(
    names: &Names,
    key: &SealingKey,
    bytes: Option<&[u8]>,
) -> Result<(Header, Age), LoadError> {
    let name = names.header();
    let form = || LoadError::Form(name.clone());
    let Some(bytes) = bytes else { return Err(LoadError::Missing(name)) };
    let (revision, plain) =
        key.open(&name, bytes).map_err(|source| LoadError::Sealed { name: name.clone(), source })?;
    let record = HeaderRecord::decode(&*plain).map_err(|_| form())?;
    let set_hash = SetHash::from_bytes(&record.set_hash).ok_or_else(form)?;
    if record.revision != revision {
        return Err(form());
    }
    let settings = Arc::new(Settings::from_record(&record).ok_or_else(form)?);
    let written =
        Written { age: record.age, wall: record.wall, doubt: record.age_doubt, served: record.age_served };
    let (life, age) = (policy_of(&record), Age::stored(written));
    let next_sequence = record.next_sequence;
    Ok((Header { revision, set_hash, next_sequence, settings, life, deleted: false }, age))
}

fn policy_of(header: &HeaderRecord) -> Policy {
    let retention_days = if header.retention_days == 0 { USUAL_RETENTION } else { header.retention_days };
    let HeaderRecord { purge_protection, destroy_at_once, .. } = *header;
    Policy { retention_days, purge_protection, destroy_at_once }
}

fn user_of(names: &Names, name: &str, plain: &[u8], element: Element) -> Result<User, ()> {
    let user = name.strip_prefix(&names.user("")).ok_or(())?;
    let record = UserRecord::decode(plain).map_err(|_| ())?;
    User::from_record(record, element).filter(|found| found.name == user).ok_or(())
}
