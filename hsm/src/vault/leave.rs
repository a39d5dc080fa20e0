//! A node goes: it leaves its cluster, or is expelled from it. Those who stay get a new key of the cluster, which seals everything anew
//! that the one before has sealed, in one change. Who goes keeps no key: its own store forgets the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use strongroom_protocol::v1::ErrorCode;

use super::backup::domain_name;
use super::cluster::{Expelled, Membership};
use super::hand_over::{self, HandedOver};
use super::join;
use super::load::Opened;
use super::{Slot, Source, State, Vault, VaultError, seal_root};
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::records::{CLUSTER, ClusterRecord, Names, ROOT, RootRecord};
use crate::seal::{SealError, SealingKey};
use crate::service::now;
use crate::store::{Batch, EtcdStore, Store};

/// Keys of the cluster that were replaced, and hand-overs of them, that are kept: who was away while more of them came has to join
/// anew.
const KEPT: usize = 64;

impl Vault {
    /// Takes this node out of its cluster. It has no partition then, and may join again or be used alone. Blocks.
    ///
    /// # Errors
    ///
    /// NOT_A_MEMBER if it is of no cluster; LAST_MEMBER if it is the only one; LIMIT during a restore; STORE, NO_QUORUM. What is
    /// interrupted is either not begun, or ended by the next start.
    pub fn leave_cluster(&self) -> Result<(), Failure> {
        let _turn = self.turn();
        let opened = self.opened()?;
        let own = own_of(&opened)?;
        let Source::Files(files) = &self.source else {
            return refuse!(Unsupported, "this node's key was given to it");
        };
        if opened.restoring.load(std::sync::atomic::Ordering::Acquire) {
            return refuse!(Limit, "a backup is being restored: try again when that is done");
        }
        let itself = opened.name()?;
        // The key is for the others: of this node nothing but its memory ever has it, and not for long.
        drop(renew(&opened, &itself)?);
        self.forget(&own, None)?;
        tracing::warn!(target: "audit", event = "cluster left", node = itself, "the node has left its cluster");
        drop(own);
        self.reopen(opened, files)
    }

    /// Takes another node out of the cluster, also one that does not run. Blocks.
    ///
    /// # Errors
    ///
    /// NO_SUCH_OBJECT if there is none of that name; ATTRIBUTE_WRONG if it is this one; NOT_A_MEMBER; STORE, NO_QUORUM.
    pub fn expel(&self, node: &str) -> Result<(), Failure> {
        let opened = self.opened()?;
        let own = own_of(&opened)?;
        if opened.name()? == node {
            return refuse!(
                AttributeWrong,
                "{node} is this node: it leaves with 'strongroom cluster leave', or is expelled on another one"
            );
        }
        let key = renew(&opened, node)?;
        if let Some(etcd) = &opened.etcd {
            // If it has not joined yet.
            let _ = etcd.take_away(node);
        }
        self.note_key(&own, &key);
        drop(own);
        tracing::warn!(target: "audit", event = "node expelled", node, "a node was expelled from the cluster");
        renew_partitions(&opened)
    }

    /// From which cluster this node was expelled, and by which node; until it is of one again.
    pub fn expelled(&self) -> Option<Expelled> {
        match &*self.state() {
            State::Open(opened) => opened.own().expelled(),
            _ => None,
        }
    }

    /// Keeps the cluster's new key. If the node's own store does not take it now, the next start finds it in etcd again.
    pub(super) fn note_key(&self, own: &Opened, key: &Arc<SealingKey>) {
        let noted = own.membership().map(|known| -> Result<(), Failure> {
            let record = ClusterRecord { id: known.id().to_vec(), ..ClusterRecord::default() };
            own.set_membership(Arc::new(Membership::new(
                known.id().to_vec(),
                key.copy().ok_or(SealError::Library)?,
            )));
            Ok(own.ledger.commit(&Membership::note(&own.node_key(), &record, key)?)?)
        });
        if let Some(Err(failure)) = noted {
            tracing::error!("the cluster's new key is not in the node's own store: {failure}");
        }
    }

    /// Makes a node's own store forget its cluster: its key, and what it has seen.
    pub(super) fn forget(&self, own: &Opened, expelled: Option<&Expelled>) -> Result<(), VaultError> {
        let mut batch = Batch::default();
        match expelled {
            Some(expelled) => {
                let plain = SecretBytes::from(expelled.to_record().as_slice());
                batch.put(CLUSTER.to_owned(), own.node_key().seal(CLUSTER, 0, plain)?);
            }
            None => batch.delete(CLUSTER.to_owned()),
        }
        own.ledger.commit(&batch)?;
        own.forget_membership(expelled.cloned());
        // Sealed by the key that is gone: if it stays, nobody reads it, and the next cluster's takes its place.
        if let Some(mark) = self.mark_file() {
            drop(std::fs::remove_file(mark));
        }
        Ok(())
    }

