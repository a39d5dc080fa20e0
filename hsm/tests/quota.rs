//! What root lets a partition have: keys, memory, operations a second.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::time::{Duration, Instant};

use running::{Client, Running, TLS, code};
use strongroom_channel::{ChannelError, Client as Channel, Descriptors, Operation, Request};
use strongroom_hsm::crypto::KeyKind;
use strongroom_hsm::crypto::aws_lc::PrivateKey;
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn set(running: &Running, quota: SetQuota) -> PartitionInfo {
    match running.client().call(Op::SetQuota(quota)).unwrap() {
        response::Result::Partition(info) => info,
        other => panic!("{other:?}"),
    }
}

fn keys(most: u64) -> SetQuota {
    SetQuota { keys: Some(most), ..SetQuota::default() }
}

fn secret_key(label: &str) -> Op {
    let policy = Some(KeyPolicy { encrypt: true, wrap: true, unwrap: true, ..KeyPolicy::default() });
    let key = Some(KeyTemplate { label: label.into(), policy, extractable: true, ..KeyTemplate::default() });
    Op::GenerateKey(GenerateKey { key_type: KeyType::Aes256.into(), key })
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (ErrorCode, String) {
    match result.unwrap_err() {
        ClientError::Refused { code, message } => (code, message),
        other => panic!("{other:?}"),
    }
}

/// Whichever way a key takes into the partition, the quota is at its end.
#[test]
fn a_quota_of_keys_holds_on_every_way_into_the_partition_and_over_a_restart() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "one").unwrap();
    let wrapping = user.objects(secret_key("wrapping")).unwrap().swap_remove(0);
    let pkcs8 = PrivateKey::generate(KeyKind::P256).unwrap().to_pkcs8().unwrap().to_vec();
    let wrap = WrapKey {
        wrapping_key: wrapping.object.clone(),
        key: wrapping.object.clone(),
        mechanism: Mechanism::AesKeyWrapKwp.into(),
        ..WrapKey::default()
    };
    let response::Result::WrappedKey(WrappedKey { wrapped }) = user.call(Op::WrapKey(wrap)).unwrap() else {
        panic!()
    };
    let unwrap = UnwrapKey {
        unwrapping_key: wrapping.object.clone(),
        mechanism: Mechanism::AesKeyWrapKwp.into(),
        wrapped,
        class: ObjectClass::SecretKey.into(),
        ..UnwrapKey::default()
    };
    let identities: Vec<Vec<u8>> =
        user.generate(KeyType::P384, "deleted").unwrap().into_iter().map(|object| object.object).collect();
    user.call(Op::DeleteKey(DeleteKey { objects: identities.clone() })).unwrap();
    let info = set(&running, keys(2));
    assert_eq!((info.keys, info.quota.unwrap().keys), (2, 2), "what was deleted softly is no key");
    drop(user);

    running = running.restart();
    let mut user = running.user();
    let mut officer = running.officer();
    let ways = [
        Op::GenerateKeyPair(GenerateKeyPair { key_type: KeyType::P256.into(), ..GenerateKeyPair::default() }),
        Op::ImportKeyPair(ImportKeyPair { pkcs8, ..ImportKeyPair::default() }),
        secret_key("three"),
        Op::ImportKey(ImportKey { key_type: KeyType::Aes128.into(), value: vec![7; 16], key: None }),
        Op::UnwrapKey(unwrap),
        Op::RotateKey(RotateKey { object: pair[0].object.clone(), activate: true }),
    ];
    for way in ways {
        let (code, message) = refusal(user.call(way.clone()));
        assert_eq!(code, ErrorCode::Quota, "{way:?}");
        assert!(message.contains("its quota of 2 keys") && message.contains("set-quota tls"), "{message}");
    }
    let recover = Op::RecoverKey(RecoverKey { objects: identities, label: String::new() });
    assert_eq!(code(officer.call(recover.clone())), ErrorCode::Quota);

    // What is no key is not counted as one; what is there works, can be changed, and makes room when it goes.
    let note = ObjectInfo { class: ObjectClass::Data.into(), value: vec![1; 100], ..ObjectInfo::default() };
    user.call(Op::CreateObject(CreateObject { object: Some(note) })).unwrap();
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[7; 32]).unwrap();
    let rename = SetAttributes {
        object: pair[0].object.clone(),
        label: Some("another".into()),
        ..SetAttributes::default()
    };
    user.call(Op::SetAttributes(rename)).unwrap();
    user.call(Op::DestroyObject(DestroyObject { object: wrapping.object })).unwrap();
    officer.call(recover).unwrap();
    assert_eq!(code(user.call(secret_key("three"))), ErrorCode::Quota);
    // A quota below what is there takes nothing away.
    assert_eq!(set(&running, keys(1)).keys, 2);
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[7; 32]).unwrap();
    // Nobody but the owner of the machine sets it (see roles.rs), and 0 ends it.
    set(&running, keys(0));
    user.call(secret_key("three")).unwrap();
}

