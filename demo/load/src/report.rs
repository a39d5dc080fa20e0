//! The result of a run, as it is written with `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The title that the user gave.
    pub label: String,
    /// The target as the user wrote it.
    pub target: String,
    /// When the load started, RFC 3339, UTC.
    pub started: String,
    /// TLS version agreed on: `1.2` or `1.3`; empty if no handshake succeeded.
    pub tls: String,
    /// Cipher suite of the first handshake.
    pub cipher: String,
    /// Key exchange group of the first handshake.
    pub group: String,
    /// Connections in flight at most.
    pub concurrency: u32,
    /// Arrivals a second, in an open loop. None in a closed one.
    pub rate_asked_per_s: Option<f64>,
    /// From the start until the last connection was done.
    pub duration_s: f64,
    /// Handshakes that succeeded.
    pub handshakes: u64,
    /// Those of them that resumed a session.
    pub resumed: u64,
    /// Successful handshakes a second.
    pub rate_per_s: f64,
    /// Failures by kind. A request that fails after its handshake counts here as well.
    pub errors: BTreeMap<String, u64>,
    /// The first message of each kind of failure.
    pub error_messages: BTreeMap<String, String>,
    /// From when the connection was due until the handshake was done. None if none succeeded.
    pub latency_us: Option<Latency>,
    /// Requests that succeeded.
    pub requests: u64,
    /// From the request until the end of the answer.
    pub request_latency_us: Option<Latency>,
    /// The longest time without a successful handshake, start and end of the run included.
    pub longest_gap_ms: f64,
    /// Processor time of the load generator.
    pub client_cpu_s: f64,
    /// The same for each successful handshake.
    pub client_cpu_us_per_handshake: Option<f64>,
    /// Width of the timeline's slices.
    pub interval_s: f64,
    /// What happened when.
    pub timeline: Vec<Slice>,
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// One slice of the run. Handshakes count where they end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Where it begins.
    pub t_s: f64,
    /// Handshakes that succeeded.
    pub ok: u64,
    /// Failures.
    pub errors: u64,
    /// Successful handshakes a second.
    pub rate_per_s: f64,
    /// Median latency; none if no handshake succeeded.
    pub p50_us: Option<u64>,
    /// 99th percentile.
    pub p99_us: Option<u64>,
    /// The slowest.
    pub max_us: Option<u64>,
}

/// What client and server agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// `1.2` or `1.3`.
    pub version: String,
    /// The cipher suite's registered name.
    pub cipher: String,
    /// The key exchange group.
    pub group: String,
}

impl Report {
    /// The number of failures.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}
