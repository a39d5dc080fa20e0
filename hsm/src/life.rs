//! The life of keys: soft delete, purge, versions, and the clock by which they go.
//!
//! A deleted key stays in the store, sealed, for as long as the partition keeps deleted keys; nobody finds it, and it does
//! nothing. It is recovered or purged by a crypto officer, or goes by itself.
//!
//! The time that passes is the partition's own: it is counted by a clock that never jumps while the daemon runs, and by the
//! system's clock, forwards only, while it does not. So a system clock that is put back, or ahead, lets nothing go too early or
//! too late while the daemon runs.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use strongroom_audit::Entry;
use strongroom_audit::chain::hex;
use strongroom_protocol::v1::VersionState;

use crate::audit::Audit;
use crate::failure::{Failure, refuse};
use crate::object::{Object, Search};
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

/// How often the partition's time is written down while something waits for it, in seconds.
const SAVE_EVERY: u64 = 60 * 60;

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

/// The clocks of the machine, or a test's.
#[derive(Clone, Default)]
pub enum Clocks {
    /// The system's: the time of day, and the time since the machine started.
    #[default]
    System,
    /// Both are what a test says: seconds since 1970, and seconds.
    Set(Arc<(AtomicU64, AtomicU64)>),
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Clocks::System) { "System" } else { "Set" })
    }
}

impl Clocks {
    /// Seconds since 1970, UTC: what people call the time. It may jump.
    pub fn wall(&self) -> u64 {
        match self {
            Clocks::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Clocks::Set(set) => set.0.load(Ordering::Acquire),
        }
    }

    /// Seconds that never jump; also those in which the machine sleeps count.
    fn steady(&self) -> u64 {
        match self {
            Clocks::System => u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default(),
            Clocks::Set(set) => set.1.load(Ordering::Acquire),
        }
    }
}

/// A partition's own time.
#[derive(Debug, Default)]
pub struct Age {
    clocks: OnceLock<Clocks>,
    /// The age when it was written down last before this start, and the time of day then.
    stored: (u64, u64),
    /// The age and the steady clock when it was first asked for.
    started: OnceLock<(u64, u64)>,
    /// The age when it was written down last.
    saved: AtomicU64,
}

impl Age {
    /// Goes on from what was written down: the age in seconds and the time of day then.
    pub fn stored(age: u64, wall: u64) -> Self {
        Self { stored: (age, wall), saved: AtomicU64::new(age), ..Self::default() }
    }

    /// Chooses the clocks, before the age is asked for.
    pub fn use_clocks(&self, clocks: &Clocks) {
        let _ = self.clocks.set(clocks.clone());
    }

    /// The machine's clocks.
    pub fn clocks(&self) -> &Clocks {
        self.clocks.get_or_init(Clocks::default)
    }

    /// How old the partition is, in seconds.
    pub fn now(&self) -> u64 {
        let clocks = self.clocks();
        let (age, steady) = self.started.get_or_init(|| {
            let (age, wall) = self.stored;
            // Nothing was written down yet: it begins now. A clock that was put back counts as no time.
            let away = if wall == 0 { 0 } else { clocks.wall().saturating_sub(wall) };
            (age.saturating_add(away), clocks.steady())
        });
        age.saturating_add(clocks.steady().saturating_sub(*steady))
    }

    /// The age and the time of day, to be written down.
    pub fn to_store(&self) -> (u64, u64) {
        (self.now(), self.clocks().wall())
    }

    /// Says that this age was written down.
    pub fn is_stored(&self, age: u64) {
        self.saved.store(age, Ordering::Release);
    }

    fn wants_storing(&self) -> bool {
        self.now().saturating_sub(self.saved.load(Ordering::Acquire)) >= SAVE_EVERY
    }

    /// The time of day at which the partition will have this age, as far as the clocks go on as they do.
    pub fn as_wall(&self, age: u64) -> u64 {
        let (now, wall) = self.to_store();
        match age.checked_sub(now) {
            Some(ahead) => wall.saturating_add(ahead),
            None => wall.saturating_sub(now - age),
        }
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

/// One look at a partition.
fn look_after(partition: &Partition, audit: &Audit) -> Result<(), Failure> {
    partition.expire_session_objects();
    let now = partition.age().now();
    let (due, waits) = {
        let contents = partition.contents();
        let all = || contents.deleted.find(Search::default());
        let due: Vec<_> = all().filter(|object| object.info.purge_due <= now).map(Arc::clone).collect();
        (due, !contents.deleted.is_empty())
    };
    if !due.is_empty() {
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
    } else if waits && partition.age().wants_storing() {
        // So that a system clock that is put back while the daemon is stopped takes an hour at most.
        partition.change(|_| Ok(()))?;
    }
    super::request::rotate::rotate_due(partition, audit)
}

/// Whether a search by label leaves this version of a key out: the label means the active one.
pub fn is_active(object: &Object) -> bool {
    object.info.version_state() == VersionState::Active
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(wall: u64, steady: u64) -> (Clocks, Arc<(AtomicU64, AtomicU64)>) {
        let clocks = Arc::new((AtomicU64::new(wall), AtomicU64::new(steady)));
        (Clocks::Set(Arc::clone(&clocks)), clocks)
    }

    #[test]
    fn a_clock_that_jumps_changes_nothing_while_the_daemon_runs() {
        let (clocks, hands) = set(1_000_000, 50);
        let age = Age::stored(700, 999_000);
        age.use_clocks(&clocks);
        assert_eq!(age.now(), 1_700, "a thousand seconds passed while the daemon did not run");
        for wall in [5, 90_000_000] {
            hands.0.store(wall, Ordering::Release);
            hands.1.fetch_add(10, Ordering::AcqRel);
        }
        assert_eq!(age.now(), 1_720);
        assert_eq!(age.to_store(), (1_720, 90_000_000));
        assert_eq!((age.as_wall(1_820), age.as_wall(1_620)), (90_000_100, 89_999_900));
        // Put back over a restart, it counts as no time; put ahead, as that time.
        let (clocks, _) = set(10, 3);
        let age = Age::stored(1_720, 90_000_000);
        age.use_clocks(&clocks);
        assert_eq!(age.now(), 1_720);
        // A partition that never wrote its time down begins at 0.
        let age = Age::default();
        age.use_clocks(&clocks);
        assert_eq!(age.now(), 0);
    }

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
