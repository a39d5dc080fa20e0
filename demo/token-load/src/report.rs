//! What a load found out, as it is printed in JSON.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency told apart, in nanoseconds: a minute.
const HIGHEST_NS: u64 = 60_000_000_000;

/// The result of one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed.
    pub errors: u64,
    /// The first failure.
    pub error: Option<String>,
    /// From the start until the last operation was done.
    pub duration_s: f64,
    /// Operations a second.
    pub rate_per_s: f64,
    /// Processor time of the load generator's process or processes, the module in them included.
    pub client_cpu_s: f64,
    /// Processor time of the processes that were watched.
    pub watched_cpu_s: f64,
    /// How long one operation took.
    pub latency_us: Latency,
    /// How long the first of all took, from C_FindObjectsInit on, if that was asked for.
    pub first_us: Option<f64>,
    /// The distribution: pairs of nanoseconds and how often, if it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distribution: Vec<(u64, u64)>,
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// The percentiles of nanoseconds.
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// An empty distribution of nanoseconds, told apart to three digits. The bounds are constants, so making it
/// cannot fail.
#[allow(clippy::expect_used)]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("constant bounds")
}
