//! A disk that is full, cannot be written, or loses what it was given: changes are refused with what to do, signatures go
//! on, and when the disk is well again, so is the daemon, without a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

mod faults;
mod running;

use std::process::Command;
use std::time::{Duration, Instant};

use faults::Fault;
use running::{Client, OFFICER, PASSWORD, Process, USER, code};
use strongroom_protocol::client::{ClientError, Connection};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn logged_in(process: &Process) -> Client {
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    client
}

fn officer(process: &Process) -> Client {
    let mut client = process.client();
    client.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    client
}

fn objects(client: &mut Client) -> u64 {
    let response::Result::Status(status) = client.call(Op::Status(Status {})).unwrap() else { panic!() };
    status.objects
}

fn sign(client: &mut Client, key: &ObjectInfo) {
    client.sign(key, Mechanism::Ecdsa, None, &[1; 32]).unwrap();
}

/// The refusal of a change: it says which file, and what to do.
fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("free space") && text.contains("/state"), "{text}");
    error.code().unwrap()
}

/// All of a backup: its head, and the rest.
fn backup(client: &mut Client) -> Result<(Vec<u8>, Vec<u8>), ClientError> {
    let response::Result::BackupBegun(begun) = client.call(Op::BeginBackup(BeginBackup::default()))? else {
        panic!()
    };
    let mut rest = Vec::new();
    loop {
        let response::Result::BackupChunk(chunk) = client.call(Op::ReadBackup(ReadBackup {}))? else {
            panic!()
        };
        rest.extend(chunk.data);
        if chunk.last {
            return Ok((begun.head, rest));
        }
    }
}

fn restore(client: &mut Client, (head, rest): &(Vec<u8>, Vec<u8>), label: &str) -> Result<(), ClientError> {
    client.partition = 0;
    let begin = BeginRestore { head: head.clone(), label: label.into(), ..BeginRestore::default() };
    client.call(Op::BeginRestore(begin))?;
    client.call(Op::RestoreChunk(RestoreChunk { data: rest.clone() }))?;
    client.call(Op::FinishRestore(FinishRestore {})).map(drop)
}

fn partitions(client: &mut Client) -> Vec<String> {
    let response::Result::Partitions(list) = client.call(Op::ListPartitions(ListPartitions {})).unwrap()
    else {
        panic!()
    };
    assert!(list.partitions.iter().all(|partition| partition.damaged.is_empty()), "{list:?}");
    list.partitions.into_iter().map(|partition| partition.label).collect()
}

