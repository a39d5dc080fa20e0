//! A hundred partitions in a daemon, with the same names in each: none knows, reaches, limits or stops another.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::collections::HashSet;

use running::*;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

const PARTITIONS: u32 = 100;

/// Each partition's users have other passwords.
fn password(partition: u32) -> String {
    format!("{PASSWORD} {partition}")
}

fn label(partition: u32) -> String {
    format!("tenant {partition}")
}

fn make(client: &mut Client, number: u32) -> Result<response::Result, ErrorCode> {
    let request = CreatePartition {
        label: label(number),
        officer: OFFICER.into(),
        password: password(number),
        user: USER.into(),
        user_password: password(number),
        ..CreatePartition::default()
    };
    client.connection.call(0, Op::CreatePartition(request)).map_err(|error| error.code().unwrap())
}

fn login(running: &Running, partition: u32, role: Role) -> Client {
    let mut client = running.client();
    client.partition = partition;
    let user = if role == Role::CryptoUser { USER } else { OFFICER };
    client.login(role, user, &password(partition)).unwrap();
    client
}

fn partitions(running: &Running) -> Vec<PartitionInfo> {
    match running.client().connection.call(0, Op::ListPartitions(ListPartitions {})).unwrap() {
        response::Result::Partitions(list) => list.partitions,
        other => panic!("{other:?}"),
    }
}

/// The partitions that an audit log's lines are about.
fn audited(client: &mut Client) -> HashSet<String> {
    let mut request = ReadAudit::default();
    let mut found = HashSet::new();
    loop {
        let response::Result::AuditPage(page) = client.call(Op::ReadAudit(request)).unwrap() else {
            panic!()
        };
        for line in &page.lines {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            found.extend(entry["partition"].as_str().map(str::to_owned));
        }
        if !page.more {
            return found;
        }
        request = ReadAudit { cursor: page.cursor, ..ReadAudit::default() };
    }
}

