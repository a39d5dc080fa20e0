//! The nodes of a process, and which of them a call goes to: one on this machine first, else one of those that answer soonest
//! ([`crate::choice`]).
//!
//! A node that does not answer is taken out, and put back when it answers again: a call in a while begins to connect to it, later
//! ones look ([`crate::trial`]), and all go elsewhere meanwhile. No thread looks after that; what is known is kept in atomics, and a child begins with
//! what its parent knew.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::node::{MAX_NODES, Node};

use crate::choice::{self, Candidate};
use crate::pool::{Lease, Pool};
use crate::trial::{Found, Trial, Visit};

/// For how long a node is out after its first failure. It doubles with each further one…
const OUT: Duration = Duration::from_millis(500);

/// … up to this.
const OUT_AT_MOST: Duration = Duration::from_secs(16);

/// How long a call waits for a reply before it is sent to another node, if there is one: at least and at most. Between them it is
/// [`TIMES`] what a reply takes.
const PATIENCE: [Duration; 2] = [Duration::from_millis(400), Duration::from_secs(2)];

/// A node whose reply takes so many times as long as usual is taken for silent.
const TIMES: u64 = 10;

/// How long a call waits for a connection before it tries another node: on this machine, and over the network (a
/// handshake takes three times the way there and back).
const CONNECT: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];

/// A node, and its connections.
#[derive(Debug)]
pub struct Member {
    /// Where it is.
    pub node: Node,
    /// Connections to it.
    pub pool: Pool,
    health: Health,
    trial: Trial,
}

/// What is known of a node. Times are in milliseconds after [`Nodes::base`], plus 1.
#[derive(Debug, Default)]
struct Health {
    /// Out until then; 0 while it is in.
    out_until: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    /// How long a reply takes, in microseconds: an average that forgets. 0: unknown.
    latency: AtomicU64,
    /// When it answered last.
    answered: AtomicU64,
    /// Calls that wait for it now.
    under_way: AtomicU32,
}

impl Health {
    fn inherit(&self) -> Self {
        Health {
            out_until: AtomicU64::new(self.out_until.load(Ordering::Relaxed)),
            failures: AtomicU32::new(self.failures.load(Ordering::Relaxed)),
            latency: AtomicU64::new(self.latency.load(Ordering::Relaxed)),
            answered: AtomicU64::new(self.answered.load(Ordering::Relaxed)),
            ..Health::default()
        }
    }
}

/// The nodes, in the order in which they were named.
#[derive(Debug)]
pub struct Nodes {
    base: Instant,
    process: u32,
    members: Box<[Member]>,
}

/// The nodes that one call has tried.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tried(u32);

impl Tried {
    fn has(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }

    /// Notes one.
    pub fn add(&mut self, turn: &Turn) {
        self.0 |= 1 << turn.number;
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.0 = 0;
    }
}

/// A call on its way to a node.
#[derive(Debug)]
pub struct Turn {
    nodes: &'static Nodes,
    /// The node.
    pub member: &'static Member,
    number: usize,
    /// Another node can be asked if this one does not answer.
    pub has_others: bool,
    /// The connection of the trial that has found the node back.
    visit: Option<Visit>,
    started: Instant,
}

impl Nodes {
    /// Of a process; `parent` is what the process that forked it knew.
    pub fn new(nodes: Vec<Node>, parent: Option<&Nodes>) -> Self {
        let known = parent.map(|parent| &*parent.members).unwrap_or_default();
        let members = nodes.into_iter().enumerate().map(|(number, node)| {
            let health = known.get(number).map(|member| member.health.inherit()).unwrap_or_default();
            Member { node, pool: Pool::default(), health, trial: Trial::default() }
        });
        Nodes {
            base: parent.map_or_else(Instant::now, |parent| parent.base),
            process: std::process::id(),
            members: members.collect(),
        }
    }

