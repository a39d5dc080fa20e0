//! What happened when: the run cut into slices of equal width.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Slice;

/// Width at the start of a run.
const NARROWEST: Duration = Duration::from_millis(125);
/// Width that long runs end at.
const WIDEST: Duration = Duration::from_secs(1);
/// Slices after which neighbours are merged, while they are narrower than [`WIDEST`].
const MOST_NARROW: usize = 480;
/// Longest latency that a slice tells apart, in microseconds.
const HIGHEST_US: u64 = 600_000_000;

/// Slices of a run.
///
/// A picture of two seconds and one of an hour both want a few hundred slices, and nobody knows at the start
/// how long a run becomes. So slices start narrow and are merged in pairs as they grow many. A slice that
/// cannot be merged any more is reduced to its percentiles: a histogram takes 12 kB, and there is one for each
/// second of an hour.
#[derive(Debug)]
pub struct Timeline {
    width: Duration,
    widest: Duration,
    sealed: Vec<Slice>,
    open: Vec<Open>,
}

#[derive(Debug, Default)]
struct Open {
    latency: Option<Histogram<u32>>,
    errors: u64,
}

impl Timeline {
    /// Starts with slices of width `fixed`, or with narrow ones that grow.
    pub fn new(fixed: Option<Duration>) -> Self {
        let width = fixed.unwrap_or(NARROWEST);
        Self { width, widest: fixed.unwrap_or(WIDEST), sealed: Vec::new(), open: Vec::new() }
    }

    /// The width of each slice.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// Counts a handshake that was done at `at`. Calls come in the order of time.
    pub fn success(&mut self, at: Duration, latency_us: u64) {
        if let Some(slice) = self.slice(at) {
            if slice.latency.is_none() {
                slice.latency = Histogram::new_with_bounds(1, HIGHEST_US, 2).ok();
            }
            if let Some(latency) = &mut slice.latency {
                latency.saturating_record(latency_us.max(1));
            }
        }
    }

    /// Counts a failure at `at`.
    pub fn failure(&mut self, at: Duration) {
        if let Some(slice) = self.slice(at) {
            slice.errors += 1;
        }
    }

    /// Ends the timeline at `end`.
    pub fn finish(mut self, end: Duration) -> Vec<Slice> {
        // The run can end exactly where a slice does. No slice has no width.
        self.slice(end.saturating_sub(Duration::from_nanos(1)));
        self.seal(0);
        if let Some(last) = self.sealed.last_mut() {
            let width = end.as_secs_f64() - last.t_s;
            if width > 0.0 {
                last.rate_per_s = round(count(last.ok) / width);
            }
        }
        self.sealed
    }

    /// The slice that `at` lies in, which becomes the last one.
    fn slice(&mut self, at: Duration) -> Option<&mut Open> {
        loop {
            let index = usize::try_from(at.as_nanos() / self.width.as_nanos().max(1)).ok()?;
            let can_grow = self.width < self.widest;
            if can_grow && index >= MOST_NARROW {
                self.merge();
                continue;
            }
            while self.sealed.len() + self.open.len() <= index {
                if !can_grow {
                    self.seal(0);
                }
                self.open.push(Open::default());
            }
            return self.open.last_mut();
        }
    }

    fn merge(&mut self) {
        let mut narrow = std::mem::take(&mut self.open).into_iter();
        while let Some(mut slice) = narrow.next() {
            if let Some(next) = narrow.next() {
                slice.errors += next.errors;
                match (&mut slice.latency, next.latency) {
                    // Both have the same bounds, so that nothing can be lost.
                    (Some(latency), Some(next)) => drop(latency.add(next)),
                    (None, next) => slice.latency = next,
                    (Some(_), None) => {}
                }
            }
            self.open.push(slice);
        }
        self.width = (self.width * 2).min(self.widest);
        if self.width == self.widest {
            self.seal(1);
        }
    }

    /// Reduces all but the last `keep` open slices.
    fn seal(&mut self, keep: usize) {
        let until = self.open.len().saturating_sub(keep);
        let width = self.width.as_secs_f64();
        for slice in self.open.drain(..until) {
            let ok = slice.latency.as_ref().map_or(0, Histogram::len);
            let quantile = |q| slice.latency.as_ref().map(|latency| latency.value_at_quantile(q));
            self.sealed.push(Slice {
                t_s: round(count(self.sealed.len() as u64) * width),
                ok,
                errors: slice.errors,
                rate_per_s: round(count(ok) / width),
                p50_us: quantile(0.5),
                p99_us: quantile(0.99),
                max_us: slice.latency.as_ref().map(Histogram::max),
            });
        }
    }
}

/// Counts are far below 2^52.
#[allow(clippy::cast_precision_loss)]
fn count(n: u64) -> f64 {
    n as f64
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn empty_slices_have_no_percentiles() {
        let mut timeline = Timeline::new(Some(ms(100)));
        timeline.success(ms(10), 1000);
        timeline.success(ms(20), 3000);
        timeline.failure(ms(310));
        let slices = timeline.finish(ms(350));
        assert_eq!(slices.len(), 4);
        assert_eq!((slices[0].ok, slices[0].errors), (2, 0));
        assert!(slices[0].p50_us.unwrap().abs_diff(1000) <= 10);
        assert!(slices[0].max_us.unwrap().abs_diff(3000) <= 30);
        assert_eq!((slices[1].ok, slices[1].p50_us), (0, None));
        assert_eq!((slices[3].t_s, slices[3].errors), (0.3, 1));
    }

    #[test]
    fn the_last_slice_may_be_short() {
        let mut timeline = Timeline::new(Some(ms(1000)));
        for at in [100, 1100, 1200] {
            timeline.success(ms(at), 1);
        }
        let slices = timeline.finish(ms(1500));
        assert_eq!(slices.iter().map(|slice| slice.rate_per_s).collect::<Vec<_>>(), [1.0, 4.0]);
    }

    #[test]
    fn a_run_that_ends_between_slices_has_none_too_many() {
        let mut timeline = Timeline::new(Some(ms(100)));
        timeline.success(ms(50), 1);
        assert_eq!(timeline.finish(ms(200)).len(), 2);
    }

    #[test]
    fn slices_grow_and_lose_nothing() {
        let mut timeline = Timeline::new(None);
        let end = Duration::from_secs(1000);
        let mut at = ms(0);
        let mut ok = 0;
        while at < end {
            timeline.success(at, 1 + ok % 5000);
            if ok % 10 == 0 {
                timeline.failure(at);
            }
            ok += 1;
            at += ms(50);
        }
        assert_eq!(timeline.width(), WIDEST);
        let slices = timeline.finish(end);
        assert_eq!(slices.len(), 1000);
        assert_eq!(slices.iter().map(|slice| slice.ok).sum::<u64>(), ok);
        assert_eq!(slices.iter().map(|slice| slice.errors).sum::<u64>(), ok / 10);
        assert!(slices.iter().all(|slice| slice.ok == 20), "every second is alike");
        assert!(slices.iter().enumerate().all(|(n, slice)| slice.t_s == n as f64));
    }
}
