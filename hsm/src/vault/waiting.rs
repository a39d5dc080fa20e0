//! A node of a cluster that is started while no majority of etcd's members answers: it waits, says so, and goes on by itself.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::load::{Decision, Opened};
use super::{Source, State, Vault, VaultError};
use crate::store::StoreError;

/// Between two attempts. Each takes as long as a member of etcd is looked for.
const PAUSE: Duration = Duration::from_secs(1);

/// What was found in the node's own store and behind it.
pub(super) enum Loaded {
    /// All partitions.
    Whole(Box<Opened>),
    /// The node is of a cluster, whose store does not answer.
    Waits(Waiting),
}

/// A node that has its own store.
pub(super) struct Waiting {
    pub(super) own: Arc<Opened>,
    /// What the last member of etcd said, or did not say.
    pub(super) why: String,
}

impl Vault {
    /// Goes on with what was loaded, or waits for it, see [`Vault::follow_etcd`].
    pub(super) fn take_into_use(&self, loaded: Loaded) {
        match loaded {
            Loaded::Whole(opened) => self.enter(*opened),
            Loaded::Waits(waiting) => {
                tracing::error!("the node waits for its partitions: {}", waiting.why);
                self.set(State::Waiting(Arc::new(waiting)));
            }
        }
    }

    /// Whether the node has no keys yet because etcd does not answer.
    pub fn is_waiting(&self) -> bool {
        matches!(&*self.state(), State::Waiting(_))
    }

    /// Loads the partitions as soon as etcd answers, unless the node is sealed before.
    pub(super) fn wait_for_etcd(&self, waiting: &Arc<Waiting>) -> Result<(), VaultError> {
        let Some(vault) = self.me.get().cloned() else { return Ok(()) };
        let waiting = Arc::clone(waiting);
        let wait = move || {
            while try_again(&vault, &waiting) {
                thread::sleep(PAUSE);
            }
        };
        let thread = |source| VaultError::Thread { what: "the wait for etcd", source };
        thread::Builder::new().name("etcd wait".to_owned()).spawn(wait).map(drop).map_err(thread)
    }

    fn still_waits(&self, waiting: &Arc<Waiting>) -> bool {
        matches!(&*self.state(), State::Waiting(current) if Arc::ptr_eq(current, waiting))
    }
}

/// Whether it is to be tried once more.
fn try_again(vault: &Weak<Vault>, waiting: &Arc<Waiting>) -> bool {
    let Some(vault) = vault.upgrade().filter(|vault| vault.still_waits(waiting)) else { return false };
    // Without the turn: the owner may seal the node meanwhile.
    let loaded = vault.load_shared(&waiting.own, &Decision::default());
    let _turn = vault.turn();
    if !vault.still_waits(waiting) {
        return false;
    }
    match loaded {
        Ok(None) => {
            if let Source::Files(files) = &vault.source
                && let Err(failure) = vault.reopen(Arc::clone(&waiting.own), files)
            {
                tracing::error!("what this node keeps for itself was not opened again: {failure}");
            }
            false
        }
        Ok(Some(opened)) => {
            vault.enter(opened);
            tracing::warn!("etcd answers: the node has its partitions");
            if let Err(error) = vault.follow_etcd() {
                vault.unusable(error);
            }
            false
        }
        Err(VaultError::Store(StoreError::NoMajority { .. })) => true,
        Err(error @ (VaultError::Damaged { .. } | VaultError::Store(StoreError::Damaged { .. }))) => {
            vault.unusable(error);
            false
        }
        Err(error) => {
            tracing::error!("the partitions are not loaded, and it is tried again: {error}");
            true
        }
    }
}
