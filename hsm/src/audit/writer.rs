//! The thread that writes: it puts entries together, tells those who wait when theirs are on the disk, collects the
//! sums, signs, and notes in the sealed store where the logs end.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use strongroom_audit::chain::Head;
use strongroom_audit::{Entry, SUCCESS};
use strongroom_protocol::v1::NodeState;
use tokio::sync::oneshot;

use super::files::{self, Ended, Log};
use super::key::AuditKey;
use super::options::Options;
use super::{ALARM, BEGUN, Must, START, STOP, Shared};
use crate::vault::{Expelled, Vault};

/// How often sums are collected.
const TICK: Duration = Duration::from_secs(1);

/// How often uses are collected that have an entry each.
const QUICK: Duration = Duration::from_millis(100);

/// A checkpoint follows so long after an entry, or after so many.
const SIGN_AFTER: Duration = Duration::from_secs(10);
const SIGN_EVERY: u64 = 1000;

/// Entries that wait in memory while the disk takes none; what does not fit is counted.
const MOST_WAITING: usize = 10_000;

/// Entries that are written together.
const MOST_TOGETHER: usize = 4096;

/// What the writer is told.
pub(super) enum Message {
    /// An entry for a log.
    Entry(Box<Pending>),
    /// Whose state is followed.
    Watch(Arc<Vault>, Sender<()>),
    /// That state may have changed.
    Follow,
    /// Sign a log's entries now.
    Checkpoint(u32, oneshot::Sender<()>),
    /// The daemon stops.
    Stop(oneshot::Sender<()>),
}

/// An entry that is to be written.
pub(super) struct Pending {
    pub(super) log: u32,
    pub(super) entry: Entry,
    pub(super) must: Must,
    /// Told whether it is on the disk.
    pub(super) done: Option<oneshot::Sender<bool>>,
}

pub(super) struct Writer {
    directory: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    logs: BTreeMap<u32, Log>,
    key: Option<AuditKey>,
    vault: Option<Arc<Vault>>,
    state: NodeState,
    /// From which cluster the node was expelled, as far as that was said.
    expelled: Option<Expelled>,
    waiting: Vec<Pending>,
    /// Entries that found no room among those that wait, by log.
    lost: BTreeMap<u32, u64>,
    /// The ends of logs as the store has them.
    noted: BTreeMap<u32, Head>,
    ticked: Instant,
    noted_at: Instant,
    synced_at: Instant,
}

impl Writer {
    /// Opens the logs that are there.
    pub(super) fn open(
        directory: PathBuf,
        options: Options,
        shared: Arc<Shared>,
        receiver: Receiver<Message>,
    ) -> io::Result<Self> {
        let mut writer = Writer {
            directory,
            options,
            shared,
            receiver,
            logs: BTreeMap::new(),
            key: None,
            vault: None,
            state: NodeState::Unspecified,
            expelled: None,
            waiting: Vec::new(),
            lost: BTreeMap::new(),
            noted: BTreeMap::new(),
            ticked: Instant::now(),
            noted_at: Instant::now(),
            synced_at: Instant::now(),
        };
        let mut start = Entry::new(START, SUCCESS).with("strongroomd", env!("CARGO_PKG_VERSION"));
        for log in files::logs_in(&writer.directory)? {
            let ended = writer.open_log(log)?;
            if log == 0 && !ended.cleanly {
                start = start.with("last_end", "unclean: the daemon was killed, or the power failed");
            }
            if ended.torn > 0 {
                let torn = Entry::new("audit_torn", SUCCESS).with("bytes", ended.torn).with(
                    "why",
                    "an entry that was being written when the daemon ended; nobody was told of it",
                );
                writer.push(log, torn);
            }
            for begun in ended.unfinished {
                let unfinished = Entry { outcome: "unknown".to_owned(), ..begun };
                writer.push(log, unfinished.with("why", "the daemon ended before it was done, or told"));
            }
        }
        let start = start.with("instance", strongroom_audit::chain::hex(&writer.shared.instance));
        writer.waiting.insert(0, Pending { log: 0, entry: start, must: Must::Last, done: None });
        Ok(writer)
    }

