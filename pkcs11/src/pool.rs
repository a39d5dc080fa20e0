//! The process's connections to the daemon: one for each call that is under way, kept warm between calls.
//!
//! A call takes an idle connection with one atomic operation, most often the one that its thread used last. Only a
//! call for which there is none takes a lock, to wait.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cryptoki_sys::*;
use rustix::net::{Shutdown, shutdown};
use strongroom_protocol::client::Connection;

use crate::descriptors::{Descriptors, Registration};
use crate::error::{Outcome, lock};

/// The most connections that a process opens: the most calls that are under way at once.
pub const MAX_CONNECTIONS: usize = 256;

/// How long a call waits for one of them to become free.
pub const WAIT: Duration = Duration::from_secs(10);

/// A connection that was idle for this long is closed when another one is given back.
const IDLE: Duration = Duration::from_secs(60);

/// A connection that nobody logged in on.
pub const ANONYMOUS: u64 = 0;

/// The epoch of a connection that must not be used again.
pub const RETIRED: u64 = u64::MAX;

/// The connections of a process. It lives until the process ends, so that a lease needs no count.
#[derive(Debug)]
pub struct Pool {
    /// [`MAX_CONNECTIONS`].
    places: Box<[Place]>,
    /// Places that were ever used are below this one.
    used: AtomicUsize,
    /// Places that are not vacant.
    open: AtomicUsize,
    /// Calls that wait for one to become free. Waking nobody would be a system call in every signature.
    waiting: AtomicUsize,
    gate: Mutex<()>,
    freed: Condvar,
    /// After `C_Finalize`: what comes back is closed.
    closed: AtomicBool,
    start: Instant,
    /// When idle connections were looked through last, in milliseconds after `start`.
    swept: AtomicU64,
    descriptors: Descriptors,
}

/// Where a connection is while no call uses it. In a cache line of its own: threads use different ones.
#[derive(Debug)]
#[repr(align(64))]
struct Place {
    /// [`VACANT`], [`TAKEN`], or that of an idle connection's epoch (see [`idle`]). Whoever changes it from idle or
    /// vacant to taken has the place.
    state: AtomicU64,
    /// When the connection was given back, in milliseconds after [`Pool::start`].
    since: AtomicU64,
    /// There if it is idle. Its lock is for who has the place only: nobody waits for it.
    pooled: Mutex<Option<Box<Pooled>>>,
}

const VACANT: u64 = 0;
const TAKEN: u64 = 1;

/// The state of a place with an idle connection of this epoch.
fn idle(epoch: u64) -> u64 {
    epoch.saturating_add(2)
}

/// The epoch of the idle connection, if this state is that of one.
fn epoch_of(state: u64) -> Option<u64> {
    state.checked_sub(2)
}

