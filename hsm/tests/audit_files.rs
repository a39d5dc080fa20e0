//! The files of the audit log: what is in them after a crash, and what is found when somebody changes them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod logs;
mod running;

use std::collections::HashSet;
use std::fs;

use logs::{files, of, outcomes, public_key, read, verified};
use running::{OFFICER, PASSWORD, Process, Running, TLS, USER};
use strongroom_audit::{CHECKPOINT, Fault};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Killed at any moment: what was acknowledged is in the log, and the log is sound.
#[test]
fn what_was_acknowledged_is_in_the_log_after_kill_minus_nine() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    process.client().make_partition("tls");
    let key = public_key(&mut process.client());
    let mut user = process.client();
    user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let id = rustix::process::Pid::from_child(&process.child);
    let mut made = Vec::new();
    // Somewhere in the fourth.
    let killer = std::thread::spawn({
        let file = files(&directory.path().join("state"), "partition-1").pop().unwrap();
        move || {
            while fs::read_to_string(&file).unwrap().matches("generate_key_pair").count() < 7 {
                std::thread::yield_now();
            }
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        }
    });
    while let Ok(pair) = user.generate(KeyType::P256, "web") {
        made.push(strongroom_audit::chain::hex(&pair[0].object));
    }
    killer.join().unwrap();
    drop(process);
    let process = Process::start(directory.path());
    let mut officer = process.client();
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    let entries = read(&mut officer, TLS);
    let noted: HashSet<_> = of(&entries, "generate_key_pair").iter().map(|e| e.object.clone()).collect();
    assert!(made.len() >= 3 && made.iter().all(|object| noted.contains(object)));
    // What the kill interrupted is told of, if something was begun.
    let outcomes = outcomes(&entries, "generate_key_pair");
    let count = |outcome: &str| outcomes.iter().filter(|found| *found == outcome).count();
    assert_eq!(count("begun"), count("success") + count("unknown"));
    let node = read(&mut process.client(), 0);
    let starts = of(&node, "daemon_start");
    assert!(
        !starts[0].details.contains_key("last_end") && starts[1].details["last_end"].starts_with("unclean")
    );
    for log in ["node", "partition-1"] {
        verified(&directory.path().join("state"), log, Some(&key)).unwrap();
    }
}

#[test]
fn an_end_that_was_cut_off_is_missed_at_the_next_start() {
    let mut running = Running::with_partition();
    running.user().generate(KeyType::P256, "web").unwrap();
    let directory = running.stop();
    let state = directory.path().join("state");
    let path = files(&state, "partition-1").pop().unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    // Back to the checkpoint before: what is left is sound by itself.
    let lines: Vec<_> = whole.lines().collect();
    let cut = lines.len() - 5;
    fs::write(&path, lines[..cut].join("\n") + "\n").unwrap();
    running = Running::start_in(directory);
    let node = read(&mut running.client(), 0);
    let alarms = of(&node, "alarm");
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].outcome, "audit_log_changed");
    let why = format!("entries {} to {} were there and are missing", cut + 1, lines.len());
    assert_eq!(alarms[0].details["why"], why);
    let state = running.state();
    drop(running.officer());
    let directory = running.stop();
    let missing =
        Fault::Missing { first: cut as u64 + 1, last: lines.len() as u64, found: lines.len() as u64 + 1 };
    assert_eq!(verified(&state, "partition-1", None).unwrap_err(), missing);
    // Only once.
    let running = Running::start_in(directory);
    assert_eq!(of(&read(&mut running.client(), 0), "alarm").len(), 1);
}

#[test]
fn an_entry_that_was_changed_is_found() {
    let running = Running::with_partition();
    let key = public_key(&mut running.client());
    let directory = running.stop();
    let state = directory.path().join("state");
    let path = files(&state, "partition-1").pop().unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replacen("\"user\":\"admin\"", "\"user\":\"other\"", 1)).unwrap();
    assert!(matches!(verified(&state, "partition-1", Some(&key)), Err(Fault::Chain(_))));
    fs::write(&path, &whole).unwrap();
    let (entries, summary) = verified(&state, "partition-1", Some(&key)).unwrap();
    assert_eq!(summary.unsigned, 0);
    assert_eq!(entries.last().unwrap().action, CHECKPOINT);
}

#[test]
fn half_a_line_is_taken_away_and_told_of() {
    let running = Running::with_partition();
    let directory = running.stop();
    let state = directory.path().join("state");
    let path = files(&state, "partition-1").pop().unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"v\":1,\"log\":\"part")).unwrap();
    let running = Running::start_in(directory);
    let entries = read(&mut running.officer(), TLS);
    assert_eq!(of(&entries, "audit_torn")[0].details["bytes"], "18");
    assert!(fs::read_to_string(&path).unwrap().starts_with(&whole));
    let state = running.state();
    let _directory = running.stop();
    verified(&state, "partition-1", None).unwrap();
}

#[test]
fn files_follow_each_other_and_the_old_ones_go() {
    let small = |config: &mut strongroom_hsm::Config| {
        config.audit.rotate_bytes = 4096;
        config.audit.keep_days = Some(1);
    };
    let running = Running::try_start_in(tempfile::tempdir().unwrap(), small).unwrap();
    running.client().make_partition("tls");
    let mut officer = running.officer();
    let mut fill = || {
        for _ in 0..20 {
            officer.call(Op::UnlockUser(UnlockUser { name: USER.into(), signature: vec![] })).unwrap();
        }
    };
    fill();
    let before = files(&running.state(), "partition-1");
    assert!(before.len() > 2);
    let (entries, summary) = verified(&running.state(), "partition-1", None).unwrap();
    assert_eq!(of(&entries, "audit_file").len(), before.len());
    assert!(summary.first == 1 && summary.checkpoints >= before.len() as u64 - 1);
    let two_days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 3600);
    fs::File::options().write(true).open(&before[0]).unwrap().set_modified(two_days_ago).unwrap();
    fill();
    assert!(!before[0].exists() && before[1].exists());
    let (entries, summary) = verified(&running.state(), "partition-1", None).unwrap();
    let name = before[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(of(&entries, "audit_file_deleted")[0].details["file"], name);
    assert!(summary.first > 1);
}
