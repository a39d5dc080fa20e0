//! Log-ins that have ended before their tickets would have.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::{LIFE, LoginId, SKEW};

/// Log-ins of a partition that are kept one by one.
const MOST: usize = 16_384;

/// For how long a log-in that has ended is kept: no ticket of it is good for longer. By a clock that is never put back.
const KEPT: Duration = Duration::from_secs(LIFE.as_secs() + SKEW.as_secs());

/// The log-ins of one partition that have ended. When there are too many, the oldest ends all log-ins of its user that began before
/// it: their connections stay, and new ones take the password again.
#[derive(Debug, Default)]
pub struct Ended {
    ids: HashSet<LoginId>,
    in_order: VecDeque<One>,
    /// By user: until when tickets were given that are worth nothing, and when this was noted.
    floors: HashMap<u64, (u64, Instant)>,
}

#[derive(Debug)]
struct One {
    id: LoginId,
    user: u64,
    since: u64,
    at: Instant,
}

impl Ended {
    /// Notes that a log-in has ended: of this user, begun at this time in milliseconds since 1970.
    pub fn add(&mut self, id: LoginId, user: u64, since: u64) {
        self.add_at(Instant::now(), id, user, since);
    }

    fn add_at(&mut self, now: Instant, id: LoginId, user: u64, since: u64) {
        while let Some(oldest) = self.in_order.front() {
            let is_over = now.saturating_duration_since(oldest.at) > KEPT;
            if !is_over && self.in_order.len() < MOST {
                break;
            }
            let Some(One { id, user, since, .. }) = self.in_order.pop_front() else { break };
            self.ids.remove(&id);
            if !is_over {
                let before = self.floors.get(&user).map_or(0, |(floor, _)| *floor);
                self.floors.insert(user, (since.max(before), now));
            }
        }
        self.floors.retain(|_, (_, noted)| now.saturating_duration_since(*noted) <= KEPT);
        if self.ids.insert(id) {
            self.in_order.push_back(One { id, user, since, at: now });
        }
    }

    /// Whether a log-in has ended, as far as this node knows.
    pub fn has(&self, id: LoginId, user: u64, since: u64) -> bool {
        self.ids.contains(&id) || self.floors.get(&user).is_some_and(|(floor, _)| since <= *floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> LoginId {
        (number as u128).to_le_bytes()
    }

    #[test]
    fn what_has_ended_is_known_until_no_ticket_of_it_is_good() {
        let (mut ended, start) = (Ended::default(), Instant::now());
        ended.add_at(start, id(1), 7, 100);
        ended.add_at(start + KEPT, id(2), 7, 100);
        assert!(ended.has(id(1), 7, 100) && ended.has(id(2), 7, 100) && !ended.has(id(3), 7, 100));
        ended.add_at(start + KEPT + Duration::from_secs(1), id(3), 7, 100);
        assert!(!ended.has(id(1), 7, 100) && ended.has(id(2), 7, 100));
        assert_eq!((ended.ids.len(), ended.in_order.len(), ended.floors.len()), (2, 2, 0));
    }

    #[test]
    fn too_many_end_the_older_log_ins_of_their_user_and_of_nobody_else() {
        let (mut ended, start) = (Ended::default(), Instant::now());
        for number in 0..MOST + 10 {
            ended.add_at(start, id(number), 7, number as u64);
        }
        assert_eq!((ended.ids.len(), ended.in_order.len()), (MOST, MOST));
        assert!((0..MOST + 10).all(|number| ended.has(id(number), 7, number as u64)));
        assert!(ended.has(id(0), 7, 9) && !ended.has(id(MOST * 2), 7, 10) && !ended.has(id(MOST * 2), 8, 0));
        // The same one again is one.
        ended.add_at(start, id(MOST), 7, MOST as u64);
        assert_eq!(ended.in_order.len(), MOST - 1);
    }
}
