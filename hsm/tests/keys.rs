//! Keys: generated, found, used, kept over restarts. Signatures are verified by the openssl command.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::fs;
use std::path::Path;
use std::process::Command;

use running::{Client, Running, code, has};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Runs openssl in a directory; what it says if it fails.
fn openssl(directory: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// r || s as the DER that openssl reads (RFC 3279, 2.2.3).
fn ecdsa_der(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(signature.len() / 2);
    let integer = |bytes: &[u8]| {
        let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
        let sign: &[u8] = if bytes[from] >= 0x80 { &[0] } else { &[] };
        let content = [sign, &bytes[from..]].concat();
        [&[2, content.len() as u8][..], &content].concat()
    };
    let content = [integer(r), integer(s)].concat();
    let length: &[u8] = if content.len() >= 0x80 { &[0x81] } else { &[] };
    [&[0x30][..], length, &[content.len() as u8], &content].concat()
}

/// SHA-256's DigestInfo before the digest (RFC 8017, 9.2 note 1).
const SHA256_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

/// Signs a message in every way that the key can, and has openssl verify each.
fn sign_and_verify(running: &Running, key: &ObjectInfo) {
    let mut client = running.user();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let message = b"to be signed";
    fs::write(at.join("message"), message).unwrap();
    fs::write(at.join("key.der"), &key.public_key).unwrap();
    openssl(at, &["pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem"]).unwrap();
    openssl(at, &["dgst", "-sha256", "-binary", "-out", "digest", "message"]).unwrap();
    let digest = fs::read(at.join("digest")).unwrap();
    let dgst = ["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"];
    match key.key_type() {
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
            let info = [&SHA256_INFO[..], &digest].concat();
            let signature = client.sign(key, Mechanism::RsaPkcs, None, &info).unwrap();
            fs::write(at.join("signature"), signature).unwrap();
            openssl(at, &[&dgst[..], &["message"]].concat()).unwrap();
            for salt in ["32", "20", "0"] {
                let pss = PssParameters {
                    hash: Hash::Sha256.into(),
                    mgf1_hash: Hash::Sha384.into(),
                    salt_length: salt.parse().unwrap(),
                };
                let signature = client.sign(key, Mechanism::RsaPkcsPss, Some(pss), &digest).unwrap();
                fs::write(at.join("signature"), signature).unwrap();
                let salt = format!("rsa_pss_saltlen:{salt}");
                let options =
                    ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_mgf1_md:sha384", "-sigopt", &salt];
                openssl(at, &[&dgst[..], &options, &["message"]].concat()).unwrap();
            }
        }
        KeyType::Ed25519 | KeyType::Ed448 => {
            let signature = client.sign(key, Mechanism::Eddsa, None, message).unwrap();
            fs::write(at.join("signature"), signature).unwrap();
            let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message"];
            openssl(at, &[&verify[..], &["-sigfile", "signature"]].concat()).unwrap();
        }
        _ => {
            let signature = client.sign(key, Mechanism::Ecdsa, None, &digest).unwrap();
            fs::write(at.join("signature"), ecdsa_der(&signature)).unwrap();
            openssl(at, &[&dgst[..], &["message"]].concat()).unwrap();
            // The verification can fail.
            fs::write(at.join("message"), b"another").unwrap();
            openssl(at, &[&dgst[..], &["message"]].concat()).unwrap_err();
        }
    }
}

const EVERY_TYPE: [KeyType; 14] = [
    KeyType::Rsa2048,
    KeyType::Rsa3072,
    KeyType::Rsa4096,
    KeyType::P256,
    KeyType::P384,
    KeyType::P521,
    KeyType::Ed25519,
    KeyType::Secp256k1,
    KeyType::P224,
    KeyType::BrainpoolP256r1,
    KeyType::BrainpoolP320r1,
    KeyType::BrainpoolP384r1,
    KeyType::BrainpoolP512r1,
    KeyType::Ed448,
];

