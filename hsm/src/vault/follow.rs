//! A vault whose store several nodes share: what others change comes in, and keys are used for a while without them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use prost::Message;

use super::hand_over::{self, HandedOver};
use super::leave;
use super::load::{Decision, Opened, load_slot, owner_of};
use super::{Slot, Source, State, Vault, VaultError};
use crate::changes;
use crate::failure::{Failure, refuse};
use crate::partition::Partition;
use crate::records::{LEDGER, Names, ROOT, RootRecord};
use crate::seal::SealingKey;
use crate::store::etcd::Happening;
use crate::store::{EtcdStore, LOG_OUTS, Store, StoreError, is_listed};

/// Between two looks whether the lease is over.
const LOOK: Duration = Duration::from_millis(100);

/// Before what could not be read is read once more.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a change was not taken in.
enum Untaken {
    /// The records are not what nodes wrote.
    Wrong(String),
    /// They, or what this node has on its own disk, cannot be read or written now: that says nothing about them.
    Unread(String),
}

impl From<String> for Untaken {
    fn from(what: String) -> Self {
        Untaken::Wrong(what)
    }
}

impl From<StoreError> for Untaken {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { .. } => Untaken::Wrong(error.to_string()),
            error => Untaken::Unread(error.to_string()),
        }
    }
}

impl From<VaultError> for Untaken {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Damaged { .. } => Untaken::Wrong(error.to_string()),
            VaultError::Store(error) => error.into(),
            error => Untaken::Unread(error.to_string()),
        }
    }
}

/// Records of one change, by name; `None`: deleted.
type Records = BTreeMap<String, Option<Vec<u8>>>;

impl Vault {
    /// Loads the partitions of a cluster and goes on with what other nodes change. Without a majority of the members of etcd, keys are
    /// used for as long as `lease`, and nothing is changed. `mark`: a file of the node's own, in which it notes what it has seen.
    ///
    /// # Errors
    ///
    /// As [`Vault::load`].
    pub fn join(
        node_key: SealingKey,
        store: EtcdStore,
        mark: &Path,
        lease: Duration,
    ) -> Result<Arc<Self>, VaultError> {
        let store = Arc::new(store);
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let vault = Arc::new(Self::load_marked(node_key, shared, Some(mark.to_owned()))?);
        vault.follow(&store, lease)?;
        Ok(vault)
    }

    /// Goes on with what other nodes change in a store that was read, and ends the use of keys with the lease.
    pub(super) fn follow(
        self: &Arc<Self>,
        store: &Arc<EtcdStore>,
        lease: Duration,
    ) -> Result<(), VaultError> {
        let (vault, store) = (self, store);
        let thread = |source| VaultError::Thread { what: "other nodes' changes", source };
        let (of, from) = (Arc::downgrade(vault), Arc::downgrade(store));
        let take_in = move |happening| {
            let mut next = Some(happening);
            while let Some(happening) = next.take() {
                let (Some(vault), Some(store)) = (of.upgrade(), from.upgrade()) else { return };
                next = vault.take_in(&store, happening);
                drop((vault, store));
                if next.is_some() {
                    thread::sleep(AGAIN);
                }
            }
        };
        store.follow(take_in).map_err(thread)?;
        let (of, from) = (Arc::downgrade(vault), Arc::downgrade(store));
        let look = move || while look_at_lease(&of, &from, lease) {};
        thread::Builder::new().name("cluster lease".to_owned()).spawn(look).map_err(thread)?;
        Ok(())
    }

    /// Takes in what has happened. The answer is what is to be taken in then, if this could not be.
    fn take_in(&self, store: &Arc<EtcdStore>, happening: Happening) -> Option<Happening> {
        let opened = match &*self.state() {
            State::Open(opened) => Arc::clone(opened),
            _ => return None,
        };
        // The node was sealed and opened since: what it has was read from there later. Or it is of no cluster any more.
        let is_current = match (&opened.etcd, &self.source) {
            (Some(current), _) => Arc::ptr_eq(current, store),
            (None, source) => matches!(source, Source::Given(..)),
        };
        if !is_current {
            return None;
        }
        let taken = match happening {
            Happening::Changed { revision, records } => self.adopt(&opened, store, revision, records),
            Happening::Missed => self.read_anew(&opened),
            Happening::PutBack => Err(Untaken::Wrong("it was put back to an earlier time".to_owned())),
        };
        let taken = match taken {
            Ok(StillMember(false)) => {
                self.stand_alone(opened);
                return None;
            }
            other => other.map(drop),
        };
        // Who holds the contents for long would hold up the lease's end.
        drop(opened);
        match taken {
            Ok(()) => None,
            Err(Untaken::Wrong(what)) => {
                self.tampered(&format!("{}: {what}", self.location()));
                None
            }
            Err(Untaken::Unread(why)) => {
                tracing::error!("what other nodes have changed is not known here yet, and read again: {why}");
                // Also of what was told: a part of it may have been taken in.
                Some(Happening::Missed)
            }
        }
    }

