//! Keys go out and come in wrapped. The openssl command is the other side.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::fs;
use std::path::Path;
use std::process::Command;

use running::{Client, Running, code};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const WRAPS: KeyPolicy = KeyPolicy { wrap: true, unwrap: true, ..NOTHING };
const NOTHING: KeyPolicy = KeyPolicy {
    sign: false,
    verify: false,
    encrypt: false,
    decrypt: false,
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
};
const SIGNS_AND_LEAVES: KeyPolicy = KeyPolicy { sign: true, extractable: true, ..NOTHING };

fn template(label: &str, policy: KeyPolicy) -> Option<KeyTemplate> {
    Some(KeyTemplate { label: label.into(), policy: Some(policy), ..KeyTemplate::default() })
}

/// The AES key of these bytes, which openssl has too.
fn import_secret(client: &mut Client, value: &[u8], label: &str, policy: KeyPolicy) -> ObjectInfo {
    let key_type = if value.len() == 32 { KeyType::Aes256 } else { KeyType::Aes128 };
    let import = ImportKey { key_type: key_type.into(), value: value.to_vec(), key: template(label, policy) };
    client.objects(Op::ImportKey(import)).unwrap().swap_remove(0)
}

fn pair(client: &mut Client, key_type: KeyType, private: KeyPolicy, public: KeyPolicy) -> [ObjectInfo; 2] {
    let generate = GenerateKeyPair {
        key_type: key_type.into(),
        private_key: template("pair", private),
        public_key: template("pair", public),
    };
    client.objects(Op::GenerateKeyPair(generate)).unwrap().try_into().unwrap()
}

fn oaep(hash: Hash) -> Option<OaepParameters> {
    Some(OaepParameters { hash: hash.into(), mgf1_hash: hash.into(), label: Vec::new() })
}

fn wrap(
    client: &mut Client,
    with: &ObjectInfo,
    key: &ObjectInfo,
    mechanism: Mechanism,
    oaep: Option<OaepParameters>,
) -> Result<Vec<u8>, ClientError> {
    let (wrapping_key, key) = (with.object.clone(), key.object.clone());
    let wrap = WrapKey { wrapping_key, key, mechanism: mechanism.into(), oaep, aes_bits: 256 };
    match client.call(Op::WrapKey(wrap))? {
        response::Result::WrappedKey(reply) => Ok(reply.wrapped),
        other => panic!("{other:?}"),
    }
}

fn unwrap(
    client: &mut Client,
    with: &ObjectInfo,
    wrapped: &[u8],
    mechanism: Mechanism,
    oaep: Option<OaepParameters>,
    change: impl FnOnce(&mut UnwrapKey),
) -> Result<Vec<ObjectInfo>, ClientError> {
    let mut unwrap = UnwrapKey {
        unwrapping_key: with.object.clone(),
        mechanism: mechanism.into(),
        oaep,
        wrapped: wrapped.to_vec(),
        class: ObjectClass::PrivateKey.into(),
        ..UnwrapKey::default()
    };
    change(&mut unwrap);
    client.objects(Op::UnwrapKey(unwrap))
}

fn as_secret(request: &mut UnwrapKey) {
    request.class = ObjectClass::SecretKey.into();
}

const KWP: Mechanism = Mechanism::AesKeyWrapKwp;
const RSA_AES: Mechanism = Mechanism::RsaAesKeyWrap;

