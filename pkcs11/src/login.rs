//! Who is logged in to a token in this process, and how further connections are logged in.
//!
//! PKCS#11 logs a process in, the protocol a connection. `C_Login` logs one connection in with the password
//! and gets a ticket; every further connection uses the ticket. Tickets end with the daemon: then one thread
//! logs in with the password again, which is kept for that, and the others wait for the new ticket.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cryptoki_sys::*;
use strongroom_protocol::client::{ClientError, Connection};
use strongroom_protocol::v1::{self, ErrorCode, LoginReply, Role, request::Op, response};
use zeroize::Zeroizing;

use crate::error::{Failure, Outcome, lock};
use crate::pool::ANONYMOUS;
use crate::secret::Secret;

/// Numbers the log-ins of a process, over all tokens: a connection carries the number of its log-in.
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

/// The log-in to one token.
#[derive(Debug, Default)]
pub struct Login {
    /// [`ANONYMOUS`] when nobody is logged in. Read for every call, without the lock.
    epoch: AtomicU64,
    known: Mutex<Option<Known>>,
    /// Held while the password is sent again.
    renewing: Mutex<()>,
}

#[derive(Clone)]
struct Known {
    role: Role,
    user: String,
    password: Arc<Secret>,
    /// Empty when there is none that is worth trying.
    ticket: Zeroizing<Vec<u8>>,
    /// The start of the daemon that gave the ticket.
    instance: Vec<u8>,
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
        lock(&self.known).as_ref().map(|known| known.role)
    }

    /// The name of who is logged in.
    pub fn user(&self) -> Option<String> {
        lock(&self.known).as_ref().map(|known| known.user.clone())
    }

    /// Remembers a log-in that the daemon granted on `connection`, and returns its number.
    ///
    /// # Errors
    ///
    /// `CKR_USER_ALREADY_LOGGED_IN` if another thread was first; `CKR_HOST_MEMORY` if the password cannot be kept.
    pub fn begin(&self, connection: &Connection, reply: LoginReply, password: &str) -> Outcome<u64> {
        let known = Known {
            role: reply.role(),
            user: reply.user,
            password: Arc::new(Secret::new(password).ok_or(CKR_HOST_MEMORY)?),
            ticket: Zeroizing::new(reply.ticket),
            instance: connection.instance().to_vec(),
        };
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        let mut place = lock(&self.known);
        if place.is_some() {
            return Err(CKR_USER_ALREADY_LOGGED_IN);
        }
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
        self.epoch.store(ANONYMOUS, Ordering::Release);
        current
    }

    /// Takes note of a new password of the user who is logged in.
    ///
    /// # Errors
    ///
    /// `CKR_HOST_MEMORY` if it cannot be kept.
    pub fn change_password(&self, password: &str) -> Outcome {
        let password = Arc::new(Secret::new(password).ok_or(CKR_HOST_MEMORY)?);
        if let Some(known) = lock(&self.known).as_mut() {
            known.password = password;
            known.ticket = Zeroizing::default();
        }
        Ok(())
    }

    /// Stops using a ticket that the daemon no longer takes.
    pub fn forget_ticket(&self, epoch: u64) {
        let mut known = lock(&self.known);
        if epoch == self.epoch()
            && let Some(known) = known.as_mut()
        {
            known.ticket = Zeroizing::default();
        }
    }

    /// Logs a new connection in as the log-in numbered `epoch`.
    ///
    /// # Errors
    ///
    /// `CKR_USER_NOT_LOGGED_IN` if that log-in has ended, or ends here because the daemon no longer takes its
    /// password (which is tried once, so that no user is locked out by repetition).
    pub fn attach(&self, connection: &mut Connection, partition: u32, epoch: u64) -> Result<(), Failure> {
        if self.attach_by_ticket(connection, partition, epoch)? {
            return Ok(());
        }
        let _renewing = lock(&self.renewing);
        // Meanwhile another thread may have got a new ticket.
        if self.attach_by_ticket(connection, partition, epoch)? {
            return Ok(());
        }
        let known = self.known(epoch)?;
        let login = v1::Login {
            role: known.role.into(),
            user: known.user.clone(),
            password: known.password.expose().to_owned(),
            ticket: Vec::new(),
        };
        match connection.call(partition, Op::Login(login)) {
            Ok(response::Result::Login(reply)) => {
                let mut current = lock(&self.known);
                if epoch == self.epoch()
                    && let Some(known) = current.as_mut()
                {
                    known.ticket = Zeroizing::new(reply.ticket);
                    known.instance = connection.instance().to_vec();
                }
                Ok(())
            }
            Ok(_) => Err(Failure::Code(CKR_DEVICE_ERROR)),
            Err(error) => {
                if is_final(&error) {
                    self.end(epoch);
                    return Err(Failure::Code(CKR_USER_NOT_LOGGED_IN));
                }
                Err(Failure::Daemon(error))
            }
        }
    }

    /// False if there is no ticket of this start of the daemon, or it is not taken.
    fn attach_by_ticket(
        &self,
        connection: &mut Connection,
        partition: u32,
        epoch: u64,
    ) -> Result<bool, Failure> {
        let known = self.known(epoch)?;
        if known.ticket.is_empty() || known.instance != connection.instance() {
            return Ok(false);
        }
        let login = v1::Login {
            role: known.role.into(),
            user: known.user,
            password: String::new(),
            ticket: known.ticket.to_vec(),
        };
        match connection.call(partition, Op::Login(login)) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(ErrorCode::TicketInvalid) => {
                self.forget_ticket(epoch);
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
