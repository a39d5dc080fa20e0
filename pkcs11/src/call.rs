//! A request to the daemon: on which connection, and what happens when the daemon is not there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;
use strongroom_protocol::client::{ClientError, Connection, Deadlines};
use strongroom_protocol::v1::{ErrorCode, GenerateRandom, request::Op, response};
use strongroom_protocol::{once, secret};

use crate::error::{self, AWAY, Failure, Outcome};
use crate::nodes::{Tried, Turn};
use crate::pool::{self, ANONYMOUS, Lease, Pooled};
use crate::session_keys::{ask, named};
use crate::state::Process;
use crate::token::Token;

/// How long calls wait for a daemon to come back, counted from when its absence was first noticed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(25);

/// How many connections may break under one request before it is given up: it may be what breaks them.
const ATTEMPTS: u32 = 3;

/// Whether a request may be sent again when nobody knows if it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Done twice is as done once.
    Safe,
    /// Done twice is a mistake (a second key pair).
    Never,
    /// The daemon does it once, however often it is sent under this name.
    Once([u8; 16]),
}

impl Repeat {
    /// Of a request that must not be done twice.
    pub fn of(op: &Op) -> Self {
        match once::makes_objects(op).then(once::name).flatten() {
            Some(name) => Repeat::Once(name),
            None => Repeat::Never,
        }
    }

    /// Sends the request once.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub fn send(
        self,
        connection: &mut Connection,
        partition: u32,
        op: Op,
    ) -> Result<response::Result, ClientError> {
        match self {
            Repeat::Once(name) if connection.knows_once() => connection.call_once(partition, op, &name),
            _ => connection.call(partition, op),
        }
    }

    /// Whether a request that was sent over this connection may be sent again, over another one that is like it.
    fn is_sound(self, connection: &Connection) -> bool {
        match self {
            Repeat::Safe => true,
            Repeat::Never => false,
            Repeat::Once(_) => connection.knows_once(),
        }
    }
}

/// For which partition a request is, and as whom it is made.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    partition: u32,
    token: Option<&'a Token>,
    node: Option<usize>,
}

impl<'a> Access<'a> {
    /// About the whole daemon.
    pub fn anonymous() -> Self {
        Access { partition: 0, token: None, node: None }
    }

    /// On a token, as who is logged in to it.
    pub fn of(token: &'a Token) -> Self {
        Access { partition: token.partition, token: Some(token), node: None }
    }

    /// The same, of one node: it alone has what the request is about.
    pub fn on_node(self, number: usize) -> Self {
        Access { node: Some(number), ..self }
    }

    /// The partition's number; 0 for the whole daemon.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    fn epoch(&self) -> u64 {
        self.token.map_or(ANONYMOUS, |token| token.login.epoch())
    }
}

impl Process {
    /// Sends a request and waits for its answer. `make` builds it, again for each attempt. A session object that the daemon has no
    /// more is given back to it.
    ///
    /// # Errors
    ///
    /// The `CKR_` code of the daemon's refusal; [`AWAY`] if no daemon listens; `CKR_DEVICE_ERROR` if it does
    /// not answer, or if the connection broke under a request that must not be repeated.
    pub fn call(
        &'static self,
        access: Access<'_>,
        repeat: Repeat,
        make: impl Fn() -> Op,
    ) -> Outcome<response::Result> {
        self.call_of_node(access, repeat, make).map(|(result, _)| result)
    }

    /// As [`Process::call`]; with the answer comes the number of the node that gave it.
    ///
    /// # Errors
    ///
    /// As [`Process::call`].
    pub fn call_of_node(
        &'static self,
        access: Access<'_>,
        repeat: Repeat,
        make: impl Fn() -> Op,
    ) -> Outcome<(response::Result, usize)> {
        let sealed = || {
            let mut op = make();
            let sealed = self.session_objects.sealed(access.partition, named(&op));
            secret::wipe(&mut op);
            sealed
        };
        let repeat = match repeat {
            Repeat::Never => {
                let mut op = make();
                let repeat = Repeat::of(&op);
                secret::wipe(&mut op);
                repeat
            }
            repeat => repeat,
        };
        self.on_connection(access, repeat, |pooled| {
            let node = pooled.node;
            ask(pooled, access.partition, sealed, |connection| {
                repeat.send(connection, access.partition, make())
            })
            .map(|result| (result, node))
        })
    }

