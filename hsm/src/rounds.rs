//! What waits, in the order of turns: the partitions take turns, and in each its user ids. However much one of them has waiting,
//! the next one's turn comes after one of its; and however many wait, one more is put in its place at once.

mod circle;

use std::collections::VecDeque;
use std::time::Instant;

use circle::Circle;

/// A line that has grown beyond this gives its memory back when it is empty.
const GROWN: usize = 512;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The number of the partition that it is for; 0: for the whole daemon.
    pub partition: u32,
    /// The client's user id.
    pub uid: u32,
}

/// What is of one partition.
#[derive(Debug)]
struct Group<T> {
    /// Of each user id, in the order of its arrival. Never empty, nor are they.
    lines: Circle<VecDeque<T>>,
    /// When its turn was last, or its first item came if that was later.
    since: Option<Instant>,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Group { lines: Circle::default(), since: None }
    }
}

/// Items that wait, and whose turn is next.
#[derive(Debug)]
pub struct Rounds<T> {
    groups: Circle<Group<T>>,
    len: usize,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        // Who is first takes no memory.
        let lines = Circle::with_spare(VecDeque::with_capacity(64));
        Rounds { groups: Circle::with_spare(Group { lines, since: None }), len: 0 }
    }
}

impl<T> Rounds<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Since when the partition whose turn is next has waited for it.
    pub fn since(&self) -> Option<Instant> {
        self.groups.first()?.since
    }

    /// Puts an item behind those of the same origin, at the time `now`.
    pub fn push(&mut self, origin: Origin, item: T, now: Instant) {
        // There is always a place: a new one's is made.
        let Some(group) = self.groups.of(origin.partition) else { return };
        if group.lines.is_empty() {
            group.since = Some(now);
        }
        let Some(line) = group.lines.of(origin.uid) else { return };
        line.push_back(item);
        self.len += 1;
    }

    /// Takes the item whose turn it is, at the time `now`.
    pub fn pop(&mut self, now: Instant) -> Option<(Origin, T)> {
        let (partition, group) = self.groups.first_mut()?;
        let (uid, line) = group.lines.first_mut()?;
        let item = line.pop_front()?;
        self.len -= 1;
        if line.is_empty() {
            if line.capacity() > GROWN {
                *line = VecDeque::new();
            }
            group.lines.leave();
        } else {
            group.lines.pass();
        }
        if group.lines.is_empty() {
            self.groups.leave();
        } else {
            group.since = Some(now);
            self.groups.pass();
        }
        Some((Origin { partition, uid }, item))
    }

    /// Leaves out what `stays` says no to.
    pub fn retain(&mut self, mut stays: impl FnMut(Origin, &T) -> bool) {
        self.groups.retain(|partition, group| {
            group.lines.retain(|uid, line| {
                line.retain(|item| stays(Origin { partition, uid }, item));
                !line.is_empty()
            });
            !group.lines.is_empty()
        });
        self.len = self.groups.values().flat_map(|group| group.lines.values()).map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn push(rounds: &mut Rounds<u32>, partition: u32, uid: u32, item: u32) {
        rounds.push(Origin { partition, uid }, item, Instant::now());
    }

    fn all(rounds: &mut Rounds<u32>) -> Vec<(u32, u32, u32)> {
        let taken = std::iter::from_fn(|| rounds.pop(Instant::now()));
        taken.map(|(origin, item)| (origin.partition, origin.uid, item)).collect()
    }

    #[test]
    fn partitions_take_turns_and_in_each_its_user_ids() {
        let mut rounds = Rounds::default();
        for item in 0..4 {
            push(&mut rounds, 1, 10, item);
        }
        push(&mut rounds, 1, 11, 4);
        push(&mut rounds, 2, 10, 5);
        push(&mut rounds, 2, 10, 6);
        push(&mut rounds, 3, 10, 7);
        assert_eq!(rounds.len(), 8);
        let expected =
            [(1, 10, 0), (2, 10, 5), (3, 10, 7), (1, 11, 4), (2, 10, 6), (1, 10, 1), (1, 10, 2), (1, 10, 3)];
        assert_eq!(all(&mut rounds), expected);
        assert!(rounds.is_empty() && rounds.since().is_none());
    }

    /// Of a crowd of partitions with thousands waiting, each newcomer is served after one of each of the others.
    #[test]
    fn a_newcomer_waits_for_one_turn_of_each_other_partition() {
        let mut rounds = Rounds::default();
        for partition in 1..100 {
            (0..300).for_each(|item| push(&mut rounds, partition, item % 7, item));
        }
        push(&mut rounds, 100, 0, 1);
        let turns = std::iter::from_fn(|| rounds.pop(Instant::now()));
        assert_eq!(turns.take_while(|(origin, _)| origin.partition != 100).count(), 99);
    }

    #[test]
    fn waiting_begins_anew_with_each_turn() {
        let mut rounds = Rounds::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        rounds.push(Origin { partition: 1, uid: 0 }, 0, at(1));
        rounds.push(Origin { partition: 1, uid: 0 }, 1, at(2));
        rounds.push(Origin { partition: 2, uid: 0 }, 2, at(3));
        assert_eq!(rounds.since(), Some(at(1)));
        rounds.pop(at(4));
        assert_eq!(rounds.since(), Some(at(3)));
        rounds.pop(at(5));
        assert_eq!(rounds.since(), Some(at(4)));
    }

    #[test]
    fn what_leaves_takes_no_turn() {
        let mut rounds = Rounds::default();
        for item in 0..6 {
            push(&mut rounds, item % 3, 0, item);
        }
        rounds.retain(|origin, item| origin.partition != 1 && *item != 0);
        assert_eq!(rounds.len(), 3);
        assert_eq!(all(&mut rounds), [(0, 0, 3), (2, 0, 2), (2, 0, 5)]);
        for item in 0..2 {
            push(&mut rounds, 1, 0, item);
        }
        assert_eq!(all(&mut rounds), [(1, 0, 0), (1, 0, 1)]);
    }
}
