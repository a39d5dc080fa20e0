//! Log-in tickets: what stands for a password for an hour, over restarts of the daemon and on every node that has the partition.
//!
//! Nothing is kept for a ticket. It says which log-in it is of and who logged in when, and a MAC says that the partition gave it:
//!
//! ```text
//! format (1) ‖ log-in (16) ‖ user (8) ‖ epoch (8) ‖ since (8) ‖ HMAC-SHA-256 (32)
//! ```
//!
//! Numbers are little-endian; `since` is in milliseconds since 1970, and the user is [`User::identity`]. The MAC's key is derived from the
//! partition's. The MAC covers the user's role and the salt of the password besides, so that a ticket is worth
//! nothing after a new password, whatever history of the partition gave both of them the same epoch.

mod ended;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use strongroom_protocol::v1::Role;

use self::ended::{Ended, Taken};
pub(crate) use self::ended::{KEPT, Notes};
use crate::changes;
use crate::crypto::aws_lc;
use crate::memory::SecretBytes;
use crate::use_tickets::UseTickets;
use crate::users::{User, Users};

/// For how long a ticket is good.
pub const LIFE: Duration = Duration::from_secs(60 * 60);

/// By how much clocks may differ: a ticket that another node gave may be of a time to come. One that is of a later time than that was
/// given before the clock was put back, and is worth nothing.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// The size of a ticket for one use of a key, in bytes.
pub const TICKET: usize = 32;

const FORMAT: u8 = 1;
const FIELDS: usize = 1 + 16 + 8 + 8 + 8;
const MAC: usize = 32;
/// The size of a log-in ticket, in bytes.
pub const LOGIN_TICKET: usize = FIELDS + MAC;

/// What a log-in is called by: random, and on each node the same.
pub type LoginId = [u8; 16];

/// A log-in with a password, shared by all connections that use its ticket.
#[derive(Debug)]
pub struct LoginSession {
    /// Who logged in.
    pub user: String,
    /// In which role.
    pub role: Role,
    given: Given,
    ended: AtomicBool,
    /// Of the partition's [`Tickets`]: a node that was sealed meanwhile has others.
    alive: Weak<()>,
}

impl LoginSession {
    /// Whether this log-in is still good for the user as the partition has it now.
    pub fn is_valid_for(&self, user: &User) -> bool {
        let ended = self.ended.load(Ordering::Relaxed) || self.alive.strong_count() == 0;
        !ended && self.given.epoch == user.epoch && self.role == user.role
    }
}

/// What a ticket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Given {
    login: LoginId,
    /// [`User::identity`].
    user: u64,
    /// [`User::epoch`] at that time.
    epoch: u64,
    /// When the password was right, in milliseconds since 1970.
    since: u64,
}

impl Given {
    fn to_bytes(self) -> [u8; FIELDS] {
        let numbers = [self.user, self.epoch, self.since].map(u64::to_le_bytes);
        let fields = [FORMAT].into_iter().chain(self.login).chain(numbers.into_iter().flatten());
        let mut bytes = [0; FIELDS];
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }

    /// `None` if this release does not know the format.
    fn from_bytes(bytes: &[u8; FIELDS]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        let (login, numbers) = rest.split_first_chunk()?;
        let (numbers, _) = numbers.as_chunks();
        let [user, epoch, since] = numbers else { return None };
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let given = Given { login: *login, user: number(user), epoch: number(epoch), since: number(since) };
        (*format == FORMAT).then_some(given)
    }

    /// Whether the ticket's hour has begun, and is not over.
    fn is_of(&self, now: u64) -> bool {
        now < self.since.saturating_add(millis(LIFE)) && self.since <= now.saturating_add(millis(SKEW))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The time, in milliseconds since 1970.
pub fn now() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// What makes and checks the tickets of one partition, and the log-ins that this node knows of.
#[derive(Default)]
pub struct Tickets {
    /// None is left when the node is sealed.
    key: Option<SecretBytes>,
    /// Log-ins that connections use.
    used: HashMap<LoginId, Weak<LoginSession>>,
    ended: Ended,
    /// Tickets of an earlier time are worth nothing, in milliseconds since 1970.
    not_before: u64,
    alive: Arc<()>,
    /// For single uses of keys.
    pub uses: UseTickets,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets(..)")
    }
}

impl Tickets {
    /// Of a partition whose tickets have this key.
    pub fn new(key: SecretBytes) -> Self {
        Tickets { key: Some(key), ..Tickets::default() }
    }

    /// Knows the log-ins that have ended from the same partition's contents before these.
    pub fn inherit(&mut self, last: &mut Tickets) {
        self.ended.merge(std::mem::take(&mut last.ended));
    }

