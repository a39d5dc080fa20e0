//! Session objects: in no store and no list, their owner's only, and back when the client brings them. Copies. Keys that can be read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use running::{Client, PASSWORD, Running, code};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn list(client: &mut Client, op: Op) -> ObjectList {
    match client.call(op).unwrap() {
        response::Result::Objects(list) => list,
        other => panic!("{other:?}"),
    }
}

fn session_pair(client: &mut Client) -> ObjectList {
    let half = KeyTemplate { session: true, label: "now".into(), ..KeyTemplate::default() };
    let pair = GenerateKeyPair {
        key_type: KeyType::P256.into(),
        private_key: Some(half.clone()),
        public_key: Some(half),
    };
    list(client, Op::GenerateKeyPair(pair))
}

fn sign(
    client: &mut Client,
    key: &[u8],
) -> Result<response::Result, strongroom_protocol::client::ClientError> {
    let (key, mechanism) = (key.to_vec(), Mechanism::Ecdsa.into());
    client.call(Op::Sign(Sign { key, mechanism, pss: None, data: vec![7; 32], ..Sign::default() }))
}

#[test]
fn a_session_object_is_its_owners_and_comes_back_after_a_restart() {
    let mut running = Running::with_partition();
    running.officer().create_user("other", Role::CryptoUser, PASSWORD).unwrap();
    let mut user = running.user();
    let pair = session_pair(&mut user);
    let key = &pair.objects[0].object;
    assert!(pair.objects.iter().all(|object| object.session) && pair.sealed.len() == 2);
    assert!(sign(&mut user, key).is_ok());
    assert!(list(&mut user, Op::FindObjects(FindObjects::default())).objects.is_empty());

    let mut other = running.client();
    other.login(Role::CryptoUser, "other", PASSWORD).unwrap();
    assert_eq!(code(sign(&mut other, key)), ErrorCode::NoSuchObject);
    let back = || Op::RestoreSessionObjects(RestoreSessionObjects { sealed: pair.sealed.clone() });
    assert_eq!(code(other.call(back())), ErrorCode::NotPermitted);

    running = running.restart();
    let mut user = running.user();
    assert_eq!(code(sign(&mut user, key)), ErrorCode::NoSuchObject);
    let mut forged = pair.sealed[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Op::RestoreSessionObjects(RestoreSessionObjects { sealed: vec![forged] });
    assert_eq!(code(user.call(forged)), ErrorCode::KeyMalformed);
    assert_eq!(list(&mut user, back()).objects, pair.objects);
    assert!(sign(&mut user, key).is_ok());

    let forget = ForgetSessionObjects { objects: vec![key.clone(), vec![9; 16]] };
    user.call(Op::ForgetSessionObjects(forget)).unwrap();
    assert_eq!(code(sign(&mut user, key)), ErrorCode::NoSuchObject);
}

#[test]
fn a_copy_does_what_the_original_does_and_may_stay() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    let pair = session_pair(&mut user);
    let copy = CopyObject {
        object: pair.objects[0].object.clone(),
        label: Some("kept".into()),
        not_copyable: true,
        ..CopyObject::default()
    };
    let kept = list(&mut user, Op::CopyObject(copy));
    let kept = &kept.objects[0];
    assert!(!kept.session && kept.label == "kept" && kept.id == pair.objects[0].id);
    assert!(sign(&mut user, &kept.object).is_ok());
    let again = CopyObject { object: kept.object.clone(), ..CopyObject::default() };
    assert_eq!(code(user.call(Op::CopyObject(again))), ErrorCode::AttributeReadOnly);
    let open =
        CopyObject { object: pair.objects[0].object.clone(), private: Some(false), ..CopyObject::default() };
    assert_eq!(code(user.call(Op::CopyObject(open))), ErrorCode::AttributeWrong);

    running = running.restart();
    let mut user = running.user();
    assert!(sign(&mut user, &kept.object).is_ok());
    assert_eq!(list(&mut user, Op::FindObjects(FindObjects::default())).objects.len(), 1);
}

#[test]
fn a_secret_key_is_read_only_if_it_was_made_for_that() {
    let running = Running::with_partition();
    let mut user = running.user();
    let mut import = |not_sensitive, extractable| {
        let policy = KeyPolicy { not_sensitive, extractable, encrypt: true, ..KeyPolicy::default() };
        let key = Some(KeyTemplate { policy: Some(policy), ..KeyTemplate::default() });
        let import = ImportKey { key_type: KeyType::Aes128.into(), value: vec![5; 16], key };
        list(&mut user, Op::ImportKey(import)).objects[0].object.clone()
    };
    let keys = [import(true, true), import(true, false), import(false, true)];
    let mut reveal = |key: &[u8]| user.call(Op::RevealKey(RevealKey { key: key.to_vec() }));
    let secret = response::Result::SharedSecret(SharedSecret { secret: vec![5; 16] });
    assert_eq!(reveal(&keys[0]).unwrap(), secret);
    assert_eq!(code(reveal(&keys[1])), ErrorCode::KeyNotExtractable);
    assert_eq!(code(reveal(&keys[2])), ErrorCode::KeyNotExtractable);
    // There is a way to sensitive, and none back.
    let hide = SetAttributes { object: keys[0].clone(), sensitive: true, ..SetAttributes::default() };
    user.call(Op::SetAttributes(hide)).unwrap();
    let reveal = user.call(Op::RevealKey(RevealKey { key: keys[0].clone() }));
    assert_eq!(code(reveal), ErrorCode::KeyNotExtractable);
}
