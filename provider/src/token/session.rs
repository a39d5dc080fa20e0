//! A pool of sessions with one token.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::module::{Module, Rv};
use crate::thread_place::thread_place;

/// How long an operation waits for a session when the token gives no more.
const WAIT: Duration = Duration::from_secs(10);

/// How long it waits when none of this process's own can be returned: other processes have them all.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(3);

/// How often it asks again then.
const ASK: Duration = Duration::from_millis(20);

/// The sessions of one token in one process: one for each operation that runs at the same time. Each thread begins to look at
/// a place of its own, so that threads do not meet as long as there are sessions; only who finds none, and cannot open one,
/// waits behind a lock.
#[derive(Debug)]
pub struct Sessions {
    places: Box<[Place]>,
    /// Grows when all sessions are forgotten; one taken before is not returned after.
    epoch: AtomicU64,
    /// Operations that wait for a session. Waking nobody would still be a system call for each signature.
    waiting: AtomicUsize,
    waiters: Mutex<()>,
    returned: Condvar,
}

/// Room for one session, on a cache line of its own. Who has made it BUSY or OPENING owns the rest of it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place {
    state: AtomicU8,
    handle: AtomicU64,
    /// The epoch in which it was opened.
    epoch: AtomicU64,
}

const EMPTY: u8 = 0;
const IDLE: u8 = 1;
const BUSY: u8 = 2;
/// On its way from EMPTY to BUSY, if the token gives a session.
const OPENING: u8 = 3;

/// A session in use. It goes back to the pool unless it is [discarded](Session::discard).
pub struct Session<'a> {
    sessions: &'a Sessions,
    module: &'a Module,
    /// None if the pool is full.
    place: Option<&'a Place>,
    /// The session's handle.
    pub handle: CK_SESSION_HANDLE,
    /// The pool's epoch when it was opened.
    pub epoch: u64,
    keep: bool,
}

