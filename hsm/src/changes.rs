//! Counts what may change the answer to "may this connection use this key": what was looked up before is looked
//! up again after. So the way of a signature asks one number instead of the partition's users, objects and log-ins.

use std::sync::atomic::{AtomicU64, Ordering};

static CHANGES: AtomicU64 = AtomicU64::new(0);

/// How many changes there were. Ask before looking anything up.
pub fn number() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// Says that something changed: after the change was made, before anybody is told of it.
pub fn announce() {
    CHANGES.fetch_add(1, Ordering::AcqRel);
}
