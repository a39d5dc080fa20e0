//! A pool of sessions with one token.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::module::{Module, Rv};

/// How long an operation waits for a session when the token gives no more.
const WAIT: Duration = Duration::from_secs(10);

/// The sessions of one token in one process: one for each operation that runs at the same time.
#[derive(Debug, Default)]
pub struct Sessions {
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<CK_SESSION_HANDLE>,
    /// Sessions that are out.
    busy: usize,
    /// Operations that wait for one. Waking nobody would still be a system call for each signature.
    waiting: usize,
    /// Grows when all sessions are forgotten; one taken before is not returned after.
    epoch: u64,
}

/// A session in use. It goes back to the pool unless it is [discarded](Session::discard).
pub struct Session<'a> {
    sessions: &'a Sessions,
    module: &'a Module,
    /// The session's handle.
    pub handle: CK_SESSION_HANDLE,
    /// The pool's epoch when it was taken.
    pub epoch: u64,
    keep: bool,
}

impl Sessions {
    /// Takes a session, opening one where none is idle. When the token has no more (CKR_SESSION_COUNT), waits up
    /// to 10 s for one of ours.
    pub fn take<'a>(&'a self, module: &'a Module, slot: CK_SLOT_ID) -> Rv<Session<'a>> {
        let until = Instant::now() + WAIT;
        let mut pool = self.lock();
        loop {
            let epoch = pool.epoch;
            let session = |handle| Session { sessions: self, module, handle, epoch, keep: true };
            if let Some(handle) = pool.idle.pop() {
                pool.busy += 1;
                return Ok(session(handle));
            }
            pool.busy += 1;
            drop(pool);
            let opened = module.open_session(slot);
            pool = self.lock();
            match opened {
                Ok(handle) => return Ok(session(handle)),
                Err(rv) => {
                    pool.busy = pool.busy.saturating_sub(1);
                    let left = until.saturating_duration_since(Instant::now());
                    if rv != CKR_SESSION_COUNT || (pool.busy == 0 && pool.idle.is_empty()) || left.is_zero() {
                        return Err(rv);
                    }
                    if pool.idle.is_empty() {
                        pool.waiting += 1;
                        pool =
                            self.returned.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner).0;
                        pool.waiting = pool.waiting.saturating_sub(1);
                    }
                }
            }
        }
    }

    /// Forgets every session of `epoch`: the token was restarted, or they are known to be dead. Another thread may
    /// have done it already.
    pub fn forget(&self, module: &Module, epoch: u64) {
        let idle = {
            let mut pool = self.lock();
            if pool.epoch != epoch {
                return;
            }
            pool.epoch += 1;
            std::mem::take(&mut pool.idle)
        };
        for handle in idle {
            module.close_session(handle);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // What is behind the lock is consistent after every statement.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session<'_> {
    /// Closes the session instead of returning it: an operation on it failed in a way that may have left it in
    /// the middle of something.
    pub fn discard(mut self) {
        self.keep = false;
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut pool = self.sessions.lock();
        pool.busy = pool.busy.saturating_sub(1);
        let is_awaited = pool.waiting > 0;
        if self.keep && pool.epoch == self.epoch {
            pool.idle.push(self.handle);
            drop(pool);
        } else {
            drop(pool);
            self.module.close_session(self.handle);
        }
        if is_awaited {
            self.sessions.returned.notify_one();
        }
    }
}
