//! Where a private key is in the daemon's memory, and where it is not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod attacker;
mod running;

use std::fs::File;
use std::process::Command;

use attacker::occurrences;
use running::{OFFICER, PASSWORD, Process, USER};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// A P-256 key made by openssl: DER PKCS#8, and the 32 bytes that are its secret.
fn p256_key() -> (Vec<u8>, Vec<u8>) {
    let script = "openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
                  | openssl pkcs8 -topk8 -nocrypt -outform DER";
    let pkcs8 = Command::new("sh").args(["-c", script]).output().unwrap().stdout;
    // PrivateKeyInfo: 138 bytes, the scalar from byte 36 (SEC 1, C.4 inside RFC 5208).
    assert_eq!((pkcs8.len(), &pkcs8[34..36]), (138, &[0x04, 0x20][..]));
    let scalar = pkcs8[36..68].to_vec();
    (pkcs8, scalar)
}

#[test]
fn a_key_is_not_in_memory_that_others_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let id = process.child.id();
    if !rustix::process::geteuid().is_root() {
        // Not even the daemon's own user can look.
        assert!(File::open(format!("/proc/{id}/mem")).is_err());
        return;
    }
    let mut client = process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let (pkcs8, scalar) = p256_key();
    let reversed: Vec<u8> = scalar.iter().rev().copied().collect();
    // The search finds what is there: the label, which is no secret.
    let label = "this can be found in memory".to_owned();
    let template = KeyTemplate { label: label.clone(), ..KeyTemplate::default() };
    let import = ImportKeyPair { pkcs8, private_key: Some(template), ..ImportKeyPair::default() };
    let pair = client.objects(Op::ImportKeyPair(import)).unwrap();
    let sign = |client: &mut running::Client| {
        for _ in 0..100 {
            client.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
        }
    };
    sign(&mut client);
    let response::Result::Status(status) = client.call(Op::Status(Status {})).unwrap() else { panic!() };
    assert!(occurrences(id, &[label.into_bytes()]) > 0);
    // Big-endian as in DER, little-endian as the computation has it.
    let needles = [scalar, reversed];
    let passwords = [PASSWORD.as_bytes().to_vec()];
    if status.memory == "memfd_secret" {
        assert_eq!(occurrences(id, &needles), 0);
    }
    // A password is wiped wherever it passed, protected memory or not.
    assert_eq!(occurrences(id, &passwords), 0);
    // And when the key was read from the store.
    process.kill();
    let process = Process::start(directory.path());
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    sign(&mut client);
    client.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    if status.memory == "memfd_secret" {
        assert_eq!(occurrences(process.child.id(), &needles), 0);
    }
    assert_eq!(occurrences(process.child.id(), &passwords), 0);
}

#[test]
fn a_secret_key_and_plaintexts_are_not_in_memory_that_others_can_read() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let mut client = process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let value = b"0123456789-a-key-of-32-bytes-xyz".to_vec();
    let import = ImportKey { key_type: KeyType::Aes256.into(), value: value.clone(), key: None };
    let key = client.objects(Op::ImportKey(import)).unwrap().remove(0);
    let (mechanism, key) = (Mechanism::AesGcm.into(), key.object);
    let gcm = Some(GcmParameters { iv: vec![1; 12], aad: Vec::new(), tag_bits: 128 });
    let plaintext = b"a plaintext that others may not read, ".repeat(100);
    let both = |client: &mut running::Client| {
        let request = Encrypt {
            key: key.clone(),
            mechanism,
            gcm: gcm.clone(),
            data: plaintext.clone(),
            ..Encrypt::default()
        };
        let response::Result::Ciphertext(sealed) = client.call(Op::Encrypt(request)).unwrap() else {
            panic!()
        };
        let ciphertext = sealed.ciphertext;
        let request =
            Decrypt { key: key.clone(), mechanism, gcm: gcm.clone(), ciphertext, ..Decrypt::default() };
        let response::Result::Plaintext(opened) = client.call(Op::Decrypt(request)).unwrap() else {
            panic!()
        };
        assert_eq!(opened.plaintext, plaintext);
    };
    (0..20).for_each(|_| both(&mut client));
    let response::Result::Status(status) = client.call(Op::Status(Status {})).unwrap() else { panic!() };
    let is_protected = status.memory == "memfd_secret";
    let (key_bytes, plain) = ([value], [plaintext[..38].to_vec()]);
    assert!(!is_protected || occurrences(process.child.id(), &key_bytes) == 0);
    assert_eq!(occurrences(process.child.id(), &plain), 0);
    // And when the key was read from the store.
    process.kill();
    let process = Process::start(directory.path());
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    (0..20).for_each(|_| both(&mut client));
    assert!(!is_protected || occurrences(process.child.id(), &key_bytes) == 0);
    assert_eq!(occurrences(process.child.id(), &plain), 0);
}

#[test]
fn what_private_keys_decrypt_and_derive_is_not_in_memory_that_others_can_read() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").current_dir(at).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let process = Process::start(at);
    let mut client = process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let mut make = |key_type: KeyType, policy| {
        let template = KeyTemplate { policy: Some(policy), ..KeyTemplate::default() };
        let request = GenerateKeyPair {
            key_type: key_type.into(),
            private_key: Some(template),
            ..GenerateKeyPair::default()
        };
        let key = client.objects(Op::GenerateKeyPair(request)).unwrap().remove(0);
        std::fs::write(at.join("key.der"), &key.public_key).unwrap();
        openssl(&["pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem"]);
        key.object
    };
    // Without padding the private operation is a signature, too: it takes a key that may do both.
    let rsa = make(KeyType::Rsa2048, KeyPolicy { sign: true, decrypt: true, ..KeyPolicy::default() });
    let plaintext = b"a plaintext that was encrypted for an RSA key, and that others may not read".to_vec();
    std::fs::write(at.join("plain"), &plaintext).unwrap();
    let ciphertext = openssl(&["pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "plain"]);
    let x25519 = make(KeyType::X25519, KeyPolicy { derive: true, ..KeyPolicy::default() });
    openssl(&["genpkey", "-algorithm", "X25519", "-out", "other.pem"]);
    let secret = openssl(&["pkeyutl", "-derive", "-inkey", "other.pem", "-peerkey", "key.pem"]);
    let spki = openssl(&["pkey", "-in", "other.pem", "-pubout", "-outform", "DER"]);
    for mechanism in [Mechanism::RsaPkcs, Mechanism::RsaX509].into_iter().cycle().take(20) {
        let (key, ciphertext) = (rsa.clone(), ciphertext.clone());
        let request = Decrypt { key, mechanism: mechanism.into(), ciphertext, ..Decrypt::default() };
        let response::Result::Plaintext(opened) = client.call(Op::Decrypt(request)).unwrap() else {
            panic!()
        };
        assert!(opened.plaintext.ends_with(&plaintext));
        let (key, public_key) = (x25519.clone(), spki[spki.len() - 32..].to_vec());
        let request = Derive { key, mechanism: Mechanism::Ecdh.into(), public_key };
        let response::Result::SharedSecret(derived) = client.call(Op::Derive(request)).unwrap() else {
            panic!()
        };
        assert_eq!(derived.secret, secret);
    }
    assert_eq!(occurrences(process.child.id(), &[plaintext[..38].to_vec(), secret]), 0);
}
