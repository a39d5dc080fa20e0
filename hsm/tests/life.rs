//! Keys are deleted softly, recovered, and purged by hand and by time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod living;
mod running;

use std::time::Duration;

use living::*;
use running::{Running, code};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

#[test]
fn a_deleted_key_does_nothing_until_it_is_recovered() {
    let (mut running, hands) = with_clocks();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    signs(&mut user, &pair[0]).unwrap();
    let gone = delete(&mut user, &pair);
    assert_eq!(gone.len(), 2);
    assert_eq!((gone[0].deleted_at, gone[0].purge_at), (1_800_000_000, 1_800_000_000 + 90 * DAY));
    // Nobody finds it, it signs nothing, and its name is free.
    assert_eq!(user.find(FindObjects::default()).unwrap(), []);
    assert_eq!(signs(&mut user, &pair[0]), Err(ErrorCode::NoSuchObject));
    let by_identity = FindObjects { object: pair[0].object.clone(), ..FindObjects::default() };
    assert_eq!(user.find(by_identity).unwrap(), []);
    let again = user.generate(KeyType::P256, "web").unwrap();
    assert_eq!(user.find(by_label("web")).unwrap().len(), 2);

    // A restart, and a clock that is put back, change nothing.
    drop(user);
    put_back(&hands, 40 * DAY);
    running = start(running.stop(), &hands);
    let (mut user, mut officer) = (running.user(), running.officer());
    let listed = deleted(&mut user);
    assert_eq!(listed.len(), 2);
    assert_eq!(listed, deleted(&mut officer));
    assert_eq!(listed[0].purge_at, 1_800_000_000 + 50 * DAY);
    assert_eq!(code(running.client().call(Op::ListDeleted(ListDeleted::default()))), ErrorCode::NotLoggedIn);

    // A crypto officer brings it back; then it is what it was.
    assert_eq!(code(user.call(recover(&pair))), ErrorCode::NotPermitted);
    assert_eq!(code(officer.call(recover(&again))), ErrorCode::NoSuchObject);
    // Not while its name is another key's.
    assert_eq!(code(officer.call(recover(&pair))), ErrorCode::Exists);
    delete(&mut user, &again);
    officer.call(purge(&again)).unwrap();
    let back = officer.objects(recover(&pair)).unwrap();
    assert_eq!(back, pair);
    signs(&mut user, &pair[0]).unwrap();
    assert_eq!(deleted(&mut user), []);
    assert_eq!(code(officer.call(recover(&pair))), ErrorCode::NoSuchObject);

    // Purged, it is gone.
    delete(&mut user, &pair);
    assert_eq!(code(user.call(purge(&pair))), ErrorCode::NotPermitted);
    officer.call(purge(&pair)).unwrap();
    assert_eq!(code(officer.call(recover(&pair))), ErrorCode::NoSuchObject);
    drop((user, officer));
    running = start(running.stop(), &hands);
    assert_eq!(deleted(&mut running.user()), []);
    assert_eq!(running.user().find(FindObjects::default()).unwrap(), []);
}

#[test]
fn what_is_deleted_goes_when_its_time_is_over_and_not_before() {
    let (mut running, hands) = with_clocks();
    let mut officer = running.officer();
    let set = |retention_days| {
        let retention_days = Some(retention_days);
        Op::SetLife(SetLife { retention_days, ..SetLife::default() })
    };
    for days in [6, 91] {
        assert_eq!(code(officer.call(set(days))), ErrorCode::AttributeWrong);
    }
    let response::Result::Partition(info) = officer.call(set(7)).unwrap() else { panic!() };
    assert_eq!((info.retention_days, info.purge_protection), (7, false));
    let mut user = running.user();
    assert_eq!(code(user.call(set(30))), ErrorCode::NotPermitted);
    let pair = user.generate(KeyType::P256, "web").unwrap();
    delete(&mut user, &pair);
    // The retention of the moment counts.
    officer.call(set(90)).unwrap();
    pass(&hands, 7 * DAY - 1);
    // A system clock that is put ahead lets nothing go.
    put_ahead(&hands, 1_000 * DAY);
    let marker = user.generate(KeyType::P256, "marker").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(deleted(&mut user).len(), 2);
    // Nor does one that is put back hold anything up, also over a restart.
    put_back(&hands, 2_000 * DAY);
    drop((user, officer));
    running = start(running.stop(), &hands);
    let mut user = running.user();
    assert_eq!(deleted(&mut user).len(), 2);
    pass(&hands, 1);
    wait(|| deleted(&mut user).is_empty());
    wait(|| own_acts(&running, "purge_key") == done(&["web", "web"]));
    drop(user);
    running = start(running.stop(), &hands);
    assert_eq!(deleted(&mut running.user()), []);
    assert_eq!(own_acts(&running, "purge_key"), done(&["web", "web"]));
    assert_eq!(running.user().find(FindObjects::default()).unwrap(), marker);
}

