//! A vault whose store several nodes share: what others change comes in, and keys are used for a while without them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use prost::Message;

use super::load::{Decision, Opened, load_slot, owner_of};
use super::{Slot, Source, State, Vault, VaultError};
use crate::changes;
use crate::records::{LEDGER, Names, ROOT, RootRecord};
use crate::seal::SealingKey;
use crate::store::etcd::Happening;
use crate::store::{EtcdStore, Store, StoreError, is_listed};

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
        // The node was sealed and opened since: what it has was read from there later.
        if opened.etcd.as_ref().is_some_and(|current| !Arc::ptr_eq(current, store)) {
            return None;
        }
        let taken = match happening {
            Happening::Changed { revision, records } => self.adopt(&opened, store, revision, records),
            Happening::Missed => self.read_anew(&opened),
            Happening::PutBack => Err(Untaken::Wrong("it was put back to an earlier time".to_owned())),
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
    ) -> Result<(), Untaken> {
        let mut root = opened.root();
        if !records.contains_key(LEDGER) {
            // Partitions that are being restored are not named yet.
            let prefixes: Vec<_> =
                root.partitions.iter().map(|p| Names::of(p.number).prefix().to_owned()).collect();
            let foreign =
                |name: &&String| is_listed(name) || prefixes.iter().any(|prefix| name.starts_with(prefix));
            return match records.keys().find(foreign) {
                Some(name) => Err(format!("the record {name} was changed, and not by a node").into()),
                None => Ok(()),
            };
        }
        opened.ledger.adopt(&records).map_err(|error| error.to_string())?;
        let before: Vec<u32> = root.partitions.iter().map(|p| p.number).collect();
        if let Some(change) = records.get(ROOT) {
            let sealed = change.as_deref().ok_or_else(|| "its root record was deleted".to_owned())?;
            let (_, plain) =
                opened.node_key.open(ROOT, sealed).map_err(|error| format!("its root record: {error}"))?;
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
                let (slot, _) = load_slot(&opened.node_key, record, sealed, None, &opened.store());
                self.pass_clocks_on(std::slice::from_ref(&slot));
                opened.insert(*number, slot);
            } else if let Some(changed) = by_partition.remove(names.prefix())
                && let Some(Slot::Sound(partition)) = opened.slots().get(number).cloned()
            {
                partition.adopt(changed).map_err(|error| format!("partition {number}: {error}"))?;
            }
        }
        drop(root);
        changes::announce();
        Ok(())
    }

    /// Loads everything again: too much was changed to be told. Connections are logged out; their tickets are good still, but for those of
    /// log-ins that had ended.
    fn read_anew(&self, opened: &Arc<Opened>) -> Result<(), Untaken> {
        let store = match (&opened.etcd, &self.source) {
            (Some(store), _) => Arc::clone(store) as Arc<dyn Store>,
            (None, Source::Given(_, store)) => Arc::clone(store),
            (None, Source::Files(_)) => return Ok(()),
        };
        let key =
            super::state::copy(&opened.node_key).map_err(|failure| Untaken::Unread(failure.to_string()))?;
        let mark = self.mark_file();
        // Nothing is changed meanwhile, nor afterwards, by who has planned it on what is in memory now.
        let mut read = opened.ledger.give_way(|known| {
            let read = Opened::load(key, self.metered(store), &Decision::default(), mark.as_deref())?;
            match read.ledger.epoch() < known {
                true => Err(Untaken::Wrong("it was put back to an earlier time".to_owned())),
                false => Ok(read),
            }
        })?;
        (read.own, read.etcd) = (opened.own.clone(), opened.etcd.clone());
        // Who sealed the node meanwhile, or found it tampered with, has the last word.
        let _turn = self.turn();
        if !matches!(&*self.state(), State::Open(current) if Arc::ptr_eq(current, opened)) {
            read.close();
            return Ok(());
        }
        for (number, slot) in &*read.slots() {
            if let Slot::Sound(next) = slot
                && let Some(Slot::Sound(last)) = opened.slots().get(number)
            {
                next.tickets().inherit(&mut last.tickets());
            }
        }
        self.enter(read);
        Ok(())
    }
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
