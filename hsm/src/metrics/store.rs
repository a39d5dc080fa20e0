//! The store's commits, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::operation::Outcome;
use super::series::{Series, Totals};
use crate::store::{Batch, Snapshot, Store, StoreError, Turn};

/// How a store's commits went.
#[derive(Debug, Default)]
pub struct Commits {
    series: Series,
    /// Whether the last one failed.
    failing: AtomicBool,
}

impl Commits {
    /// What was counted.
    pub fn totals(&self) -> Totals {
        self.series.totals()
    }

    /// Whether the last commit failed: changes are refused until one succeeds.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

/// A store whose commits are counted.
pub struct Metered {
    store: Arc<dyn Store>,
    commits: Arc<Commits>,
}

impl Metered {
    /// Counts the commits of `store` in `commits`.
    pub fn new(store: Arc<dyn Store>, commits: Arc<Commits>) -> Self {
        Self { store, commits }
    }

    fn counted(&self, write: impl FnOnce(&dyn Store) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let started = Instant::now();
        let result = write(&*self.store);
        let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Failed };
        self.commits.series.count(outcome, started.elapsed());
        self.commits.failing.store(result.is_err(), Ordering::Relaxed);
        result
    }
}

impl Store for Metered {
    fn scan(&self, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError> {
        self.store.scan(visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.counted(|store| store.commit(batch))
    }

    fn note(&self, batch: &Batch, life: Duration) -> Result<(), StoreError> {
        self.counted(|store| store.note(batch, life))
    }

    fn turn(&self) -> Result<Turn, StoreError> {
        self.store.turn()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.store.snapshot()
    }

    fn read_again(&self) -> Result<(), StoreError> {
        self.store.read_again()
    }

    fn location(&self) -> String {
        self.store.location()
    }
}
