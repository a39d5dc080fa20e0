//! A partition's own time, by which deleted keys go and keys get new versions.
//!
//! It is counted by a clock that never jumps while the daemon runs, and by the system's clock, forwards only, while it does
//! not. That one may be wrong when the daemon starts: a machine whose battery is empty, or whose clock somebody has set. So what it
//! says of the time in which the daemon did not run is in *doubt* until the daemon has run for as long again, or for a week. If the clock is put
//! right meanwhile, the time that was none is taken back; and nothing is destroyed because of time that is in doubt.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// How often the partition's time is written down while something waits for it, in seconds.
const SAVE_EVERY: u64 = 60 * 60;

/// For how long time is in doubt at most, in seconds: the shortest retention.
const DOUBT: u64 = 7 * 24 * 60 * 60;

/// What the two clocks may differ by without one of them having been set, in seconds.
const SLACK: u64 = 60;

/// The clocks of the machine, or a test's.
#[derive(Clone, Default)]
pub enum Clocks {
    /// The system's: the time of day, and the time since the machine started.
    #[default]
    System,
    /// Both are what a test says: seconds since 1970, and seconds.
    Set(Arc<Mutex<(u64, u64)>>),
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Clocks::System) { "System" } else { "Set" })
    }
}

impl Clocks {
    /// Seconds since 1970, UTC: what people call the time. It may jump.
    pub fn wall(&self) -> u64 {
        self.both().0
    }

