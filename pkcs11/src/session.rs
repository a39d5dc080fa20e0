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
    pub message_encrypt: Option<Held<Messages>>,
    /// `C_MessageDecryptInit`.
    pub message_decrypt: Option<Held<Messages>>,
    /// `C_MessageSignInit`.
    pub message_sign: Option<Held<SignedMessages>>,
    /// `C_MessageVerifyInit`.
    pub message_verify: Option<Held<SignedMessages>>,
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

/// Messages of a session, or that a call has them in hand for as long as it takes.
#[derive(Debug)]
pub enum Held<T> {
    /// For the next call.
    Here(T),
    /// A call puts them back, if they have not been ended meanwhile.
    InHand,
}

impl<T> Held<T> {
    /// The messages, while no call has them.
    pub fn here(&mut self) -> Option<&mut T> {
        match self {
            Held::Here(messages) => Some(messages),
            Held::InHand => None,
        }
    }
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
    /// How many of each token's, by its address while it has any, and how many of those can write.
    of_token: HashMap<usize, (CK_ULONG, CK_ULONG)>,
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
        let count = book.of_token.entry(address(&session.token)).or_default();
        *count = (count.0 + 1, count.1 + CK_ULONG::from(read_write));
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
        self.vacate(&mut book, &session);
        let is_last = !book.of_token.contains_key(&address(&session.token));
        Ok(is_last.then(|| Arc::clone(&session.token)))
    }

    /// Closes all sessions, or all of one token.
    pub fn close_all(&self, token: Option<&Token>) {
        let mut book = lock(&self.book);
        let closes =
            |session: &Session| token.is_none_or(|token| std::ptr::eq(token, &raw const *session.token));
        let closed: Vec<_> = book.open.extract_if(|_, session| closes(session)).collect();
        for (_, session) in &closed {
            self.vacate(&mut book, session);
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

    /// After it was taken out of the open ones.
    fn vacate(&self, book: &mut Book, session: &Session) {
        if let Some(place) = self.place(session.handle) {
            *lock(&place.0) = None;
            book.free.push((session.handle % MAX_SESSIONS as CK_SESSION_HANDLE) as usize);
        }
        let token = address(&session.token);
        let count = book.of_token.get(&token).copied().unwrap_or_default();
        match (count.0.saturating_sub(1), count.1.saturating_sub(session.read_write.into())) {
            (0, _) => drop(book.of_token.remove(&token)),
            left => drop(book.of_token.insert(token, left)),
        }
    }

    /// How many sessions a token has, and how many of them can write.
    pub fn count(&self, token: &Token) -> (CK_ULONG, CK_ULONG) {
        lock(&self.book).of_token.get(&address(token)).copied().unwrap_or_default()
    }
}

/// What tells tokens apart.
fn address(token: &Token) -> usize {
    std::ptr::from_ref(token).addr()
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

/// What an init function does first: nothing of its kind may be under way. False if there is no mechanism, which ends what is
/// (PKCS#11 3.0), and then there is no more to do.
///
/// # Errors
///
/// `CKR_OPERATION_ACTIVE`, or `CKR_ARGUMENTS_BAD` if there is neither a mechanism nor something to end.
pub fn begins<T>(
    session: &Session,
    mechanism: *const CK_MECHANISM,
    which: impl FnOnce(&mut Active) -> &mut Option<T>,
) -> Outcome<bool> {
    match which(&mut lock(&session.active)) {
        place if mechanism.is_null() => place.take().map(|_| false).ok_or(CKR_ARGUMENTS_BAD),
        Some(_) => Err(CKR_OPERATION_ACTIVE),
        None => Ok(true),
    }
}

/// Does something with a session's messages, without holding the session's lock. They go on whatever comes of it (a failure ends one
/// message), unless somebody ends them meanwhile.
///
/// # Errors
///
/// `CKR_OPERATION_NOT_INITIALIZED` if there are none, or another thread has them in hand; else what `action` says.
pub fn with_messages<M, T>(
    session: &Session,
    which: impl Fn(&mut Active) -> &mut Option<Held<M>>,
    action: impl FnOnce(&mut M) -> Outcome<T>,
) -> Outcome<T> {
    let held = which(&mut lock(&session.active)).as_mut().map(|held| std::mem::replace(held, Held::InHand));
    let Some(Held::Here(mut messages)) = held else { return Err(CKR_OPERATION_NOT_INITIALIZED) };
    let outcome = action(&mut messages);
    if let Some(held @ Held::InHand) = which(&mut lock(&session.active)) {
        *held = Held::Here(messages);
    }
    outcome
}

/// Takes an operation out of a session, to be carried out without holding the session's lock.
///
/// # Errors
///
/// `CKR_OPERATION_NOT_INITIALIZED` if there is none.
pub fn take<T>(session: &Session, which: impl FnOnce(&mut Active) -> &mut Option<T>) -> Outcome<T> {
    which(&mut lock(&session.active)).take().ok_or(CKR_OPERATION_NOT_INITIALIZED)
}
