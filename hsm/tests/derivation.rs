//! Keys made of keys and of passwords: in the daemon, and compared with somebody else's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use kbkdf::{Counter, DoublePipeline, Feedback, Kbkdf, Params};
use running::{Client, Running, code};
use sha2::digest::array::Array;
use sha2::digest::common::KeySizeUser;
use sha2::digest::consts::U100;
use strongroom_hsm::crypto::derivation::{Format, Mode, Part, Prf, Sp800108};
use strongroom_hsm::crypto::symmetric::{SecretKey, SecretKind};
use strongroom_hsm::memory::SecretBytes;
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

type HmacSha256 = hmac::Hmac<sha2::Sha256>;

/// A hundred bytes: three blocks and a part of one.
struct Material;

impl KeySizeUser for Material {
    type KeySize = U100;
}

/// RustCrypto's kbkdf writes counter, label, zero, context and length, the numbers in 32 bits.
#[test]
fn every_mode_is_as_somebody_elses() {
    let (secret, label, context, iv) = ([0x5a; 40], b"label", b"context", [9u8; 32]);
    let key = SecretKey::new(SecretKind::Generic, SecretBytes::from(&secret[..])).unwrap();
    let number = Format { bits: 32, little_endian: false };
    for (counter, length) in [(true, true), (true, false), (false, true), (false, false)] {
        let params = || {
            let params = Params::builder(&secret).with_label(label).with_context(context);
            params.use_counter(counter).use_l(length).build()
        };
        let made = |mode, iteration| {
            let mut parts = vec![Part::Iteration(iteration)];
            if counter && mode != Mode::Counter {
                parts.push(Part::Counter(number));
            }
            parts.extend([Part::Bytes(label), Part::Bytes(&[0]), Part::Bytes(context)]);
            if length {
                parts.push(Part::Length { format: number, of_blocks: false });
            }
            let derivation =
                Sp800108 { prf: Prf::Hmac(strongroom_hsm::crypto::Hash::Sha256), mode, parts: &parts };
            derivation.derive(&key, 100).unwrap().to_vec()
        };
        if counter {
            let theirs = Counter::<HmacSha256, Material>::default().derive(params()).unwrap();
            assert_eq!(made(Mode::Counter, Some(number)), theirs.to_vec());
        }
        let before = Array::from(iv);
        let theirs = Feedback::<HmacSha256, Material>::new(Some(&before)).derive(params()).unwrap();
        assert_eq!(made(Mode::Feedback(&iv), None), theirs.to_vec());
        let theirs = Feedback::<HmacSha256, Material>::new(None).derive(params()).unwrap();
        assert_eq!(made(Mode::Feedback(&[]), None), theirs.to_vec());
        if !length {
            // It leaves the length out of what its chain begins with, which SP 800-108 (revision 1, 4.3) does not.
            let theirs = DoublePipeline::<HmacSha256, Material>::default().derive(params()).unwrap();
            assert_eq!(made(Mode::DoublePipeline, None), theirs.to_vec());
        }
    }
}

fn import(client: &mut Client, value: &[u8], policy: KeyPolicy) -> ObjectInfo {
    let key = Some(KeyTemplate { policy: Some(policy), ..KeyTemplate::default() });
    let import = ImportKey { key_type: KeyType::GenericSecret.into(), value: value.to_vec(), key };
    client.objects(Op::ImportKey(import)).unwrap().swap_remove(0)
}

const CKA_SENSITIVE: u64 = 0x103;
const CKM_SP800_108_COUNTER_KDF: u64 = 0x3ac;
const CKM_HKDF_DERIVE: u64 = 0x402a;