#[test]
fn a_quota_of_memory_holds_for_all_objects_and_leaves_the_others_as_they_are() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "one").unwrap();
    let taken = set(&running, keys(7)).memory;
    assert!(taken > 2_000, "{taken}");
    let memory = |most| SetQuota { memory: Some(most), ..SetQuota::default() };
    let quota = set(&running, memory(taken + 1_000)).quota.unwrap();
    assert_eq!((quota.memory, quota.keys), (taken + 1_000, 7), "the other limit stays");
    let note = |length| {
        let class = ObjectClass::Data.into();
        let object = ObjectInfo { class, value: vec![1; length], ..ObjectInfo::default() };
        Op::CreateObject(CreateObject { object: Some(object) })
    };
    let (refused, message) = refusal(user.call(note(2_000)));
    assert_eq!(refused, ErrorCode::Quota);
    assert!(message.contains("its quota of memory"), "{message}");
    assert_eq!(code(user.generate(KeyType::Rsa2048, "two")), ErrorCode::Quota);
    let grow = SetAttributes {
        object: pair[0].object.clone(),
        attributes: vec![Attribute { r#type: 0x101, value: vec![7; 2_000] }],
        ..SetAttributes::default()
    };
    assert_eq!(code(user.call(Op::SetAttributes(grow))), ErrorCode::Quota);
    // A full partition lets its keys be used and deleted, and what was deleted softly still takes memory.
    set(&running, memory(1));
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[7; 32]).unwrap();
    let identities: Vec<_> = pair.iter().map(|object| object.object.clone()).collect();
    user.call(Op::DeleteKey(DeleteKey { objects: identities.clone() })).unwrap();
    // What comes back was there all the time: it needs no room.
    let recover = Op::RecoverKey(RecoverKey { objects: identities.clone(), label: String::new() });
    running.officer().call(recover).unwrap();
    user.call(Op::DeleteKey(DeleteKey { objects: identities })).unwrap();
    let info = set(&running, memory(0));
    assert!(info.keys == 0 && info.memory > 1_000, "{info:?}");
    user.call(note(2_000)).unwrap();
}

fn over_channel(channel: &Channel, key: &ObjectInfo) -> Result<(), ErrorCode> {
    let until = Instant::now() + Duration::from_secs(60);
    let operation =
        Operation::Sign { mechanism: Mechanism::Ecdsa as u32, hash: 0, mgf1_hash: 0, salt_length: 0 };
    let key = key.object.as_slice().try_into().unwrap();
    let request = Request { operation, partition: TLS, key, data: &[7; 32] };
    match channel.exchange(&request, &mut [0; 512], &mut || Instant::now() < until) {
        Ok(_) => Ok(()),
        Err(ChannelError::Refused { code, .. }) => Err(ErrorCode::try_from(code as i32).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_quota_of_operations_holds_over_connections_and_channels() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "key").unwrap();
    let given = user.connection.open_channel().unwrap().unwrap();
    let channel =
        Channel::new(Descriptors { region: given.region, bell: given.bell, state: given.state }).unwrap();
    let operations = |most| SetQuota { operations_per_second: Some(most), ..SetQuota::default() };
    set(&running, operations(1));
    let over_connection = |client: &mut Client| {
        client.sign(&pair[0], Mechanism::Ecdsa, None, &[7; 32]).map(drop).map_err(|e| e.code().unwrap())
    };
    let refused_at_last = |sign: &mut dyn FnMut() -> Result<(), ErrorCode>| {
        let until = Instant::now() + Duration::from_secs(60);
        let refused = std::iter::repeat_with(sign).take_while(|_| Instant::now() < until);
        refused.filter_map(Result::err).next()
    };
    assert_eq!(refused_at_last(&mut || over_connection(&mut user)), Some(ErrorCode::Throttled));
    assert_eq!(refused_at_last(&mut || over_channel(&channel, &pair[0])), Some(ErrorCode::Throttled));
    // Who may not use the key uses nothing up, and is told that first.
    let mut stranger = running.client();
    for _ in 0..20 {
        assert_eq!(code(stranger.sign(&pair[0], Mechanism::Ecdsa, None, &[7; 32])), ErrorCode::NotLoggedIn);
    }
    // What needs no key is none of them.
    for _ in 0..20 {
        user.find(FindObjects::default()).unwrap();
    }
    set(&running, operations(0));
    for _ in 0..20 {
        over_channel(&channel, &pair[0]).unwrap();
        over_connection(&mut user).unwrap();
    }
}
