//! What other nodes change is told as it happens; and whether a majority of etcd's members is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use etcd_client::{Client, Error, EventType, WatchOptions};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::link::Members;
use super::{ANSWER, EtcdStore, Shared, kv};
use crate::records::LEDGER;

/// How often etcd is asked whether a majority is there.
const BEAT: Duration = Duration::from_secs(1);

/// How long it may take to answer that.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// A question of which this is the age was not answered: the one after it is, by then.
const OVERDUE: Duration = Duration::from_secs(BEAT.as_secs() + 2 * ANSWERS_WITHIN.as_secs());

/// Between two attempts to hear of changes.
const PAUSE: Duration = Duration::from_millis(100);

/// Beats for which a change may be known to etcd and not be told, before another member is listened to.
const LATE: u32 = 3;

/// Changes that wait for this node to take them in.
const WAITING: usize = 64;

/// What has happened to the records.
#[derive(Debug)]
pub enum Happening {
    /// One change.
    Changed {
        /// etcd's revision, for [`EtcdStore::read_at`].
        revision: i64,
        /// Records by name; `None`: deleted.
        records: BTreeMap<String, Option<Vec<u8>>>,
    },
    /// Too much happened meanwhile: the records have to be read again.
    Missed,
    /// They are of an earlier time than they were.
    PutBack,
}

struct Told {
    revision: i64,
    /// How often the ledger was written, if it was.
    count: i64,
    happening: Happening,
    /// Where to go on, after [`Happening::Missed`].
    next: Option<oneshot::Sender<i64>>,
}

/// Whether a majority of etcd's members is there. Times are in milliseconds of the clock that goes on while the machine sleeps,
/// and that nobody sets.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// When a question that was answered was asked; 0: never.
    at: AtomicU64,
    is_lost: AtomicBool,
    /// The ledger's revision that memory has.
    pub(super) known: AtomicI64,
    /// How often the ledger was written: as memory has it, and as a majority has said last.
    pub(super) taken_in: AtomicI64,
    written: AtomicI64,
    /// The revision of the newest change that was told.
    told: AtomicI64,
    /// Another member is to be listened to.
    stir: Notify,
}

impl Agreement {
    fn agreed(&self, asked: u64) {
        self.at.store(asked, Ordering::Relaxed);
        self.is_lost.store(false, Ordering::Relaxed);
    }

    /// For how long no majority has answered; `None` if the last question was answered, and no answer is overdue.
    pub(super) fn alone_for(&self) -> Option<Duration> {
        let since = Duration::from_millis(now().saturating_sub(self.at.load(Ordering::Relaxed)));
        // A machine that slept has asked nobody meanwhile.
        (self.is_lost.load(Ordering::Relaxed) || since > OVERDUE).then_some(since)
    }

    /// Whether no majority has answered for so long, so that nobody need wait for one.
    pub(super) fn is_lost_for(&self, patience: Duration) -> bool {
        self.is_lost.load(Ordering::Relaxed) && self.alone_for().is_some_and(|alone| alone >= patience)
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(time.tv_sec) * 1000 + part(time.tv_nsec) / 1_000_000
}

impl EtcdStore {
    /// For how long no majority has answered; `None` if one does.
    pub fn alone_for(&self) -> Option<Duration> {
        self.0.agreement.alone_for()
    }