const DERIVES: KeyPolicy = KeyPolicy {
    derive: true,
    sign: false,
    verify: false,
    encrypt: false,
    decrypt: false,
    wrap: false,
    unwrap: false,
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

/// A key of the session that can be read.
fn readable(length: u32) -> KeyTemplate {
    let policy = KeyPolicy { extractable: true, not_sensitive: true, sign: true, ..KeyPolicy::default() };
    KeyTemplate { policy: Some(policy), session: true, value_length: length, ..KeyTemplate::default() }
}

/// RFC 5869, A.1.
fn hkdf(key: &ObjectInfo, derived: KeyTemplate) -> DeriveKey {
    let hkdf = HkdfParameters {
        hash: Hash::Sha256.into(),
        extract: true,
        expand: true,
        salt: (0..13).collect(),
        info: (0xf0..0xfa).collect(),
        ..HkdfParameters::default()
    };
    DeriveKey {
        key: key.object.clone(),
        mechanism: Mechanism::Hkdf.into(),
        key_type: KeyType::GenericSecret.into(),
        derived: Some(derived),
        hkdf: Some(hkdf),
        ..DeriveKey::default()
    }
}

const OKM: [u8; 42] = [
    0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36, 0x2f, 0x2a, 0x2d,
    0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf, 0x34, 0x00,
    0x72, 0x08, 0xd5, 0xb8, 0x87, 0x18, 0x58, 0x65,
];

fn derive(client: &mut Client, request: DeriveKey) -> Result<ObjectInfo, ClientError> {
    client.objects(Op::DeriveKey(request)).map(|mut made| made.swap_remove(0))
}

fn reveal(client: &mut Client, key: &ObjectInfo) -> Result<Vec<u8>, ClientError> {
    match client.call(Op::RevealKey(RevealKey { key: key.object.clone() }))? {
        response::Result::SharedSecret(SharedSecret { secret }) => Ok(secret),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_derived_key_is_made_and_kept_in_the_partition() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    let base = import(&mut user, &[0x0b; 22], DERIVES);
    let made = derive(&mut user, hkdf(&base, readable(42))).unwrap();
    assert_eq!(reveal(&mut user, &made).unwrap(), OKM);
    let policy = made.policy.unwrap();
    assert!(made.session && !policy.local && !policy.always_sensitive && !policy.never_extractable);

    // The salt may be a key's value, and the key one of AES that stays.
    let salt = import(&mut user, &(0..13).collect::<Vec<u8>>(), DERIVES);
    let mut request = hkdf(&base, KeyTemplate { label: "kept".into(), ..KeyTemplate::default() });
    request.key_type = KeyType::Aes256.into();
    let given = request.hkdf.as_mut().unwrap();
    (given.salt, given.salt_key) = (Vec::new(), salt.object.clone());
    let kept = derive(&mut user, request).unwrap();
    assert_eq!(
        (kept.key_type(), code(reveal(&mut user, &kept))),
        (KeyType::Aes256, ErrorCode::KeyNotExtractable)
    );
    running = running.restart();
    let mut user = running.user();
    let mut iv = vec![0; 16];
    let mut encrypt = |key: &[u8], data: &[u8]| {
        let (key, mechanism) = (key.to_vec(), Mechanism::AesEcb.into());
        let op = Encrypt { key, mechanism, data: data.to_vec(), ..Encrypt::default() };
        match user.call(Op::Encrypt(op)).unwrap() {
            response::Result::Ciphertext(Ciphertext { ciphertext }) => ciphertext,
            other => panic!("{other:?}"),
        }
    };
    iv[0] = 1;
    let sealed = encrypt(&kept.object, &iv);
    let brought = ImportKey { key_type: KeyType::Aes256.into(), value: OKM[..32].to_vec(), key: None };
    let same = running.user().objects(Op::ImportKey(brought)).unwrap().swap_remove(0);
    assert_eq!(encrypt(&same.object, &iv), sealed, "the first 32 bytes of the published ones");
}

#[test]
fn what_a_key_may_not_and_parameters_that_are_wrong() {
    let running = Running::with_partition();
    let mut user = running.user();
    let base = import(&mut user, &[1; 32], DERIVES);
    let signing = import(&mut user, &[1; 32], KeyPolicy { sign: true, derive: false, ..DERIVES });
    assert_eq!(code(derive(&mut user, hkdf(&signing, readable(32)))), ErrorCode::KeyMayNot);
    let mut salted = hkdf(&base, readable(32));
    salted.hkdf.as_mut().unwrap().salt_key = signing.object.clone();
    assert_eq!(code(derive(&mut user, salted)), ErrorCode::KeyMayNot, "nor is it a salt");
    // What its maker has ruled out of a key is ruled out of a salt.
    let hidden = Attribute { r#type: CKA_SENSITIVE, value: vec![1] };
    let derives = KeyTemplates { derive: vec![hidden], ..KeyTemplates::default() };
    for (allowed_mechanisms, templates, expected) in [
        (vec![CKM_SP800_108_COUNTER_KDF], None, Some(ErrorCode::KeyMayNot)),
        (Vec::new(), Some(derives), Some(ErrorCode::TemplateDoesNotFit)),
        (vec![CKM_HKDF_DERIVE], None, None),
    ] {
        let key =
            KeyTemplate { policy: Some(DERIVES), allowed_mechanisms, templates, ..KeyTemplate::default() };
        let import =
            ImportKey { key_type: KeyType::GenericSecret.into(), value: vec![2; 32], key: Some(key) };
        let salt = user.objects(Op::ImportKey(import)).unwrap().swap_remove(0);
        let mut salted = hkdf(&base, readable(32));
        salted.hkdf.as_mut().unwrap().salt_key = salt.object;
        let refused = derive(&mut user, salted).err().and_then(|error| error.code());
        assert_eq!(refused, expected);
    }
    let pair = user.generate(KeyType::P256, "pair").unwrap();
    assert_eq!(code(derive(&mut user, hkdf(&pair[0], readable(32)))), ErrorCode::KeyMayNot);
    let gone = ObjectInfo { object: vec![7; 16], ..ObjectInfo::default() };
    assert_eq!(code(derive(&mut user, hkdf(&gone, readable(32)))), ErrorCode::NoSuchObject);

    let change = |change: fn(&mut DeriveKey)| {
        let mut request = hkdf(&base, readable(32));
        change(&mut request);
        request
    };
    let parameter = ErrorCode::MechanismParameterWrong;
    for (request, expected) in [
        (change(|m| m.hkdf = None), parameter),
        (change(|m| m.hkdf.as_mut().unwrap().hash = 99), parameter),
        (change(|m| m.hkdf.as_mut().unwrap().salt = vec![0; 16 * 1024 + 1]), parameter),
        (change(|m| m.derived = Some(readable(0))), ErrorCode::AttributeWrong),
        (change(|m| m.derived = Some(readable(1_025))), ErrorCode::AttributeWrong),
        (change(|m| m.key_type = KeyType::P256.into()), ErrorCode::Unsupported),
        (change(|m| m.mechanism = Mechanism::AesGcm.into()), ErrorCode::MechanismDoesNotFit),
        (change(|m| m.mechanism = Mechanism::Sp800108Counter.into()), parameter),
        (change(|m| m.mechanism = Mechanism::Pbkdf2.into()), parameter),
    ] {
        let mechanism = request.mechanism();
        assert_eq!(code(derive(&mut user, request)), expected, "{mechanism:?}");
    }
    // Without the expansion there are as many bytes as the hash has.
    let mut extracted = change(|m| m.hkdf.as_mut().unwrap().expand = false);
    derive(&mut user, extracted.clone()).unwrap();
    extracted.derived = Some(readable(33));
    assert_eq!(code(derive(&mut user, extracted)), parameter);
    // A password's key, and too much work.
    let stretch = |iterations, salt: usize| DeriveKey {
        mechanism: Mechanism::Pbkdf2.into(),
        key_type: KeyType::GenericSecret.into(),
        derived: Some(readable(20)),
        pbkdf2: Some(Pbkdf2Parameters {
            hash: Hash::Sha1.into(),
            password: b"password".to_vec(),
            salt: b"salt".iter().copied().cycle().take(salt).collect(),
            iterations,
        }),
        ..DeriveKey::default()
    };
    let made = derive(&mut user, stretch(2, 4)).unwrap();
    // RFC 6070, the second one.
    let expected = [
        0xea, 0x6c, 0x01, 0x4d, 0xc7, 0x2d, 0x6f, 0x8c, 0xcd, 0x1e, 0xd9, 0x2a, 0xce, 0x1d, 0x41, 0xf0, 0xd8,
        0xde, 0x89, 0x57,
    ];
    assert_eq!(reveal(&mut user, &made).unwrap(), expected);
    for iterations in [0, 4_000_001, u32::MAX] {
        assert_eq!(code(derive(&mut user, stretch(iterations, 4))), parameter);
    }
}
