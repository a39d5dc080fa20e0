//! Records that count each by itself, and that go by themselves after a while.

use std::time::{Duration, Instant};

use etcd_client::{Client, PutOptions, Txn, TxnOp};

use super::link::Trouble;
use super::{CHANGES, Shared, kv};
use crate::store::{Batch, StoreError};

/// For so long one lease of etcd serves all that is noted. Each is a burden to etcd.
const SHARED: Duration = Duration::from_secs(5 * 60);

/// A lease, and since when it is used.
pub(super) type Lease = (i64, Instant);

impl Shared {
    pub(super) fn note(&self, batch: &Batch, life: Duration) -> Result<(), StoreError> {
        let all: Vec<_> = batch.changes.iter().collect();
        for some in all.chunks(CHANGES) {
            let write = |lease: i64| {
                let operations = some.iter().map(|(name, change)| match change {
                    Some(record) => {
                        TxnOp::put(self.key(name), record.clone(), Some(PutOptions::new().with_lease(lease)))
                    }
                    None => TxnOp::delete(self.key(name), None),
                });
                let txn = Txn::new().and_then(operations.collect::<Vec<_>>());
                let ask = move |client: Client| {
                    let txn = txn.clone();
                    async move { kv(&client).txn(txn).await }
                };
                // Written twice it is the same.
                self.link.ask(self.patience, ask)
            };
            let written = match write(self.lease(life, false)?) {
                // The lease may be gone, if this machine has slept.
                Err(Trouble::Refused(_)) => write(self.lease(life, true)?),
                other => other,
            };
            written.map_err(|trouble| self.unchanged(trouble))?;
        }
        Ok(())
    }

    /// A lease that ends when so much time is over, or a little later.
    fn lease(&self, life: Duration, anew: bool) -> Result<i64, StoreError> {
        let mut lease = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match *lease {
            Some((id, since)) if !anew && since.elapsed() < SHARED => Ok(id),
            _ => {
                let seconds = i64::try_from((life + SHARED).as_secs()).unwrap_or(i64::MAX);
                let ask =
                    move |client: Client| async move { client.lease_client().grant(seconds, None).await };
                let begun = Instant::now();
                let granted = self.link.ask(self.patience, ask).map_err(|trouble| self.unchanged(trouble))?;
                *lease = Some((granted.id(), begun));
                Ok(granted.id())
            }
        }
    }
}
