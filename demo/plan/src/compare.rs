//! The model beside a measurement.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use strongroom_token_load::report::Report;

use crate::client::Rule;
use crate::options::Compare;
use crate::simulation;
use crate::times::Times;
use crate::world::{Load, World};

/// What was measured and what the model says, of the same load.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Processor time of a request besides the signature, client and node together, in microseconds.
    pub message_us: f64,
    /// The way there and back when nothing waits, in microseconds.
    pub way_us: f64,
    /// The model.
    pub model: Figures,
    /// The measurement.
    pub measured: Figures,
}

/// Figures of both.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Operations a second.
    pub rate_per_s: f64,
    /// Median latency, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

/// Reads both reports and simulates the second's load.
///
/// # Errors
///
/// When a report cannot be read, or counts no operations, or failures.
pub fn run(compare: &Compare, seed: u64) -> Result<Comparison> {
    let alone = read(&compare.alone)?;
    let measured = read(&compare.measured)?;
    let used = (alone.client_cpu_s + alone.watched_cpu_s) / alone.operations as f64;
    let rest = Duration::from_secs_f64((used - compare.single.as_secs_f64()).max(0.0));
    let message = compare.message.unwrap_or(rest);
    // What a lone request waits for besides the processor: wake-ups, mostly.
    let way = Duration::from_secs_f64((alone.latency_us.p50 / 1e6 - used).max(0.0));
    let duration = Duration::from_secs_f64(measured.duration_s.clamp(1.0, 60.0));
    let outcome = simulation::run(&World {
        nodes: 1,
        cores: compare.cores as usize,
        regions: 1,
        within: way,
        between: way,
        times: Times { single: compare.single, batch: compare.batch, message },
        rule: Rule::Soonest,
        patience: Duration::from_secs(10),
        load: Load::Sessions { sessions: compare.sessions as usize, pause: compare.pause },
        duration,
        warm_up: duration / 10,
        death: None,
        seed,
    });
    let latency = measured.latency_us;
    Ok(Comparison {
        message_us: message.as_secs_f64() * 1e6,
        way_us: way.as_secs_f64() * 1e6,
        model: Figures { rate_per_s: outcome.rate_per_s, p50_ms: outcome.p50_ms, p99_ms: outcome.p99_ms },
        measured: Figures {
            rate_per_s: measured.rate_per_s,
            p50_ms: latency.p50 / 1e3,
            p99_ms: latency.p99 / 1e3,
        },
    })
}

fn read(file: &Path) -> Result<Report> {
    let name = || file.display().to_string();
    let text = std::fs::read(file).with_context(name)?;
    let report: Report = serde_json::from_slice(&text)
        .with_context(|| format!("{}: not a report of strongroom-token-load", name()))?;
    ensure!(report.operations > 0, "{}: it has no operations", name());
    ensure!(report.errors == 0, "{}: {} of its operations failed", name(), report.errors);
    Ok(report)
}

/// As a table in Markdown.
pub fn table(comparison: &Comparison) -> String {
    let row = |name: &str, figures: &Figures| {
        format!("| {name} | {:.0} | {:.2} | {:.2} |\n", figures.rate_per_s, figures.p50_ms, figures.p99_ms)
    };
    format!(
        "A request costs {:.0} µs besides the signature, and waits {:.0} µs for nobody.\n\n\
         | | operations/s | p50 ms | p99 ms |\n|---|---:|---:|---:|\n{}{}",
        comparison.message_us,
        comparison.way_us,
        row("measured", &comparison.measured),
        row("model", &comparison.model),
    )
}