thread_local! {
    /// The place that this thread used last, in any process.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

/// An open connection.
#[derive(Debug)]
pub struct Pooled {
    /// Taken by the drop.
    registration: Option<Registration>,
    /// The connection.
    pub connection: ManuallyDrop<Connection>,
    /// Which log-in it carries (see [`crate::login`]), or [`ANONYMOUS`], or [`RETIRED`].
    pub epoch: u64,
    /// The number of the node that it leads to.
    pub node: usize,
}

impl Drop for Pooled {
    /// Closes the connection, in children that were forked meanwhile too.
    fn drop(&mut self) {
        let Some(registration) = self.registration.take() else { return };
        // An application that closes descriptors of others may have a file of its own under this number now.
        if registration.is_still(self.connection.as_fd()) {
            // A child has a copy, with which the daemon would keep the connection; this ends it for all. The
            // parent's connections are never dropped in a child (see `crate::state`).
            let _ = shutdown(self.connection.as_fd(), Shutdown::Both);
            // First the number is forgotten, then closed: it may become another file's.
            drop(registration);
            // SAFETY: here only, and the value is not used again.
            unsafe { ManuallyDrop::drop(&mut self.connection) };
        }
    }
}

/// The right to one connection: to one that is open, or to open one.
#[derive(Debug)]
pub struct Lease {
    pool: &'static Pool,
    number: usize,
    pooled: Option<Box<Pooled>>,
}

impl Default for Pool {
    fn default() -> Self {
        let vacant =
            |_| Place { state: AtomicU64::new(VACANT), since: AtomicU64::new(0), pooled: Mutex::default() };
        Pool {
            places: (0..MAX_CONNECTIONS).map(vacant).collect(),
            used: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            gate: Mutex::default(),
            freed: Condvar::new(),
            closed: AtomicBool::new(false),
            start: Instant::now(),
            swept: AtomicU64::new(0),
            // A connection's, and that of a channel's bell; and a trial's.
            descriptors: Descriptors::new(2 * MAX_CONNECTIONS + 1),
        }
    }
}

impl Pool {
    /// Takes an idle connection that carries the log-in `epoch`, or the right to open one.
    ///
    /// # Errors
    ///
    /// `CKR_DEVICE_ERROR` if all connections stay in use for ten seconds.
    pub fn lease(&'static self, epoch: u64) -> Outcome<Lease> {
        self.take(epoch, MAX_CONNECTIONS, None)
    }

    /// As [`Pool::lease`], when the process has no descriptor left for a further connection: waits, until `until`,
    /// for one of those that are open.
    ///
    /// # Errors
    ///
    /// `CKR_DEVICE_ERROR` if they all stay in use; `CKR_HOST_MEMORY` if there are none.
    pub fn lease_open(&'static self, epoch: u64, until: Instant) -> Outcome<Lease> {
        self.take(epoch, 0, Some(until))
    }

    /// Takes one, as long as there are no more than `limit`.
    fn take(&'static self, epoch: u64, limit: usize, mut until: Option<Instant>) -> Outcome<Lease> {
        if let Some(lease) = self.take_now(epoch, limit) {
            return Ok(lease);
        }
        let until = *until.get_or_insert_with(|| Instant::now() + WAIT);
        let mut gate = lock(&self.gate);
        // Whoever frees a place from now on looks at this number afterwards, and at the gate.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = loop {
            if let Some(lease) = self.take_now(epoch, limit) {
                break Ok(lease);
            }
            if self.open.load(Ordering::SeqCst) == 0 {
                // Who else waits for one waits in vain.
                self.freed.notify_all();
                break Err(CKR_HOST_MEMORY);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(CKR_DEVICE_ERROR);
            }
            gate = self.freed.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    fn take_now(&'static self, epoch: u64, limit: usize) -> Option<Lease> {
        if let Some(lease) = self.lease_idle(epoch) {
            return Some(lease);
        }
        let count = |open| if open < limit { Some(open + 1) } else { None };
        if self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_ok() {
            // There is a vacant place for each that is not counted.
            loop {
                let is_ours = |place: &Place| swap(place, VACANT);
                if let Some(number) = self.places.iter().position(is_ours) {
                    self.used.fetch_max(number + 1, Ordering::SeqCst);
                    return Some(Lease { pool: self, number, pooled: None });
                }
            }
        }
        // One of another log-in: its place is taken.
        let mut lease = self.take_idle(|_| true)?;
        lease.discard();
        Some(lease)
    }

    /// Takes an idle connection with this log-in, and opens none.
    pub fn lease_idle(&'static self, epoch: u64) -> Option<Lease> {
        let last = LAST.get();
        if self.places.get(last).is_some_and(|place| swap(place, idle(epoch))) {
            return Some(self.leased(last));
        }
        self.take_idle(|other| other == epoch)
    }

    fn take_idle(&'static self, fits: impl Fn(u64) -> bool) -> Option<Lease> {
        let used = self.places.get(..self.used.load(Ordering::SeqCst)).unwrap_or_default();
        let number = used.iter().position(|place| {
            let state = place.state.load(Ordering::SeqCst);
            epoch_of(state).is_some_and(&fits) && swap(place, state)
        })?;
        Some(self.leased(number))
    }

    /// The lease of a place that was taken with its connection.
    fn leased(&'static self, number: usize) -> Lease {
        LAST.set(number);
        let pooled = self.places.get(number).and_then(|place| lock(&place.pooled).take());
        Lease { pool: self, number, pooled }
    }

    /// Closes the idle connections of the epochs for which `stale` says so.
    pub fn close_idle(&'static self, stale: impl Fn(u64) -> bool) {
        // What made them stale is known before they are looked for (see Lease::keep).
        fence(Ordering::SeqCst);
        for number in 0..self.used.load(Ordering::SeqCst) {
            let Some(place) = self.places.get(number) else { return };
            let state = place.state.load(Ordering::SeqCst);
            if epoch_of(state).is_some_and(&stale) && swap(place, state) {
                drop(self.leased(number));
            }
        }
    }

    /// Closes everything that is idle now, and what is under way when it is done.
    pub fn close(&'static self) {
        self.closed.store(true, Ordering::SeqCst);
        self.close_idle(|_| true);
    }

    /// Makes it usable again after [`Pool::close`].
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// After a place has become idle or vacant.
    fn wake_one(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // Who waits has looked at all places before, and sleeps as soon as we get the gate.
            drop(lock(&self.gate));
            self.freed.notify_one();
        }
    }

    /// Closes what was idle for long, now and then.
    fn sweep(&'static self, now: u64) {
        const LONG: u64 = IDLE.as_millis() as u64;
        let swept = self.swept.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(swept) > LONG / 4;
        if !is_due || self.swept.compare_exchange(swept, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        for (number, place) in self.places.iter().enumerate() {
            let state = place.state.load(Ordering::SeqCst);
            let is_old = now.saturating_sub(place.since.load(Ordering::Relaxed)) > LONG;
            if is_old && epoch_of(state).is_some() && swap(place, state) {
                drop(self.leased(number));
            }
        }
    }

    /// Remembers a descriptor for children to close. `None` if it cannot be told from others later.
    pub fn register(&'static self, descriptor: BorrowedFd<'_>) -> Option<Registration> {
        self.descriptors.register(descriptor)
    }

    /// Closes this process's copies of the connections that another process, which forked this one, had open.
    /// Takes no lock: a thread of the other process may have held it at the fork.
    pub fn close_inherited(&self) {
        self.descriptors.close_inherited();
    }
}

/// Takes a place that is in this state.
fn swap(place: &Place, state: u64) -> bool {
    place.state.compare_exchange(state, TAKEN, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

impl Lease {
    /// The connection, if one is open.
    pub fn pooled(&mut self) -> Option<&mut Pooled> {
        self.pooled.as_deref_mut()
    }

    /// Puts a newly opened connection in. It is given up if its descriptor cannot be remembered.
    pub fn fill(&mut self, connection: Connection) {
        self.pooled = self.pool.descriptors.register(connection.as_fd()).map(|registration| {
            let connection = ManuallyDrop::new(connection);
            Box::new(Pooled { registration: Some(registration), connection, epoch: ANONYMOUS, node: 0 })
        });
    }

    /// Closes the connection and keeps the right to open another.
    pub fn discard(&mut self) {
        self.pooled = None;
    }

    /// Remembers another descriptor that belongs to the connection, for a child to close its copy. `None` if it
    /// cannot be told from others later.
    pub fn register(&self, number: RawFd) -> Option<Registration> {
        // SAFETY: only asks about the number; if it is no open descriptor, the kernel says so.
        self.pool.descriptors.register(unsafe { BorrowedFd::borrow_raw(number) })
    }

    /// Gives the connection back for the next call, or closes it if `reuse` says no to its epoch. `reuse` is asked
    /// again when others can see the connection: either they find it stale and close it, or we do.
    pub fn keep(mut self, reuse: impl Fn(u64) -> bool) {
        let pool = self.pool;
        let fits = |epoch| epoch != RETIRED && !pool.closed.load(Ordering::SeqCst) && reuse(epoch);
        let Some(place) = pool.places.get(self.number) else { return };
        let Some(pooled) = self.pooled.take_if(|pooled| fits(pooled.epoch)) else { return };
        let epoch = pooled.epoch;
        *lock(&place.pooled) = Some(pooled);
        let now = pool.start.elapsed().as_millis() as u64;
        place.since.store(now, Ordering::Relaxed);
        LAST.set(self.number);
        // The place stays taken: by the idle connection.
        std::mem::forget(self);
        place.state.store(idle(epoch), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !fits(epoch) {
            pool.close_idle(|other| other == epoch);
        }
        pool.wake_one();
        pool.sweep(now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pooled = None;
        if let Some(place) = self.pool.places.get(self.number) {
            place.state.store(VACANT, Ordering::SeqCst);
        }
        self.pool.open.fetch_sub(1, Ordering::SeqCst);
        self.pool.wake_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(pool: &Pool) -> usize {
        pool.open.load(Ordering::SeqCst)
    }

    #[test]
    fn leases_are_limited_and_come_back() {
        let pool: &'static Pool = Box::leak(Box::default());
        let mut leases: Vec<_> = (0..MAX_CONNECTIONS).map(|_| pool.lease(ANONYMOUS).unwrap()).collect();
        assert_eq!(open(pool), MAX_CONNECTIONS);
        assert!(pool.take_now(ANONYMOUS, MAX_CONNECTIONS).is_none());
        leases.pop();
        let again = pool.lease(ANONYMOUS).unwrap();
        drop(leases);
        drop(again);
        assert_eq!(open(pool), 0);
        assert_eq!(pool.lease_open(ANONYMOUS, Instant::now() + WAIT).unwrap_err(), CKR_HOST_MEMORY);
    }

    #[test]
    fn a_call_waits_for_a_connection_to_become_free() {
        let pool: &'static Pool = Box::leak(Box::default());
        let mut leases: Vec<_> = (0..MAX_CONNECTIONS).map(|_| pool.lease(ANONYMOUS).unwrap()).collect();
        let waiting = std::thread::spawn(|| pool.lease(ANONYMOUS).is_ok());
        while pool.waiting.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        leases.pop();
        assert!(waiting.join().unwrap());
    }

    /// More threads than places: each gets its turn, and no place is lost or given twice.
    #[test]
    fn threads_share_places() {
        let pool: &'static Pool = Box::leak(Box::default());
        let kept: Vec<_> = (8..MAX_CONNECTIONS).map(|_| pool.lease(ANONYMOUS).unwrap()).collect();
        let under_way = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let lease = pool.lease(7).unwrap();
                        assert!(under_way.fetch_add(1, Ordering::SeqCst) < 8);
                        std::thread::yield_now();
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        lease.keep(|_| true);
                    }
                });
            }
        });
        assert_eq!(open(pool), kept.len());
    }
}