    /// Does something on a connection that is logged in as `access` says, and does it again on another one
    /// where that is sound.
    ///
    /// # Errors
    ///
    /// As [`Process::call`].
    pub fn on_connection<T>(
        &'static self,
        access: Access<'_>,
        repeat: Repeat,
        mut action: impl FnMut(&mut Pooled) -> Result<T, ClientError>,
    ) -> Outcome<T> {
        let mut retries = Retries::default();
        let mut tried = Tried::default();
        let mut rounds = Rounds::default();
        let mut logged_in_again = false;
        // The request may have been carried out: only who would know it is asked again.
        let mut lost = None;
        // Until when to wait for another call's connection, because no further one can be opened.
        let mut scarce = None;
        // A connection is not kept if somebody logged out meanwhile.
        let is_current = |epoch| access.token.is_none() || epoch == access.epoch();
        loop {
            let epoch = access.epoch();
            let turn = match access.node {
                None => self.nodes.choose(tried, &self.client),
                Some(number) => self.nodes.only(number),
            };
            let mut turn = turn.ok_or(AWAY)?;
            let pool = &turn.member.pool;
            let mut lease = match scarce {
                None => pool.lease(epoch)?,
                Some(until) => pool.lease_open(epoch, until)?,
            };
            let pooled = match self.connected(&mut turn, &mut lease, access, epoch, (repeat, rounds.number)) {
                Ok(pooled) => pooled,
                Err(Failure::Code(code)) => return Err(code),
                Err(Failure::Daemon(error)) => {
                    drop(lease);
                    if error::is_out_of_descriptors(&error) {
                        scarce.get_or_insert_with(|| {
                            self.close_lines();
                            Instant::now() + pool::WAIT
                        });
                        continue;
                    }
                    if has_next(&turn, &mut tried) {
                        continue;
                    }
                    if rounds.go_on(&turn, &error) {
                        tried.clear();
                        continue;
                    }
                    if error::is_absence(&error) && retries.may_reconnect(&self.outage) {
                        tried.clear();
                        continue;
                    }
                    return Err(error::of_client(&error));
                }
            };
            let is_sound = repeat.is_sound(&pooled.connection);
            if let Some(code) = lost.filter(|_| !is_sound) {
                lease.keep(|_| true);
                return Err(code);
            }
            let error = match action(pooled) {
                Ok(value) => {
                    turn.succeed();
                    lease.keep(is_current);
                    return Ok(value);
                }
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::TicketInvalid | ErrorCode::NotLoggedIn)
                    if epoch != ANONYMOUS && !logged_in_again =>
                {
                    // The daemon ended this connection's log-in. Whether the ticket is good still, a new connection shows.
                    logged_in_again = true;
                    drop(lease);
                    pool.close_idle(|idle| idle == epoch);
                }
                // Refused before anything was done.
                Some(ErrorCode::Unavailable) => {
                    drop(lease);
                    if has_next(&turn, &mut tried) {
                        continue;
                    }
                    if !retries.may_reconnect(&self.outage) {
                        return Err(AWAY);
                    }
                    tried.clear();
                }
                // It serves the other partitions.
                Some(ErrorCode::NoSuchPartition) if has_other(&turn, &mut tried) => drop(lease),
                Some(code) if is_of_the_node(code) && has_next(&turn, &mut tried) => drop(lease),
                Some(code) => {
                    turn.succeed();
                    lease.keep(is_current);
                    return Err(error::of_code(code));
                }
                None if !error.is_broken() => {
                    lease.keep(is_current);
                    return Err(error::of_client(&error));
                }
                None => {
                    drop(lease);
                    // The others of this start of the daemon are most likely broken too.
                    pool.close_idle(|_| true);
                    if !is_sound {
                        turn.fail();
                        return Err(error::of_client(&error));
                    }
                    lost = Some(error::of_client(&error));
                    if has_next(&turn, &mut tried) {
                        continue;
                    }
                    if rounds.go_on(&turn, &error) {
                        tried.clear();
                        continue;
                    }
                    if !error::is_absence(&error) || !retries.may_resend() {
                        return Err(error::of_client(&error));
                    }
                    tried.clear();
                }
            }
        }
    }

    /// The lease's connection, opened and logged in if it is not.
    fn connected<'a>(
        &'static self,
        turn: &mut Turn,
        lease: &'a mut Lease,
        access: Access<'_>,
        epoch: u64,
        (repeat, round): (Repeat, u32),
    ) -> Result<&'a mut Pooled, Failure> {
        let deadlines = turn.deadlines((repeat == Repeat::Safe).then_some(round));
        let arrived = turn.arrive(&self.client, deadlines);
        let is_gone = |pooled: &mut Pooled| repeat == Repeat::Never && !is_there(pooled, turn);
        // What is idle is from before the node was out, if it was. And that it has gone is better found out before a request is sent
        // than after.
        if arrived.is_some() || lease.pooled().is_some_and(is_gone) {
            lease.discard();
        }
        if lease.pooled().is_none() {
            lease.fill(match arrived {
                Some(connection) => connection,
                None => Connection::open_node(&turn.member.node, &self.client, deadlines)?,
            });
            self.outage.over();
            let pooled = lease.pooled().ok_or(Failure::Code(CKR_HOST_MEMORY))?;
            pooled.node = turn.number();
            if let Some(token) = access.token
                && epoch != ANONYMOUS
            {
                // A password takes its time.
                pooled.connection.set_reply_deadline(Deadlines::DEFAULT.reply)?;
                if let Err(failure) = token.login.attach(&mut pooled.connection, access.partition, epoch) {
                    if access.epoch() == ANONYMOUS {
                        drop(token.door.close());
                        // What the daemon has of them is for who is logged in.
                        self.session_objects.end_log_in(token.partition);
                        self.handles.forget_private(token.partition);
                        self.sessions.forget_plaintexts(token);
                    }
                    return Err(failure);
                }
                pooled.epoch = epoch;
            }
        }
        let pooled = lease.pooled().ok_or(Failure::Code(CKR_HOST_MEMORY))?;
        pooled.connection.set_reply_deadline(deadlines.reply)?;
        Ok(pooled)
    }
}

