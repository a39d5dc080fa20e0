//! Counts what the connections report.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use rustls::{ClientConnection, HandshakeKind};

use crate::failure::{Failure, Kind};
use crate::plan::{Pace, Plan};
use crate::report::{Latency, Negotiated, Report};
use crate::timeline::Timeline;

/// The longest latency told apart: an hour, in microseconds.
const HIGHEST_US: u64 = 3_600_000_000;

/// The record of one run, shared by all its connections.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    wall_clock: SystemTime,
    cpu: Duration,
    tally: Mutex<Tally>,
}

#[derive(Debug)]
struct Tally {
    handshakes: Histogram<u64>,
    requests: Histogram<u64>,
    resumed: u64,
    errors: u64,
    failures: BTreeMap<Kind, (u64, String)>,
    negotiated: Option<Negotiated>,
    last_success: Duration,
    longest_gap: Duration,
    timeline: Timeline,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// Done and good.
    pub handshakes: u64,
    /// Failed handshakes and requests.
    pub errors: u64,
    /// Half of the handshakes took less, in microseconds.
    pub p50_us: u64,
    /// 99 % of the handshakes took less, in microseconds.
    pub p99_us: u64,
}

impl Recorder {
    /// Starts the clock. `interval` is the width of the timeline's slices, if fixed.
    pub fn start(interval: Option<Duration>) -> Self {
        Self {
            started: Instant::now(),
            wall_clock: SystemTime::now(),
            cpu: cpu_time(),
            tally: Mutex::new(Tally {
                handshakes: histogram(),
                requests: histogram(),
                resumed: 0,
                errors: 0,
                failures: BTreeMap::new(),
                negotiated: None,
                last_success: Duration::ZERO,
                longest_gap: Duration::ZERO,
                timeline: Timeline::new(interval),
            }),
        }
    }

    /// When the clock was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Counts a handshake that took `latency`.
    pub fn handshake(&self, latency: Duration, session: &ClientConnection) {
        let mut tally = self.lock();
        // Taken under the lock, so that the timeline sees times in order.
        let at = self.started.elapsed();
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            tally.resumed += 1;
        }
        if tally.negotiated.is_none() {
            tally.negotiated = Some(crate::tls::negotiated(session));
        }
        tally.success(at, latency);
    }

    /// Counts a request whose answer took `latency`.
    pub fn request(&self, latency: Duration) {
        self.lock().requests.saturating_record(micros(latency));
    }

    /// Counts a failure.
    pub fn failure(&self, failure: Failure) {
        let mut tally = self.lock();
        let at = self.started.elapsed();
        tally.errors += 1;
        tally.failures.entry(failure.kind).or_insert((0, failure.message)).0 += 1;
        tally.timeline.failure(at);
    }

    /// Tells how many failures there were.
    pub fn errors(&self) -> u64 {
        self.lock().errors
    }

    /// Tells how far the run is.
    pub fn progress(&self) -> Progress {
        let tally = self.lock();
        Progress {
            elapsed: self.started.elapsed(),
            handshakes: tally.handshakes.len(),
            errors: tally.errors,
            p50_us: tally.handshakes.value_at_quantile(0.5),
            p99_us: tally.handshakes.value_at_quantile(0.99),
        }
    }

    /// Ends the record now and reports.
    pub fn finish(&self, plan: &Plan) -> Report {
        let cpu = cpu_time().saturating_sub(self.cpu);
        let mut tally = self.lock();
        let end = self.started.elapsed();
        let seconds = end.as_secs_f64();
        let interval = tally.timeline.width();
        let timeline = std::mem::replace(&mut tally.timeline, Timeline::new(None)).finish(end);
        let handshakes = tally.handshakes.len();
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        let count = handshakes as f64;
        let mut report = Report {
            label: plan.label.clone(),
            target: plan.target.clone(),
            started: humantime::format_rfc3339_millis(self.wall_clock).to_string(),
            concurrency: plan.concurrency(),
            rate_asked_per_s: match plan.pace {
                Pace::Open { rate, .. } => Some(rate),
                Pace::Closed { .. } => None,
            },
            duration_s: seconds,
            handshakes,
            resumed: tally.resumed,
            rate_per_s: if seconds > 0.0 { count / seconds } else { 0.0 },
            latency_us: Latency::of(&tally.handshakes),
            requests: tally.requests.len(),
            request_latency_us: Latency::of(&tally.requests),
            longest_gap_ms: tally.longest_gap.max(end.saturating_sub(tally.last_success)).as_secs_f64() * 1e3,
            client_cpu_s: cpu.as_secs_f64(),
            client_cpu_us_per_handshake: (handshakes > 0).then(|| cpu.as_secs_f64() * 1e6 / count),
            interval_s: interval.as_secs_f64(),
            timeline,
            ..Report::default()
        };
        if let Some(negotiated) = tally.negotiated.take() {
            report.tls = negotiated.version;
            report.cipher = negotiated.cipher;
            report.group = negotiated.group;
        }
        for (kind, (count, message)) in std::mem::take(&mut tally.failures) {
            report.errors.insert(kind.to_string(), count);
            report.error_messages.insert(kind.to_string(), message);
        }
        report
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn success(&mut self, at: Duration, latency: Duration) {
        self.longest_gap = self.longest_gap.max(at.saturating_sub(self.last_success));
        self.last_success = at;
        self.handshakes.saturating_record(micros(latency));
        self.timeline.success(at, micros(latency));
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            min: histogram.min(),
            mean: histogram.mean().round(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        })
    }
}

/// Three digits, up to an hour. The bounds are constants, so making it cannot fail.
#[allow(clippy::expect_used)]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_US, 3).expect("constant bounds")
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// The processor time of this process, kernel time included.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
