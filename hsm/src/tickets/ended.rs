//! Log-ins that have ended before their tickets would have.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::{LIFE, LoginId, SKEW};
use crate::records::hex;

/// Log-ins of a partition that are kept one by one.
const MOST: usize = 16_384;

/// For how long a log-in that has ended is kept: no ticket of it is good for longer. By a clock that is never put back.
pub(crate) const KEPT: Duration = Duration::from_secs(LIFE.as_secs() + SKEW.as_secs());

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

/// What was taken in.
pub enum Taken {
    /// One log-in has ended.
    One(LoginId),
    /// All tickets of a user from before a time are worth nothing.
    All,
}

/// What changes in the store when a log-in has ended: names and contents, `None` for what goes.
pub type Notes = Vec<(String, Option<Vec<u8>>)>;

impl Ended {
    /// Notes that a log-in has ended: of this user, begun at this time in milliseconds since 1970. The answer is what the store is to
    /// have of it.
    pub fn add(&mut self, id: LoginId, user: u64, since: u64) -> Notes {
        self.add_at(Instant::now(), id, user, since)
    }

    fn add_at(&mut self, now: Instant, id: LoginId, user: u64, since: u64) -> Notes {
        let mut notes = Notes::new();
        while let Some(oldest) = self.in_order.front() {
            let is_over = now.saturating_duration_since(oldest.at) > KEPT;
            if !is_over && self.in_order.len() < MOST {
                break;
            }
            let Some(One { id, user, since, .. }) = self.in_order.pop_front() else { break };
            self.ids.remove(&id);
            notes.push((name_of_login(id), None));
            if !is_over {
                notes.push(self.raise_floor(now, user, since));
            }
        }
        let is_over = |noted: &Instant| now.saturating_duration_since(*noted) > KEPT;
        let over = self.floors.extract_if(|_, (_, noted)| is_over(noted));
        notes.extend(over.map(|(user, _)| (name_of_user(user), None)));
        if self.ids.insert(id) {
            self.in_order.push_back(One { id, user, since, at: now });
            notes.push((name_of_login(id), Some(numbers(user, since))));
        }
        notes
    }

    fn raise_floor(&mut self, now: Instant, user: u64, since: u64) -> (String, Option<Vec<u8>>) {
        let before = self.floors.get(&user).map_or(0, |(floor, _)| *floor);
        let floor = since.max(before);
        self.floors.insert(user, (floor, now));
        (name_of_user(user), Some(numbers(user, floor)))
    }

    /// Takes in what the store has of one: its name and its content. `None` if it is of a form that this release does not know.
    pub fn take(&mut self, name: &str, content: &[u8]) -> Option<Taken> {
        let (numbers, rest) = content.as_chunks::<8>();
        let ([user, since], []) = (numbers, rest) else { return None };
        let (user, since) = (u64::from_le_bytes(*user), u64::from_le_bytes(*since));
        if name == name_of_user(user) {
            self.raise_floor(Instant::now(), user, since);
            return Some(Taken::All);
        }
        let id = id_of(name)?;
        // What has no room any more the node takes out of the store that has put it there.
        self.add(id, user, since);
        Some(Taken::One(id))
    }

    /// Takes in what another one knows.
    pub fn merge(&mut self, other: Ended) {
        for One { id, user, since, at } in other.in_order {
            self.add_at(at, id, user, since);
        }
        for (user, (floor, at)) in other.floors {
            self.raise_floor(at, user, floor);
        }
    }

    /// Whether a log-in has ended, as far as this node knows.
    pub fn has(&self, id: LoginId, user: u64, since: u64) -> bool {
        self.ids.contains(&id) || self.floors.get(&user).is_some_and(|(floor, _)| since <= *floor)
    }
}

/// What a record of a log-in holds: two numbers.
fn numbers(user: u64, since: u64) -> Vec<u8> {
    [user, since].map(u64::to_le_bytes).concat()
}

fn name_of_login(id: LoginId) -> String {
    hex(&id)
}

fn name_of_user(user: u64) -> String {
    format!("user-{user:016x}")
}

fn id_of(name: &str) -> Option<LoginId> {
    let mut id = LoginId::default();
    if name.len() != 2 * id.len() {
        return None;
    }
    for (byte, at) in id.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(name.get(at..at + 2)?, 16).ok()?;
    }
    Some(id)
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

    /// What the store has, is what another start, or another node, knows.
    #[test]
    fn what_was_noted_says_the_same() {
        let (mut ended, start) = (Ended::default(), Instant::now());
        let mut store = std::collections::BTreeMap::new();
        for number in 0..MOST + 10 {
            for (name, content) in ended.add_at(start, id(number), 7, number as u64) {
                match content {
                    Some(content) => drop(store.insert(name, content)),
                    None => assert!(store.remove(&name).is_some(), "{name}"),
                }
            }
        }
        // No more than is kept, and one for the user.
        assert_eq!(store.len(), MOST + 1);
        let mut read = Ended::default();
        assert!(store.iter().all(|(name, content)| read.take(name, content).is_some()));
        assert!((0..MOST + 10).all(|number| read.has(id(number), 7, number as u64)));
        assert!(read.has(id(0), 7, 9) && !read.has(id(MOST * 2), 7, 10) && !read.has(id(MOST * 2), 8, 0));
        // Over time all of it goes.
        let later = start + KEPT + Duration::from_secs(1);
        for (name, content) in ended.add_at(later, id(MOST * 3), 7, 5) {
            match content {
                Some(content) => drop(store.insert(name, content)),
                None => assert!(store.remove(&name).is_some(), "{name}"),
            }
        }
        assert_eq!(store.keys().collect::<Vec<_>>(), [&name_of_login(id(MOST * 3))]);
        for wrong in ["", "user-0000000000000008", "00", "zz000000000000000000000000000000"] {
            assert!(read.take(wrong, &numbers(7, 1)).is_none(), "{wrong}");
        }
        let cut = |length| Ended::default().take(&name_of_login(id(1)), &vec![0; length]).is_none();
        assert!([15, 24].map(cut) == [true, true]);
    }
}
