//! What is counted and not noted as it happens: uses of keys, and requests that change nothing.
//!
//! Whoever uses a key again and again looks its counter up once, and then only adds to a number: the way of a
//! signature has no lock that others share, and takes no memory. The writer takes the sums once a second.
//!
//! Where each use is to have an entry of its own, it goes into a [`Ring`] instead, from which the writer takes it. What finds the
//! ring full is counted as well.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strongroom_audit::{Entry, SUCCESS, moment};
use strongroom_protocol::v1::ErrorCode;

use super::error_name;
use super::ring::{self, Ring, Use};

/// The outcomes of uses in the ring that are no error codes.
const DONE: u64 = 0;
const ABANDONED: u64 = 4095;

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
    pub(super) address: String,
    pub(super) certificate: String,
    pub(super) program: String,
    pub(super) connection: String,
    pub(super) key: String,
    pub(super) object: String,
    pub(super) class: String,
    pub(super) key_type: String,
    /// Each use has an entry.
    pub(super) each: bool,
}

impl Subject {
    /// A sum.
    fn entry(&self, outcome: String, count: u64, since: SystemTime, now: SystemTime) -> Entry {
        let entry =
            Entry { count: Some(count), since: moment(since), time: moment(now), ..self.described(outcome) };
        match self.each {
            true => entry.with("why", "more than could be noted one by one"),
            false => entry,
        }
    }

    /// A single use.
    fn entry_of(&self, used: Use) -> Entry {
        Entry {
            request: used.request.checked_sub(1),
            time: moment(UNIX_EPOCH + Duration::from_micros(used.micros)),
            ..self.described(outcome_name(used.outcome))
        }
    }

    fn described(&self, outcome: String) -> Entry {
        let subject = self.clone();
        Entry {
            partition: subject.partition,
            role: subject.role,
            user: subject.user,
            uid: subject.uid,
            pid: subject.pid,
            address: subject.address,
            certificate: subject.certificate,
            program: subject.program,
            connection: subject.connection,
            key: subject.key,
            object: subject.object,
            class: subject.class,
            key_type: subject.key_type,
            ..Entry::new(subject.action, outcome)
        }
    }
}

fn outcome_name(outcome: u64) -> String {
    match outcome {
        DONE => SUCCESS.to_owned(),
        ABANDONED => "abandoned".to_owned(),
        code => code_name(i32::try_from(code).unwrap_or_default()),
    }
}

fn code_name(code: i32) -> String {
    ErrorCode::try_from(code).map_or_else(|_| code.to_string(), error_name)
}

/// How often somebody did something with a key, since the sums were last taken.
#[derive(Debug)]
pub struct Uses {
    done: AtomicU64,
    /// Requests whose client went before they were answered.
    abandoned: AtomicU64,
    refused: Mutex<BTreeMap<i32, u64>>,
    /// Where each is put, and as whose.
    each: Option<(u64, Arc<Ring>)>,
}

