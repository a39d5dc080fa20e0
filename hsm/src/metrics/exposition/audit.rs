//! The audit log's metrics.

use std::fmt;

use super::sheet::{Labels, Sheet, labels};
use crate::audit::sink::SinkStatus;
use crate::audit::{Audit, LogStatus};

pub(super) fn audit(sheet: &mut Sheet<'_>, audit: &Audit) -> fmt::Result {
    let (logs, sinks, totals) = (audit.logs(), audit.sinks(), audit.totals());
    let of_log = |log: &LogStatus| labels([("log", &log.name)]);
    sheet.counters(
        "strongroom_audit_entries",
        "Entries of the audit log since the daemon's start.",
        logs.iter().map(|log| (of_log(log), log.written)),
    )?;
    sheet.gauges(
        "strongroom_audit_last_entry",
        "The number of the last entry.",
        logs.iter().map(|log| (of_log(log), log.last as f64)),
    )?;
    sheet.gauge(
        "strongroom_audit_failing",
        "1 if the audit log cannot be written: changes are refused, signatures are made.",
        f64::from(u8::from(!audit.is_healthy())),
    )?;
    sheet.counter("strongroom_audit_failures", "Writes of the audit log that failed.", totals.failures)?;
    sheet.counter(
        "strongroom_audit_lost",
        "Entries that were lost because the disk took none and memory had no room for more.",
        totals.lost,
    )?;
    // A sink's address is no label.
    let of_sink = |sink: &SinkStatus| -> Labels { labels([("sink", &sink.name)]) };
    sheet.gauges(
        "strongroom_audit_sink_connected",
        "1 if a sink takes entries.",
        sinks.iter().map(|sink| (of_sink(sink), f64::from(u8::from(sink.is_connected)))),
    )?;
    sheet.gauges(
        "strongroom_audit_sink_lag",
        "Entries that were not sent to a sink yet.",
        sinks.iter().map(|sink| {
            let lag: u64 = logs.iter().map(|log| sink.lag(log.log, log.last)).sum();
            (of_sink(sink), lag as f64)
        }),
    )?;
    sheet.counters(
        "strongroom_audit_sink_failures",
        "How often a sink failed.",
        sinks.iter().map(|sink| (of_sink(sink), sink.failures)),
    )
}