    /// That, and seconds that never jump; also those in which the machine sleeps count.
    fn both(&self) -> (u64, u64) {
        match self {
            Clocks::System => {
                let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                (wall, u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default())
            }
            Clocks::Set(set) => *set.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// What is written down of a partition's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// The age, in seconds.
    pub age: u64,
    /// The time of day then, in seconds since 1970. 0: nothing was written down yet.
    pub wall: u64,
    /// So much of the age is in doubt.
    pub doubt: u64,
    /// For so long the daemon has run since.
    pub served: u64,
}

/// A partition's own time.
#[derive(Debug, Default)]
pub struct Age {
    clocks: OnceLock<Clocks>,
    /// Before this start.
    stored: Written,
    running: Mutex<Option<Running>>,
    /// The age when it was written down last.
    saved: AtomicU64,
}

/// How it was when it was last looked at, and the clocks then.
#[derive(Debug, Clone, Copy)]
struct Running {
    at: Written,
    steady: u64,
}

impl Running {
    /// At a start. A clock that was put back counts as no time, and takes back what was in doubt.
    fn start(stored: Written, wall: u64, steady: u64) -> Self {
        let Written { age, wall: before, doubt, served } = stored;
        let away = if before == 0 { 0 } else { wall.saturating_sub(before) };
        let back = before.saturating_sub(wall).min(doubt);
        let at = Written {
            age: age.saturating_add(away) - back.min(age),
            wall,
            doubt: doubt.saturating_add(away) - back,
            // More that is in doubt is waited for anew.
            served: served.saturating_sub(away),
        };
        Running { at, steady }
    }

    fn go_on(&mut self, wall: u64, steady: u64) {
        let passed = steady.saturating_sub(self.steady);
        let at = &mut self.at;
        let behind = at.wall.saturating_add(passed).saturating_sub(wall);
        if behind > SLACK {
            // The clock was put back: that it was ahead is why time was in doubt, as far as some is.
            let none = behind.min(at.doubt).min(at.age);
            at.doubt -= none;
            at.age -= none;
        }
        at.age = at.age.saturating_add(passed);
        at.served = at.served.saturating_add(passed);
        if at.served >= at.doubt.min(DOUBT) {
            (at.doubt, at.served) = (0, 0);
        }
        (at.wall, self.steady) = (wall, steady);
    }
}

impl Age {
    /// Goes on from what was written down.
    pub fn stored(stored: Written) -> Self {
        Self { stored, saved: AtomicU64::new(stored.age), ..Self::default() }
    }

    /// What was written down before this start.
    pub fn written(&self) -> Written {
        self.stored
    }

    /// Chooses the clocks, before the age is asked for, and begins to count.
    pub fn use_clocks(&self, clocks: &Clocks) {
        let _ = self.clocks.set(clocks.clone());
        self.to_store();
    }

    /// Takes in what another node has just written down: of both, what is more certain.
    pub fn adopt(&self, written: Written) {
        let now = self.to_store();
        let certain = |at: Written| at.age.saturating_sub(at.doubt);
        if certain(written) > certain(now) {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = &mut *running {
                // The time of day is this machine's.
                running.at = Written { wall: running.at.wall, ..written };
            }
        }
        self.is_stored(written.age);
    }

    /// The machine's clocks.
    pub fn clocks(&self) -> &Clocks {
        self.clocks.get_or_init(Clocks::default)
    }

    /// All of it, to be written down.
    pub fn to_store(&self) -> Written {
        let clocks = self.clocks();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall, steady) = clocks.both();
        let running = running.get_or_insert_with(|| Running::start(self.stored, wall, steady));
        running.go_on(wall, steady);
        running.at
    }

    /// How old the partition is, in seconds.
    pub fn now(&self) -> u64 {
        self.to_store().age
    }

    /// How old it is at least, in seconds: without what is in doubt.
    pub fn certain(&self) -> u64 {
        let at = self.to_store();
        at.age.saturating_sub(at.doubt)
    }

    /// Says that this age was written down.
    pub fn is_stored(&self, age: u64) {
        self.saved.store(age, Ordering::Release);
    }

    /// Whether it should be written down again.
    pub(super) fn wants_storing(&self) -> bool {
        self.now().abs_diff(self.saved.load(Ordering::Acquire)) >= SAVE_EVERY
    }

    /// The time of day at which it will be certain that the partition has this age, as far as the clocks go on as they do.
    pub fn as_wall(&self, age: u64) -> u64 {
        let at = self.to_store();
        let certain = at.age.saturating_sub(at.doubt);
        let Some(ahead) = age.checked_sub(certain) else { return at.wall.saturating_sub(at.age - age) };
        let doubted = at.doubt.min(DOUBT).saturating_sub(at.served);
        let wait = ahead.min(doubted.max(age.saturating_sub(at.age)));
        at.wall.saturating_add(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    type Hands = Arc<Mutex<(u64, u64)>>;

    fn started(stored: Written, wall: u64) -> (Age, Hands) {
        let hands = Arc::new(Mutex::new((wall, 50)));
        let age = Age::stored(stored);
        age.use_clocks(&Clocks::Set(Arc::clone(&hands)));
        (age, hands)
    }

    fn pass(hands: &Hands, seconds: u64) {
        let mut hands = hands.lock().unwrap();
        *hands = (hands.0 + seconds, hands.1 + seconds);
    }

    fn written(age: u64, wall: u64) -> Written {
        Written { age, wall, ..Written::default() }
    }

    #[test]
    fn a_clock_that_jumps_changes_nothing_while_the_daemon_runs() {
        let (age, hands) = started(written(700, 999_000), 1_000_000);
        assert_eq!(age.now(), 1_700, "a thousand seconds passed while the daemon did not run");
        pass(&hands, 1_000);
        assert_eq!(age.certain(), 2_700, "and are no longer in doubt");
        for wall in [5, 90_000_000] {
            let steady = hands.lock().unwrap().1 + 10;
            *hands.lock().unwrap() = (wall, steady);
            assert_eq!(age.now(), age.certain());
        }
        assert_eq!(age.to_store(), written(2_720, 90_000_000));
        assert_eq!((age.as_wall(2_820), age.as_wall(2_620)), (90_000_100, 89_999_900));
        // Put back over a restart, it counts as no time.
        let (age, _) = started(age.to_store(), 10);
        assert_eq!(age.to_store(), written(2_720, 10));
        // A partition that never wrote its time down begins at 0.
        let (age, _) = started(Written::default(), 5_000_000);
        assert_eq!(age.now(), 0);
    }

    #[test]
    fn a_clock_that_is_ahead_at_the_start_and_put_right_is_no_time() {
        let (age, hands) = started(written(700, 1_000_000), 1_000_000 + 400 * DAY);
        assert_eq!((age.now(), age.certain()), (700 + 400 * DAY, 700));
        // What would be over by it is not before a week has passed.
        assert_eq!(age.as_wall(700 + 90 * DAY), 1_000_000 + 407 * DAY);
        pass(&hands, DAY);
        assert_eq!(age.certain(), 700 + DAY);
        hands.lock().unwrap().0 -= 400 * DAY;
        pass(&hands, 1);
        assert_eq!(age.to_store(), written(701 + DAY, 1_000_001 + DAY));
        // Or while it is stopped.
        let (age, hands) = started(written(700, 1_000_000), 1_000_000 + 400 * DAY);
        pass(&hands, DAY);
        let (age, _) = started(age.to_store(), 1_000_000 + DAY);
        assert_eq!((age.now(), age.certain()), (700 + DAY, 700 + DAY));
    }

    #[test]
    fn what_another_node_knows_for_certain_is_certain() {
        // Started after a while in which another node ran, which this one cannot know.
        let (age, hands) = started(written(700, 1_000_000), 1_000_000 + 3 * DAY);
        assert_eq!((age.now(), age.certain()), (700 + 3 * DAY, 700));
        age.adopt(written(600 + 3 * DAY, 1_000_000 + 5 * DAY));
        assert_eq!((age.now(), age.certain()), (600 + 3 * DAY, 600 + 3 * DAY));
        pass(&hands, 10);
        assert_eq!(age.to_store(), written(610 + 3 * DAY, 1_000_010 + 3 * DAY));
        // What it doubts, or has less of, changes nothing.
        age.adopt(Written { age: 900 * DAY, wall: 5, doubt: 899 * DAY, served: 1 });
        age.adopt(written(5, 5));
        assert_eq!(age.certain(), 610 + 3 * DAY);
        assert!(age.wants_storing(), "what was written is less than what is known");
    }

    #[test]
    fn time_in_which_the_daemon_did_not_run_is_believed_when_it_has_run_for_as_long_or_a_week() {
        let (age, hands) = started(written(700, 1_000_000), 1_000_000 + 3 * DAY);
        pass(&hands, 3 * DAY - 1);
        assert_eq!(age.certain(), 699 + 3 * DAY);
        pass(&hands, 1);
        assert_eq!(age.certain(), 700 + 6 * DAY);
        let (mut age, mut hands) = started(written(700, 1_000_000), 1_000_000 + 100 * DAY);
        // A restart every day holds nothing up.
        for day in 1..=7 {
            pass(&hands, DAY);
            if day < 7 {
                let stored = age.to_store();
                assert_eq!(stored.doubt, 100 * DAY, "{day}");
                (age, hands) = started(stored, stored.wall);
            }
        }
        assert_eq!(age.certain(), 700 + 107 * DAY);
        // But a clock that goes ahead again does.
        let (age, hands) = started(written(700, 1_000_000), 1_000_000 + 100 * DAY);
        pass(&hands, 6 * DAY);
        let stored = age.to_store();
        let (age, hands) = started(stored, stored.wall + 50 * DAY);
        pass(&hands, 6 * DAY);
        assert_eq!(age.certain(), 700 + 12 * DAY);
        assert!(age.wants_storing());
    }
}
