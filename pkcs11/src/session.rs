//! Sessions, and the operations that are under way in them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cryptoki_sys::*;
use strongroom_protocol::v1::{Logout, Role, request::Op};

use crate::api::cipher;
use crate::api::digest;
use crate::api::find::Find;
use crate::api::message::Messages;
use crate::api::message_signature::SignedMessages;
use crate::api::recover::Recovery;
use crate::api::signature::Operation;
use crate::api::verify_signature::GivenSignature;
use crate::api::wrap::Wrapped;
use crate::error::{Outcome, lock};
use crate::line::Line;
use crate::pool::{ANONYMOUS, Lease};
use crate::session_keys::forget_on;
use crate::state::Process;
use crate::token::Token;

/// The most sessions of a process.
pub const MAX_SESSIONS: usize = 16_384;

/// How long a log-out waits for the daemon.
pub const LOGOUT: Duration = Duration::from_millis(500);

/// An open session.
#[derive(Debug)]
pub struct Session {
    handle: CK_SESSION_HANDLE,
    /// Its token.
    pub token: Arc<Token>,
    /// Opened with `CKF_RW_SESSION`.
    pub read_write: bool,
    /// What is under way. No other session's calls contend for it.
    pub active: Mutex<Active>,
    /// The session's hold on the channel of its log-in, while no call uses it.
    pub line: Mutex<Option<Arc<Line>>>,
}

/// The operations of a session, one of each kind at most.
#[derive(Default)]
pub struct Active {
    /// `C_FindObjectsInit`.
    pub find: Option<Find>,
    /// `C_EncryptInit`.
    pub encrypt: Option<cipher::Operation>,
    /// `C_DecryptInit`.
    pub decrypt: Option<cipher::Operation>,
    /// `C_SignInit`.
    pub sign: Option<Operation>,
    /// `C_VerifyInit`.
    pub verify: Option<Operation>,
    /// `C_DigestInit`.
    pub digest: Option<digest::Operation>,
    /// `C_MessageEncryptInit`.
    pub message_encrypt: Option<Messages>,
    /// `C_MessageDecryptInit`.
    pub message_decrypt: Option<Messages>,
    /// `C_MessageSignInit`.
    pub message_sign: Option<SignedMessages>,
    /// `C_MessageVerifyInit`.
    pub message_verify: Option<SignedMessages>,
    /// `C_SignRecoverInit`.
    pub sign_recover: Option<Operation>,
    /// `C_VerifyRecoverInit`.
    pub verify_recover: Option<Recovery>,
    /// `C_VerifySignatureInit`.
    pub verify_signature: Option<GivenSignature>,
    /// What `C_WrapKey` has made for who asked for its size.
    pub wrapped: Option<Wrapped>,
    /// Room for the parts of a signature's data, from the signature before.
    pub spare: Vec<u8>,
}

impl Active {
    /// Whether something is under way that works with a key.
    pub fn needs_key(&self) -> bool {
        self.encrypt.is_some()
            || self.decrypt.is_some()
            || self.sign.is_some()
            || self.verify.is_some()
            || self.message_encrypt.is_some()
            || self.message_decrypt.is_some()
            || self.message_sign.is_some()
            || self.message_verify.is_some()
            || self.verify_signature.is_some()
            || self.sign_recover.is_some()
            || self.verify_recover.is_some()
    }

    /// Ends what is under way, but for a search.
    pub fn end_all(&mut self) {
        *self = Active { find: self.find.take(), ..Active::default() };
    }
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is being signed is nobody's business.
        f.write_str("Active(..)")
    }
}

impl Session {
    /// Its handle.
    pub fn handle(&self) -> CK_SESSION_HANDLE {
        self.handle
    }

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

    /// Checks that the session may make or change an object in the token, or (`for_session`) one of a session's.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_READ_ONLY`.
    pub fn may_make(&self, for_session: bool) -> Outcome {
        if for_session { Ok(()) } else { self.writable() }
    }
}

/// The sessions of a process.
///
/// A handle is a number that is never used again, and the place where its session is found in the low bits. So
/// a call finds its session without a lock that two sessions share, and a stale handle finds nothing.
#[derive(Debug)]
pub struct Sessions {
    next: AtomicU64,
    book: Mutex<Book>,
    /// Made when they are first needed: a web server's worker has a handful of sessions.
    chunks: [OnceLock<Box<[Place]>>; MAX_SESSIONS / CHUNK],
}

/// Which sessions there are, for opening, closing and counting.
#[derive(Debug, Default)]
struct Book {
    open: HashMap<CK_SESSION_HANDLE, Arc<Session>>,
    /// Places whose session was closed.
    free: Vec<usize>,
    /// Places that were ever used.
    used: usize,
}

/// Where one session is found. The lock is held for an instant, and is contended for only by threads that use
/// the same session, which the standard forbids, and by its end. A cache line of its own, so that two sessions
/// do not share one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place(Mutex<Option<Arc<Session>>>);

/// How many places are made at once.
const CHUNK: usize = 256;

