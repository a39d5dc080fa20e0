//! What waits, in the order of turns: the partitions take turns, and in each its user ids. However much one of them has waiting,
//! the next one's turn comes after one of its.

use std::collections::VecDeque;
use std::time::Instant;

/// Emptied queues that are kept, so that who comes and goes takes no memory anew.
const SPARE: usize = 64;

/// A queue that has grown beyond this is not kept.
const GROWN: usize = 512;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The number of the partition that it is for; 0: for the whole daemon.
    pub partition: u32,
    /// The client's user id.
    pub uid: u32,
}

/// What is of one partition and one user id, in the order of its arrival.
#[derive(Debug)]
struct Line<T> {
    of: u32,
    items: VecDeque<T>,
}

/// What is of one partition.
#[derive(Debug)]
struct Group<T> {
    of: u32,
    /// Never empty, nor are they.
    lines: VecDeque<Line<T>>,
    /// When its turn was last, or its first item came if that was later.
    since: Instant,
}

/// Items that wait, and whose turn is next.
#[derive(Debug)]
pub struct Rounds<T> {
    /// The first one's turn is next.
    groups: VecDeque<Group<T>>,
    len: usize,
    spare_lines: Vec<VecDeque<T>>,
    spare_groups: Vec<VecDeque<Line<T>>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Rounds {
            groups: VecDeque::new(),
            len: 0,
            // Who is first takes no memory.
            spare_lines: vec![VecDeque::with_capacity(64)],
            spare_groups: vec![VecDeque::with_capacity(4)],
        }
    }
}

fn keep<T>(spare: &mut Vec<VecDeque<T>>, emptied: VecDeque<T>) {
    if spare.len() < SPARE && emptied.capacity() <= GROWN {
        spare.push(emptied);
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
        self.groups.front().map(|group| group.since)
    }

    /// Puts an item behind those of the same origin, at the time `now`.
    pub fn push(&mut self, origin: Origin, item: T, now: Instant) {
        self.len += 1;
        let Origin { partition, uid } = origin;
        let (groups, spare_lines) = (&mut self.groups, &mut self.spare_lines);
        let mut begin = || {
            let mut items = spare_lines.pop().unwrap_or_default();
            items.reserve(1);
            Line { of: uid, items }
        };
        let group = match groups.iter_mut().find(|group| group.of == partition) {
            Some(group) => group,
            None => {
                let lines = self.spare_groups.pop().unwrap_or_default();
                groups.push_back(Group { of: partition, lines, since: now });
                // There is one: it was just put there.
                let Some(group) = groups.back_mut() else { return };
                group
            }
        };
        match group.lines.iter_mut().find(|line| line.of == uid) {
            Some(line) => line.items.push_back(item),
            None => {
                let mut line = begin();
                line.items.push_back(item);
                group.lines.push_back(line);
            }
        }
    }

    /// Takes the item whose turn it is, at the time `now`.
    pub fn pop(&mut self, now: Instant) -> Option<(Origin, T)> {
        let mut group = self.groups.pop_front()?;
        let mut line = group.lines.pop_front()?;
        let origin = Origin { partition: group.of, uid: line.of };
        let item = line.items.pop_front()?;
        self.len -= 1;
        match line.items.is_empty() {
            true => keep(&mut self.spare_lines, line.items),
            false => group.lines.push_back(line),
        }
        match group.lines.is_empty() {
            true => keep(&mut self.spare_groups, group.lines),
            false => {
                group.since = now;
                self.groups.push_back(group);
            }
        }
        Some((origin, item))
    }

    /// Leaves out what `stays` says no to.
    pub fn retain(&mut self, mut stays: impl FnMut(Origin, &T) -> bool) {
        for group in &mut self.groups {
            for line in &mut group.lines {
                let origin = Origin { partition: group.of, uid: line.of };
                line.items.retain(|item| stays(origin, item));
            }
            group.lines.retain(|line| !line.items.is_empty());
        }
        self.groups.retain(|group| !group.lines.is_empty());
        self.len = self.groups.iter().flat_map(|group| &group.lines).map(|line| line.items.len()).sum();
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
