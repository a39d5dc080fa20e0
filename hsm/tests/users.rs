//! The users of a partition and what is set for them; partitions that come, go, and are apart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use running::{Client, OFFICER, PASSWORD, Running, TLS, USER, WRONG, code, partition_info, user_info};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Both or none, and each is checked before anything is made.
#[test]
fn a_partition_comes_with_its_first_user() {
    let running = Running::start();
    let good = || CreatePartition {
        label: "tls".into(),
        officer: OFFICER.into(),
        password: PASSWORD.into(),
        user: USER.into(),
        user_password: PASSWORD.into(),
        user_uids: vec![70_001],
        ..CreatePartition::default()
    };
    let bad = [
        CreatePartition { user: "with blank".into(), ..good() },
        CreatePartition { user: OFFICER.into(), ..good() },
        CreatePartition { user_password: "short".into(), ..good() },
        CreatePartition { user_uids: vec![1; 65], ..good() },
        CreatePartition { label: String::new(), ..good() },
    ];
    let mut client = running.client();
    for create in bad {
        client.connection.call(0, Op::CreatePartition(create)).unwrap_err();
    }
    let text = format!("{:?}", good());
    assert!(!text.contains(PASSWORD), "{text}");
    client.connection.call(0, Op::CreatePartition(good())).unwrap();
    assert_eq!(partition_info(&mut client).number, TLS);
    running.user().generate(KeyType::P256, "key").unwrap();
    let user = user_info(&mut running.officer(), USER);
    assert!(user.uids == [70_001] && !user.must_change_password);
}

