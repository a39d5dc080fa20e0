//! All partitions of the daemon, as the root record names them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use prost::Message;
use strongroom_protocol::v1::Role;

use crate::changes;
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::metrics::{Commits, Metered};
use crate::node_key::{Files, Found, NodeKeyError};
use crate::partition::Partition;
use crate::records::{self, LEDGER, Names, PartitionRecord, ROOT, RootRecord};
use crate::seal::{SealError, SealingKey};
use crate::store::{Batch, Ledger, RedbStore, Store, StoreError, is_listed};
use crate::users::{PasswordHash, User, Users};

/// Partitions that a daemon has at most.
pub const MAX_PARTITIONS: usize = 100;
/// The longest label of a partition, in bytes: that of a PKCS#11 token.
const MAX_LABEL: usize = 32;

/// Why the store as a whole cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store's file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node key.
    #[error(transparent)]
    NodeKey(#[from] NodeKeyError),
    /// The list of partitions.
    #[error(
        "the store {location} is damaged: {what}; stop strongroomd and restore the store and its node key from one backup"
    )]
    Damaged {
        /// The store.
        location: String,
        /// What does not fit.
        what: String,
    },
    /// The crypto library.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A partition that the root names.
#[derive(Debug, Clone)]
pub enum Slot {
    /// Loaded, and in use.
    Sound(Arc<Partition>),
    /// Its records are not what they have to be: nothing of it is used.
    Damaged {
        /// Number, label and serial.
        record: PartitionRecord,
        /// Why, with the remedy.
        why: String,
    },
}

/// All partitions.
pub struct Vault {
    store: Arc<dyn Store>,
    commits: Arc<Commits>,
    node_key: Arc<SealingKey>,
    /// Held while partitions are made and deleted.
    root: Mutex<RootRecord>,
    slots: RwLock<BTreeMap<u32, Slot>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("store", &self.store.location()).finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the store in a state directory, or makes it if nothing was ever there. `credentials` is
    /// systemd's $CREDENTIALS_DIRECTORY.
    ///
    /// # Errors
    ///
    /// If nothing in the store can be used. A single damaged partition is no error: see [`Slot::Damaged`].
    pub fn open(directory: &Path, credentials: Option<&Path>) -> Result<Self, VaultError> {
        let files = Files::of(directory, credentials);
        match files.find()? {
            Found::Used(key) => Self::load(key, Arc::new(RedbStore::open(&files.store())?)),
            Found::New(key) => {
                Self::initialise(&key, Arc::new(RedbStore::create(&files.new_store())?))?;
                files.finish()?;
                Self::load(key, Arc::new(RedbStore::open(&files.store())?))
            }
        }
    }

    /// Writes an empty root into a new store.
    ///
    /// # Errors
    ///
    /// [`VaultError::Store`].
    pub fn initialise(node_key: &SealingKey, store: Arc<dyn Store>) -> Result<(), VaultError> {
        let mut batch = Batch::default();
        batch.put(ROOT.to_owned(), seal_root(node_key, &RootRecord { next_number: 1, partitions: vec![] })?);
        let node_key = SealingKey::new(SecretBytes::from(node_key.bytes())).ok_or(SealError::Library)?;
        Ok(Ledger::begin(store, Arc::new(node_key), std::iter::empty())?.commit(&batch)?)
    }

