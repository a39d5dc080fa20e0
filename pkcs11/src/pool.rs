//! The process's connections to the daemon: one for each call that is under way, kept warm between calls.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki_sys::*;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown, sockopt};
use strongroom_protocol::client::Connection;

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
    inner: Mutex<Inner>,
    freed: Condvar,
    descriptors: Descriptors,
}

#[derive(Debug, Default)]
struct Inner {
    /// The most recently used last.
    idle: Vec<Pooled>,
    /// Idle and leased ones.
    open: usize,
    /// Calls that wait for one to become free. Waking nobody would be a system call in every signature.
    waiting: usize,
    /// After `C_Finalize`: what comes back is closed.
    closed: bool,
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
    /// When it was given back last.
    used: Instant,
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
    pooled: Option<Pooled>,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { inner: Mutex::default(), freed: Condvar::new(), descriptors: Descriptors::new() }
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
        let mut inner = lock(&self.inner);
        loop {
            if let Some(index) = inner.idle.iter().rposition(|idle| idle.epoch == epoch) {
                let pooled = inner.idle.remove(index);
                return Ok(Lease { pool: self, pooled: Some(pooled) });
            }
            if inner.open < limit {
                inner.open += 1;
                return Ok(Lease { pool: self, pooled: None });
            }
            if !inner.idle.is_empty() {
                // The one that was idle the longest. It carries another log-in: its place is taken.
                let other = inner.idle.remove(0);
                drop(inner);
                drop(other);
                return Ok(Lease { pool: self, pooled: None });
            }
            if inner.open == 0 {
                drop(inner);
                // Who else waits for one waits in vain.
                self.freed.notify_all();
                return Err(CKR_HOST_MEMORY);
            }
            let now = Instant::now();
            let left = until.get_or_insert(now + WAIT).saturating_duration_since(now);
            if left.is_zero() {
                return Err(CKR_DEVICE_ERROR);
            }
            inner.waiting += 1;
            inner = self.freed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            inner.waiting -= 1;
        }
    }

    /// Takes an idle connection with this log-in, and opens none.
    pub fn lease_idle(&'static self, epoch: u64) -> Option<Lease> {
        let mut inner = lock(&self.inner);
        let index = inner.idle.iter().rposition(|idle| idle.epoch == epoch)?;
        let pooled = inner.idle.remove(index);
        Some(Lease { pool: self, pooled: Some(pooled) })
    }

    /// Closes the idle connections for which `stale` says so.
    pub fn close_idle(&self, stale: impl Fn(&Pooled) -> bool) {
        let mut inner = lock(&self.inner);
        let (gone, kept): (Vec<_>, Vec<_>) = inner.idle.drain(..).partition(|idle| stale(idle));
        inner.idle = kept;
        inner.open -= gone.len();
        let waiting = inner.waiting > 0;
        drop(inner);
        if waiting {
            self.freed.notify_all();
        }
    }

    /// Closes everything that is idle now, and what is under way when it is done.
    pub fn close(&self) {
        lock(&self.inner).closed = true;
        self.close_idle(|_| true);
    }

    /// Makes it usable again after [`Pool::close`].
    pub fn reopen(&self) {
        lock(&self.inner).closed = false;
    }

    fn wake_one(&self, inner: MutexGuard<'_, Inner>) {
        let waiting = inner.waiting > 0;
        drop(inner);
        if waiting {
            self.freed.notify_one();
        }
    }

    /// Closes this process's copies of the connections that another process, which forked this one, had open.
    /// Takes no lock: a thread of the other process may have held it at the fork.
    pub fn close_inherited(&self) {
        self.descriptors.close_inherited();
    }
}

impl Lease {
    /// The connection, if one is open.
    pub fn pooled(&mut self) -> Option<&mut Pooled> {
        self.pooled.as_mut()
    }

