//! A node of a cluster: the partitions' records lie in etcd, sealed by the cluster's key; the node's own store keeps that key, the
//! node's identity and its audit log's records, sealed by the node's key. One machine's partitions move there without a loss.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::backup::domain_name;
use super::load::{Decision, Opened, owner_of};
use super::waiting::{Loaded, Waiting};
use super::{Slot, Source, State, Vault, VaultError, hand_over, join, leave, seal_root};
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::node_key::Files;
use crate::records::{self, CLUSTER, ClusterRecord, Names, ROOT, RootRecord};
use crate::seal::{SealError, SealingKey};
use crate::store::{Batch, EtcdStore, Ledger, RedbStore, Store, StoreError, etcd, is_listed};

/// The usual time for which keys are used without a majority of etcd's members.
pub const USUAL_LEASE: Duration = Duration::from_secs(15 * 60);

/// Records that are written to etcd at once, and their bytes: its requests are 1.5 MiB at most.
const PIECE: usize = 100;
const PIECE_BYTES: usize = 1 << 20;

/// Where a cluster's etcd is.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The members, and how they are reached. Which cluster of Strongroom it is the node's own store says.
    pub etcd: etcd::Options,
    /// For how long keys are used without a majority of them.
    pub lease: Duration,
}

/// What a node's own store says of its cluster.
pub(super) struct Membership {
    /// 16 bytes.
    id: Vec<u8>,
    key: SealingKey,
    /// The partitions were being moved there: nobody else knows of the cluster.
    is_moving: bool,
}

/// How a node stands to clusters.
#[derive(Default)]
pub(super) enum Standing {
    /// It is of none.
    #[default]
    Alone,
    /// It is of one, or its partitions are on their way there.
    Member(Arc<Membership>),
    /// It was of one.
    Expelled(Expelled),
}

impl Standing {
    pub(super) fn from_record(bytes: &[u8]) -> Option<Self> {
        let (record, key) = records::split::<ClusterRecord>(bytes)?;
        if record.id.len() != 16 {
            return None;
        }
        if !record.expelled_by.is_empty() {
            let cluster = records::hex(&record.id);
            return Some(Standing::Expelled(Expelled {
                cluster,
                by: record.expelled_by,
                found: record.found,
            }));
        }
        let key = SealingKey::new(SecretBytes::from(key))?;
        Some(Standing::Member(Arc::new(Membership { id: record.id, key, is_moving: record.moving })))
    }
}

/// A node that was expelled from its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expelled {
    /// The cluster's name.
    pub cluster: String,
    /// The name of the node that has done it.
    pub by: String,
    /// When this node found out, seconds since 1970, UTC.
    pub found: u64,
}

impl std::fmt::Display for Expelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this node was expelled from the cluster {} by its node {}, and has none of its keys any more: use another node of the \
             cluster, or let this one join again ('strongroom cluster admit' on a node of it)",
            self.cluster, self.by
        )
    }
}

impl Expelled {
    /// What the node's own store keeps of it.
    pub(super) fn to_record(&self) -> Vec<u8> {
        let id = (0..self.cluster.len()).step_by(2);
        let id = id.filter_map(|at| u8::from_str_radix(self.cluster.get(at..at + 2)?, 16).ok()).collect();
        let record = ClusterRecord { id, moving: false, expelled_by: self.by.clone(), found: self.found };
        records::join(&record, &[]).to_vec()
    }
}

impl Membership {
    /// Of a node that is of a cluster.
    pub(super) fn new(id: Vec<u8>, key: SealingKey) -> Self {
        Membership { id, key, is_moving: false }
    }

    /// The change of a node's own store that says so.
    pub(super) fn note(
        node_key: &SealingKey,
        record: &ClusterRecord,
        key: &SealingKey,
    ) -> Result<Batch, SealError> {
        let mut batch = Batch::default();
        batch.put(CLUSTER.to_owned(), node_key.seal(CLUSTER, 0, records::join(record, key.bytes()))?);
        Ok(batch)
    }

    /// The cluster's name: 16 bytes.
    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    /// The same in hexadecimal.
    pub(super) fn name(&self) -> String {
        records::hex(&self.id)
    }

