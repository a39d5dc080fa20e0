//! Log-outs hold over a restart, and on every node of a cluster: each is a record of its own in the store, sealed by the partition's key,
//! for as long as a ticket of the log-in would be good. Those that come at the same time are written together.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::Partition;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::records::Names;
use crate::seal::SealError;
use crate::store::{Batch, LOG_OUTS, StoreError};
use crate::tickets::{KEPT, LoginSession, Notes};

/// Log-outs that wait to be written.
#[derive(Debug, Default)]
pub struct LogOuts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<(Notes, oneshot::Sender<Option<String>>)>,
    is_writing: bool,
}

/// What the names of a partition's records of log-outs begin with.
pub fn folder(partition: u32) -> String {
    let names = Names::of(partition);
    let number = names.prefix().trim_start_matches(crate::records::PARTITIONS);
    format!("{LOG_OUTS}{number}")
}

impl Partition {
    /// Ends a log-in: on this node at once, and everywhere and for good before this answers.
    ///
    /// # Errors
    ///
    /// STORE, NO_QUORUM: it has ended on this node only, until it is started again.
    pub async fn log_out(self: &Arc<Self>, login: &LoginSession) -> Result<(), Failure> {
        let notes = self.tickets().end(login);
        if notes.is_empty() {
            return Ok(());
        }
        let (done, is_done) = oneshot::channel();
        let is_first = {
            let mut state = self.log_outs.lock();
            state.waiting.push((notes, done));
            !std::mem::replace(&mut state.is_writing, true)
        };
        if is_first {
            let partition = Arc::clone(self);
            drop(tokio::task::spawn_blocking(move || partition.write_log_outs()));
        }
        match is_done.await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => refuse!(
                Store,
                "logged out on this node until it is started again, and nowhere else: a ticket of the log-in is good for an hour at \
                 most; {why}"
            ),
            Err(_) => {
                refuse!(Internal, "logged out on this node, and it is not known whether the store knows")
            }
        }
    }

    /// Writes what waits, all that is there at once, until nothing is.
    fn write_log_outs(&self) {
        loop {
            let some = {
                let mut state = self.log_outs.lock();
                state.is_writing = !state.waiting.is_empty();
                std::mem::take(&mut state.waiting)
            };
            if some.is_empty() {
                return;
            }
            let (notes, done): (Vec<_>, Vec<_>) = some.into_iter().unzip();
            let written = self.sealed_log_outs(notes).map_err(StoreError::from);
            let written = written.and_then(|batch| self.store.note(&batch, KEPT));
            let why = written.err().map(|error| error.to_string());
            done.into_iter().for_each(|done| drop(done.send(why.clone())));
        }
    }

    fn sealed_log_outs(&self, notes: Vec<Notes>) -> Result<Batch, SealError> {
        let (keys, folder, mut batch) = (self.keys(), folder(self.number), Batch::default());
        for (name, content) in notes.into_iter().flatten() {
            let name = format!("{folder}{name}");
            match content {
                Some(content) => {
                    let plain = SecretBytes::from(content.as_slice());
                    let sealed = keys.sealing.seal(&name, keys.sealing.since(), plain)?;
                    batch.put(name, sealed);
                }
                None => batch.delete(name),
            }
        }
        Ok(batch)
    }

    /// Takes in log-outs as the store has them. One that does not open is of no ticket that is good: of a key from before, or nobody's.
    pub fn take_log_outs<'a>(&self, records: impl Iterator<Item = (&'a str, &'a [u8])>) {
        let (keys, folder) = (self.keys(), folder(self.number));
        for (name, record) in records {
            let opened = keys.sealing.open(name, record).ok();
            let short = name.strip_prefix(&folder).unwrap_or_default();
            let is_known = opened.is_some_and(|(_, content)| self.tickets().take_ended(short, &content));
            if !is_known {
                tracing::warn!(name, "a record of a log-out does not open, and is left out");
            }
        }
    }
}

impl LogOuts {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