/// Whether the node still answers on an idle connection. Where another one could be asked instead, it is asked something
/// harmless: a node that hangs keeps its connections open.
fn is_there(pooled: &mut Pooled, turn: &Turn) -> bool {
    if !pooled.connection.is_open() {
        return false;
    }
    if !turn.has_others {
        return true;
    }
    let ask = || Op::GenerateRandom(GenerateRandom { length: 1 });
    pooled.connection.set_reply_deadline(turn.member.patience()).is_ok()
        && !pooled.connection.call(0, ask()).is_err_and(|error| error.is_broken())
}

/// After a failure: takes the node out if there is another one that the call has not tried, which is next.
fn has_next(turn: &Turn, tried: &mut Tried) -> bool {
    if !has_other(turn, tried) {
        return false;
    }
    turn.fail();
    true
}

/// Whether there is a node that the call has not tried, which is next.
fn has_other(turn: &Turn, tried: &mut Tried) -> bool {
    if turn.has_others {
        tried.add(turn);
    }
    turn.has_others
}

/// Whether a refusal says something of the node and not of the request, so that another node may do it.
pub fn is_of_the_node(code: ErrorCode) -> bool {
    use ErrorCode::{NoQuorum, NotAMember, Sealed, Tampered, Zeroized};
    matches!(code, Sealed | Tampered | Zeroized | NoQuorum | NotAMember)
}

/// How often one call was sent to each of several nodes. They may all have much to do: each round waits twice as long as the
/// one before, so that neither a node that hangs nor one that is slow takes all the time.
#[derive(Debug, Default)]
struct Rounds {
    number: u32,
    /// When the first one ended.
    since: Option<Instant>,
}

impl Rounds {
    /// After all nodes were asked: whether to ask them once more.
    fn go_on(&mut self, turn: &Turn, error: &ClientError) -> bool {
        let was_silent = matches!(error, ClientError::Deadline { .. });
        if !was_silent || !turn.is_one_of_several() {
            return false;
        }
        turn.fail();
        self.number += 1;
        self.since.get_or_insert_with(Instant::now).elapsed() < Deadlines::DEFAULT.reply
    }
}

/// How often, and until when, one call is tried.
#[derive(Debug, Default)]
struct Retries {
    resent: u32,
    until: Option<Instant>,
}

impl Retries {
    /// Whether to connect again, after a pause.
    fn may_reconnect(&mut self, outage: &Outage) -> bool {
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + PATIENCE);
        if now >= until || !outage.is_worth_waiting(now) {
            return false;
        }
        thread::sleep(PAUSE);
        true
    }

    /// Whether to send the request again after the connection broke under it.
    fn may_resend(&mut self) -> bool {
        self.resent += 1;
        self.resent < ATTEMPTS
    }
}

/// Since when the daemon is away. Written without locks; inherited by children, so that a web server's new
/// worker waits for a restarting daemon as the old ones do.
#[derive(Debug)]
pub struct Outage {
    base: Instant,
    /// In milliseconds after `base`, plus 1; 0 while the daemon is there.
    since: AtomicU64,
    /// A daemon has answered this process or one that forked it.
    seen: AtomicBool,
}

impl Default for Outage {
    fn default() -> Self {
        Outage { base: Instant::now(), since: AtomicU64::new(0), seen: AtomicBool::new(false) }
    }
}

impl Outage {
    /// What a child knows of it.
    pub fn inherit(&self) -> Self {
        Outage {
            base: self.base,
            since: AtomicU64::new(self.since.load(Ordering::Relaxed)),
            seen: AtomicBool::new(self.seen.load(Ordering::Relaxed)),
        }
    }

    fn over(&self) {
        self.seen.store(true, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
    }

    /// Whether the daemon was there and has been away for less than [`PATIENCE`].
    fn is_worth_waiting(&self, now: Instant) -> bool {
        if !self.seen.load(Ordering::Relaxed) {
            return false;
        }
        let now = now.saturating_duration_since(self.base).as_millis() as u64 + 1;
        let since = match self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => now,
            Err(since) => since,
        };
        Duration::from_millis(now.saturating_sub(since)) < PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_begins_when_the_absence_is_noticed_and_ends() {
        let outage = Outage::default();
        let start = outage.base;
        assert!(!outage.is_worth_waiting(start), "never seen: fail at once");
        outage.over();
        let noticed = start + Duration::from_secs(3600);
        assert!(outage.is_worth_waiting(noticed));
        assert!(outage.is_worth_waiting(noticed + Duration::from_millis(1900)));
        assert!(!outage.is_worth_waiting(noticed + Duration::from_secs(2)));
        assert!(!outage.inherit().is_worth_waiting(noticed + Duration::from_secs(9)));
        outage.over();
        assert!(outage.is_worth_waiting(noticed + Duration::from_secs(60)));
    }
}
