//! How many connections there may be, and whose: nobody takes the places that others need.

use std::sync::Arc;

use crate::failure::{Failure, refuse};
use crate::service::PerUid;

/// Kept free for the owner of the machine, who has to get in when all others are there.
const OWNERS: usize = 64;

/// How many connections may be open at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All together.
    pub all: usize,
    /// From one user id, other than the owner's.
    pub of_one: usize,
    /// From user ids that no partition admits, all together.
    pub strangers: usize,
    /// From one such user id.
    pub strangers_of_one: usize,
}

impl Limits {
    /// The limits for a process that may have `all` connections: strangers never get more than a quarter.
    #[must_use]
    pub fn within(self, all: usize) -> Self {
        let all = self.all.min(all);
        let strangers = self.strangers.min((all / 4).max(1));
        Self { all, strangers, ..self }
    }
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Root, or the daemon's own user.
    Owner,
    /// A user id that a user of some partition has admitted.
    Admitted,
    /// Anybody else.
    Stranger,
}

/// The places for connections.
#[derive(Debug, Default)]
pub struct Places {
    all: PerUid,
    strangers: PerUid,
}

impl Places {
    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.all.count()
    }

    /// Takes a place, given back when it is dropped.
    ///
    /// # Errors
    ///
    /// LIMIT, with the limit that is reached.
    pub fn take(self: &Arc<Self>, uid: u32, who: Who, limits: Limits) -> Result<Place, Failure> {
        let is_stranger = who == Who::Stranger;
        if is_stranger && !self.strangers.enter(uid, limits.strangers, limits.strangers_of_one) {
            return refuse!(
                Limit,
                "strongroomd takes {} connections from user ids that no partition admits, {} from each: close \
                 some, or have a crypto officer admit user id {uid}",
                limits.strangers,
                limits.strangers_of_one
            );
        }
        let (all, of_one) = match who {
            Who::Owner => (limits.all, limits.all),
            _ => (limits.all - OWNERS.min(limits.all / 4), limits.of_one),
        };
        if self.all.enter(uid, all, of_one) {
            return Ok(Place { places: Arc::clone(self), uid, is_stranger });
        }
        if is_stranger {
            self.strangers.leave(uid);
        }
        refuse!(
            Limit,
            "strongroomd takes {all} connections, {of_one} from one user id, and has as many: close some, or try \
             later"
        )
    }
}

/// One connection's place.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    uid: u32,
    is_stranger: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.all.leave(self.uid);
        if self.is_stranger {
            self.places.strangers.leave(self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { all: 16, of_one: 8, strangers: 4, strangers_of_one: 2 };

    /// Places that a user id gets until it is refused.
    fn all_of(places: &Arc<Places>, uid: u32, who: Who) -> Vec<Place> {
        std::iter::from_fn(|| places.take(uid, who, LIMITS).ok()).collect()
    }

    #[test]
    fn strangers_and_users_leave_room_for_the_others() {
        let places = Arc::new(Places::default());
        let strangers: Vec<_> = (1..=4).map(|uid| all_of(&places, uid, Who::Stranger)).collect();
        assert_eq!(strangers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 0, 0]);
        let users = [all_of(&places, 33, Who::Admitted), all_of(&places, 34, Who::Admitted)];
        assert_eq!(users.iter().map(Vec::len).collect::<Vec<_>>(), [8, 0]);
        assert_eq!(all_of(&places, 0, Who::Owner).len(), 4);
        drop((strangers, users));
        assert_eq!(places.taken(), 0);
        assert_eq!(all_of(&places, 1, Who::Stranger).len(), 2);
    }

    #[test]
    fn a_refusal_names_the_limit_that_is_reached() {
        let places = Arc::new(Places::default());
        let _strangers = all_of(&places, 1, Who::Stranger);
        let refused = places.take(1, Who::Stranger, LIMITS).unwrap_err().message;
        assert!(refused.contains("4 connections") && refused.contains("2 from each"), "{refused}");
        let _users = all_of(&places, 33, Who::Admitted);
        let refused = places.take(33, Who::Admitted, LIMITS).unwrap_err().message;
        assert!(refused.contains("8 from one user id"), "{refused}");
    }

    #[test]
    fn fewer_descriptors_are_fewer_connections() {
        let limits = LIMITS.within(8);
        assert_eq!((limits.all, limits.strangers), (8, 2));
        assert_eq!(LIMITS.within(1000).all, 16);
    }
}