    /// The cluster's key.
    pub(super) fn key(&self) -> &SealingKey {
        &self.key
    }

    fn store(&self, cluster: &Cluster) -> Result<EtcdStore, StoreError> {
        EtcdStore::new(&etcd::Options { cluster: self.name(), ..cluster.etcd.clone() })
    }
}

impl Opened {
    /// The cluster that the node's own store names, if nothing is on its way there.
    pub(super) fn of_cluster(&self) -> Option<Arc<Membership>> {
        self.membership().filter(|known| !known.is_moving)
    }

    /// What the node keeps for itself: of a node of a cluster, in another store than the partitions.
    pub(super) fn own(&self) -> &Opened {
        self.own.as_deref().unwrap_or(self)
    }
}

impl Vault {
    /// Which cluster the node is of: 32 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::ready`].
    pub fn cluster(&self) -> Result<Option<String>, Failure> {
        Ok(self.opened()?.own().of_cluster().map(|known| known.name()))
    }

    /// Loads what the node's own store leads to: its partitions, or the cluster's.
    pub(super) fn load_all(
        &self,
        node_key: SealingKey,
        store: Arc<dyn Store>,
        decision: &Decision,
    ) -> Result<Loaded, VaultError> {
        let own = Opened::load(node_key, self.metered(store), decision, None, &[])?;
        if own.of_cluster().is_none() || !own.findings.is_empty() {
            return Ok(Loaded::Whole(Box::new(own)));
        }
        let own = Arc::new(own);
        match self.load_shared(&own, decision) {
            Ok(Some(opened)) => Ok(Loaded::Whole(Box::new(opened))),
            Ok(None) => {
                let own = Arc::into_inner(own).ok_or(SealError::Library)?;
                Ok(Loaded::Whole(Box::new(own)))
            }
            Err(VaultError::Store(error @ StoreError::NoMajority { .. })) => {
                Ok(Loaded::Waits(Waiting { own, why: error.to_string() }))
            }
            Err(error) => Err(error),
        }
    }

    /// Loads the cluster's partitions, for a node that has opened its own store. `None`: it is not of the cluster any more, and its own
    /// store has forgotten it.
    pub(super) fn load_shared(
        &self,
        own: &Arc<Opened>,
        decision: &Decision,
    ) -> Result<Option<Opened>, VaultError> {
        let membership = own.membership().ok_or(SealError::Library)?;
        let Some(cluster) = &self.joins else { return Err(VaultError::NoEtcd(membership.name())) };
        loop {
            let store = Arc::new(membership.store(cluster)?);
            let Some(keys) = self.keys_until_now(own, &membership, &store)? else { return Ok(None) };
            let loaded = self.load_with(&store, &keys, decision);
            let Some(key) = keys.last() else { return loaded.map(Some) };
            if loaded.is_err() && store.record(&hand_over::name(key)?)?.is_some() {
                // The key was replaced in this moment.
                continue;
            }
            let mut opened = loaded?;
            if keys.len() > 1 {
                self.note_key(own, key);
            }
            opened.own = Some(Arc::clone(own));
            opened.etcd = Some(store);
            return Ok(Some(opened));
        }
    }

    /// Loads what a cluster has in etcd, with the last of these keys; the others were before.
    pub(super) fn load_with(
        &self,
        store: &Arc<EtcdStore>,
        keys: &[Arc<SealingKey>],
        decision: &Decision,
    ) -> Result<Opened, VaultError> {
        let (key, earlier) = keys.split_last().ok_or(SealError::Library)?;
        let shared = self.metered(Arc::clone(store) as Arc<dyn Store>);
        let key = key.copy().ok_or(SealError::Library)?;
        Opened::load(key, shared, decision, self.mark_file().as_deref(), earlier)
    }

    /// Where the node notes what it has seen of its cluster.
    pub(super) fn mark_file(&self) -> Option<PathBuf> {
        match &self.source {
            Source::Files(files) => Some(files.mark()),
            Source::Given(..) => self.mark.clone(),
        }
    }