impl Uses {
    /// Counts one that was done. `request` is the request's number, if it has one: here and below.
    pub fn done(&self, request: Option<u64>) {
        if !self.put(DONE, request) {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one that was refused, or failed.
    pub fn refused(&self, code: ErrorCode, request: Option<u64>) {
        let code = i32::from(code);
        if !self.put(u64::try_from(code).unwrap_or_default(), request) {
            *self.lock().entry(code).or_default() += 1;
        }
    }

    /// Counts one whose client has gone.
    pub fn abandoned(&self, request: Option<u64>) {
        if !self.put(ABANDONED, request) {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has it noted by itself, if that is wanted and there is room.
    fn put(&self, outcome: u64, request: Option<u64>) -> bool {
        let Some((uses, ring)) = &self.each else { return false };
        let request = request.map_or(0, |request| request.saturating_add(1));
        ring.put(Use { uses: *uses, request, micros: ring::now(), outcome })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, u64>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was counted: outcomes and numbers.
    fn take(&self) -> impl Iterator<Item = (String, u64)> {
        let done = (SUCCESS.to_owned(), self.done.swap(0, Ordering::Relaxed));
        let abandoned = ("abandoned".to_owned(), self.abandoned.swap(0, Ordering::Relaxed));
        let refused = std::mem::take(&mut *self.lock());
        let refused = refused.into_iter().map(|(code, count)| (code_name(code), count));
        [done, abandoned].into_iter().chain(refused).filter(|(_, count)| *count > 0)
    }
}

/// All counters.
#[derive(Debug)]
pub(super) struct Registry {
    known: Mutex<Known>,
    since: Mutex<SystemTime>,
    ring: OnceLock<Arc<Ring>>,
    has_each: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    uses: HashMap<Subject, Arc<Uses>>,
    /// Those of which each use is noted, by the number that they have in the ring.
    each: HashMap<u64, Arc<Subject>>,
    next: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            known: Mutex::default(),
            since: Mutex::new(SystemTime::now()),
            ring: OnceLock::new(),
            has_each: AtomicBool::new(false),
        }
    }
}

impl Registry {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counter of this subject. Whoever uses it often keeps it.
    pub(super) fn of(&self, subject: Subject) -> Arc<Uses> {
        let mut known = self.known();
        if let Some(uses) = known.uses.get(&subject) {
            return Arc::clone(uses);
        }
        let each = subject.each.then(|| {
            known.next += 1;
            let number = known.next;
            known.each.insert(number, Arc::new(subject.clone()));
            self.has_each.store(true, Ordering::Relaxed);
            (number, Arc::clone(self.ring.get_or_init(Arc::default)))
        });
        let uses = Arc::new(Uses {
            done: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            refused: Mutex::default(),
            each,
        });
        known.uses.insert(subject, Arc::clone(&uses));
        uses
    }

    /// Whether there are counters of which each use is noted.
    pub(super) fn has_each(&self) -> bool {
        self.has_each.load(Ordering::Relaxed)
    }

    /// Takes the uses that have an entry each, since the last time, with their logs.
    pub(super) fn collect_each(&self) -> Vec<(u32, Entry)> {
        self.drain(&self.known())
    }

    fn drain(&self, known: &Known) -> Vec<(u32, Entry)> {
        let Some(ring) = self.ring.get() else { return Vec::new() };
        let taken = std::iter::from_fn(|| ring.take());
        // Every number is known: a counter is forgotten after its last use was taken.
        taken
            .filter_map(|used| {
                known.each.get(&used.uses).map(|subject| (subject.log, subject.entry_of(used)))
            })
            .collect()
    }

    /// Takes everything since the last time, as entries with their logs. Counters that nobody keeps go.
    pub(super) fn collect(&self) -> Vec<(u32, Entry)> {
        let now = SystemTime::now();
        let since = std::mem::replace(&mut *self.since.lock().unwrap_or_else(PoisonError::into_inner), now);
        let mut known = self.known();
        // Nobody gets at a counter while the registry is locked: one that only the registry has stays as it is. What it
        // has in the ring is taken after this.
        let mut gone: Vec<u64> = Vec::new();
        let mut sums = Vec::new();
        known.uses.retain(|subject, uses| {
            let is_kept = Arc::strong_count(uses) > 1;
            if let (false, Some((number, _))) = (is_kept, &uses.each) {
                gone.push(*number);
            }
            let taken = uses.take();
            sums.extend(
                taken.map(|(outcome, count)| (subject.log, subject.entry(outcome, count, since, now))),
            );
            is_kept
        });
        let mut entries = self.drain(&known);
        entries.append(&mut sums);
        for number in gone {
            known.each.remove(&number);
        }
        self.has_each.store(!known.each.is_empty(), Ordering::Relaxed);
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
            address: String::new(),
            certificate: String::new(),
            program: "nginx".into(),
            connection: "1-1".into(),
            key: key.into(),
            object: "00".into(),
            class: "private_key".into(),
            key_type: "p256".into(),
            each: false,
        }
    }

    #[test]
    fn each_use_has_an_entry_also_of_a_counter_that_nobody_keeps() {
        let registry = Registry::default();
        assert!(!registry.has_each());
        let uses = registry.of(Subject { each: true, ..subject("web") });
        assert!(registry.has_each());
        uses.done(Some(7));
        uses.refused(ErrorCode::KeyMayNot, None);
        let entries = registry.collect_each();
        let said: Vec<_> = entries.iter().map(|(_, e)| (e.outcome.as_str(), e.request, e.count)).collect();
        assert_eq!(said, [("success", Some(7), None), ("key_may_not", None, None)]);
        assert!(entries.iter().all(|(_, entry)| entry.key == "web" && !entry.time.is_empty()));
        uses.abandoned(Some(0));
        drop(uses);
        let entries = registry.collect();
        assert_eq!((entries.len(), entries[0].1.outcome.as_str()), (1, "abandoned"));
        assert_eq!(entries[0].1.request, Some(0));
        assert!(!registry.has_each() && registry.known().uses.is_empty() && registry.known().each.is_empty());
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
                        if number % 10 == 0 {
                            uses.refused(ErrorCode::KeyMayNot, None)
                        } else {
                            uses.done(None)
                        }
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
        assert!(registry.known().uses.is_empty(), "nobody keeps it");
    }
}