#[test]
fn every_key_type_signs_what_openssl_verifies_also_after_a_restart() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    let every_type: Vec<KeyType> = EVERY_TYPE.into_iter().filter(|key_type| has(*key_type)).collect();
    for key_type in every_type.iter().copied() {
        let made = user.generate(key_type, key_type.as_str_name()).unwrap();
        assert_eq!((made[0].class(), made[1].class()), (ObjectClass::PrivateKey, ObjectClass::PublicKey));
        assert_eq!(made[0].public_key, made[1].public_key);
        assert_eq!((made[0].id.len(), &made[0].id), (20, &made[1].id));
    }
    drop(user);
    for _ in 0..2 {
        let found = running.user().find(FindObjects::default()).unwrap();
        assert_eq!(found.len(), 2 * every_type.len());
        for (pair, key_type) in found.chunks(2).zip(every_type.iter().copied()) {
            assert_eq!(pair[0].key_type(), key_type, "the order of creation");
            sign_and_verify(&running, &pair[0]);
        }
        running = running.restart();
    }
}

#[test]
fn a_mechanism_that_does_not_fit_is_refused() {
    let running = Running::with_partition();
    let mut user = running.user();
    let p256 = user.generate(KeyType::P256, "p256").unwrap();
    assert_eq!(code(user.sign(&p256[0], Mechanism::RsaPkcs, None, &[0; 32])), ErrorCode::MechanismDoesNotFit);
    assert_eq!(code(user.sign(&p256[0], Mechanism::Ecdsa, None, &[0; 65])), ErrorCode::DataLength);
    assert_eq!(code(user.sign(&p256[1], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::KeyMayNot);
    assert_eq!(
        code(user.sign(&p256[0], Mechanism::RsaPkcsPss, None, &[0; 32])),
        ErrorCode::MechanismParameterWrong
    );
}

fn import(client: &mut Client, pkcs8: &[u8], label: &str) -> Result<Vec<ObjectInfo>, ClientError> {
    let template = KeyTemplate { label: label.into(), ..KeyTemplate::default() };
    client.objects(Op::ImportKeyPair(ImportKeyPair {
        pkcs8: pkcs8.to_vec(),
        private_key: Some(template.clone()),
        public_key: Some(template),
        private_only: false,
    }))
}

/// A new key made by openssl, as DER PKCS#8.
fn openssl_key(arguments: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    openssl(directory.path(), &[&["genpkey", "-out", "key.pem"], arguments].concat()).unwrap();
    let to_der = ["pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER", "-out", "key.der"];
    openssl(directory.path(), &to_der).unwrap();
    fs::read(directory.path().join("key.der")).unwrap()
}

const RSA: [&str; 3] = ["-quiet", "-algorithm", "RSA"];
const EC: [&str; 3] = ["-quiet", "-algorithm", "EC"];

#[test]
fn keys_made_by_openssl_are_imported_and_sign() {
    let running = Running::with_partition();
    let mut user = running.user();
    for (key_type, arguments) in [
        (KeyType::Rsa2048, [&RSA[..], &["-pkeyopt", "rsa_keygen_bits:2048"]].concat()),
        (KeyType::Rsa3072, [&RSA[..], &["-pkeyopt", "rsa_keygen_bits:3072"]].concat()),
        (KeyType::P256, [&EC[..], &["-pkeyopt", "ec_paramgen_curve:P-256"]].concat()),
        (KeyType::P384, [&EC[..], &["-pkeyopt", "ec_paramgen_curve:P-384"]].concat()),
        (KeyType::P521, [&EC[..], &["-pkeyopt", "ec_paramgen_curve:P-521"]].concat()),
        (KeyType::Ed25519, vec!["-algorithm", "ED25519"]),
        (KeyType::Ed448, vec!["-algorithm", "ED448"]),
        (KeyType::Secp256k1, [&EC[..], &["-pkeyopt", "ec_paramgen_curve:secp256k1"]].concat()),
        (KeyType::P224, [&EC[..], &["-pkeyopt", "ec_paramgen_curve:P-224"]].concat()),
        (KeyType::BrainpoolP320r1, [&EC[..], &["-pkeyopt", "ec_paramgen_curve:brainpoolP320r1"]].concat()),
        (KeyType::BrainpoolP512r1, [&EC[..], &["-pkeyopt", "ec_paramgen_curve:brainpoolP512r1"]].concat()),
    ] {
        let imported = import(&mut user, &openssl_key(&arguments), "imported");
        if !has(key_type) {
            assert_eq!(code(imported), ErrorCode::Unsupported);
            continue;
        }
        let made = imported.unwrap();
        assert_eq!((made.len(), made[0].key_type()), (2, key_type));
        let policy = made[0].policy.unwrap();
        assert!(policy.sign && !policy.local && !policy.always_sensitive && !policy.never_extractable);
        sign_and_verify(&running, &made[0]);
    }
    let made = import(&mut user, &openssl_key(&["-algorithm", "X25519"]), "agrees").unwrap();
    let policy = made[0].policy.unwrap();
    assert!(made[0].key_type() == KeyType::X25519 && policy.derive && !policy.sign);
}

#[test]
fn what_is_not_a_sound_key_is_not_imported() {
    let running = Running::with_partition();
    let mut user = running.user();
    let sound = openssl_key(&[&RSA[..], &["-pkeyopt", "rsa_keygen_bits:2048"]].concat());
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let wrong: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        ("PEM", b"-----BEGIN PRIVATE KEY-----".to_vec()),
        ("cut", sound[..sound.len() - 1].to_vec()),
        ("longer", [&sound[..], &[0]].concat()),
        ("damaged", damaged),
        ("RSA-1024", openssl_key(&[&RSA[..], &["-pkeyopt", "rsa_keygen_bits:1024"]].concat())),
        (
            "another curve",
            openssl_key(&[&EC[..], &["-pkeyopt", "ec_paramgen_curve:brainpoolP256t1"]].concat()),
        ),
        ("DH", openssl_key(&["-quiet", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"])),
    ];
    for (what, pkcs8) in wrong {
        assert_eq!(code(import(&mut user, &pkcs8, what)), ErrorCode::KeyMalformed, "{what}");
    }
    assert_eq!(user.find(FindObjects::default()).unwrap(), []);
    // An EC key whose public half is another key's.
    let ec = [&EC[..], &["-pkeyopt", "ec_paramgen_curve:P-256"]].concat();
    let (one, other) = (openssl_key(&ec), openssl_key(&ec));
    let half = one.len() - 65;
    let mixed = [&one[..half], &other[half..]].concat();
    assert_eq!(code(import(&mut user, &mixed, "mixed")), ErrorCode::KeyMalformed);
    // A sound key, which FIPS 186-5 does not allow.
    let three = [&RSA[..], &["-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]].concat();
    let refused = import(&mut user, &openssl_key(&three), "e = 3").unwrap_err();
    assert!(refused.to_string().contains("exponent is 3: keys with 65537"), "{refused}");
    import(&mut user, &sound, "sound").unwrap();
}

#[test]
fn a_key_does_what_its_policy_allows() {
    let running = Running::with_partition();
    let mut user = running.user();
    let generate = |user: &mut Client, policy: KeyPolicy| {
        user.objects(Op::GenerateKeyPair(GenerateKeyPair {
            key_type: KeyType::P256.into(),
            private_key: Some(KeyTemplate { policy: Some(policy), ..KeyTemplate::default() }),
            public_key: None,
        }))
    };
    let derive_only = generate(&mut user, KeyPolicy { derive: true, ..KeyPolicy::default() }).unwrap();
    assert_eq!(code(user.sign(&derive_only[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::KeyMayNot);
    let decrypts = KeyPolicy { sign: true, decrypt: true, ..KeyPolicy::default() };
    assert_eq!(code(generate(&mut user, decrypts)), ErrorCode::AttributeWrong);
    // What the daemon decides cannot be claimed.
    let claims = KeyPolicy { sign: true, extractable: true, never_extractable: true, ..KeyPolicy::default() };
    let policy = generate(&mut user, claims).unwrap()[0].policy.unwrap();
    assert!(policy.local && policy.always_sensitive && policy.extractable && !policy.never_extractable);
    let unknown = GenerateKeyPair { key_type: 99, ..GenerateKeyPair::default() };
    assert_eq!(code(user.objects(Op::GenerateKeyPair(unknown))), ErrorCode::Unsupported);
}

#[test]
fn the_daemon_verifies_what_it_signs() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pss = Some(PssParameters { hash: 3, mgf1_hash: 3, salt_length: 32 });
    for (key_type, mechanism, pss) in [
        (KeyType::Rsa2048, Mechanism::RsaPkcs, None),
        (KeyType::Rsa2048, Mechanism::RsaPkcsPss, pss),
        (KeyType::P256, Mechanism::Ecdsa, None),
        (KeyType::P521, Mechanism::Ecdsa, None),
        (KeyType::Ed25519, Mechanism::Eddsa, None),
    ] {
        let pair = user.generate(key_type, "key").unwrap();
        let signature = user.sign(&pair[0], mechanism, pss, &[7; 32]).unwrap();
        for key in &pair {
            let mut verify = |data: [u8; 32], signature: &[u8]| {
                user.call(Op::Verify(Verify {
                    key: key.object.clone(),
                    mechanism: mechanism.into(),
                    pss,
                    data: data.to_vec(),
                    signature: signature.to_vec(),
                }))
            };
            verify([7; 32], &signature).unwrap();
            assert_eq!(code(verify([8; 32], &signature)), ErrorCode::SignatureWrong);
            assert_eq!(code(verify([7; 32], &signature[1..])), ErrorCode::SignatureWrong);
            assert_eq!(code(verify([7; 32], &[])), ErrorCode::SignatureWrong);
        }
    }
}

#[test]
fn objects_are_found_page_by_page_in_the_order_of_creation() {
    let running = Running::with_partition();
    let mut user = running.user();
    let create = |user: &mut Client, number: u32| {
        let object = ObjectInfo {
            class: ObjectClass::Data.into(),
            label: format!("number {}", number % 3),
            id: number.to_be_bytes().to_vec(),
            value: vec![1; 5_000],
            ..ObjectInfo::default()
        };
        user.objects(Op::CreateObject(CreateObject { object: Some(object) })).unwrap().remove(0)
    };
    let all: Vec<ObjectInfo> = (0..60).map(|number| create(&mut user, number)).collect();
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|last: &ObjectInfo| last.object.clone()).unwrap_or_default();
        let request = FindObjects { after, ..FindObjects::default() };
        let response::Result::Objects(list) = user.call(Op::FindObjects(request)).unwrap() else { panic!() };
        found.extend(list.objects);
        if !list.more {
            break;
        }
    }
    assert!(found == all);
    let labelled = FindObjects { label: "number 1".into(), limit: 5, ..FindObjects::default() };
    let some = user.find(labelled).unwrap();
    assert_eq!(some.len(), 5);
    assert!(some.iter().all(|object| object.label == "number 1"));
    let exact = FindObjects { id: 17u32.to_be_bytes().to_vec(), ..FindObjects::default() };
    assert!(user.find(exact).unwrap() == all[17..18]);
    // An empty label is a label when it is given.
    let unlabelled = FindObjects { label_given: true, ..FindObjects::default() };
    assert_eq!(user.find(unlabelled).unwrap(), []);
}

#[test]
fn attributes_change_where_they_may_and_last() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::Ed25519, "old").unwrap();
    let signature = user.sign(&pair[0], Mechanism::Eddsa, None, b"message").unwrap();
    let change = SetAttributes {
        object: pair[0].object.clone(),
        label: Some("new".into()),
        id: None,
        attributes: vec![Attribute { r#type: 0x102, value: vec![1, 2] }],
        ..SetAttributes::default()
    };
    let changed = user.objects(Op::SetAttributes(change)).unwrap();
    drop(user);
    running = running.restart();
    let mut user = running.user();
    let labelled = |label: &str| FindObjects {
        label: label.into(),
        class: ObjectClass::PrivateKey.into(),
        ..FindObjects::default()
    };
    assert_eq!(user.find(labelled("new")).unwrap(), changed);
    assert_eq!(user.find(labelled("old")).unwrap(), []);
    assert_eq!(user.sign(&pair[0], Mechanism::Eddsa, None, b"message").unwrap(), signature);
    let too_long = SetAttributes {
        object: pair[0].object.clone(),
        label: Some("x".repeat(256)),
        ..SetAttributes::default()
    };
    assert_eq!(code(user.objects(Op::SetAttributes(too_long))), ErrorCode::AttributeWrong);

    let fixed = KeyTemplate { not_modifiable: true, not_destroyable: true, ..KeyTemplate::default() };
    let request =
        GenerateKeyPair { key_type: KeyType::P256.into(), private_key: Some(fixed), public_key: None };
    let pair = user.objects(Op::GenerateKeyPair(request)).unwrap();
    let change = SetAttributes { object: pair[0].object.clone(), ..SetAttributes::default() };
    assert_eq!(code(user.objects(Op::SetAttributes(change))), ErrorCode::AttributeReadOnly);
    let destroy = |object: &ObjectInfo| Op::DestroyObject(DestroyObject { object: object.object.clone() });
    assert_eq!(code(user.call(destroy(&pair[0]))), ErrorCode::AttributeReadOnly);
    user.call(destroy(&pair[1])).unwrap();
    assert_eq!(code(user.call(destroy(&pair[1]))), ErrorCode::NoSuchObject);
}

#[test]
fn certificates_and_public_keys_are_stored_beside_keys() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "key").unwrap();
    let create = |user: &mut Client, object: ObjectInfo| {
        user.objects(Op::CreateObject(CreateObject { object: Some(object) }))
    };
    let certificate = ObjectInfo {
        class: ObjectClass::Certificate.into(),
        label: "key".into(),
        id: pair[0].id.clone(),
        value: vec![0x30, 1, 5],
        ..ObjectInfo::default()
    };
    let made = create(&mut user, certificate.clone()).unwrap();
    assert_eq!((made[0].object.len(), made[0].private, &made[0].value), (16, false, &certificate.value));
    let not_der = ObjectInfo { value: b"-----BEGIN CERTIFICATE".to_vec(), ..certificate };
    assert_eq!(code(create(&mut user, not_der)), ErrorCode::KeyMalformed);
    let public = ObjectInfo {
        class: ObjectClass::PublicKey.into(),
        public_key: pair[0].public_key.clone(),
        private: true,
        ..ObjectInfo::default()
    };
    let made = create(&mut user, public.clone()).unwrap();
    assert_eq!(made[0].key_type(), KeyType::P256);
    let hidden = FindObjects { object: made[0].object.clone(), ..FindObjects::default() };
    assert_eq!(running.client().find(hidden).unwrap(), []);
    let not_a_key = ObjectInfo { public_key: vec![0x30, 0], ..public };
    assert_eq!(code(create(&mut user, not_a_key)), ErrorCode::KeyMalformed);
    let private = ObjectInfo { class: ObjectClass::PrivateKey.into(), ..ObjectInfo::default() };
    assert_eq!(code(create(&mut user, private)), ErrorCode::AttributeWrong);
}

/// That others verify it is tested through PKCS#11.
#[test]
fn ml_dsa_keys_sign_representatives_over_the_connection_also_after_a_restart() {
    let mut running = Running::with_partition();
    for (key_type, length) in [(KeyType::MlDsa44, 2420), (KeyType::MlDsa65, 3309), (KeyType::MlDsa87, 4627)] {
        let pair = running.user().generate(key_type, "lattice").unwrap();
        running = running.restart();
        let mut user = running.user();
        let signature = user.sign(&pair[0], Mechanism::MlDsa, None, &[7; 64]).unwrap();
        assert_eq!(signature.len(), length);
        let mut verify = |data: [u8; 64]| {
            user.call(Op::Verify(Verify {
                key: pair[1].object.clone(),
                mechanism: Mechanism::MlDsa.into(),
                pss: None,
                data: data.to_vec(),
                signature: signature.clone(),
            }))
        };
        verify([7; 64]).unwrap();
        assert_eq!(code(verify([8; 64])), ErrorCode::SignatureWrong);
        assert_eq!(code(user.sign(&pair[0], Mechanism::MlDsa, None, &[7; 63])), ErrorCode::DataLength);
        assert_eq!(
            code(user.sign(&pair[0], Mechanism::Eddsa, None, &[7; 64])),
            ErrorCode::MechanismDoesNotFit
        );
    }
}
