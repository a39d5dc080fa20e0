//! The shortest way to the daemon: memory that it shares with this process, one channel for each log-in.
//!
//! A signature goes through the channel if one is open, and over a socket otherwise. What goes wrong on a channel
//! is not mended here: the channel is closed and the call goes over a socket, whose way back to a daemon that was
//! restarted, or to a log-in that has ended, is in [`crate::call`]. After a call that succeeded there a new channel
//! is opened.
//!
//! On the way of a signature no lock is taken that two sessions share, and no count is changed: a session keeps
//! its own hold on the channel.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cryptoki_sys::*;
use strongroom_channel::{ChannelError, Client, Descriptors, Operation, Request};
use strongroom_protocol::client::Deadlines;
use strongroom_protocol::v1::ErrorCode;

use crate::call;
use crate::descriptors::Registration;
use crate::error::{self, Outcome, lock};
use crate::nodes::Member;
use crate::object::ObjectId;
use crate::pool::{ANONYMOUS, Lease};
use crate::session::Session;
use crate::state::{self, Process};
use crate::token::Token;

/// How long a channel is not asked for again after the daemon had none to give.
const PAUSE: Duration = Duration::from_secs(10);

/// The same after the connection broke: the daemon has been restarted, most likely.
const SHORT_PAUSE: Duration = Duration::from_millis(500);

/// How long an exchange waits for its reply, as long as on a socket.
const REPLY: Duration = Deadlines::DEFAULT.reply;

/// An open channel.
#[derive(Debug)]
pub struct Line {
    /// Which log-in it carries (see [`crate::login`]).
    epoch: u64,
    /// Whose it is.
    member: &'static Member,
    client: Client,
    /// The connection whose end is the channel's; taken out when the channel is closed.
    life: Mutex<Option<Life>>,
}

#[derive(Debug)]
struct Life {
    lease: Lease,
    /// So that a child closes its copy of the bell. `None` where the kernel does not tell bells apart.
    bell: Option<Registration>,
}

impl Line {
    fn new(epoch: u64, member: &'static Member, descriptors: Descriptors, lease: Lease) -> Option<Self> {
        let client = Client::new(descriptors).ok()?;
        let bell = lease.register(client.bell());
        Some(Line { epoch, member, client, life: Mutex::new(Some(Life { lease, bell })) })
    }

    fn is_usable(&self, epoch: u64) -> bool {
        self.epoch == epoch && !self.client.is_closed()
    }

    /// Whether the daemon keeps the channel, as far as is known without a message.
    fn is_connected(&self) -> bool {
        let mut life = lock(&self.life);
        let pooled = life.as_mut().and_then(|life| life.lease.pooled());
        pooled.is_some_and(|pooled| pooled.connection.is_open())
    }

    /// Begins no further exchange. The connection goes to whoever closes first.
    fn close(&self) -> Option<Lease> {
        let life = lock(&self.life).take();
        // The number of the bell is forgotten before it may become another file's.
        let lease = life.map(|Life { lease, bell }| {
            drop(bell);
            lease
        });
        self.client.close();
        lease
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// Where the channel of one log-in is found, if there is one.
#[derive(Debug, Default)]
pub struct Door {
    current: Mutex<Option<Arc<Line>>>,
    /// Whether there is one: where sockets serve, their calls do not meet at the lock.
    is_there: AtomicBool,
    /// One thread opens a channel, the others use sockets meanwhile.
    opening: AtomicBool,
    /// In milliseconds of [`Process::age`]: none is asked for before.
    not_before: AtomicU64,
}

/// The right to open a channel.
struct Opening<'a>(&'a Door);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.store(false, Ordering::Release);
    }
}

impl Door {
    fn find(&self, epoch: u64) -> Option<Arc<Line>> {
        if !self.is_there.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.current).as_ref().filter(|line| line.is_usable(epoch)).cloned()
    }

    /// Closes the channel; its connection, if there was one.
    pub fn close(&self) -> Option<Lease> {
        let line = self.replace(None);
        line.and_then(|line| line.close())
    }

    fn replace(&self, line: Option<Arc<Line>>) -> Option<Arc<Line>> {
        let mut current = lock(&self.current);
        self.is_there.store(line.is_some(), Ordering::Release);
        std::mem::replace(&mut current, line)
    }

    /// No channel is asked for until `pause` after `now`.
    fn pause(&self, now: u64, pause: Duration) {
        self.not_before.store(now + pause.as_millis() as u64, Ordering::Relaxed);
    }

    fn take_turn(&self, now: u64) -> Option<Opening<'_>> {
        if now < self.not_before.load(Ordering::Relaxed) || self.opening.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(Opening(self))
    }
}

/// An operation with a key: what [`Process::operate`] sends.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The key.
    pub key: ObjectId,
    /// What is done with it.
    pub operation: Operation<'a>,
    /// The data.
    pub data: &'a [u8],
}

impl Process {
    /// Has the daemon carry out an operation, writes the result to `reply`, and returns its length in bytes.
    /// `over_socket` does the same on a connection of the pool (by [`Process::on_connection`]). It gives a session object back that the
    /// daemon has no more.
    ///
    /// # Errors
    ///
    /// As [`Process::call`]; `CKR_DEVICE_ERROR` for a result that is longer than `reply`.
    pub fn operate(
        &'static self,
        session: &Session,
        task: &Task<'_>,
        reply: &mut [u8],
        over_socket: impl FnOnce(&mut [u8]) -> Outcome<usize>,
    ) -> Outcome<usize> {
        let kept = lock(&session.line).take();
        if let Some(line) = self.line(&session.token, kept) {
            let outcome = self.exchange(&session.token, &line, task, reply);
            *lock(&session.line) = Some(line);
            if let Some(length) = outcome? {
                return Ok(length);
            }
        }
        let epoch = session.token.login.epoch();
        let length = over_socket(reply)?;
        self.open_line(&session.token, epoch);
        Ok(length)
    }