    /// Goes from the key that the node has to the one that the cluster has now, over all that were made meanwhile. The answer is all of
    /// them, oldest first; nothing if the node is not of the cluster any more, and has forgotten it.
    pub(super) fn keys_until_now(
        &self,
        own: &Opened,
        membership: &Membership,
        etcd: &EtcdStore,
    ) -> Result<Option<Vec<Arc<SealingKey>>>, VaultError> {
        let mut last = Arc::new(membership.key().copy().ok_or(SealError::Library)?);
        let mut keys = Vec::new();
        // Not for ever: an administrator of etcd can make no circle of them, but may be a node.
        while keys.len() < 2 * KEPT {
            keys.push(Arc::clone(&last));
            let name = hand_over::name(&last)?;
            let Some(record) = etcd.record(&name)? else { return Ok(Some(keys)) };
            last = match self.handed_over(own, membership, &record, &last)? {
                HandedOver::Key(key) => Arc::new(key),
                HandedOver::Gone { by } => {
                    self.left_behind(own, membership, by)?;
                    return Ok(None);
                }
            };
        }
        let what = "its keys were replaced too often while this node was away".to_owned();
        Err(VaultError::Damaged { location: etcd.location(), what })
    }

    /// What the record says by which another key takes the place of this one.
    pub(super) fn handed_over(
        &self,
        own: &Opened,
        membership: &Membership,
        record: &[u8],
        key: &SealingKey,
    ) -> Result<HandedOver, VaultError> {
        let damaged = |what: String| VaultError::Damaged {
            location: self.location(),
            what: format!("the record that hands a new key of the cluster over: {what}"),
        };
        let identity = own.identity().map_err(|failure| damaged(failure.message))?;
        hand_over::open(record, membership.id(), key, &identity).map_err(damaged)
    }

    /// This node is not of the cluster any more.
    fn left_behind(&self, own: &Opened, membership: &Membership, by: String) -> Result<(), VaultError> {
        let itself = own.identity().and_then(|identity| join::member(&identity)).map(|member| member.name);
        if itself.is_ok_and(|name| name == by) {
            // What was interrupted when it left.
            return self.forget(own, None);
        }
        let expelled = Expelled { cluster: membership.name(), by, found: now() };
        tracing::error!(target: "audit", event = "expelled", cluster = expelled.cluster, by = expelled.by, "{expelled}");
        self.forget(own, Some(&expelled))
    }
}

/// What a node of a cluster keeps for itself.
fn own_of(opened: &Opened) -> Result<Arc<Opened>, Failure> {
    match &opened.own {
        Some(own) => Ok(Arc::clone(own)),
        None => refuse!(NotAMember, "this node is of no cluster"),
    }
}

/// Gives the cluster a new key, without the node of this name. The answer is the key.
fn renew(opened: &Arc<Opened>, gone: &str) -> Result<Arc<SealingKey>, Failure> {
    let own = own_of(opened)?;
    let (Some(membership), Some(etcd)) = (own.membership(), &opened.etcd) else {
        return refuse!(NotAMember, "this node is of no cluster");
    };
    let by = opened.name()?;
    // Nobody changes anything meanwhile, and all that was changed is in memory.
    let _turn = opened.store().turn()?;
    let mut root = opened.root();
    let mut changed = root.clone();
    changed.members.retain(|member| member.name != gone);
    if changed.members.len() == root.members.len() {
        return refuse!(
            NoSuchObject,
            "the cluster has no node {gone}: 'strongroom cluster status' lists them"
        );
    }
    if changed.members.is_empty() {
        return refuse!(
            LastMember,
            "this is the cluster's only node: with it the partitions would be gone. To have them on one machine again, make a \
             backup of each, with a security domain, and restore it on a node of no cluster: see docs/cluster.md"
        );
    }
    let old = opened.node_key();
    let new = Arc::new(SealingKey::generate());
    let listed = opened.ledger.listed();
    let mut kept = BTreeMap::new();
    for name in listed {
        if let Some(record) = etcd.record(&name)? {
            kept.insert(name, record);
        }
    }
    let mut batch = sealed_anew(&old, &new, &mut changed, &kept)?;
    let name = hand_over::name(&old)?;
    batch.put(name.clone(), hand_over::make(&membership, &by, gone, &changed.members, &new)?);
    changed.to_renew = changed.partitions.iter().map(|partition| partition.number).collect();
    changed.hand_overs.push(name);
    if changed.hand_overs.len() > KEPT {
        batch.delete(changed.hand_overs.remove(0));
    }
    batch.put(ROOT.to_owned(), seal_root(&new, &changed)?);
    opened.ledger.renew(Arc::clone(&new), &kept, &batch)?;
    opened.set_node_key(Arc::clone(&new));
    opened.note(&changed);
    *root = changed;
    Ok(new)
}

