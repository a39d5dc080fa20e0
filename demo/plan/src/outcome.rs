//! What a simulation finds out.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latency, seen by the clients, and the load of the nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Requests a second that were answered.
    pub rate_per_s: f64,
    /// Mean latency, in milliseconds.
    pub mean_ms: f64,
    /// Median latency, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// 99.9th percentile, in milliseconds.
    pub p999_ms: f64,
    /// Share of the cores' time that is work: mean over the nodes that live.
    pub utilisation: f64,
    /// Work of the busiest node by that of the mean.
    pub busiest: f64,
    /// Signatures made together, on the average.
    pub mean_batch: f64,
    /// Share of the requests that were answered in another region.
    pub far: f64,
    /// Requests that were sent to a second node.
    pub repeated: u64,
    /// Requests that got no answer from any node.
    pub failed: u64,
}

/// Milliseconds at a quantile of nanoseconds.
pub fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}
