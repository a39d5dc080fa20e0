//! The ledger: one record over all partitions' headers, written with every change of one of them.
//!
//! A partition's header tells whether the partition's records are the ones that it last had. It cannot tell
//! that it was put back together with all of them. The ledger lies beside all partitions, sealed by the node's
//! key, and holds a keyed hash of the root, of every partition's key and of every header: what was put back is
//! not the one that it names. (Only a store that is put back as a whole shows nothing: that is what a copy of
//! the machine's disk does, and no file on that disk can tell.)

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message;

use super::{Batch, Snapshot, Store, StoreError};
use crate::memory::SecretBytes;
use crate::records::{LEDGER, ROOT};
use crate::seal::{Element, SealError, SealingKey, SetKey};

/// What the ledger says, as it lies in the store.
#[derive(Clone, PartialEq, Message)]
struct LedgerRecord {
    /// Counts the changes of the node.
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryRecord {
    #[prost(string, tag = "1")]
    name: String,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    element: Vec<u8>,
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It has to be there.
    #[error("the record {LEDGER}, which tells whether partitions were put back, is missing")]
    Missing,
    /// It was edited, or is of another node.
    #[error("the record {LEDGER}: {0}")]
    Sealed(#[from] SealError),
    /// Not of this release.
    #[error("the record {LEDGER} is of a form that this release does not know")]
    Form,
}

/// A store that keeps the ledger beside what is written into it.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Option<Books>>,
    location: String,
    alarms: Mutex<Option<Sender<String>>>,
}

#[derive(Debug)]
struct Books {
    store: Arc<dyn Store>,
    node_key: Arc<SealingKey>,
    set_key: SetKey,
    epoch: u64,
    /// The epoch of the ledger in the store.
    written: u64,
    entries: BTreeMap<String, Element>,
}

/// Whether the ledger has an entry for a record: the root, and what a partition has one of. What it has many
/// of is in its header's hash.
pub fn is_listed(name: &str) -> bool {
    name != LEDGER && name.split('/').count() <= 3
}

impl Ledger {
    /// A ledger of what a store holds now. It is written with the next change.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn begin<'a>(
        store: Arc<dyn Store>,
        node_key: Arc<SealingKey>,
        listed: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, SealError> {
        let set_key = node_key.set_key()?;
        let entries = listed.map(|(name, record)| (name.to_owned(), set_key.element(name, record))).collect();
        let location = store.location();
        let books = Books { store, node_key, set_key, epoch: 0, written: 0, entries };
        Ok(Self { books: Mutex::new(Some(books)), location, alarms: Mutex::default() })
    }

    /// Compares the ledger with the records that it lists, and goes on with it. Second: the names of those that
    /// are not as they last were, or are missing, or should not be there.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]: then nothing can be told.
    pub fn open<'a>(
        store: Arc<dyn Store>,
        node_key: Arc<SealingKey>,
        record: Option<&[u8]>,
        listed: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(Self, Vec<String>), LedgerError> {
        let (epoch, plain) = node_key.open(LEDGER, record.ok_or(LedgerError::Missing)?)?;
        let read = LedgerRecord::decode(&*plain).map_err(|_| LedgerError::Form)?;
        let mut expected = BTreeMap::new();
        for entry in read.entries {
            let element = Element::from_bytes(&entry.element).ok_or(LedgerError::Form)?;
            expected.insert(entry.name, element);
        }
        let ledger = Self::begin(store, node_key, listed)?;
        let mut wrong = Vec::new();
        if let Some(books) = ledger.lock().as_mut() {
            (books.epoch, books.written) = (epoch, epoch);
            wrong.extend(
                books.entries.iter().filter(|(n, e)| expected.get(*n) != Some(e)).map(|(n, _)| n.clone()),
            );
            wrong.extend(expected.keys().filter(|name| !books.entries.contains_key(*name)).cloned());
        }
        Ok((ledger, wrong))
    }

    /// Where alarms go, see [`Store::alarm`].
    pub fn report_to(&self, alarms: Sender<String>) {
        *self.alarms.lock().unwrap_or_else(PoisonError::into_inner) = Some(alarms);
    }

    /// Reads the store again from where it lies, shows every record to `visit`, and compares those that are
    /// listed. The answer is the names of those that are not as they were last written. Commits wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn check(&self, visit: &mut dyn FnMut(&str, &[u8])) -> Result<Vec<String>, StoreError> {
        let guard = self.lock();
        let Some(books) = guard.as_ref() else {
            return Err(StoreError::Closed { location: self.location.clone() });
        };
        books.store.read_again()?;
        let (mut wrong, mut seen, mut epoch) = (Vec::new(), 0, None);
        books.store.scan(&mut |name, record| {
            if is_listed(name) {
                seen += 1;
                if books.entries.get(name) != Some(&books.set_key.element(name, record)) {
                    wrong.push(name.to_owned());
                }
            } else if name == LEDGER {
                epoch = books.node_key.open(LEDGER, record).ok().map(|(epoch, _)| epoch);
            }
            visit(name, record);
        })?;
        if wrong.is_empty() && seen != books.entries.len() {
            wrong.push(ROOT.to_owned());
        }
        // Before its first change a ledger is not written.
        if epoch.is_some() && epoch != Some(books.written) || epoch.is_none() && books.written != 0 {
            wrong.push(LEDGER.to_owned());
        }
        Ok(wrong)
    }

    /// Lets go of the store and of the node's key. Changes that come after are refused.
    pub fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Books>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn seal(&self, epoch: u64, entries: &BTreeMap<String, Element>) -> Result<Vec<u8>, SealError> {
        let entries = entries
            .iter()
            .map(|(name, element)| EntryRecord { name: name.clone(), element: element.to_bytes().to_vec() })
            .collect();
        let plain = LedgerRecord { epoch, entries }.encode_to_vec();
        self.node_key.seal(LEDGER, epoch, SecretBytes::from(plain.as_slice()))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if !batch.changes.keys().any(|name| is_listed(name)) {
            return self.store.commit(batch);
        }
        let mut entries = self.entries.clone();
        for (name, change) in batch.changes.iter().filter(|(name, _)| is_listed(name)) {
            match change {
                Some(record) => drop(entries.insert(name.clone(), self.set_key.element(name, record))),
                None => drop(entries.remove(name)),
            }
        }
        // A failed commit leaves a gap: no two ledgers ever have the same epoch.
        self.epoch += 1;
        let sealed = self.seal(self.epoch, &entries).map_err(|error| StoreError::Failed {
            location: self.store.location(),
            reason: error.to_string(),
        })?;
        let mut batch = batch.clone();
        batch.put(LEDGER.to_owned(), sealed);
        self.store.commit(&batch)?;
        (self.entries, self.written) = (entries, self.epoch);
        Ok(())
    }
}

impl Store for Ledger {
    fn scan(&self, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError> {
        match self.lock().as_ref() {
            Some(books) => books.store.scan(visit),
            None => Err(StoreError::Closed { location: self.location.clone() }),
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        match self.lock().as_mut() {
            Some(books) => books.commit(batch),
            None => Err(StoreError::Closed { location: self.location.clone() }),
        }
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        match self.lock().as_ref() {
            Some(books) => books.store.snapshot(),
            None => Err(StoreError::Closed { location: self.location.clone() }),
        }
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn alarm(&self, what: String) {
        if let Some(alarms) = self.alarms.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Nobody listens when the vault is gone.
            let _ = alarms.send(what);
        }
    }
}