#[test]
fn the_policy_of_a_partition() {
    let mut running = Running::with_partition();
    let set = |max_attempts, keep_initial_passwords| {
        Op::SetPolicy(SetPolicy { max_attempts, keep_initial_passwords })
    };
    let mut officer = running.officer();
    assert_eq!(code(officer.call(set(Some(2), Some(true)))), ErrorCode::AttributeWrong);
    assert_eq!(code(officer.call(set(Some(101), None))), ErrorCode::AttributeWrong);
    let policy = |client: &mut Client| partition_info(client).policy.unwrap();
    let sums = AuditUses::Sums.into();
    let usual = PartitionPolicy { max_attempts: 10, keep_initial_passwords: false, audit_uses: sums };
    assert_eq!(policy(&mut officer), usual);
    officer.call(set(Some(3), None)).unwrap();
    officer.call(set(None, Some(true))).unwrap();
    drop(officer);
    running = running.restart();
    let mut officer = running.officer();
    let changed = PartitionPolicy { max_attempts: 3, keep_initial_passwords: true, ..usual };
    assert_eq!(policy(&mut officer), changed);
    // A service's password may be set once and for all then.
    officer.create_initial_user("service", Role::CryptoUser, PASSWORD).unwrap();
    let reply = running.client().login(Role::CryptoUser, "service", PASSWORD).unwrap();
    assert!(!reply.must_change_password);

    let pins = |client: &mut Client| {
        let info = partition_info(client);
        (info.user_pin.unwrap(), info.officer_pin.unwrap())
    };
    officer.call(Op::DeleteUser(DeleteUser { name: "service".into() })).unwrap();
    assert_eq!(pins(&mut officer), (PinState::default(), PinState::default()));
    let mut client = running.client();
    let mut states = Vec::new();
    for _ in 0..3 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
        states.push(pins(&mut client).0);
    }
    let low = PinState { count_low: true, ..PinState::default() };
    let last = PinState { final_try: true, ..low };
    assert_eq!(states, [low, last, PinState { locked: true, ..last }]);
    assert_eq!(code(client.login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    // More attempts are given at once.
    officer.call(set(Some(4), None)).unwrap();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
}

#[test]
fn the_owner_unlocks_the_only_officer() {
    let running = Running::with_partition();
    let mut client = running.client();
    for _ in 0..10 {
        let _ = client.login(Role::CryptoOfficer, OFFICER, WRONG);
    }
    assert_eq!(code(client.login(Role::CryptoOfficer, OFFICER, PASSWORD)), ErrorCode::UserLocked);
    client.call(Op::UnlockUser(UnlockUser { name: OFFICER.into(), signature: vec![] })).unwrap();
    running.officer();
}

#[test]
fn an_admitted_user_id_acts_without_a_password() {
    let mut running = Running::with_partition();
    let uid = rustix::process::geteuid().as_raw();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let admit = |name: &str, withdraw| Op::AdmitUid(AdmitUid { name: name.into(), uid, withdraw });
    let mut officer = running.officer();
    assert_eq!(partition_info(&mut running.client()).acting_as, "");
    officer.call(admit(USER, false)).unwrap();
    officer.call(admit(OFFICER, false)).unwrap();
    officer.create_user("second", Role::CryptoUser, "").unwrap();
    assert_eq!(code(officer.call(admit("second", false))), ErrorCode::Exists, "one user of each role");
    drop(officer);
    running = running.restart();

    // Both roles' rights together; keys are used as the crypto user.
    let mut client = running.client();
    let info = partition_info(&mut client);
    assert_eq!((info.acting_as.as_str(), info.acting_role()), (USER, Role::CryptoUser));
    client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    client.call(Op::ListUsers(ListUsers {})).unwrap();
    // An explicit log-in replaces that, a log-out brings it back.
    client.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    assert_eq!(code(client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NotPermitted);
    client.call(Op::Logout(Logout {})).unwrap();
    client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    // Withdrawing works on open connections.
    running.officer().call(admit(USER, true)).unwrap();
    running.officer().call(admit(OFFICER, true)).unwrap();
    assert_eq!(code(client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NotLoggedIn);
}

#[test]
fn partitions_are_apart() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let mut other = running.client();
    other.make_partition("other");
    assert_eq!(other.partition, TLS + 1);
    other.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    assert_eq!(code(other.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NoSuchObject);
    other.partition = TLS;
    assert_eq!(code(other.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NotLoggedIn);
    other.partition = 7;
    assert_eq!(code(other.find(FindObjects::default())), ErrorCode::NoSuchPartition);
}

#[test]
fn a_deleted_partition_is_gone_and_its_number_is_not_used_again() {
    let mut running = Running::with_partition();
    running.user().generate(KeyType::P256, "key").unwrap();
    let mut officer = running.officer();
    let delete = |label: &str| Op::DeletePartition(DeletePartition { label: label.into() });
    assert_eq!(code(officer.call(delete("tsl"))), ErrorCode::AttributeWrong);
    officer.call(delete("tls")).unwrap();
    assert_eq!(code(officer.find(FindObjects::default())), ErrorCode::NoSuchPartition);
    running.client().make_partition("tls");
    drop(officer);
    running = running.restart();
    let mut client = running.client();
    client.partition = TLS + 1;
    assert_eq!(partition_info(&mut client).objects, 0);
    let duplicate = CreatePartition {
        label: "tls".into(),
        officer: "x".into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    assert_eq!(code(client.call(Op::CreatePartition(duplicate))), ErrorCode::Exists);
}

#[test]
fn the_last_officer_stays() {
    let running = Running::with_partition();
    let mut officer = running.officer();
    let delete = || Op::DeleteUser(DeleteUser { name: OFFICER.into() });
    assert_eq!(code(officer.call(delete())), ErrorCode::NotPermitted);
    // An officer as whom nobody can act is none.
    officer.create_user("admin2", Role::CryptoOfficer, "").unwrap();
    assert_eq!(code(officer.call(delete())), ErrorCode::NotPermitted);
    let admit = |uid, withdraw| Op::AdmitUid(AdmitUid { name: "admin2".into(), uid, withdraw });
    officer.call(admit(70_001, false)).unwrap();
    officer.call(admit(70_002, false)).unwrap();
    let mut other = running.officer();
    officer.call(delete()).unwrap();
    assert_eq!(code(other.call(Op::ListUsers(ListUsers {}))), ErrorCode::NotLoggedIn);
}

#[test]
fn the_last_officer_keeps_a_user_id() {
    let running = Running::with_partition();
    let uid = rustix::process::geteuid().as_raw();
    let mut client = running.officer();
    client.create_user("admin2", Role::CryptoOfficer, "").unwrap();
    let admit = |uid, withdraw| Op::AdmitUid(AdmitUid { name: "admin2".into(), uid, withdraw });
    client.call(admit(uid, false)).unwrap();
    client.call(admit(uid + 1, false)).unwrap();
    client.call(Op::DeleteUser(DeleteUser { name: OFFICER.into() })).unwrap();
    client.call(admit(uid + 1, true)).unwrap();
    assert_eq!(code(client.call(admit(uid, true))), ErrorCode::NotPermitted);
    client.call(Op::ListUsers(ListUsers {})).unwrap();
}
