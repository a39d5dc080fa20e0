//! Where sealed records lie: names to bytes, changed all at once or not at all.
//!
//! The interface is what both an embedded file and a replicated store can give. What it holds is sealed
//! before it comes here; a store that loses, repeats or mixes up records is found out when it is loaded.

pub mod etcd;
mod ledger;
mod mark;
mod redb;

pub use self::etcd::EtcdStore;
pub use self::ledger::{AdoptError, CHAIN, HAND_OVER, LOG_OUTS, Ledger, LedgerError, is_listed};
pub use self::mark::Mark;
pub use self::redb::RedbStore;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or reading or writing failed. Nothing was changed.
    #[error(
        "the store {location} cannot be written: {reason}; nothing was changed: free space on its disk, or repair it, and try again"
    )]
    Failed {
        /// The file.
        location: String,
        /// What the system said.
        reason: String,
    },
    /// The contents are not what was written.
    #[error("the store {location} is damaged: {reason}; stop strongroomd and restore the file from a backup")]
    Damaged {
        /// The file.
        location: String,
        /// What does not fit.
        reason: String,
    },
    /// It is not read again from its beginning now.
    #[error("the store {location} is not looked at now: {reason}; try again in a while")]
    Busy {
        /// The file.
        location: String,
        /// What is going on.
        reason: String,
    },
    /// Too few of those who keep the records answer.
    #[error(
        "the store {location} takes no changes now, because no majority of its members answers ({reason}): nothing was changed. \
         Keys are used on for as long as the cluster's lease says; see that etcd's members run and reach each other"
    )]
    NoMajority {
        /// The members.
        location: String,
        /// What the last one that was asked said, or did not say.
        reason: String,
    },
    /// The answer to a change was lost.
    #[error(
        "it is not known whether the change was made: the store {location} did not answer ({reason}). Look whether it was, before \
         you repeat it"
    )]
    Unknown {
        /// The members.
        location: String,
        /// What the last one that was asked said, or did not say.
        reason: String,
    },
    /// Somebody else has changed the records first.
    #[error(
        "the store {location} was changed by another node at the same time: nothing was changed here, try again"
    )]
    Conflict {
        /// The members.
        location: String,
    },
    /// The crypto library.
    #[error("{0}: nothing was changed")]
    Seal(#[from] crate::seal::SealError),
    /// What was being read is gone: a change failed meanwhile, and the file was opened again.
    #[error(
        "reading the store {location} was interrupted, because a change failed meanwhile: begin the backup again; the log says \
         why the change failed"
    )]
    Interrupted {
        /// The file.
        location: String,
    },
    /// The node was sealed.
    #[error("the store {location} was closed: nothing was changed; 'strongroom status' says why")]
    Closed {
        /// The file.
        location: String,
    },
}

/// The right to change what several nodes share, until it is dropped: by the thread that took it.
#[derive(Default)]
pub struct Turn(Option<Box<dyn Held>>);

/// What is given back when it is dropped.
trait Held {}

impl<T> Held for T {}

impl Turn {
    /// Gives `held` back at its end.
    fn of(held: impl Sized + 'static) -> Self {
        Turn(Some(Box::new(held)))
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turn").field(&self.0.is_some()).finish()
    }
}

/// Changes that are made together.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// Per name: the new record, or `None` to delete it.
    pub changes: BTreeMap<String, Option<Vec<u8>>>,
}

impl Batch {
    /// Writes `record` under `name`.
    pub fn put(&mut self, name: String, record: Vec<u8>) {
        self.changes.insert(name, Some(record));
    }

    /// Deletes what is under `name`.
    pub fn delete(&mut self, name: String) {
        self.changes.insert(name, None);
    }
}

/// The records of a store as they were at one moment.
pub trait Snapshot: Send {
    /// The next records whose names begin with `prefix` and come after `after`, in the order of names: about `bytes`
    /// bytes of them, at least one if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the store cannot be read.
    fn page(&mut self, prefix: &str, after: &str, bytes: usize)
    -> Result<Vec<(String, Vec<u8>)>, StoreError>;
}

/// Records in memory: the snapshot of a store that has none of its own.
impl Snapshot for BTreeMap<String, Vec<u8>> {
    fn page(
        &mut self,
        prefix: &str,
        after: &str,
        bytes: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (mut page, mut size) = (Vec::new(), 0);
        let from = if after > prefix { after } else { prefix };
        let records = self.range(from.to_owned()..).filter(|(name, _)| name.as_str() > after);
        for (name, record) in records.take_while(|(name, _)| name.starts_with(prefix)) {
            page.push((name.clone(), record.clone()));
            size += record.len();
            if size >= bytes {
                break;
            }
        }
        Ok(page)
    }
}

/// Keeps records.
pub trait Store: Send + Sync {
    /// Shows every record to `visit`, in the order of names.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the store itself sees that it is.
    fn scan(&self, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError>;

    /// Makes all changes of the batch, or none; returns when they will survive a loss of power. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`]: nothing was changed, and the next commit starts from there even if the failed
    /// one had reached the disk in part.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Takes the turn to change the records, before memory is looked at and before any lock on it: other nodes that share the
    /// store wait, and what they have changed is in memory. Taken again by the thread that has it, it costs nothing. A store of
    /// one node has no turns.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMajority`], [`StoreError::Busy`].
    fn turn(&self) -> Result<Turn, StoreError> {
        Ok(Turn::default())
    }

    /// Makes all changes of the batch, to records that count each by itself: no turn is needed, and no ledger names them. What is
    /// written may go by itself when so much time is over. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    fn note(&self, batch: &Batch, _life: Duration) -> Result<(), StoreError> {
        self.commit(batch)
    }

    /// Whether other nodes change the records, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// The records as they are now, whatever is written afterwards.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let mut all = BTreeMap::new();
        self.scan(&mut |name, record| drop(all.insert(name.to_owned(), record.to_vec())))?;
        Ok(Box::new(all))
    }

    /// Forgets what it has in memory of the records and reads them from where they lie. A store that has nothing
    /// in memory does nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if they are not what was written.
    fn read_again(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Says that a record is not what was written. Nobody hears it unless the store is a [`Ledger`].
    fn alarm(&self, what: String) {
        tracing::error!("{what}");
    }

    /// Where the records are, for messages: a path.
    fn location(&self) -> String;
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.location()).finish()
    }
}
