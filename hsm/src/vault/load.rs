//! Loading the store: every record is looked at before any is used, and what is wrong is found.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use prost::Message;
use strongroom_protocol::v1::Finding;

use super::cluster::{Expelled, Membership, Standing};
use super::{Slot, VaultError, seal_root};
use crate::audit;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::partition::{Partition, log_outs};
use crate::records::{CLUSTER, LEDGER, MemberRecord, NODE, Names, PartitionRecord, ROOT, RootRecord};
use crate::seal::SealingKey;
use crate::store::{
    AdoptError, Batch, CHAIN, EtcdStore, HAND_OVER, LOG_OUTS, Ledger, Mark, Store, StoreError, is_listed,
};
use crate::users::Users;

/// What is loaded while the node is open.
pub struct Opened {
    /// What seals the root: the node's key, or the cluster's, which changes when a node goes.
    node_key: RwLock<Arc<SealingKey>>,
    pub(super) ledger: Arc<Ledger>,
    /// Held while partitions are made and deleted.
    root: Mutex<RootRecord>,
    slots: RwLock<BTreeMap<u32, Slot>>,
    /// Made when it is first asked for.
    identity: Mutex<Option<Arc<Identity>>>,
    /// What the root says of partitions, for who must not wait for the disk.
    notes: RwLock<BTreeMap<u32, PartitionRecord>>,
    /// The same of the cluster's nodes.
    members: RwLock<Vec<MemberRecord>>,
    /// Whether a backup is being restored: one at a time.
    pub(super) restoring: AtomicBool,
    /// What was wrong, and is not known to the owner.
    pub(super) findings: Vec<Finding>,
    /// The audit log's records.
    pub(super) audit: Mutex<audit::Records>,
    /// What the node's own store says of its cluster.
    standing: Mutex<Standing>,
    /// Of a node of a cluster: what the node keeps for itself.
    pub(super) own: Option<Arc<Opened>>,
    /// The cluster's store.
    pub(super) etcd: Option<Arc<EtcdStore>>,
}

/// What the owner has decided about what is wrong.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// The owner has seen it.
    pub(super) clear: bool,
    /// Labels of partitions that may be of an earlier time.
    pub(super) use_as_is: Vec<String>,
    /// Labels of partitions that are given up.
    pub(super) accept_loss: Vec<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("store", &self.ledger.location()).finish_non_exhaustive()
    }
}

/// A store's records, by partition (`partition/00000001/`).
type Groups = HashMap<String, Vec<(String, Vec<u8>)>>;

