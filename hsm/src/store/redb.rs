//! The embedded store: one redb file.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
};
use rustix::fs::Advice;

use super::{Batch, Snapshot, Store, StoreError};

const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");

/// The file's pages that redb keeps in memory, in bytes. Records are read once, at start.
const CACHE: usize = 16 << 20;

/// A store in one file, held open and locked.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` after a failure: redb wants to be opened again.
    database: Option<Database>,
    /// Undoes a commit that failed and may yet have reached the disk; made part of the next one.
    undo: Batch,
    /// Those that are being read: they have to end before the file can be opened again.
    snapshots: Vec<Weak<Reading>>,
}

/// A snapshot's transaction; `None` when it had to end.
type Reading = Mutex<Option<ReadTransaction>>;

impl RedbStore {
    /// Opens an existing file and verifies the checksum of every page in use.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`], and [`StoreError::Failed`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = guarded(path, || open_checked(path))?;
        Ok(Self::of(path, database))
    }

    /// Makes a new file, which must not exist or be empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let database = guarded(path, || {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            let database =
                Builder::new().set_cache_size(CACHE).create_with_backend(FileBackend::new(file)?)?;
            let transaction = database.begin_write()?;
            transaction.open_table(RECORDS)?;
            transaction.commit()?;
            Ok(database)
        })?;
        Ok(Self::of(path, database))
    }

    fn of(path: &Path, database: Database) -> Self {
        let state = State { database: Some(database), undo: Batch::default(), snapshots: Vec::new() };
        Self { path: path.to_owned(), state: Mutex::new(state) }
    }
}

