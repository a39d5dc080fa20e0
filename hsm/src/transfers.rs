//! Backups and restores that connections are at: how many, for how long, and what becomes of them when the node closes.
//!
//! A backup or a restore belongs to its connection. It ends with it, or when the connection does not ask for more for a
//! minute, or when it takes too long: a snapshot keeps the store from giving room back, and from being looked at for what others have
//! changed. It holds keys, of the node or of a partition; so it also ends when those are wiped.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::backup::Writer;
use crate::failure::{Failure, refuse};
use crate::service::PerUid;
use crate::vault::{Restore, Vault};

/// Backups of a node, and of one of its partitions, at the same time.
const BACKUPS: (usize, usize) = (16, 2);
/// Restores at the same time: what others back up does not keep the owner from restoring.
const RESTORES: (usize, usize) = (2, 2);
/// How long a connection may do nothing with its own.
const IDLE: Duration = Duration::from_secs(60);
/// How long one may take: at 2 MB a second the largest partition does not take as long.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long a backup waits for a look at the store that has waited for backups.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection is at.
#[derive(Debug)]
pub enum Transfer {
    /// A backup.
    Backup(Box<Writer>),
    /// A restore.
    Restore(Box<Restore>),
}

/// Whose a transfer is, for the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A backup of this partition.
    Backup(u32),
    /// A restore.
    Restore,
}

/// All backups and restores of a node.
#[derive(Debug, Default)]
pub struct Transfers {
    places: Mutex<Vec<Weak<Place>>>,
    /// By partition.
    backups: Arc<PerUid>,
    restores: Arc<PerUid>,
    /// No backup begins: the store is to be looked at.
    is_held_off: Mutex<bool>,
    released: Condvar,
}

/// One in the count, until it is dropped.
#[derive(Debug)]
struct Permit {
    counts: Arc<PerUid>,
    of: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.leave(self.of);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transfers {
    /// Keeps backups from beginning for a while, or no longer.
    pub fn hold_off(&self, is_held_off: bool) {
        *lock(&self.is_held_off) = is_held_off;
        self.released.notify_all();
    }

    /// Ends all. Blocks for as long as one of them is worked on: a store that was closed first keeps that short.
    pub fn empty(&self) {
        for place in self.all() {
            *lock(&place.work) = None;
        }
    }

    /// Ends those that nothing was done with for a while, and those that take too long.
    fn expire(&self, now: Instant) {
        for place in self.all() {
            let mut work = match place.work.try_lock() {
                Ok(work) => work,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // It is worked on.
                Err(TryLockError::WouldBlock) => continue,
            };
            let is_over = |work: &Work| {
                now.saturating_duration_since(work.used) >= IDLE
                    || now.saturating_duration_since(work.begun) >= LONGEST
            };
            if work.as_ref().is_some_and(is_over) {
                tracing::warn!(
                    "a backup or a restore was ended: nothing was done with it for a minute, or it took an hour"
                );
                *work = None;
            }
        }
    }

    fn all(&self) -> Vec<Arc<Place>> {
        lock(&self.places).iter().filter_map(Weak::upgrade).collect()
    }

    fn register(&self, place: &Arc<Place>) {
        let mut places = lock(&self.places);
        places.retain(|known| known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), &raw const **place));
        places.push(Arc::downgrade(place));
    }

    fn permit(&self, of: Of) -> Result<Permit, Failure> {
        let (counts, (all, of_one), of) = match of {
            Of::Backup(partition) => (&self.backups, BACKUPS, partition),
            Of::Restore => (&self.restores, RESTORES, 0),
        };
        if counts.enter(of, all, of_one) {
            return Ok(Permit { counts: Arc::clone(counts), of });
        }
        refuse!(
            Limit,
            "{of_one} backups of the partition or restores are at work, or {all} of the node: wait for the end of one"
        )
    }

    /// A restore is no snapshot, and keeps nobody from looking.
    fn wait_for_the_look(&self, of: Of) -> Result<(), Failure> {
        if of == Of::Restore {
            return Ok(());
        }
        let held = lock(&self.is_held_off);
        let waited = self.released.wait_timeout_while(held, PATIENCE, |is_held_off| *is_held_off);
        match *waited.unwrap_or_else(PoisonError::into_inner).0 {
            false => Ok(()),
            true => refuse!(
                Limit,
                "the store is to be compared with what the node remembers as soon as the backups that are being read are \
                 done: try again then"
            ),
        }
    }
}

/// Ends what nobody goes on with, for as long as the vault is there.
pub async fn watch(vault: Weak<Vault>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(vault) = vault.upgrade() else { return };
        vault.transfers().expire(Instant::now());
    }
}

