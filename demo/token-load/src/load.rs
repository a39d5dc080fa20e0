//! Repeats something in many threads, and counts.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use strongroom_demo::cpu;

use crate::options::Load;
use crate::report::{Latency, Report, histogram};

/// A thread rests so long after a failure: a token that refuses does so in microseconds.
const REST: Duration = Duration::from_millis(1);

/// What one thread counted.
struct Tally {
    latency: Histogram<u64>,
    errors: u64,
    error: Option<String>,
    ended: Instant,
}

/// Runs `prepare` in each thread, which returns what is then repeated until the time is over.
///
/// # Errors
///
/// When a thread cannot prepare itself. Failures of what is repeated are in the report.
pub fn run<W, P>(load: &Load, prepare: P) -> Result<Report>
where
    P: Fn(u32) -> Result<W> + Sync,
    W: FnMut() -> Result<()>,
{
    let ready = Barrier::new(load.sessions as usize + 1);
    let go = Barrier::new(load.sessions as usize + 1);
    let mut watched = (Duration::ZERO, Duration::ZERO);
    let mut client = (Duration::ZERO, Duration::ZERO);
    let mut started = Instant::now();
    let own = std::process::id();
    let outcome: Vec<Result<Tally>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..load.sessions)
            .map(|number| {
                let (ready, go, prepare) = (&ready, &go, &prepare);
                scope.spawn(move || {
                    let prepared = prepare(number);
                    ready.wait();
                    go.wait();
                    let mut work = prepared.with_context(|| format!("session {}", number + 1))?;
                    Ok(repeat(load, &mut work))
                })
            })
            .collect();
        ready.wait();
        watched.0 = cpu::used(&load.cpu_of).unwrap_or_default();
        client.0 = cpu::used(&[own]).unwrap_or_default();
        started = Instant::now();
        go.wait();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread of the load generator died")))
            .collect()
    });
    watched.1 = cpu::used(&load.cpu_of)?;
    client.1 = cpu::used(&[own])?;
    let tallies = outcome.into_iter().collect::<Result<Vec<_>>>()?;
    let ended = tallies.iter().map(|tally| tally.ended).max().unwrap_or(started);
    Ok(report(load, &tallies, ended - started, (client.1 - client.0, watched.1 - watched.0)))
}

fn repeat(load: &Load, work: &mut impl FnMut() -> Result<()>) -> Tally {
    let started = Instant::now();
    let deadline = started + load.duration;
    let mut tally = Tally { latency: histogram(), errors: 0, error: None, ended: started };
    loop {
        let before = Instant::now();
        if before >= deadline {
            return tally;
        }
        let result = work();
        tally.ended = Instant::now();
        match result {
            Ok(()) => tally.latency.saturating_record(nanos(tally.ended - before)),
            Err(error) => {
                tally.errors += 1;
                tally.error.get_or_insert_with(|| format!("{error:#}"));
                thread::sleep(REST);
            }
        }
        if !load.pause.is_zero() {
            thread::sleep(load.pause);
        }
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn report(load: &Load, tallies: &[Tally], time: Duration, (client, watched): (Duration, Duration)) -> Report {
    let mut latency = histogram();
    for tally in tallies {
        // Both have the same bounds, so that nothing can be lost.
        let _ = latency.add(&tally.latency);
    }
    Report {
        operations: latency.len(),
        errors: tallies.iter().map(|tally| tally.errors).sum(),
        error: tallies.iter().find_map(|tally| tally.error.clone()),
        duration_s: time.as_secs_f64(),
        rate_per_s: latency.len() as f64 / time.as_secs_f64().max(1e-9),
        client_cpu_s: client.as_secs_f64(),
        watched_cpu_s: watched.as_secs_f64(),
        latency_us: Latency::of(&latency),
        first_us: None,
        distribution: if load.distribution {
            latency.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
        } else {
            Vec::new()
        },
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn load(sessions: &str) -> Load {
        let line = ["x", "in-process", "p256", "--duration", "30ms", "--sessions", sessions];
        match crate::options::Options::parse_from(line).command {
            crate::options::Command::InProcess { load, .. } => load,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_operation_is_counted() {
        let report = run(&load("3"), |_| {
            Ok(|| {
                thread::sleep(Duration::from_millis(1));
                Ok(())
            })
        })
        .unwrap();
        assert!(report.operations > 10 && report.operations < 90, "{report:?}");
        assert!(report.latency_us.p50 >= 1000.0 && report.errors == 0, "{report:?}");
    }

    #[test]
    fn failures_are_counted_and_named() {
        let report =
            run(&load("2"), |number| Ok(move || if number == 0 { Ok(()) } else { bail!("refused") }))
                .unwrap();
        assert!(report.errors > 0 && report.operations > report.errors, "{report:?}");
        assert_eq!(report.error.as_deref(), Some("refused"));
    }

    #[test]
    fn a_thread_that_cannot_prepare_stops_the_load() {
        let error = run(&load("2"), |number| {
            if number == 1 {
                bail!("no session left");
            }
            Ok(|| Ok(()))
        })
        .unwrap_err();
        assert!(format!("{error:#}").contains("session 2: no session left"), "{error:#}");
    }
}