    /// Takes in one change. The error: what is wrong with it.
    fn adopt(
        &self,
        opened: &Opened,
        store: &EtcdStore,
        revision: i64,
        records: Records,
    ) -> Result<StillMember, Untaken> {
        let mut root = opened.root();
        if !records.contains_key(LEDGER) {
            // Partitions that are being restored are not named yet.
            let prefixes: Vec<_> =
                root.partitions.iter().map(|p| Names::of(p.number).prefix().to_owned()).collect();
            let foreign =
                |name: &&String| is_listed(name) || prefixes.iter().any(|prefix| name.starts_with(prefix));
            for (number, some) in log_outs(&records) {
                if let Some(Slot::Sound(partition)) = opened.slots().get(&number) {
                    partition.take_log_outs(some.into_iter());
                }
            }
            return match records.keys().find(foreign) {
                Some(name) => Err(format!("the record {name} was changed, and not by a node").into()),
                None => Ok(StillMember(true)),
            };
        }
        let renewed = match self.renewed(opened, &records)? {
            Renewed::No => None,
            Renewed::Gone => return Ok(StillMember(false)),
            Renewed::By(key) => Some(key),
        };
        match &renewed {
            None => opened.ledger.adopt(&records).map_err(|error| error.to_string())?,
            Some(key) => {
                let kept = kept(opened, store, revision, &records)?;
                let adopted = opened.ledger.adopt_under(Arc::clone(key), &kept, &records);
                adopted.map_err(|error| error.to_string())?;
                opened.set_node_key(Arc::clone(key));
                self.note_key(opened.own(), key);
            }
        }
        let before: Vec<u32> = root.partitions.iter().map(|p| p.number).collect();
        if let Some(change) = records.get(ROOT) {
            let sealed = change.as_deref().ok_or_else(|| "its root record was deleted".to_owned())?;
            let (_, plain) =
                opened.node_key().open(ROOT, sealed).map_err(|error| format!("its root record: {error}"))?;
            *root = RootRecord::decode(&*plain).map_err(|error| format!("its root record: {error}"))?;
            opened.note(&root);
        }
        let now: HashMap<u32, _> = root.partitions.iter().map(|p| (p.number, p.clone())).collect();
        for number in before.iter().filter(|number| !now.contains_key(number)) {
            if let Some(Slot::Sound(partition)) = opened.slots().get(number) {
                partition.wipe();
            }
            opened.remove(*number);
        }
        let mut by_partition: HashMap<String, Records> = HashMap::new();
        for (name, record) in records {
            by_partition.entry(owner_of(&name).to_owned()).or_default().insert(name, record);
        }
        for (number, record) in &now {
            let names = Names::of(*number);
            if !before.contains(number) {
                let sealed = store.read_at(names.prefix(), revision)?;
                if let Some((name, _)) =
                    sealed.iter().find(|(n, r)| is_listed(n) && !opened.ledger.is_last(n, r))
                {
                    return Err(format!("the record {name} is from an earlier time").into());
                }
                let (slot, _) = load_slot(&opened.node_key(), record, sealed, None, &opened.store());
                self.pass_clocks_on(std::slice::from_ref(&slot));
                opened.insert(*number, slot);
            } else if let Some(changed) = by_partition.remove(names.prefix())
                && let Some(Slot::Sound(partition)) = opened.slots().get(number).cloned()
            {
                let has_another_key = changed.contains_key(&names.key());
                if has_another_key && renewed.is_some() {
                    // Sealed anew it is the same.
                    continue;
                }
                if has_another_key {
                    let records = store.read_at(names.prefix(), revision)?;
                    adopt_key(opened, records, &partition).map_err(|failure| failure.message)?;
                    continue;
                }
                partition.adopt(changed).map_err(|error| format!("partition {number}: {error}"))?;
            }
        }
        drop(root);
        changes::announce();
        if renewed.is_some()
            && let Some(vault) = self.me.get().and_then(Weak::upgrade)
        {
            leave::renew_soon(&vault);
        }
        Ok(StillMember(true))
    }

    /// Whether a change gives the cluster another key, and this node too.
    fn renewed(&self, opened: &Opened, records: &Records) -> Result<Renewed, String> {
        let key = opened.node_key();
        let name = hand_over::name(&key).map_err(|error| error.to_string())?;
        let (Some(Some(record)), Some(membership)) = (records.get(&name), opened.own().membership()) else {
            return Ok(Renewed::No);
        };
        match self.handed_over(opened.own(), &membership, record, &key).map_err(|error| error.to_string())? {
            HandedOver::Key(key) => Ok(Renewed::By(Arc::new(key))),
            HandedOver::Gone { .. } => Ok(Renewed::Gone),
        }
    }

    /// Wipes what the node has of a cluster that it is not of any more.
    fn stand_alone(&self, opened: Arc<Opened>) {
        let _turn = self.turn();
        // It is leaving, and does it itself.
        let is_current = matches!(&*self.state(), State::Open(current) if Arc::ptr_eq(current, &opened));
        let Source::Files(files) = &self.source else { return };
        if is_current && let Err(failure) = self.reopen(opened, files) {
            tracing::error!("what this node keeps for itself was not opened again: {failure}");
        }
    }

