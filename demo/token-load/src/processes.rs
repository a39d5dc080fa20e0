//! The same load from several processes.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::options::Load;
use crate::report::{Latency, Report, histogram};

/// Runs this program `load.processes` times with the same arguments, each with its share of the sessions, and adds
/// the reports up.
///
/// # Errors
///
/// When a process cannot start or its load does not.
pub fn run(load: &Load) -> Result<Report> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut children = Vec::new();
    for number in 0..load.processes {
        let share = load.sessions / load.processes + u32::from(number < load.sessions % load.processes);
        if share == 0 {
            continue;
        }
        let mut command = Command::new(&program);
        command.args(arguments()).args([
            "--processes",
            "1",
            "--distribution",
            "--sessions",
            &share.to_string(),
        ]);
        children.push(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    }
    let mut reports = Vec::new();
    for child in children {
        let output = child.wait_with_output()?;
        let report = serde_json::from_slice(&output.stdout);
        reports.push(report.with_context(|| format!("a process of the load: {}", output.status))?);
    }
    sum(&reports, load.distribution)
}

/// This process's arguments without those that each process gets anew.
fn arguments() -> Vec<String> {
    let mut kept = Vec::new();
    let mut skip = false;
    for argument in std::env::args().skip(1) {
        let own = ["--processes", "--sessions"].iter().any(|name| argument.starts_with(name));
        if skip {
            skip = false;
        } else if own {
            skip = !argument.contains('=');
        } else if argument != "--distribution" {
            kept.push(argument);
        }
    }
    kept
}

fn sum(reports: &[Report], distribution: bool) -> Result<Report> {
    let Some(first) = reports.first() else { bail!("no process") };
    // Each of them watched the same processes for the same time.
    let mut total = Report { watched_cpu_s: first.watched_cpu_s, ..Report::default() };
    let mut latency: Histogram<u64> = histogram();
    for report in reports {
        total.operations += report.operations;
        total.errors += report.errors;
        total.error = total.error.take().or_else(|| report.error.clone());
        total.duration_s = total.duration_s.max(report.duration_s);
        total.rate_per_s += report.rate_per_s;
        total.client_cpu_s += report.client_cpu_s;
        for (value, count) in &report.distribution {
            latency.saturating_record_n(*value, *count);
        }
    }
    total.latency_us = Latency::of(&latency);
    if distribution {
        total.distribution =
            latency.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_add_up() {
        let report = |value: u64| Report {
            operations: 10,
            duration_s: 1.0,
            rate_per_s: 10.0,
            watched_cpu_s: 0.5,
            distribution: vec![(value, 10)],
            ..Report::default()
        };
        let total = sum(&[report(1_000), report(9_000)], false).unwrap();
        assert_eq!((total.operations, total.watched_cpu_s), (20, 0.5));
        assert!((total.rate_per_s - 20.0).abs() < 1e-9);
        assert!(total.latency_us.p50 < 1.1 && total.latency_us.p99 > 8.9, "{total:?}");
        assert!(sum(&[], false).is_err());
    }
}
