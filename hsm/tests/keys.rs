//! Keys: generated, found, used, kept over restarts. Signatures are verified by the openssl command.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::fs;
use std::process::Command;

use running::{Running, code};
use strongroom_protocol::v1::*;

/// Runs openssl in a directory; whether it succeeded.
fn openssl(directory: &std::path::Path, arguments: &[&str]) -> bool {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output().unwrap();
    if !output.status.success() {
        eprintln!("openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
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
    assert!(openssl(at, &["pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem"]));
    assert!(openssl(at, &["dgst", "-sha256", "-binary", "-out", "digest", "message"]));
    let digest = fs::read(at.join("digest")).unwrap();
    let dgst = ["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"];
    match key.key_type() {
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
            let info = [&SHA256_INFO[..], &digest].concat();
            let signature = client.sign(key, Mechanism::RsaPkcs, None, &info).unwrap();
            fs::write(at.join("signature"), signature).unwrap();
            assert!(openssl(at, &[&dgst[..], &["message"]].concat()));
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
                assert!(openssl(at, &[&dgst[..], &options, &["message"]].concat()));
            }
        }
        KeyType::Ed25519 => {
            let signature = client.sign(key, Mechanism::Eddsa, None, message).unwrap();
            fs::write(at.join("signature"), signature).unwrap();
            let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message"];
            assert!(openssl(at, &[&verify[..], &["-sigfile", "signature"]].concat()));
        }
        _ => {
            let signature = client.sign(key, Mechanism::Ecdsa, None, &digest).unwrap();
            fs::write(at.join("signature"), ecdsa_der(&signature)).unwrap();
            assert!(openssl(at, &[&dgst[..], &["message"]].concat()));
            // The verification can fail.
            fs::write(at.join("message"), b"another").unwrap();
            assert!(!openssl(at, &[&dgst[..], &["message"]].concat()));
        }
    }
}

const EVERY_TYPE: [KeyType; 7] = [
    KeyType::Rsa2048,
    KeyType::Rsa3072,
    KeyType::Rsa4096,
    KeyType::P256,
    KeyType::P384,
    KeyType::P521,
    KeyType::Ed25519,
];

#[test]
fn every_key_type_signs_what_openssl_verifies_also_after_a_restart() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    for key_type in EVERY_TYPE {
        let made = user.generate(key_type, key_type.as_str_name()).unwrap();
        assert_eq!((made[0].class(), made[1].class()), (ObjectClass::PrivateKey, ObjectClass::PublicKey));
        assert_eq!(made[0].public_key, made[1].public_key);
        assert_eq!((made[0].id.len(), &made[0].id), (20, &made[1].id));
    }
    drop(user);
    for _ in 0..2 {
        let found = running.user().find(FindObjects::default()).unwrap();
        assert_eq!(found.len(), 2 * EVERY_TYPE.len());
        for (pair, key_type) in found.chunks(2).zip(EVERY_TYPE) {
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
