//! Looks whether the store is still what the node remembers, and hears alarms.

use std::collections::HashMap;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::load::owner_of;
use super::{Slot, Vault};
use crate::failure::Failure;
use crate::partition::Partition;
use crate::records::{Names, ROOT};
use crate::seal::SetHash;
use crate::store::{StoreError, is_listed};

/// How soon the store is looked at that could not be while backups were read.
const AGAIN: Duration = Duration::from_secs(5);

/// Why nothing can be said.
enum Unseen {
    /// The store cannot be read.
    Store(StoreError),
    /// The node is not open.
    Closed(Failure),
}

/// Compares the store with the vault's memory every `interval`, and at once when a record does not open. Ends
/// with the vault.
pub fn watch(vault: &Arc<Vault>, interval: Duration) {
    let Some(alarm) = vault.alarm.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let vault: Weak<Vault> = Arc::downgrade(vault);
    let run = move || {
        // Since when the store is read by backups, and not looked at.
        let mut busy: Option<Instant> = None;
        loop {
            let heard = alarm.recv_timeout(if busy.is_some() { interval.min(AGAIN) } else { interval });
            let Some(vault) = vault.upgrade() else { return };
            match heard {
                Ok(what) => vault.tampered(&what),
                Err(RecvTimeoutError::Timeout) => match vault.look() {
                    Err(Unseen::Store(StoreError::Busy { .. })) => {
                        let since = *busy.get_or_insert_with(Instant::now);
                        // One backup after the other would keep it from being looked at for ever.
                        vault.transfers().hold_off(since.elapsed() >= interval);
                    }
                    _ => {
                        busy = None;
                        vault.transfers().hold_off(false);
                    }
                },
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("store check".to_owned()).spawn(run) {
        tracing::error!("the store is not checked while the daemon runs: {error}");
    }
}

impl Vault {
    /// Reads the whole store again from the disk and compares it with what the node remembers. What is not the
    /// same puts the node in the state TAMPERED. Changes wait meanwhile, signatures do not. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::ready`], and STORE if it cannot be read: that tells nothing.
    pub fn check(&self) -> Result<(), Failure> {
        self.look().map_err(|unseen| match unseen {
            Unseen::Store(error) => error.into(),
            Unseen::Closed(failure) => failure,
        })
    }

    fn look(&self) -> Result<(), Unseen> {
        let opened = self.opened().map_err(Unseen::Closed)?;
        // Nor does another node change anything that is not in memory.
        let _turn = opened.store().turn().map_err(Unseen::Store)?;
        // No partition comes or goes meanwhile.
        let root = opened.root();
        let partitions: HashMap<String, Arc<Partition>> = opened
            .slots()
            .values()
            .filter_map(|slot| match slot {
                Slot::Sound(partition) => Some(partition),
                Slot::Damaged { .. } => None,
            })
            .map(|partition| (Names::of(partition.number()).prefix().to_owned(), Arc::clone(partition)))
            .collect();
        let mut sums: HashMap<&str, (SetHash, Option<SetHash>)> = HashMap::new();
        let mut wrong = None;
        let looked = opened.ledger.check(&mut |name, record| {
            let Some((prefix, partition)) = partitions.get_key_value(owner_of(name)) else {
                return;
            };
            let (sum, expected) = sums.entry(prefix.as_str()).or_default();
            if !is_listed(name) {
                sum.toggle(partition.element(name, record));
            } else if *name == *partition.header_name() {
                *expected = partition.expected(record);
            }
        });
        drop(root);
        match looked {
            Err(error @ StoreError::Damaged { .. }) => wrong = Some(error.to_string()),
            Err(error) => return Err(Unseen::Store(error)),
            Ok(mut names) => {
                // Of a node of a cluster, what it keeps for itself.
                if let Some(own) = &opened.own {
                    names.extend(own.ledger.check(&mut |_, _| {}).map_err(Unseen::Store)?);
                }
                let store = self.location();
                wrong = wrong.or_else(|| {
                    names.first().map(|name| match name.as_str() {
                        ROOT => format!("the root record in {store} is not the one that the node wrote"),
                        name => format!("the record {name} in {store} is not the one that the node wrote"),
                    })
                });
                let odd = partitions.iter().find(|(prefix, _)| {
                    !matches!(sums.get(prefix.as_str()), Some((sum, Some(expected))) if sum == expected)
                });
                wrong = wrong.or_else(|| {
                    odd.map(|(_, partition)| {
                        format!(
                            "the records of partition {} \"{}\" in {store} are not the ones that the node wrote",
                            partition.number(),
                            partition.label()
                        )
                    })
                });
            }
        }
        match wrong {
            Some(what) => {
                self.tampered(&what);
                self.ready().map_err(Unseen::Closed)
            }
            None => Ok(()),
        }
    }
}
