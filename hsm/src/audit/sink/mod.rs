//! Sinks: where entries are sent besides their files.
//!
//! Each has a thread of its own that reads the log's files, as far as they are on the disk, and sends what it finds. So a sink
//! that is slow or gone holds nobody up, takes no memory, and misses nothing: it goes on where it was. What a sink has got is
//! noted in the log's folder ([`sent`]); what nobody has confirmed is sent again after a failure or a restart. An entry may
//! therefore arrive twice; its log and number say so.

mod carrier;
mod deliver;
mod feed;
mod sent;
mod syslog;
mod target;
mod trust;

pub use target::{Host, Target};
pub use trust::{Trust, TrustError};

pub(super) use deliver::start;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;

use self::sent::Places;

/// RFC 5424's "log audit".
pub const AUDIT_FACILITY: u8 = 13;

/// The number of a syslog facility, by its name.
pub fn facility(name: &str) -> Option<u8> {
    syslog::facility(name)
}

/// A sink, as it is configured.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Where.
    pub target: Target,
    /// Of TLS: whom is trusted, and with which certificate the daemon shows itself.
    pub tls: Option<Arc<ClientConfig>>,
    /// Of syslog messages.
    pub facility: u8,
}

/// What is known of a sink.
#[derive(Debug, Default)]
struct Progress {
    /// Up to where it has got each log.
    confirmed: Places,
    /// Up to where it was sent.
    sent: Places,
    /// Why it gets nothing, while it does not.
    error: Option<String>,
    /// How often it failed.
    failures: u64,
    /// Since when it is as it is.
    since: Option<SystemTime>,
}

/// A sink while the daemon runs.
#[derive(Debug)]
pub(super) struct State {
    sink: Sink,
    name: String,
    progress: Mutex<Progress>,
}

/// A sink, for whoever looks.
#[derive(Debug, Clone)]
pub struct SinkStatus {
    /// What it is called in metrics: its kind, with a number if there are several.
    pub name: String,
    /// Where.
    pub target: Target,
    /// Entries get there.
    pub is_connected: bool,
    /// Why not.
    pub error: String,
    /// Since when it is so.
    pub since: Option<SystemTime>,
    /// How often it failed since the start.
    pub failures: u64,
    /// The number of the last entry that was sent, by log.
    pub sent: Vec<(u32, u64)>,
}

impl SinkStatus {
    /// Entries of a log, up to number `last`, that were not sent yet.
    pub fn lag(&self, log: u32, last: u64) -> u64 {
        let sent = self.sent.iter().find(|(number, _)| *number == log).map_or(0, |(_, seq)| *seq);
        last.saturating_sub(sent)
    }
}

impl State {
    /// The sinks that are configured, with names.
    pub(super) fn of(sinks: &[Sink]) -> Vec<Arc<Self>> {
        let mut states: Vec<Arc<Self>> = Vec::new();
        for sink in sinks {
            let kind = sink.target.kind();
            let same = states.iter().filter(|state| state.sink.target.kind() == kind).count();
            let name = if same == 0 { kind.to_owned() } else { format!("{kind}-{}", same + 1) };
            states.push(Arc::new(State { sink: sink.clone(), name, progress: Mutex::default() }));
        }
        states
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a log that has the first entry which may have to be sent again.
    pub(super) fn unsent(&self, log: u32) -> u64 {
        self.progress().confirmed.get(&log).map_or(0, |place| place.file)
    }

    pub(super) fn status(&self) -> SinkStatus {
        let progress = self.progress();
        SinkStatus {
            name: self.name.clone(),
            target: self.sink.target.clone(),
            is_connected: progress.error.is_none(),
            error: progress.error.clone().unwrap_or_default(),
            since: progress.since,
            failures: progress.failures,
            sent: progress.sent.iter().map(|(log, place)| (*log, place.seq)).collect(),
        }
    }
}

/// Tells the sinks' threads that there is something to do.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rung {
    times: u64,
    stop: bool,
}

impl Bell {
    /// There is more in the logs.
    pub(super) fn ring(&self) {
        self.change(|rung| rung.times += 1);
    }

    /// The daemon stops.
    pub(super) fn stop(&self) {
        self.change(|rung| rung.stop = true);
    }

    fn change(&self, change: impl FnOnce(&mut Rung)) {
        change(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until it rings again, `stop` or the time is over. Returns how often it has rung, and whether to stop.
    fn wait(&self, heard: u64, most: Duration) -> (u64, bool) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, most, |rung| rung.times == heard && !rung.stop);
        let (rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (rung.times, rung.stop)
    }
}