impl Store for RedbStore {
    fn scan(&self, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        guarded(&self.path, || {
            let database = state.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let table = database.begin_read()?.open_table(RECORDS)?;
            for entry in table.iter()? {
                let (name, record) = entry?;
                visit(name.value(), record.value());
            }
            Ok(())
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).commit(&self.path, batch)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.database.is_none() {
            // After a failure: what it has left in doubt is undone first.
            state.commit(&self.path, &Batch::default())?;
        }
        let transaction = guarded(&self.path, || {
            let database = state.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            Ok(database.begin_read()?)
        })?;
        let reading = Arc::new(Mutex::new(Some(transaction)));
        state.snapshots.retain(|reading| reading.strong_count() > 0);
        state.snapshots.push(Arc::downgrade(&reading));
        Ok(Box::new(RedbSnapshot { path: self.path.clone(), reading }))
    }

    fn read_again(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.undo.changes.is_empty() {
            return Err(StoreError::Busy {
                location: self.location(),
                reason: "the last change failed, and is undone by the next".to_owned(),
            });
        }
        state.snapshots.retain(|reading| reading.strong_count() > 0);
        if !state.snapshots.is_empty() {
            return Err(StoreError::Busy {
                location: self.location(),
                reason: "a backup is being read".to_owned(),
            });
        }
        drop(state.database.take());
        state.database = Some(guarded(&self.path, || open_checked(&self.path))?);
        Ok(())
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

impl State {
    fn commit(&mut self, path: &Path, batch: &Batch) -> Result<(), StoreError> {
        let mut undo = std::mem::take(&mut self.undo);
        let mut all = undo.clone();
        all.changes.extend(batch.changes.clone());
        let result = guarded(path, || {
            let database = match self.database.take() {
                Some(database) => database,
                None => open_after_failure(path)?,
            };
            write(&database, &all, &mut undo)?;
            Ok(database)
        });
        match result {
            Ok(database) => {
                self.database = Some(database);
                Ok(())
            }
            Err(error) => {
                self.end_snapshots();
                self.undo = undo;
                Err(error)
            }
        }
    }

    fn end_snapshots(&mut self) {
        for reading in self.snapshots.drain(..).filter_map(|reading| reading.upgrade()) {
            drop(reading.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.end_snapshots();
    }
}

/// The records of one moment: redb keeps the pages that they are in.
struct RedbSnapshot {
    path: PathBuf,
    reading: Arc<Reading>,
}

impl Snapshot for RedbSnapshot {
    fn page(
        &mut self,
        prefix: &str,
        after: &str,
        bytes: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut page, mut size) = (Vec::new(), 0);
        let Some(transaction) = reading.as_ref() else {
            return Err(StoreError::Interrupted { location: self.path.display().to_string() });
        };
        guarded(&self.path, || {
            let table = transaction.open_table(RECORDS)?;
            let from = if after > prefix { after } else { prefix };
            for entry in table.range(from..)? {
                let (name, record) = entry?;
                if !name.value().starts_with(prefix) {
                    break;
                }
                if name.value() > after {
                    page.push((name.value().to_owned(), record.value().to_vec()));
                    size += record.value().len();
                }
                if size >= bytes {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(page)
    }
}

/// Applies a batch durably. `undo` gets what was there before, for names that it does not know yet.
fn write(database: &Database, batch: &Batch, undo: &mut Batch) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (name, change) in &batch.changes {
            let before = match change {
                Some(record) => table.insert(name.as_str(), record.as_slice())?,
                None => table.remove(name.as_str())?,
            };
            let before = before.map(|record| record.value().to_vec());
            undo.changes.entry(name.clone()).or_insert(before);
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Opens the file again after a write to it failed, as it lies on the disk. The kernel forgets that it could not write a
/// page once it has said so, and shows it as if it had: what is built on that would be lost with the power.
fn open_after_failure(path: &Path) -> Result<Database, redb::Error> {
    let file = OpenOptions::new().read(true).open(path)?;
    // What is still to be written goes to the disk, or fails here.
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(std::io::Error::from)?;
    drop(file);
    open_checked(path)
}

fn open_checked(path: &Path) -> Result<Database, redb::Error> {
    // Not `create`: an empty file would become a new store, and the keys that were in it be gone without a word.
    Ok(Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).open(path)?)
}

/// Runs redb: a damaged file may make it panic, and that is an error like others.
fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    let location = || path.display().to_string();
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(redb::Error::Corrupted(reason))) => Err(StoreError::Damaged { location: location(), reason }),
        Ok(Err(redb::Error::Io(error))) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(StoreError::Damaged { location: location(), reason: error.to_string() })
        }
        Ok(Err(error)) => Err(StoreError::Failed { location: location(), reason: error.to_string() }),
        Err(_) => Err(StoreError::Damaged {
            location: location(),
            reason: "its structure makes no sense".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(changes: &[(&str, Option<&str>)]) -> Batch {
        let mut batch = Batch::default();
        for (name, record) in changes {
            match record {
                Some(record) => batch.put((*name).to_owned(), record.as_bytes().to_vec()),
                None => batch.delete((*name).to_owned()),
            }
        }
        batch
    }

    fn contents(store: &RedbStore) -> Vec<(String, String)> {
        let mut all = Vec::new();
        store
            .scan(&mut |name, record| {
                all.push((name.to_owned(), String::from_utf8(record.to_vec()).unwrap()));
            })
            .unwrap();
        all
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, record)| ((*name).to_owned(), (*record).to_owned())).collect()
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = RedbStore::create(&path).unwrap();
        store.commit(&batch(&[("a", Some("1")), ("b", Some("2"))])).unwrap();
        store.commit(&batch(&[("a", None), ("b", Some("3"))])).unwrap();
        drop(store);
        assert_eq!(contents(&RedbStore::open(&path).unwrap()), pairs(&[("b", "3")]));
    }

    /// A commit whose last step failed may be on the disk all the same: the next one takes it back.
    #[test]
    fn a_commit_in_doubt_is_undone_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = RedbStore::create(&path).unwrap();
        store.commit(&batch(&[("changed", Some("1")), ("deleted", Some("1")), ("kept", Some("1"))])).unwrap();
        let doubtful = batch(&[("changed", Some("2")), ("deleted", None), ("new", Some("2"))]);
        {
            let mut state = store.state.lock().unwrap();
            let database = state.database.take().unwrap();
            write(&database, &doubtful, &mut state.undo).unwrap();
        }
        store.commit(&batch(&[("new", Some("3")), ("other", Some("3"))])).unwrap();
        let expected =
            pairs(&[("changed", "1"), ("deleted", "1"), ("kept", "1"), ("new", "3"), ("other", "3")]);
        assert_eq!(contents(&store), expected);
        // And is not undone twice.
        store.commit(&batch(&[("changed", Some("4"))])).unwrap();
        assert_eq!(contents(&store).first(), Some(&("changed".to_owned(), "4".to_owned())));
    }

    #[test]
    fn a_file_of_something_else_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let error = RedbStore::open(&path).unwrap_err().to_string();
        assert!(error.contains("store.redb"), "{error}");
    }
}
