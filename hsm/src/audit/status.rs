//! What is known of the logs and the sinks, for whoever looks.

use std::sync::atomic::Ordering;

use strongroom_audit::Entry;

use super::sink::SinkStatus;
use super::{Audit, files};

/// A log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Its number: 0 for the daemon's own, otherwise a partition's.
    pub log: u32,
    /// Its name in entries: `node`, or `partition-` and the number.
    pub name: String,
    /// The number of the last entry.
    pub last: u64,
    /// Entries since the daemon's start.
    pub written: u64,
}

/// What the audit log has counted since the daemon's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Writes that failed.
    pub failures: u64,
    /// Entries that were lost because the disk took none and memory had no room for more.
    pub lost: u64,
}

impl Audit {
    /// The logs, the daemon's own first.
    pub fn logs(&self) -> Vec<LogStatus> {
        let views = self.shared.views();
        let status = |(log, view): (&u32, &super::View)| LogStatus {
            log: *log,
            name: files::log_name(*log),
            last: view.seq,
            written: view.written,
        };
        views.iter().map(status).collect()
    }

    /// The sinks, in the order in which they were configured.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.shared.sinks.iter().map(|sink| sink.status()).collect()
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        let number = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Totals { failures: number(&self.shared.failures), lost: number(&self.shared.lost) }
    }

    /// The last entries of a log, the newest first, without checkpoints.
    pub fn last_entries(&self, log: u32) -> Vec<Entry> {
        self.shared.views().get(&log).map(|view| view.last.newest().cloned().collect()).unwrap_or_default()
    }
}
