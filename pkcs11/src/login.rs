//! Who is logged in to a token in this process, and how further connections are logged in.
//!
//! PKCS#11 logs a process in, the protocol a connection. `C_Login` logs one connection in with the password
//! and gets a ticket; every further connection uses the ticket, also after a restart of the daemon, and on other nodes. After an hour,
//! or where a node does not take it, one thread logs in with the password again, which is kept for that, and the others wait for the new
//! ticket, or for the failure, which is theirs too.

use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cryptoki_sys::*;
use strongroom_protocol::client::{ClientError, Connection, Deadlines};
use strongroom_protocol::node::MAX_NODES;
use strongroom_protocol::v1::{self, ErrorCode, LoginReply, Role, request::Op, response};
use zeroize::Zeroizing;

use crate::error::{self, Failure, Outcome, lock};
use crate::pool::ANONYMOUS;
use crate::secret::Secret;

/// Numbers the log-ins of a process, over all tokens: a connection carries the number of its log-in.
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

/// [`Login`]'s role while nobody is logged in: the number of no role that the daemon grants.
const NOBODY: i32 = Role::Unspecified as i32;

/// How long a thread waits for another one that sends the password.
const WAIT: Duration = Deadlines::DEFAULT.reply;

/// The log-in to one token.
#[derive(Debug, Default)]
pub struct Login {
    /// [`ANONYMOUS`] when nobody is logged in. Read for every call, without the lock.
    epoch: AtomicU64,
    /// The role of who is logged in, as the protocol's number, for those who ask without the lock.
    role: AtomicI32,
    known: Mutex<Option<Known>>,
    renewal: Mutex<Renewal>,
    renewed: Condvar,
}

/// The sending of the password again, which one thread does for all.
#[derive(Debug, Default)]
struct Renewal {
    under_way: bool,
    /// How many have ended.
    ended: u64,
    /// How the last one ended: with a new ticket, or with the code that all get who waited for it. `None` if
    /// the password was not sent after all.
    outcome: Option<Outcome>,
}

/// The right to send the password again. Its end is the end of the renewal.
pub struct Turn<'a> {
    login: &'a Login,
    outcome: Option<Outcome>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut renewal = lock(&self.login.renewal);
        renewal.under_way = false;
        renewal.ended += 1;
        renewal.outcome = self.outcome;
        drop(renewal);
        self.login.renewed.notify_all();
    }
}

#[derive(Clone)]
struct Known {
    role: Role,
    user: String,
    password: Arc<Secret>,
    tickets: Tickets,
}

/// The newest last: for each start of a daemon the ticket that it gave or took. `None`: it took none.
#[derive(Debug, Clone, Default)]
struct Tickets(Vec<(Vec<u8>, Option<Arc<Secret>>)>);

impl Tickets {
    /// The ticket that a start of a daemon is likely to take: its own, or the newest, which is good after a restart and on each
    /// node that has the same partition.
    fn of(&self, instance: &[u8]) -> Option<&Arc<Secret>> {
        match self.0.iter().find(|(of, _)| of == instance) {
            Some((_, ticket)) => ticket.as_ref(),
            None => self.0.iter().rev().find_map(|(_, ticket)| ticket.as_ref()),
        }
    }

    /// Keeps what a start of a daemon gave or took. Those of starts that are over go when there are more than nodes.
    fn keep(&mut self, instance: &[u8], ticket: Option<Arc<Secret>>) {
        self.0.retain(|(of, _)| of != instance);
        if self.0.len() >= MAX_NODES {
            self.0.remove(0);
        }
        self.0.push((instance.to_vec(), ticket));
    }

    fn know(&self, instance: &[u8]) -> bool {
        self.0.iter().any(|(of, _)| of == instance)
    }