    /// etcd's revision of the last change that this node's memory has.
    pub fn revision(&self) -> u64 {
        u64::try_from(self.0.agreement.known.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Changes that a majority of etcd's members had when it was asked last, and that this node's memory does not have.
    pub fn lag(&self) -> u64 {
        let agreement = &self.0.agreement;
        let written = agreement.written.load(Ordering::Relaxed);
        u64::try_from(written - agreement.taken_in.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Shows `take_in` what other nodes change, one change after the other, from what was read last; on a thread that ends with the
    /// store.
    ///
    /// # Errors
    ///
    /// The system's: there is no thread.
    pub fn follow(&self, take_in: impl FnMut(Happening) + Send + 'static) -> std::io::Result<()> {
        let shared = &self.0;
        let (sender, receiver) = channel(WAITING);
        let of = Arc::downgrade(shared);
        thread::Builder::new()
            .name("etcd follow".to_owned())
            .spawn(move || deliver(&of, receiver, take_in))?;
        shared.agreement.agreed(now());
        let read = shared.seen().read;
        // What runs on the store's own thread does not hold the store.
        let parts = || (Arc::clone(&shared.agreement), Arc::clone(shared.link.members()));
        let (agreement, members) = parts();
        shared.link.spawn(watch(agreement, members, shared.prefix.clone(), read + 1, sender.clone()));
        let (agreement, members) = parts();
        shared.link.spawn(beat(agreement, members, shared.key(LEDGER), sender));
        Ok(())
    }
}

fn deliver(shared: &Weak<Shared>, mut told: Receiver<Told>, mut take_in: impl FnMut(Happening)) {
    while let Some(Told { revision, count, happening, next }) = told.blocking_recv() {
        let Some(shared) = shared.upgrade() else { return };
        let is_told = matches!(happening, Happening::Changed { .. });
        let is_change = matches!(&happening, Happening::Changed { records, .. } if matches!(records.get(LEDGER), Some(Some(_))));
        {
            let mut seen = shared.seen();
            // Not what memory has: this node's own changes, and what was read.
            if is_told && revision <= seen.read || is_change && revision <= seen.head {
                continue;
            }
            seen.follower = Some(thread::current().id());
        }
        take_in(happening);
        {
            let mut seen = shared.seen();
            if let Some((read, head)) = seen.anew.take() {
                // Only now is it in memory, and what was there before takes no changes any more: who waits for it may go on.
                seen.read = read;
                shared.saw(&mut seen, head);
            } else if is_change {
                let head = (seen.head, seen.count).max((revision, count));
                shared.saw(&mut seen, head);
            }
        }
        if let Some(next) = next {
            let _ = next.send(shared.seen().read + 1);
        }
    }
}

/// Listens to a member, and to another one when that ends.
async fn watch(
    agreement: Arc<Agreement>,
    members: Arc<Members>,
    prefix: String,
    from: i64,
    told: Sender<Told>,
) {
    let next = Arc::new(AtomicI64::new(from));
    while !told.is_closed() {
        let (number, member) = members.current();
        let listening = tokio::spawn(listen(
            Arc::clone(&agreement),
            member.client.clone(),
            prefix.clone(),
            Arc::clone(&next),
            told.clone(),
        ));
        let stop = listening.abort_handle();
        let why = tokio::select! {
            ended = listening => match ended {
                Ok(Ok(())) => "it has ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                // The library has no other word for what it does not understand.
                Err(error) => error.to_string(),
            },
            () = agreement.stir.notified() => "it tells nothing".to_owned(),
        };
        stop.abort();
        tracing::warn!("changes of other nodes are heard of from another member of etcd: {why}");
        members.leave(number);
        sleep(PAUSE).await;
    }
}

async fn listen(
    agreement: Arc<Agreement>,
    client: Client,
    prefix: String,
    next: Arc<AtomicI64>,
    told: Sender<Told>,
) -> Result<(), Error> {
    let mut watching = client.watch_client().max_decoding_message_size(ANSWER);
    let from = next.load(Ordering::Relaxed);
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let begun = timeout(ANSWERS_WITHIN, watching.watch(prefix.clone(), Some(options))).await;
    let mut stream = begun.map_err(|_| Error::WatchError("it does not answer".to_owned()))??;
    while let Some(message) = stream.message().await? {
        if message.compact_revision() > 0 {
            let (answer, go_on) = oneshot::channel();
            let missed = Told { revision: 0, count: 0, happening: Happening::Missed, next: Some(answer) };
            if told.send(missed).await.is_ok()
                && let Ok(revision) = go_on.await
            {
                next.store(revision, Ordering::Relaxed);
            }
            return Ok(());
        }
        // All events of one revision come together.
        let mut changes: BTreeMap<i64, BTreeMap<String, Option<Vec<u8>>>> = BTreeMap::new();
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        for event in message.events() {
            let Some(found) = event.kv() else { continue };
            let Some(name) = found.key_str().ok().and_then(|key| key.strip_prefix(&prefix)) else { continue };
            if name.starts_with(super::turn::FOLDER) {
                continue;
            }
            let record = match event.event_type() {
                EventType::Put => Some(found.value().to_vec()),
                EventType::Delete => None,
            };
            if name == LEDGER {
                counts.insert(found.mod_revision(), found.version());
            }
            changes.entry(found.mod_revision()).or_default().insert(name.to_owned(), record);
        }
        for (revision, records) in changes {
            agreement.told.store(revision, Ordering::Relaxed);
            let count = counts.get(&revision).copied().unwrap_or_default();
            let happening = Happening::Changed { revision, records };
            let change = Told { revision, count, happening, next: None };
            if told.send(change).await.is_err() {
                return Ok(());
            }
            next.store(revision + 1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Asks again and again for the ledger's revision, as a majority has it.
async fn beat(agreement: Arc<Agreement>, members: Arc<Members>, key: String, told: Sender<Told>) {
    let mut late = 0;
    while !told.is_closed() {
        let (asked, known) = (now(), agreement.known.load(Ordering::Acquire));
        let ask = |client: Client| {
            let key = key.clone();
            async move { kv(&client).get(key, None).await }
        };
        match members.ask(ANSWERS_WITHIN, &ask).await {
            Ok(answer) => {
                agreement.agreed(asked);
                let ledger = answer.kvs().first();
                let head = ledger.map_or(0, etcd_client::KeyValue::mod_revision);
                agreement.written.store(ledger.map_or(0, etcd_client::KeyValue::version), Ordering::Relaxed);
                if head < known {
                    let put_back = Told { revision: 0, count: 0, happening: Happening::PutBack, next: None };
                    let _ = told.send(put_back).await;
                }
                let is_told = head <= known.max(agreement.told.load(Ordering::Relaxed));
                late = if is_told { 0 } else { late + 1 };
                if late >= LATE {
                    late = 0;
                    agreement.stir.notify_one();
                }
            }
            Err(trouble) => {
                if !agreement.is_lost.swap(true, Ordering::Relaxed) {
                    tracing::error!("no majority of etcd's members answers: {}", trouble.reason());
                }
            }
        }
        sleep(BEAT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slept_knows_that_nobody_has_answered_meanwhile() {
        let agreement = Agreement::default();
        agreement.agreed(now());
        assert_eq!(agreement.alone_for(), None);
        let hour = Duration::from_secs(3600);
        // The last question was answered; then there was none.
        agreement.agreed(now().saturating_sub(3_600_000));
        assert!(now() < 3_600_000 || agreement.alone_for().is_some_and(|alone| alone >= hour));
        assert!(!agreement.is_lost_for(Duration::ZERO), "the next question may be answered");
        agreement.is_lost.store(true, Ordering::Relaxed);
        assert!(agreement.is_lost_for(Duration::ZERO) && !agreement.is_lost_for(2 * hour));
        agreement.agreed(now());
        assert_eq!(agreement.alone_for(), None);
    }
}