impl Sessions {
    /// No sessions yet; numbers go on after those of a parent process.
    pub fn after(parent: Option<&Sessions>) -> Self {
        let next = parent.map_or(1, |parent| parent.next.load(Ordering::Relaxed));
        Sessions {
            next: AtomicU64::new(next),
            book: Mutex::default(),
            chunks: [const { OnceLock::new() }; _],
        }
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_COUNT` if there are [`MAX_SESSIONS`]; `CKR_SESSION_READ_WRITE_SO_EXISTS` for a read-only one
    /// while the crypto officer is logged in.
    pub fn open(&self, token: Arc<Token>, read_write: bool) -> Outcome<CK_SESSION_HANDLE> {
        let mut book = lock(&self.book);
        if book.open.len() >= MAX_SESSIONS {
            return Err(CKR_SESSION_COUNT);
        }
        if !read_write && token.login.role() == Some(Role::CryptoOfficer) {
            return Err(CKR_SESSION_READ_WRITE_SO_EXISTS);
        }
        let index = book.free.pop().unwrap_or_else(|| {
            book.used += 1;
            book.used - 1
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed) as CK_SESSION_HANDLE;
        let handle = number * MAX_SESSIONS as CK_SESSION_HANDLE + index as CK_SESSION_HANDLE;
        let chunk = self.chunks.get(index / CHUNK).ok_or(CKR_SESSION_COUNT)?;
        let places = chunk.get_or_init(|| (0..CHUNK).map(|_| Place::default()).collect());
        let place = places.get(index % CHUNK).ok_or(CKR_SESSION_COUNT)?;
        let session =
            Arc::new(Session { handle, token, read_write, active: Mutex::default(), line: Mutex::default() });
        *lock(&place.0) = Some(Arc::clone(&session));
        book.open.insert(handle, session);
        Ok(handle)
    }

    /// The session of a handle.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_HANDLE_INVALID`.
    pub fn get(&self, handle: CK_SESSION_HANDLE) -> Outcome<Arc<Session>> {
        let place = self.place(handle).ok_or(CKR_SESSION_HANDLE_INVALID)?;
        let session = lock(&place.0);
        session.as_ref().filter(|session| session.handle == handle).cloned().ok_or(CKR_SESSION_HANDLE_INVALID)
    }

    fn place(&self, handle: CK_SESSION_HANDLE) -> Option<&Place> {
        let index = (handle % MAX_SESSIONS as CK_SESSION_HANDLE) as usize;
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// Closes a session. Returns its token if that was the token's last.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_HANDLE_INVALID`.
    pub fn close(&self, handle: CK_SESSION_HANDLE) -> Outcome<Option<Arc<Token>>> {
        let mut book = lock(&self.book);
        let session = book.open.remove(&handle).ok_or(CKR_SESSION_HANDLE_INVALID)?;
        self.vacate(&mut book, handle);
        let token = &session.token;
        let is_last = !book.open.values().any(|other| Arc::ptr_eq(&other.token, token));
        Ok(is_last.then(|| Arc::clone(token)))
    }

    /// Closes all sessions, or all of one token.
    pub fn close_all(&self, token: Option<&Token>) {
        let mut book = lock(&self.book);
        let closes =
            |session: &Session| token.is_none_or(|token| std::ptr::eq(token, &raw const *session.token));
        let closed: Vec<_> = book.open.extract_if(|_, session| closes(session)).collect();
        for (handle, _) in &closed {
            self.vacate(&mut book, *handle);
        }
    }

    /// Wipes what operations with a token's keys have kept of what came out of them.
    pub fn forget_plaintexts(&self, token: &Token) {
        let of_token = |session: &&Arc<Session>| std::ptr::eq(token, &raw const *session.token);
        let sessions: Vec<_> = lock(&self.book).open.values().filter(of_token).cloned().collect();
        for session in sessions {
            if let Some(operation) = &mut lock(&session.active).decrypt {
                operation.forget();
            }
        }
    }

    fn vacate(&self, book: &mut Book, handle: CK_SESSION_HANDLE) {
        if let Some(place) = self.place(handle) {
            *lock(&place.0) = None;
            book.free.push((handle % MAX_SESSIONS as CK_SESSION_HANDLE) as usize);
        }
    }

    /// How many sessions a token has, and how many of them can write.
    pub fn count(&self, token: &Token) -> (CK_ULONG, CK_ULONG) {
        let book = lock(&self.book);
        let mut count = (0, 0);
        for session in book.open.values().filter(|session| std::ptr::eq(token, &raw const *session.token)) {
            count.0 += 1;
            count.1 += CK_ULONG::from(session.read_write);
        }
        count
    }
}

impl Process {
    /// Ends the log-in to a token: here, and at the daemon if a connection is at hand to say it on (if none is,
    /// the ticket is good for the rest of its hour, and nobody has it). Does nothing if nobody is logged in.
    pub fn log_out(&'static self, token: &Token) {
        let epoch = token.login.end(ANONYMOUS);
        self.sessions.forget_plaintexts(token);
        let over = self.session_objects.end_log_in(token.partition);
        if epoch == ANONYMOUS {
            // Who is admitted by the user id has them too.
            if !over.is_empty()
                && let Some(mut lease) = self.nodes.lease_idle(ANONYMOUS)
                && let Some(pooled) = lease.pooled()
            {
                let _ = pooled.connection.set_reply_deadline(LOGOUT);
                forget_on(&mut pooled.connection, token.partition, &over);
            }
            return;
        }
        let mut leases: Vec<Lease> = token.door.close().into_iter().collect();
        for member in self.nodes.members() {
            // Each node knows its own log-ins.
            if leases.is_empty() || self.nodes.are_several() {
                leases.extend(member.pool.lease_idle(epoch));
            }
        }
        for pooled in leases.iter_mut().filter_map(Lease::pooled) {
            // Best effort: the log-in has ended here in any case, and nobody waits long for a daemon that hangs.
            let _ = pooled.connection.set_reply_deadline(LOGOUT);
            if forget_on(&mut pooled.connection, token.partition, &over) {
                let _ = pooled.connection.call(token.partition, Op::Logout(Logout {}));
            }
        }
        self.nodes.close_idle(|idle| idle == epoch);
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
