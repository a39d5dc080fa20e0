//! Families of metrics, one after the other.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Totals;

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Labels with their values as the text format wants them: a partition's label may hold any printable character.
pub(super) fn labels<const N: usize>(pairs: [(&'static str, impl AsRef<str>); N]) -> Labels {
    pairs.map(|(name, value)| (name, escape(value.as_ref()))).to_vec()
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// Where they are written.
pub(super) struct Sheet<'a>(pub(super) DescriptorEncoder<'a>);

impl Sheet<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        mut write: impl FnMut(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(&mut self.0.encode_descriptor(name, help, unit, kind)?)
    }

    /// One number that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, None, MetricType::Gauge, |metric| metric.encode_gauge(&value))
    }

    /// One number that only grows. `_total` comes after the name.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |metric| {
            metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)
        })
    }

    /// A time that only grows. `_seconds_total` comes after the name.
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, Some(&Unit::Seconds), MetricType::Counter, |metric| {
            metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)
        })
    }

    /// What never changes. `_info` comes after the name.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: Labels) -> fmt::Result {
        self.family(name, help, None, MetricType::Info, |metric| metric.encode_info(&labels))
    }

    /// Numbers that go up and down.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter();
        self.family(name, help, None, MetricType::Gauge, |metric| {
            rows.try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
        })
    }

    /// Numbers that only grow. `_total` comes after the name.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter();
        self.family(name, help, None, MetricType::Counter, |metric| {
            rows.try_for_each(|(labels, value)| {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)
            })
        })
    }

    /// Distributions: their sum, and how many are up to each bound and above the one before.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        rows: impl IntoIterator<Item = (Labels, f64, Vec<(f64, u64)>)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter();
        self.family(name, help, unit, MetricType::Histogram, |metric| {
            rows.try_for_each(|(labels, sum, buckets)| {
                let count = buckets.iter().map(|(_, count)| count).sum();
                match labels.is_empty() {
                    true => metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None),
                    false => metric
                        .encode_family(&labels)?
                        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None),
                }
            })
        })
    }

    /// Distributions of times. `_seconds` comes after the name.
    pub(super) fn durations(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, Totals)>,
    ) -> fmt::Result {
        let rows = rows.into_iter().map(|(labels, totals)| {
            let buckets = totals.histogram();
            (labels, totals.time.as_secs_f64(), buckets)
        });
        self.histograms(name, help, Some(&Unit::Seconds), rows)
    }
}
