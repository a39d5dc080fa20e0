//! What private keys do other than signing: decrypt, derive and decapsulate. The openssl command is the other side.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::fs;
use std::path::Path;
use std::process::Command;

use running::{Client, Running, code, has};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;
use tempfile::TempDir;

fn openssl(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn generate(client: &mut Client, key_type: KeyType, policy: Option<KeyPolicy>) -> ObjectInfo {
    try_generate(client, key_type, policy).unwrap().swap_remove(0)
}

fn try_generate(
    client: &mut Client,
    key_type: KeyType,
    policy: Option<KeyPolicy>,
) -> Result<Vec<ObjectInfo>, ClientError> {
    client.objects(Op::GenerateKeyPair(GenerateKeyPair {
        key_type: key_type.into(),
        private_key: Some(KeyTemplate { policy, ..KeyTemplate::default() }),
        public_key: None,
    }))
}

fn decrypt(
    client: &mut Client,
    key: &ObjectInfo,
    mechanism: Mechanism,
    oaep: Option<OaepParameters>,
    ciphertext: &[u8],
) -> Result<Vec<u8>, ClientError> {
    let (key, mechanism, ciphertext) = (key.object.clone(), mechanism.into(), ciphertext.to_vec());
    match client.call(Op::Decrypt(Decrypt { key, mechanism, ciphertext, oaep, ..Decrypt::default() }))? {
        response::Result::Plaintext(reply) => Ok(reply.plaintext),
        other => panic!("{other:?}"),
    }
}

fn derive(client: &mut Client, key: &ObjectInfo, public_key: &[u8]) -> Result<Vec<u8>, ClientError> {
    let (key, public_key) = (key.object.clone(), public_key.to_vec());
    match client.call(Op::Derive(Derive { key, mechanism: Mechanism::Ecdh.into(), public_key }))? {
        response::Result::SharedSecret(reply) => Ok(reply.secret),
        other => panic!("{other:?}"),
    }
}

/// A directory with the public key as `key.pem`.
fn published(key: &ObjectInfo) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key.der"), &key.public_key).unwrap();
    openssl(directory.path(), &["pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem"]);
    directory
}

fn encrypt(key: &ObjectInfo, options: &[&str], message: &[u8]) -> Vec<u8> {
    let directory = published(key);
    fs::write(directory.path().join("message"), message).unwrap();
    let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "message"];
    let options = options.iter().flat_map(|option| ["-pkeyopt", *option]);
    openssl(directory.path(), &encrypt.into_iter().chain(options).collect::<Vec<_>>())
}

const MAY_DECRYPT: Option<KeyPolicy> = Some(KeyPolicy {
    sign: false,
    verify: false,
    encrypt: false,
    decrypt: true,
    wrap: false,
    unwrap: false,
    derive: false,
    extractable: false,
    local: false,
    always_sensitive: false,
    never_extractable: false,
    encapsulate: false,
    decapsulate: false,
    trusted: false,
    once_trusted: false,
    wrap_with_trusted: false,
    not_sensitive: false,
    sign_recover: false,
    verify_recover: false,
    always_authenticate: false,
});

#[test]
fn what_openssl_encrypts_is_decrypted_also_after_a_restart() {
    let mut running = Running::with_partition();
    let message = b"48 bytes of premaster secret, as TLS 1.2 has it.";
    for key_type in [KeyType::Rsa2048, KeyType::Rsa3072] {
        let key = generate(&mut running.user(), key_type, MAY_DECRYPT);
        running = running.restart();
        let mut user = running.user();
        let pkcs1 = encrypt(&key, &["rsa_padding_mode:pkcs1"], message);
        assert_eq!(decrypt(&mut user, &key, Mechanism::RsaPkcs, None, &pkcs1).unwrap(), message);
        // Without padding a decryption could be a signature: it takes a key that may do both.
        let raw = decrypt(&mut user, &key, Mechanism::RsaX509, None, &pkcs1);
        assert_eq!(code(raw), ErrorCode::KeyMayNot);
        let may_both = MAY_DECRYPT.map(|policy| KeyPolicy { sign: true, ..policy });
        let both = generate(&mut user, key_type, may_both);
        let other = encrypt(&both, &["rsa_padding_mode:pkcs1"], message);
        let raw = decrypt(&mut user, &both, Mechanism::RsaX509, None, &other).unwrap();
        assert_eq!((raw.len(), &raw[..2]), (other.len(), &[0, 2][..]));
        assert!(raw.ends_with(&[&[0][..], message].concat()));
        for (hash, name) in [(Hash::Sha1, "sha1"), (Hash::Sha256, "sha256"), (Hash::Sha512, "sha512")] {
            let (md, mgf1) = (format!("rsa_oaep_md:{name}"), "rsa_mgf1_md:sha384");
            let options = ["rsa_padding_mode:oaep", &md, mgf1, "rsa_oaep_label:6c6162656c"];
            let made = encrypt(&key, &options, message);
            let right = OaepParameters {
                hash: hash.into(),
                mgf1_hash: Hash::Sha384.into(),
                label: b"label".to_vec(),
            };
            let oaep = |oaep| Some(oaep);
            let opened = decrypt(&mut user, &key, Mechanism::RsaPkcsOaep, oaep(right.clone()), &made);
            assert_eq!(opened.unwrap(), message);
            let other = OaepParameters { label: b"other".to_vec(), ..right };
            let refused = decrypt(&mut user, &key, Mechanism::RsaPkcsOaep, oaep(other), &made);
            assert_eq!(code(refused), ErrorCode::CiphertextWrong);
        }
        // Nothing of the ciphertext in the answer, whatever is wrong with it.
        let mut flawed = pkcs1.clone();
        flawed[100] ^= 1;
        for (wrong, expected) in [
            (&flawed[..], ErrorCode::CiphertextWrong),
            (&vec![0xff; pkcs1.len()], ErrorCode::CiphertextWrong),
            (&pkcs1[1..], ErrorCode::DataLength),
            (&[], ErrorCode::DataLength),
        ] {
            assert_eq!(code(decrypt(&mut user, &key, Mechanism::RsaPkcs, None, wrong)), expected);
        }
    }
}

