//! Log-in tickets: 32 random bytes that stand for a password until the daemon stops.
//!
//! Only their SHA-256 is kept. A ticket lives as long as its [`LoginSession`], which ends with a log-out, and
//! no longer counts when the user's password has changed.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use strongroom_protocol::v1::Role;

use crate::changes;
use crate::crypto::aws_lc;
use crate::use_tickets::UseTickets;
use crate::users::User;

/// Tickets that a partition keeps; the oldest makes room for a new one.
const MAX_TICKETS: usize = 4_096;

/// Tickets of one user: the workers of a web server may each have one.
const MAX_TICKETS_OF_ONE: usize = 1_024;

/// The size of a ticket, in bytes.
pub const TICKET: usize = 32;

/// A log-in with a password, shared by all connections that use its ticket.
#[derive(Debug)]
pub struct LoginSession {
    /// Who logged in.
    pub user: String,
    /// In which role.
    pub role: Role,
    /// The user's [`User::epoch`] at that time.
    epoch: u64,
    ended: AtomicBool,
    /// Of the partition's [`Tickets`]: a node that was sealed meanwhile has others.
    alive: Weak<()>,
}

impl LoginSession {
    /// Whether this log-in is still good for the user as the partition has it now.
    pub fn is_valid_for(&self, user: &User) -> bool {
        let ended = self.ended.load(Ordering::Relaxed) || self.alive.strong_count() == 0;
        !ended && self.epoch == user.epoch && self.role == user.role
    }

    /// Ends it on every connection.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        changes::announce();
    }
}

/// The tickets of one partition.
#[derive(Debug, Default)]
pub struct Tickets {
    sessions: HashMap<[u8; 32], Arc<LoginSession>>,
    in_order: VecDeque<([u8; 32], Arc<LoginSession>)>,
    alive: Arc<()>,
    /// For single uses of keys.
    pub uses: UseTickets,
}

impl Tickets {
    /// Begins a log-in and makes its ticket.
    pub fn issue(&mut self, user: &User) -> ([u8; TICKET], Arc<LoginSession>) {
        let ticket = aws_lc::random_array();
        let session = Arc::new(LoginSession {
            user: user.name.clone(),
            role: user.role,
            epoch: user.epoch,
            ended: AtomicBool::new(false),
            alive: Arc::downgrade(&self.alive),
        });
        let mut own = (0..).zip(&self.in_order).filter(|(_, (_, session))| session.user == user.name);
        let oldest_own = own.next().map(|(at, _)| at).filter(|_| own.count() + 1 >= MAX_TICKETS_OF_ONE);
        let leaves = oldest_own.or_else(|| (self.in_order.len() >= MAX_TICKETS).then_some(0));
        if let Some((oldest, _)) = leaves.and_then(|at| self.in_order.remove(at)) {
            self.sessions.remove(&oldest);
        }
        let hash = hash(&ticket);
        self.sessions.insert(hash, Arc::clone(&session));
        self.in_order.push_back((hash, Arc::clone(&session)));
        (ticket, session)
    }

    /// The log-in that a ticket stands for. Whether it is still valid is for the caller to see.
    pub fn redeem(&self, ticket: &[u8]) -> Option<Arc<LoginSession>> {
        self.sessions.get(&hash(ticket)).map(Arc::clone)
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
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_the_place_of_their_own_tickets() {
        let user = |name: &str| User::new(name, Role::CryptoUser, None, Vec::new(), 1);
        let (web, mail) = (user("web"), user("mail"));
        let mut tickets = Tickets::default();
        let (of_mail, _) = tickets.issue(&mail);
        let (first, _) = tickets.issue(&web);
        let (second, _) = tickets.issue(&web);
        for _ in 0..MAX_TICKETS_OF_ONE - 1 {
            tickets.issue(&web);
        }
        assert!(tickets.redeem(&first).is_none());
        assert!(tickets.redeem(&second).is_some() && tickets.redeem(&of_mail).is_some());
        for number in 0..4 {
            let other = user(&format!("other-{number}"));
            (0..MAX_TICKETS_OF_ONE).for_each(|_| drop(tickets.issue(&other)));
        }
        assert!(tickets.sessions.len() == MAX_TICKETS && tickets.in_order.len() == MAX_TICKETS);
        assert!(tickets.redeem(&of_mail).is_none());
    }
}