    /// Puts a newly opened connection in. It is given up if its descriptor cannot be remembered.
    pub fn fill(&mut self, connection: Connection) {
        self.pooled = self.pool.descriptors.register(connection.as_fd()).map(|registration| Pooled {
            registration: Some(registration),
            connection: ManuallyDrop::new(connection),
            epoch: ANONYMOUS,
            used: Instant::now(),
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

    /// Gives the connection back for the next call, or closes it if it is not to be reused. `reuse` is asked
    /// while nobody else can close connections: what it found out still holds.
    pub fn keep(mut self, reuse: impl FnOnce(&Pooled) -> bool) {
        let now = Instant::now();
        let mut inner = lock(&self.pool.inner);
        let closed = inner.closed;
        let Some(mut pooled) =
            self.pooled.take_if(|pooled| !closed && pooled.epoch != RETIRED && reuse(pooled))
        else {
            // The lock is given back before the lease is dropped, which takes it again.
            drop(inner);
            return;
        };
        pooled.used = now;
        let stale = inner.idle.iter().take_while(|idle| now.duration_since(idle.used) > IDLE).count();
        let gone: Vec<_> = inner.idle.drain(..stale).collect();
        inner.open -= stale;
        inner.idle.push(pooled);
        self.pool.wake_one(inner);
        drop(gone);
        // The place stays taken: by the idle connection.
        std::mem::forget(self);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pooled = None;
        let mut inner = lock(&self.pool.inner);
        inner.open -= 1;
        self.pool.wake_one(inner);
    }
}

/// The numbers of all open descriptors, readable by a child without a lock.
#[derive(Debug)]
struct Descriptors {
    /// Two for each connection, not on the stack: some applications have little of it.
    slots: Box<[Descriptor]>,
}

#[derive(Debug)]
struct Descriptor {
    /// [`FREE`], [`TAKEN`] (its number is not known yet), or the number.
    number: AtomicI32,
    /// See [`identity`].
    identity: AtomicU64,
}

const FREE: RawFd = -1;
const TAKEN: RawFd = -2;

/// An entry of [`Descriptors`], freed when it is dropped.
#[derive(Debug)]
pub struct Registration(&'static Descriptor);

impl Descriptors {
    fn new() -> Self {
        let free = |_| Descriptor { number: AtomicI32::new(FREE), identity: AtomicU64::new(0) };
        Descriptors { slots: (0..2 * MAX_CONNECTIONS).map(free).collect() }
    }

    fn register(&'static self, descriptor: BorrowedFd<'_>) -> Option<Registration> {
        let identity = identity(descriptor)?;
        for slot in &*self.slots {
            if slot.number.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                slot.identity.store(identity, Ordering::Release);
                slot.number.store(descriptor.as_raw_fd(), Ordering::Release);
                return Some(Registration(slot));
            }
        }
        None
    }

    fn close_inherited(&self) {
        for slot in &*self.slots {
            let number = slot.number.swap(FREE, Ordering::AcqRel);
            if number < 0 {
                continue;
            }
            // SAFETY: only asks about the number; if it is no open descriptor, the kernel says so.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            if identity(borrowed) == Some(slot.identity.load(Ordering::Acquire)) {
                // SAFETY: this process's copy of our socket, whose owner (a Connection in the abandoned state)
                // is never used or dropped in this process.
                unsafe { libc::close(number) };
            }
        }
    }
}

/// Tells whether a number is still the same file: what the kernel calls this socket, uniquely since the machine's
/// start. Some kernels and sandboxes do not say; there it is the socket's inode. All bells (eventfds) have one inode;
/// they have numbers of their own.
fn identity(descriptor: BorrowedFd<'_>) -> Option<u64> {
    match sockopt::socket_cookie(descriptor) {
        Ok(cookie) => Some(cookie),
        Err(Errno::BADF) => None,
        Err(Errno::NOTSOCK) => {
            let told =
                std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).ok()?;
            let number = told.lines().find_map(|line| line.strip_prefix("eventfd-id:"))?;
            number.trim().parse().ok()
        }
        Err(_) => rustix::fs::fstat(descriptor).ok().map(|stat| stat.st_dev.rotate_left(32) ^ stat.st_ino),
    }
}

impl Registration {
    /// Whether the descriptor is the file that was registered.
    fn is_still(&self, descriptor: BorrowedFd<'_>) -> bool {
        identity(descriptor) == Some(self.0.identity.load(Ordering::Acquire))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.number.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn leases_are_limited_and_come_back() {
        let pool: &'static Pool = Box::leak(Box::default());
        let mut leases: Vec<_> = (0..MAX_CONNECTIONS).map(|_| pool.lease(ANONYMOUS).unwrap()).collect();
        assert_eq!(lock(&pool.inner).open, MAX_CONNECTIONS);
        leases.pop();
        let again = pool.lease(ANONYMOUS).unwrap();
        drop(leases);
        drop(again);
        assert_eq!(lock(&pool.inner).open, 0);
    }

    #[test]
    fn a_call_waits_for_a_connection_to_become_free() {
        let pool: &'static Pool = Box::leak(Box::default());
        let mut leases: Vec<_> = (0..MAX_CONNECTIONS).map(|_| pool.lease(ANONYMOUS).unwrap()).collect();
        let waiting = std::thread::spawn(|| pool.lease(ANONYMOUS).is_ok());
        while lock(&pool.inner).waiting == 0 {
            std::thread::yield_now();
        }
        leases.pop();
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn only_our_own_sockets_are_closed_in_a_child() {
        let descriptors: &'static Descriptors = Box::leak(Box::new(Descriptors::new()));
        let (ours, _peer) = UnixStream::pair().unwrap();
        let (replaced, _peer) = UnixStream::pair().unwrap();
        let (other, _peer) = UnixStream::pair().unwrap();
        std::mem::forget(descriptors.register(ours.as_fd()).unwrap());
        std::mem::forget(descriptors.register(replaced.as_fd()).unwrap());
        // SAFETY: both are open descriptors of this test; the number then belongs to another socket.
        unsafe { assert!(libc::dup2(other.as_raw_fd(), replaced.as_raw_fd()) >= 0) };
        descriptors.close_inherited();
        assert!(sockopt::socket_cookie(&replaced).is_ok(), "another file under the same number stays open");
        // SAFETY: asks about a number.
        let closed = unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_GETFD) } == -1;
        assert!(closed);
        std::mem::forget(ours);
    }
}
