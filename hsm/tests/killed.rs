//! `kill -9` while keys are made and deleted and a backup is read: nothing that was acknowledged is lost, and what was
//! not is there whole or not at all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use running::{Client, OFFICER, PASSWORD, Process, USER};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// A whole backup: its head, and what follows. `None`: the daemon was killed.
fn backup(client: &mut Client) -> Option<(Vec<u8>, Vec<u8>)> {
    let Ok(response::Result::BackupBegun(begun)) = client.call(Op::BeginBackup(BeginBackup::default()))
    else {
        return None;
    };
    let mut rest = Vec::new();
    loop {
        let Ok(response::Result::BackupChunk(chunk)) = client.call(Op::ReadBackup(ReadBackup {})) else {
            return None;
        };
        rest.extend(chunk.data);
        if chunk.last {
            return Some((begun.head, rest));
        }
    }
}

/// All objects: how many halves each key has.
fn halves(client: &mut Client) -> BTreeMap<String, usize> {
    let (mut halves, mut after) = (BTreeMap::new(), Vec::new());
    loop {
        let page = client.find(FindObjects { after, ..FindObjects::default() }).unwrap();
        let Some(last) = page.last() else { return halves };
        after = last.object.clone();
        page.iter().for_each(|object| *halves.entry(object.label.clone()).or_default() += 1);
    }
}

/// Starts the daemon and kills it, so many times.
fn killed(rounds: u64) {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let mut officer = process.client();
    officer.make_partition("tls");
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    // So that no round spends its time on a log-in.
    let uid = rustix::process::geteuid().as_raw();
    for name in [OFFICER, USER] {
        officer.call(Op::AdmitUid(AdmitUid { name: name.into(), uid, withdraw: false })).unwrap();
    }
    process.kill();
    let (mut there, mut gone): (BTreeMap<String, Vec<ObjectInfo>>, BTreeSet<String>) = Default::default();
    let (mut number, mut backups) = (0, 0);
    for round in 0..rounds {
        let process = Process::start(directory.path());
        let id = rustix::process::Pid::from_raw(process.child.id() as i32).unwrap();
        let killer = std::thread::spawn(move || {
            // At any moment of what follows, another one each round.
            let wait =
                round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 48;
            std::thread::sleep(Duration::from_micros(2_000 + wait));
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        });
        // Where the daemon was killed early, the client does not come in at all.
        let socket = process.socket.clone();
        let reader =
            std::thread::spawn(move || Client::open(&socket).ok().and_then(|mut client| backup(&mut client)));
        if let Ok(mut client) = Client::open(&process.socket) {
            // Errors are the kill.
            loop {
                number += 1;
                let label = format!("key {number}");
                let Ok(made) = client.generate(KeyType::P256, &label) else { break };
                there.insert(label, made);
                if number % 3 == 0 || there.len() > 30 {
                    let (label, made) = there.pop_first().unwrap();
                    let destroy = |object: &ObjectInfo| {
                        Op::DestroyObject(DestroyObject { object: object.object.clone() })
                    };
                    // In doubt both: it may or may not be gone.
                    if made.iter().any(|object| client.call(destroy(object)).is_err()) {
                        break;
                    }
                    gone.insert(label);
                }
            }
        }
        let made = reader.join().unwrap();
        killer.join().unwrap();
        drop(process);
        check(directory.path(), &there, &gone, made.as_ref());
        backups += usize::from(made.is_some());
    }
    assert!(there.len() + gone.len() >= rounds as usize / 4, "{} keys: the test was too slow", there.len());
    assert!(backups > 0, "no backup was read to its end");
}

fn check(
    directory: &Path,
    there: &BTreeMap<String, Vec<ObjectInfo>>,
    gone: &BTreeSet<String>,
    made: Option<&(Vec<u8>, Vec<u8>)>,
) {
    let process = Process::start(directory);
    let mut client = process.client();
    let found = halves(&mut client);
    for (label, made) in there {
        assert_eq!(found.get(label), Some(&2), "{label} was acknowledged");
        client.sign(&made[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    }
    assert!(gone.iter().all(|label| !found.contains_key(label)), "a deletion was acknowledged");
    if let Some((head, rest)) = made {
        // What was read to its end can be restored by the daemon that came after.
        client.partition = 0;
        let begin = BeginRestore { head: head.clone(), only_verify: true, ..BeginRestore::default() };
        client.call(Op::BeginRestore(begin)).unwrap();
        for piece in rest.chunks(256 * 1024) {
            client.call(Op::RestoreChunk(RestoreChunk { data: piece.to_vec() })).unwrap();
        }
        client.call(Op::FinishRestore(FinishRestore {})).unwrap();
    }
    process.kill();
}

#[test]
fn nothing_acknowledged_is_lost_at_20_moments() {
    killed(20);
}

#[test]
#[ignore = "takes minutes: 1,000 starts"]
fn nothing_acknowledged_is_lost_at_1000_moments() {
    killed(1_000);
}
