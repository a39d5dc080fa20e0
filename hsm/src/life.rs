//! The life of keys: soft delete, purge, versions, and the clock by which they go.
//!
//! A deleted key stays in the store, sealed, for as long as the partition keeps deleted keys; nobody finds it, and it does
//! nothing. It is recovered or purged by a crypto officer, or goes by itself.
//!
//! The time that passes is the partition's own, see [`age`].

pub mod age;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub use age::{Age, Clocks};
use strongroom_audit::Entry;
use strongroom_audit::chain::hex;
use strongroom_protocol::v1::{ObjectInfo, VersionState};

use crate::audit::Audit;
use crate::failure::{Failure, refuse};
use crate::object::{Object, ObjectId};
use crate::partition::Partition;
use crate::service::{Service, blocking};
use crate::vault::Slot;

/// For how many days deleted keys are kept unless a crypto officer says otherwise: Azure Managed HSM's number, as the two
/// others are.
pub const USUAL_RETENTION: u32 = 90;
/// The shortest and the longest retention, in days.
pub const RETENTION: std::ops::RangeInclusive<u32> = 7..=90;

const DAY: u64 = 24 * 60 * 60;

/// The shortest and the longest time between two versions of a key, in seconds.
pub const ROTATION: std::ops::RangeInclusive<u64> = DAY..=10 * 366 * DAY;

/// What a partition does with keys that are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For how many days they are kept.
    pub retention_days: u32,
    /// Nobody can purge one before its time. Once on, always on.
    pub purge_protection: bool,
    /// C_DestroyObject destroys, and does not delete softly.
    pub destroy_at_once: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retention_days: USUAL_RETENTION, purge_protection: false, destroy_at_once: false }
    }
}

impl Policy {
    /// How long deleted keys are kept, in seconds.
    pub fn retention(self) -> u64 {
        u64::from(self.retention_days) * DAY
    }

    /// The policy with a change.
    ///
    /// # Errors
    ///
    /// ATTRIBUTE_WRONG for a retention out of bounds, PURGE_PROTECTED for what would weaken purge protection.
    pub fn changed(
        self,
        retention_days: Option<u32>,
        purge_protection: Option<bool>,
        destroy_at_once: Option<bool>,
    ) -> Result<Self, Failure> {
        let after = Policy {
            retention_days: retention_days.unwrap_or(self.retention_days),
            purge_protection: purge_protection.unwrap_or(self.purge_protection),
            destroy_at_once: destroy_at_once.unwrap_or(self.destroy_at_once),
        };
        if !RETENTION.contains(&after.retention_days) {
            let (least, most) = (RETENTION.start(), RETENTION.end());
            return refuse!(
                AttributeWrong,
                "deleted keys are kept for {least} to {most} days, not {}",
                after.retention_days
            );
        }
        if self.purge_protection && !after.purge_protection {
            return refuse!(PurgeProtected, "purge protection is on, and cannot be switched off again");
        }
        if self.purge_protection && after.retention_days < self.retention_days {
            return refuse!(
                PurgeProtected,
                "purge protection is on: the retention of {} days can be made longer, not shorter",
                self.retention_days
            );
        }
        if after.purge_protection && after.destroy_at_once {
            return refuse!(
                PurgeProtected,
                "with purge protection no key is destroyed at once: C_DestroyObject deletes softly"
            );
        }
        Ok(after)
    }
}

/// Looks after all partitions until it is dropped: deleted keys whose time has come go, and keys that are to have a new version
/// get one.
pub async fn keep(service: Arc<Service>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for slot in service.vault.slots() {
            let Slot::Sound(partition) = slot else { continue };
            let label = partition.label().to_owned();
            let audit = Arc::clone(&service.audit);
            let look = blocking(move || look_after(&partition, &audit)).await;
            if let Err(failure) = look {
                tracing::error!(partition = label, "deleted keys and rotation: {failure}");
            }
        }
    }
}

/// One look at a partition. What fails holds up nothing else.
fn look_after(partition: &Partition, audit: &Audit) -> Result<(), Failure> {
    partition.expire_session_objects();
    let (purged, mended) = (purge_due(partition, audit), mend(partition));
    purged.and(mended).and(super::request::rotate::rotate_due(partition, audit))
}