    /// All of them.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Those on this machine.
    pub fn near(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.node.is_near())
    }

    /// Chooses the node for a call of `client` that has `tried` some. `None` if no node is named.
    pub fn choose(&'static self, tried: Tried, client: &str) -> Option<Turn> {
        let now = Instant::now();
        if let [member] = &*self.members {
            return Some(self.turn(0, member, false, None, now));
        }
        let moment = self.moment(now);
        let untried = || self.members.iter().enumerate().filter(|(number, _)| !tried.has(*number));
        let has_others = untried().count() > 1;
        // Whether one is back shows without anybody's waiting; the call that sees it goes there.
        for (number, member) in untried().filter(|(_, member)| member.health.is_due(moment)) {
            if let Some(visit) = member.visit(client, moment) {
                return Some(self.turn(number, member, has_others, Some(visit), now));
            }
        }
        let usable = untried().filter(|(_, member)| member.health.out_until.load(Ordering::Relaxed) == 0);
        let candidates: ArrayVec<_, MAX_NODES> =
            usable.take(MAX_NODES).map(|(number, member)| member.candidate(number, moment)).collect();
        let best = choice::choose(&candidates, choice::thrown(self.unique(now)))
            .and_then(|number| self.members.get(number).map(|member| (number, member)));
        // All are out: the one that will be back first, and if all were tried the first.
        let (number, member) = best
            .or_else(|| untried().min_by_key(|(_, member)| member.health.out_until.load(Ordering::Relaxed)))
            .or_else(|| self.members.iter().enumerate().next())?;
        Some(self.turn(number, member, has_others, None, now))
    }

    /// The way to one of them, whatever is known of it: no other one will do.
    pub fn only(&'static self, number: usize) -> Option<Turn> {
        self.members.get(number).map(|member| self.turn(number, member, false, None, Instant::now()))
    }

    fn turn(
        &'static self,
        number: usize,
        member: &'static Member,
        has_others: bool,
        visit: Option<Visit>,
        started: Instant,
    ) -> Turn {
        member.health.under_way.fetch_add(1, Ordering::Relaxed);
        Turn { nodes: self, member, number, has_others, visit, started }
    }

    /// Takes an idle connection with this log-in, to whichever node.
    pub fn lease_idle(&'static self, epoch: u64) -> Option<Lease> {
        self.members.iter().find_map(|member| member.pool.lease_idle(epoch))
    }

    /// Closes the idle connections to all nodes of the epochs for which `stale` says so.
    pub fn close_idle(&'static self, stale: impl Fn(u64) -> bool) {
        for member in &self.members {
            member.pool.close_idle(&stale);
        }
    }

    /// Ends the trials that are under way.
    pub fn end_trials(&self) {
        self.members.iter().for_each(|member| member.trial.end());
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        self.members.len() > 1
    }

    /// Takes a node out whose channel is silent.
    pub fn take_out(&self, member: &Member) {
        member.health.fail(self.moment(Instant::now()));
    }

    /// Another number each time, in each process: workers that were forked together throw different dice.
    fn unique(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.base).as_nanos() as u64;
        time ^ (u64::from(self.process) << 40)
    }

    fn moment(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).as_millis() as u64 + 1
    }
}

impl Health {
    /// Whether it is out, and has been for long enough.
    fn is_due(&self, moment: u64) -> bool {
        let until = self.out_until.load(Ordering::Relaxed);
        until != 0 && until <= moment
    }

    /// It is not tried for a while, and nothing new is known of it.
    fn postpone(&self, moment: u64) {
        self.out_until.store(moment + OUT.as_millis() as u64, Ordering::Relaxed);
    }

    fn fail(&self, moment: u64) {
        // Calls that were on their way together are one failure.
        if self.out_until.load(Ordering::Relaxed) > moment {
            return;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let out = (OUT * (1 << failures)).min(OUT_AT_MOST);
        self.out_until.store(moment + out.as_millis() as u64, Ordering::Relaxed);
    }

    fn succeed(&self, moment: u64, took: Duration) {
        let took = (took.as_micros() as u64).max(1);
        let before = match self.latency.load(Ordering::Relaxed) {
            0 => took,
            before => before,
        };
        self.latency.store((before * 7 + took) / 8, Ordering::Relaxed);
        self.answered.store(moment, Ordering::Relaxed);
        // Only who changes something writes: the lines are shared.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.out_until.load(Ordering::Relaxed) != 0 {
            self.out_until.store(0, Ordering::Relaxed);
        }
    }
}

