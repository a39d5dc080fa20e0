//! Handshakes that came to nothing, by where they came from: each cost a key exchange and a signature. Who makes many is
//! not answered for the rest of the second.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures from one address within a [`WINDOW`], after which it is not answered.
const MOST: u32 = 32;

/// For how long failures are counted together.
const WINDOW: Duration = Duration::from_secs(1);

/// The most addresses that are counted, and named in the audit log, within a [`WINDOW`].
const ADDRESSES: usize = 1024;

/// The failures of the running window.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    of: HashMap<String, u32>,
}

impl Failures {
    /// Whether `origin` may try again.
    pub(super) fn are_few(&self, origin: &str, now: Instant) -> bool {
        let window = self.window(now);
        // Of those whom there was no room to count, some are answered: they may be others.
        window.of.get(origin).is_none_or(|failures| *failures < MOST)
    }

    /// Counts one. Returns the address as [`Failures::name`].
    pub(super) fn add(&self, origin: String, now: Instant) -> String {
        let mut window = self.window(now);
        if let Some(failures) = window.of.get_mut(&origin) {
            *failures = failures.saturating_add(1);
            return origin;
        }
        if window.of.len() >= ADDRESSES {
            return String::new();
        }
        window.of.insert(origin.clone(), 1);
        origin
    }

    /// The address for the audit log: none, if there are so many that each would have a line a second.
    pub(super) fn name(&self, origin: String) -> String {
        let window = self.lock();
        if window.of.len() < ADDRESSES || window.of.contains_key(&origin) { origin } else { String::new() }
    }

    fn window(&self, now: Instant) -> MutexGuard<'_, Window> {
        let mut window = self.lock();
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            *window = Window { began: Some(now), of: HashMap::new() };
        }
        window
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_often_is_not_answered_for_a_while() {
        let failures = Failures::default();
        let now = Instant::now();
        for _ in 0..MOST {
            assert!(failures.are_few("10.0.0.1", now));
            assert_eq!(failures.add("10.0.0.1".to_owned(), now), "10.0.0.1");
        }
        assert!(!failures.are_few("10.0.0.1", now) && failures.are_few("10.0.0.2", now));
        assert!(failures.are_few("10.0.0.1", now + WINDOW));
    }

    #[test]
    fn many_addresses_take_neither_memory_nor_lines_without_bound() {
        let failures = Failures::default();
        let now = Instant::now();
        let named = (0..2 * ADDRESSES).filter(|number| !failures.add(number.to_string(), now).is_empty());
        assert_eq!(named.count(), ADDRESSES);
        assert_eq!(failures.name("1".to_owned()), "1");
        assert_eq!(failures.name("-".to_owned()), "");
        assert_eq!(failures.lock().of.len(), ADDRESSES);
    }
}
