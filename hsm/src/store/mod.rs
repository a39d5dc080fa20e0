//! Where sealed records lie: names to bytes, changed all at once or not at all.
//!
//! The interface is what both an embedded file and a replicated store can give. What it holds is sealed
//! before it comes here; a store that loses, repeats or mixes up records is found out when it is loaded.

mod ledger;
mod redb;

pub use self::ledger::{Ledger, LedgerError, is_listed};
pub use self::redb::RedbStore;

use std::collections::BTreeMap;
use std::fmt;

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