impl Member {
    /// Looks whether the node is back, or begins to: the connection to it, if it is.
    fn visit(&'static self, client: &str, moment: u64) -> Option<Visit> {
        match self.trial.look(&self.node, &self.pool, client, moment) {
            Found::There(visit) => return Some(visit),
            Found::Nothing => {}
            Found::Gone => self.health.fail(moment),
            Found::Scarce => self.health.postpone(moment),
        }
        // It came back another way meanwhile: what a trial of now finds would be taken for the truth at its next absence.
        if self.health.out_until.load(Ordering::Relaxed) == 0 {
            self.trial.end();
        }
        None
    }

    /// What is known of it.
    fn candidate(&self, number: usize, moment: u64) -> Candidate {
        Candidate {
            number,
            latency: self.health.latency.load(Ordering::Relaxed),
            idle: moment.saturating_sub(self.health.answered.load(Ordering::Relaxed)),
            under_way: self.health.under_way.load(Ordering::Relaxed).into(),
            is_near: self.node.is_near(),
        }
    }

    /// How long a call waits for its reply before it goes to another node.
    pub fn patience(&self) -> Duration {
        let [least, most] = PATIENCE;
        let usual = self.health.latency.load(Ordering::Relaxed);
        Duration::from_micros(usual.saturating_mul(TIMES)).clamp(least, most)
    }
}

impl Turn {
    /// The node's number in the list.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether there is another node, asked already or not.
    pub fn is_one_of_several(&self) -> bool {
        self.nodes.are_several()
    }

    /// How long the call waits: as long as it may if there is no other node. `round`: how often all nodes were asked before;
    /// none of a call that is not sent again.
    pub fn deadlines(&self, round: Option<u32>) -> Deadlines {
        if !self.is_one_of_several() {
            return Deadlines::DEFAULT;
        }
        let [near, far] = CONNECT;
        let longer = 1 << round.unwrap_or_default().min(8);
        let reply = round.map_or(Deadlines::DEFAULT.reply, |_| self.member.patience() * longer);
        let connect = if self.member.node.is_near() { near } else { far } * longer;
        Deadlines {
            connect: connect.min(Deadlines::DEFAULT.reply),
            reply: reply.min(Deadlines::DEFAULT.reply),
        }
    }

    /// The connection that the trial of the node has made, made whole. `None` if there was none, or is none any more.
    pub fn arrive(&mut self, client: &str, deadlines: Deadlines) -> Option<Connection> {
        self.visit.take()?.finish(&self.member.node, client, deadlines)
    }

    /// The node has answered; also with a refusal.
    pub fn succeed(&self) {
        let now = Instant::now();
        let was_out = self.member.health.out_until.load(Ordering::Relaxed) != 0;
        self.member.health.succeed(self.nodes.moment(now), now.saturating_duration_since(self.started));
        if was_out {
            self.member.trial.end();
        }
    }

    /// The node has not answered, or cannot serve.
    pub fn fail(&self) {
        self.member.health.fail(self.nodes.moment(Instant::now()));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.member.health.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn nodes(names: &[&str]) -> &'static Nodes {
        let node = |name: &&str| Node { address: name.parse().unwrap(), tls: None };
        Box::leak(Box::new(Nodes::new(names.iter().map(node).collect(), None)))
    }

    fn chosen(nodes: &'static Nodes) -> usize {
        nodes.choose(Tried::default(), "test").unwrap().number
    }

