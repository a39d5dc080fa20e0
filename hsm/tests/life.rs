//! Keys are deleted softly, recovered, purged by hand and by time; and have versions.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use running::{Client, Running, code};
use strongroom_hsm::life::Clocks;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;
use tempfile::TempDir;

const DAY: u64 = 86_400;

/// The hands of the daemon's clocks: the time of day, and the one that does not jump.
type Hands = Arc<(AtomicU64, AtomicU64)>;

fn start(directory: TempDir, hands: &Hands) -> Running {
    let clocks = Clocks::Set(Arc::clone(hands));
    Running::try_start_in(directory, |config| {
        (config.clocks, config.keeping) = (clocks, Duration::from_millis(5));
    })
    .unwrap()
}

fn with_clocks() -> (Running, Hands) {
    let hands = Hands::new((AtomicU64::new(1_800_000_000), AtomicU64::new(100)));
    let running = start(tempfile::tempdir().unwrap(), &hands);
    running.client().make_partition("tls");
    (running, hands)
}

fn pass(hands: &Hands, seconds: u64) {
    hands.0.fetch_add(seconds, Ordering::AcqRel);
    hands.1.fetch_add(seconds, Ordering::AcqRel);
}

fn deleted(client: &mut Client) -> Vec<ObjectInfo> {
    client.objects(Op::ListDeleted(ListDeleted::default())).unwrap()
}

fn delete(client: &mut Client, objects: &[ObjectInfo]) -> Vec<ObjectInfo> {
    client.objects(Op::DeleteKey(DeleteKey { objects: identities(objects) })).unwrap()
}

fn identities(objects: &[ObjectInfo]) -> Vec<Vec<u8>> {
    objects.iter().map(|object| object.object.clone()).collect()
}

fn recover(objects: &[ObjectInfo]) -> Op {
    Op::RecoverKey(RecoverKey { objects: identities(objects), label: String::new() })
}

fn purge(objects: &[ObjectInfo]) -> Op {
    Op::PurgeKey(PurgeKey { objects: identities(objects) })
}

fn by_label(label: &str) -> FindObjects {
    FindObjects { label: label.into(), ..FindObjects::default() }
}

fn signs(client: &mut Client, key: &ObjectInfo) -> Result<(), ErrorCode> {
    let signed = client.sign(key, Mechanism::Ecdsa, None, &[0; 32]);
    signed.map(drop).map_err(|error| error.code().unwrap())
}

