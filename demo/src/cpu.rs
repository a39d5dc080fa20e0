//! Processor time of servers: a web server with all its workers, and the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use rustix::param::clock_ticks_per_second;

use crate::stat::{self, Stat};

fn descendants(processes: &BTreeMap<u32, Stat>, root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for (id, stat) in processes {
            if found.contains(&stat.parent) {
                found.insert(*id);
            }
        }
        if found.len() == before {
            found.retain(|id| processes.contains_key(id));
            return found;
        }
    }
}

/// The process ids of `root` and everything below it.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn tree(root: u32) -> Result<Vec<u32>> {
    Ok(descendants(&stat::all()?, root).into_iter().collect())
}

/// The processor time that the process trees below `roots` have used so far, workers that have ended
/// included. Resolution: nanoseconds for what is running, clock ticks (10 ms) for what has ended.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn used(roots: &[u32]) -> Result<Duration> {
    let processes = stat::all()?;
    let members: BTreeSet<u32> = roots.iter().flat_map(|root| descendants(&processes, *root)).collect();
    let tick = Duration::from_micros(1_000_000 / clock_ticks_per_second().max(1));
    let times = |ticks: u64| tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
    let members = members.iter().filter_map(|id| Some((*id, processes.get(id)?)));
    Ok(members
        .map(|(id, stat)| {
            // utime and stime are each rounded down; threads that have ended are in them only.
            let (least, most) = (times(stat.ticks), times(stat.ticks + 2));
            threads(id).clamp(least, most) + times(stat.ticks_of_ended)
        })
        .sum())
}

/// The time that a process's threads have run, as the scheduler counts it.
fn threads(id: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else { return Duration::ZERO };
    let run = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.filter_map(run).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use crate::process::Process;

    #[test]
    fn time_of_children_that_have_ended_counts() {
        let mut shell = command::new("sh");
        shell.args(["-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; sleep 1000 & wait"]);
        let process = Process::spawn("busy", shell).unwrap();
        let seen = crate::process::wait_for("time", Duration::from_secs(20), || {
            let used = used(&[process.id()])?;
            // The loop has ended when the sleep is there.
            let sleeping = tree(process.id())?.len() == 2
                && tree(process.id())?.iter().any(|id| {
                    std::fs::read_to_string(format!("/proc/{id}/comm"))
                        .is_ok_and(|name| name.trim() == "sleep")
                });
            anyhow::ensure!(sleeping, "still busy");
            Ok(used)
        })
        .unwrap();
        assert!(seen >= Duration::from_millis(30), "{seen:?}");
    }
}
