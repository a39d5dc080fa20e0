//! All partitions of the daemon, as the root record names them; and the node's states: open, sealed, tampered
//! with, zeroized.

mod audit;
mod backup;
mod check;
mod cluster;
mod follow;
mod hand_over;
mod join;
mod leave;
mod load;
mod standing;
mod state;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};

use prost::Message;
use strongroom_protocol::v1::Finding;

use crate::access::Named;
use crate::changes;
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::identity::Identity;
use crate::life::Clocks;
use crate::memory::SecretBytes;
use crate::metrics::{Commits, Metered};
use crate::node_key::{Files, Found, Means, NodeKeyError};
use crate::partition::{Partition, Settings};
use crate::records::{self, Names, PartitionRecord, ROOT, RootRecord};
use crate::seal::{SealError, SealingKey};
use crate::store::{Batch, Ledger, RedbStore, Store, StoreError};
use crate::transfers::Transfers;
use crate::users::{User, Users};
pub use backup::{Restore, Restored};
pub use check::watch;
pub use cluster::{Cluster, Expelled, USUAL_LEASE};
pub use hand_over::{HandedOver, open as open_hand_over, read as read_hand_over};
pub use join::invited_key;
use load::Decision;
pub use load::Opened;
pub use state::Unlock;

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
    /// The node was not told where its cluster's records are.
    #[error(
        "this node is of the cluster {0}, whose partitions are in etcd, and strongroomd was not told where that is: start it with --etcd"
    )]
    NoEtcd(String),
    /// Where the node notes what it has seen of its cluster.
    #[error(
        "the file in which this node notes what it has seen of its cluster cannot be read or written: {0}; free space on its disk, or \
         repair it"
    )]
    Mark(std::io::Error),
    /// There is no thread.
    #[error("no thread for {what}: {source}")]
    Thread {
        /// What it is for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A partition that the root names.
#[derive(Debug, Clone)]
pub enum Slot {
    /// Loaded, and in use.
    Sound(Arc<Partition>),
    /// Its records are not what they have to be: nothing of it is used.
    Damaged {
        /// Number, label and serial.
        record: Box<PartitionRecord>,
        /// Why, with the remedy.
        why: String,
    },
}

/// Where the store and the node's key come from.
enum Source {
    /// The state directory.
    Files(Files),
    /// A store of somebody else's, who gave the key too.
    Given(SealingKey, Arc<dyn Store>),
}

/// The node's state.
enum State {
    /// In use.
    Open(Arc<Opened>),
    /// What the node keeps for itself is open; its partitions are the cluster's, and etcd does not answer.
    Waiting(Arc<waiting::Waiting>),
    /// The keys are not in memory.
    Sealed,
    /// The store is not what it was, and the keys are not in memory.
    Tampered(Tampered),
    /// Everything was destroyed.
    Zeroized,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Tampered {
    /// Seconds since 1970, UTC.
    pub found: u64,
    /// Each with its partition.
    pub findings: Vec<Finding>,
}

/// All partitions.
pub struct Vault {
    location: String,
    source: Source,
    state: RwLock<State>,
    commits: Arc<Commits>,
    /// Held while the state changes; the shares given so far.
    turn: Mutex<Vec<SecretBytes>>,
    alarms: Sender<String>,
    alarm: Mutex<Option<Receiver<String>>>,
    clocks: OnceLock<Clocks>,
    /// When the keys were wiped last, in milliseconds since 1970: log-ins from before are over.
    wiped_at: AtomicU64,
    transfers: Transfers,
    /// What unseals the node: not read from the disk for whoever asks.
    means: RwLock<Means>,
    /// The store's members have been silent for longer than the lease: no key is used.
    is_cut_off: AtomicBool,
    /// Where the node notes what it has seen, if others keep the store.
    mark: Option<PathBuf>,
    /// Where the cluster's etcd is, if the node is of one, or may become so.
    joins: Option<Cluster>,
    /// For the threads that follow the cluster's store.
    me: OnceLock<Weak<Vault>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("store", &self.location).finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the store in a state directory, or makes it if nothing was ever there. `credentials` is
    /// systemd's $CREDENTIALS_DIRECTORY. The node is sealed if its key has to be unsealed, and tampered with if a
    /// partition is not what it was.
    ///
    /// # Errors
    ///
    /// If nothing in the store can be used.
    pub fn open(directory: &Path, credentials: Option<&Path>) -> Result<Self, VaultError> {
        Self::open_in(directory, credentials, None)
    }

    fn open_in(
        directory: &Path,
        credentials: Option<&Path>,
        joins: Option<Cluster>,
    ) -> Result<Self, VaultError> {
        let files = Files::of(directory, credentials);
        let found = files.find()?;
        let location = files.store().display().to_string();
        let mut vault = Self::of(location, Source::Files(files.clone()));
        vault.joins = joins;
        let key = match found {
            Found::Sealed(_) => return Ok(vault),
            Found::Used(key) => key,
            Found::New(key) => {
                Self::initialise(&key, Arc::new(RedbStore::create(&files.new_store())?))?;
                files.finish()?;
                key
            }
        };
        let store = Arc::new(RedbStore::open(&files.store())?);
        vault.take_into_use(vault.load_all(key, store, &Decision::default())?);
        Ok(vault)
    }

    /// As [`Vault::open`], but for a store that cannot be used because it was damaged: then the node is tampered
    /// with, and answers that.
    ///
    /// # Errors
    ///
    /// What is not damage: a missing key, a disk that cannot be read; etcd that does not answer.
    pub fn start(
        directory: &Path,
        credentials: Option<&Path>,
        joins: Option<Cluster>,
    ) -> Result<Self, VaultError> {
        match Self::open_in(directory, credentials, joins.clone()) {
            Err(error @ (VaultError::Damaged { .. } | VaultError::Store(StoreError::Damaged { .. }))) => {
                let files = Files::of(directory, credentials);
                let mut vault = Self::of(files.store().display().to_string(), Source::Files(files));
                vault.joins = joins;
                let finding = Finding { what: error.to_string(), ..Finding::default() };
                vault.set_tampered(vec![finding], crate::service::now());
                Ok(vault)
            }
            other => other,
        }
    }

    fn of(location: String, source: Source) -> Self {
        let (alarms, alarm) = channel();
        let vault = Self {
            location,
            source,
            state: RwLock::new(State::Sealed),
            commits: Arc::default(),
            turn: Mutex::default(),
            alarms,
            alarm: Mutex::new(Some(alarm)),
            clocks: OnceLock::new(),
            wiped_at: AtomicU64::new(0),
            transfers: Transfers::default(),
            means: RwLock::default(),
            is_cut_off: AtomicBool::new(false),
            mark: None,
            joins: None,
            me: OnceLock::new(),
        };
        vault.look_for_means();
        vault
    }

    /// Writes an empty root into a new store.
    ///
    /// # Errors
    ///
    /// [`VaultError::Store`].
    pub fn initialise(node_key: &SealingKey, store: Arc<dyn Store>) -> Result<(), VaultError> {
        let mut batch = Batch::default();
        batch.put(
            ROOT.to_owned(),
            seal_root(node_key, &RootRecord { next_number: 1, ..RootRecord::default() })?,
        );
        let node_key = SealingKey::new(SecretBytes::from(node_key.bytes())).ok_or(SealError::Library)?;
        Ok(Ledger::begin(store, Arc::new(node_key), std::iter::empty())?.commit(&batch)?)
    }

    /// Loads all partitions of a store.
    ///
    /// # Errors
    ///
    /// As for [`Vault::open`].
    pub fn load(node_key: SealingKey, store: Arc<dyn Store>) -> Result<Self, VaultError> {
        Self::load_marked(node_key, store, None)
    }

    /// As [`Vault::load`]. `mark`: the file in which the node notes what it has seen of a store that others keep.
    fn load_marked(
        node_key: SealingKey,
        store: Arc<dyn Store>,
        mark: Option<PathBuf>,
    ) -> Result<Self, VaultError> {
        let copy = SealingKey::new(SecretBytes::from(node_key.bytes())).ok_or(SealError::Library)?;
        let mut vault = Self::of(store.location(), Source::Given(copy, Arc::clone(&store)));
        vault.mark = mark;
        let decision = Decision::default();
        vault.enter(Opened::load(node_key, vault.metered(store), &decision, vault.mark.as_deref(), &[])?);
        Ok(vault)
    }

    /// A store whose commits are counted.
    fn metered(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Metered::new(store, Arc::clone(&self.commits)))
    }

    /// Chooses the clocks of all partitions, also of those to come, before they are asked for.
    pub fn use_clocks(&self, clocks: &Clocks) {
        let _ = self.clocks.set(clocks.clone());
        self.pass_clocks_on(&self.slots());
    }

    fn pass_clocks_on(&self, slots: &[Slot]) {
        let Some(clocks) = self.clocks.get() else { return };
        for slot in slots {
            if let Slot::Sound(partition) = slot {
                partition.age().use_clocks(clocks);
            }
        }
    }

    /// Where the store is.
    pub fn location(&self) -> String {
        self.location.clone()
    }

    /// Backups and restores that are at work.
    pub(crate) fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// How the store's commits went.
    pub fn commits(&self) -> &Arc<Commits> {
        &self.commits
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is loaded.
    ///
    /// # Errors
    ///
    /// SEALED, TAMPERED and ZEROIZED, with what to do.
    fn opened(&self) -> Result<Arc<Opened>, Failure> {
        let opened = self.unsealed()?;
        match self.is_cut_off.load(Ordering::Acquire) {
            true => refuse!(
                NoQuorum,
                "the node uses no keys: {} has not answered for longer than the cluster's lease; see that a majority of etcd's \
                 members runs and can be reached",
                opened.ledger.location()
            ),
            false => Ok(opened),
        }
    }

    /// As [`Vault::opened`], also when no majority of etcd's members answers: for what the node does for itself.
    ///
    /// # Errors
    ///
    /// SEALED, TAMPERED and ZEROIZED, with what to do.
    pub(crate) fn unsealed(&self) -> Result<Arc<Opened>, Failure> {
        match &*self.state() {
            State::Open(opened) => Ok(Arc::clone(opened)),
            State::Waiting(waiting) => refuse!(
                NoQuorum,
                "the node has no keys yet: {}. It goes on by itself when a majority of etcd's members answers",
                waiting.why
            ),
            State::Sealed => {
                refuse!(Sealed, "the node is sealed: unseal it with 'strongroom unseal'")
            }
            State::Tampered(tampered) => {
                let first = tampered.findings.first().map_or("", |finding| finding.what.as_str());
                refuse!(
                    Tampered,
                    "the node is in the state TAMPERED and does nothing before its owner decides: see 'strongroom \
                     tamper show'; {first}"
                )
            }
            State::Zeroized => refuse!(
                Zeroized,
                "the node was zeroized: everything in it is gone; restart strongroomd to begin anew"
            ),
        }
    }

    /// Whether the node is in use.
    ///
    /// # Errors
    ///
    /// SEALED, TAMPERED and ZEROIZED, with what to do.
    pub fn ready(&self) -> Result<(), Failure> {
        self.opened().map(drop)
    }

    /// All partitions, in the order of their numbers; none if the node is not in use.
    pub fn slots(&self) -> Vec<Slot> {
        match &*self.state() {
            State::Open(opened) => opened.slots().values().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The partition with this number.
    ///
    /// # Errors
    ///
    /// NO_SUCH_PARTITION, STORE if it is damaged, and those of [`Vault::ready`].
    pub fn partition(&self, number: u32) -> Result<Arc<Partition>, Failure> {
        match self.opened()?.slots().get(&number) {
            Some(Slot::Sound(partition)) => Ok(Arc::clone(partition)),
            Some(Slot::Damaged { why, .. }) => refuse!(Store, "{why}"),
            None if self.expelled().is_some() => {
                refuse!(
                    NotAMember,
                    "{}",
                    self.expelled().map(|expelled| expelled.to_string()).unwrap_or_default()
                )
            }
            None => {
                refuse!(NoSuchPartition, "there is no partition {number}; list them with 'strongroom status'")
            }
        }
    }

    /// Whether a user of any partition has this local user id admitted, or a key names it.
    pub fn admits(&self, uid: u32) -> bool {
        self.slots().iter().any(|slot| match slot {
            Slot::Sound(partition) => {
                let contents = partition.contents();
                let named = Named { uid: Some(uid), ..Named::default() };
                contents.users.admits(uid) || contents.objects.names(&named)
            }
            Slot::Damaged { .. } => false,
        })
    }

    /// The node's own key and certificates; made, durably, if this is the first time. Blocks then.
    ///
    /// # Errors
    ///
    /// STORE, and those of [`Vault::ready`].
    pub fn identity(&self) -> Result<Arc<Identity>, Failure> {
        self.opened()?.own().identity()
    }

    /// Keeps the certificate that a partition's owner has signed for the node. Blocks.
    ///
    /// # Errors
    ///
    /// Those of `permitted`, which is asked of the partition's users; STORE, and those of [`Vault::ready`].
    pub fn set_node_certificate(
        &self,
        partition: &Partition,
        permitted: impl FnOnce(&Users) -> Result<(), Failure>,
        der: Vec<u8>,
    ) -> Result<(), Failure> {
        self.opened()?.set_node_certificate(partition, permitted, der)
    }

    /// Makes a partition with its first users. Blocks.
    ///
    /// # Errors
    ///
    /// EXISTS, LIMIT, ATTRIBUTE_WRONG for the label, STORE.
    pub fn create(
        &self,
        label: &str,
        users: Vec<User>,
        settings: Settings,
    ) -> Result<Arc<Partition>, Failure> {
        if label.is_empty() || label.len() > MAX_LABEL || label.chars().any(char::is_control) {
            return refuse!(
                AttributeWrong,
                "a partition's label has 1 to {MAX_LABEL} bytes of printable text"
            );
        }
        let opened = self.opened()?;
        let _turn = opened.store().turn()?;
        let mut root = opened.root();
        check_room(&root, label)?;
        let record = PartitionRecord {
            number: root.next_number,
            label: label.to_owned(),
            serial: records::hex(&aws_lc::random_array::<8>()),
            ..PartitionRecord::default()
        };
        let names = Names::of(record.number);
        let key = SealingKey::generate();
        let sealed_key = opened.node_key().seal(&names.key(), 0, SecretBytes::from(key.bytes()))?;
        let mut new_root = root.clone();
        new_root.next_number += 1;
        new_root.partitions.push(record.clone());
        let sealed_root = seal_root(&opened.node_key(), &new_root)?;
        let partition = Arc::new(Partition::new(&record, key, opened.store())?);
        self.pass_clocks_on(&[Slot::Sound(Arc::clone(&partition))]);
        partition.change(|change| {
            change.also(names.key(), sealed_key);
            change.also(ROOT.to_owned(), sealed_root);
            *change.settings() = settings;
            let epoch = change.revision();
            users
                .into_iter()
                .try_for_each(|user| change.put_user(User { epoch, identity: epoch, ..user }).map(drop))
        })?;
        opened.note(&new_root);
        *root = new_root;
        opened.insert(record.number, Slot::Sound(Arc::clone(&partition)));
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
        let opened = self.opened()?;
        let _turn = opened.store().turn()?;
        let mut root = opened.root();
        let mut new_root = root.clone();
        let number = partition.number();
        new_root.partitions.retain(|p| p.number != number);
        // Its records go when it is gone: piece by piece, so that they do not take memory all at once.
        new_root.restoring.push(number);
        let sealed_root = seal_root(&opened.node_key(), &new_root)?;
        partition.give_up(permitted, |batch| batch.put(ROOT.to_owned(), sealed_root))?;
        opened.note(&new_root);
        *root = new_root;
        opened.remove(number);
        changes::announce();
        if let Err(failure) = backup::sweep_one(&opened, &mut root, number) {
            tracing::warn!("what is left of the partition that was deleted goes later: {failure}");
        }
        Ok(())
    }
}

/// Whether there may be one more partition, of this label.
fn check_room(root: &RootRecord, label: &str) -> Result<(), Failure> {
    if root.partitions.iter().any(|p| p.label == label) {
        return refuse!(Exists, "a partition \"{label}\" is there already; choose another label");
    }
    if root.partitions.len() >= MAX_PARTITIONS {
        return refuse!(Limit, "there are {MAX_PARTITIONS} partitions already; delete one first");
    }
    Ok(())
}

/// The revision of a root that has a ledger beside it.
const WITH_LEDGER: u64 = 1;

fn seal_root(node_key: &SealingKey, root: &RootRecord) -> Result<Vec<u8>, SealError> {
    node_key.seal(ROOT, WITH_LEDGER, SecretBytes::from(root.encode_to_vec().as_slice()))
}