    /// The token's channel, if one is open: the one that the session has, or a newer one.
    fn line(&self, token: &Token, kept: Option<Arc<Line>>) -> Option<Arc<Line>> {
        let epoch = token.login.epoch();
        match kept.filter(|line| line.is_usable(epoch)) {
            Some(line) => Some(line),
            None => self.door(token, epoch).find(epoch),
        }
    }

    /// Of a token that nobody logged in to, the process's own: there the daemon goes by the user id.
    fn door<'a>(&'a self, token: &'a Token, epoch: u64) -> &'a Door {
        if epoch == ANONYMOUS { &self.door } else { &token.door }
    }

    /// `None` if a socket has to serve: nothing was done, or it may be done again.
    fn exchange(
        &'static self,
        token: &Token,
        line: &Line,
        task: &Task<'_>,
        reply: &mut [u8],
    ) -> Outcome<Option<usize>> {
        let Task { key, operation, data } = *task;
        let request = Request { operation, partition: token.partition, key, data };
        // Where there are other nodes, a silent one is not waited for.
        let has_others = self.nodes.are_several();
        let patience = if has_others { line.member.patience() } else { REPLY };
        let mut until = None;
        let mut is_late = false;
        let mut worth_waiting = || {
            let now = Instant::now();
            is_late = now >= *until.get_or_insert(now + patience);
            !is_late && line.is_connected()
        };
        let error = match line.client.exchange(&request, reply, &mut worth_waiting) {
            Ok(length) => return Ok(Some(length)),
            Err(error) => error,
        };
        match error {
            ChannelError::Full | ChannelError::TooLarge => Ok(None),
            ChannelError::Closed => {
                drop(line.close());
                Ok(None)
            }
            ChannelError::Abandoned => {
                drop(line.close());
                if has_others {
                    self.nodes.take_out(line.member);
                }
                if is_late && !has_others { Err(CKR_DEVICE_ERROR) } else { Ok(None) }
            }
            ChannelError::Malformed => {
                drop(line.close());
                Err(CKR_DEVICE_ERROR)
            }
            ChannelError::Refused { code, .. } => {
                let code = i32::try_from(code).ok().and_then(|code| ErrorCode::try_from(code).ok());
                match code.unwrap_or_default() {
                    ErrorCode::TicketInvalid | ErrorCode::NotLoggedIn if line.epoch != ANONYMOUS => {
                        // The daemon ended this log-in; the socket's way begins it anew.
                        drop(line.close());
                        self.nodes.close_idle(|idle| idle == line.epoch);
                        Ok(None)
                    }
                    // A node that stops, or was sealed: another one may serve.
                    ErrorCode::Unavailable => {
                        drop(line.close());
                        Ok(None)
                    }
                    ErrorCode::NoSuchPartition if has_others => {
                        drop(line.close());
                        Ok(None)
                    }
                    code if has_others && call::is_of_the_node(code) => {
                        drop(line.close());
                        self.nodes.take_out(line.member);
                        Ok(None)
                    }
                    code => Err(error::of_code(code)),
                }
            }
        }
    }

    /// Opens a channel for the log-in `epoch`, under which a call has succeeded, if there is none, on a connection
    /// that is idle. If that fails, the sockets serve.
    fn open_line(&'static self, token: &Token, epoch: u64) {
        let door = self.door(token, epoch);
        // After a log-out there may be nobody whom the daemon would let sign.
        if !state::uses_channel() || token.login.epoch() != epoch || door.find(epoch).is_some() {
            return;
        }
        let Some(_turn) = door.take_turn(self.age()) else { return };
        let idle = self.nodes.near().find_map(|member| Some((member, member.pool.lease_idle(epoch)?)));
        let Some((member, mut lease)) = idle else { return };
        let Some(pooled) = lease.pooled() else { return };
        let descriptors = match pooled.connection.open_channel() {
            Ok(Some(given)) => Descriptors { region: given.region, bell: given.bell, state: given.state },
            Err(error) if error.is_broken() => return door.pause(self.age(), SHORT_PAUSE),
            Ok(None) | Err(_) => {
                lease.keep(|_| true);
                return door.pause(self.age(), PAUSE);
            }
        };
        let Some(line) = Line::new(epoch, member, descriptors, lease) else {
            return door.pause(self.age(), PAUSE);
        };
        let replaced = door.replace(Some(Arc::new(line)));
        drop(replaced.and_then(|line| line.close()));
        // Whoever logged out before it was there to be closed has left it to us.
        if token.login.epoch() != epoch || !self.is_initialized() {
            drop(door.close());
        }
    }

    /// Closes all channels for a while: the process has no descriptor left for another connection, and theirs
    /// serve more than one kind of call.
    pub fn close_lines(&self) {
        let close = |door: &Door| {
            door.pause(self.age(), PAUSE);
            drop(door.close());
        };
        self.nodes.end_trials();
        close(&self.door);
        for token in self.remembered_tokens() {
            close(&token.door);
        }
    }
}
