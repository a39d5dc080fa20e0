//! Sessions, and the operations that are under way in them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use cryptoki_sys::*;
use strongroom_protocol::v1::{Logout, Role, request::Op};

use crate::api::find::Find;
use crate::api::signature::Operation;
use crate::error::{Outcome, lock, read, write};
use crate::hash::Digest;
use crate::pool::ANONYMOUS;
use crate::state::Process;
use crate::token::Token;

/// The most sessions of a process.
pub const MAX_SESSIONS: usize = 16_384;

/// How long a log-out waits for the daemon.
const LOGOUT: Duration = Duration::from_millis(500);

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// Its token.
    pub token: Arc<Token>,
    /// Opened with `CKF_RW_SESSION`.
    pub read_write: bool,
    /// What is under way.
    pub active: Mutex<Active>,
}

/// The operations of a session, one of each kind at most.
#[derive(Default)]
pub struct Active {
    /// `C_FindObjectsInit`.
    pub find: Option<Find>,
    /// `C_SignInit`.
    pub sign: Option<Operation>,
    /// `C_VerifyInit`.
    pub verify: Option<Operation>,
    /// `C_DigestInit`.
    pub digest: Option<Digest>,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is being signed is nobody's business.
        f.write_str("Active(..)")
    }
}

impl Session {
    /// Its `CKS_` state.
    pub fn state(&self) -> CK_STATE {
        match (self.token.login.role(), self.read_write) {
            (Some(Role::CryptoOfficer), _) => CKS_RW_SO_FUNCTIONS,
            (Some(_), true) => CKS_RW_USER_FUNCTIONS,
            (Some(_), false) => CKS_RO_USER_FUNCTIONS,
            (None, true) => CKS_RW_PUBLIC_SESSION,
            (None, false) => CKS_RO_PUBLIC_SESSION,
        }
    }

    /// Checks that the session may change the token.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_READ_ONLY`.
    pub fn writable(&self) -> Outcome {
        if self.read_write { Ok(()) } else { Err(CKR_SESSION_READ_ONLY) }
    }
}

/// The sessions of a process.
#[derive(Debug)]
pub struct Sessions {
    next: AtomicU64,
    open: RwLock<HashMap<CK_SESSION_HANDLE, Arc<Session>>>,
}

impl Sessions {
    /// No sessions yet; numbers go on after those of a parent process.
    pub fn after(parent: Option<&Sessions>) -> Self {
        let next = parent.map_or(1, |parent| parent.next.load(Ordering::Relaxed));
        Sessions { next: AtomicU64::new(next), open: RwLock::default() }
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_COUNT` if there are [`MAX_SESSIONS`]; `CKR_SESSION_READ_WRITE_SO_EXISTS` for a read-only one
    /// while the crypto officer is logged in.
    pub fn open(&self, token: Arc<Token>, read_write: bool) -> Outcome<CK_SESSION_HANDLE> {
        let mut open = write(&self.open);
        if open.len() >= MAX_SESSIONS {
            return Err(CKR_SESSION_COUNT);
        }
        if !read_write && token.login.role() == Some(Role::CryptoOfficer) {
            return Err(CKR_SESSION_READ_WRITE_SO_EXISTS);
        }
        let handle = self.next.fetch_add(1, Ordering::Relaxed) as CK_SESSION_HANDLE;
        open.insert(handle, Arc::new(Session { token, read_write, active: Mutex::default() }));
        Ok(handle)
    }

    /// The session of a handle.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_HANDLE_INVALID`.
    pub fn get(&self, handle: CK_SESSION_HANDLE) -> Outcome<Arc<Session>> {
        read(&self.open).get(&handle).cloned().ok_or(CKR_SESSION_HANDLE_INVALID)
    }

    /// Closes a session. Returns its token if that was the token's last.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_HANDLE_INVALID`.
    pub fn close(&self, handle: CK_SESSION_HANDLE) -> Outcome<Option<Arc<Token>>> {
        let mut open = write(&self.open);
        let session = open.remove(&handle).ok_or(CKR_SESSION_HANDLE_INVALID)?;
        let token = &session.token;
        let is_last = !open.values().any(|other| Arc::ptr_eq(&other.token, token));
        Ok(is_last.then(|| Arc::clone(token)))
    }

    /// Closes all sessions, or all of one token.
    pub fn close_all(&self, token: Option<&Token>) {
        write(&self.open)
            .retain(|_, session| token.is_some_and(|token| !std::ptr::eq(token, &raw const *session.token)));
    }

    /// How many sessions a token has, and how many of them can write.
    pub fn count(&self, token: &Token) -> (CK_ULONG, CK_ULONG) {
        let open = read(&self.open);
        let mut count = (0, 0);
        for session in open.values().filter(|session| std::ptr::eq(token, &raw const *session.token)) {
            count.0 += 1;
            count.1 += CK_ULONG::from(session.read_write);
        }
        count
    }
}

impl Process {
    /// Ends the log-in to a token: here, and at the daemon if a connection is at hand to say it on (if none is,
    /// the daemon forgets the ticket when it stops). Does nothing if nobody is logged in.
    pub fn log_out(&'static self, token: &Token) {
        let epoch = token.login.end(ANONYMOUS);
        if epoch == ANONYMOUS {
            return;
        }
        if let Some(mut lease) = self.pool.lease_idle(epoch)
            && let Some(pooled) = lease.pooled()
        {
            // Best effort: the log-in has ended here in any case, and nobody waits long for a daemon that hangs.
            let _ = pooled.connection.set_reply_deadline(LOGOUT);
            let _ = pooled.connection.call(token.partition, Op::Logout(Logout {}));
        }
        self.pool.close_idle(|idle| idle.epoch == epoch);
        self.handles.forget_private(token.partition);
    }
}

/// Takes an operation out of a session, to be carried out without holding the session's lock.
///
/// # Errors
///
/// `CKR_OPERATION_NOT_INITIALIZED` if there is none.
pub fn take<T>(session: &Session, which: impl FnOnce(&mut Active) -> &mut Option<T>) -> Outcome<T> {
    which(&mut lock(&session.active)).take().ok_or(CKR_OPERATION_NOT_INITIALIZED)
}
