//! Verification of what was collected elsewhere: lines of several logs, mixed, some of them twice.

use std::collections::{BTreeMap, VecDeque};

use crate::chain::{self, LineHash};
use crate::key::PublicKey;
use crate::verify::{Fault, Summary, Verifier, parse};

/// What every line begins with: what stands before it was added by a receiver.
const BEGIN: &[u8] = b"{\"v\":";

/// Lines of a log that may come again, the last ones.
const REMEMBERED: usize = 1 << 20;

/// Verifies lines as syslog servers and journald write them down.
///
/// A sink gets an entry again if nobody knows whether it has arrived. A line that is exactly one that came before is therefore
/// passed over; everything else is as for [`Verifier`].
#[derive(Debug)]
pub struct Collected {
    key: Option<PublicKey>,
    logs: BTreeMap<String, Log>,
}

#[derive(Debug)]
struct Log {
    verifier: Verifier,
    /// The number after that of the last line.
    next: u64,
    /// The hashes of the last lines.
    seen: VecDeque<LineHash>,
}

impl Collected {
    /// Verifies signatures with `key`; without one, with the key that each log itself names.
    pub fn new(key: Option<PublicKey>) -> Self {
        Collected { key, logs: BTreeMap::new() }
    }

    /// Verifies the next line, without its line feed. Lines that hold no entry are passed over: `false`.
    ///
    /// # Errors
    ///
    /// The first [`Fault`].
    pub fn line(&mut self, line: &[u8]) -> Result<bool, Fault> {
        let Some(begin) = line.windows(BEGIN.len()).position(|bytes| bytes == BEGIN) else {
            return Ok(false);
        };
        let line = line.get(begin..).unwrap_or_default();
        let entry = parse(line)?;
        let key = &self.key;
        let log = self.logs.entry(entry.log).or_insert_with(|| Log {
            verifier: Verifier::new(key.clone()),
            next: entry.seq,
            seen: VecDeque::new(),
        });
        let hash = chain::hash(line);
        if entry.seq < log.next {
            let back = usize::try_from(log.next - entry.seq).unwrap_or(usize::MAX);
            let before = log.seen.len().checked_sub(back).and_then(|at| log.seen.get(at));
            return match before {
                Some(before) if *before == hash => Ok(true),
                Some(_) => Err(Fault::Chain(entry.seq)),
                None => Err(Fault::Order { expected: log.next, found: entry.seq }),
            };
        }
        log.verifier.line(line)?;
        log.next = entry.seq.saturating_add(1);
        log.seen.push_back(hash);
        if log.seen.len() > REMEMBERED {
            log.seen.pop_front();
        }
        Ok(true)
    }

    /// What was verified of each log.
    ///
    /// # Errors
    ///
    /// [`Fault::Empty`] and [`Fault::Unsigned`].
    pub fn finish(self) -> Result<Vec<Summary>, Fault> {
        if self.logs.is_empty() {
            return Err(Fault::Empty);
        }
        self.logs.into_values().map(|log| log.verifier.finish()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;
    use crate::chain::Head;
    use crate::entry::{CHECKPOINT, Entry};

    /// Five lines of a log, the last of them signed.
    fn lines(pair: &Ed25519KeyPair, log: &str) -> Vec<String> {
        let mut head = Head::default();
        (0..5)
            .map(|number| {
                let action = if number == 4 { CHECKPOINT } else { "sign" };
                let entry = Entry { log: log.to_owned(), ..Entry::new(action, "success") };
                head.append(entry, |message| Some(pair.sign(message).as_ref().to_vec()))
            })
            .collect()
    }

    fn check(key: &PublicKey, lines: &[&str]) -> Result<Vec<Summary>, Fault> {
        let mut collected = Collected::new(Some(key.clone()));
        for line in lines {
            collected.line(line.as_bytes())?;
        }
        collected.finish()
    }

    #[test]
    fn lines_may_be_mixed_and_come_twice_and_nothing_else() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let spki =
            [&crate::chain::unhex("302a300506032b6570032100").unwrap(), pair.public_key().as_ref()].concat();
        let key = PublicKey::from_spki(&spki).unwrap();
        let (node, tls) = (lines(&pair, "node"), lines(&pair, "partition-1"));
        let prefixed = format!("Nov 23 06:00:00 host strongroomd[7]: {}", tls[0]);
        let foreign = [prefixed, "something else".to_owned()];
        let parts = [&node[..3], &foreign, &node[1..], &tls[1..], &tls];
        let mixed: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        let found = check(&key, &mixed).unwrap();
        let logs: Vec<_> = found.iter().map(|s| (s.log.as_str(), s.first, s.last, s.checkpoints)).collect();
        assert_eq!(logs, [("node", 1, 5, 1), ("partition-1", 1, 5, 1)]);
        let all: Vec<&str> = node.iter().map(String::as_str).collect();
        let missing = [&all[..2], &all[3..]].concat();
        assert_eq!(check(&key, &missing).unwrap_err(), Fault::Missing { first: 3, last: 3, found: 4 });
        // Another line with a number that was there.
        let other = all[1].replace("success", "failure");
        let twice = [&all[..3], &[other.as_str()], &all[3..]].concat();
        assert_eq!(check(&key, &twice).unwrap_err(), Fault::Chain(2));
        // What was before the first is not known.
        let before = [&all[1..], &all[..1]].concat();
        assert_eq!(check(&key, &before).unwrap_err(), Fault::Order { expected: 6, found: 1 });
        assert_eq!(check(&key, &["no entry"]).unwrap_err(), Fault::Empty);
    }
}