#[test]
fn purge_protection_cannot_be_undone() {
    let (mut running, hands) = with_clocks();
    let (mut user, mut officer) = (running.user(), running.officer());
    let set = |change: fn(&mut SetLife)| {
        let mut life = SetLife::default();
        change(&mut life);
        Op::SetLife(life)
    };
    let pair = user.generate(KeyType::P256, "web").unwrap();
    officer.call(set(|life| (life.retention_days, life.purge_protection) = (Some(10), Some(true)))).unwrap();
    delete(&mut user, &pair);
    drop((user, officer));
    running = start(running.stop(), &hands);
    let (mut user, mut officer) = (running.user(), running.officer());
    assert_eq!(code(officer.call(purge(&pair))), ErrorCode::PurgeProtected);
    for change in [
        set(|life| life.purge_protection = Some(false)),
        set(|life| life.retention_days = Some(9)),
        set(|life| life.destroy_at_once = Some(true)),
    ] {
        assert_eq!(code(officer.call(change)), ErrorCode::PurgeProtected);
    }
    // Nor does it go with the partition.
    let everything = Op::DeletePartition(DeletePartition { label: "tls".into() });
    assert_eq!(code(officer.call(everything.clone())), ErrorCode::PurgeProtected);
    officer.objects(recover(&pair)).unwrap();
    assert_eq!(code(officer.call(everything.clone())), ErrorCode::PurgeProtected);
    delete(&mut user, &pair);
    pass(&hands, 10 * DAY);
    wait(|| deleted(&mut user).is_empty());
    officer.call(everything).unwrap();
}

#[test]
fn destroying_deletes_softly_unless_the_partition_says_otherwise() {
    let (running, _hands) = with_clocks();
    let (mut user, mut officer) = (running.user(), running.officer());
    let destroy = |object: &ObjectInfo| Op::DestroyObject(DestroyObject { object: object.object.clone() });
    let pair = user.generate(KeyType::P256, "web").unwrap();
    user.call(destroy(&pair[0])).unwrap();
    assert_eq!(deleted(&mut user).len(), 1);
    let at_once = SetLife { destroy_at_once: Some(true), ..SetLife::default() };
    officer.call(Op::SetLife(at_once)).unwrap();
    let other = user.generate(KeyType::P256, "other").unwrap();
    user.call(destroy(&other[0])).unwrap();
    assert_eq!(deleted(&mut user).len(), 1);
    assert_eq!(delete(&mut user, &other[1..]).len(), 1);
    assert_eq!(deleted(&mut user).len(), 2);
    // What no key is goes at once. What must stay stays.
    let data = ObjectInfo { class: ObjectClass::Data.into(), value: vec![1], ..ObjectInfo::default() };
    let forged = ObjectInfo { deleted_at: 7, purge_due: 1, ..data };
    let data = user.objects(Op::CreateObject(CreateObject { object: Some(forged) })).unwrap();
    assert_eq!(data[0].deleted_at, 0);
    let request = Op::DeleteKey(DeleteKey { objects: identities(&data) });
    assert_eq!(code(user.call(request)), ErrorCode::KeyMayNot);
    user.call(destroy(&data[0])).unwrap();
    assert_eq!(deleted(&mut user).len(), 2);
    let fixed = KeyTemplate { not_destroyable: true, ..KeyTemplate::default() };
    let fixed = GenerateKeyPair {
        key_type: KeyType::P256.into(),
        private_key: Some(fixed),
        ..GenerateKeyPair::default()
    };
    let fixed = user.objects(Op::GenerateKeyPair(fixed)).unwrap();
    let request = Op::DeleteKey(DeleteKey { objects: identities(&fixed) });
    assert_eq!(code(user.call(request)), ErrorCode::AttributeReadOnly);
    assert_eq!(code(user.call(Op::DeleteKey(DeleteKey::default()))), ErrorCode::Malformed);
}