#[test]
fn a_key_made_to_sign_neither_decrypts_nor_derives() {
    let running = Running::with_partition();
    let mut user = running.user();
    let rsa = generate(&mut user, KeyType::Rsa2048, None);
    assert!(rsa.policy.unwrap().sign && !rsa.policy.unwrap().decrypt);
    for mechanism in [Mechanism::RsaPkcs, Mechanism::RsaX509, Mechanism::RsaPkcsOaep] {
        let oaep =
            Some(OaepParameters { hash: Hash::Sha1.into(), mgf1_hash: Hash::Sha1.into(), label: Vec::new() });
        let refused = decrypt(&mut user, &rsa, mechanism, oaep, &[1; 256]);
        assert_eq!(code(refused), ErrorCode::KeyMayNot);
    }
    // Nor the other way round, and nothing decrypts by signing.
    let decrypts = generate(&mut user, KeyType::Rsa2048, MAY_DECRYPT);
    assert_eq!(code(user.sign(&decrypts, Mechanism::RsaPkcs, None, &[1; 32])), ErrorCode::KeyMayNot);
    let refused = user.sign(&rsa, Mechanism::RsaX509, None, &[1; 256]);
    assert_eq!(code(refused), ErrorCode::MechanismDoesNotFit);
    let p256 = generate(&mut user, KeyType::P256, None);
    assert_eq!(code(derive(&mut user, &p256, &[4; 65])), ErrorCode::KeyMayNot);
    // What a type cannot do is not granted.
    for (key_type, policy) in [
        (KeyType::P256, MAY_DECRYPT),
        (KeyType::Rsa2048, Some(KeyPolicy { derive: true, ..KeyPolicy::default() })),
        (KeyType::X25519, Some(KeyPolicy { sign: true, ..KeyPolicy::default() })),
        (KeyType::MlDsa65, Some(KeyPolicy { derive: true, ..KeyPolicy::default() })),
    ] {
        assert_eq!(
            code(try_generate(&mut user, key_type, policy)),
            ErrorCode::AttributeWrong,
            "{key_type:?}"
        );
    }
    // Nobody decrypts or derives without logging in.
    let mut stranger = running.client();
    let refused = decrypt(&mut stranger, &decrypts, Mechanism::RsaPkcs, None, &[1; 256]);
    assert_eq!(code(refused), ErrorCode::NotLoggedIn);
    assert_eq!(code(derive(&mut stranger, &p256, &[4; 65])), ErrorCode::NotLoggedIn);
}

#[test]
fn parameters_are_checked() {
    let running = Running::with_partition();
    let mut user = running.user();
    let key = generate(&mut user, KeyType::Rsa2048, MAY_DECRYPT);
    let oaep = |hash: Hash, label: usize| {
        Some(OaepParameters { hash: hash.into(), mgf1_hash: Hash::Sha1.into(), label: vec![1; label] })
    };
    for parameters in [None, oaep(Hash::Unspecified, 0), oaep(Hash::Sha1, 4097)] {
        let refused = decrypt(&mut user, &key, Mechanism::RsaPkcsOaep, parameters, &[1; 256]);
        assert_eq!(code(refused), ErrorCode::MechanismParameterWrong);
    }
    let refused = decrypt(&mut user, &key, Mechanism::AesGcm, None, &[1; 256]);
    assert_eq!(code(refused), ErrorCode::KeyMayNot);
}