    /// Loads everything again: too much was changed to be told. Connections are logged out; their tickets are good still, but for those of
    /// log-ins that had ended.
    fn read_anew(&self, opened: &Arc<Opened>) -> Result<StillMember, Untaken> {
        let store = match (&opened.etcd, &self.source) {
            (Some(store), _) => Arc::clone(store) as Arc<dyn Store>,
            (None, Source::Given(_, store)) => Arc::clone(store),
            (None, Source::Files(_)) => return Ok(StillMember(true)),
        };
        let decision = Decision::default();
        // Nothing is changed meanwhile, nor afterwards, by who has planned it on what is in memory now.
        let read = opened.ledger.give_way(|known| {
            let read = match (&opened.etcd, opened.own().membership()) {
                (Some(etcd), Some(membership)) => {
                    let keys = self.keys_until_now(opened.own(), &membership, etcd)?;
                    let Some(keys) = keys else { return Ok(None) };
                    let read = self.load_with(etcd, &keys, &decision)?;
                    if let Some(key) = keys.last().filter(|_| keys.len() > 1) {
                        self.note_key(opened.own(), key);
                    }
                    read
                }
                _ => {
                    let key = super::state::copy(&opened.node_key());
                    let key = key.map_err(|failure| Untaken::Unread(failure.to_string()))?;
                    Opened::load(key, self.metered(store), &decision, self.mark_file().as_deref(), &[])?
                }
            };
            match read.ledger.epoch() < known {
                true => Err(Untaken::Wrong("it was put back to an earlier time".to_owned())),
                false => Ok(Some(read)),
            }
        })?;
        let Some(mut read) = read else { return Ok(StillMember(false)) };
        (read.own, read.etcd) = (opened.own.clone(), opened.etcd.clone());
        // Who sealed the node meanwhile, or found it tampered with, has the last word.
        let _turn = self.turn();
        if !matches!(&*self.state(), State::Open(current) if Arc::ptr_eq(current, opened)) {
            read.close();
            return Ok(StillMember(true));
        }
        for (number, slot) in &*read.slots() {
            if let Slot::Sound(next) = slot
                && let Some(Slot::Sound(last)) = opened.slots().get(number)
            {
                next.tickets().inherit(&mut last.tickets());
            }
        }
        self.enter(read);
        Ok(StillMember(true))
    }
}

/// The log-outs among the records of a change, by partition.
fn log_outs(records: &Records) -> BTreeMap<u32, Vec<(&str, &[u8])>> {
    let mut all = BTreeMap::<u32, Vec<_>>::new();
    for (name, record) in records {
        let rest = name.strip_prefix(LOG_OUTS).and_then(|rest| rest.split('/').next());
        if let (Some(number), Some(record)) = (rest.and_then(|number| number.parse().ok()), record) {
            all.entry(number).or_default().push((name.as_str(), record.as_slice()));
        }
    }
    all
}

/// Whether this node is of the cluster still.
struct StillMember(bool);

/// What a change does to the cluster's key.
enum Renewed {
    No,
    By(Arc<SealingKey>),
    Gone,
}

/// Takes in another key of a partition.
fn adopt_key(opened: &Opened, records: Vec<(String, Vec<u8>)>, partition: &Partition) -> Result<(), Failure> {
    let names = Names::of(partition.number());
    let name = names.key();
    let key = records.iter().find(|(found, record)| *found == name && opened.ledger.is_last(found, record));
    let key = key.and_then(|(_, record)| opened.node_key().open(&name, record).ok());
    match key.and_then(|(_, bytes)| SealingKey::with_earlier(&bytes)) {
        Some(key) => partition.adopt_key(key, records),
        None => refuse!(Store, "the record {name} does not open"),
    }
}

/// The listed records that a change has left as they were.
fn kept(
    opened: &Opened,
    store: &EtcdStore,
    revision: i64,
    changed: &Records,
) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
    let mut kept = BTreeMap::new();
    for name in opened.ledger.listed().into_iter().filter(|name| !changed.contains_key(name)) {
        let found = store.read_at(&name, revision)?;
        kept.extend(found.into_iter().filter(|(found, _)| *found == name));
    }
    Ok(kept)
}

/// Ends or begins again the use of keys. Whether there is anything left to look at.
fn look_at_lease(vault: &Weak<Vault>, store: &Weak<EtcdStore>, lease: Duration) -> bool {
    let (Some(vault), Some(store)) = (vault.upgrade(), store.upgrade()) else { return false };
    let is_over = store.alone_for().is_some_and(|alone| alone >= lease);
    drop(store);
    if vault.is_cut_off.swap(is_over, Ordering::AcqRel) != is_over {
        changes::announce();
        match is_over {
            true => tracing::error!(
                "keys are not used any more: no majority of etcd's members has answered for {lease:?}"
            ),
            false => tracing::warn!("keys are used again: a majority of etcd's members answers"),
        }
    }
    drop(vault);
    thread::sleep(LOOK);
    true
}