#[test]
fn a_hundred_partitions_know_nothing_of_each_other() {
    let running = Running::start();
    let mut owner = running.client();
    for number in 1..=PARTITIONS {
        make(&mut owner, number).unwrap();
    }
    assert_eq!(make(&mut owner, PARTITIONS + 1).unwrap_err(), ErrorCode::Limit);
    let labels: Vec<String> = partitions(&running).into_iter().map(|info| info.label).collect();
    assert_eq!(labels, (1..=PARTITIONS).map(label).collect::<Vec<_>>());

    // The same user, label and id in each; the key is another one.
    let template = KeyTemplate { label: "web".into(), id: vec![1], ..KeyTemplate::default() };
    let mut users: Vec<Client> =
        (1..=PARTITIONS).map(|number| login(&running, number, Role::CryptoUser)).collect();
    let keys: Vec<ObjectInfo> = users
        .iter_mut()
        .map(|user| {
            let request = GenerateKeyPair {
                key_type: KeyType::P256.into(),
                private_key: Some(template.clone()),
                public_key: Some(template.clone()),
            };
            user.objects(Op::GenerateKeyPair(request)).unwrap().swap_remove(0)
        })
        .collect();
    for (at, user) in users.iter_mut().enumerate() {
        let next = (at + 1) % keys.len();
        // Of all it sees its own.
        let found = user.find(FindObjects::default()).unwrap();
        let own: HashSet<_> = found.iter().map(|object| &object.public_key).collect();
        assert_eq!((found.len(), own), (2, HashSet::from([&keys[at].public_key])));
        user.sign(&keys[at], Mechanism::Ecdsa, None, &[7; 32]).unwrap();
        let by_object = FindObjects { object: keys[next].object.clone(), ..FindObjects::default() };
        assert!(user.find(by_object).unwrap().is_empty());
        // Another's key is none in its own partition, and in the other it is nobody.
        let sign = |client: &mut Client| code(client.sign(&keys[next], Mechanism::Ecdsa, None, &[7; 32]));
        assert_eq!(sign(user), ErrorCode::NoSuchObject);
        let own = std::mem::replace(&mut user.partition, next as u32 + 1);
        assert_eq!(sign(user), ErrorCode::NotLoggedIn);
        let nobody = [
            Op::ListUsers(ListUsers {}),
            Op::ReadAudit(ReadAudit::default()),
            Op::GenerateKeyPair(GenerateKeyPair::default()),
            Op::DestroyObject(DestroyObject { object: keys[next].object.clone() }),
            Op::DeletePartition(DeletePartition { label: label(next as u32 + 1) }),
        ];
        for op in nobody {
            assert_eq!(code(user.call(op.clone())), ErrorCode::NotLoggedIn, "{op:?}");
        }
        // The owner of the machine, as whom the test runs, sees what is public.
        let found = user.find(FindObjects::default()).unwrap();
        assert!(found.iter().all(|object| !object.private), "{found:?}");
        user.partition = own;
    }
    let signed = users[0].sign(&keys[0], Mechanism::Ecdsa, None, &[7; 32]).unwrap();
    drop(users);

    // A password, and what a log-in gives, is good in its own partition only.
    let mut stranger = running.client();
    stranger.partition = 2;
    assert_eq!(code(stranger.login(Role::CryptoUser, USER, &password(1))), ErrorCode::PasswordWrong);
    let ticket = stranger.login(Role::CryptoUser, USER, &password(2)).unwrap().ticket;
    stranger.partition = 3;
    let by_ticket = Login { role: Role::CryptoUser.into(), ticket, ..Login::default() };
    assert!(stranger.call(Op::Login(by_ticket.clone())).is_err());
    stranger.partition = 2;
    stranger.call(Op::Login(by_ticket)).unwrap();

    // A user who is locked, a quota and a policy are one partition's.
    let mut guesser = running.client();
    guesser.partition = 4;
    let mut officer = login(&running, 4, Role::CryptoOfficer);
    let policy = SetPolicy { max_attempts: Some(3), ..SetPolicy::default() };
    officer.call(Op::SetPolicy(policy)).unwrap();
    let guesses = (0..4).map(|_| code(guesser.login(Role::CryptoUser, USER, WRONG)));
    assert_eq!(guesses.last(), Some(ErrorCode::UserLocked));
    let mut user = login(&running, 5, Role::CryptoUser);
    owner.partition = 6;
    let none = SetQuota { keys: Some(1), operations_per_second: Some(1), ..SetQuota::default() };
    owner.call(Op::SetQuota(none)).unwrap();
    let mut limited = login(&running, 6, Role::CryptoUser);
    assert_eq!(code(limited.generate(KeyType::P256, "more")), ErrorCode::Quota);
    let mut throttled = 0;
    // More in a second than any processor could be too slow for: the quota is used up by the first.
    while throttled == 0 {
        throttled += usize::from(limited.sign(&keys[5], Mechanism::Ecdsa, None, &[7; 32]).is_err());
    }
    for _ in 0..20 {
        user.sign(&keys[4], Mechanism::Ecdsa, None, &[7; 32]).unwrap();
    }
    user.generate(KeyType::P256, "more").unwrap();

    // What an officer reads of the audit log is of the own partition.
    let mut officer = login(&running, 7, Role::CryptoOfficer);
    assert_eq!(audited(&mut officer), HashSet::from([label(7)]));
    officer.partition = 8;
    assert_eq!(code(officer.call(Op::ReadAudit(ReadAudit::default()))), ErrorCode::NotLoggedIn);

    // One goes; the others stay, over a restart too.
    let mut officer = login(&running, 1, Role::CryptoOfficer);
    officer.call(Op::DeletePartition(DeletePartition { label: label(1) })).unwrap();
    let running = running.restart();
    assert_eq!(partitions(&running).len(), PARTITIONS as usize - 1);
    let mut user = login(&running, 100, Role::CryptoUser);
    let again = user.sign(&keys[99], Mechanism::Ecdsa, None, &[7; 32]).unwrap();
    assert!(again != signed);
    assert_eq!(code(user.sign(&keys[0], Mechanism::Ecdsa, None, &[7; 32])), ErrorCode::NoSuchObject);
    make(&mut running.client(), PARTITIONS + 1).unwrap();
}
