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
use std::time::Duration;

use prost::Message;

use super::mark::Prepared;
use super::{Batch, Mark, Snapshot, Store, StoreError, Turn};
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
    /// Of a store that several nodes share: the hash of the ledger before, 32 bytes.
    #[prost(bytes = "vec", tag = "100")]
    previous: Vec<u8>,
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

/// Why a change of another node is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The ledger does not open.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It is not newer than the one before.
    #[error("the ledger was put back to an earlier time")]
    PutBack,
    /// It was written after another one.
    #[error("the ledger does not go on from the one that this node has seen last: there is another history")]
    Chain,
    /// The crypto library.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What this node has seen last.
    #[error("the mark of what this node has seen last: {0}")]
    Mark(#[from] std::io::Error),
    /// Records were changed beside it.
    #[error("the ledger does not name the records that were changed with it")]
    Entries,
}

/// A ledger that was opened.
struct Page {
    epoch: u64,
    entries: BTreeMap<String, Element>,
    previous: Vec<u8>,
}

impl Page {
    fn open(node_key: &SealingKey, record: &[u8]) -> Result<Self, LedgerError> {
        let (epoch, plain) = node_key.open(LEDGER, record)?;
        let read = LedgerRecord::decode(&*plain).map_err(|_| LedgerError::Form)?;
        let mut entries = BTreeMap::new();
        for entry in read.entries {
            let element = Element::from_bytes(&entry.element).ok_or(LedgerError::Form)?;
            entries.insert(entry.name, element);
        }
        Ok(Page { epoch, entries, previous: read.previous })
    }
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
    /// Its hash.
    last: Element,
    /// Where this node notes what it has seen.
    mark: Option<Mark>,
    entries: BTreeMap<String, Element>,
}

/// Whether the ledger has an entry for a record: the root, and what a partition has one of. What it has many
/// of is in its header's hash.
pub fn is_listed(name: &str) -> bool {
    let is_beside = [CHAIN, HAND_OVER, LOG_OUTS].iter().any(|folder| name.starts_with(folder));
    name != LEDGER && !is_beside && name.split('/').count() <= 3
}

/// Where a store that several nodes share has the hashes of earlier ledgers, by number.
pub const CHAIN: &str = "chain/";

/// Where a store that several nodes share has the keys that took the place of earlier ones.
pub const HAND_OVER: &str = "hand-over/";

/// Where log-ins are that have ended before their time, by partition. None of them is listed: each says something by itself.
pub const LOG_OUTS: &str = "log-out/";

/// So many are kept: who was away for longer cannot tell whether the store was put back meanwhile.
const CHAIN_LENGTH: u64 = 10_000;

