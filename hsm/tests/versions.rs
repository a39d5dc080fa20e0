//! Versions of a key: which one its name means, whatever is rotated, deleted, recovered and renamed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod living;
mod running;

use living::*;
use running::{Client, Running, code};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

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

/// Versions by number and state, of private keys of a name.
fn states(user: &mut Client, label: &str) -> Vec<(u32, VersionState)> {
    let all = user.find(FindObjects { all_versions: true, ..by_label(label) }).unwrap();
    let privates = all.iter().filter(|object| object.class() == ObjectClass::PrivateKey);
    privates.map(|object| (object.version, object.version_state())).collect()
}

fn rename(user: &mut Client, key: &[ObjectInfo], label: &str) {
    for half in key {
        let (object, label) = (half.object.clone(), Some(label.to_owned()));
        user.call(Op::SetAttributes(SetAttributes { object, label, ..SetAttributes::default() })).unwrap();
    }
}

/// A name means one version of a key, also of a key that got the name later.
#[test]
fn a_version_that_is_renamed_takes_nobodys_place_and_is_found() {
    use VersionState::{Active, Pending, Retired};
    let running = Running::with_partition();
    let mut user = running.user();
    let first = user.generate(KeyType::P256, "web").unwrap();
    let second = rotate(&mut user, &first[0], false);
    // Away, while the other one becomes the active version; and back.
    rename(&mut user, &first, "away");
    user.call(Op::ActivateKey(ActivateKey { object: second[0].object.clone() })).unwrap();
    rename(&mut user, &first, "web");
    assert_eq!(states(&mut user, "web"), [(1, Retired), (2, Active)]);
    assert_eq!(active(&mut user), identities(&second));
    // A retired one is found by the name that it alone has, both halves, and so is one that waits.
    rename(&mut user, &first, "old");
    assert_eq!(identities(&user.find(by_label("old")).unwrap()), identities(&first));
    let third = rotate(&mut user, &second[0], false);
    assert_eq!(states(&mut user, "web"), [(2, Active), (3, Pending)]);
    rename(&mut user, &third, "new");
    assert_eq!(identities(&user.find(by_label("new")).unwrap()), identities(&third));
    // Another key's name is another key's: both have it, as in every token.
    let other = user.generate(KeyType::P256, "other").unwrap();
    rename(&mut user, &other, "web");
    assert_eq!(states(&mut user, "web"), [(2, Active), (0, Active)]);
}

#[test]
fn a_retired_version_that_comes_back_under_another_name_is_found_by_it() {
    use VersionState::{Active, Retired};
    let running = Running::with_partition();
    let (mut user, mut officer) = (running.user(), running.officer());
    let first = user.generate(KeyType::P256, "web").unwrap();
    let second = rotate(&mut user, &first[0], true);
    let third = rotate(&mut user, &second[0], true);
    let recover_as = |officer: &mut Client, objects: &[ObjectInfo], label: &str| {
        let label = label.to_owned();
        officer.objects(Op::RecoverKey(RecoverKey { objects: identities(objects), label })).unwrap()
    };
    delete(&mut user, &first);
    let back = recover_as(&mut officer, &first, "old");
    assert_eq!(identities(&user.find(by_label("old")).unwrap()), identities(&back));
    // Under its own name it is what it was.
    delete(&mut user, &second);
    officer.objects(recover(&second)).unwrap();
    assert_eq!(states(&mut user, "web"), [(2, Retired), (3, Active)]);
    // Several: the active one goes on being so, whatever the order; of retired ones the last one is.
    delete(&mut user, &third);
    delete(&mut user, &second);
    recover_as(&mut officer, &[&second[..], &third].concat(), "together");
    assert_eq!(states(&mut user, "together"), [(2, Retired), (3, Active)]);
    delete(&mut user, &back);
    delete(&mut user, &second);
    recover_as(&mut officer, &[&back[..], &second].concat(), "retired");
    assert_eq!(states(&mut user, "retired").iter().filter(|(_, state)| *state == Active).count(), 1);
}
