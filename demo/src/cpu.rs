//! Processor time of servers: a web server with all its workers, and the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;

/// What /proc says of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// utime + stime + cutime + cstime, in clock ticks: its own time and that of children that have ended
    /// and been waited for.
    ticks: u64,
}

fn parse(stat: &str) -> Option<Stat> {
    // The name, in parentheses, may itself contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    // proc(5) counts from 1 and these fields begin with the third: ppid is 4, utime to cstime 14 to 17.
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks })
}

fn all() -> Result<BTreeMap<u32, Stat>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may have ended since the folder was read.
        if let Some(stat) = fs::read_to_string(format!("/proc/{id}/stat")).ok().as_deref().and_then(parse) {
            processes.insert(id, stat);
        }
    }
    Ok(processes)
}

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
    Ok(descendants(&all()?, root).into_iter().collect())
}

/// The processor time that the process trees below `roots` have used so far, workers that have ended
/// included. Resolution: one clock tick, 10 ms.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn used(roots: &[u32]) -> Result<Duration> {
    let processes = all()?;
    let members: BTreeSet<u32> = roots.iter().flat_map(|root| descendants(&processes, *root)).collect();
    let ticks: u64 = members.iter().filter_map(|id| processes.get(id)).map(|stat| stat.ticks).sum();
    Ok(Duration::from_micros(ticks.saturating_mul(1_000_000 / clock_ticks_per_second().max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Process, command};

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "17 (a) b (c) S 4 17 17 0 -1 4194560 1 0 0 0 10 20 300 4000 20 0 1 0 5 0 0";
        assert_eq!(parse(stat), Some(Stat { parent: 4, ticks: 4330 }));
    }

    #[test]
    fn time_of_children_that_have_ended_counts() {
        let mut shell = command("sh");
        shell.args(["-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; sleep 1000 & wait"]);
        let process = Process::spawn("busy", shell).unwrap();
        let seen = crate::process::wait_for("time", Duration::from_secs(20), || {
            let used = used(&[process.id()])?;
            // The loop has ended when the sleep is there.
            let sleeping = tree(process.id())?.len() == 2
                && tree(process.id())?.iter().any(|id| {
                    fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "sleep")
                });
            anyhow::ensure!(sleeping, "still busy");
            Ok(used)
        })
        .unwrap();
        assert!(seen >= Duration::from_millis(30), "{seen:?}");
    }
}
