//! What is counted and not written one by one: uses of keys, and requests that change nothing.
//!
//! Whoever uses a key again and again looks its counter up once, and then only adds to a number: the way of a
//! signature has no lock that others share, and takes no memory. The writer takes the sums once a second.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use strongroom_audit::{Entry, SUCCESS, moment};
use strongroom_protocol::v1::ErrorCode;

use super::error_name;

/// What one counter counts: all that its entry says, but the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) log: u32,
    pub(super) action: &'static str,
    pub(super) partition: String,
    pub(super) role: String,
    pub(super) user: String,
    pub(super) uid: Option<u32>,
    pub(super) pid: Option<i32>,
    pub(super) program: String,
    pub(super) connection: String,
    pub(super) key: String,
    pub(super) object: String,
    pub(super) class: String,
    pub(super) key_type: String,
}

impl Subject {
    fn entry(&self, outcome: String, count: u64, since: SystemTime, now: SystemTime) -> Entry {
        let subject = self.clone();
        Entry {
            partition: subject.partition,
            role: subject.role,
            user: subject.user,
            uid: subject.uid,
            pid: subject.pid,
            program: subject.program,
            connection: subject.connection,
            key: subject.key,
            object: subject.object,
            class: subject.class,
            key_type: subject.key_type,
            count: Some(count),
            since: moment(since),
            time: moment(now),
            ..Entry::new(subject.action, outcome)
        }
    }
}

/// How often somebody did something with a key, since the sums were last taken.
#[derive(Debug)]
pub struct Uses {
    done: AtomicU64,
    /// Requests whose client went before they were answered.
    abandoned: AtomicU64,
    refused: Mutex<BTreeMap<i32, u64>>,
}

impl Uses {
    /// Counts one that was done.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that was refused, or failed.
    pub fn refused(&self, code: ErrorCode) {
        *self.lock().entry(code.into()).or_default() += 1;
    }

    /// Counts one whose client has gone.
    pub fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, u64>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was counted: outcomes and numbers.
    fn take(&self) -> impl Iterator<Item = (String, u64)> {
        let done = (SUCCESS.to_owned(), self.done.swap(0, Ordering::Relaxed));
        let abandoned = ("abandoned".to_owned(), self.abandoned.swap(0, Ordering::Relaxed));
        let refused = std::mem::take(&mut *self.lock());
        let refused = refused.into_iter().map(|(code, count)| {
            (ErrorCode::try_from(code).map_or_else(|_| code.to_string(), error_name), count)
        });
        [done, abandoned].into_iter().chain(refused).filter(|(_, count)| *count > 0)
    }
}

/// All counters.
#[derive(Debug)]
pub(super) struct Registry {
    uses: Mutex<HashMap<Subject, Arc<Uses>>>,
    since: Mutex<SystemTime>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry { uses: Mutex::default(), since: Mutex::new(SystemTime::now()) }
    }
}

impl Registry {
    /// The counter of this subject. Whoever uses it often keeps it.
    pub(super) fn of(&self, subject: Subject) -> Arc<Uses> {
        let mut all = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uses) = all.get(&subject) {
            return Arc::clone(uses);
        }
        let uses = Arc::new(Uses {
            done: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            refused: Mutex::default(),
        });
        all.insert(subject, Arc::clone(&uses));
        uses
    }

    /// Takes the sums since the last time, as entries with their logs. Counters that nobody keeps go.
    pub(super) fn collect(&self) -> Vec<(u32, Entry)> {
        let now = SystemTime::now();
        let since = std::mem::replace(&mut *self.since.lock().unwrap_or_else(PoisonError::into_inner), now);
        let mut entries = Vec::new();
        let mut all = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|subject, uses| {
            // Nobody gets at it while the registry is locked: a counter that only the registry has stays at what it is.
            let is_kept = Arc::strong_count(uses) > 1;
            let taken = uses.take();
            entries.extend(
                taken.map(|(outcome, count)| (subject.log, subject.entry(outcome, count, since, now))),
            );
            is_kept
        });
        entries
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn subject(key: &str) -> Subject {
        Subject {
            log: 1,
            action: "sign",
            partition: "tls".into(),
            role: "crypto_user".into(),
            user: "web".into(),
            uid: Some(33),
            pid: Some(1),
            program: "nginx".into(),
            connection: "1-1".into(),
            key: key.into(),
            object: "00".into(),
            class: "private_key".into(),
            key_type: "p256".into(),
        }
    }

    #[test]
    fn every_use_is_in_one_sum() {
        let registry = Arc::new(Registry::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let registry = Arc::clone(&registry);
                std::thread::spawn(move || {
                    for number in 0..1000 {
                        let uses = registry.of(subject("web"));
                        if number % 10 == 0 { uses.refused(ErrorCode::KeyMayNot) } else { uses.done() }
                    }
                })
            })
            .collect();
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        let mut add = |entries: Vec<(u32, Entry)>| {
            for (log, entry) in entries {
                assert_eq!((log, entry.key.as_str()), (1, "web"));
                *sums.entry(entry.outcome).or_default() += entry.count.unwrap();
            }
        };
        while threads.iter().any(|thread| !thread.is_finished()) {
            add(registry.collect());
        }
        add(registry.collect());
        assert_eq!((sums["success"], sums["key_may_not"]), (3600, 400));
        assert!(registry.uses.lock().unwrap().is_empty(), "nobody keeps it");
    }
}
