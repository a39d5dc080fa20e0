//! The audit log's disk is full: what that refuses, what goes on, and that nothing is missing afterwards.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod faults;
mod running;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use faults::Fault;
use running::*;
use strongroom_audit::{Entry, Verifier};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// The entries of a log, from its files.
fn verified(directory: &Path, log: &str) -> Vec<Vec<Entry>> {
    let mut verifier = Verifier::new(None);
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with(log));
    files.sort();
    let lines = |file: &std::path::PathBuf| std::fs::read_to_string(file).unwrap();
    let entries = files.iter().map(|file| {
        let (name, text) = (file.file_stem().unwrap().to_str().unwrap().to_owned(), lines(file));
        let entries: Vec<_> = text.lines().map(|line| verifier.line(line.as_bytes()).unwrap()).collect();
        assert_eq!(name.rsplit_once('-').unwrap().1.parse::<u64>().unwrap(), entries[0].seq, "{name}");
        entries
    });
    // Its last entries may not be signed yet.
    entries.collect()
}

/// What a disk did not take is not trusted to be in that file: the log goes on in another one, with what was last written there.
#[test]
fn a_log_goes_on_in_another_file_when_the_disk_did_not_take_it() {
    let directory = tempfile::tempdir().unwrap();
    let (process, fault) = Fault::start(directory.path());
    process.client().make_partition("tls");
    let mut client = officer(&process);
    assert_eq!(code(client.call(no_change())), ErrorCode::NoSuchUser);
    let log = directory.path().join("state/audit");
    assert_eq!(verified(&log, "partition-1-").len(), 1);
    fault.set("sync 5 audit");
    for _ in 0..3 {
        assert_eq!(code(client.call(no_change())), ErrorCode::AuditUnavailable);
    }
    // What is counted is kept in memory meanwhile.
    let mut user = process.client();
    user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    fault.clear();
    let until = Instant::now() + Duration::from_secs(60);
    while code(client.call(no_change())) != ErrorCode::NoSuchUser {
        assert!(Instant::now() < until, "the log is not written");
        std::thread::sleep(Duration::from_millis(50));
    }
    let request = ReadAudit { checkpoint: true, ..ReadAudit::default() };
    client.call(Op::ReadAudit(request)).unwrap();
    let files = verified(&log, "partition-1-");
    assert_eq!(files.len(), 2, "no file is left empty, and no file is gone on with");
    let of = |file: &[Entry], action: &str| file.iter().filter(|entry| entry.action == action).count();
    assert_eq!(of(&files[1], "audit_file"), 1);
    assert!(files[1].iter().any(|entry| entry.action == "login" && entry.user == USER));
    assert_eq!(files.iter().map(|file| of(file, "audit_gap")).sum::<usize>(), 0);
}

/// A file system of the log's own, of a megabyte; unmounted on drop. Who may not mount has a limit on the size of files instead.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "strongroom-test"]).arg(directory.path());
        assert!(mount.status().unwrap().success());
        Some(Disk(directory))
    }

    fn grow(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,size=64m"]).arg(self.0.path());
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn start(directory: &Path, log: &Path, is_limited: bool) -> Process {
    let mut command = Process::command(directory);
    if is_limited {
        command = Command::new("sh");
        let script = "trap '' XFSZ; ulimit -f 4096; exec \"$@\"";
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_strongroomd"), "--state-dir"]);
        command.arg(directory.join("state")).arg("--socket").arg(directory.join("socket"));
    }
    command.arg("--audit-dir").arg(log);
    Process::spawn(command, directory)
}

fn officer(process: &Process) -> Client {
    let mut officer = process.client();
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    officer
}

fn is_healthy(process: &Process) -> bool {
    match process.client().connection.call(0, Op::DescribeAudit(DescribeAudit {})).unwrap() {
        response::Result::AuditDescription(said) => said.healthy,
        other => panic!("{other:?}"),
    }
}

/// A change that is noted and changes nothing in the store.
fn no_change() -> Op {
    Op::DeleteUser(DeleteUser { name: "n".repeat(60) })
}

#[test]
fn what_cannot_be_noted_is_not_changed_and_signatures_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::mount();
    let elsewhere = directory.path().join("log");
    let log = disk.as_ref().map_or(elsewhere.as_path(), |disk| disk.0.path());
    let mut process = start(directory.path(), log, disk.is_none());
    process.client().make_partition("tls");
    let mut user = process.client();
    user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    let mut client = officer(&process);
    let mut noted = 0;
    let refused = loop {
        let error = client.call(no_change()).unwrap_err();
        if error.code() != Some(ErrorCode::NoSuchUser) {
            break error;
        }
        noted += 1;
        assert!(noted < 20_000, "the disk does not fill up");
    };
    assert_eq!(refused.code(), Some(ErrorCode::AuditUnavailable));
    let text = refused.to_string();
    assert!(text.contains(log.to_str().unwrap()) && text.contains("nothing was changed"), "{text}");
    // No change, whoever asks for it, and nothing of it in the store.
    let objects = user.find(FindObjects::default()).unwrap();
    assert_eq!(code(user.generate(KeyType::P256, "other")), ErrorCode::AuditUnavailable);
    assert_eq!(user.find(FindObjects::default()).unwrap(), objects);
    assert!(!is_healthy(&process));
    // Signatures go on, and log-ins.
    let mut other = process.client();
    other.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    for _ in 0..25 {
        other.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
        user.sign(&pair[0], Mechanism::Ecdsa, None, &[2; 32]).unwrap();
    }
    match &disk {
        Some(disk) => disk.grow(),
        // What was kept in memory is lost with the process: the limit is one of its life.
        None => {
            process.kill();
            process = start(directory.path(), log, false);
        }
    }
    let mut client = officer(&process);
    let until = Instant::now() + Duration::from_secs(60);
    while code(client.call(no_change())) != ErrorCode::NoSuchUser {
        assert!(Instant::now() < until, "there is room, and the log is not written");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(is_healthy(&process));
    // Nothing is missing.
    let (mut verifier, mut entries) = (Verifier::new(None), Vec::new());
    let mut request = ReadAudit { checkpoint: true, ..ReadAudit::default() };
    loop {
        let response::Result::AuditPage(page) = client.call(Op::ReadAudit(request)).unwrap() else {
            panic!()
        };
        entries.extend(page.lines.iter().map(|line| verifier.line(line.as_bytes()).unwrap()));
        if !page.more {
            break;
        }
        request = ReadAudit { cursor: page.cursor, ..ReadAudit::default() };
    }
    verifier.finish().unwrap();
    let of = |action: &'static str| entries.iter().filter(move |entry: &&Entry| entry.action == action);
    if disk.is_some() {
        let signed = of("sign").filter(|entry| entry.outcome == "success").map(|entry| entry.count.unwrap());
        assert_eq!(signed.sum::<u64>(), 50);
        assert!(of("login").any(|entry| entry.user == USER && entry.time > entries[entries.len() / 2].time));
        assert_eq!(of("audit_gap").count(), 0);
    }
    // What was refused was not begun; what was begun has its outcome.
    let count = |outcome: &str| of("delete_user").filter(|entry| entry.outcome == outcome).count();
    assert_eq!(count("begun"), count("no_such_user"));
    assert_eq!(of("generate_key_pair").filter(|entry| entry.outcome == "begun").count(), 1);
}
