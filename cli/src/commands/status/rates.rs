//! What a daemon does a second, and how long it takes: of two answers to the question what was done since the start.

use serde::Serialize;
use strongroom_protocol::v1::{OperationTotals, StatusReply};

use crate::key_type;
use crate::output::{Cell, Page, Tone};

/// What was done with keys in some time.
#[derive(Debug, Serialize)]
pub struct Rates {
    /// Of how long this is.
    pub seconds: f64,
    /// Of all keys together.
    pub all: Rate,
    /// By operation and key type, the most frequent first; those that occurred.
    pub operations: Vec<Rate>,
}

/// What was done of one sort.
#[derive(Debug, Default, Serialize)]
pub struct Rate {
    /// "sign", "decrypt" and so on; empty of all.
    #[serde(skip_serializing_if = "String::is_empty")]
    operation: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    key_type: &'static str,
    succeeded: u64,
    refused: u64,
    failed: u64,
    succeeded_a_second: f64,
    mean_seconds: Option<f64>,
    /// Half of them took at most so long, as far as the daemon's buckets tell.
    median_seconds: Option<f64>,
    /// All but one of a hundred did.
    p99_seconds: Option<f64>,
    #[serde(skip)]
    title: &'static str,
}

impl Rates {
    /// Since the daemon's start, as it counts.
    pub fn since_the_start(reply: &StatusReply) -> Self {
        Self::of(reply.uptime_millis, &reply.operations, &reply.latency_bounds)
    }

    /// Between two answers. Of a daemon that was started anew: since the start.
    pub fn between(before: &StatusReply, now: &StatusReply) -> Self {
        if now.uptime_millis <= before.uptime_millis {
            return Self::since_the_start(now);
        }
        let less = |totals: &OperationTotals| {
            let same = |other: &&OperationTotals| {
                other.operation == totals.operation && other.key_type == totals.key_type
            };
            before
                .operations
                .iter()
                .find(same)
                .map_or_else(|| totals.clone(), |before| difference(totals, before))
        };
        let operations: Vec<OperationTotals> = now.operations.iter().map(less).collect();
        Self::of(now.uptime_millis - before.uptime_millis, &operations, &now.latency_bounds)
    }

    fn of(millis: u64, operations: &[OperationTotals], bounds: &[u64]) -> Self {
        let seconds = millis.max(1) as f64 / 1e3;
        let rate = |totals: &OperationTotals| Rate::of(totals, seconds, bounds);
        let mut sum = OperationTotals::default();
        operations.iter().for_each(|totals| add(&mut sum, totals));
        let occurred = |totals: &&OperationTotals| totals.succeeded + totals.refused + totals.failed > 0;
        let mut shown: Vec<Rate> = operations.iter().filter(occurred).map(rate).collect();
        shown.sort_by_key(|rate| std::cmp::Reverse(rate.succeeded));
        Rates { seconds, all: rate(&sum), operations: shown }
    }

    /// Adds a table, if anything was done.
    pub fn table(&self, page: &mut Page) {
        if self.operations.is_empty() {
            return;
        }
        let rows = self.operations.iter().map(Rate::row).collect();
        let headings = ["OPERATION", "KEY", "DONE", "A SECOND", "MEDIAN", "99 % WITHIN", "REFUSED", "FAILED"];
        page.table(&headings, rows);
    }
}

impl Rate {
    fn of(totals: &OperationTotals, seconds: f64, bounds: &[u64]) -> Self {
        let timed: u64 = totals.buckets.iter().sum();
        let mean = (timed > 0).then(|| totals.nanoseconds as f64 / 1e9 / timed as f64);
        Rate {
            operation: totals.operation.clone(),
            key_type: if totals.operation.is_empty() { "" } else { key_type::name(totals.key_type()) },
            succeeded: totals.succeeded,
            refused: totals.refused,
            failed: totals.failed,
            succeeded_a_second: totals.succeeded as f64 / seconds,
            mean_seconds: mean,
            median_seconds: quantile(0.5, &totals.buckets, bounds),
            p99_seconds: quantile(0.99, &totals.buckets, bounds),
            title: key_type::title(totals.key_type()),
        }
    }

    fn row(&self) -> Vec<Cell> {
        let failed = if self.failed > 0 { Tone::Bad } else { Tone::Plain };
        let mut row =
            vec![self.operation.as_str().into(), self.title.into(), self.succeeded.to_string().into()];
        row.extend(self.numbers());
        row.extend([self.refused.to_string().into(), Cell::toned(self.failed.to_string(), failed)]);
        row
    }