/// The name of a ledger's link.
fn link_name(epoch: u64) -> String {
    format!("{CHAIN}{epoch:016x}")
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
        let last = Element::default();
        let books = Books { store, node_key, set_key, epoch: 0, written: 0, last, mark: None, entries };
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
        let record = record.ok_or(LedgerError::Missing)?;
        let Page { epoch, entries: expected, .. } = Page::open(&node_key, record)?;
        let ledger = Self::begin(store, node_key, listed)?;
        let mut wrong = Vec::new();
        if let Some(books) = ledger.lock().as_mut() {
            (books.epoch, books.written) = (epoch, epoch);
            books.last = books.set_key.element(LEDGER, record);
            wrong.extend(
                books.entries.iter().filter(|(n, e)| expected.get(*n) != Some(e)).map(|(n, _)| n.clone()),
            );
            wrong.extend(expected.keys().filter(|name| !books.entries.contains_key(*name)).cloned());
        }
        Ok((ledger, wrong))
    }

    /// Compares what lies in the store with what this node has seen last, and notes what it sees from now on. `links`: what lies
    /// under [`CHAIN`]. `anew`: what there is counts, whatever was seen before.
    ///
    /// # Errors
    ///
    /// [`AdoptError::PutBack`], [`AdoptError::Chain`], and [`AdoptError::Mark`] if the mark cannot be read or written.
    pub fn follow_on(
        &self,
        mark: Mark,
        links: &BTreeMap<String, Vec<u8>>,
        anew: bool,
    ) -> Result<(), AdoptError> {
        let mut guard = self.lock();
        let Some(books) = guard.as_mut() else { return Ok(()) };
        if let Some((seen, element)) = mark.read()?.filter(|_| !anew) {
            if seen > books.written {
                return Err(AdoptError::PutBack);
            }
            let mut last = element;
            let after = link_name(seen);
            for (name, link) in links.range(after.clone()..).filter(|(name, _)| **name != after) {
                let (_, plain) = mark.open(name, link).map_err(LedgerError::from)?;
                let (previous, this) = plain.split_at_checked(32).ok_or(AdoptError::Chain)?;
                if previous != last.to_bytes() {
                    return Err(AdoptError::Chain);
                }
                last = Element::from_bytes(this).ok_or(AdoptError::Chain)?;
            }
            if last != books.last {
                return Err(AdoptError::Chain);
            }
        }
        mark.write((books.written, books.last))?;
        books.mark = Some(mark);
        Ok(())
    }

    /// Goes on with a change that another node has made: records by name, `None` for those that are gone.
    ///
    /// # Errors
    ///
    /// What is wrong with it: then the records are not what nodes wrote.
    pub fn adopt(&self, records: &BTreeMap<String, Option<Vec<u8>>>) -> Result<(), AdoptError> {
        let mut guard = self.lock();
        guard.as_mut().map_or(Ok(()), |books| books.adopt(records))
    }

    /// As [`Ledger::adopt`], of a change by which another key takes the place of this one. `kept`: the listed records that it has
    /// left as they were.
    ///
    /// # Errors
    ///
    /// As [`Ledger::adopt`]; the key is the one before then.
    pub fn adopt_under(
        &self,
        key: Arc<SealingKey>,
        kept: &BTreeMap<String, Vec<u8>>,
        records: &BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<(), AdoptError> {
        let mut guard = self.lock();
        let Some(books) = guard.as_mut() else { return Ok(()) };
        books.under(key, kept, |books| books.adopt(records))
    }

    /// Makes a change by which another key takes the place of this one. `kept`: the listed records that it leaves as they are.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the key is the one before then.
    pub fn renew(
        &self,
        key: Arc<SealingKey>,
        kept: &BTreeMap<String, Vec<u8>>,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        let mut guard = self.lock();
        let Some(books) = guard.as_mut() else {
            return Err(StoreError::Closed { location: self.location.clone() });
        };
        let is_there = |name: &String| batch.changes.contains_key(name) || books.has(name, kept);
        if let Some(name) = books.entries.keys().find(|name| !is_there(name)) {
            let reason = format!("the record {name} is not the one that was written last");
            return Err(StoreError::Damaged { location: self.location.clone(), reason });
        }
        books.under(key, kept, |books| books.commit(batch))
    }

    /// The names of all records that are listed.
    pub fn listed(&self) -> Vec<String> {
        self.lock().as_ref().map_or_else(Vec::new, |books| books.entries.keys().cloned().collect())
    }

    /// Whether a record is the one that was written last under its name.
    pub fn is_last(&self, name: &str, record: &[u8]) -> bool {
        let guard = self.lock();
        guard.as_ref().is_some_and(|books| {
            books.entries.get(name).is_some_and(|known| *known == books.set_key.element(name, record))
        })
    }

    /// The number of the last change.
    pub fn epoch(&self) -> u64 {
        self.lock().as_ref().map_or(0, |books| books.written)
    }

    /// The number of the last change, and the hash of the ledger that it wrote.
    pub fn last(&self) -> (u64, Element) {
        self.lock().as_ref().map_or((0, Element::default()), |books| (books.written, books.last))
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

    /// Gives the store up for another one: what `work` has made of its records is written last, and nothing is written meanwhile or
    /// afterwards.
    ///
    /// # Errors
    ///
    /// Those of `work`, and [`StoreError`]: then it is not given up.
    pub fn hand_over<E: From<StoreError>>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<Batch, E>,
    ) -> Result<(), E> {
        let mut guard = self.lock();
        let Some(books) = guard.as_mut() else {
            return Err(StoreError::Closed { location: self.location.clone() }.into());
        };
        let last = work(&*books.store)?;
        books.commit(&last)?;
        drop(guard.take());
        Ok(())
    }

    /// Lets go of the store when `work` has read what is there: nothing is written meanwhile, or afterwards. `work` is told the
    /// number of the last change.
    ///
    /// # Errors
    ///
    /// Those of `work`: then all is as it was.
    pub fn give_way<T, E>(&self, work: impl FnOnce(u64) -> Result<T, E>) -> Result<T, E> {
        let mut guard = self.lock();
        let done = work(guard.as_ref().map_or(0, |books| books.written))?;
        drop(guard.take());
        Ok(done)
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
    /// Whether these are the bytes that were written last under a name.
    fn has(&self, name: &String, records: &BTreeMap<String, Vec<u8>>) -> bool {
        let is_last = |record| self.entries.get(name) == Some(&self.set_key.element(name, record));
        records.get(name).is_some_and(|record| is_last(record))
    }

    /// Does `work` under another key, with a list of what `kept` has of this one's, and goes on with it if that succeeds.
    fn under<T, E: From<SealError>>(
        &mut self,
        key: Arc<SealingKey>,
        kept: &BTreeMap<String, Vec<u8>>,
        work: impl FnOnce(&mut Books) -> Result<T, E>,
    ) -> Result<T, E> {
        let set_key = key.set_key()?;
        let same = kept.iter().filter(|(name, _)| self.has(name, kept));
        let entries = same.map(|(name, record)| (name.clone(), set_key.element(name, record))).collect();
        let mark = self.mark.as_ref().map(|mark| mark.under(Arc::clone(&key)));
        let before_mark = std::mem::replace(&mut self.mark, mark);
        let before_key = std::mem::replace(&mut self.node_key, key);
        let before_set_key = std::mem::replace(&mut self.set_key, set_key);
        let before_entries = std::mem::replace(&mut self.entries, entries);
        let done = work(self);
        if done.is_err() {
            (self.mark, self.node_key) = (before_mark, before_key);
            (self.set_key, self.entries) = (before_set_key, before_entries);
        }
        done
    }

    fn adopt(&mut self, records: &BTreeMap<String, Option<Vec<u8>>>) -> Result<(), AdoptError> {
        let record = records.get(LEDGER).and_then(Option::as_deref).ok_or(LedgerError::Missing)?;
        let Page { epoch, entries, previous } = Page::open(&self.node_key, record)?;
        if epoch <= self.written {
            return Err(AdoptError::PutBack);
        }
        if previous != self.last.to_bytes() {
            return Err(AdoptError::Chain);
        }
        let mut expected = self.entries.clone();
        for (name, change) in records.iter().filter(|(name, _)| is_listed(name)) {
            match change {
                Some(record) => drop(expected.insert(name.clone(), self.set_key.element(name, record))),
                None => drop(expected.remove(name)),
            }
        }
        if expected != entries {
            return Err(AdoptError::Entries);
        }
        (self.epoch, self.written) = (epoch.max(self.epoch), epoch);
        self.last = self.set_key.element(LEDGER, record);
        self.entries = entries;
        self.note();
        Ok(())
    }

    /// Notes what another node has changed, before anybody is told of it. Keys are used on if that fails; this node changes nothing
    /// then.
    fn note(&self) {
        if let Some(Err(error)) = self.mark.as_ref().map(|mark| mark.write((self.written, self.last))) {
            self.is_not_noted(&error);
        }
    }

    fn is_not_noted(&self, error: &std::io::Error) {
        tracing::error!(
            "what this node has seen of {} is not noted, and whether that is put back while it is away will not show: {error}",
            self.store.location()
        );
    }

    fn seal(&self, epoch: u64, entries: &BTreeMap<String, Element>) -> Result<Vec<u8>, SealError> {
        let entries = entries
            .iter()
            .map(|(name, element)| EntryRecord { name: name.clone(), element: element.to_bytes().to_vec() })
            .collect();
        // A copy of one machine's store goes on from where it is; nodes that share a store see every change.
        let previous = if self.store.is_shared() { self.last.to_bytes().to_vec() } else { Vec::new() };
        let plain = LedgerRecord { epoch, entries, previous }.encode_to_vec();
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
        let location = self.store.location();
        let failed =
            |error: SealError| StoreError::Failed { location: location.clone(), reason: error.to_string() };
        let sealed = self.seal(self.epoch, &entries).map_err(failed)?;
        let last = self.set_key.element(LEDGER, &sealed);
        let mut batch = batch.clone();
        batch.put(LEDGER.to_owned(), sealed);
        if self.store.is_shared() {
            let name = link_name(self.epoch);
            let link = [self.last.to_bytes(), last.to_bytes()].concat();
            let link =
                self.node_key.seal(&name, self.epoch, SecretBytes::from(link.as_slice())).map_err(failed)?;
            batch.put(name, link);
            if let Some(old) = self.epoch.checked_sub(CHAIN_LENGTH) {
                batch.delete(link_name(old));
            }
        }
        // Where this node cannot note what it has seen, it changes nothing.
        let unwritable = |error: std::io::Error| StoreError::Failed {
            location: "of what this node has seen last".to_owned(),
            reason: error.to_string(),
        };
        let mark = self.mark.as_ref().map(|mark| mark.prepare((self.epoch, last)));
        let mark = mark.transpose().map_err(unwritable)?;
        self.store.commit(&batch)?;
        (self.entries, self.written, self.last) = (entries, self.epoch, last);
        if let Some(Err(error)) = mark.map(Prepared::note) {
            self.is_not_noted(&error);
        }
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

    fn turn(&self) -> Result<Turn, StoreError> {
        // Not while the books are held: what other nodes have changed has to come in.
        let store = self.lock().as_ref().map(|books| Arc::clone(&books.store));
        match store {
            Some(store) => store.turn(),
            None => Err(StoreError::Closed { location: self.location.clone() }),
        }
    }

    fn note(&self, batch: &Batch, life: Duration) -> Result<(), StoreError> {
        // Nobody who changes something waits for it.
        let store = self.lock().as_ref().map(|books| Arc::clone(&books.store));
        match store {
            Some(store) => store.note(batch, life),
            None => Err(StoreError::Closed { location: self.location.clone() }),
        }
    }

    fn is_shared(&self) -> bool {
        self.lock().as_ref().is_some_and(|books| books.store.is_shared())
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        // Nobody waits for etcd meanwhile.
        let store = self.lock().as_ref().map(|books| Arc::clone(&books.store));
        match store {
            Some(store) => store.snapshot(),
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