    fn put_back_the_clock(nodes: &'static Nodes) {
        // As if the time of being out were over.
        for member in nodes.members() {
            let until = &member.health.out_until;
            if until.load(Ordering::Relaxed) != 0 {
                until.store(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn a_node_of_this_machine_goes_first_until_it_is_busy() {
        let nodes = nodes(&["tls://a", "/run/near", "tls://b"]);
        assert_eq!(chosen(nodes), 1);
        let busy: Vec<_> =
            (0..choice::NEAR).map(|_| nodes.choose(Tried::default(), "test").unwrap()).collect();
        assert!(busy.iter().all(|turn| turn.number == 1));
        assert_ne!(nodes.choose(Tried::default(), "test").unwrap().number, 1);
        drop(busy);
        assert_eq!(chosen(nodes), 1);
    }

    #[test]
    fn who_usually_answers_late_is_waited_for_longer() {
        let nodes = nodes(&["tls://a", "tls://b"]);
        let member = &nodes.members()[0];
        let patience = |usual: u64| {
            member.health.latency.store(usual, Ordering::Relaxed);
            member.patience().as_millis()
        };
        assert_eq!(
            [0, 1_000, 40_000, 60_000, 199_000, 5_000_000].map(patience),
            [400, 400, 400, 600, 1990, 2000]
        );
    }

    #[test]
    fn a_silent_node_is_out_and_tried_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let nodes = nodes(&[&path("a"), &path("b")]);
        let first = nodes.choose(Tried::default(), "test").unwrap();
        let whole = Deadlines::DEFAULT.reply;
        assert!(first.has_others && first.deadlines(Some(0)).reply < whole);
        assert_eq!(first.deadlines(Some(1)).reply, first.deadlines(Some(0)).reply * 2);
        assert!(first.deadlines(Some(9)).reply == whole && first.deadlines(None).reply == whole);
        first.fail();
        let out = first.number;
        drop(first);
        let goes_elsewhere = || (0..20).all(|_| chosen(nodes) != out);
        assert!(goes_elsewhere());
        // Nobody listens: it is out for longer.
        put_back_the_clock(nodes);
        assert!(goes_elsewhere());
        let health = &nodes.members[out].health;
        assert_eq!(health.failures.load(Ordering::Relaxed), 2);
        // It listens and hangs: a connection is open, and no call goes there.
        let listener = UnixListener::bind(path(if out == 0 { "a" } else { "b" })).unwrap();
        put_back_the_clock(nodes);
        assert!(goes_elsewhere());
        let (mut node, _) = listener.accept().unwrap();
        assert!(goes_elsewhere() && health.out_until.load(Ordering::Relaxed) == 1);
        // The application has done: nothing stays open.
        nodes.end_trials();
        assert!(node.read_to_end(&mut Vec::new()).is_ok());
        assert!(goes_elsewhere());
        let (mut node, _) = listener.accept().unwrap();
        // It answers, and one call goes there, on this connection.
        let mut asked = [0; 64];
        assert!(node.read(&mut asked).unwrap() > 0);
        node.write_all(b"an answer that is none").unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let mut trial = loop {
            let turn = nodes.choose(Tried::default(), "test").unwrap();
            if turn.number == out {
                break turn;
            }
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(goes_elsewhere(), "the others go where they know their way, and begin another trial");
        assert!(trial.arrive("test", Deadlines::DEFAULT).is_none(), "no node's answer");
        trial.succeed();
        assert_eq!(health.out_until.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_call_tries_every_node() {
        let nodes = nodes(&["tls://a", "tls://b", "tls://c"]);
        let mut tried = Tried::default();
        for left in (0..3).rev() {
            let turn = nodes.choose(tried, "test").unwrap();
            assert!(!tried.has(turn.number));
            assert_eq!(turn.has_others, left > 0);
            turn.fail();
            tried.add(&turn);
        }
        // All are out: each may still be asked.
        assert!(nodes.choose(Tried::default(), "test").is_some() && nodes.choose(tried, "test").is_some());
    }

    #[test]
    fn a_node_is_out_for_longer_each_time_and_children_know() {
        let nodes = nodes(&["tls://a", "tls://b"]);
        let health = &nodes.members[0].health;
        let mut moment = 1;
        for out in [500, 1000, 2000, 4000, 8000, 16000, 16000, 16000, 16000, 16000] {
            health.fail(moment);
            health.fail(moment);
            assert_eq!(health.out_until.load(Ordering::Relaxed), moment + out);
            moment += out;
        }
        let names = nodes.members.iter().map(|member| member.node.clone()).collect();
        let child: &'static Nodes = Box::leak(Box::new(Nodes::new(names, Some(nodes))));
        assert_eq!(child.members[0].health.out_until.load(Ordering::Relaxed), moment);
    }
}
