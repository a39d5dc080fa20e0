//! Secret keys: made, taken in, used, kept over restarts; who may use them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::fs;
use std::path::Path;

use running::{Client, Running, code};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

const GCM: Mechanism = Mechanism::AesGcm;

fn template(label: &str, policy: Option<KeyPolicy>) -> Option<KeyTemplate> {
    Some(KeyTemplate { label: label.into(), policy, ..KeyTemplate::default() })
}

fn generate(client: &mut Client, key_type: KeyType, label: &str) -> ObjectInfo {
    let request = GenerateKey { key_type: key_type.into(), key: template(label, None) };
    client.objects(Op::GenerateKey(request)).unwrap().remove(0)
}

fn import(client: &mut Client, key_type: KeyType, value: &[u8]) -> Result<ObjectInfo, ClientError> {
    let key = template("imported", None);
    let request = ImportKey { key_type: key_type.into(), value: value.to_vec(), key };
    client.objects(Op::ImportKey(request)).map(|mut made| made.remove(0))
}

fn gcm(iv: &[u8], aad: &[u8]) -> Option<GcmParameters> {
    Some(GcmParameters { iv: iv.to_vec(), aad: aad.to_vec(), tag_bits: 128 })
}

fn encrypt_with(
    client: &mut Client,
    key: &ObjectInfo,
    mechanism: Mechanism,
    gcm: Option<GcmParameters>,
    data: &[u8],
) -> Result<Vec<u8>, ClientError> {
    let request = Encrypt {
        key: key.object.clone(),
        mechanism: mechanism.into(),
        gcm,
        data: data.to_vec(),
        ..Encrypt::default()
    };
    match client.call(Op::Encrypt(request))? {
        response::Result::Ciphertext(reply) => Ok(reply.ciphertext),
        other => panic!("{other:?}"),
    }
}

fn encrypt(client: &mut Client, key: &ObjectInfo, data: &[u8]) -> Result<Vec<u8>, ClientError> {
    encrypt_with(client, key, GCM, gcm(&[1; 12], b"aad"), data)
}

fn decrypt(client: &mut Client, key: &ObjectInfo, ciphertext: &[u8]) -> Result<Vec<u8>, ClientError> {
    let (key, ciphertext) = (key.object.clone(), ciphertext.to_vec());
    let request =
        Decrypt { key, mechanism: GCM.into(), gcm: gcm(&[1; 12], b"aad"), ciphertext, ..Decrypt::default() };
    match client.call(Op::Decrypt(request))? {
        response::Result::Plaintext(reply) => Ok(reply.plaintext),
        other => panic!("{other:?}"),
    }
}

const TYPES: [(KeyType, usize); 3] = [(KeyType::Aes128, 16), (KeyType::Aes192, 24), (KeyType::Aes256, 32)];

#[test]
fn secret_keys_encrypt_and_decrypt_also_after_a_restart() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    let mut keys = Vec::new();
    for (key_type, length) in TYPES {
        let made = generate(&mut user, key_type, "made");
        assert_eq!((made.class(), made.key_type(), made.private), (ObjectClass::SecretKey, key_type, true));
        assert!(made.value.is_empty() && made.public_key.is_empty());
        assert_eq!(made.id, made.object, "found by its identity where the client gives no id");
        let policy = made.policy.unwrap();
        assert!(policy.encrypt && policy.decrypt && policy.local && policy.always_sensitive);
        assert!(policy.never_extractable && !policy.extractable && !policy.sign && !policy.wrap);
        keys.push(made);
        let imported = import(&mut user, key_type, &vec![7; length]).unwrap();
        let policy = imported.policy.unwrap();
        assert!(!policy.local && !policy.always_sensitive && !policy.never_extractable);
        keys.push(imported);
    }
    let sealed: Vec<Vec<u8>> = keys.iter().map(|key| encrypt(&mut user, key, b"data").unwrap()).collect();
    drop(user);
    for _ in 0..2 {
        running = running.restart();
        let mut user = running.user();
        let class = ObjectClass::SecretKey.into();
        assert!(user.find(FindObjects { class, ..FindObjects::default() }).unwrap() == keys);
        for (key, sealed) in keys.iter().zip(&sealed) {
            assert_eq!(decrypt(&mut user, key, sealed).unwrap(), b"data");
            assert_eq!(&encrypt(&mut user, key, b"data").unwrap(), sealed);
        }
        // A change of the description keeps the key.
        let change = SetAttributes {
            object: keys[0].object.clone(),
            label: Some("renamed".into()),
            ..SetAttributes::default()
        };
        keys[0] = user.objects(Op::SetAttributes(change)).unwrap().remove(0);
        assert_eq!(decrypt(&mut user, &keys[0], &sealed[0]).unwrap(), b"data");
    }
    let mut user = running.user();
    user.call(Op::DestroyObject(DestroyObject { object: keys[0].object.clone() })).unwrap();
    assert_eq!(code(encrypt(&mut user, &keys[0], b"data")), ErrorCode::NoSuchObject);
}

#[test]
fn what_was_changed_gives_no_plaintext() {
    let running = Running::with_partition();
    let mut user = running.user();
    let key = generate(&mut user, KeyType::Aes256, "key");
    let sealed = encrypt(&mut user, &key, &[5; 100]).unwrap();
    for at in [0, 99, 100, 115] {
        let mut changed = sealed.clone();
        changed[at] ^= 0x80;
        assert_eq!(code(decrypt(&mut user, &key, &changed)), ErrorCode::CiphertextWrong);
    }
    assert_eq!(code(decrypt(&mut user, &key, &sealed[..15])), ErrorCode::CiphertextWrong);
    let other = generate(&mut user, KeyType::Aes256, "other");
    assert_eq!(code(decrypt(&mut user, &other, &sealed)), ErrorCode::CiphertextWrong);
}

