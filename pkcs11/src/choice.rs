//! Which of the nodes that may be asked is asked: the rule, without the nodes.
//!
//! A thousand web servers that all ask the node that answers soonest ask the same one. So each takes two by chance among those
//! that answer about as soon as the soonest, and of these the one with less to do. How the others are, a call looks now
//! and then. docs/plan.md has what this rule gets in a simulation, beside others.

/// What a reply is taken to cost at least, in microseconds: small differences do not count.
const LEAST: u64 = 50;

/// By how much a node of the network has to be quicker than one of this machine, to be preferred.
pub const NEAR: u64 = 8;

/// One call in so many goes to a node that was never asked, while there is one.
const LOOK_FIRST: u64 = 4;

/// One call in so many goes to a node that was not asked lately.
const LOOK_AGAIN: u64 = 32;

/// After so many milliseconds a node may have become quicker: it was not asked lately.
const STALE: u64 = 10_000;

/// One that is so many times slower than the soonest is looked at so many times less often, at most: it stands far away.
const FAR: u64 = 60;

/// What is known of a node.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Which one.
    pub number: usize,
    /// How long a reply takes, in microseconds. 0: it was never asked.
    pub latency: u64,
    /// Milliseconds since its last reply.
    pub idle: u64,
    /// Calls of this process that wait for it.
    pub under_way: u64,
    /// It is on this machine.
    pub is_near: bool,
}

impl Candidate {
    /// A reply's cost when nobody waits.
    fn alone(&self) -> u64 {
        let latency = self.latency.max(LEAST);
        if self.is_near { latency / NEAR } else { latency }
    }

    fn cost(&self) -> u64 {
        let latency = self.latency.max(LEAST) * (self.under_way + 1);
        if self.is_near { latency / NEAR } else { latency }
    }

    fn is_unknown(&self) -> bool {
        self.latency == 0
    }
}

/// The number of the one to ask; `dice` is any number, another one each time. `None` of none.
pub fn choose(candidates: &[Candidate], dice: u64) -> Option<usize> {
    // One of this machine, unless it is so busy that even one of which nothing is known may be sooner.
    let first = soonest(candidates.iter())?;
    if first.is_near {
        return Some(first.number);
    }
    let (dice, look) = (dice >> 16, dice & 0xffff);
    if let Some(number) = look_at(candidates, dice, look) {
        return Some(number);
    }
    let any_known = candidates.iter().any(|candidate| !candidate.is_unknown());
    let usable = || candidates.iter().filter(|candidate| !(any_known && candidate.is_unknown()));
    let least = soonest(usable())?.cost();
    let good = || usable().filter(|candidate| candidate.cost() <= least * 2);
    let count = good().count() as u64;
    let first = dice % count;
    let second = match count {
        1 => first,
        _ => (first + 1 + (dice >> 24) % (count - 1)) % count,
    };
    let of = |place: u64| good().nth(place as usize);
    let both = [of(first), of(second)];
    both.into_iter().flatten().min_by_key(|candidate| candidate.cost()).map(|candidate| candidate.number)
}

fn soonest<'a>(among: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    among.min_by_key(|candidate| (candidate.cost(), !candidate.is_near))
}

/// One that is not known, or not any more, if it is its turn.
fn look_at(candidates: &[Candidate], dice: u64, look: u64) -> Option<usize> {
    let far = || candidates.iter().filter(|candidate| !candidate.is_near);
    let known = || far().filter(|candidate| !candidate.is_unknown());
    let soonest = known().map(Candidate::alone).min().unwrap_or(LEAST);
    let is_stale = |candidate: &&Candidate| {
        let slower = (candidate.alone() / soonest).clamp(1, FAR);
        candidate.is_unknown() || candidate.idle > STALE * slower
    };
    let others = || far().filter(is_stale);
    let one_in = match known().count() {
        0 => 1,
        all if all == far().count() => LOOK_AGAIN,
        _ => LOOK_FIRST,
    };
    let count = others().count() as u64;
    if count == 0 || !look.is_multiple_of(one_in) {
        return None;
    }
    others().nth((dice % count) as usize).map(|candidate| candidate.number)
}

/// A number that looks thrown, from one that never comes twice (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014). Nothing secret.
pub fn thrown(unique: u64) -> u64 {
    let mut z = unique.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize, latency: u64) -> Candidate {
        Candidate { number, latency, idle: 0, under_way: 0, is_near: false }
    }

    /// How often each was chosen, of 10,000.
    fn counts(candidates: &[Candidate]) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        (0..10_000).for_each(|seed| counts[choose(candidates, thrown(seed)).unwrap()] += 1);
        counts
    }

    #[test]
    fn those_that_answer_as_soon_share_the_calls() {
        let candidates = [node(0, 300), node(1, 310), node(2, 20_000), node(3, 550)];
        let counts = counts(&candidates);
        assert!(counts[2] == 0 && counts[0] > 3_000 && counts[1] > 3_000, "{counts:?}");
        assert_eq!(choose(&[], 1), None);
    }

    #[test]
    fn who_has_less_to_do_is_asked() {
        let candidates = [Candidate { under_way: 1, ..node(0, 300) }, node(1, 310)];
        assert_eq!(counts(&candidates), [0, 10_000]);
    }

    #[test]
    fn most_calls_go_to_those_that_are_known() {
        let candidates = [node(0, 300), node(1, 0), node(2, 0)];
        let counts = counts(&candidates);
        let looks = counts[1] + counts[2];
        assert!((2_000..3_000).contains(&looks) && counts[1].abs_diff(counts[2]) < 300, "{counts:?}");
    }

    #[test]
    fn one_that_is_far_is_looked_at_less_often() {
        let idle = |idle| [node(0, 300), Candidate { idle, ..node(1, 30_000) }];
        assert_eq!(counts(&idle(500_000)), [10_000, 0]);
        let counts = counts(&idle(601_000));
        assert!((200..400).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn one_of_this_machine_goes_first_until_it_is_busy() {
        let near =
            |under_way| [node(0, 0), Candidate { is_near: true, under_way, ..node(1, 60) }, node(2, 200)];
        assert_eq!(counts(&near(0)), [0, 10_000, 0]);
        // Then the others are looked at, and the best of those that are known is asked.
        let busy = counts(&near(NEAR * 2));
        assert!((2_000..3_000).contains(&busy[0]) && busy[2] == 0, "{busy:?}");
        let busier = counts(&near(NEAR * 4));
        assert!(busier[1] == 0 && busier[2] > 7_000, "{busier:?}");
    }
}