/// What openssl wrapped with an AES key comes in, and what goes out openssl unwraps to the same key.
#[test]
fn private_keys_of_every_type_go_to_openssl_and_come_back() {
    let running = Running::with_partition();
    let mut user = running.user();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let kek = [0x5a; 32];
    let hex = "5a".repeat(32);
    let enc = ["enc", "-id-aes256-wrap-pad", "-iv", "A65959A6", "-K", &hex];
    let kek = import_secret(&mut user, &kek, "kek", WRAPS);
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
    for algorithm in [&rsa[..], &p384, &["-algorithm", "Ed25519"], &["-algorithm", "X25519"]] {
        openssl(at, &[&["genpkey", "-quiet", "-out", "key.pem"], algorithm].concat());
        openssl(at, &["pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER", "-out", "key.der"]);
        openssl(at, &["pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "public.der"]);
        openssl(at, &[&enc[..], &["-in", "key.der", "-out", "wrapped"]].concat());
        let wrapped = fs::read(at.join("wrapped")).unwrap();
        let derives = KeyPolicy { sign: false, derive: true, ..SIGNS_AND_LEAVES };
        let policy = if algorithm.contains(&"X25519") { derives } else { SIGNS_AND_LEAVES };
        let made = unwrap(&mut user, &kek, &wrapped, KWP, None, |request| {
            request.key = template("web", policy);
        });
        let [private, public]: [ObjectInfo; 2] = made.unwrap().try_into().unwrap();
        assert_eq!(private.public_key, fs::read(at.join("public.der")).unwrap());
        assert_eq!((private.class(), public.class()), (ObjectClass::PrivateKey, ObjectClass::PublicKey));
        let policy = private.policy.unwrap();
        assert!(policy.extractable && !policy.local && !policy.always_sensitive);
        assert!(!policy.never_extractable);

        fs::write(at.join("out"), wrap(&mut user, &kek, &private, KWP, None).unwrap()).unwrap();
        openssl(at, &[&enc[..], &["-d", "-in", "out", "-out", "back.der"]].concat());
        openssl(
            at,
            &["pkey", "-inform", "DER", "-in", "back.der", "-pubout", "-outform", "DER", "-out", "back.pub"],
        );
        assert_eq!(fs::read(at.join("back.pub")).unwrap(), private.public_key);
    }
}

/// RSA-OAEP with AES key wrap, the way of every cloud's "bring your own key".
#[test]
fn keys_wrapped_for_an_rsa_key_come_in() {
    let running = Running::with_partition();
    let mut user = running.user();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let unwraps = KeyPolicy { unwrap: true, ..NOTHING };
    let [private, public] = pair(&mut user, KeyType::Rsa3072, unwraps, KeyPolicy { wrap: true, ..NOTHING });
    fs::write(at.join("kek.der"), &public.public_key).unwrap();
    openssl(at, &["pkey", "-pubin", "-inform", "DER", "-in", "kek.der", "-out", "kek.pem"]);
    let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl(at, &[&["genpkey", "-quiet", "-outform", "DER", "-out", "key.der"], &p256[..]].concat());
    openssl(
        at,
        &["pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", "key.der", "-outform", "DER", "-out", "p8"],
    );
    let between = "27".repeat(32);
    fs::write(at.join("between"), [0x27; 32]).unwrap();
    let encrypt = |md: &str| {
        let options = [format!("rsa_oaep_md:{md}"), format!("rsa_mgf1_md:{md}")];
        let encrypt =
            ["pkeyutl", "-encrypt", "-pubin", "-inkey", "kek.pem", "-in", "between", "-out", "head"];
        let padding = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", &options[0], "-pkeyopt", &options[1]];
        openssl(at, &[&encrypt[..], &padding].concat());
        fs::read(at.join("head")).unwrap()
    };
    let enc = ["enc", "-id-aes256-wrap-pad", "-iv", "A65959A6", "-K", &between, "-in", "p8", "-out", "tail"];
    openssl(at, &enc);
    let tail = fs::read(at.join("tail")).unwrap();
    for (hash, md) in [(Hash::Sha256, "sha256"), (Hash::Sha1, "sha1")] {
        let wrapped = [encrypt(md), tail.clone()].concat();
        let made = unwrap(&mut user, &private, &wrapped, RSA_AES, oaep(hash), |request| {
            request.key_types = vec![KeyType::P256.into()];
            request.private_only = true;
        });
        assert_eq!(made.unwrap().len(), 1);
        // With another hash, another type of key, another class, a changed byte: nothing comes in.
        let other = if hash == Hash::Sha1 { Hash::Sha256 } else { Hash::Sha1 };
        let refused = unwrap(&mut user, &private, &wrapped, RSA_AES, oaep(other), |_| {});
        assert_eq!(code(refused), ErrorCode::WrappedKeyWrong);
        let refused = unwrap(&mut user, &private, &wrapped, RSA_AES, oaep(hash), |request| {
            request.key_types = vec![KeyType::P384.into()];
        });
        assert_eq!(code(refused), ErrorCode::KeyMalformed);
        let refused = unwrap(&mut user, &private, &wrapped, RSA_AES, oaep(hash), as_secret);
        assert_eq!(code(refused), ErrorCode::KeyMalformed);
        for at in [0, 383, 384, wrapped.len() - 1] {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            let refused = unwrap(&mut user, &private, &changed, RSA_AES, oaep(hash), |_| {});
            assert_eq!(code(refused), ErrorCode::WrappedKeyWrong);
        }
        for length in [0, 383, 384, wrapped.len() - 8] {
            let refused = unwrap(&mut user, &private, &wrapped[..length], RSA_AES, oaep(hash), |_| {});
            assert_eq!(code(refused), ErrorCode::WrappedKeyWrong);
        }
    }
    // A secret key, alone under RSA-OAEP.
    let made = unwrap(
        &mut user,
        &private,
        &encrypt("sha256"),
        Mechanism::RsaPkcsOaep,
        oaep(Hash::Sha256),
        |request| {
            as_secret(request);
            request.key = template("data", WRAPS);
        },
    );
    let secret = made.unwrap().swap_remove(0);
    assert_eq!(secret.key_type(), KeyType::Aes256);
    // It is the same: what openssl wrapped with it opens.
    unwrap(&mut user, &secret, &tail, KWP, None, |_| {}).unwrap();
    let long = vec![0; 16 * 1024 + 8];
    assert_eq!(code(unwrap(&mut user, &secret, &long, KWP, None, |_| {})), ErrorCode::Limit);
    // Out under the public key, in under the private one.
    let leaves = KeyPolicy { encrypt: true, extractable: true, ..NOTHING };
    let key = import_secret(&mut user, &[7; 16], "leaves", leaves);
    for mechanism in [RSA_AES, Mechanism::RsaPkcsOaep] {
        let wrapped = wrap(&mut user, &public, &key, mechanism, oaep(Hash::Sha384)).unwrap();
        let made = unwrap(&mut user, &private, &wrapped, mechanism, oaep(Hash::Sha384), as_secret).unwrap();
        assert_eq!(made[0].key_type(), KeyType::Aes128);
    }
}

#[test]
fn what_is_not_extractable_never_leaves() {
    let running = Running::with_partition();
    let mut user = running.user();
    let kek = import_secret(&mut user, &[1; 32], "kek", WRAPS);
    let stays = user.generate(KeyType::P256, "stays").unwrap();
    let refused = wrap(&mut user, &kek, &stays[0], KWP, None);
    assert_eq!(code(refused), ErrorCode::KeyNotExtractable);
    assert_eq!(code(wrap(&mut user, &kek, &kek, KWP, None)), ErrorCode::KeyNotExtractable);
    assert_eq!(code(wrap(&mut user, &kek, &stays[1], KWP, None)), ErrorCode::KeyMayNot);

    let [leaves, public] = pair(&mut user, KeyType::P256, SIGNS_AND_LEAVES, NOTHING);
    wrap(&mut user, &kek, &leaves, KWP, None).unwrap();
    // With what does not wrap; in ways that do not fit.
    for with in [&stays[0], &stays[1], &public, &leaves] {
        assert_eq!(code(wrap(&mut user, with, &leaves, KWP, None)), ErrorCode::KeyMayNot);
    }
    let wrong = code(wrap(&mut user, &kek, &leaves, RSA_AES, oaep(Hash::Sha256)));
    assert_eq!(wrong, ErrorCode::MechanismParameterWrong);
    assert_eq!(code(wrap(&mut user, &kek, &leaves, Mechanism::Ecdsa, None)), ErrorCode::MechanismDoesNotFit);
    // PKCS#8 of this key has 138 bytes: no multiple of 8.
    let kw = wrap(&mut user, &kek, &leaves, Mechanism::AesKeyWrap, None);
    assert_eq!(code(kw), ErrorCode::DataLength);
    // The permission can be given up, not taken back.
    let set = |not_extractable, wrap_with_trusted| {
        let object = leaves.object.clone();
        Op::SetAttributes(SetAttributes {
            object,
            not_extractable,
            wrap_with_trusted,
            ..SetAttributes::default()
        })
    };
    user.objects(set(true, false)).unwrap();
    assert_eq!(code(wrap(&mut user, &kek, &leaves, KWP, None)), ErrorCode::KeyNotExtractable);
    let policy = user.objects(set(false, false)).unwrap()[0].policy.unwrap();
    assert!(!policy.extractable && !policy.never_extractable);
    // An officer moves no keys.
    let mut officer = running.officer();
    let refused = wrap(&mut officer, &kek, &leaves, KWP, None);
    assert_eq!(code(refused), ErrorCode::NotPermitted);
    assert_eq!(code(unwrap(&mut officer, &kek, &[0; 24], KWP, None, |_| {})), ErrorCode::NotPermitted);
    // What a client claims of the past is not believed.
    let claims = KeyPolicy { local: true, always_sensitive: true, trusted: true, ..WRAPS };
    let policy = import_secret(&mut user, &[2; 32], "claims", claims).policy.unwrap();
    assert!(!policy.local && !policy.always_sensitive && !policy.trusted);
}

#[test]
fn some_keys_leave_under_trusted_keys_only() {
    let running = Running::with_partition();
    let (mut user, mut officer) = (running.user(), running.officer());
    let kek = import_secret(&mut user, &[1; 32], "kek", WRAPS);
    let wary = KeyPolicy { wrap_with_trusted: true, ..SIGNS_AND_LEAVES };
    let [key, _] = pair(&mut user, KeyType::P256, wary, NOTHING);
    let refused = wrap(&mut user, &kek, &key, KWP, None);
    assert_eq!(code(refused), ErrorCode::WrappingKeyNotTrusted);

    let trust = |label: &str, distrust| {
        Op::TrustKey(TrustKey { label: label.into(), distrust, ..TrustKey::default() })
    };
    assert_eq!(code(user.objects(trust("kek", false))), ErrorCode::NotPermitted);
    assert_eq!(code(officer.objects(trust("no such", false))), ErrorCode::NoSuchObject);
    assert!(officer.objects(trust("kek", false)).unwrap()[0].policy.unwrap().trusted);
    let wrapped = wrap(&mut user, &kek, &key, KWP, None).unwrap();

    // The word was about this key, and could not be taken back from its copies.
    let copy = CopyObject { object: kek.object.clone(), label: Some("copy".into()), ..CopyObject::default() };
    let copies = user.objects(Op::CopyObject(copy)).unwrap();
    assert!(!copies[0].policy.unwrap().trusted);
    assert_eq!(code(wrap(&mut user, &copies[0], &key, KWP, None)), ErrorCode::WrappingKeyNotTrusted);

    // Nor is a new version of it, which its user has made: until the officer says so, of the name that means it now.
    let rotate = RotateKey { object: kek.object.clone(), activate: true };
    let next = user.objects(Op::RotateKey(rotate)).unwrap().swap_remove(0);
    assert!(next.policy.unwrap().wrap && !next.policy.unwrap().trusted);
    assert_eq!(code(wrap(&mut user, &next, &key, KWP, None)), ErrorCode::WrappingKeyNotTrusted);
    // The old one is what it was.
    wrap(&mut user, &kek, &key, KWP, None).unwrap();
    let trusted = officer.objects(trust("kek", false)).unwrap();
    assert_eq!(trusted.iter().map(|key| &key.object).collect::<Vec<_>>(), [&next.object]);
    wrap(&mut user, &next, &key, KWP, None).unwrap();
    // Taken back, it is of both.
    assert_eq!(officer.objects(trust("kek", true)).unwrap().len(), 2);
    for version in [&kek, &next] {
        assert_eq!(code(wrap(&mut user, version, &key, KWP, None)), ErrorCode::WrappingKeyNotTrusted);
    }
    assert_eq!(code(officer.objects(trust("kek", true))), ErrorCode::NoSuchObject);
    for version in [&kek, &next] {
        let again = TrustKey { object: version.object.clone(), ..TrustKey::default() };
        officer.objects(Op::TrustKey(again)).unwrap();
    }

    // What comes in under a trusted key leaves under trusted keys only, whatever is asked for.
    let asked = |request: &mut UnwrapKey| request.key = template("again", SIGNS_AND_LEAVES);
    let again = unwrap(&mut user, &kek, &wrapped, KWP, None, asked).unwrap();
    assert!(again[0].policy.unwrap().wrap_with_trusted);
    let own = import_secret(&mut user, &[3; 32], "own", WRAPS);
    assert_eq!(code(wrap(&mut user, &own, &again[0], KWP, None)), ErrorCode::WrappingKeyNotTrusted);

    // Nor does any copy set it free, or the officer who takes the word back; another key of the same user's knows nothing of it.
    let is_bound = |user: &mut Client, with: &ObjectInfo, wrapped: &[u8]| {
        let out = unwrap(user, with, wrapped, KWP, None, asked).unwrap();
        out[0].policy.unwrap().wrap_with_trusted
    };
    let copy = |user: &mut Client, of: &ObjectInfo, session| {
        let copy = CopyObject { object: of.object.clone(), session, ..CopyObject::default() };
        user.objects(Op::CopyObject(copy)).unwrap().swap_remove(0)
    };
    let late = import_secret(&mut user, &[7; 32], "late", WRAPS);
    let [stored, for_session] = [false, true].map(|session| copy(&mut user, &late, session));
    let of_copy = copy(&mut user, &for_session, true);
    let plain = wrap(&mut user, &late, &again[0], KWP, None);
    assert_eq!(code(plain), ErrorCode::WrappingKeyNotTrusted);
    for key in [&late, &stored, &for_session, &of_copy] {
        let free = pair(&mut user, KeyType::P256, SIGNS_AND_LEAVES, NOTHING);
        let wrapped = wrap(&mut user, key, &free[0], KWP, None).unwrap();
        assert!(!is_bound(&mut user, key, &wrapped));
    }
    let trust_one = |object: &ObjectInfo, distrust| {
        Op::TrustKey(TrustKey { object: object.object.clone(), distrust, ..TrustKey::default() })
    };
    // The copy is trusted: so what it goes back to is known as well.
    officer.objects(trust_one(&stored, false)).unwrap();
    let wrapped = wrap(&mut user, &stored, &key, KWP, None).unwrap();
    officer.objects(trust_one(&stored, true)).unwrap();
    let after = copy(&mut user, &stored, false);
    for copy in [&late, &stored, &for_session, &of_copy, &after] {
        assert!(is_bound(&mut user, copy, &wrapped), "{}", copy.label);
    }
    user.call(Op::DestroyObject(DestroyObject { object: late.object.clone() })).unwrap();
    assert!(is_bound(&mut user, &for_session, &wrapped));
    // Of what a copy goes back to somebody may have another, where it is not stored.
    let orphan = copy(&mut user, &of_copy, false);
    assert_eq!(code(officer.objects(trust_one(&orphan, false))), ErrorCode::KeyMayNot);

    // Of a pair both halves are trusted together.
    let unwraps = KeyPolicy { unwrap: true, ..NOTHING };
    let wraps = KeyPolicy { wrap: true, ..NOTHING };
    let [private, public] = pair(&mut user, KeyType::Rsa2048, unwraps, wraps);
    let both = TrustKey { object: public.object.clone(), ..TrustKey::default() };
    assert_eq!(officer.objects(Op::TrustKey(both)).unwrap().len(), 2);
    let wrapped = wrap(&mut user, &public, &key, RSA_AES, oaep(Hash::Sha256)).unwrap();
    let again = unwrap(&mut user, &private, &wrapped, RSA_AES, oaep(Hash::Sha256), asked).unwrap();
    assert!(again[0].policy.unwrap().wrap_with_trusted);

    // A key that could open what it wraps, or be taken out itself, is not trusted.
    let double = KeyPolicy { decrypt: true, ..WRAPS };
    import_secret(&mut user, &[4; 32], "double", double);
    assert_eq!(code(officer.objects(trust("double", false))), ErrorCode::KeyMayNot);
    import_secret(&mut user, &[5; 32], "leaves", KeyPolicy { extractable: true, ..WRAPS });
    assert_eq!(code(officer.objects(trust("leaves", false))), ErrorCode::KeyMayNot);
    let both = KeyPolicy { decrypt: true, unwrap: true, ..NOTHING };
    let [_, public] = pair(&mut user, KeyType::Rsa2048, both, wraps);
    let request = TrustKey { object: public.object, ..TrustKey::default() };
    assert_eq!(code(officer.objects(Op::TrustKey(request))), ErrorCode::KeyMayNot);
    import_secret(&mut user, &[6; 32], "signs", KeyPolicy { encrypt: true, ..NOTHING });
    assert_eq!(code(officer.objects(trust("signs", false))), ErrorCode::NoSuchObject);

    // It lasts over a restart, until the officer says otherwise.
    drop((user, officer));
    let running = running.restart();
    let (mut user, mut officer) = (running.user(), running.officer());
    wrap(&mut user, &kek, &key, KWP, None).unwrap();
    officer.objects(trust("kek", true)).unwrap();
    assert_eq!(code(wrap(&mut user, &kek, &key, KWP, None)), ErrorCode::WrappingKeyNotTrusted);
}
