//! The system calls of one worker, by `strace -c`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use strongroom_demo::command;
use strongroom_demo::process::Process;
use strongroom_demo::programs::system;

/// How long strace may take to let go of a process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls and failures of one system call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// How often it was called.
    pub calls: u64,
    /// How often it failed; to find nothing to do is a failure here (EAGAIN).
    pub errors: u64,
}

/// Watches `process` and its threads for a while.
///
/// # Errors
///
/// When strace is not installed or may not watch.
pub fn watch(process: u32, time: Duration, folder: &Path) -> Result<BTreeMap<String, Calls>> {
    let output = folder.join("strace.txt");
    let _ = fs::remove_file(&output);
    let mut strace = command::new(system("strace")?);
    strace.args(["-c", "-f", "-o"]).arg(&output).args(["-p", &process.to_string()]);
    strace.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut strace = Process::spawn("strace", strace)?;
    std::thread::sleep(time);
    // The signal goes to strace alone, which then writes its table.
    strace.signal(Signal::INT)?;
    strace.wait(PATIENCE)?;
    let calls = parse(&fs::read_to_string(&output)?);
    ensure!(!calls.is_empty(), "strace saw nothing of process {process}");
    Ok(calls)
}

/// Reads strace's table: `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn parse(table: &str) -> BTreeMap<String, Calls> {
    let mut found = BTreeMap::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok());
        let (Some(calls), Some(name)) = (number(3), words.last()) else { continue };
        if *name != "total" {
            let errors = if words.len() == 6 { number(4).unwrap_or_default() } else { 0 };
            found.insert((*name).to_owned(), Calls { calls, errors });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     40.00    0.000040           1        30        10 accept4\n \
                     60.00    0.000060           2        25           write\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.000100           1        55        10 total\n";
        let found = parse(table);
        assert_eq!(found.len(), 2);
        assert_eq!(found["accept4"], Calls { calls: 30, errors: 10 });
        assert_eq!(found["write"], Calls { calls: 25, errors: 0 });
    }
}
