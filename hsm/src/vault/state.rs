//! The node's states: how it is sealed, unsealed, found to be tampered with, cleared, and zeroized.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use strongroom_protocol::v1::{Finding, NodeState, Quorum};

use super::load::{Decision, Opened};
use super::waiting::Loaded;
use super::{Slot, Source, State, Tampered, Vault, VaultError};
use crate::changes;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::node_key::means::SealRecord;
use crate::node_key::{Files, Found, Means};
use crate::quorum;
use crate::records::TamperRecord;
use crate::seal::SealingKey;
use crate::service::now;
use crate::store::{Batch, RedbStore, Store, StoreError};
use crate::tickets;

/// What its owner gives to unseal a node.
#[derive(Debug, Default)]
pub struct Unlock {
    /// A passphrase, or nothing.
    pub passphrase: zeroize::Zeroizing<String>,
    /// Decrypted shares.
    pub shares: Vec<SecretBytes>,
}

/// How far unsealing has come: shares that are there, and that are needed.
pub type Progress = (u32, u32);

impl Vault {
    /// The node's state.
    pub fn node_state(&self) -> NodeState {
        match &*self.state() {
            State::Open(_) => NodeState::Open,
            State::Waiting(_) => NodeState::Waiting,
            State::Sealed => NodeState::Sealed,
            State::Tampered(_) => NodeState::Tampered,
            State::Zeroized => NodeState::Zeroized,
        }
    }