impl Sessions {
    /// A pool that keeps at most so many sessions for later. Operations beyond open one for themselves.
    pub fn new(places: usize) -> Self {
        Sessions {
            places: (0..places).map(|_| Place::default()).collect(),
            epoch: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Takes a session, opening one where none is idle. When the token has no more (CKR_SESSION_COUNT), waits up
    /// to 10 s for one of ours, or up to 3 s for one of another process's. What such a process gets it does not keep, so
    /// that the processes that come late share what is left.
    pub fn take<'a>(&'a self, module: &'a Module, slot: CK_SLOT_ID) -> Rv<Session<'a>> {
        if let Some(session) = self.idle(module) {
            return Ok(session);
        }
        let begun = Instant::now();
        let mut keep = true;
        loop {
            let rv = match self.open(module, slot) {
                Err(rv) => rv,
                Ok(mut session) => {
                    session.keep = keep;
                    return Ok(session);
                }
            };
            let has_sessions = self.has_sessions();
            let limit = if has_sessions { WAIT } else { WAIT_FOR_OTHERS };
            let left = limit.saturating_sub(begun.elapsed());
            if rv != CKR_SESSION_COUNT || left.is_zero() {
                return Err(rv);
            }
            if has_sessions {
                if let Some(session) = self.wait(module, left) {
                    return Ok(session);
                }
            } else {
                keep = false;
                thread::sleep(ASK);
            }
        }
    }

    /// Takes a session that is idle.
    fn idle<'a>(&'a self, module: &'a Module) -> Option<Session<'a>> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        for place in self.own_place_first() {
            if !place.turn(IDLE, BUSY) {
                continue;
            }
            let handle = place.handle.load(Ordering::Relaxed);
            if place.epoch.load(Ordering::Relaxed) == epoch {
                return Some(Session {
                    sessions: self,
                    module,
                    place: Some(place),
                    handle,
                    epoch,
                    keep: true,
                });
            }
            // It was returned while all were being forgotten.
            module.close_session(handle);
            place.state.store(EMPTY, Ordering::SeqCst);
        }
        None
    }

    /// Opens a session.
    fn open<'a>(&'a self, module: &'a Module, slot: CK_SLOT_ID) -> Rv<Session<'a>> {
        // Before the session is opened: if all are forgotten in between, this one is too.
        let epoch = self.epoch.load(Ordering::SeqCst);
        let place = self.own_place_first().find(|place| place.turn(EMPTY, OPENING));
        match module.open_session(slot, false) {
            Ok(handle) => {
                if let Some(place) = place {
                    place.handle.store(handle, Ordering::Relaxed);
                    place.epoch.store(epoch, Ordering::Relaxed);
                    place.state.store(BUSY, Ordering::SeqCst);
                }
                Ok(Session { sessions: self, module, place, handle, epoch, keep: true })
            }
            Err(rv) => {
                if let Some(place) = place {
                    place.state.store(EMPTY, Ordering::SeqCst);
                }
                Err(rv)
            }
        }
    }

    /// Waits until a session is returned or closed; takes it if it was returned.
    fn wait<'a>(&'a self, module: &'a Module, limit: Duration) -> Option<Session<'a>> {
        // Counted before the look, and a session is returned before its owner looks who waits: one of both sees the other.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut session = self.idle(module);
        if session.is_none() {
            drop(self.returned.wait_timeout(waiters, limit).unwrap_or_else(PoisonError::into_inner));
            session = self.idle(module);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        session
    }

    /// Forgets every session of `epoch`: the token was restarted, or they are known to be dead. Another thread may
    /// have done it already.
    pub fn forget(&self, module: &Module, epoch: u64) {
        if self.epoch.compare_exchange(epoch, epoch + 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        for place in &self.places {
            if place.turn(IDLE, BUSY) {
                module.close_session(place.handle.load(Ordering::Relaxed));
                place.state.store(EMPTY, Ordering::SeqCst);
            }
        }
    }

    /// Forgets every session without closing it: C_Finalize has ended them, and their handles may be given again. The
    /// caller knows that none is in use.
    pub fn ended(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for place in &self.places {
            place.state.store(EMPTY, Ordering::SeqCst);
        }
    }

    /// Whether there is a session that may be returned.
    fn has_sessions(&self) -> bool {
        self.places.iter().any(|place| matches!(place.state.load(Ordering::SeqCst), IDLE | BUSY))
    }

    /// All places, this thread's first.
    fn own_place_first(&self) -> impl Iterator<Item = &Place> {
        let (before, from) = self.places.split_at(thread_place(self.places.len()));
        from.iter().chain(before)
    }
}

impl Place {
    /// Changes the state, if it is `from`.
    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.load(Ordering::Relaxed) == from
            && self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

impl Session<'_> {
    /// Closes the session instead of returning it: an operation on it failed in a way that may have left it in
    /// the middle of something.
    pub fn discard(mut self) {
        self.keep = false;
    }
}

impl Session<'_> {
    /// Takes the session out of the pool, which may open another one in its place; it is the caller's to close.
    pub fn take_away(self) -> CK_SESSION_HANDLE {
        if let Some(place) = self.place {
            place.state.store(EMPTY, Ordering::SeqCst);
        }
        let handle = self.handle;
        std::mem::forget(self);
        handle
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let is_current = self.sessions.epoch.load(Ordering::SeqCst) == self.epoch;
        match self.place {
            Some(place) if self.keep && is_current => place.state.store(IDLE, Ordering::SeqCst),
            place => {
                self.module.close_session(self.handle);
                if let Some(place) = place {
                    place.state.store(EMPTY, Ordering::SeqCst);
                }
            }
        }
        if self.sessions.waiting.load(Ordering::SeqCst) > 0 {
            // A waiter that has counted itself either waits already or looks again when it has the lock.
            drop(self.sessions.waiters.lock());
            self.sessions.returned.notify_one();
        }
    }
}
