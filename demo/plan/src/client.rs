//! How a client chooses the node for a request: by what it has seen itself. The PKCS#11 module's own rule, and others to compare
//! it with.

use clap::ValueEnum;
use strongroom_pkcs11::choice::{self, Candidate};

/// What a reply is taken to cost at least, in nanoseconds (as in the module).
const LEAST_NS: u64 = 50_000;

/// With [`Rule::Soonest`] a node that has not been asked for so long is asked again.
const STALE_NS: u64 = 10_000_000_000;

/// A node that is out is tried again after so long; twice as long after each further failure (the module: `OUT`).
const OUT_NS: u64 = 500_000_000;

/// By which rule a client chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// The node that has answered soonest
    Soonest,
    /// The better of two nodes taken by chance
    Two,
    /// The better of two nodes taken by chance among those that answer about as soon as the soonest: the module's own
    Near,
}

/// What one process knows of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// An average that forgets, in nanoseconds; 0: unknown.
    latency: u64,
    answered: u64,
    out_until: u64,
    failures: u32,
    under_way: u32,
}

/// What one process knows of all nodes.
#[derive(Clone, Debug)]
pub struct View(Vec<Seen>);

impl View {
    /// Knows nothing yet of so many nodes.
    pub fn new(nodes: usize) -> Self {
        View(vec![Seen::default(); nodes])
    }

    /// Chooses a node at the time `now` (nanoseconds), not `except`. `answers` says what a trial of a node that was out finds: nobody
    /// waits for that (in the module a connection that one call begins and later ones look at).
    pub fn choose(
        &self,
        rule: Rule,
        now: u64,
        except: Option<usize>,
        answers: impl Fn(usize) -> bool,
        random: &mut fastrand::Rng,
    ) -> usize {
        let is_back = |number, seen: &Seen| seen.failures == 0 || seen.out_until <= now && answers(number);
        let usable: Vec<(usize, &Seen)> = self
            .0
            .iter()
            .enumerate()
            .filter(|(number, seen)| Some(*number) != except && is_back(*number, seen))
            .collect();
        let chosen = match rule {
            Rule::Soonest => best(usable.iter().map(|(number, seen)| (*number, seen.cost_unless_stale(now)))),
            Rule::Two => best(two(&usable, random).into_iter().map(|(number, seen)| (number, seen.cost()))),
            Rule::Near => {
                let candidates: Vec<_> =
                    usable.iter().map(|(number, seen)| seen.candidate(*number, now)).collect();
                choice::choose(&candidates, random.u64(..))
            }
        };
        // All are out: any.
        chosen.unwrap_or_else(|| random.usize(0..self.0.len().max(1)))
    }

    /// A request goes to a node.
    pub fn send(&mut self, node: usize) {
        if let Some(seen) = self.0.get_mut(node) {
            seen.under_way += 1;
        }
    }

    /// A node has answered after `took` nanoseconds.
    pub fn answer(&mut self, node: usize, now: u64, took: u64) {
        if let Some(seen) = self.0.get_mut(node) {
            seen.under_way = seen.under_way.saturating_sub(1);
            let before = if seen.latency == 0 { took } else { seen.latency };
            *seen =
                Seen { latency: (before * 7 + took) / 8, answered: now, failures: 0, out_until: 0, ..*seen };
        }
    }

    /// A node has not answered.
    pub fn fail(&mut self, node: usize, now: u64) {
        if let Some(seen) = self.0.get_mut(node) {
            seen.under_way = seen.under_way.saturating_sub(1);
            if seen.out_until <= now {
                seen.out_until = now + (OUT_NS << seen.failures.min(5));
                seen.failures += 1;
            }
        }
    }
}

impl Seen {
    fn cost(&self) -> u64 {
        self.latency.max(LEAST_NS) * u64::from(self.under_way + 1)
    }

    fn candidate(&self, number: usize, now: u64) -> Candidate {
        Candidate {
            number,
            latency: self.latency / 1_000,
            idle: now.saturating_sub(self.answered) / 1_000_000,
            under_way: self.under_way.into(),
            is_near: false,
        }
    }

    fn cost_unless_stale(&self, now: u64) -> u64 {
        if now.saturating_sub(self.answered) > STALE_NS {
            LEAST_NS * u64::from(self.under_way + 1)
        } else {
            self.cost()
        }
    }
}

fn best(among: impl IntoIterator<Item = (usize, u64)>) -> Option<usize> {
    among.into_iter().min_by_key(|(_, cost)| *cost).map(|(number, _)| number)
}

/// Two of them by chance, or both of two in any order: the first of equals would be everybody's first.
fn two<'a>(among: &[(usize, &'a Seen)], random: &mut fastrand::Rng) -> Vec<(usize, &'a Seen)> {
    if among.len() < 2 {
        return among.to_vec();
    }
    let first = random.usize(0..among.len());
    let second = (first + random.usize(1..among.len())) % among.len();
    [first, second].iter().filter_map(|place| among.get(*place).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_out_for_a_while() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut view = View::new(2);
        view.send(0);
        view.fail(0, 1_000);
        for rule in [Rule::Soonest, Rule::Two, Rule::Near] {
            let mut chosen = |now, except, answers: bool| -> Vec<usize> {
                (0..50).map(|_| view.choose(rule, now, except, |_| answers, &mut random)).collect()
            };
            assert!(!chosen(2_000, None, true).contains(&0));
            let later = 1_001 + OUT_NS;
            assert!(chosen(later, None, true).contains(&0));
            assert!(!chosen(later, Some(0), true).contains(&0));
            assert!(!chosen(later, None, false).contains(&0), "the trial finds it still away");
        }
    }

    #[test]
    fn two_by_chance_are_two() {
        let mut random = fastrand::Rng::with_seed(1);
        let seen = Seen::default();
        let among: Vec<_> = (0..5).map(|number| (number, &seen)).collect();
        for _ in 0..100 {
            let both = two(&among, &mut random);
            assert!(both.len() == 2 && both[0].0 != both[1].0);
        }
    }

    #[test]
    fn near_keeps_to_those_that_answer_soon() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut view = View::new(4);
        for (node, latency) in [400_000, 500_000, 30_000_000, 31_000_000].into_iter().enumerate() {
            view.send(node);
            view.answer(node, 1_000, latency);
        }
        let mut choose = || view.choose(Rule::Near, 2_000, None, |_| true, &mut random);
        let chosen: Vec<_> = (0..100).map(|_| choose()).collect();
        assert!(chosen.iter().all(|node| *node < 2));
    }
}
