//! What the owner limits in a partition, as far as it is asked for every operation: without a lock, and without memory.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use strongroom_protocol::v1::{self, SetQuota, request::Op};

use super::Settings;
use crate::approval;
use crate::crypto::Mechanism;
use crate::failure::{Failure, refuse};

/// What a partition has at most. 0: as much as any partition.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Private and secret keys.
    pub keys: u64,
    /// Memory of all objects, in bytes.
    pub memory: u64,
    /// Operations with keys, a second.
    pub operations: u32,
}

impl Quota {
    /// Changes what a request gives.
    pub fn set(&mut self, request: SetQuota) {
        self.keys = request.keys.unwrap_or(self.keys);
        self.memory = request.memory.unwrap_or(self.memory);
        self.operations = request.operations_per_second.unwrap_or(self.operations);
    }

    /// The quota as messages have it.
    pub fn to_wire(self) -> v1::Quota {
        v1::Quota { keys: self.keys, memory: self.memory, operations_per_second: self.operations }
    }
}

/// Operations that were not used in one second may be used in the next: so long is saved up, in nanoseconds.
const BURST: u64 = 1_000_000_000;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The limits of one partition.
#[derive(Debug, Default)]
pub struct Limits {
    /// Operations a second; 0: any number.
    operations: AtomicU32,
    /// When those that were admitted would have had their time one after the other, in nanoseconds since [`START`].
    due: AtomicU64,
    fips: AtomicBool,
}

impl Limits {
    /// Takes over what was set for the partition.
    pub fn set(&self, settings: &Settings) {
        self.operations.store(settings.quota.operations, Ordering::Relaxed);
        self.fips.store(settings.fips, Ordering::Relaxed);
    }

    /// Whether the partition is in FIPS state 2.
    pub fn is_fips(&self) -> bool {
        self.fips.load(Ordering::Relaxed)
    }

    /// Admits one operation with a key.
    ///
    /// # Errors
    ///
    /// THROTTLED if there were as many as the quota allows in the last second.
    pub fn admit(&self) -> Result<(), Failure> {
        match self.operations.load(Ordering::Relaxed) {
            0 => Ok(()),
            operations if self.is_in_time(operations, START.elapsed().as_nanos() as u64) => Ok(()),
            operations => refuse!(
                Throttled,
                "the partition has its quota of {operations} operations a second: try again, or have root raise it \
                 ('strongroom partition set-quota LABEL --operations NUMBER')"
            ),
        }
    }

    fn is_in_time(&self, operations: u32, now: u64) -> bool {
        let each = BURST / u64::from(operations.max(1));
        let next = |due: u64| Some(due.max(now) + each).filter(|due| *due <= now + BURST);
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Whether the partition's policy approves of a request.
    ///
    /// # Errors
    ///
    /// NOT_APPROVED in FIPS state 2.
    pub fn approve(&self, op: &Op) -> Result<(), Failure> {
        if self.is_fips() { approval::request(op) } else { Ok(()) }
    }

    /// Whether the partition's policy approves of codes by HMAC with a key of so many bytes.
    ///
    /// # Errors
    ///
    /// NOT_APPROVED in FIPS state 2.
    pub fn approve_hmac_key(&self, length: usize) -> Result<(), Failure> {
        if self.is_fips() { approval::hmac_key(length) } else { Ok(()) }
    }

    /// Whether the partition's policy approves of signing `data` this way.
    ///
    /// # Errors
    ///
    /// NOT_APPROVED in FIPS state 2.
    pub fn approve_signature(&self, mechanism: Mechanism, data: &[u8]) -> Result<(), Failure> {
        if self.is_fips() { approval::signature(mechanism, data) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_as_many_operations_as_the_quota_says() {
        let limits = Limits::default();
        let admitted = |now| (0..1_000).filter(|_| limits.is_in_time(100, now)).count();
        let start = 5 * BURST;
        assert_eq!(admitted(start), 100);
        assert_eq!(admitted(start), 0);
        assert_eq!(admitted(start + BURST / 10), 10);
        assert_eq!(admitted(start + 10 * BURST), 100, "no more is saved up");
        assert!((0..1_000).all(|_| Limits::default().admit().is_ok()));
    }
}