/// A daemon whose disk fails in this way, for a while.
fn fails_for_a_while(what: &str, expected: ErrorCode) {
    let directory = tempfile::tempdir().unwrap();
    let (process, fault) = Fault::start(directory.path());
    process.client().make_partition("tls");
    let (mut user, mut chief) = (logged_in(&process), officer(&process));
    let ticket = logged_in(&process).login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    let key = user.generate(KeyType::P256, "before").unwrap();
    let doomed = user.generate(KeyType::P256, "doomed").unwrap();
    let before = backup(&mut chief).unwrap();
    let count = objects(&mut user);
    let mut reading = officer(&process);
    reading.call(Op::BeginBackup(BeginBackup::default())).unwrap();

    fault.set(what);
    if expected == ErrorCode::Store {
        // The audit log can be written, so a backup can be made: now of all times.
        backup(&mut chief).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(refused(user.generate(KeyType::P256, "refused")), expected, "{what}");
        let delete = DeleteKey { objects: vec![doomed[0].object.clone(), doomed[1].object.clone()] };
        assert_eq!(refused(user.call(Op::DeleteKey(delete))), expected, "{what}");
        let create = CreateUser { name: "refused".into(), role: 2, ..CreateUser::default() };
        assert_eq!(refused(chief.call(Op::CreateUser(create))), expected, "{what}");
        assert_eq!(refused(restore(&mut process.client(), &before, "refused")), expected, "{what}");
        sign(&mut user, &key[0]);
    }
    // Who comes now signs as well.
    let mut other = process.client();
    let login = Login { role: Role::CryptoUser.into(), ticket, ..Login::default() };
    other.call(Op::Login(login)).unwrap();
    sign(&mut other, &key[0]);
    assert_eq!((objects(&mut user), partitions(&mut user)), (count, vec!["tls".to_owned()]));
    let end = loop {
        match reading.call(Op::ReadBackup(ReadBackup {})) {
            Ok(response::Result::BackupChunk(chunk)) if !chunk.last => {}
            end => break end,
        }
    };
    match end {
        Ok(_) => assert_eq!(expected, ErrorCode::AuditUnavailable),
        Err(error) => assert!(error.to_string().contains("begin the backup again"), "{error}"),
    }

    fault.clear();
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = user.generate(KeyType::P256, "after") {
        // The audit log is tried again by itself.
        assert!(expected == ErrorCode::AuditUnavailable && Instant::now() < until, "{what}: {error}");
    }
    let whole = backup(&mut chief).unwrap();
    restore(&mut process.client(), &whole, "copy").unwrap();
    restore(&mut process.client(), &before, "copy of before").unwrap();
    process.client().call(Op::CheckStore(CheckStore {})).unwrap();
    let left = objects(&mut user);
    process.kill();
    let process = Process::start(directory.path());
    let mut user = logged_in(&process);
    assert_eq!(objects(&mut user), left);
    assert_eq!(partitions(&mut user), ["tls", "copy", "copy of before"]);
    let found = user.find(FindObjects::default()).unwrap();
    let labels: Vec<_> = found.iter().map(|object| object.label.as_str()).collect();
    assert_eq!(labels, ["before", "before", "doomed", "doomed", "after", "after"]);
    sign(&mut user, &key[0]);
}

#[test]
fn a_store_without_room() {
    fails_for_a_while("write 28 store.redb", ErrorCode::Store);
}

#[test]
fn a_read_only_store() {
    fails_for_a_while("write 30 store.redb", ErrorCode::Store);
}

#[test]
fn a_store_whose_fsync_fails() {
    fails_for_a_while("sync 5 store.redb", ErrorCode::Store);
}

#[test]
fn an_audit_log_without_room() {
    fails_for_a_while("write 28 audit", ErrorCode::AuditUnavailable);
}

#[test]
fn an_audit_log_whose_fsync_fails() {
    fails_for_a_while("sync 5 audit", ErrorCode::AuditUnavailable);
}

#[test]
fn without_descriptors_those_who_are_there_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_strongroomd")]);
    command.arg("--state-dir").arg(directory.path().join("state"));
    command.arg("--socket").arg(directory.path().join("socket"));
    command.env_remove("CREDENTIALS_DIRECTORY");
    let process = Process::spawn(command, directory.path());
    process.client().make_partition("tls");
    let (mut user, mut chief) = (logged_in(&process), officer(&process));
    let key = user.generate(KeyType::P256, "key").unwrap();
    let mut crowd = Vec::new();
    let told = loop {
        match std::os::unix::net::UnixStream::connect(&process.socket) {
            Ok(stream) => crowd.push(stream),
            Err(error) => break error.to_string(),
        }
        if crowd.len() == 200 {
            break String::new();
        }
    };
    assert!(crowd.len() > 64, "{told}");
    sign(&mut user, &key[0]);
    user.generate(KeyType::P256, "another").unwrap();
    backup(&mut chief).unwrap();
    drop(crowd);
    let until = Instant::now() + Duration::from_secs(60);
    while Connection::open(&process.socket, "test", Default::default()).is_err() {
        assert!(Instant::now() < until, "nobody comes in any more");
    }
    assert_eq!(code(user.generate(KeyType::Unspecified, "")), ErrorCode::Unsupported);
}
