//! One fault, many times, under load.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use strongroom_demo::programs::Programs;
use strongroom_load::Report;

use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::keys::Maker;
use crate::network::Host;
use crate::options::Options;
use crate::results::{Moment, Outcome, Point};
use crate::traffic::{Load, SLICE, Web};

/// Between one fault and the next, in milliseconds.
const PAUSE: std::ops::Range<u64> = 1000..3000;

/// For how long after everything is whole a stall still counts as the fault's.
const AFTER: Duration = Duration::from_secs(1);

/// The width of the timeline's points, in slices of the load generator.
const POINT: usize = 10;

/// All that a run has.
#[derive(Debug)]
pub struct Stage {
    /// Where the programs are.
    pub programs: Programs,
    /// The nodes.
    pub cluster: Cluster,
    /// The visitors' host.
    pub client: Host,
    /// nginx.
    pub web: Web,
    /// Where logs go.
    pub folder: PathBuf,
}

impl Stage {
    /// Lets a fault befall the cluster as often as was asked for.
    ///
    /// # Errors
    ///
    /// When a program cannot be started, or does not say what it should. What the fault does is no error.
    pub fn run(&mut self, fault: Fault, options: &Options, random: &mut fastrand::Rng) -> Result<Outcome> {
        let name = fault.name();
        let maker = Maker::start(&self.programs, &self.cluster, &self.client, &name, &self.folder)?;
        let connections = options.connections;
        let load = Load::start(&self.programs, &self.web, &self.client, connections, &name, &self.folder)?;
        let mut moments = Vec::new();
        let mut is_whole = Ok(());
        for _ in 0..options.times {
            thread::sleep(Duration::from_millis(random.u64(PAUSE)));
            let begun = SystemTime::now();
            let befallen =
                fault.befall(&mut self.cluster, options.hold.unwrap_or(fault.usual_time()), random);
            let ended = SystemTime::now();
            is_whole = befallen.and_then(|()| self.cluster.make_whole());
            moments.push((begun, ended, SystemTime::now()));
            if is_whole.is_err() {
                break;
            }
        }
        thread::sleep(AFTER);
        let (report, begun) = load.finish()?;
        let keys = maker.finish(&self.cluster, &name);
        let since = |time: SystemTime| time.duration_since(begun).unwrap_or_default();
        let mut moments: Vec<_> = moments
            .into_iter()
            .map(|(begin, end, whole)| Moment::of(&report, [since(begin), since(end), since(whole)]))
            .collect();
        moments.shrink_to_fit();
        Ok(Outcome {
            fault,
            handshakes: report.handshakes,
            failed: report.error_count(),
            failures: report.error_messages.clone(),
            seconds: report.duration_s,
            moments,
            not_whole: is_whole.err().map(|error| format!("{error:#}")),
            timeline: points(&report),
            keys_unknown: keys.as_ref().err().map(|error| format!("{error:#}")),
            keys: keys.unwrap_or_default(),
        })
    }
}

impl Moment {
    /// What the load generator saw of one fault: from its begin, its end, and when all was whole again.
    fn of(report: &Report, [begin, end, whole]: [Duration; 3]) -> Self {
        let from = begin.as_secs_f64();
        let until = (whole + AFTER).as_secs_f64();
        let mut moment = Moment {
            begin_s: from,
            end_s: end.as_secs_f64(),
            whole_s: whole.as_secs_f64(),
            ..Moment::default()
        };
        let mut empty = 0_u64;
        for slice in report.timeline.iter().filter(|slice| slice.t_s >= from && slice.t_s < until) {
            moment.handshakes += slice.ok;
            moment.failed += slice.errors;
            moment.stall_ms = moment.stall_ms.max(slice.max_us.unwrap_or_default() / 1000);
            empty = if slice.ok == 0 { empty + 1 } else { 0 };
            moment.gap_ms = moment.gap_ms.max(empty * SLICE.as_millis() as u64);
        }
        moment
    }
}

fn points(report: &Report) -> Vec<Point> {
    let point = |slices: &[strongroom_load::report::Slice]| Point {
        t_s: slices.first().map_or(0.0, |slice| slice.t_s),
        per_s: slices.iter().map(|slice| slice.rate_per_s).sum::<f64>() / slices.len().max(1) as f64,
        failed: slices.iter().map(|slice| slice.errors).sum(),
    };
    report.timeline.chunks(POINT).map(point).collect()
}

#[cfg(test)]
mod tests {
    use strongroom_load::report::Slice;

    use super::*;

    #[test]
    fn a_stall_and_a_gap_are_told_from_slices() {
        let slice = |number: u32, ok, errors, max_us| Slice {
            t_s: f64::from(number) * 0.05,
            ok,
            errors,
            max_us,
            ..Slice::default()
        };
        let timeline = (0..100)
            .map(|number| match number {
                10 | 60 => slice(number, 5, 0, Some(3_000_000)),
                21..24 => slice(number, 0, 0, None),
                24 => slice(number, 9, 2, Some(700_000)),
                _ => slice(number, 10, 0, Some(20_000)),
            })
            .collect();
        let report = Report { timeline, ..Report::default() };
        let times = [1.0, 1.3, 1.9].map(Duration::from_secs_f64);
        let moment = Moment::of(&report, times);
        // Neither what was before it nor what was later than a second after it.
        assert_eq!((moment.stall_ms, moment.gap_ms, moment.failed), (700, 150, 2));
        assert_eq!(points(&report).len(), 10);
    }
}