/// The list comes in pages that fit into a frame, and so does the answer to a change.
#[test]
fn deleted_keys_with_long_attributes_are_listed_and_recovered() {
    let running = Running::with_partition();
    let (mut user, mut officer) = (running.user(), running.officer());
    let mut keys = Vec::new();
    for number in 0..80 {
        let attributes = vec![Attribute { r#type: 1, value: vec![7; 15_000] }];
        let key = KeyTemplate { label: format!("key {number}"), attributes, ..KeyTemplate::default() };
        let make = GenerateKey { key_type: KeyType::Aes256.into(), key: Some(key) };
        keys.extend(user.objects(Op::GenerateKey(make)).unwrap());
    }
    let too_many = Op::DeleteKey(DeleteKey { objects: identities(&keys) });
    assert_eq!(code(user.call(too_many)), ErrorCode::Limit);
    for some in keys.chunks(20) {
        delete(&mut user, some);
    }
    let mut listed: Vec<ObjectInfo> = Vec::new();
    loop {
        let after = listed.last().map(|object| object.object.clone()).unwrap_or_default();
        let list = Op::ListDeleted(ListDeleted { after });
        let response::Result::Objects(page) = officer.call(list).unwrap() else { panic!() };
        listed.extend(page.objects);
        if !page.more {
            break;
        }
    }
    assert_eq!(identities(&listed), identities(&keys));
    assert_eq!(code(officer.call(recover(&keys))), ErrorCode::Limit);
    officer.objects(recover(&keys[..20])).unwrap();
    officer.call(purge(&keys[20..])).unwrap();
    let gone = Op::ListDeleted(ListDeleted { after: keys[50].object.clone() });
    assert_eq!(code(officer.call(gone)), ErrorCode::NoSuchObject);
    assert_eq!(deleted(&mut officer), []);
}

/// The clock of a machine whose battery is empty, say: nothing is destroyed because of it.
#[test]
fn a_clock_that_is_ahead_when_the_daemon_starts_purges_nothing() {
    let (mut running, hands) = with_clocks();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    delete(&mut user, &pair);
    drop(user);
    // Ten years ahead, and put right some days later.
    put_ahead(&hands, 3_650 * DAY);
    running = start(running.stop(), &hands);
    pass(&hands, 6 * DAY);
    // The daemon has looked since: it makes a version that is due.
    let looked = |running: &Running| {
        let mut user = running.user();
        let marker = user.generate(KeyType::P256, "marker").unwrap();
        let every = SetRotation { object: marker[0].object.clone(), every_seconds: DAY };
        user.call(Op::SetRotation(every)).unwrap();
        pass(&hands, DAY);
        wait(|| user.find(FindObjects { all_versions: true, ..by_label("marker") }).unwrap().len() > 2);
        let all = user.find(FindObjects { all_versions: true, ..by_label("marker") }).unwrap();
        delete(&mut user, &all);
    };
    put_back(&hands, 3_650 * DAY);
    looked(&running);
    let listed = deleted(&mut running.user());
    assert_eq!(listed[..2].iter().map(|key| key.purge_at).collect::<Vec<_>>(), [1_800_000_000 + 90 * DAY; 2]);
    // Time in which the daemon did not run counts when it has run for as long, or for a week.
    put_ahead(&hands, 100 * DAY);
    running = start(running.stop(), &hands);
    pass(&hands, 6 * DAY);
    looked(&running);
    wait(|| deleted(&mut running.user()).iter().all(|key| key.label == "marker"));
}

/// Who was deleted with others is in the log as well.
#[test]
fn the_log_names_all_keys_of_one_request() {
    let running = Running::with_partition();
    let (mut user, mut officer) = (running.user(), running.officer());
    let pair = user.generate(KeyType::P256, "web").unwrap();
    delete(&mut user, &pair);
    officer.call(recover(&pair)).unwrap();
    delete(&mut user, &pair);
    officer.call(purge(&pair)).unwrap();
    let request = ReadAudit { checkpoint: true, ..ReadAudit::default() };
    let response::Result::AuditPage(page) = officer.call(Op::ReadAudit(request)).unwrap() else { panic!() };
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let both = format!("{},{}", hex(&pair[0].object), hex(&pair[1].object));
    let entries =
        page.lines.iter().map(|line| serde_json::from_str::<strongroom_audit::Entry>(line).unwrap());
    let named = entries.filter(|entry| entry.details.get("objects") == Some(&both));
    let actions: Vec<_> = named.map(|entry| entry.action).collect();
    let expected = ["delete_key", "recover_key", "delete_key", "purge_key"];
    assert_eq!(actions, expected.map(|action| [action; 2]).concat(), "each as it begins, and its outcome");
}