    /// Loads all partitions of a store.
    ///
    /// # Errors
    ///
    /// As for [`Vault::open`].
    pub fn load(node_key: SealingKey, store: Arc<dyn Store>) -> Result<Self, VaultError> {
        let commits: Arc<Commits> = Arc::default();
        let store: Arc<dyn Store> = Arc::new(Metered::new(store, Arc::clone(&commits)));
        let location = store.location();
        let damaged = |what: String| VaultError::Damaged { location: location.clone(), what };
        let mut groups: HashMap<String, Vec<(String, Vec<u8>)>> = HashMap::new();
        store.scan(&mut |name, record| {
            groups.entry(owner_of(name).to_owned()).or_default().push((name.to_owned(), record.to_vec()));
        })?;
        let mut top: BTreeMap<String, Vec<u8>> = groups.remove("").unwrap_or_default().into_iter().collect();
        let ledger = top.remove(LEDGER);
        let sealed_root = top.remove(ROOT).ok_or_else(|| damaged("its root record is missing".to_owned()))?;
        if !top.is_empty() {
            return Err(damaged("it has records that belong to no partition".to_owned()));
        }
        let node_key = Arc::new(node_key);
        let (revision, plain) = node_key
            .open(ROOT, &sealed_root)
            .map_err(|e| damaged(format!("its root record does not open with this node key ({e})")))?;
        let root = RootRecord::decode(&*plain).map_err(|e| damaged(format!("its root record: {e}")))?;
        let listed = groups.values().flatten().filter(|(name, _)| is_listed(name));
        let listed = listed.map(|(name, record)| (name.as_str(), record.as_slice()));
        let listed = listed.chain([(ROOT, sealed_root.as_slice())]);
        let (ledger, not_the_last) = match (revision, ledger) {
            // Written before there was a ledger.
            (0, None) => (Ledger::begin(store, Arc::clone(&node_key), listed)?, Vec::new()),
            (_, ledger) => Ledger::open(store, Arc::clone(&node_key), ledger.as_deref(), listed)
                .map_err(|e| damaged(e.to_string()))?,
        };
        if not_the_last.iter().any(|name| name == ROOT) {
            return Err(damaged("its root record is from an earlier time".to_owned()));
        }
        let store: Arc<dyn Store> = Arc::new(ledger);
        let mut slots = BTreeMap::new();
        for record in &root.partitions {
            let names = Names::of(record.number);
            let sealed = groups.remove(names.prefix()).unwrap_or_default();
            let old = not_the_last.iter().find(|name| name.starts_with(names.prefix()));
            let slot = load_slot(&node_key, record, sealed, old, &store);
            slots.insert(record.number, slot);
        }
        if let Some(stray) = groups.into_keys().next() {
            return Err(damaged(format!("it has records of {stray}, which its root record does not name")));
        }
        Ok(Self { store, commits, node_key, root: Mutex::new(root), slots: RwLock::new(slots) })
    }

    /// Where the store is.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// How the store's commits went.
    pub fn commits(&self) -> &Commits {
        &self.commits
    }

