//! Backups and restores that are at work when something else happens.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::time::Duration;

use running::{Client, Running, code};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn begin_backup(client: &mut Client) -> Result<Vec<u8>, ErrorCode> {
    match client.call(Op::BeginBackup(BeginBackup::default())) {
        Ok(response::Result::BackupBegun(begun)) => Ok(begun.head),
        other => Err(code(other)),
    }
}

fn next(client: &mut Client) -> (Vec<u8>, bool) {
    match client.call(Op::ReadBackup(ReadBackup {})).unwrap() {
        response::Result::BackupChunk(chunk) => (chunk.data, chunk.last),
        other => panic!("{other:?}"),
    }
}

fn verify(client: &mut Client, head: &[u8]) {
    let begin = BeginRestore { head: head.to_vec(), only_verify: true, ..BeginRestore::default() };
    client.connection.call(0, Op::BeginRestore(begin)).unwrap();
}

fn push(client: &mut Client, data: &[u8]) -> Result<(), ErrorCode> {
    let chunk = RestoreChunk { data: data.to_vec() };
    client.connection.call(0, Op::RestoreChunk(chunk)).map(drop).map_err(|error| error.code().unwrap())
}

#[test]
fn what_is_at_work_ends_when_the_node_is_sealed() {
    let running = Running::with_partition();
    let (mut backs_up, mut restores) = (running.officer(), running.client());
    let head = begin_backup(&mut backs_up).unwrap();
    let (first, last) = next(&mut backs_up);
    assert!(!last);
    verify(&mut restores, &head);
    // The node's key and the file's were there for both.
    let mut owner = running.client();
    owner.connection.call(0, Op::Seal(Seal {})).unwrap();
    owner.connection.call(0, Op::Unseal(Unseal::default())).unwrap();
    assert_eq!(push(&mut restores, &first), Err(ErrorCode::Malformed));
    backs_up.login(Role::CryptoOfficer, running::OFFICER, running::PASSWORD).unwrap();
    assert_eq!(code(backs_up.call(Op::ReadBackup(ReadBackup {}))), ErrorCode::Malformed);
    // And is begun again.
    verify(&mut restores, &head);
    push(&mut restores, &first).unwrap();
}

#[test]
fn one_partition_does_not_take_the_places_of_another() {
    let running = Running::with_partition();
    running.client().make_partition("mail");
    let begin = |partition: u32| {
        let mut client = running.client();
        client.partition = partition;
        client.login(Role::CryptoOfficer, running::OFFICER, running::PASSWORD).unwrap();
        (begin_backup(&mut client), client)
    };
    let mut held: Vec<_> = (0..3).map(|_| begin(1)).collect();
    let outcomes: Vec<_> = held.iter().map(|(begun, _)| begun.as_ref().err().copied()).collect();
    assert_eq!(outcomes, [None, None, Some(ErrorCode::Limit)]);
    let head = begin(2).0.unwrap();
    verify(&mut running.client(), &head);
    // One that begins again on its connection has its own place.
    begin_backup(&mut held[0].1).unwrap();
}

#[test]
fn the_store_is_looked_at_although_one_backup_follows_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let running =
        Running::try_start_in(directory, |config| config.store_check = Duration::from_millis(20)).unwrap();
    running.client().make_partition("tls");
    // Two take turns, so that there is always one: until one of them is told to wait for the look.
    let mut takers = [running.officer(), running.officer()];
    begin_backup(&mut takers[0]).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(60);
    let mut turn = 1;
    while begin_backup(&mut takers[turn]).is_ok() {
        turn = 1 - turn;
        assert!(std::time::Instant::now() < end, "nobody waits");
    }
}

/// Whoever may no longer when it comes to it does not bring a key back.
#[test]
fn a_user_who_is_deleted_meanwhile_brings_no_key_back() {
    let running = Running::with_partition();
    let (mut officer, mut user) = (running.officer(), running.user());
    let pair = user.generate(KeyType::P256, "web").unwrap();
    let begin = Op::BeginBackup(BeginBackup { key: "web".into() });
    let response::Result::BackupBegun(begun) = officer.call(begin).unwrap() else { panic!() };
    let mut file = Vec::new();
    while !file.last().is_some_and(|(_, last)| *last) {
        file.push(next(&mut officer));
    }
    let objects: Vec<_> = pair.iter().map(|half| half.object.clone()).collect();
    user.call(Op::DeleteKey(DeleteKey { objects: objects.clone() })).unwrap();
    officer.call(Op::PurgeKey(PurgeKey { objects })).unwrap();
    let restore = |client: &mut Client| {
        let begin = BeginRestore { head: begun.head.clone(), ..BeginRestore::default() };
        client.call(Op::BeginRestore(begin)).unwrap();
        file.iter().for_each(|(data, _)| push(client, data).unwrap());
    };
    officer.create_user("leaving", Role::CryptoUser, running::PASSWORD).unwrap();
    let mut leaving = running.client();
    leaving.login(Role::CryptoUser, "leaving", running::PASSWORD).unwrap();
    restore(&mut leaving);
    officer.call(Op::DeleteUser(DeleteUser { name: "leaving".into() })).unwrap();
    assert_eq!(code(leaving.call(Op::FinishRestore(FinishRestore {}))), ErrorCode::NotLoggedIn);
    assert_eq!(user.find(FindObjects::default()).unwrap(), []);
    restore(&mut user);
    user.call(Op::FinishRestore(FinishRestore {})).unwrap();
    assert_eq!(user.find(FindObjects::default()).unwrap().len(), 2);
}