/// Gives another key to each partition whose key a node knows that has gone, one after the other. What is interrupted goes on at any
/// node that hears of it, or starts. Blocks.
fn renew_partitions(opened: &Arc<Opened>) -> Result<(), Failure> {
    let next = || opened.root().to_renew.first().copied();
    while let Some(number) = next() {
        let _turn = opened.store().turn()?;
        let mut root = opened.root();
        // Another node may have done it.
        if root.to_renew.first() != Some(&number) {
            continue;
        }
        let mut changed = root.clone();
        changed.to_renew.retain(|other| *other != number);
        let slot = opened.slots().get(&number).cloned();
        let Some(Slot::Sound(partition)) = slot else {
            // It was deleted, or is damaged and not used.
            opened.write_root(&mut root, changed, Batch::default())?;
            continue;
        };
        let node_key = opened.node_key();
        let renewed = partition.renew_key(|bytes, batch| {
            let name = Names::of(number).key();
            batch.put(name.clone(), node_key.seal(&name, 0, bytes)?);
            batch.put(ROOT.to_owned(), seal_root(&node_key, &changed)?);
            Ok(())
        });
        match renewed {
            Ok(()) => {
                opened.note(&changed);
                *root = changed;
                tracing::info!(partition = partition.label(), "the partition has another key");
            }
            Err(failure) if failure.code == ErrorCode::Limit => {
                tracing::error!("a partition keeps its key: {failure}");
                opened.write_root(&mut root, changed, Batch::default())?;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Between two attempts to give partitions other keys.
const AGAIN: Duration = Duration::from_secs(2);

/// As [`renew_partitions`], on a thread of its own, until it is done.
pub(super) fn renew_soon(vault: &Arc<Vault>) {
    let vault = Arc::downgrade(vault);
    let renew = move || {
        loop {
            // Also while no majority answers: it may again.
            let opened = vault.upgrade().and_then(|vault| match &*vault.state() {
                State::Open(opened) => Some(Arc::clone(opened)),
                _ => None,
            });
            let Some(opened) = opened else { return };
            let done = match opened.own.is_some() && !opened.root().to_renew.is_empty() {
                true => renew_partitions(&opened),
                false => return,
            };
            drop(opened);
            match done {
                Ok(()) => return,
                Err(failure) => tracing::warn!("partitions have other keys later: {failure}"),
            }
            thread::sleep(AGAIN);
        }
    };
    if let Err(error) = thread::Builder::new().name("partition keys".to_owned()).spawn(renew) {
        tracing::error!("partitions keep their keys until strongroomd is restarted: {error}");
    }
}

/// The name under which a key of the cluster that was replaced is sealed in the root.
pub(super) const RETIRED: &str = "retired";

/// What the cluster's key has sealed beside the root, and what it has sealed in the root, sealed by another one.
fn sealed_anew(
    old: &SealingKey,
    new: &SealingKey,
    root: &mut RootRecord,
    kept: &BTreeMap<String, Vec<u8>>,
) -> Result<Batch, Failure> {
    let anew = |name: &str, sealed: &[u8]| -> Result<Vec<u8>, SealError> {
        let (revision, plain) = old.open(name, sealed)?;
        new.seal(name, revision, plain)
    };
    let mut batch = Batch::default();
    for partition in &mut root.partitions {
        let name = Names::of(partition.number).key();
        // One that does not open belongs to a partition that is damaged, and stays as it is.
        if let Some(sealed) = kept.get(&name)
            && let Ok(sealed) = anew(&name, sealed)
        {
            batch.put(name, sealed);
        }
        if let Some(domain) = &mut partition.domain {
            domain.sealed_key = anew(&domain_name(partition.number), &domain.sealed_key)?;
        }
    }
    // Backups that were made without a security domain are opened by the key of their time.
    for key in &mut root.retired_keys {
        *key = anew(RETIRED, key)?;
    }
    root.retired_keys.push(new.seal(RETIRED, 0, SecretBytes::from(old.bytes()))?);
    if root.retired_keys.len() > KEPT {
        root.retired_keys.remove(0);
    }
    Ok(batch)
}

impl Opened {
    /// All keys that the node's or the cluster's backups without a security domain were sealed by, the present one first.
    pub(super) fn backup_keys(&self) -> Vec<Arc<SealingKey>> {
        let now = self.node_key();
        let retired: Vec<_> = {
            let root = self.root();
            let open = |sealed: &Vec<u8>| {
                let (_, bytes) = now.open(RETIRED, sealed).ok()?;
                SealingKey::new(bytes).map(Arc::new)
            };
            root.retired_keys.iter().rev().filter_map(open).collect()
        };
        let own = self.own.as_ref().map(|own| own.node_key());
        [now].into_iter().chain(retired).chain(own).collect()
    }

    /// The node's name in its cluster; empty if it is of none.
    pub(super) fn name(&self) -> Result<String, Failure> {
        match &self.own {
            Some(own) => Ok(join::member(&*own.identity()?)?.name),
            None => Ok(String::new()),
        }
    }
}