    /// Goes on with what other nodes change from now on, whenever the node is open. Called once.
    ///
    /// # Errors
    ///
    /// [`VaultError::Thread`].
    pub fn keep_up(self: &Arc<Self>) -> Result<(), VaultError> {
        let _turn = self.turn();
        let _ = self.me.set(Arc::downgrade(self));
        self.follow_etcd()
    }

    /// Follows the store of the cluster, if it is open and has one.
    pub(super) fn follow_etcd(&self) -> Result<(), VaultError> {
        let store = match &*self.state() {
            State::Open(opened) => opened.etcd.clone(),
            State::Waiting(waiting) => return self.wait_for_etcd(waiting),
            _ => None,
        };
        match (store, self.me.get().and_then(std::sync::Weak::upgrade), &self.joins) {
            (Some(store), Some(vault), Some(cluster)) => {
                vault.follow(&store, cluster.lease)?;
                // What was interrupted when a node went.
                leave::renew_soon(&vault);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes a cluster of this node: its partitions move to etcd. The cluster exists, and the node is of it, from the moment at which
    /// the node's own store says so; before that nothing is changed here, whatever interrupts it. Changes wait meanwhile and are
    /// refused in the end; signatures go on but for the moment in which the partitions are loaded from there. The answer is the
    /// cluster's name. Blocks.
    ///
    /// # Errors
    ///
    /// UNSUPPORTED without etcd's addresses, EXISTS if the node is of a cluster, LIMIT during a restore; STORE and NO_QUORUM.
    pub fn found_cluster(&self) -> Result<String, Failure> {
        let _turn = self.turn();
        let opened = self.opened()?;
        let (cluster, files) = self.may_begin(&opened)?;
        let location = self.location();
        if let Some(Slot::Damaged { why, .. }) =
            opened.slots().values().find(|slot| matches!(slot, Slot::Damaged { .. }))
        {
            return refuse!(Store, "what is damaged does not move to a cluster: {why}");
        }
        let itself = join::member(&*opened.identity()?)?;
        // No partition comes or goes meanwhile.
        let mut root = opened.root();
        let id = aws_lc::random_array::<16>();
        let made = Arc::new(Membership { id: id.to_vec(), key: SealingKey::generate(), is_moving: true });
        let mut record = ClusterRecord { id: id.to_vec(), moving: true, ..ClusterRecord::default() };
        opened.ledger.commit(&Membership::note(&opened.node_key(), &record, &made.key)?)?;
        opened.set_membership(Arc::clone(&made));
        if let Some(mark) = self.mark_file() {
            drop(std::fs::remove_file(mark));
        }
        let moving = RootRecord {
            next_number: root.next_number,
            partitions: root.partitions.clone(),
            members: vec![itself],
            ..RootRecord::default()
        };
        opened.ledger.hand_over(|from| {
            let moved =
                copy_into(Arc::new(made.store(cluster)?), from, &opened.node_key(), &moving, &made.key)?;
            // Nothing is given up here before it was seen that it is there.
            check(&made, cluster, &root)?;
            record.moving = false;
            let mut last = Membership::note(&opened.node_key(), &record, &made.key)?;
            moved.into_iter().for_each(|name| last.delete(name));
            let left = RootRecord { partitions: Vec::new(), restoring: Vec::new(), ..root.clone() };
            last.put(ROOT.to_owned(), seal_root(&opened.node_key(), &left)?);
            Ok::<_, VaultError>(last)
        })?;
        root.partitions.clear();
        drop(root);
        self.reopen(opened, files)?;
        tracing::warn!(target: "audit", event = "cluster made", cluster = made.name(), store = location, "the partitions moved to etcd");
        Ok(made.name())
    }

    /// Whether this node may become one of a cluster: where that is, and the node's files. What an interrupted attempt has left is
    /// deleted: nobody was told of it.
    pub(super) fn may_begin(&self, opened: &Opened) -> Result<(&Cluster, &Files), Failure> {
        let (Some(cluster), Source::Files(files)) = (&self.joins, &self.source) else {
            return refuse!(
                Unsupported,
                "strongroomd was not told where etcd is: start it with --etcd https://HOST:2379"
            );
        };
        if opened.own.is_some() {
            return refuse!(
                Exists,
                "this node is of a cluster already: 'strongroom cluster status' shows it"
            );
        }
        if opened.restoring.load(Ordering::Acquire) {
            return refuse!(Limit, "a backup is being restored: try again when that is done");
        }
        if let Some(left) = opened.membership() {
            left.store(cluster)?.clear()?;
        }
        Ok((cluster, files))
    }

    /// Lets go of all that was loaded, and loads it from where the node's own store leads to now.
    pub(super) fn reopen(&self, opened: Arc<Opened>, files: &Files) -> Result<(), Failure> {
        let node_key = opened.own().node_key().copy().ok_or(SealError::Library)?;
        drop(opened);
        self.set(State::Sealed);
        let own = Arc::new(RedbStore::open(&files.store())?);
        self.take_into_use(self.load_all(node_key, own, &Decision::default())?);
        self.follow_etcd()?;
        self.ready()
    }
}

/// Writes what a store holds of its partitions into another one, sealed for that. The answer is the names of all records of
/// partitions. A record that is no partition's any more is left out.
fn copy_into(
    store: Arc<EtcdStore>,
    from: &dyn Store,
    node_key: &SealingKey,
    root: &RootRecord,
    key: &SealingKey,
) -> Result<Vec<String>, VaultError> {
    let names: BTreeMap<String, Names> = root
        .partitions
        .iter()
        .map(|partition| Names::of(partition.number))
        .map(|names| (names.prefix().to_owned(), names))
        .collect();
    let mut all = Vec::new();
    from.scan(&mut |name, record| {
        if !owner_of(name).is_empty() && name.starts_with(records::PARTITIONS) {
            all.push((name.to_owned(), record.to_vec()));
        }
    })?;
    let moved: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    let (mut piece, mut bytes, mut listed) = (Batch::default(), 0, Vec::new());
    for (name, record) in all {
        let Some(names) = names.get(owner_of(&name)) else { continue };
        // Whatever the partition's key has sealed stays as it is.
        let record = match name == names.key() {
            true => key.seal(&name, 0, node_key.open(&name, &record)?.1)?,
            false => record,
        };
        if piece.changes.len() == PIECE || bytes + record.len() > PIECE_BYTES && bytes > 0 {
            store.commit(&std::mem::take(&mut piece))?;
            bytes = 0;
        }
        if is_listed(&name) {
            listed.push((name.clone(), record.clone()));
        }
        bytes += record.len();
        piece.put(name, record);
    }
    store.commit(&piece)?;
    let mut moving = root.clone();
    for partition in &mut moving.partitions {
        let name = domain_name(partition.number);
        if let Some(domain) = &mut partition.domain {
            domain.sealed_key = key.seal(&name, 0, node_key.open(&name, &domain.sealed_key)?.1)?;
        }
    }
    let mut last = Batch::default();
    last.put(ROOT.to_owned(), seal_root(key, &moving)?);
    let key = Arc::new(key.copy().ok_or(SealError::Library)?);
    let listed = listed.iter().map(|(name, record)| (name.as_str(), record.as_slice()));
    // With the ledger the cluster's records are complete.
    Ledger::begin(store, key, listed)?.commit(&last)?;
    Ok(moved)
}

/// Loads what was written, as a node would.
fn check(made: &Membership, cluster: &Cluster, root: &RootRecord) -> Result<(), VaultError> {
    let store = Arc::new(made.store(cluster)?);
    let location = store.location();
    let key = made.key.copy().ok_or(SealError::Library)?;
    let opened = Opened::load(key, store, &Decision::default(), None, &[])?;
    let sound = opened.slots().values().filter(|slot| matches!(slot, Slot::Sound(_))).count();
    let is_whole = opened.findings.is_empty() && sound == root.partitions.len();
    opened.close();
    match is_whole {
        true => Ok(()),
        false => {
            Err(VaultError::Damaged { location, what: "what was moved is not there as a whole".to_owned() })
        }
    }
}