impl Opened {
    /// Loads all partitions of a store. `mark`: the file in which the node notes what it has seen of a store that others keep, and
    /// `earlier`: the keys in whose place this one has come, oldest first.
    pub(super) fn load(
        node_key: SealingKey,
        store: Arc<dyn Store>,
        decision: &Decision,
        mark: Option<&Path>,
        earlier: &[Arc<SealingKey>],
    ) -> Result<Self, VaultError> {
        let location = store.location();
        let damaged = |what: String| VaultError::Damaged { location: location.clone(), what };
        let mut groups = Groups::new();
        store.scan(&mut |name, record| {
            groups.entry(owner_of(name).to_owned()).or_default().push((name.to_owned(), record.to_vec()));
        })?;
        let mut top: BTreeMap<String, Vec<u8>> = groups.remove("").unwrap_or_default().into_iter().collect();
        let links: BTreeMap<_, _> = top.extract_if(.., |name, _| name.starts_with(CHAIN)).collect();
        top.retain(|name, _| !name.starts_with(HAND_OVER));
        let ledger = top.remove(LEDGER);
        let sealed_node = top.remove(NODE);
        let sealed_cluster = top.remove(CLUSTER);
        let sealed_root = top.remove(ROOT).ok_or_else(|| damaged("its root record is missing".to_owned()))?;
        if !top.is_empty() {
            return Err(damaged("it has records that belong to no partition".to_owned()));
        }
        let node_key = Arc::new(node_key);
        let (revision, plain) = node_key
            .open(ROOT, &sealed_root)
            .map_err(|e| damaged(format!("its root record does not open with this node key ({e})")))?;
        let mut root = RootRecord::decode(&*plain).map_err(|e| damaged(format!("its root record: {e}")))?;
        let listed = groups.values().flatten().filter(|(name, _)| is_listed(name));
        let listed = listed.map(|(name, record)| (name.as_str(), record.as_slice()));
        let listed = listed.chain([(ROOT, sealed_root.as_slice())]);
        let listed = listed.chain(sealed_node.iter().map(|record| (NODE, record.as_slice())));
        let listed = listed.chain(sealed_cluster.iter().map(|record| (CLUSTER, record.as_slice())));
        let begin = |listed| Ledger::begin(Arc::clone(&store), Arc::clone(&node_key), listed);
        let (ledger, not_the_last) = match (revision, &ledger) {
            // Written before there was a ledger.
            (0, None) => (begin(&mut listed.into_iter())?, Vec::new()),
            (_, ledger) => {
                let mut listed = listed;
                let opened =
                    Ledger::open(Arc::clone(&store), Arc::clone(&node_key), ledger.as_deref(), &mut listed);
                opened.map_err(|e| damaged(e.to_string()))?
            }
        };
        if let Some(path) = mark {
            let mark = Mark::new(path, Arc::clone(&node_key), earlier);
            ledger.follow_on(mark, &links, decision.clear).map_err(|error| match error {
                AdoptError::Mark(error) if error.kind() != ErrorKind::InvalidData => VaultError::Mark(error),
                error => damaged(error.to_string()),
            })?;
        }
        if let Some(name) = not_the_last.iter().find(|name| [ROOT, NODE, CLUSTER].contains(&name.as_str())) {
            return Err(damaged(format!("its {name} record is from an earlier time, or missing")));
        }
        let records = groups.remove(audit::RECORDS).unwrap_or_default();
        let audit = audit::Records::of(records).map_err(|name| damaged(format!("a record {name}")))?;
        audit.heads(&node_key).map_err(|e| damaged(format!("the ends of the audit log: {e}")))?;
        let identity = sealed_node.as_ref().map(|sealed| {
            let opened =
                node_key.open(NODE, sealed).ok().and_then(|(_, plain)| Identity::from_record(&plain));
            opened.map(Arc::new).ok_or_else(|| damaged("its node record does not open".to_owned()))
        });
        let identity = Mutex::new(identity.transpose()?);
        let membership = sealed_cluster.as_ref().map(|sealed| {
            let opened =
                node_key.open(CLUSTER, sealed).ok().and_then(|(_, plain)| Standing::from_record(&plain));
            opened.ok_or_else(|| damaged("its cluster record does not open".to_owned()))
        });
        let standing = Mutex::new(membership.transpose()?.unwrap_or_default());
        let mut findings = Vec::new();
        if let Some(name) = not_the_last.iter().find(|name| name.starts_with(audit::RECORDS))
            && !decision.clear
        {
            let what = format!("the record {name} in {location} is missing, or from an earlier time");
            findings.push(Finding { what, ..Finding::default() });
        }
        let ledger = Arc::new(ledger);
        let (root_of_none, slots, notes) = (Mutex::default(), RwLock::default(), RwLock::default());
        let restoring = AtomicBool::new(false);
        let mut opened = Self {
            node_key: RwLock::new(node_key),
            ledger,
            root: root_of_none,
            slots,
            notes,
            members: RwLock::default(),
            restoring,
            identity,
            findings,
            audit: Mutex::new(audit),
            standing,
            own: None,
            etcd: None,
        };
        opened.take_in(&mut root, &mut groups, &not_the_last, decision)?;
        opened.drop_log_outs(&mut groups);
        if let Some(stray) = groups.into_keys().next() {
            return Err(damaged(format!("it has records of {stray}, which its root record does not name")));
        }
        if let Some(tampered) = root.tampered.as_ref().filter(|_| opened.findings.is_empty()) {
            opened.findings.push(Finding { what: tampered.what.clone(), ..Finding::default() });
        }
        opened.note(&root);
        opened.root = Mutex::new(root);
        Ok(opened)
    }

    /// Deletes the log-outs of partitions that are gone.
    fn drop_log_outs(&self, groups: &mut Groups) {
        let gone: Vec<_> = groups.extract_if(|folder, _| folder.starts_with(LOG_OUTS)).collect();
        let mut batch = Batch::default();
        gone.into_iter().flat_map(|(_, records)| records).for_each(|(name, _)| batch.delete(name));
        // In a cluster's store they go by themselves.
        if !batch.changes.is_empty()
            && !self.ledger.is_shared()
            && let Err(error) = self.ledger.commit(&batch)
        {
            tracing::warn!("log-outs of partitions that are gone are deleted later: {error}");
        }
    }

