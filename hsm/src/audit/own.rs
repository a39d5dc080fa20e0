//! What the daemon does by itself: deleted keys whose time is over go, and keys get a new version when theirs has come. It is
//! noted as a change that somebody asks for: before it is begun, and with its outcome.

use std::sync::atomic::Ordering;

use strongroom_audit::Entry;
use strongroom_protocol::v1::ObjectInfo;
use tokio::sync::oneshot;

use super::writer::{Message, Pending};
use super::{Audit, Must, SUCCESS, error_name, trail};
use crate::failure::Failure;
use crate::partition::Partition;

/// As whom the daemon acts.
const ROLE: &str = "daemon";

impl Audit {
    /// Carries out what the daemon does to objects of a partition, with an entry for each before and after it. `describe` says
    /// what came of it. Blocks.
    ///
    /// # Errors
    ///
    /// AUDIT_UNAVAILABLE: nothing was done. Otherwise those of `act`.
    pub(crate) fn own_act<T>(
        &self,
        partition: &Partition,
        (action, why): (&str, &str),
        objects: &[&ObjectInfo],
        act: impl FnOnce() -> Result<T, Failure>,
        describe: impl Fn(Entry, &T) -> Entry,
    ) -> Result<T, Failure> {
        let log = partition.number();
        let entry = |object: &&ObjectInfo| {
            let mut entry = Entry::new(action, super::BEGUN).with("why", why);
            partition.label().clone_into(&mut entry.partition);
            ROLE.clone_into(&mut entry.role);
            // The daemon's own requests have numbers, too: so a start finds out what was not finished.
            entry.connection = self.connection_name(0);
            entry.request = Some(self.shared.own_acts.fetch_add(1, Ordering::Relaxed));
            trail::name_object(&mut entry, object);
            entry
        };
        let entries: Vec<Entry> = objects.iter().map(entry).collect();
        let begun = self.send(log, &entries, Must::First);
        let result = match begun.iter().all(|is_written| *is_written) {
            true => act(),
            false => Err(self.unavailable()),
        };
        let begun = entries.into_iter().zip(begun).filter(|(_, is_written)| *is_written);
        let ended: Vec<Entry> = begun
            .map(|(entry, _)| match &result {
                Ok(done) => describe(Entry { outcome: SUCCESS.to_owned(), ..entry }, done),
                Err(failure) => Entry { outcome: error_name(failure.code), ..entry },
            })
            .collect();
        self.send(log, &ended, Must::Last);
        result
    }

    /// Writes entries and waits until they are on the disk; which of them are.
    fn send(&self, log: u32, entries: &[Entry], must: Must) -> Vec<bool> {
        let send = |entry: &Entry| {
            let (done, written) = oneshot::channel();
            let pending = Pending { log, entry: entry.clone(), must, done: Some(done) };
            let _ = self.sender.send(Message::Entry(Box::new(pending)));
            written
        };
        let waiting: Vec<_> = entries.iter().map(send).collect();
        // Without a writer nothing is written.
        waiting.into_iter().map(|written| written.blocking_recv().unwrap_or(false)).collect()
    }
}
