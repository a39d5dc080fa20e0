//! What /proc says of processes.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// The fields of /proc/PID/stat that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The parent's process id.
    pub parent: u32,
    /// The process group.
    pub group: i32,
    /// It has ended and only waits for its parent to notice (a zombie).
    pub ended: bool,
    /// utime + stime, in clock ticks.
    pub ticks: u64,
    /// cutime + cstime, in clock ticks: the time of children that have ended and been waited for.
    pub ticks_of_ended: u64,
    /// When it was started, in clock ticks since the machine was: tells it from a later one of the same id.
    pub started: u64,
}

fn parse(stat: &str) -> Option<Stat> {
    // The name, in parentheses, may itself contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    // proc(5) counts from 1, and these fields begin with its third.
    let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
    let number = |of: usize| field(of).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        ended: matches!(field(3)?, "Z" | "X"),
        parent: u32::try_from(number(4)?).ok()?,
        group: field(5)?.parse().ok()?,
        ticks: number(14)? + number(15)?,
        ticks_of_ended: number(16)? + number(17)?,
        started: number(22)?,
    })
}

/// What /proc says of one process; nothing if it is not there.
pub fn of(id: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// All processes.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn all() -> Result<BTreeMap<u32, Stat>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may have ended since the folder was read.
        if let Some(stat) = of(id) {
            processes.insert(id, stat);
        }
    }
    Ok(processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "17 (a) b (c) S 4 16 17 0 -1 4194560 1 0 0 0 10 20 300 4000 20 0 1 0 5 0 0";
        let parsed = Stat { parent: 4, group: 16, ended: false, ticks: 30, ticks_of_ended: 4300, started: 5 };
        assert_eq!(parse(stat), Some(parsed));
    }

    #[test]
    fn this_process_is_there() {
        let id = std::process::id();
        assert_eq!(all().unwrap().get(&id).map(|stat| stat.started), of(id).map(|stat| stat.started));
        assert!(!of(id).unwrap().ended);
    }
}
