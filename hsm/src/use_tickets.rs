//! Tickets for one use of a key that asks for its user's password each time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::crypto::aws_lc;
use crate::object::ObjectId;
use crate::tickets::{TICKET, hash};

/// For how long a ticket is good: a message in parts may take its time.
const LIFE: Duration = Duration::from_secs(600);

/// Tickets that a partition keeps; the oldest makes room for a new one.
const MOST: usize = 1_024;

/// Tickets of one user.
const MOST_OF_ONE: usize = 256;

/// A user, as the password is now: a new one voids what was given for the old, and somebody else may get the name.
type UserEpoch = (String, u64);

/// The tickets of one partition, the oldest first.
#[derive(Debug, Default)]
pub struct UseTickets {
    issued: VecDeque<Issued>,
}

#[derive(Debug)]
struct Issued {
    hash: [u8; 32],
    user: UserEpoch,
    key: ObjectId,
    until: Instant,
}

impl UseTickets {
    /// Makes a ticket for a user and a key.
    pub fn issue(&mut self, user: &UserEpoch, key: ObjectId) -> [u8; TICKET] {
        self.issue_at(Instant::now(), user, key)
    }

    fn issue_at(&mut self, now: Instant, user: &UserEpoch, key: ObjectId) -> [u8; TICKET] {
        self.issued.retain(|issued| issued.until > now);
        let mut own = self.issued.iter().enumerate().filter(|(_, issued)| issued.user == *user);
        let oldest_own = own.next().map(|(at, _)| at).filter(|_| own.count() + 1 >= MOST_OF_ONE);
        if let Some(at) = oldest_own.or_else(|| (self.issued.len() >= MOST).then_some(0)) {
            self.issued.remove(at);
        }
        let ticket = aws_lc::random_array();
        let issued = Issued { hash: hash(&ticket), user: user.clone(), key, until: now + LIFE };
        self.issued.push_back(issued);
        ticket
    }

    /// Spends a ticket: whether it was good for this user and this key. It is good for nothing from then on.
    pub fn spend(&mut self, user: &UserEpoch, key: ObjectId, ticket: &[u8]) -> bool {
        self.spend_at(Instant::now(), user, key, ticket)
    }

    fn spend_at(&mut self, now: Instant, user: &UserEpoch, key: ObjectId, ticket: &[u8]) -> bool {
        // As of log-in tickets: nobody can aim at a hash byte by byte.
        let wanted = hash(ticket);
        let Some(at) = self.issued.iter().position(|issued| issued.hash == wanted) else { return false };
        self.issued
            .remove(at)
            .is_some_and(|issued| issued.until > now && issued.user == *user && issued.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserEpoch {
        (name.to_owned(), 1)
    }

    #[test]
    fn a_ticket_is_for_one_use_of_one_key_by_one_user_for_a_while() {
        let (mut tickets, now, key) = (UseTickets::default(), Instant::now(), [7; 16]);
        let (web, mail, later) = (user("web"), user("mail"), ("web".to_owned(), 2));
        let ticket = tickets.issue(&web, key);
        assert!(tickets.spend(&web, key, &ticket) && !tickets.spend(&web, key, &ticket));
        for (user, used, after) in [(&mail, key, 0), (&later, key, 0), (&web, [8; 16], 0), (&web, key, 601)] {
            let ticket = tickets.issue_at(now, &web, key);
            assert!(!tickets.spend_at(now + Duration::from_secs(after), user, used, &ticket));
            assert!(!tickets.spend(&web, key, &ticket), "spent");
        }
        assert!(!tickets.spend(&web, key, &[]) && !tickets.spend(&web, key, &[0; TICKET]));
    }

    #[test]
    fn one_user_takes_the_place_of_their_own() {
        let (mut tickets, key) = (UseTickets::default(), [7; 16]);
        let (web, mail) = (user("web"), user("mail"));
        let of_mail = tickets.issue(&mail, key);
        let first = tickets.issue(&web, key);
        for _ in 0..MOST_OF_ONE {
            tickets.issue(&web, key);
        }
        assert!(!tickets.spend(&web, key, &first) && tickets.spend(&mail, key, &of_mail));
        for number in 0..8 {
            (0..MOST_OF_ONE).for_each(|_| {
                tickets.issue(&user(&format!("other-{number}")), key);
            });
        }
        assert_eq!(tickets.issued.len(), MOST);
    }
}