#[test]
fn only_a_crypto_user_uses_secret_keys_and_only_as_their_policy_allows() {
    let running = Running::with_partition();
    let mut user = running.user();
    let key = generate(&mut user, KeyType::Aes128, "key");
    let sealed = encrypt(&mut user, &key, b"data").unwrap();
    for (mut other, refused) in
        [(running.client(), ErrorCode::NotLoggedIn), (running.officer(), ErrorCode::NotPermitted)]
    {
        assert_eq!(code(encrypt(&mut other, &key, b"data")), refused);
        assert_eq!(code(decrypt(&mut other, &key, &sealed)), refused);
        assert_eq!(code(import(&mut other, KeyType::Aes128, &[1; 16])), refused);
        let request = GenerateKey { key_type: KeyType::Aes128.into(), key: None };
        assert_eq!(code(other.objects(Op::GenerateKey(request))), refused);
        assert_eq!(other.find(FindObjects::default()).unwrap(), [], "nobody else sees it");
    }
    for (encrypts, decrypts) in [(true, false), (false, true)] {
        let policy = KeyPolicy { encrypt: encrypts, decrypt: decrypts, ..KeyPolicy::default() };
        let request = ImportKey {
            key_type: KeyType::Aes256.into(),
            value: vec![7; 32],
            key: template("half", Some(policy)),
        };
        let half = user.objects(Op::ImportKey(request)).unwrap().remove(0);
        match (encrypt(&mut user, &half, b"data"), decrypt(&mut user, &half, &[0; 20])) {
            (Ok(_), refused) if encrypts => assert_eq!(code(refused), ErrorCode::KeyMayNot),
            (refused, opened) => {
                assert_eq!(code(refused), ErrorCode::KeyMayNot);
                assert_eq!(code(opened), ErrorCode::CiphertextWrong);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let running = Running::with_partition();
    let mut user = running.user();
    let key = generate(&mut user, KeyType::Aes256, "key");
    let pair = user.generate(KeyType::P256, "pair").unwrap();
    for half in &pair {
        assert_eq!(code(encrypt(&mut user, half, b"data")), ErrorCode::KeyMayNot);
    }
    assert_eq!(code(user.sign(&key, Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::KeyMayNot);
    assert_eq!(code(user.sign(&pair[0], GCM, None, &[0; 32])), ErrorCode::MechanismDoesNotFit);
    let usual = gcm(&[1; 12], b"");
    let mut refused = |mechanism, gcm| code(encrypt_with(&mut user, &key, mechanism, gcm, b"data"));
    assert_eq!(refused(Mechanism::Ecdsa, usual.clone()), ErrorCode::MechanismDoesNotFit);
    assert_eq!(refused(Mechanism::Unspecified, usual), ErrorCode::Unsupported);
    assert_eq!(refused(GCM, None), ErrorCode::MechanismParameterWrong);
    assert_eq!(refused(GCM, gcm(&[], b"")), ErrorCode::MechanismParameterWrong);
    assert_eq!(refused(GCM, gcm(&[1; 257], b"")), ErrorCode::MechanismParameterWrong);
    for tag_bits in [0, 64, 97, 136] {
        let gcm = GcmParameters { iv: vec![1; 12], aad: Vec::new(), tag_bits };
        assert_eq!(refused(GCM, Some(gcm)), ErrorCode::MechanismParameterWrong);
    }
    let most = (1 << 20) - 1024 - 12 - 3;
    assert_eq!(encrypt(&mut user, &key, &vec![1; most]).unwrap().len(), most + 16);
    assert_eq!(code(encrypt(&mut user, &key, &vec![1; most + 1])), ErrorCode::DataLength);
    for (key_type, length) in [(KeyType::Aes128, 15), (KeyType::Aes128, 32), (KeyType::Aes256, 0)] {
        assert_eq!(code(import(&mut user, key_type, &vec![1; length])), ErrorCode::KeyMalformed);
    }
    assert_eq!(code(import(&mut user, KeyType::P256, &[1; 32])), ErrorCode::Unsupported);
    let request = GenerateKeyPair { key_type: KeyType::Aes256.into(), ..GenerateKeyPair::default() };
    assert_eq!(code(user.objects(Op::GenerateKeyPair(request))), ErrorCode::Unsupported);
    let object = ObjectInfo { class: ObjectClass::SecretKey.into(), ..ObjectInfo::default() };
    let request = CreateObject { object: Some(object) };
    assert_eq!(code(user.objects(Op::CreateObject(request))), ErrorCode::AttributeWrong);
}

/// All files of a directory, as bytes.
fn files(directory: &Path) -> Vec<Vec<u8>> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn a_secret_key_is_not_in_the_store_in_the_clear() {
    let running = Running::with_partition();
    let value: Vec<u8> = (100..132).collect();
    import(&mut running.user(), KeyType::Aes256, &value).unwrap();
    let state = running.state();
    let _directory = running.stop();
    let files = files(&state);
    assert!(files.iter().map(Vec::len).sum::<usize>() > 1000);
    assert!(files.iter().all(|file| memchr::memmem::find(file, &value).is_none()));
    // The label is sealed with it.
    assert!(files.iter().all(|file| memchr::memmem::find(file, b"imported").is_none()));
}