    /// A start has refused a ticket: instead of its own it is offered the newest, and after that none. Nothing changes if another
    /// thread has got a new one for it meanwhile.
    fn refuse(&mut self, instance: &[u8], refused: &Arc<Secret>) {
        if !self.of(instance).is_some_and(|offered| Arc::ptr_eq(offered, refused)) {
            return;
        }
        let had_own = self.0.iter().any(|(of, ticket)| of == instance && ticket.is_some());
        match had_own {
            true => self.0.retain(|(of, _)| of != instance),
            false => self.keep(instance, None),
        }
    }

    fn keep_given(&mut self, instance: &[u8], ticket: &Zeroizing<Vec<u8>>) {
        let given = Some(&ticket).filter(|ticket| !ticket.is_empty()).and_then(|ticket| Secret::new(ticket));
        self.keep(instance, given.map(Arc::new));
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("role", &self.role).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Login {
    /// The number of the log-in, [`ANONYMOUS`] if there is none.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The role of who is logged in.
    pub fn role(&self) -> Option<Role> {
        match self.role.load(Ordering::Acquire) {
            NOBODY => None,
            role => Role::try_from(role).ok(),
        }
    }

    /// The name of who is logged in.
    pub fn user(&self) -> Option<String> {
        lock(&self.known).as_ref().map(|known| known.user.clone())
    }

    /// Remembers a log-in that the daemon granted on `connection`, and returns its number.
    ///
    /// # Errors
    ///
    /// `CKR_USER_ALREADY_LOGGED_IN` if another thread was first; `CKR_HOST_MEMORY` if the password cannot be kept;
    /// `CKR_DEVICE_ERROR` for a role that this release does not know.
    pub fn begin(&self, connection: &Connection, reply: LoginReply, password: &str) -> Outcome<u64> {
        let (role, ticket) = (reply.role(), Zeroizing::new(reply.ticket));
        let mut known = Known {
            role,
            user: reply.user,
            password: Arc::new(Secret::new(password.as_bytes()).ok_or(CKR_HOST_MEMORY)?),
            tickets: Tickets::default(),
        };
        known.tickets.keep_given(connection.instance(), &ticket);
        if known.role == Role::Unspecified {
            return Err(CKR_DEVICE_ERROR);
        }
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        let mut place = lock(&self.known);
        if place.is_some() {
            return Err(CKR_USER_ALREADY_LOGGED_IN);
        }
        self.role.store(known.role.into(), Ordering::Release);
        *place = Some(known);
        self.epoch.store(epoch, Ordering::Release);
        Ok(epoch)
    }

    /// Forgets the log-in numbered `epoch`, or, of [`ANONYMOUS`], any. Returns the number of the one that ended.
    pub fn end(&self, epoch: u64) -> u64 {
        let mut known = lock(&self.known);
        let current = self.epoch();
        if epoch != ANONYMOUS && epoch != current {
            return ANONYMOUS;
        }
        *known = None;
        self.role.store(NOBODY, Ordering::Release);
        self.epoch.store(ANONYMOUS, Ordering::Release);
        current
    }

    /// Keeps others from sending the password meanwhile: it is going to be another one.
    ///
    /// # Errors
    ///
    /// How the renewal failed that was under way; `CKR_DEVICE_ERROR` if it takes too long.
    pub fn hold(&self) -> Outcome<Turn<'_>> {
        let until = Instant::now() + WAIT;
        loop {
            if let Some(turn) = self.take_turn(until)? {
                return Ok(turn);
            }
        }
    }

    /// Takes note of a new password of the user who is logged in.
    ///
    /// # Errors
    ///
    /// `CKR_HOST_MEMORY` if it cannot be kept.
    pub fn change_password(&self, password: &str) -> Outcome {
        let password = Arc::new(Secret::new(password.as_bytes()).ok_or(CKR_HOST_MEMORY)?);
        if let Some(known) = lock(&self.known).as_mut() {
            known.password = password;
            known.tickets = Tickets::default();
        }
        Ok(())
    }

    /// Takes note that a start of the daemon does not take a ticket.
    fn forget_ticket(&self, epoch: u64, instance: &[u8], refused: &Arc<Secret>) {
        let mut known = lock(&self.known);
        if epoch == self.epoch()
            && let Some(known) = known.as_mut()
        {
            known.tickets.refuse(instance, refused);
        }
    }

    /// Takes note that a start of the daemon took a ticket that another one gave.
    fn keep_taken(&self, epoch: u64, instance: &[u8], ticket: &Arc<Secret>) {
        let mut known = lock(&self.known);
        if epoch == self.epoch()
            && let Some(known) = known.as_mut()
            && !known.tickets.know(instance)
        {
            known.tickets.keep(instance, Some(Arc::clone(ticket)));
        }
    }

    /// Logs a new connection in as the log-in numbered `epoch`.
    ///
    /// # Errors
    ///
    /// `CKR_USER_NOT_LOGGED_IN` if that log-in has ended, or ends here because the daemon no longer takes its
    /// password (which is tried once, so that no user is locked out by repetition).
    pub fn attach(&self, connection: &mut Connection, partition: u32, epoch: u64) -> Result<(), Failure> {
        let until = Instant::now() + WAIT;
        loop {
            if self.attach_by_ticket(connection, partition, epoch)? {
                return Ok(());
            }
            let Some(mut turn) = self.take_turn(until).map_err(Failure::Code)? else { continue };
            // Meanwhile another thread may have got a new ticket.
            if self.attach_by_ticket(connection, partition, epoch)? {
                return Ok(());
            }
            let attached = self.attach_by_password(connection, partition, epoch);
            turn.outcome = match attached {
                Ok(()) => Some(Ok(())),
                Err(Failure::Code(code)) => Some(Err(code)),
                Err(Failure::Daemon(_)) => None,
            };
            return attached;
        }
    }

    /// Waits while another thread sends the password. `None` if there may be a new ticket now.
    fn take_turn(&self, until: Instant) -> Outcome<Option<Turn<'_>>> {
        let mut renewal = lock(&self.renewal);
        if !renewal.under_way {
            renewal.under_way = true;
            return Ok(Some(Turn { login: self, outcome: None }));
        }
        let ended = renewal.ended;
        while renewal.ended == ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CKR_DEVICE_ERROR);
            }
            renewal = self.renewed.wait_timeout(renewal, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        renewal.outcome.unwrap_or(Ok(())).map(|()| None)
    }

    /// A failure after which the password may have reached the daemon is final: sent again, it would count as
    /// another attempt.
    fn attach_by_password(
        &self,
        connection: &mut Connection,
        partition: u32,
        epoch: u64,
    ) -> Result<(), Failure> {
        let known = self.known(epoch)?;
        let login = v1::Login {
            role: known.role.into(),
            user: known.user.clone(),
            password: known.password.expose_text().to_owned(),
            ticket: Vec::new(),
        };
        match connection.call(partition, Op::Login(login)) {
            Ok(response::Result::Login(reply)) => {
                let ticket = Zeroizing::new(reply.ticket);
                let mut current = lock(&self.known);
                if epoch == self.epoch()
                    && let Some(known) = current.as_mut()
                {
                    known.tickets.keep_given(connection.instance(), &ticket);
                }
                Ok(())
            }
            Ok(_) => Err(Failure::Code(CKR_DEVICE_ERROR)),
            Err(error) if error.code() == Some(ErrorCode::Unavailable) => Err(Failure::Daemon(error)),
            Err(error) if is_final(&error) => {
                self.end(epoch);
                Err(Failure::Code(CKR_USER_NOT_LOGGED_IN))
            }
            Err(error) => Err(Failure::Code(error::of_client(&error))),
        }
    }

    /// False if there is no ticket for this start of the daemon, or it is not taken.
    fn attach_by_ticket(
        &self,
        connection: &mut Connection,
        partition: u32,
        epoch: u64,
    ) -> Result<bool, Failure> {
        let known = self.known(epoch)?;
        let Some(ticket) = known.tickets.of(connection.instance()) else { return Ok(false) };
        let login = v1::Login {
            role: known.role.into(),
            user: known.user.clone(),
            password: String::new(),
            ticket: ticket.expose().to_vec(),
        };
        match connection.call(partition, Op::Login(login)) {
            Ok(result) => {
                // The same ticket again.
                if let response::Result::Login(reply) = result {
                    drop(Zeroizing::new(reply.ticket));
                }
                self.keep_taken(epoch, connection.instance(), ticket);
                Ok(true)
            }
            Err(error) if error.code() == Some(ErrorCode::TicketInvalid) => {
                self.forget_ticket(epoch, connection.instance(), ticket);
                Ok(false)
            }
            Err(error) => Err(Failure::Daemon(error)),
        }
    }

    fn known(&self, epoch: u64) -> Result<Known, Failure> {
        let known = lock(&self.known);
        match known.as_ref() {
            Some(known) if epoch == self.epoch() => Ok(known.clone()),
            _ => Err(Failure::Code(CKR_USER_NOT_LOGGED_IN)),
        }
    }
}