    /// Makes tickets with another key from now on. Those from before are worth nothing; connections stay logged in.
    pub fn use_key(&mut self, key: SecretBytes) {
        // One that was wiped meanwhile stays so.
        if self.key.is_some() {
            self.key = Some(key);
        }
    }

    /// Voids the tickets that were given before a time, in milliseconds since 1970: the node was sealed then.
    pub fn void_before(&mut self, time: u64) {
        self.not_before = time;
    }

    /// Begins a log-in of a user who has a password, and makes its ticket. Of a partition that was just wiped it is empty.
    pub fn issue(&mut self, user: &User) -> (Vec<u8>, Arc<LoginSession>) {
        self.issue_at(now(), user)
    }

    fn issue_at(&mut self, now: u64, user: &User) -> (Vec<u8>, Arc<LoginSession>) {
        let login = aws_lc::random_array();
        let given = Given { login, user: user.identity, epoch: user.epoch, since: now };
        let fields = given.to_bytes();
        let ticket = self.mac(&fields, user).map(|mac| [&fields, mac.sign().as_ref()].concat());
        (ticket.unwrap_or_default(), self.session(given, user))
    }

    /// The log-in that a ticket stands for, and its user as the partition has it now; `None` if it is worth nothing.
    pub fn redeem<'u>(
        &mut self,
        ticket: &[u8],
        users: &'u Users,
    ) -> Option<(Arc<LoginSession>, &'u Arc<User>)> {
        self.redeem_at(now(), ticket, users)
    }

    fn redeem_at<'u>(
        &mut self,
        now: u64,
        ticket: &[u8],
        users: &'u Users,
    ) -> Option<(Arc<LoginSession>, &'u Arc<User>)> {
        let (fields, mac) = ticket.split_first_chunk()?;
        let given = Given::from_bytes(fields)?;
        // Those who were made together with the partition share a number: the MAC tells them apart.
        let mut named = users.iter().filter(|user| (user.identity, user.epoch) == (given.user, given.epoch));
        let user = named.find(|user| {
            let expected = self.mac(fields, user).map(hmac::Context::sign);
            expected.is_some_and(|expected| verify_slices_are_equal(expected.as_ref(), mac).is_ok())
        })?;
        let is_good = given.is_of(now)
            && given.since >= self.not_before
            && !self.ended.has(given.login, given.user, given.since);
        is_good.then(|| (self.session(given, user), user))
    }

    /// Ends a log-in on every connection of this node, whose tickets are worth nothing any more.
    pub fn void(&mut self, login: &LoginSession) {
        login.ended.store(true, Ordering::Relaxed);
        self.used.remove(&login.given.login);
        changes::announce();
    }

    /// Ends a log-in on every connection, and its ticket. The answer is what the store is to have of it, see
    /// [`crate::partition::Partition::log_out`].
    pub fn end(&mut self, login: &LoginSession) -> Notes {
        let Given { login: id, user, since, .. } = login.given;
        let notes = self.ended.add(id, user, since);
        self.void(login);
        notes
    }

    /// Takes in a log-in that has ended, as the store has it: on another node, or before this start. Whether it is of a form that this
    /// release knows.
    pub fn take_ended(&mut self, name: &str, content: &[u8]) -> bool {
        let Some(taken) = self.ended.take(name, content) else { return false };
        // Not those of all log-ins of a user: their connections stay.
        if let Taken::One(login) = taken
            && let Some(session) = self.used.remove(&login).as_ref().and_then(Weak::upgrade)
        {
            session.ended.store(true, Ordering::Relaxed);
        }
        changes::announce();
        true
    }

    /// One for all connections with the same ticket.
    fn session(&mut self, given: Given, user: &User) -> Arc<LoginSession> {
        if let Some(session) = self.used.get(&given.login).and_then(Weak::upgrade) {
            return session;
        }
        // Before the map would grow.
        if self.used.len() == self.used.capacity() {
            self.used.retain(|_, session| session.strong_count() > 0);
            self.used.reserve(self.used.len());
        }
        let session = Arc::new(LoginSession {
            user: user.name.clone(),
            role: user.role,
            given,
            ended: AtomicBool::new(false),
            alive: Arc::downgrade(&self.alive),
        });
        self.used.insert(given.login, Arc::downgrade(&session));
        session
    }

    /// The MAC over a ticket of a user; `None` of one without a password.
    fn mac(&self, fields: &[u8; FIELDS], user: &User) -> Option<hmac::Context> {
        let salt = user.password.as_ref()?.salt();
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_deref()?);
        let mut mac = hmac::Context::with_key(&key);
        mac.update(fields);
        mac.update(&i32::from(user.role).to_le_bytes());
        mac.update(salt);
        Some(mac)
    }
}

/// Looking a ticket up by its hash tells nothing through timing: nobody can aim at a hash byte by byte.
pub(crate) fn hash(ticket: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(digest(&SHA256, ticket).as_ref()) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests;