/// A connection's place for a backup or a restore.
#[derive(Debug, Default)]
pub struct Place {
    work: Mutex<Option<Work>>,
}

#[derive(Debug)]
struct Work {
    transfer: Transfer,
    begun: Instant,
    /// When it was worked on last.
    used: Instant,
    _permit: Permit,
}

impl Place {
    /// Begins what `make` makes, in the place of what was there. Blocks.
    ///
    /// # Errors
    ///
    /// LIMIT if there are as many as there may be, and those of `make`.
    pub fn begin<T>(
        self: &Arc<Self>,
        transfers: &Transfers,
        of: Of,
        make: impl FnOnce() -> Result<(Transfer, T), Failure>,
    ) -> Result<T, Failure> {
        *lock(&self.work) = None;
        // Not while the place is locked: whoever wipes keys would wait, too.
        transfers.wait_for_the_look(of)?;
        let mut place = lock(&self.work);
        *place = None;
        let permit = transfers.permit(of)?;
        // Before `make` finds the node open: whoever closes it after that finds this place.
        transfers.register(self);
        let (transfer, value) = make()?;
        let now = Instant::now();
        *place = Some(Work { transfer, begun: now, used: now, _permit: permit });
        Ok(value)
    }

    /// Works on what the connection is at. It is over if `work` fails, or says so. Blocks.
    ///
    /// # Errors
    ///
    /// MALFORMED if it is at nothing, and those of `work`.
    pub fn work<T>(
        &self,
        work: impl FnOnce(&mut Transfer) -> Result<(T, bool), Failure>,
    ) -> Result<T, Failure> {
        let mut place = lock(&self.work);
        let Some(mut at_work) = place.take() else { return at_nothing() };
        let (value, over) = work(&mut at_work.transfer)?;
        if !over {
            at_work.used = Instant::now();
            *place = Some(at_work);
        }
        Ok(value)
    }

    /// Ends what the connection is at with `finish`. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Place::work`].
    pub fn finish<T>(&self, finish: impl FnOnce(Transfer) -> Result<T, Failure>) -> Result<T, Failure> {
        // Held, so that whoever wipes keys waits for the end of it.
        let mut place = lock(&self.work);
        match place.take() {
            Some(at_work) => finish(at_work.transfer),
            None => at_nothing(),
        }
    }
}

fn at_nothing<T>() -> Result<T, Failure> {
    refuse!(
        Malformed,
        "this connection has begun no backup or restore, or left it for a minute, or took an hour, or the node was sealed \
         meanwhile: begin again"
    )
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::ErrorCode;

    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn a_partition_leaves_places_to_others_and_all_of_them_leave_some_to_restores() {
        let transfers = Transfers::default();
        let mut permits = Vec::new();
        for partition in 1..=100 {
            permits.extend(std::iter::from_fn(|| transfers.permit(Of::Backup(partition)).ok()).take(100));
        }
        let of = |partition| permits.iter().filter(|permit| permit.of == partition).count();
        assert_eq!((permits.len(), of(1), of(8), of(9)), (16, 2, 2, 0));
        assert_eq!(code(transfers.permit(Of::Backup(1))), ErrorCode::Limit);
        let restores = [transfers.permit(Of::Restore).unwrap(), transfers.permit(Of::Restore).unwrap()];
        assert_eq!(code(transfers.permit(Of::Restore)), ErrorCode::Limit);
        drop((permits, restores));
        assert!(transfers.permit(Of::Backup(1)).is_ok() && transfers.permit(Of::Restore).is_ok());
    }

    #[test]
    fn a_backup_waits_for_the_look_that_waits_for_backups() {
        let transfers = Transfers::default();
        transfers.hold_off(true);
        assert!(transfers.wait_for_the_look(Of::Restore).is_ok());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| transfers.wait_for_the_look(Of::Backup(1)));
            transfers.hold_off(false);
            assert!(waits.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_place_that_begins_is_known_before_it_asks_whether_the_node_is_open() {
        let (transfers, place) = (Transfers::default(), Arc::<Place>::default());
        let begin = || {
            place.begin(&transfers, Of::Restore, || -> Result<(Transfer, ()), Failure> {
                assert_eq!(transfers.all().len(), 1);
                assert_eq!(transfers.restores.count(), 1);
                refuse!(Sealed, "the node is sealed")
            })
        };
        assert_eq!(code(begin()), ErrorCode::Sealed);
        assert_eq!(code(begin()), ErrorCode::Sealed);
        assert_eq!((transfers.restores.count(), lock(&transfers.places).len()), (0, 1));
        assert_eq!(code(place.finish(|_| Ok(()))), ErrorCode::Malformed);
        drop(place);
        transfers.register(&Arc::default());
        assert_eq!(lock(&transfers.places).len(), 1, "who left is forgotten");
    }
}