/// Until the daemon has looked after its partitions.
fn wait(mut until: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !until() {
        assert!(Instant::now() < end, "nothing happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

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
    hands.0.fetch_sub(40 * DAY, Ordering::AcqRel);
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

/// What the daemon says in the audit log that it did by itself: outcome and key.
fn own_acts(running: &Running, action: &str) -> Vec<(String, String)> {
    let request = ReadAudit { checkpoint: true, ..ReadAudit::default() };
    let response::Result::AuditPage(page) = running.officer().call(Op::ReadAudit(request)).unwrap() else {
        panic!()
    };
    let entries =
        page.lines.iter().map(|line| serde_json::from_str::<strongroom_audit::Entry>(line).unwrap());
    let own = entries.filter(|entry| entry.role == "daemon" && entry.action == action);
    own.map(|entry| (entry.outcome, entry.key)).collect()
}

fn done(keys: &[&str]) -> Vec<(String, String)> {
    let all = ["begun", "success"].into_iter();
    all.flat_map(|outcome| keys.iter().map(move |key| (outcome.to_owned(), (*key).to_owned()))).collect()
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
    hands.0.fetch_add(1_000 * DAY, Ordering::AcqRel);
    let marker = user.generate(KeyType::P256, "marker").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(deleted(&mut user).len(), 2);
    // Nor does one that is put back hold anything up, also over a restart.
    hands.0.fetch_sub(2_000 * DAY, Ordering::AcqRel);
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

fn rotate(client: &mut Client, key: &ObjectInfo, activate: bool) -> Vec<ObjectInfo> {
    client.objects(Op::RotateKey(RotateKey { object: key.object.clone(), activate })).unwrap()
}

fn active(client: &mut Client) -> Vec<Vec<u8>> {
    identities(&client.find(by_label("web")).unwrap())
}

#[test]
fn a_label_means_the_active_version_and_an_id_any() {
    let (mut running, hands) = with_clocks();
    let mut user = running.user();
    let first = user.generate(KeyType::P256, "web").unwrap();
    user.generate(KeyType::P256, "other").unwrap();
    let certificate = |id: &[u8]| {
        let object = ObjectInfo {
            class: ObjectClass::Certificate.into(),
            label: "web".into(),
            id: id.to_vec(),
            value: vec![0x30, 1, id[0]],
            ..ObjectInfo::default()
        };
        Op::CreateObject(CreateObject { object: Some(object) })
    };
    let first_certificate = user.objects(certificate(&first[0].id)).unwrap();
    let second = rotate(&mut user, &first[0], false);
    assert_eq!((second.len(), second[0].version, second[0].version_state()), (2, 2, VersionState::Pending));
    assert_eq!((second[0].label.as_str(), second[0].policy), ("web", first[0].policy));
    assert!(second[0].id != first[0].id && second[0].public_key != first[0].public_key);
    let second_certificate = user.objects(certificate(&second[0].id)).unwrap();

    // The new one signs, and is not what the label means, nor its certificate.
    signs(&mut user, &second[0]).unwrap();
    let of = |pair: &[ObjectInfo], certificate: &[ObjectInfo]| identities(&[pair, certificate].concat());
    assert_eq!(active(&mut user), of(&first, &first_certificate));
    let by_id = FindObjects { label: "web".into(), id: second[0].id.clone(), ..FindObjects::default() };
    assert_eq!(identities(&user.find(by_id).unwrap()), of(&second, &second_certificate));
    let all = FindObjects { all_versions: true, ..by_label("web") };
    assert_eq!(user.find(all).unwrap().len(), 6);
    let request = Op::RotateKey(RotateKey { object: first[0].object.clone(), activate: false });
    assert_eq!(code(user.call(request)), ErrorCode::Exists);

    // All at once it is, also after a restart; the old one goes on signing for those who have loaded it.
    let activate = |key: &ObjectInfo| Op::ActivateKey(ActivateKey { object: key.object.clone() });
    user.call(activate(&second[0])).unwrap();
    drop(user);
    running = start(running.stop(), &hands);
    let mut user = running.user();
    assert_eq!(active(&mut user), of(&second, &second_certificate));
    signs(&mut user, &first[0]).unwrap();
    assert_eq!(code(user.call(activate(&second[0]))), ErrorCode::AttributeWrong);
    // And back, if the new certificate was a mistake.
    user.call(activate(&first[0])).unwrap();
    assert_eq!(active(&mut user), of(&first, &first_certificate));
    user.call(activate(&second[0])).unwrap();
    let third = rotate(&mut user, &second[0], true);
    assert_eq!((third[0].version, third[0].version_state()), (3, VersionState::Active));
    assert_eq!(active(&mut user), identities(&third));
    let request = Op::RotateKey(RotateKey { object: first[0].object.clone(), activate: true });
    assert_eq!(code(user.call(request)), ErrorCode::AttributeWrong);
    assert_eq!(user.find(by_label("other")).unwrap().len(), 2);
}

/// A key has one active version, whatever is deleted, activated and recovered meanwhile.
#[test]
fn a_version_that_comes_back_takes_nobodys_place() {
    let running = Running::with_partition();
    let (mut user, mut officer) = (running.user(), running.officer());
    let states = |user: &mut Client| {
        let all = user.find(FindObjects { all_versions: true, ..by_label("web") }).unwrap();
        let privates = all.iter().filter(|object| object.class() == ObjectClass::PrivateKey);
        privates.map(|object| (object.version, object.version_state())).collect::<Vec<_>>()
    };
    use VersionState::{Active, Pending, Retired};
    let activate = |key: &ObjectInfo| Op::ActivateKey(ActivateKey { object: key.object.clone() });
    let first = user.generate(KeyType::P256, "web").unwrap();
    // The active version is deleted, and the one before takes its place.
    let second = rotate(&mut user, &first[0], true);
    delete(&mut user, &second);
    user.call(activate(&first[0])).unwrap();
    let back = officer.objects(recover(&second)).unwrap();
    assert_eq!(
        back.iter().map(|half| (half.version, half.version_state())).collect::<Vec<_>>(),
        [(2, Retired); 2]
    );
    assert_eq!(states(&mut user), [(1, Active), (2, Retired)]);
    // A number is given once, also when a version that waits is deleted.
    let third = rotate(&mut user, &first[0], false);
    delete(&mut user, &third);
    let fourth = rotate(&mut user, &first[0], false);
    assert_eq!((third[0].version, fourth[0].version), (3, 4));
    officer.objects(recover(&third)).unwrap();
    assert_eq!(states(&mut user), [(1, Active), (2, Retired), (3, Retired), (4, Pending)]);
    user.call(activate(&fourth[0])).unwrap();
    assert_eq!(states(&mut user), [(1, Retired), (2, Retired), (3, Retired), (4, Active)]);
    // All of them at once.
    let all = [&first[..], &second, &third, &fourth].concat();
    delete(&mut user, &all);
    officer.objects(recover(&all)).unwrap();
    assert_eq!(states(&mut user), [(1, Retired), (2, Retired), (3, Retired), (4, Active)]);
    // A secret key's name is as much taken; an officer does not see it, and is told.
    delete(&mut user, &all);
    let key = KeyTemplate { label: "web".into(), ..KeyTemplate::default() };
    let make = GenerateKey { key_type: KeyType::Aes256.into(), key: Some(key) };
    user.objects(Op::GenerateKey(make)).unwrap();
    let refused = officer.call(recover(&all)).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Exists));
    assert!(refused.to_string().contains("--as"), "{refused}");
    let label = "web-of-before".to_owned();
    officer.objects(Op::RecoverKey(RecoverKey { objects: identities(&all), label })).unwrap();
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

/// A new version that nobody wants is not made again before it is time again.
#[test]
fn a_version_that_is_deleted_is_not_made_again_at_once() {
    let (running, hands) = with_clocks();
    let mut user = running.user();
    let numbers = |user: &mut Client, label: &str| {
        let all = user.find(FindObjects { all_versions: true, ..by_label(label) }).unwrap();
        all.iter().map(|object| object.version).collect::<Vec<_>>()
    };
    for (label, days) in [("web", 30), ("other", 31)] {
        let pair = user.generate(KeyType::P256, label).unwrap();
        let set = SetRotation { object: pair[0].object.clone(), every_seconds: days * DAY };
        user.call(Op::SetRotation(set)).unwrap();
    }
    pass(&hands, 30 * DAY);
    wait(|| numbers(&mut user, "web") == [1, 1, 2, 2]);
    let all = user.find(FindObjects { all_versions: true, ..by_label("web") }).unwrap();
    delete(&mut user, &all[2..]);
    pass(&hands, DAY);
    wait(|| numbers(&mut user, "other") == [1, 1, 2, 2]);
    assert_eq!(numbers(&mut user, "web"), [1, 1]);
    pass(&hands, 29 * DAY);
    wait(|| numbers(&mut user, "web") == [1, 1, 3, 3]);
}

#[test]
fn keys_are_rotated_when_their_time_has_come() {
    let (running, hands) = with_clocks();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    let policy = KeyPolicy { encrypt: true, ..KeyPolicy::default() };
    let key = KeyTemplate { label: "data".into(), policy: Some(policy), ..KeyTemplate::default() };
    let make = GenerateKey { key_type: KeyType::Aes256.into(), key: Some(key) };
    let secret = user.objects(Op::GenerateKey(make)).unwrap();
    let every = |key: &ObjectInfo, every_seconds| {
        Op::SetRotation(SetRotation { object: key.object.clone(), every_seconds })
    };
    for wrong in [1, DAY - 1, 20 * 366 * DAY] {
        assert_eq!(code(user.call(every(&pair[0], wrong))), ErrorCode::AttributeWrong);
    }
    assert_eq!(code(user.call(every(&pair[1], 30 * DAY))), ErrorCode::KeyMayNot);
    user.call(every(&pair[0], 30 * DAY)).unwrap();
    user.call(every(&secret[0], 60 * DAY)).unwrap();
    let versions = |user: &mut Client, label: &str| {
        let all = FindObjects { all_versions: true, ..by_label(label) };
        user.find(all)
            .unwrap()
            .iter()
            .map(|object| (object.version, object.version_state))
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(&mut user, "web"), [(0, 0), (0, 0)]);
    pass(&hands, 30 * DAY);
    // A pair's new version waits for its certificate, however often is looked.
    wait(|| versions(&mut user, "web") == [(1, 0), (1, 0), (2, 1), (2, 1)]);
    assert_eq!(versions(&mut user, "data"), [(0, 0)]);
    pass(&hands, 30 * DAY);
    wait(|| versions(&mut user, "data") == [(1, 2), (2, 0)]);
    assert_eq!(versions(&mut user, "web").len(), 4);
    pass(&hands, 60 * DAY);
    wait(|| versions(&mut user, "data") == [(1, 2), (2, 2), (3, 0)]);
    // No longer.
    let last = user.find(by_label("data")).unwrap().swap_remove(0);
    assert_eq!(last.rotate_every, 60 * DAY);
    user.call(every(&last, 0)).unwrap();
    pass(&hands, 600 * DAY);
    let other = user.generate(KeyType::P256, "other").unwrap();
    delete(&mut user, &other);
    pass(&hands, 90 * DAY);
    wait(|| deleted(&mut user).is_empty());
    wait(|| own_acts(&running, "purge_key") == done(&["other", "other"]));
    let rotated = [done(&["web"]), done(&["data"]), done(&["data"])].concat();
    assert_eq!(own_acts(&running, "rotate_key"), rotated);
    assert_eq!(versions(&mut user, "data").len(), 3);
}