    /// The rate, the median and what 99 of 100 take.
    pub fn numbers(&self) -> [Cell; 3] {
        let time = |seconds| time(seconds).into();
        [number(self.succeeded_a_second).into(), time(self.median_seconds), time(self.p99_seconds)]
    }

    /// The operation with the key type, for people.
    pub fn sort(&self) -> String {
        format!("{} {}", self.operation, self.title)
    }

    /// How many were refused, and how many failed.
    pub fn not_done(&self) -> (u64, u64) {
        (self.refused, self.failed)
    }
}

fn difference(now: &OperationTotals, before: &OperationTotals) -> OperationTotals {
    let buckets = now.buckets.iter().zip(&before.buckets);
    OperationTotals {
        succeeded: now.succeeded.saturating_sub(before.succeeded),
        refused: now.refused.saturating_sub(before.refused),
        failed: now.failed.saturating_sub(before.failed),
        nanoseconds: now.nanoseconds.saturating_sub(before.nanoseconds),
        buckets: buckets.map(|(now, before)| now.saturating_sub(*before)).collect(),
        ..now.clone()
    }
}

fn add(sum: &mut OperationTotals, more: &OperationTotals) {
    sum.succeeded += more.succeeded;
    sum.refused += more.refused;
    sum.failed += more.failed;
    sum.nanoseconds += more.nanoseconds;
    let length = sum.buckets.len().max(more.buckets.len());
    sum.buckets.resize(length, 0);
    sum.buckets.iter_mut().zip(&more.buckets).for_each(|(sum, more)| *sum += more);
}

/// The value, in seconds, below which this share lies, as far as the buckets tell: between two bounds it is drawn evenly. What
/// took longer than the last bound counts as that.
fn quantile(share: f64, buckets: &[u64], bounds: &[u64]) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let mut left = share * all as f64;
    let mut from = 0.0;
    for (count, bound) in buckets.iter().zip(bounds) {
        let (count, bound) = (*count as f64, *bound as f64 / 1e6);
        if count > 0.0 && left <= count {
            return Some(from + (bound - from) * left / count);
        }
        left -= count;
        from = bound;
    }
    (all > 0).then_some(from)
}

/// A number with as many digits as tell something.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 10.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 1e-3 => format!("{} µs", number(seconds * 1e6)),
        Some(seconds) if seconds < 1.0 => format!("{} ms", number(seconds * 1e3)),
        Some(seconds) => format!("{} s", number(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::KeyType;

    use super::*;

    fn totals(operation: &str, succeeded: u64, buckets: &[u64]) -> OperationTotals {
        let nanoseconds = succeeded * 30_000;
        let (operation, key_type) = (operation.to_owned(), KeyType::P256.into());
        OperationTotals {
            operation,
            key_type,
            succeeded,
            nanoseconds,
            buckets: buckets.to_vec(),
            ..Default::default()
        }
    }

    fn reply(uptime_millis: u64, operations: Vec<OperationTotals>) -> StatusReply {
        StatusReply { uptime_millis, operations, latency_bounds: vec![25, 50, 100], ..StatusReply::default() }
    }

    #[test]
    fn what_was_done_between_two_answers() {
        let before = reply(1_000, vec![totals("sign", 100, &[100, 0, 0, 0])]);
        let now =
            reply(3_000, vec![totals("sign", 300, &[100, 200, 0, 0]), totals("derive", 4, &[0, 0, 2, 2])]);
        let rates = Rates::between(&before, &now);
        let [sign, derive] = &rates.operations[..] else { panic!("{rates:?}") };
        assert_eq!((sign.succeeded, sign.succeeded_a_second), (200, 100.0));
        assert_eq!(sign.mean_seconds, Some(30e-6));
        assert!((sign.median_seconds.unwrap() - 37.5e-6).abs() < 1e-9, "{sign:?}");
        // What took longer than the last bound.
        assert_eq!((derive.succeeded, derive.p99_seconds), (4, Some(100e-6)));
        assert_eq!((rates.all.succeeded, rates.seconds), (204, 2.0));
        // Nothing since.
        let idle = Rates::between(&now, &reply(4_000, now.operations.clone()));
        assert!(idle.operations.is_empty() && idle.all.median_seconds.is_none(), "{idle:?}");
        // Another daemon in its place.
        let anew = Rates::between(&now, &before);
        assert_eq!((anew.all.succeeded, anew.seconds), (100, 1.0));
    }

    #[test]
    fn numbers_are_for_people() {
        let shown = [Some(2.5e-7), Some(3.44e-5), Some(0.0123), Some(61.0), None].map(time);
        assert_eq!(shown, ["0.2 µs", "34 µs", "12 ms", "61 s", "-"]);
        assert_eq!([0.0, 1.25, 1999.6].map(number), ["0", "1.2", "2000"]);
    }
}
