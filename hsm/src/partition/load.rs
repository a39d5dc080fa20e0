//! Loading a partition: every record is opened and the set of them compared with the header, before any is used.

use std::sync::{Arc, Mutex, OnceLock, RwLock};

use prost::Message;

use super::{Contents, Header, Partition};
use crate::crypto::KeyKind;
use crate::object::{self, Object, ObjectId};
use crate::records::{self, HeaderRecord, Names, PartitionRecord, UserRecord};
use crate::seal::{SealError, SealingKey, SetHash};
use crate::store::Store;
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
        Self::with(record, key, store, Header { next_sequence: 1, ..Header::default() }, Contents::default())
    }

    fn with(
        record: &PartitionRecord,
        key: SealingKey,
        store: Arc<dyn Store>,
        header: Header,
        contents: Contents,
    ) -> Result<Self, SealError> {
        Ok(Partition {
            number: record.number,
            label: record.label.clone(),
            serial: record.serial.clone(),
            names: Names::of(record.number),
            store,
            set_key: key.set_key()?,
            key,
            header: Mutex::new(header),
            contents: RwLock::new(contents),
            tickets: Mutex::default(),
            login_turns: Default::default(),
            meter: Arc::default(),
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
        let names = Names::of(record.number);
        let library = |source| LoadError::Sealed { name: names.key(), source };
        let set_key = key.set_key().map_err(library)?;
        let mut expected: Option<(Header, SetHash)> = None;
        let mut set_hash = SetHash::default();
        let mut contents = Contents::default();
        let count = sealed.len();
        for (name, bytes) in sealed {
            let (revision, plain) =
                key.open(&name, &bytes).map_err(|source| LoadError::Sealed { name: name.clone(), source })?;
            let form = || LoadError::Form(name.clone());
            if name == names.header() {
                let header = HeaderRecord::decode(&*plain).map_err(|_| form())?;
                let hash = SetHash::from_bytes(&header.set_hash).ok_or_else(form)?;
                if header.revision != revision {
                    return Err(form());
                }
                expected = Some((
                    Header { revision, set_hash: hash, next_sequence: header.next_sequence, deleted: false },
                    hash,
                ));
                continue;
            }
            let element = set_key.element(&name, &bytes);
            set_hash.toggle(element);
            if let Ok(user) = user_of(&names, &name, &plain, element) {
                contents.users.put(Arc::new(user));
            } else {
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
                contents.objects.put(Arc::new(Object {
                    id,
                    sequence: record.sequence,
                    kind: KeyKind::from_wire(info.key_type()),
                    info,
                    sealed: holds_key.then_some(bytes),
                    key: OnceLock::new(),
                    element,
                }));
            }
        }
        let (header, expected) = expected.ok_or_else(|| LoadError::Missing(names.header()))?;
        if expected != set_hash {
            return Err(LoadError::Set(count));
        }
        Self::with(record, key, store, header, contents).map_err(library)
    }
}

fn user_of(names: &Names, name: &str, plain: &[u8], element: crate::seal::Element) -> Result<User, ()> {
    let user = name.strip_prefix(&names.user("")).ok_or(())?;
    let record = UserRecord::decode(plain).map_err(|_| ())?;
    User::from_record(record, element).filter(|found| found.name == user).ok_or(())
}