/// Destroys the deleted keys whose time has come. Blocks.
///
/// # Errors
///
/// STORE; those that are gone by then stay gone.
pub fn purge_due(partition: &Partition, audit: &Audit) -> Result<(), Failure> {
    // What is destroyed is gone for good: a clock that is wrong must not have it destroyed.
    let now = partition.age().certain();
    let (due, waits) = {
        let contents = partition.contents();
        let due: Vec<_> = contents.deleted.due(now).map(Arc::clone).collect();
        (due, !contents.deleted.is_empty())
    };
    if due.is_empty() && waits && partition.age().wants_storing() {
        // So that a system clock that is put back while the daemon is stopped takes an hour at most.
        partition.change(|_| Ok(()))?;
    }
    for due in due.chunks(AT_ONCE) {
        let infos: Vec<_> = due.iter().map(|object| &object.info).collect();
        let purge = || {
            partition.change(|change| {
                let contents = change.before();
                // Some of them may have been recovered or purged meanwhile.
                let still: Vec<_> = due
                    .iter()
                    .filter_map(|object| contents.deleted.get(&object.id))
                    .filter(|object| object.info.purge_due <= now)
                    .map(Arc::clone)
                    .collect();
                still.iter().for_each(|object| change.purge(object));
                Ok(still)
            })
        };
        let described = |entry: Entry, gone: &Vec<Arc<Object>>| match gone
            .iter()
            .any(|object| hex(&object.id) == entry.object)
        {
            true => entry,
            false => Entry { outcome: "no_such_object".to_owned(), ..entry },
        };
        let gone =
            audit.own_act(partition, ("purge_key", "its retention was over"), &infos, purge, described)?;
        for object in gone {
            tracing::info!(
                partition = partition.label(),
                object = object.title(),
                "retention over, key purged"
            );
        }
    }
    Ok(())
}

/// Objects that one change destroys or writes anew, and the bytes of their records: etcd takes no more at once than 128 operations
/// and 1.5 MiB, and some of it is for the partition's header and the ledger.
const AT_ONCE: usize = 100;
const BYTES_AT_ONCE: usize = 1 << 20;

/// Writes records anew that say what is no longer so: a time that was counted by a clock which was ahead, and somebody in a role that
/// is gone, who must not be named again by another role of that name. Blocks.
///
/// # Errors
///
/// STORE.
pub fn mend(partition: &Partition) -> Result<(), Failure> {
    let now = partition.age().now();
    let longest = now.saturating_add(u64::from(*RETENTION.end()) * DAY);
    let mended = |info: &ObjectInfo| ObjectInfo {
        purge_due: info.purge_due.min(longest),
        rotation_due: info.rotation_due.min(now.saturating_add(info.rotate_every)),
        ..info.clone()
    };
    let wrong: Vec<ObjectId> = {
        let contents = partition.contents();
        let is_wrong = |object: &&Arc<Object>| {
            object.info.purge_due > longest
                || object.info.rotation_due > now.saturating_add(object.info.rotate_every)
        };
        // What waits for nothing has no time: most keys are not looked at.
        let timed = contents.objects.due(u64::MAX).chain(contents.deleted.due(u64::MAX));
        let ahead = timed.filter(is_wrong).map(|object| object.id);
        let stale = contents.stale.iter().copied().filter(|id| contents.known(id).is_some());
        let mut wrong: BTreeSet<ObjectId> = stale.take(AT_ONCE).collect();
        wrong.extend(ahead.take(AT_ONCE - wrong.len()));
        let mut bytes = 0;
        let size = |id: &ObjectId| contents.known(id).map_or(0, |object| object.size());
        let has_place = |id: &ObjectId| {
            bytes += size(id);
            bytes == size(id) || bytes <= BYTES_AT_ONCE
        };
        wrong.into_iter().take_while(has_place).collect()
    };
    if wrong.is_empty() {
        return Ok(());
    }
    let titles = partition.change(|change| {
        let found: Vec<_> = wrong.iter().filter_map(|id| change.before().known(id)).collect();
        found
            .iter()
            .map(|object| Ok(change.rewrite(object, mended(&object.info))?.title()))
            .collect::<Result<Vec<_>, Failure>>()
    })?;
    tracing::warn!(partition = partition.label(), objects = ?titles, "records that were no longer so are written anew");
    Ok(())
}

/// Whether a search by label leaves this version of a key out: the label means the active one.
pub fn is_active(object: &Object) -> bool {
    object.info.version_state() == VersionState::Active
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purge_protection_only_grows() {
        let usual = Policy::default();
        assert_eq!((usual.retention_days, usual.purge_protection), (90, false));
        for days in [0, 6, 91] {
            assert!(usual.changed(Some(days), None, None).is_err());
        }
        let week = usual.changed(Some(7), None, Some(true)).unwrap();
        assert_eq!(week.retention(), 7 * 86_400);
        assert!(week.changed(None, Some(true), None).is_err(), "destroys at once");
        let safe = week.changed(None, Some(true), Some(false)).unwrap();
        assert!(safe.changed(None, Some(false), None).is_err());
        assert!(safe.changed(None, None, Some(true)).is_err());
        assert!(safe.changed(Some(90), None, None).unwrap().changed(Some(89), None, None).is_err());
        assert_eq!(safe.changed(None, None, None).unwrap(), safe);
    }
}