    /// Loads the partitions that the root names, and carries out what the owner has decided.
    fn take_in(
        &mut self,
        root: &mut RootRecord,
        groups: &mut Groups,
        not_the_last: &[String],
        decision: &Decision,
    ) -> Result<(), VaultError> {
        let mut batch = Batch::default();
        let before = root.clone();
        if self.ledger.is_shared() {
            // Another node may be at it.
            root.restoring.iter().for_each(|number| drop(groups.remove(Names::of(*number).prefix())));
        }
        let interrupted =
            if self.ledger.is_shared() { Vec::new() } else { std::mem::take(&mut root.restoring) };
        for number in interrupted {
            // The restore was interrupted: nobody was told that it is there.
            let unfinished = groups.remove(Names::of(number).prefix()).unwrap_or_default();
            unfinished.into_iter().for_each(|(name, _)| batch.delete(name));
        }
        let mut slots = BTreeMap::new();
        for record in &before.partitions {
            let names = Names::of(record.number);
            let sealed = groups.remove(names.prefix()).unwrap_or_default();
            if decision.accept_loss.contains(&record.label) {
                sealed.into_iter().for_each(|(name, _)| batch.delete(name));
                root.partitions.retain(|p| p.number != record.number);
                root.set_aside.retain(|number| *number != record.number);
                tracing::warn!(target: "audit", partition = record.label, "partition given up by the owner");
                continue;
            }
            let as_is = decision.use_as_is.contains(&record.label);
            let old = not_the_last.iter().find(|name| name.starts_with(names.prefix())).filter(|_| !as_is);
            let (slot, finding) = load_slot(&self.node_key(), record, sealed, old, &self.store());
            let known = root.set_aside.contains(&record.number);
            match finding {
                Some(_) if known => {}
                Some(_) if decision.clear => root.set_aside.push(record.number),
                Some(finding) => self.findings.push(finding),
                None => {}
            }
            let ended = groups.remove(&log_outs::folder(record.number)).unwrap_or_default();
            if let Slot::Sound(partition) = &slot {
                partition
                    .take_log_outs(ended.iter().map(|(name, record)| (name.as_str(), record.as_slice())));
            }
            // The ledger has been written since, with the partition as it was then: that it fits says nothing.
            let slot = if known { stays_aside(record, slot, &self.ledger.location()) } else { slot };
            slots.insert(record.number, slot);
        }
        if decision.clear {
            root.tampered = None;
        }
        // Not before the owner has decided about what was found: the commit writes a ledger of what is there now, which
        // would then be what has to be there.
        if decision.clear || *root != before && self.findings.is_empty() {
            batch.put(ROOT.to_owned(), seal_root(&self.node_key(), root)?);
            self.ledger.commit(&batch)?;
        }
        self.slots = RwLock::new(slots);
        Ok(())
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.ledger) as Arc<dyn Store>
    }

    pub(super) fn root(&self) -> MutexGuard<'_, RootRecord> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slots(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, number: u32, slot: Slot) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(number, slot);
    }

    pub(super) fn remove(&self, number: u32) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// What seals the root.
    pub(super) fn node_key(&self) -> Arc<SealingKey> {
        Arc::clone(&self.node_key.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_node_key(&self, key: Arc<SealingKey>) {
        *self.node_key.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn membership(&self) -> Option<Arc<Membership>> {
        match &*self.standing() {
            Standing::Member(membership) => Some(Arc::clone(membership)),
            _ => None,
        }
    }

    pub(super) fn expelled(&self) -> Option<Expelled> {
        match &*self.standing() {
            Standing::Expelled(expelled) => Some(expelled.clone()),
            _ => None,
        }
    }

    pub(super) fn set_membership(&self, membership: Arc<Membership>) {
        *self.standing() = Standing::Member(membership);
    }

    pub(super) fn forget_membership(&self, expelled: Option<Expelled>) {
        *self.standing() = expelled.map_or(Standing::Alone, Standing::Expelled);
    }

    pub(super) fn identity(&self) -> Result<Arc<Identity>, Failure> {
        let mut identity = self.lock_identity();
        match &*identity {
            Some(identity) => Ok(Arc::clone(identity)),
            None => {
                let made = Identity::generate()?;
                let mut batch = Batch::default();
                batch.put(NODE.to_owned(), self.sealed(&made)?);
                self.ledger.commit(&batch)?;
                Ok(Arc::clone(identity.insert(Arc::new(made))))
            }
        }
    }

    pub(super) fn set_node_certificate(
        &self,
        partition: &Partition,
        permitted: impl FnOnce(&Users) -> Result<(), Failure>,
        der: Vec<u8>,
    ) -> Result<(), Failure> {
        let own = self.own();
        let mut identity = own.lock_identity();
        let changed = match &*identity {
            Some(identity) => identity.with_certificate(partition.number(), der)?,
            None => Identity::generate()?.with_certificate(partition.number(), der)?,
        };
        let sealed = own.sealed(&changed)?;
        if self.own.is_some() {
            // In another store than the partition's.
            permitted(&partition.contents().users)?;
            let mut batch = Batch::default();
            batch.put(NODE.to_owned(), sealed);
            own.ledger.commit(&batch)?;
        } else {
            partition.change(|change| {
                permitted(&change.before().users)?;
                change.also(NODE.to_owned(), sealed);
                Ok(())
            })?;
        }
        *identity = Some(Arc::new(changed));
        Ok(())
    }

    fn sealed(&self, identity: &Identity) -> Result<Vec<u8>, Failure> {
        Ok(self.node_key().seal(NODE, 0, identity.to_record()?)?)
    }

    fn lock_identity(&self) -> MutexGuard<'_, Option<Arc<Identity>>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a changed root, with what else has to change in the same moment.
    pub(super) fn write_root(
        &self,
        root: &mut MutexGuard<'_, RootRecord>,
        changed: RootRecord,
        mut batch: Batch,
    ) -> Result<(), StoreError> {
        let sealed = seal_root(&self.node_key(), &changed).map_err(|error| StoreError::Failed {
            location: self.ledger.location(),
            reason: error.to_string(),
        })?;
        batch.put(ROOT.to_owned(), sealed);
        self.ledger.commit(&batch)?;
        self.note(&changed);
        **root = changed;
        Ok(())
    }

    pub(super) fn note(&self, root: &RootRecord) {
        let notes = root.partitions.iter().map(|record| (record.number, record.clone())).collect();
        *self.notes.write().unwrap_or_else(PoisonError::into_inner) = notes;
        self.members.write().unwrap_or_else(PoisonError::into_inner).clone_from(&root.members);
    }

    /// The cluster's nodes, as the root names them.
    pub(super) fn members(&self) -> Vec<MemberRecord> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node's own key and certificates, if it has had a use for them.
    pub(super) fn known_identity(&self) -> Option<Arc<Identity>> {
        self.lock_identity().clone()
    }

    /// What the root says of a partition.
    pub(super) fn noted(&self, number: u32) -> Option<PartitionRecord> {
        self.notes.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// Lets go of the store and wipes what was loaded, whoever holds it.
    pub(super) fn close(&self) {
        // When records are read anew, what is read next has it, too.
        if let Some(own) = self.own.as_ref().filter(|own| Arc::strong_count(own) == 1) {
            own.close();
        }
        self.ledger.close();
        drop(self.lock_identity().take());
        let slots = std::mem::take(&mut *self.slots.write().unwrap_or_else(PoisonError::into_inner));
        for slot in slots.into_values() {
            if let Slot::Sound(partition) = slot {
                partition.wipe();
            }
        }
    }
}

pub(super) fn load_slot(
    node_key: &SealingKey,
    record: &PartitionRecord,
    mut sealed: Vec<(String, Vec<u8>)>,
    old: Option<&String>,
    store: &Arc<dyn Store>,
) -> (Slot, Option<Finding>) {
    let name = Names::of(record.number).key();
    let key_at = sealed.iter().position(|(found, _)| *found == name);
    let key = key_at
        .map(|at| sealed.swap_remove(at))
        .and_then(|(_, sealed_key)| node_key.open(&name, &sealed_key).ok())
        .and_then(|(_, bytes)| SealingKey::with_earlier(&bytes));
    let loaded = match key {
        None => Err(format!("the record {name} is missing or does not open with this node key")),
        Some(key) => {
            Partition::load(record, key, sealed, Arc::clone(store)).map_err(|error| error.to_string())
        }
    };
    let (what, put_back) = match (loaded, old) {
        (Ok(partition), None) => return (Slot::Sound(Arc::new(partition)), None),
        (Ok(_), Some(name)) => {
            (format!("it was put back to an earlier time ({name} is not the last one)"), true)
        }
        (Err(what), _) => (what, false),
    };
    let why = format!(
        "partition {} \"{}\" in {} is damaged and not used: {what}; restore it from a backup ('strongroom backup \
         restore FILE --replace')",
        record.number,
        record.label,
        store.location()
    );
    tracing::error!("{why}");
    let finding = Finding { partition: record.label.clone(), what: why.clone(), put_back };
    (Slot::Damaged { record: Box::new(record.clone()), why }, Some(finding))
}

/// What the owner has seen and not taken as it is is not used, whatever is found in its place.
fn stays_aside(record: &PartitionRecord, slot: Slot, location: &str) -> Slot {
    let Slot::Sound(partition) = slot else { return slot };
    partition.wipe();
    let why = format!(
        "partition {} \"{}\" in {location} was set aside when its owner cleared the state TAMPERED, and is not used; restore \
         it from a backup ('strongroom backup restore FILE --replace')",
        record.number, record.label
    );
    tracing::error!("{why}");
    Slot::Damaged { record: Box::new(record.clone()), why }
}

/// The part of a record's name that says whose it is: `partition/00000001/`, or nothing.
pub(super) fn owner_of(name: &str) -> &str {
    match name.match_indices('/').nth(1) {
        Some((end, _)) => name.get(..=end).unwrap_or_default(),
        None => "",
    }
}
