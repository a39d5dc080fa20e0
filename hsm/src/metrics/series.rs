//! One sort of operation: how many had which outcome, and how long they took.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::operation::Outcome;

/// Threads that count without touching each other's cache lines; more share.
const STRIPES: usize = 8;

/// Up to here, in microseconds, goes each bucket of latency; one more takes the rest.
const BOUNDS: [u64; 15] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    10_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The stripe of this thread, the same for all its life.
fn own_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let known = STRIPE.get();
    if known < STRIPES {
        return known;
    }
    let stripe = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    STRIPE.set(stripe);
    stripe
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// Counts one sort of operation.
#[derive(Debug, Default)]
pub struct Series {
    stripes: [Stripe; STRIPES],
}

/// What a [`Series`] has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// By [`Outcome`], in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// The time of those that succeeded, together.
    pub time: Duration,
    /// How many of those took so long: up to each bound, and longer than the last.
    pub buckets: [u64; BUCKETS],
}

impl Series {
    /// Counts an operation that took `time`.
    pub fn count(&self, outcome: Outcome, time: Duration) {
        let Some(stripe) = self.stripes.get(own_stripe()) else { return };
        if let Some(count) = stripe.outcomes.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if outcome == Outcome::Success {
            stripe.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
            let micros = time.as_nanos().div_ceil(1_000) as u64;
            let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
            if let Some(count) = stripe.buckets.get(bucket) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The sums over all threads.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut nanoseconds = 0;
        for stripe in &self.stripes {
            for (sum, count) in totals.outcomes.iter_mut().zip(&stripe.outcomes) {
                *sum += count.load(Ordering::Relaxed);
            }
            for (sum, count) in totals.buckets.iter_mut().zip(&stripe.buckets) {
                *sum += count.load(Ordering::Relaxed);
            }
            nanoseconds += stripe.nanoseconds.load(Ordering::Relaxed);
        }
        totals.time = Duration::from_nanos(nanoseconds);
        totals
    }
}

impl Totals {
    /// Adds those of another sort.
    pub fn add(&mut self, other: &Totals) {
        for (sum, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += more;
        }
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += more;
        }
        self.time += other.time;
    }

    /// The buckets as OpenMetrics has them before they are summed up: the upper bound in seconds, and how many.
    pub fn histogram(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::MAX]);
        bounds.zip(self.buckets).collect()
    }

    /// The upper bounds of [`Totals::buckets`] but the last, in microseconds.
    pub fn bounds() -> &'static [u64] {
        &BOUNDS
    }

    /// How many succeeded, of those whose time is known.
    pub fn timed(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_count_is_summed_up() {
        let series = Series::default();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES * 2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        series.count(Outcome::Success, Duration::from_micros(30));
                    }
                    series.count(Outcome::Refused, Duration::from_secs(1));
                });
            }
        });
        let threads = STRIPES as u64 * 2;
        let totals = series.totals();
        assert_eq!(totals.outcomes, [1_000 * threads, threads, 0]);
        assert_eq!(totals.time, Duration::from_micros(30_000) * threads as u32);
        assert_eq!((totals.buckets[1], totals.timed()), (1_000 * threads, 1_000 * threads));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let series = Series::default();
        for (time, bucket) in
            [(0, 0), (25_000, 0), (25_001, 1), (1_000_000, 5), (10_000_000_001, BOUNDS.len())]
        {
            let before = series.totals().buckets[bucket];
            series.count(Outcome::Success, Duration::from_nanos(time));
            assert_eq!(series.totals().buckets[bucket], before + 1, "{time} ns");
        }
    }
}
