//! FIPS state 2: what is not approved is refused, whichever way it comes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::time::{Duration, Instant};

use running::{Client, OFFICER, PASSWORD, Running, TLS, USER, code, has};
use strongroom_channel::{ChannelError, Client as Channel, Descriptors, Operation, Request};
use strongroom_hsm::crypto::aws_lc::{Padding, PrivateKey};
use strongroom_hsm::crypto::{self, KeyKind};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn channel(client: &mut Client) -> Channel {
    let given = client.connection.open_channel().unwrap().unwrap();
    Channel::new(Descriptors { region: given.region, bell: given.bell, state: given.state }).unwrap()
}

fn over_channel(
    channel: &Channel,
    key: &ObjectInfo,
    mechanism: Mechanism,
    hash: Hash,
    salt_length: u32,
    data: &[u8],
) -> Result<usize, ErrorCode> {
    let until = Instant::now() + Duration::from_secs(60);
    let hash = hash as u32;
    let operation = Operation::Sign { mechanism: mechanism as u32, hash, mgf1_hash: hash, salt_length };
    let key = key.object.as_slice().try_into().unwrap();
    let request = Request { operation, partition: TLS, key, data };
    match channel.exchange(&request, &mut [0; 512], &mut || Instant::now() < until) {
        Ok(length) => Ok(length),
        Err(ChannelError::Refused { code, .. }) => Err(ErrorCode::try_from(code as i32).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

const SHA1: &[u8] = b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14";
const SHA3_256: &[u8] = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x08\x05\x00\x04\x20";
const SHA256: &[u8] = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

/// A daemon with a partition in FIPS state 2.
fn in_state_2() -> Running {
    let running = Running::start();
    let make = |fips_state| {
        Op::CreatePartition(CreatePartition {
            label: "tls".into(),
            officer: OFFICER.into(),
            password: PASSWORD.into(),
            user: USER.into(),
            user_password: PASSWORD.into(),
            fips_state,
            ..CreatePartition::default()
        })
    };
    let mut client = running.client();
    for state in [1, 3] {
        assert_eq!(code(client.connection.call(0, make(state))), ErrorCode::AttributeWrong);
    }
    client.connection.call(0, make(2)).unwrap();
    // For good: nothing changes it, and a restart finds it.
    running.restart()
}

fn pkcs8(kind: KeyKind) -> Vec<u8> {
    PrivateKey::generate(kind).unwrap().to_pkcs8().unwrap().to_vec()
}

#[test]
fn keys_that_are_not_approved_do_not_come_in() {
    let running = in_state_2();
    let mut user = running.user();
    for (key_type, kind) in [
        (KeyType::Secp256k1, KeyKind::Secp256k1),
        (KeyType::X25519, KeyKind::X25519),
        (KeyType::X448, KeyKind::X448),
        (KeyType::BrainpoolP384r1, KeyKind::BrainpoolP384r1),
    ] {
        assert_eq!(code(user.generate(key_type, "no")), ErrorCode::NotApproved);
        if !has(key_type) {
            continue;
        }
        let import = ImportKeyPair { pkcs8: pkcs8(kind), ..ImportKeyPair::default() };
        assert_eq!(code(user.call(Op::ImportKeyPair(import))), ErrorCode::NotApproved);
        let public_key = PrivateKey::generate(kind).unwrap().public_spki().unwrap();
        let class = ObjectClass::PublicKey.into();
        let object = Some(ObjectInfo { class, public_key, ..ObjectInfo::default() });
        let public = CreateObject { object };
        assert_eq!(code(user.call(Op::CreateObject(public))), ErrorCode::NotApproved);
    }
    for (key_type, kind) in [
        (KeyType::Ed25519, KeyKind::Ed25519),
        (KeyType::Ed448, KeyKind::Ed448),
        (KeyType::P521, KeyKind::P521),
    ] {
        user.generate(key_type, "yes").unwrap();
        let import = ImportKeyPair { pkcs8: pkcs8(kind), ..ImportKeyPair::default() };
        user.call(Op::ImportKeyPair(import)).unwrap();
    }
    // A key from another partition: wrapped there, where it may be.
    let mut other = running.client();
    other.make_partition("zero");
    other.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let both = |client: &mut Client| {
        let policy = Some(KeyPolicy { wrap: true, unwrap: true, ..KeyPolicy::default() });
        let key = Some(KeyTemplate { policy, ..KeyTemplate::default() });
        let import = ImportKey { key_type: KeyType::Aes256.into(), value: vec![9; 32], key };
        client.objects(Op::ImportKey(import)).unwrap().swap_remove(0)
    };
    let (there, here) = (both(&mut other), both(&mut user));
    let template = KeyTemplate { extractable: true, ..KeyTemplate::default() };
    let generate = GenerateKeyPair {
        key_type: KeyType::Secp256k1.into(),
        private_key: Some(template),
        public_key: None,
    };
    let key = other.objects(Op::GenerateKeyPair(generate)).unwrap().swap_remove(0);
    let wrap = WrapKey {
        wrapping_key: there.object,
        key: key.object,
        mechanism: Mechanism::AesKeyWrapKwp.into(),
        ..WrapKey::default()
    };
    let response::Result::WrappedKey(WrappedKey { wrapped }) = other.call(Op::WrapKey(wrap)).unwrap() else {
        panic!()
    };
    let unwrap = UnwrapKey {
        unwrapping_key: here.object,
        mechanism: Mechanism::AesKeyWrapKwp.into(),
        wrapped,
        class: ObjectClass::PrivateKey.into(),
        ..UnwrapKey::default()
    };
    assert_eq!(code(user.call(Op::UnwrapKey(unwrap))), ErrorCode::NotApproved);
}

#[test]
fn operations_that_are_not_approved_are_refused_over_connections_and_channels() {
    let running = in_state_2();
    let mut user = running.user();
    let policy = Some(KeyPolicy { sign: true, decrypt: true, ..KeyPolicy::default() });
    let template = KeyTemplate { policy, ..KeyTemplate::default() };
    let op =
        GenerateKeyPair { key_type: KeyType::Rsa2048.into(), private_key: Some(template), public_key: None };
    let rsa = user.objects(Op::GenerateKeyPair(op)).unwrap().swap_remove(0);
    let p256 = user.generate(KeyType::P256, "key").unwrap().swap_remove(0);
    let (old, new) = ([SHA1, &[7; 20]].concat(), [SHA256, &[7; 32]].concat());
    let newest = [SHA3_256, &[7; 32]].concat();
    let pss = |hash: Hash, salt_length| {
        Some(PssParameters { hash: hash.into(), mgf1_hash: hash.into(), salt_length })
    };
    let channel = channel(&mut user);
    for (key, mechanism, hash, salt, data, approved) in [
        (&rsa, Mechanism::RsaPkcs, Hash::Unspecified, 0, &old[..], false),
        (&rsa, Mechanism::RsaPkcs, Hash::Unspecified, 0, &new, true),
        (&rsa, Mechanism::RsaPkcs, Hash::Unspecified, 0, &newest, true),
        (&rsa, Mechanism::RsaPkcs, Hash::Unspecified, 0, b"anything", false),
        (&rsa, Mechanism::RsaPkcsPss, Hash::Sha1, 20, &[7; 20], false),
        (&rsa, Mechanism::RsaPkcsPss, Hash::Sha256, 32, &[7; 32], true),
        (&rsa, Mechanism::RsaPkcsPss, Hash::Sha256, 33, &[7; 32], false),
        (&p256, Mechanism::Ecdsa, Hash::Unspecified, 0, &[7; 20], false),
        (&p256, Mechanism::Ecdsa, Hash::Unspecified, 0, &[7; 32], true),
    ] {
        let parameters = pss(hash, salt).filter(|_| mechanism == Mechanism::RsaPkcsPss);
        let signed = user.sign(key, mechanism, parameters, data).map_err(|e| e.code().unwrap());
        let by_channel = over_channel(&channel, key, mechanism, hash, salt, data);
        let expected = if approved { None } else { Some(ErrorCode::NotApproved) };
        assert_eq!((signed.err(), by_channel.err()), (expected, expected), "{mechanism:?} {hash:?}");
    }
    let ciphertext = [vec![0; 255], vec![2]].concat();
    let mut decrypt = |mechanism: Mechanism| {
        let hash = Hash::Sha256.into();
        let oaep = Some(OaepParameters { hash, mgf1_hash: hash, label: vec![] });
        let ciphertext = ciphertext.clone();
        let request = Decrypt {
            key: rsa.object.clone(),
            mechanism: mechanism.into(),
            ciphertext,
            oaep,
            ..Decrypt::default()
        };
        code(user.call(Op::Decrypt(request)))
    };
    assert_eq!(decrypt(Mechanism::RsaX509), ErrorCode::NotApproved);
    assert_eq!(decrypt(Mechanism::RsaPkcs), ErrorCode::NotApproved);
    assert_eq!(decrypt(Mechanism::RsaPkcsOaep), ErrorCode::CiphertextWrong);
}

/// What was signed in former times can be verified (SP 800-131A, section 9: legacy use).
#[test]
fn signatures_over_sha1_are_verified_and_not_made() {
    let running = in_state_2();
    let mut user = running.user();
    let info = [SHA1, &[7; 20]].concat();
    for (kind, way, mechanism, data) in [
        (KeyKind::Rsa2048, crypto::Mechanism::RsaPkcs, Mechanism::RsaPkcs, &info[..]),
        (KeyKind::P256, crypto::Mechanism::Ecdsa, Mechanism::Ecdsa, &[7; 20]),
    ] {
        let key = PrivateKey::generate(kind).unwrap();
        let signature = key.sign(way, data).unwrap();
        let import = ImportKeyPair { pkcs8: key.to_pkcs8().unwrap().to_vec(), ..ImportKeyPair::default() };
        let made = user.objects(Op::ImportKeyPair(import)).unwrap();
        assert_eq!(code(user.sign(&made[0], mechanism, None, data)), ErrorCode::NotApproved);
        let mut verify = |signature: Vec<u8>| {
            user.call(Op::Verify(Verify {
                key: made[1].object.clone(),
                mechanism: mechanism.into(),
                data: data.to_vec(),
                signature,
                ..Verify::default()
            }))
        };
        verify(signature.clone()).unwrap();
        assert_eq!(code(verify(vec![1; signature.len()])), ErrorCode::SignatureWrong);
    }
}

#[test]
fn codes_are_not_made_with_short_keys() {
    let running = in_state_2();
    let mut user = running.user();
    let mut key = |length: usize| {
        let policy = Some(KeyPolicy { sign: true, verify: true, ..KeyPolicy::default() });
        let key = Some(KeyTemplate { policy, ..KeyTemplate::default() });
        let import = ImportKey { key_type: KeyType::GenericSecret.into(), value: vec![9; length], key };
        user.objects(Op::ImportKey(import)).unwrap().swap_remove(0).object
    };
    let (short, long) = (key(13), key(14));
    let mut mac = |key: &[u8], verify: bool| {
        let request = Mac {
            key: key.to_vec(),
            mechanism: Mechanism::Hmac.into(),
            hash: Hash::Sha256.into(),
            data: b"message".to_vec(),
            mac: vec![0; 32],
            verify,
            ..Mac::default()
        };
        user.call(Op::Mac(request)).map(drop).map_err(|error| error.code().unwrap())
    };
    assert_eq!(mac(&short, false), Err(ErrorCode::NotApproved));
    assert_eq!(mac(&long, false), Ok(()));
    // What was made in former times is compared.
    assert_eq!(mac(&short, true), Err(ErrorCode::SignatureWrong));
}

/// All of the backup of a key.
fn backup(officer: &mut Client, key: &str) -> (Vec<u8>, Vec<u8>) {
    let begin = Op::BeginBackup(BeginBackup { key: key.into() });
    let response::Result::BackupBegun(begun) = officer.call(begin).unwrap() else { panic!() };
    let mut rest = Vec::new();
    loop {
        let response::Result::BackupChunk(chunk) = officer.call(Op::ReadBackup(ReadBackup {})).unwrap()
        else {
            panic!()
        };
        rest.extend(chunk.data);
        if chunk.last {
            return (begun.head, rest);
        }
    }
}

/// With a quorum of its security domain's holders a key comes into another partition: but not what is not approved there.
#[test]
fn a_backup_brings_no_key_that_is_not_approved() {
    let running = in_state_2();
    let mut other = running.client();
    other.make_partition("zero");
    other.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    other.generate(KeyType::Secp256k1, "no").unwrap();
    other.generate(KeyType::P256, "yes").unwrap();
    let mut chief = running.client();
    chief.partition = other.partition;
    chief.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    let holders = [(); 2].map(|()| PrivateKey::generate(KeyKind::Rsa2048).unwrap());
    let public = holders.iter().map(|holder| holder.public_spki().unwrap()).collect();
    let create = CreateSecurityDomain { holders: public, needed: 2 };
    let response::Result::Quorum(quorum) = chief.call(Op::CreateSecurityDomain(create)).unwrap() else {
        panic!()
    };
    let padding = Padding::Oaep { hash: crypto::Hash::Sha256, mgf1_hash: crypto::Hash::Sha256, label: &[] };
    let share = |at: usize| {
        let (share, length) = holders[at].decrypt(padding, &quorum.holders[at].share).unwrap();
        share[..length].to_vec()
    };
    let shares = [share(0), share(1)];
    let mut into = |key: &str| {
        let (head, data) = backup(&mut chief, key);
        let mut officer = running.officer();
        let begin = BeginRestore { head, shares: shares.to_vec(), ..BeginRestore::default() };
        officer.call(Op::BeginRestore(begin)).unwrap();
        officer.call(Op::RestoreChunk(RestoreChunk { data })).unwrap();
        officer.call(Op::FinishRestore(FinishRestore {})).map(drop).map_err(|error| error.code().unwrap())
    };
    assert_eq!(into("no"), Err(ErrorCode::NotApproved));
    assert_eq!(into("yes"), Ok(()));
    let found = running.user().find(FindObjects::default()).unwrap();
    assert!(!found.is_empty() && found.iter().all(|object| object.label == "yes"), "{found:?}");
}

/// What computes is said, and is what the build is: see docs/fips.md.
#[test]
fn the_daemon_says_what_computes() {
    let running = Running::start();
    let response::Result::Status(status) =
        running.client().connection.call(0, Op::Status(Status {})).unwrap()
    else {
        panic!()
    };
    let name = if cfg!(feature = "fips") { "AWS-LC FIPS " } else { "AWS-LC " };
    let version = status.crypto_module.strip_prefix(name).unwrap();
    assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
    assert_eq!(status.fips_module, cfg!(feature = "fips"));
    let all_by_aws_lc = status.engines.iter().all(|engine| !engine.contains("crypto_mb, "));
    assert!(!cfg!(feature = "fips") || all_by_aws_lc, "{:?}", status.engines);
}

/// What the FIPS module's release of the library lacks is refused in words, in state 0 too; other builds have it.
#[test]
fn what_a_build_does_not_have_it_says() {
    let running = Running::with_partition();
    let mut user = running.user();
    let only_elsewhere = |result: Result<(), ClientError>, what: &str| {
        let expected = cfg!(feature = "fips").then_some(ErrorCode::Unsupported);
        let refused = result.as_ref().err();
        assert_eq!(refused.and_then(|error| error.code()), expected, "{what}: {result:?}");
        assert!(refused.is_none_or(|error| error.to_string().contains(what)), "{result:?}");
    };
    for key_type in [
        KeyType::BrainpoolP256r1,
        KeyType::BrainpoolP320r1,
        KeyType::BrainpoolP384r1,
        KeyType::BrainpoolP512r1,
    ] {
        only_elsewhere(user.generate(key_type, "web").map(drop), "keys of type brainpool");
    }
    // ML-KEM-512 from a seed (RFC 9935, 6): any 64 bytes are one.
    let head =
        [0x30, 0x54, 2, 1, 0, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 4, 1, 4, 0x42, 0x80, 0x40];
    let import = ImportKeyPair { pkcs8: [&head[..], &[7; 64]].concat(), ..ImportKeyPair::default() };
    only_elsewhere(user.call(Op::ImportKeyPair(import)).map(drop), "as a seed alone");
}