    fn open_log(&mut self, number: u32) -> io::Result<Ended> {
        let (log, mut ended) = Log::open(&self.directory, number)?;
        self.logs.insert(number, log);
        self.shared.views().entry(number).or_default().last = std::mem::take(&mut ended.last);
        Ok(ended)
    }

    fn push(&mut self, log: u32, entry: Entry) {
        self.waiting.push(Pending { log, entry, must: Must::Last, done: None });
    }

    /// Writes until it is told to stop, or nobody is left to tell it anything.
    pub(super) fn run(mut self) {
        loop {
            let mut due = (self.ticked + TICK).saturating_duration_since(Instant::now());
            if self.shared.uses.has_each() {
                due = due.min(QUICK);
            }
            let told = match self.receiver.recv_timeout(due) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            };
            let mut stop = None;
            let more = std::iter::from_fn(|| self.receiver.try_recv().ok()).take(MOST_TOGETHER);
            for message in told.into_iter().chain(more).collect::<Vec<_>>() {
                match message {
                    Message::Entry(pending) => self.waiting.push(*pending),
                    Message::Watch(vault, done) => {
                        self.vault = Some(vault);
                        self.follow();
                        self.flush();
                        self.publish();
                        // Whoever asked may have gone; here and below.
                        let _ = done.send(());
                    }
                    Message::Follow => self.follow(),
                    Message::Checkpoint(log, done) => {
                        self.collect();
                        self.flush();
                        self.checkpoint(log);
                        self.publish();
                        let _ = done.send(());
                    }
                    Message::Stop(done) => stop = Some(done),
                }
            }
            if self.vault.is_none() && stop.is_none() {
                // What the store knows of the logs comes first.
                self.ticked = Instant::now();
                continue;
            }
            if self.ticked.elapsed() >= TICK {
                self.collect();
                self.follow();
            } else if self.shared.uses.has_each() {
                let entries = self.shared.uses.collect_each();
                self.will_write(entries);
            }
            self.flush();
            if let Some(done) = stop {
                self.end();
                let _ = done.send(());
                return;
            }
            self.sign_what_is_due();
            self.sync_for_sinks();
            self.publish();
            if self.noted_at.elapsed() >= SIGN_AFTER {
                self.note_heads();
            }
        }
    }

    fn end(&mut self) {
        self.collect();
        self.push(0, Entry::new(STOP, SUCCESS));
        self.flush();
        for log in self.logs.keys().copied().collect::<Vec<_>>() {
            self.checkpoint(log);
        }
        self.publish();
        self.note_heads();
    }

    /// Sinks get what is on the disk: sums a second later, not ten.
    fn sync_for_sinks(&mut self) {
        if self.shared.sinks.is_empty() || self.synced_at.elapsed() < TICK {
            return;
        }
        self.synced_at = Instant::now();
        for (number, log) in &mut self.logs {
            if let Err(error) = log.sync() {
                tracing::warn!(
                    "the audit log {} does not get to the disk: {error}",
                    files::log_name(*number)
                );
            }
        }
    }

    /// Says where the logs are now; whoever sends them goes on.
    fn publish(&self) {
        let mut views = self.shared.views();
        let mut is_more = false;
        for (number, log) in &self.logs {
            let view = views.entry(*number).or_default();
            is_more |= view.on_disk != log.on_disk();
            (view.on_disk, view.seq) = (log.on_disk(), log.head().seq);
        }
        drop(views);
        if is_more {
            self.shared.bell.ring();
        }
    }

    /// Takes the sums of what was counted since the last time.
    fn collect(&mut self) {
        self.ticked = Instant::now();
        let entries = self.shared.uses.collect();
        self.will_write(entries);
    }

    fn will_write(&mut self, entries: Vec<(u32, Entry)>) {
        let pending = |(log, entry)| Pending { log, entry, must: Must::Soon, done: None };
        self.waiting.extend(entries.into_iter().map(pending));
    }

    /// Signs while the node is open, and says what becomes of it.
    fn follow(&mut self) {
        let Some(vault) = self.vault.clone() else { return };
        let state = vault.node_state();
        if state == NodeState::Open && self.key.is_none() {
            match vault.audit() {
                Ok((key, heads)) => {
                    let public = Some(key.public().clone());
                    *self.shared.public.lock().unwrap_or_else(PoisonError::into_inner) = public;
                    self.key = Some(key);
                    self.compare(heads);
                }
                Err(failure) if state != self.state => {
                    tracing::error!("the audit log is not signed: {failure}");
                }
                Err(_) => {}
            }
        }
        if state != NodeState::Open && self.key.is_some() {
            for log in self.logs.keys().copied().collect::<Vec<_>>() {
                self.checkpoint(log);
            }
            // With all other keys.
            self.key = None;
        }
        let expelled = vault.expelled();
        if expelled != self.expelled {
            if let Some(expelled) = &expelled {
                self.push(0, Entry::new(ALARM, "node_expelled").with("why", expelled));
            }
            self.expelled = expelled;
        }
        if state == self.state {
            return;
        }
        self.state = state;
        let name = state.as_str_name().trim_start_matches("NODE_STATE_").to_ascii_lowercase();
        self.push(0, Entry::new("node_state", SUCCESS).with("state", name));
        for finding in vault.tampering().map(|tampered| tampered.findings).unwrap_or_default() {
            let mut alarm = Entry::new(ALARM, "store_tampered").with("why", finding.what);
            alarm.partition = finding.partition;
            self.push(0, alarm);
        }
    }

    /// Compares the logs with what the store knows of them.
    fn compare(&mut self, heads: BTreeMap<u32, Head>) {
        for (number, head) in &heads {
            if !self.logs.contains_key(number) {
                let _ = self.open_log(*number);
            }
            let Some(log) = self.logs.get_mut(number) else { continue };
            let end = log.head();
            let why = if end.seq < head.seq {
                log.skip_to(*head);
                format!("entries {} to {} were there and are missing", end.seq + 1, head.seq)
            } else {
                match log.hash_of(head.seq) {
                    Ok(Some(hash)) if hash == head.hash => continue,
                    // A file that was deleted because it was old, or moved away by somebody who keeps it.
                    Ok(None) if end.seq > head.seq => continue,
                    _ => format!("entry {} is not the one that was signed: the log was changed", head.seq),
                }
            };
            let name = files::log_name(*number);
            tracing::error!("the audit log {name} is not as strongroomd left it: {why}");
            let alarm = Entry::new(ALARM, "audit_log_changed").with("audit_log", name).with("why", why);
            self.push(*number, alarm.clone());
            if *number != 0 {
                self.push(0, alarm);
            }
        }
        self.noted = heads;
    }

    /// Writes what waits. What does not get to the disk waits on, but for changes that were to begin: they are refused.
    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut by_log: BTreeMap<u32, Vec<Pending>> = BTreeMap::new();
        for pending in self.waiting.drain(..) {
            by_log.entry(pending.log).or_default().push(pending);
        }
        let mut is_healthy = true;
        for (number, waiting) in by_log {
            if let Err(error) = self.write(number, waiting) {
                is_healthy = false;
                self.shared.failures.fetch_add(1, Ordering::Relaxed);
                if self.shared.is_healthy.load(Ordering::Relaxed) {
                    tracing::error!(
                        "the audit log {} in {} cannot be written: {error}; until it can, changes are refused, and \
                         what else happens is kept in memory: free space on its disk, or repair it",
                        files::log_name(number),
                        self.directory.display()
                    );
                }
            }
        }
        if is_healthy != self.shared.is_healthy.swap(is_healthy, Ordering::Relaxed) && is_healthy {
            tracing::info!("the audit log is written again");
        }
    }

    fn write(&mut self, number: u32, mut waiting: Vec<Pending>) -> io::Result<()> {
        let opened = match self.logs.contains_key(&number) {
            true => Ok(()),
            false => self.open_log(number).map(drop),
        };
        let begins = waiting.iter().any(|pending| pending.must == Must::First);
        let reserved = opened.and_then(|()| match self.logs.get_mut(&number) {
            Some(log) if begins => log.reserve(),
            _ => Ok(()),
        });
        let mut result = Ok(());
        if let Err(error) = reserved {
            waiting = refuse_beginnings(waiting);
            result = Err(error);
        }
        let Some(log) = self.logs.get_mut(&number) else { return self.keep(waiting, result) };
        if waiting.is_empty() {
            return result;
        }
        let lost = self.lost.get(&number).copied().unwrap_or_default();
        let gap = Entry::new("audit_gap", SUCCESS)
            .with("entries", lost)
            .with("why", "the log could not be written, and memory had no room for more");
        let entries: Vec<Entry> =
            waiting.iter().map(|pending| pending.entry.clone()).chain((lost > 0).then_some(gap)).collect();
        let sync = waiting.iter().any(|pending| pending.must != Must::Soon);
        let unsent = self.shared.sinks.iter().map(|sink| sink.unsent(number)).min().unwrap_or(u64::MAX);
        match log.append(&entries, self.key.as_ref(), sync, &self.options, unsent) {
            Ok(()) => {
                self.lost.remove(&number);
                let time = strongroom_audit::moment(SystemTime::now());
                let mut views = self.shared.views();
                let view = views.entry(number).or_default();
                view.written += entries.len() as u64;
                view.last.extend(&entries, &time);
                drop(views);
                for done in waiting.into_iter().filter_map(|pending| pending.done) {
                    let _ = done.send(true);
                }
                result
            }
            Err(error) => self.keep(refuse_beginnings(waiting), Err(error)),
        }
    }

    /// Keeps in memory what could not be written, as far as there is room. Nobody waits for it.
    fn keep(&mut self, waiting: Vec<Pending>, result: io::Result<()>) -> io::Result<()> {
        for mut pending in waiting {
            if let Some(done) = pending.done.take() {
                let _ = done.send(false);
            }
            if self.waiting.len() < MOST_WAITING {
                self.waiting.push(pending);
            } else {
                *self.lost.entry(pending.log).or_default() += 1;
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    fn sign_what_is_due(&mut self) {
        let now = SystemTime::now();
        let is_due = |log: &Log| {
            let (count, since) = log.unsigned();
            // A clock that was set back makes it due, too.
            let long =
                since.is_some_and(|since| now.duration_since(since).map_or(true, |age| age >= SIGN_AFTER));
            count >= SIGN_EVERY || long
        };
        let due: Vec<u32> =
            self.logs.iter().filter(|(_, log)| is_due(log)).map(|(number, _)| *number).collect();
        for number in due {
            self.checkpoint(number);
        }
    }

    fn checkpoint(&mut self, number: u32) {
        let Some(log) = self.logs.get_mut(&number) else { return };
        if let Err(error) = log.checkpoint(self.key.as_ref()) {
            tracing::warn!("the audit log {} cannot be signed now: {error}", files::log_name(number));
        }
    }

    /// Notes in the store where the logs end, so that an end that is cut off is missed at the next start.
    fn note_heads(&mut self) {
        self.noted_at = Instant::now();
        let (Some(vault), Some(_)) = (&self.vault, &self.key) else { return };
        let heads: BTreeMap<u32, Head> = self
            .logs
            .iter()
            // What is not signed may not be on the disk yet.
            .filter(|(_, log)| log.unsigned().0 == 0 && log.head().seq > 0)
            .map(|(number, log)| (*number, log.head()))
            .collect();
        let mut all = self.noted.clone();
        all.extend(heads);
        if all == self.noted {
            return;
        }
        match vault.note_audit_heads(&all) {
            Ok(()) => self.noted = all,
            Err(failure) => tracing::warn!("where the audit log ends is not noted: {failure}"),
        }
    }
}

/// Tells those who wait to begin that they may not; the others remain.
fn refuse_beginnings(waiting: Vec<Pending>) -> Vec<Pending> {
    let (beginnings, others): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|pending| pending.entry.outcome == BEGUN);
    for done in beginnings.into_iter().filter_map(|pending| pending.done) {
        let _ = done.send(false);
    }
    others
}
