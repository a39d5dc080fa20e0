//! What came of the faults, as it is written to faults.json.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::keys::Keys;

/// What came of all faults.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// Processors of the machine, which all hosts share.
    pub processors: usize,
    /// Which moments and nodes.
    pub seed: u64,
    /// Handshakes in flight.
    pub connections: u32,
    /// The type of the web server's key.
    pub key_type: String,
    /// How long a stall may be, in milliseconds.
    pub stall_ms: u64,
    /// Each fault.
    pub outcomes: Vec<Outcome>,
}

/// What came of one fault, done many times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub fault: Fault,
    /// Handshakes that succeeded, from before the first one until after the last one.
    pub handshakes: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// The first message of each kind of failure.
    pub failures: BTreeMap<String, String>,
    /// How long that took.
    pub seconds: f64,
    /// Each time.
    pub moments: Vec<Moment>,
    /// Why the cluster did not become whole again.
    pub not_whole: Option<String>,
    /// What became of the keys that were made meanwhile.
    pub keys: Keys,
    /// Why that is not known.
    pub keys_unknown: Option<String>,
    /// Throughput.
    pub timeline: Vec<Point>,
}

/// A fault, once. Times are in seconds since the load began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When it began.
    pub begin_s: f64,
    /// When it was taken back.
    pub end_s: f64,
    /// When all nodes did all that they should.
    pub whole_s: f64,
    /// Handshakes that succeeded meanwhile.
    pub handshakes: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// How long the slowest handshake took that ended meanwhile, or within a second after it.
    pub stall_ms: u64,
    /// The longest time without any handshake, in steps of 50 ms.
    pub gap_ms: u64,
}

/// A point of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where it begins.
    pub t_s: f64,
    /// Handshakes a second.
    pub per_s: f64,
    /// Failures.
    pub failed: u64,
}

/// The value that so many of a hundred are not above.
pub fn percentile(mut values: Vec<u64>, percent: usize) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

impl Outcome {
    /// The stalls of all times, in milliseconds.
    pub fn stalls(&self) -> Vec<u64> {
        self.moments.iter().map(|moment| moment.stall_ms).collect()
    }

    /// What of it should not be.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut say = |is_so: bool, what: String| {
            if is_so {
                broken.push(format!("{}: {what}", self.fault.name()));
            }
        };
        say(self.handshakes == 0, "no handshake succeeded".into());
        say(self.failed > 0, format!("{} handshakes failed: {:?}", self.failed, self.failures));
        let keys = &self.keys;
        say(keys.missing > 0, format!("{} acknowledged keys are missing", keys.missing));
        say(keys.double > 0, format!("{} keys are there twice", keys.double));
        say(keys.differing > 0, format!("{} keys are not on all nodes", keys.differing));
        say(keys.acknowledged == 0, "no key was made".into());
        for why in self.not_whole.iter().chain(&self.keys_unknown) {
            say(true, why.clone());
        }
        broken
    }
}

impl Results {
    /// The stalls of all faults together, in milliseconds.
    pub fn stalls(&self) -> Vec<u64> {
        let faults = self.outcomes.iter().filter(|outcome| outcome.fault != Fault::None);
        faults.flat_map(Outcome::stalls).collect()
    }

    /// The promises that were not kept.
    pub fn broken(&self) -> Vec<String> {
        let mut broken: Vec<_> = self.outcomes.iter().flat_map(Outcome::broken).collect();
        let stall = percentile(self.stalls(), 99);
        if stall >= self.stall_ms {
            broken.push(format!(
                "one fault of a hundred stalled a handshake for {stall} ms or longer; {} ms are allowed",
                self.stall_ms
            ));
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(stalls: &[u64]) -> Results {
        let moments = stalls.iter().map(|stall_ms| Moment { stall_ms: *stall_ms, ..Moment::default() });
        let outcome = Outcome {
            fault: Fault::Kill,
            handshakes: 100,
            failed: 0,
            failures: BTreeMap::new(),
            seconds: 10.0,
            moments: moments.collect(),
            not_whole: None,
            keys: Keys { acknowledged: 5, ..Keys::default() },
            keys_unknown: None,
            timeline: Vec::new(),
        };
        Results {
            started: String::new(),
            processors: 2,
            seed: 1,
            connections: 64,
            key_type: "p256".into(),
            stall_ms: 1000,
            outcomes: vec![outcome],
        }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(percentile((1..=200).collect(), 99), 198);
        assert_eq!(percentile(vec![3, 1, 2], 99), 3);
        assert_eq!(percentile(vec![], 99), 0);
    }

    #[test]
    fn each_promise_can_be_broken() {
        assert!(results(&[10, 999]).broken().is_empty());
        assert!(results(&[10, 1000]).broken()[0].contains("1000 ms"));
        let broken = |change: fn(&mut Outcome)| {
            let mut results = results(&[10]);
            change(&mut results.outcomes[0]);
            results.broken().join("\n")
        };
        assert!(broken(|outcome| outcome.failed = 1).contains("1 handshakes failed"));
        assert!(broken(|outcome| outcome.keys.missing = 2).contains("2 acknowledged keys are missing"));
        assert!(broken(|outcome| outcome.keys.double = 3).contains("3 keys are there twice"));
        assert!(broken(|outcome| outcome.keys.differing = 4).contains("4 keys are not on all nodes"));
        assert!(broken(|outcome| outcome.keys.acknowledged = 0).contains("no key was made"));
        assert!(broken(|outcome| outcome.not_whole = Some("node 2".into())).contains("node 2"));
    }
}