#[test]
fn secrets_agree_with_openssls() {
    let mut running = Running::with_partition();
    let may = Some(KeyPolicy { derive: true, ..KeyPolicy::default() });
    for (key_type, genpkey, length) in [
        (KeyType::P256, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..], 65),
        (KeyType::P384, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], 97),
        (KeyType::P521, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], 133),
        (KeyType::P224, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"], 57),
        (
            KeyType::BrainpoolP256r1,
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"],
            65,
        ),
        (
            KeyType::BrainpoolP512r1,
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP512r1"],
            129,
        ),
        (KeyType::X25519, &["-algorithm", "X25519"], 32),
        (KeyType::X448, &["-algorithm", "X448"], 56),
    ] {
        if !has(key_type) {
            continue;
        }
        let key = generate(&mut running.user(), key_type, may);
        running = running.restart();
        let mut user = running.user();
        let directory = published(&key);
        let at = directory.path();
        openssl(at, &[&["genpkey", "-out", "other.pem"], genpkey].concat());
        let spki = openssl(at, &["pkey", "-in", "other.pem", "-pubout", "-outform", "DER"]);
        let public = &spki[spki.len() - length..];
        let theirs = openssl(at, &["pkeyutl", "-derive", "-inkey", "other.pem", "-peerkey", "key.pem"]);
        assert_eq!(derive(&mut user, &key, public).unwrap(), theirs, "{key_type:?}");
        let refused = derive(&mut user, &key, &public[1..]);
        assert_eq!(code(refused), ErrorCode::MechanismParameterWrong);
    }
    // Of X25519 nothing else can be wanted.
    let x25519 = generate(&mut running.user(), KeyType::X25519, None);
    assert!(x25519.policy.unwrap().derive && !x25519.policy.unwrap().sign);
}

fn decapsulate(user: &mut Client, key: &ObjectInfo, ciphertext: &[u8]) -> Result<Vec<u8>, ClientError> {
    let request = Decapsulate {
        key: key.object.clone(),
        mechanism: Mechanism::MlKem.into(),
        ciphertext: ciphertext.to_vec(),
    };
    match user.call(Op::Decapsulate(request))? {
        response::Result::SharedSecret(reply) => Ok(reply.secret),
        other => panic!("{other:?}"),
    }
}

fn encapsulate(client: &mut Client, key: &ObjectInfo) -> Result<(Vec<u8>, Vec<u8>), ClientError> {
    let request = Encapsulate { key: key.object.clone(), mechanism: Mechanism::MlKem.into() };
    match client.call(Op::Encapsulate(request))? {
        response::Result::Encapsulated(reply) => Ok((reply.ciphertext, reply.secret)),
        other => panic!("{other:?}"),
    }
}

/// That others agree is tested through PKCS#11.
#[test]
fn secrets_are_decapsulated_also_after_a_restart_by_those_who_may() {
    let mut running = Running::with_partition();
    for (key_type, length) in
        [(KeyType::MlKem512, 768), (KeyType::MlKem768, 1088), (KeyType::MlKem1024, 1568)]
    {
        let pair = running.user().generate(key_type, "lattice").unwrap();
        let [private, public] = [pair[0].policy.unwrap(), pair[1].policy.unwrap()];
        assert!(private.decapsulate && !private.sign && !private.derive && public.encapsulate);
        // Who may see the public key may encapsulate.
        let (ciphertext, secret) = encapsulate(&mut running.client(), &pair[1]).unwrap();
        assert_eq!((ciphertext.len(), secret.len()), (length, 32));
        running = running.restart();
        let mut user = running.user();
        assert_eq!(decapsulate(&mut user, &pair[0], &ciphertext).unwrap(), secret);
        let short = decapsulate(&mut user, &pair[0], &ciphertext[1..]);
        assert_eq!(code(short), ErrorCode::DataLength);
        assert_eq!(code(decapsulate(&mut user, &pair[1], &ciphertext)), ErrorCode::KeyMayNot);
        assert_eq!(code(encapsulate(&mut user, &pair[0])), ErrorCode::KeyMayNot);
        assert_eq!(code(derive(&mut user, &pair[0], &ciphertext)), ErrorCode::KeyMayNot);
        let stranger = decapsulate(&mut running.client(), &pair[0], &ciphertext);
        assert_eq!(code(stranger), ErrorCode::NotLoggedIn);
        let sign = Some(KeyPolicy { sign: true, ..KeyPolicy::default() });
        assert_eq!(code(try_generate(&mut user, key_type, sign)), ErrorCode::AttributeWrong);
        let sealed = generate(&mut user, key_type, Some(KeyPolicy::default()));
        assert_eq!(code(decapsulate(&mut user, &sealed, &ciphertext)), ErrorCode::KeyMayNot);
    }
    let mut user = running.user();
    let may = Some(KeyPolicy { decapsulate: true, ..KeyPolicy::default() });
    assert_eq!(code(try_generate(&mut user, KeyType::P256, may)), ErrorCode::AttributeWrong);
}