/// Whether the daemon will not take this password later either.
fn is_final(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::PasswordWrong
                | ErrorCode::UserLocked
                | ErrorCode::NoSuchUser
                | ErrorCode::NotPermitted
                | ErrorCode::NoSuchPartition
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(tickets: &Tickets, instance: &[u8]) -> Option<Vec<u8>> {
        tickets.of(instance).map(|ticket| ticket.expose().to_vec())
    }

    fn given(ticket: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(ticket.to_vec())
    }

    /// A start refuses what it is offered.
    fn refuse(tickets: &mut Tickets, instance: &[u8]) -> Arc<Secret> {
        let offered = Arc::clone(tickets.of(instance).unwrap());
        tickets.refuse(instance, &offered);
        offered
    }

    #[test]
    fn a_ticket_is_offered_to_other_starts_until_they_refuse_it() {
        let mut tickets = Tickets::default();
        assert_eq!(offered(&tickets, b"a"), None);
        tickets.keep_given(b"a", &given(b"first"));
        assert_eq!(offered(&tickets, b"b").unwrap(), b"first");
        refuse(&mut tickets, b"b");
        assert_eq!(offered(&tickets, b"b"), None);
        assert_eq!(offered(&tickets, b"a").unwrap(), b"first");
        tickets.keep_given(b"b", &given(b"second"));
        assert_eq!(offered(&tickets, b"a").unwrap(), b"first");
        // The first one's hour is over: what another node gave meanwhile may be good here.
        refuse(&mut tickets, b"a");
        assert_eq!(offered(&tickets, b"a").unwrap(), b"second");
        refuse(&mut tickets, b"a");
        assert_eq!(offered(&tickets, b"a"), None);
        tickets.keep_given(b"a", &given(b""));
        assert_eq!(offered(&tickets, b"a"), None, "a daemon that gives none");
    }

    #[test]
    fn a_refusal_that_comes_late_takes_no_newer_ticket_away() {
        let mut tickets = Tickets::default();
        tickets.keep_given(b"a", &given(b"first"));
        let late = Arc::clone(tickets.of(b"a").unwrap());
        tickets.keep_given(b"a", &given(b"second"));
        tickets.refuse(b"a", &late);
        assert_eq!(offered(&tickets, b"a").unwrap(), b"second");
    }

    #[test]
    fn no_more_are_kept_than_there_may_be_nodes() {
        let mut tickets = Tickets::default();
        for start in 0..100u8 {
            tickets.keep_given(&[start], &given(&[start]));
        }
        assert_eq!(tickets.0.len(), MAX_NODES);
        assert_eq!(
            (offered(&tickets, &[99]).unwrap(), offered(&tickets, &[1]).unwrap()),
            (vec![99], vec![99])
        );
    }
}
