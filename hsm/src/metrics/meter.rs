//! What is counted of one partition.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom_protocol::v1::{ErrorCode, KeyType, Mechanism, response};

use super::operation::{Operation, Outcome};
use super::series::{Series, Totals};
use crate::failure::Failure;
use crate::partition::Limits;

/// Sorts of operations that are told apart; more than there are combinations that work. What comes above is counted without
/// its key type and mechanism.
const SORTS: usize = 512;

/// Codes of errors that are told apart: see `ErrorCode`.
const CODES: usize = 128;

/// How log-ins ended.
#[derive(Debug, Default)]
pub struct Logins {
    /// With the right password.
    pub success: AtomicU64,
    /// With a wrong one, or no such user.
    pub wrong: AtomicU64,
    /// The user is locked.
    pub locked: AtomicU64,
    /// For another reason.
    pub other: AtomicU64,
}

/// A sort's number and its series, once it has occurred.
type Place = OnceLock<(u32, Box<Series>)>;

/// One partition's numbers, since the daemon started.
#[derive(Debug)]
pub struct Meter {
    /// A hash table that only grows: the sort, and what was counted.
    sorts: Box<[Place]>,
    refusals: [AtomicU64; CODES],
    /// What the owner limits: asked where an operation is counted.
    pub limits: Limits,
    /// Log-ins with passwords.
    pub logins: Logins,
    /// When the last backup of the whole partition was made, in seconds since 1970; 0: not known of any.
    pub last_backup: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            sorts: (0..SORTS).map(|_| OnceLock::new()).collect(),
            refusals: [const { AtomicU64::new(0) }; CODES],
            limits: Limits::default(),
            logins: Logins::default(),
            last_backup: AtomicU64::new(0),
        }
    }
}

/// Operation, key type and mechanism in one number. The protocol's numbers are small.
fn sort(operation: Operation, key_type: KeyType, mechanism: Mechanism) -> u32 {
    (operation as u32) << 24 | (key_type as u32 & 0xfff) << 12 | (mechanism as u32 & 0xfff)
}

impl Meter {
    /// Counts an operation that took `time`.
    pub fn count(
        &self,
        operation: Operation,
        key_type: KeyType,
        mechanism: Mechanism,
        outcome: Outcome,
        time: Duration,
    ) {
        let series = self
            .series(sort(operation, key_type, mechanism))
            .or_else(|| self.series(sort(operation, KeyType::Unspecified, Mechanism::Unspecified)));
        if let Some(series) = series {
            series.count(outcome, time);
        }
    }

    /// Counts the code of a refusal.
    pub fn refuse(&self, failure: &Failure) {
        if let Some(count) = self.refusals.get(failure.code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request that has been answered.
    pub fn answered(
        &self,
        operation: Operation,
        key_type: KeyType,
        mechanism: Mechanism,
        result: &Result<response::Result, Failure>,
        time: Duration,
    ) {
        self.count(operation, key_type, mechanism, Outcome::of(result), time);
        if operation == Operation::Login {
            let counter = match result.as_ref().map_err(|failure| failure.code) {
                Ok(_) => &self.logins.success,
                Err(ErrorCode::PasswordWrong) => &self.logins.wrong,
                Err(ErrorCode::UserLocked) => &self.logins.locked,
                Err(_) => &self.logins.other,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(failure) = result {
            self.refuse(failure);
        }
    }

    fn series(&self, sort: u32) -> Option<&Series> {
        // Multiplicative hashing (Knuth): the upper bits are mixed best.
        let start = (sort.wrapping_mul(0x9e37_79b1) >> 16) as usize;
        for step in 0..SORTS {
            let place = self.sorts.get((start + step) % SORTS)?;
            let (found, series) = place.get_or_init(|| (sort, Box::default()));
            if *found == sort {
                return Some(series);
            }
        }
        None
    }

    /// What was counted, by operation, key type and mechanism, in this order.
    pub fn totals(&self) -> Vec<(Operation, KeyType, Mechanism, Totals)> {
        let mut all: Vec<(u32, Totals)> = self
            .sorts
            .iter()
            .filter_map(OnceLock::get)
            .map(|(sort, series)| (*sort, series.totals()))
            .collect();
        all.sort_unstable_by_key(|(sort, _)| *sort);
        all.into_iter()
            .filter_map(|(sort, totals)| {
                let operation = Operation::from_number((sort >> 24) as u8)?;
                let key_type = KeyType::try_from((sort >> 12 & 0xfff) as i32).unwrap_or_default();
                let mechanism = Mechanism::try_from((sort & 0xfff) as i32).unwrap_or_default();
                Some((operation, key_type, mechanism, totals))
            })
            .collect()
    }

    /// What was counted, by operation and key type, whatever the mechanism.
    pub fn by_key_type(&self) -> Vec<(Operation, KeyType, Totals)> {
        let mut sums: Vec<(Operation, KeyType, Totals)> = Vec::new();
        for (operation, key_type, _, totals) in self.totals() {
            match sums.last_mut() {
                Some((last, of, sum)) if (*last, *of) == (operation, key_type) => sum.add(&totals),
                _ => sums.push((operation, key_type, totals)),
            }
        }
        sums
    }

    /// Refusals by their code, of codes that occurred.
    pub fn refusals(&self) -> Vec<(ErrorCode, u64)> {
        let all = self.refusals.iter().enumerate();
        all.map(|(code, count)| (code, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .filter_map(|(code, count)| Some((ErrorCode::try_from(code as i32).ok()?, count)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_are_told_apart_and_a_full_table_still_counts() {
        let meter = Meter::default();
        let key_types: Vec<KeyType> = (0..64).filter_map(|n| KeyType::try_from(n).ok()).collect();
        let mechanisms: Vec<Mechanism> = (0..64).filter_map(|n| Mechanism::try_from(n).ok()).collect();
        let operations = [Operation::Sign, Operation::Decrypt, Operation::Derive, Operation::Import];
        let mut counted = 0;
        // So that what does not fit has somewhere to go.
        for operation in operations {
            meter.count(
                operation,
                KeyType::Unspecified,
                Mechanism::Unspecified,
                Outcome::Success,
                Duration::ZERO,
            );
            counted += 1;
        }
        for operation in operations {
            for key_type in &key_types {
                for mechanism in &mechanisms {
                    meter.count(operation, *key_type, *mechanism, Outcome::Success, Duration::ZERO);
                    counted += 1;
                }
            }
        }
        assert!(key_types.len() * mechanisms.len() * operations.len() > SORTS, "the table overflows");
        let totals = meter.totals();
        assert_eq!(totals.len(), SORTS);
        assert_eq!(totals.iter().map(|(.., totals)| totals.outcomes[0]).sum::<u64>(), counted);
        assert!(totals.iter().filter(|(operation, ..)| *operation == Operation::Sign).count() > 100);
    }
}
