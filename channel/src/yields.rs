//! Waiting a moment without sleeping: the processor goes to whoever wants it.
//!
//! Sleeping and being woken costs both sides more than a P-256 signature. So whoever waits yields once first: if somebody
//! else wants this processor (another worker of the web server, the daemon), it runs now, and the answer may be there
//! when the yield returns; if nobody does, a few microseconds of looking take nothing from anybody. With 16 workers of
//! nginx on two processors and P-256, the processor time of a handshake was 0.97 to 1.05 of a key's in a file with the
//! yield, and 0.91 to 1.11 without (four noisy runs each, medians 0.98 and 1.06).
//!
//! A yield to a program that computes for long would cost a time slice each time: after one that took long, the
//! next waits go to sleep at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long to look for the answer when nobody else wants the processor: what a short signature takes.
const LOOKS: Duration = Duration::from_micros(10);

/// A yield that took longer than this gave the processor to somebody.
const GIVEN: Duration = Duration::from_micros(2);

/// A yield that took longer than this gave it to somebody who computes for long.
const LONG: Duration = Duration::from_millis(5);

/// Waits without yields after such a one.
const ABSTAIN: u32 = 64;

/// Whether yielding pays, as far as the last ones tell. Shared by threads; a lost update does no harm.
#[derive(Debug, Default)]
pub struct Yields {
    abstain: AtomicU32,
}

impl Yields {
    /// Waits until `done`, or until sleeping is better; says whether it is done.
    pub fn until(&self, done: impl Fn() -> bool) -> bool {
        let abstain = self.abstain.load(Ordering::Relaxed);
        if abstain > 0 {
            self.abstain.store(abstain - 1, Ordering::Relaxed);
            return done();
        }
        let before = Instant::now();
        std::thread::yield_now();
        if done() {
            return true;
        }
        let took = before.elapsed();
        if took > LONG {
            self.abstain.store(ABSTAIN, Ordering::Relaxed);
        }
        while before.elapsed() < LOOKS && took < GIVEN {
            for _ in 0..8 {
                if done() {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn it_ends_when_done_and_in_any_case() {
        let yields = Yields::default();
        assert!(yields.until(|| true));
        assert!(!yields.until(|| false));
        let asked = Cell::new(0);
        yields.until(|| {
            asked.set(asked.get() + 1);
            asked.get() == 2
        });
        assert!((1..=2).contains(&asked.get()));
    }

    #[test]
    fn after_a_long_one_it_abstains_for_a_while() {
        let yields = Yields::default();
        assert!(!yields.until(|| {
            std::thread::sleep(2 * LONG);
            false
        }));
        for _ in 0..ABSTAIN {
            let asked = Cell::new(0);
            assert!(!yields.until(|| {
                asked.set(asked.get() + 1);
                false
            }));
            assert_eq!(asked.get(), 1);
        }
        assert_eq!(yields.abstain.load(Ordering::Relaxed), 0);
    }
}