    /// What unseals the node: "file", "credential", "passphrase", "shares", or "nothing" if the store was given; and what
    /// opens its store besides.
    pub fn means(&self) -> Means {
        self.means.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks on the disk what unseals the node.
    pub(super) fn look_for_means(&self) {
        let means = match &self.source {
            Source::Files(files) => files.means(),
            Source::Given(..) => Means { name: "nothing", also: Vec::new() },
        };
        for also in &means.also {
            tracing::warn!(
                "the node is unsealed by: {}; but a {also} with its key is there as well, and opens the store without that",
                means.name
            );
        }
        *self.means.write().unwrap_or_else(PoisonError::into_inner) = means;
    }

    /// What was found, in the state TAMPERED.
    pub fn tampering(&self) -> Option<Tampered> {
        match &*self.state() {
            State::Tampered(tampered) => Some(tampered.clone()),
            _ => None,
        }
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, Vec<SecretBytes>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the state, with all keys, for another one.
    pub(super) fn set(&self, next: State) {
        // A node of a cluster that has read everything anew was open all the time.
        let is_wiped = !matches!(next, State::Open(_) | State::Waiting(_));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::replace(&mut *state, next);
        drop(state);
        changes::announce();
        if let State::Waiting(waiting) = &last
            && is_wiped
        {
            waiting.own.close();
        }
        if let State::Open(opened) = last {
            opened.close();
            if is_wiped {
                // After the last moment in which a log-in that was under way could have got a ticket.
                self.wiped_at.store(tickets::now() + 1, Ordering::Relaxed);
            }
            // What is backed up or restored holds keys, too.
            self.transfers.empty();
        }
    }

    /// Takes what was loaded into use, or says that it was tampered with.
    pub(super) fn enter(&self, opened: Opened) {
        opened.ledger.report_to(self.alarms.clone());
        opened.own().ledger.report_to(self.alarms.clone());
        self.pass_clocks_on(&opened.slots().values().cloned().collect::<Vec<_>>());
        let wiped_at = self.wiped_at.load(Ordering::Relaxed);
        for slot in opened.slots().values() {
            if let Slot::Sound(partition) = slot {
                partition.tickets().void_before(wiped_at);
            }
        }
        if opened.findings.is_empty() {
            return self.set(State::Open(Arc::new(opened)));
        }
        let found = opened.root().tampered.as_ref().map_or_else(now, |record| record.found);
        let findings = opened.findings.clone();
        opened.close();
        self.set_tampered(findings, found);
    }

    pub(super) fn set_tampered(&self, findings: Vec<Finding>, found: u64) {
        for finding in &findings {
            // The alarm: what watches the log or the metrics sees it.
            tracing::error!(target: "audit", event = "tampered", "TAMPERED: {}", finding.what);
        }
        self.set(State::Tampered(Tampered { found, findings }));
    }

    /// Says that the store is not what the node remembers: keys are wiped, and nothing is done any more before
    /// the owner decides. Blocks.
    pub fn tampered(&self, what: &str) {
        let _turn = self.turn();
        let opened = match &*self.state() {
            State::Open(opened) => Arc::clone(opened),
            _ => return,
        };
        opened.own().note_tampering(what);
        drop(opened);
        self.set_tampered(vec![Finding { what: what.to_owned(), ..Finding::default() }], now());
    }

    /// Wipes all keys from memory. Blocks.
    ///
    /// # Errors
    ///
    /// If the node is not open.
    pub fn seal(&self) -> Result<(), Failure> {
        let mut turn = self.turn();
        // Also when it is cut off from etcd: then more than ever.
        if self.node_state() != NodeState::Waiting {
            self.unsealed()?;
        }
        turn.clear();
        self.set(State::Sealed);
        tracing::warn!(target: "audit", event = "sealed", "the node was sealed");
        Ok(())
    }

    /// Opens a sealed node. `None`: more shares are needed. Blocks.
    ///
    /// # Errors
    ///
    /// UNSEAL_WRONG, STORE, and those of another state.
    pub fn unseal(&self, unlock: Unlock) -> Result<Option<Progress>, Failure> {
        let mut turn = self.turn();
        match self.node_state() {
            NodeState::Sealed => {}
            NodeState::Open => return refuse!(Exists, "the node is not sealed"),
            _ => return self.ready().map(|()| None),
        }
        self.open_with(unlock, &mut turn, &Decision::default())
    }

    /// Ends the state TAMPERED as the owner has decided. `None`: as [`Vault::unseal`]. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Vault::unseal`]; TAMPERED if the store cannot be used at all.
    pub fn clear_tampering(
        &self,
        unlock: Unlock,
        use_as_is: Vec<String>,
        accept_loss: Vec<String>,
    ) -> Result<Option<Progress>, Failure> {
        let mut turn = self.turn();
        let Some(tampered) = self.tampering() else {
            return refuse!(Exists, "nothing is known of tampering: there is nothing to clear");
        };
        for label in use_as_is.iter().chain(&accept_loss) {
            if !tampered.findings.iter().any(|finding| finding.partition == *label) {
                return refuse!(
                    NoSuchPartition,
                    "nothing was found about a partition \"{label}\"; see 'strongroom tamper show'"
                );
            }
        }
        let decision = Decision { clear: true, use_as_is, accept_loss };
        let progress = self.open_with(unlock, &mut turn, &decision)?;
        if progress.is_none() {
            tracing::warn!(target: "audit", event = "tampering cleared", ?decision, "the owner has cleared the state TAMPERED");
        }
        Ok(progress)
    }

    fn open_with(
        &self,
        unlock: Unlock,
        given: &mut Vec<SecretBytes>,
        decision: &Decision,
    ) -> Result<Option<Progress>, Failure> {
        let (key, store): (SealingKey, Arc<dyn Store>) = match &self.source {
            Source::Given(key, store) => (copy(key)?, Arc::clone(store)),
            Source::Files(files) => {
                let key = match files.find().map_err(VaultError::from)? {
                    Found::New(_) => return refuse!(Store, "the store {} is gone", self.location),
                    Found::Used(key) => key,
                    Found::Sealed(record) => match unlock_by(&record, unlock, given)? {
                        Ok(key) => {
                            // What an interrupted change of means has left.
                            files.remove_key_files().map_err(VaultError::from)?;
                            key
                        }
                        Err(progress) => return Ok(Some(progress)),
                    },
                };
                match RedbStore::open(&files.store()) {
                    Ok(store) => (key, Arc::new(store)),
                    Err(error) => return Err(self.unusable(error.into())),
                }
            }
        };
        self.look_for_means();
        let loaded = match &self.source {
            Source::Files(_) => self.load_all(key, store, decision),
            Source::Given(..) => Opened::load(key, self.metered(store), decision, self.mark.as_deref(), &[])
                .map(|opened| Loaded::Whole(Box::new(opened))),
        };
        match loaded {
            // What the owner has decided counts for this attempt.
            Ok(Loaded::Waits(waiting)) if decision.clear => {
                waiting.own.close();
                return refuse!(NoQuorum, "{}: nothing was decided, try again", waiting.why);
            }
            Ok(loaded) => self.take_into_use(loaded),
            Err(error) => return Err(self.unusable(error)),
        }
        self.follow_etcd()?;
        tracing::warn!(target: "audit", event = "unsealed", state = ?self.node_state(), "the node was unsealed");
        self.ready().map(|()| None)
    }

    /// A store that was damaged as a whole leaves the node tampered with.
    pub(super) fn unusable(&self, error: VaultError) -> Failure {
        match error {
            error @ (VaultError::Damaged { .. } | VaultError::Store(StoreError::Damaged { .. })) => {
                let finding = Finding { what: error.to_string(), ..Finding::default() };
                self.set_tampered(vec![finding], now());
                self.ready().err().unwrap_or_else(|| error.into())
            }
            error => error.into(),
        }
    }

    /// Changes what unseals the node. The answer is the quorum if shares do. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::ready`], ATTRIBUTE_WRONG, STORE. What unsealed before still does then.
    pub fn seal_with(
        &self,
        passphrase: &str,
        holders: &[Vec<u8>],
        needed: u32,
    ) -> Result<Option<Quorum>, Failure> {
        let _turn = self.turn();
        let opened = self.unsealed()?;
        let Source::Files(files) = &self.source else {
            return refuse!(Unsupported, "this node's key was given to it");
        };
        let key = &opened.own().node_key();
        let (record, quorum) = match (passphrase.is_empty(), holders.is_empty()) {
            (false, false) => return refuse!(Malformed, "either a passphrase or holders"),
            (true, true) => (None, None),
            (false, true) => (Some(SealRecord::by_passphrase(key, passphrase)?), None),
            (true, false) => {
                let (record, quorum) = SealRecord::by_shares(key, holders, needed)?;
                (Some(record), Some(quorum))
            }
        };
        let changed = match &record {
            Some(record) => files.seal_with(record),
            None => files.seal_with_file(key),
        };
        // Also if only the end of it failed.
        self.look_for_means();
        changed.map_err(VaultError::from)?;
        let means = record.map_or("file", |record| record.name());
        tracing::warn!(target: "audit", event = "sealed otherwise", means, "what unseals the node was changed");
        Ok(quorum)
    }

    /// Who holds the shares that unseal the node.
    ///
    /// # Errors
    ///
    /// NO_SUCH_OBJECT if shares do not.
    pub fn seal_quorum(&self) -> Result<Quorum, Failure> {
        let found = match &self.source {
            Source::Files(files) => files.quorum(),
            Source::Given(..) => None,
        };
        match found {
            Some(quorum) => Ok(quorum),
            None => {
                refuse!(NoSuchObject, "this node is not unsealed by shares, but by: {}", self.means().name)
            }
        }
    }

    /// Destroys everything: the keys in memory, the node's key, the store. Blocks.
    ///
    /// # Errors
    ///
    /// ATTRIBUTE_WRONG if `store_path` is another one; STORE: then the next start goes on with it.
    pub fn zeroize(&self, store_path: &str) -> Result<(), Failure> {
        let mut turn = self.turn();
        if store_path != self.location {
            return refuse!(
                AttributeWrong,
                "this node's store is {}, not {store_path}: nothing was destroyed",
                self.location
            );
        }
        let Source::Files(files) = &self.source else {
            return refuse!(Unsupported, "this node's key was given to it");
        };
        turn.clear();
        self.set(State::Zeroized);
        tracing::warn!(target: "audit", event = "zeroized", "the node was zeroized");
        destroy(files)
    }
}

impl Opened {
    /// Keeps what was found, so that a restart does not forget it: in what the node has for itself. What lies in a store that is
    /// shared the other nodes find too, if it is so: it is not theirs to be told.
    fn note_tampering(&self, what: &str) {
        if self.store().is_shared() {
            return;
        }
        let mut root = self.root();
        let mut changed = root.clone();
        changed.tampered = Some(TamperRecord { found: now(), what: what.to_owned() });
        // If the store does not take it, what is wrong with it will show.
        if let Err(error) = self.write_root(&mut root, changed, Batch::default()) {
            tracing::error!("what was found is not in the store: {error}");
        }
    }
}

fn destroy(files: &Files) -> Result<(), Failure> {
    files.destroy().map_err(|error| {
        let message = format!(
            "not everything could be overwritten: {error}; no key is in memory, and the next start of strongroomd \
             goes on with it"
        );
        Failure::new(strongroom_protocol::v1::ErrorCode::Store, message)
    })
}

pub(super) fn copy(key: &SealingKey) -> Result<SealingKey, Failure> {
    match SealingKey::new(SecretBytes::from(key.bytes())) {
        Some(key) => Ok(key),
        None => refuse!(Internal, "a key of another length"),
    }
}

/// The node key, or how many shares there are.
fn unlock_by(
    record: &SealRecord,
    unlock: Unlock,
    given: &mut Vec<SecretBytes>,
) -> Result<Result<SealingKey, Progress>, Failure> {
    let Some(quorum) = record.quorum() else {
        return record.open(&unlock.passphrase, &[]).map(Ok);
    };
    for share in unlock.shares {
        quorum::belongs(quorum, &share)?;
        if !given.iter().any(|other| other.first() == share.first()) {
            given.push(share);
        }
    }
    if given.len() < quorum.needed as usize {
        return Ok(Err((given.len() as u32, quorum.needed)));
    }
    let key = record.open("", given);
    given.clear();
    key.map(Ok)
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            error => {
                tracing::error!("{error}");
                Failure::new(strongroom_protocol::v1::ErrorCode::Store, error.to_string())
            }
        }
    }
}