    /// All partitions, in the order of their numbers.
    pub fn slots(&self) -> Vec<Slot> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The partition with this number.
    ///
    /// # Errors
    ///
    /// NO_SUCH_PARTITION, and STORE if it is damaged.
    pub fn partition(&self, number: u32) -> Result<Arc<Partition>, Failure> {
        match self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&number) {
            Some(Slot::Sound(partition)) => Ok(Arc::clone(partition)),
            Some(Slot::Damaged { why, .. }) => refuse!(Store, "{why}"),
            None => {
                refuse!(NoSuchPartition, "there is no partition {number}; list them with 'strongroom status'")
            }
        }
    }

    /// Whether a user of any partition has this local user id admitted.
    pub fn admits(&self, uid: u32) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.values().any(|slot| match slot {
            Slot::Sound(partition) => partition.contents().users.admits(uid),
            Slot::Damaged { .. } => false,
        })
    }

    /// Makes a partition with its first crypto officer. Blocks.
    ///
    /// # Errors
    ///
    /// EXISTS, LIMIT, ATTRIBUTE_WRONG for the label, STORE.
    pub fn create(
        &self,
        label: &str,
        officer: &str,
        password: PasswordHash,
    ) -> Result<Arc<Partition>, Failure> {
        if label.is_empty() || label.len() > MAX_LABEL || label.chars().any(char::is_control) {
            return refuse!(
                AttributeWrong,
                "a partition's label has 1 to {MAX_LABEL} bytes of printable text"
            );
        }
        let mut root = self.root();
        if root.partitions.iter().any(|p| p.label == label) {
            return refuse!(Exists, "a partition \"{label}\" is there already; choose another label");
        }
        if root.partitions.len() >= MAX_PARTITIONS {
            return refuse!(Limit, "there are {MAX_PARTITIONS} partitions already; delete one first");
        }
        let record = PartitionRecord {
            number: root.next_number,
            label: label.to_owned(),
            serial: records::hex(&aws_lc::random_array::<8>()),
        };
        let names = Names::of(record.number);
        let key = SealingKey::generate();
        let sealed_key = self.node_key.seal(&names.key(), 0, SecretBytes::from(key.bytes()))?;
        let mut new_root = root.clone();
        new_root.next_number += 1;
        new_root.partitions.push(record.clone());
        let sealed_root = seal_root(&self.node_key, &new_root)?;
        let partition = Arc::new(Partition::new(&record, key, Arc::clone(&self.store))?);
        partition.change(|change| {
            change.also(names.key(), sealed_key);
            change.also(ROOT.to_owned(), sealed_root);
            let epoch = change.revision();
            change.put_user(User::new(officer, Role::CryptoOfficer, Some(password), Vec::new(), epoch))
        })?;
        *root = new_root;
        let slot = Slot::Sound(Arc::clone(&partition));
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(record.number, slot);
        Ok(partition)
    }

    /// Deletes a partition with all that is in it, if `permitted` says so of its users. Blocks.
    ///
    /// # Errors
    ///
    /// Those of `permitted`, and STORE.
    pub fn delete(
        &self,
        partition: &Partition,
        permitted: impl FnOnce(&Users) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut root = self.root();
        let mut new_root = root.clone();
        new_root.partitions.retain(|p| p.number != partition.number());
        let sealed_root = seal_root(&self.node_key, &new_root)?;
        partition.delete_all(permitted, |batch| batch.put(ROOT.to_owned(), sealed_root))?;
        *root = new_root;
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(&partition.number());
        changes::announce();
        Ok(())
    }

    fn root(&self) -> MutexGuard<'_, RootRecord> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The revision of a root that has a ledger beside it.
const WITH_LEDGER: u64 = 1;

fn seal_root(node_key: &SealingKey, root: &RootRecord) -> Result<Vec<u8>, SealError> {
    node_key.seal(ROOT, WITH_LEDGER, SecretBytes::from(root.encode_to_vec().as_slice()))
}

fn load_slot(
    node_key: &SealingKey,
    record: &PartitionRecord,
    mut sealed: Vec<(String, Vec<u8>)>,
    old: Option<&String>,
    store: &Arc<dyn Store>,
) -> Slot {
    let name = Names::of(record.number).key();
    let key_at = sealed.iter().position(|(found, _)| *found == name);
    let key = key_at
        .map(|at| sealed.swap_remove(at))
        .and_then(|(_, sealed_key)| node_key.open(&name, &sealed_key).ok())
        .and_then(|(_, bytes)| SealingKey::new(bytes));
    let loaded = match key {
        None => Err(format!("the record {name} is missing or does not open with this node key")),
        Some(key) => {
            Partition::load(record, key, sealed, Arc::clone(store)).map_err(|error| error.to_string())
        }
    };
    let loaded = match (loaded, old) {
        (Ok(_), Some(name)) => {
            Err(format!("it was put back to an earlier time ({name} is not the last one)"))
        }
        (loaded, _) => loaded,
    };
    match loaded {
        Ok(partition) => Slot::Sound(Arc::new(partition)),
        Err(what) => {
            let why = format!(
                "partition {} \"{}\" in {} is damaged and not used: {what}; stop strongroomd and restore the \
                 store from a backup",
                record.number,
                record.label,
                store.location()
            );
            tracing::error!("{why}");
            Slot::Damaged { record: record.clone(), why }
        }
    }
}

/// The part of a record's name that says whose it is: `partition/00000001/`, or nothing.
fn owner_of(name: &str) -> &str {
    match name.match_indices('/').nth(1) {
        Some((end, _)) => name.get(..=end).unwrap_or_default(),
        None => "",
    }
}
