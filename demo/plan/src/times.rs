//! What a request costs a node.

use std::time::Duration;

use clap::Args;

/// Signatures that are made together at most: the lanes of AVX-512.
pub const LANES: usize = 8;

/// Processor time of a node.
#[derive(Clone, Copy, Debug, Args)]
pub struct Times {
    /// A signature made alone
    #[arg(long, value_name = "TIME", default_value = "256us", value_parser = humantime::parse_duration)]
    pub single: Duration,

    /// Up to eight signatures made together
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = humantime::parse_duration)]
    pub batch: Duration,

    /// Receiving a request and sending its reply
    #[arg(long, value_name = "TIME", default_value = "45us", value_parser = humantime::parse_duration)]
    pub message: Duration,
}

impl Times {
    /// How long one core works on so many requests, in nanoseconds.
    pub fn of(&self, requests: usize) -> u64 {
        let together = nanos(self.batch).min(nanos(self.single) * requests as u64);
        together + nanos(self.message) * requests as u64
    }

    /// The most requests a second that one core can serve.
    pub fn most_per_core(&self) -> f64 {
        LANES as f64 * 1e9 / self.of(LANES).max(1) as f64
    }
}

/// A duration in nanoseconds; what is longer than 500 years is 500 years.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A span of exponentially distributed length.
pub fn exponential(random: &mut fastrand::Rng, mean_ns: f64) -> u64 {
    (-mean_ns * (1.0 - random.f64()).ln()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_costs_what_is_cheaper() {
        let us = Duration::from_micros;
        let times = Times { single: us(100), batch: us(250), message: us(10) };
        assert_eq!([1, 2, 3, 8].map(|n| times.of(n)), [110_000, 220_000, 280_000, 330_000]);
    }

    #[test]
    fn spans_have_their_mean() {
        let mut random = fastrand::Rng::with_seed(1);
        let sum: u64 = (0..100_000).map(|_| exponential(&mut random, 5_000.0)).sum();
        let mean = sum as f64 / 100_000.0;
        assert!((4_900.0..5_100.0).contains(&mean), "{mean}");
    }
}
