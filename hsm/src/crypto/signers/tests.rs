//! Both engines against each other, and everything that may be in a batch.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Once;

use strongroom_crypto_mb::CryptoMb;

use super::workshop::DEPTH;
use super::*;
use crate::crypto::Hash;
use crate::crypto::aws_lc::{PublicKey, random, random_array};

const PSS: Mechanism = Mechanism::RsaPss { hash: Hash::Sha256, mgf1_hash: Hash::Sha256, salt_length: 32 };
const PSS_SHA512: Mechanism =
    Mechanism::RsaPss { hash: Hash::Sha512, mgf1_hash: Hash::Sha384, salt_length: 0 };

/// A signer that gives crypto_mb all that it takes; without that library the tests are about aws-lc alone.
fn together() -> Signer {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let tested = match CryptoMb::detect() {
            Ok(_) => "crypto_mb and aws-lc".to_owned(),
            Err(absent) => format!("aws-lc alone: {absent}"),
        };
        // Not eprintln, whose output the test harness keeps to itself.
        let _ = writeln!(std::io::stderr(), "engines tested: {tested}");
    });
    Signer::new(Arc::new(Choices::only(true)))
}

fn has_crypto_mb() -> bool {
    CryptoMb::detect().is_ok()
}

/// What is signed, and how.
type Task = (Mechanism, Vec<u8>);

/// Signs one task with each key.
fn sign(signer: &mut Signer, tasks: &[(&PrivateKey, Task)]) -> Vec<Result<Vec<u8>, CryptoError>> {
    let mut signatures: Vec<Signature> = tasks.iter().map(|_| Signature::empty()).collect();
    let mut orders: Vec<Order<'_>> = tasks
        .iter()
        .zip(&mut signatures)
        .map(|((key, (mechanism, data)), signature)| Order {
            key,
            mechanism: *mechanism,
            data,
            signature,
            outcome: Err(CryptoError::Busy(0)),
        })
        .collect();
    signer.sign(&mut orders);
    let outcomes: Vec<_> = orders.into_iter().map(|order| order.outcome).collect();
    let made = outcomes.into_iter().zip(signatures);
    made.map(|(outcome, signature)| outcome.map(|()| signature.bytes().to_vec())).collect()
}

fn public(key: &PrivateKey) -> PublicKey {
    PublicKey::from_spki(&key.public_spki().unwrap()).unwrap()
}

/// A random task that fits the kind.
fn task(kind: KeyKind, number: usize) -> Task {
    let random_bytes = |length: usize| {
        let mut bytes = vec![0; length];
        random(&mut bytes);
        bytes
    };
    match (kind.rsa_bits(), kind.ec_scalar()) {
        (Some(_), _) => match number % 3 {
            0 => (Mechanism::RsaPkcs, random_bytes(51)),
            1 => (PSS, random_bytes(32)),
            _ => (PSS_SHA512, random_bytes(64)),
        },
        (_, Some(_)) => (Mechanism::Ecdsa, random_bytes([32, 48, 64, 20][number % 4])),
        _ => (Mechanism::EdDsa, random_bytes([64, 0, 1, 130, 300][number % 5])),
    }
}

/// Signs `count` random tasks in batches of every size, and verifies each signature with aws-lc. Those that are
/// deterministic are the same as aws-lc's, those of ECDSA have an r of their own.
fn cross_check(signer: &mut Signer, kind: KeyKind, count: usize) {
    // Large RSA keys take seconds to generate: one, and three times.
    let known = || known_answers::KnownAnswer::of(kind).unwrap().key;
    let generated = || PrivateKey::generate(kind).unwrap();
    let keys: Vec<PrivateKey> = match kind {
        KeyKind::Rsa3072 | KeyKind::Rsa4096 => (0..3).map(|_| known()).collect(),
        _ => (0..3).map(|_| generated()).collect(),
    };
    let publics: Vec<PublicKey> = keys.iter().map(public).collect();
    let mut seen = HashSet::new();
    let (mut done, mut size) = (0, 1);
    while done < count {
        let tasks: Vec<(&PrivateKey, Task)> =
            (0..size).map(|lane| (&keys[(done + lane) % 3], task(kind, done + lane))).collect();
        for (lane, signature) in sign(signer, &tasks).into_iter().enumerate() {
            let (signature, (key, (mechanism, data))) = (signature.unwrap(), &tasks[lane]);
            publics[(done + lane) % 3].verify(*mechanism, data, &signature).unwrap();
            if matches!(mechanism, Mechanism::RsaPkcs | Mechanism::EdDsa) {
                assert_eq!(key.sign(*mechanism, data).unwrap(), signature);
            }
            if let Some(scalar) = kind.ec_scalar() {
                assert!(seen.insert(signature[..scalar].to_vec()), "a nonce was used twice");
            }
        }
        done += size;
        size = size % LANES + 1;
        if done % 64 < LANES {
            signer.prepare();
        }
    }
}

#[test]
fn both_engines_sign_what_aws_lc_verifies() {
    for mut signer in [together(), Signer::new(Arc::new(Choices::only(false)))] {
        for kind in KeyKind::BATCHED {
            let count = match kind.rsa_bits() {
                Some(2048) => 150,
                Some(_) => 40,
                None => 600,
            };
            cross_check(&mut signer, kind, count);
        }
    }
}

#[test]
#[ignore = "takes minutes: 100,000 signatures with each engine"]
fn both_engines_sign_100_000_times_what_aws_lc_verifies() {
    for mut signer in [together(), Signer::new(Arc::new(Choices::only(false)))] {
        for (kind, count) in [
            (KeyKind::P256, 50_000),
            (KeyKind::Ed25519, 25_000),
            (KeyKind::P384, 20_000),
            (KeyKind::P521, 2_000),
            (KeyKind::Rsa2048, 2_000),
            (KeyKind::Rsa3072, 700),
            (KeyKind::Rsa4096, 300),
        ] {
            cross_check(&mut signer, kind, count);
        }
    }
}

#[test]
fn crypto_mb_does_the_work_where_it_is_there() {
    if !has_crypto_mb() {
        return;
    }
    for kind in KeyKind::BATCHED {
        let key = known_answers::KnownAnswer::of(kind).unwrap().key;
        for size in 1..=LANES {
            let tasks: Vec<Task> = (0..size).map(|number| task(kind, number)).collect();
            let mut signatures: Vec<Signature> = tasks.iter().map(|_| Signature::empty()).collect();
            let mut orders: Vec<Order<'_>> = tasks
                .iter()
                .zip(&mut signatures)
                .map(|((mechanism, data), signature)| Order {
                    key: &key,
                    mechanism: *mechanism,
                    data,
                    signature,
                    outcome: Err(CryptoError::Busy(0)),
                })
                .collect();
            let mut lanes: Lanes<'_, '_> = [const { None }; LANES];
            // The last lanes, so that the first are empty.
            for (lane, order) in lanes.iter_mut().rev().zip(&mut orders) {
                *lane = Some(order);
            }
            let mut workshop = Workshop::new(CryptoMb::detect().ok());
            workshop.sign_together(kind, &mut lanes, Moment::now(), 0);
            assert!(lanes.iter().all(Option::is_none), "{kind}, {size}");
            assert!(orders.iter().all(|order| order.outcome.is_ok()), "{kind}, {size}");
            for (signature, (mechanism, data)) in signatures.iter().zip(&tasks) {
                public(&key).verify(*mechanism, data, signature.bytes()).unwrap();
            }
        }
    }
}

/// Below what is wiped of the stack, nothing was written.
#[test]
fn the_wiped_part_of_the_stack_is_what_is_used() {
    let mut workshop = Workshop::new(CryptoMb::detect().ok());
    for kind in KeyKind::BATCHED {
        let key = known_answers::KnownAnswer::of(kind).unwrap().key;
        let (mechanism, data) = task(kind, 1);
        let mut signature = Signature::empty();
        let mut order =
            Order { key: &key, mechanism, data: &data, signature: &mut signature, outcome: Ok(()) };
        workshop.stack().paint();
        workshop.sign_one_by_one(std::iter::once(&mut order));
        assert!(workshop.stack().depth() <= DEPTH, "{kind}: {} bytes", workshop.stack().depth());
        let mut lanes: Lanes<'_, '_> = [const { None }; LANES];
        lanes[0] = Some(&mut order);
        workshop.stack().paint();
        workshop.sign_together(kind, &mut lanes, Moment::now(), 0);
        assert!(workshop.stack().depth() <= DEPTH, "{kind}: {} bytes", workshop.stack().depth());
    }
}

#[test]
fn a_batch_may_be_mixed() {
    let mut signer = together();
    let rsa = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
    let other = PrivateKey::with_exponent(KeyKind::Rsa2048, 65_539);
    let mut bare = PrivateKey::from_pkcs8(&rsa.to_pkcs8().unwrap()).unwrap();
    bare.drop_parts();
    let ec = PrivateKey::generate(KeyKind::P256).unwrap();
    let tasks: Vec<(&PrivateKey, Task)> = vec![
        (&rsa, (Mechanism::RsaPkcs, vec![1; 51])),
        (&other, (PSS, vec![2; 32])),
        (&bare, (Mechanism::RsaPkcs, vec![3; 36])),
        (&rsa, (PSS, vec![4; 31])),
        (&ec, (Mechanism::Ecdsa, vec![5; 32])),
        (&rsa, (Mechanism::Ecdsa, vec![6; 32])),
        (&other, (Mechanism::RsaPkcs, vec![7; 245])),
        (&rsa, (PSS_SHA512, vec![8; 64])),
        // A second batch.
        (&rsa, (Mechanism::RsaPkcs, vec![9; 245])),
        (&rsa, (Mechanism::RsaPkcs, vec![9; 246])),
    ];
    for order in [false, true] {
        let tasks: Vec<_> = if order { tasks.iter().rev().cloned().collect() } else { tasks.clone() };
        for (signature, (key, (mechanism, data))) in sign(&mut signer, &tasks).into_iter().zip(&tasks) {
            match mechanism.check(key.kind(), data.len()) {
                Ok(()) => public(key).verify(*mechanism, data, &signature.unwrap()).unwrap(),
                Err(error) => assert_eq!(signature.unwrap_err(), error),
            }
        }
    }
    signer.sign(&mut []);
}

/// Zero, the largest numbers, too short and too long: what FIPS 186-5 makes of them is what aws-lc verifies.
#[test]
fn digests_at_the_edges() {
    let mut signer = together();
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521] {
        let key = PrivateKey::generate(kind).unwrap();
        let mut digests: Vec<Vec<u8>> = Vec::new();
        for length in [1, 20, 31, 32, 33, 47, 48, 49, 64] {
            digests.extend([vec![0; length], vec![0xff; length], vec![0x80; length]]);
        }
        let tasks: Vec<_> = digests.into_iter().map(|digest| (&key, (Mechanism::Ecdsa, digest))).collect();
        for (signature, (_, (mechanism, digest))) in sign(&mut signer, &tasks).into_iter().zip(&tasks) {
            public(&key).verify(*mechanism, digest, &signature.unwrap()).unwrap();
        }
    }
    let key = PrivateKey::generate(KeyKind::Ed25519).unwrap();
    let tasks: Vec<_> = [0, 1, 111, 112, 127, 128, 129, 512 * 1024]
        .into_iter()
        .map(|length| (&key, (Mechanism::EdDsa, vec![0x5a; length])))
        .collect();
    for (signature, (_, (mechanism, message))) in sign(&mut signer, &tasks).into_iter().zip(&tasks) {
        assert_eq!(signature.unwrap(), key.sign(*mechanism, message).unwrap());
    }
}

/// Boneh, DeMillo and Lipton: one faulty half of a CRT signature reveals the key.
#[test]
fn a_faulty_rsa_signature_is_not_released() {
    let mut signer = together();
    for kind in [KeyKind::Rsa2048, KeyKind::Rsa3072] {
        let sound = PrivateKey::generate(kind).unwrap();
        let faulty = sound.with_a_faulty_half();
        let tasks: Vec<_> = (0..LANES)
            .map(|lane| {
                let key = if lane % 3 == 1 { &faulty } else { &sound };
                (key, (if lane % 2 == 0 { PSS } else { Mechanism::RsaPkcs }, vec![lane as u8; 32]))
            })
            .collect();
        for tasks in [&tasks[..], &tasks[1..2], &tasks[..3]] {
            for (signature, (key, (mechanism, data))) in sign(&mut signer, tasks).into_iter().zip(tasks) {
                if std::ptr::eq(*key, &faulty) {
                    assert!(matches!(signature, Err(CryptoError::Library(_))));
                } else {
                    public(key).verify(*mechanism, data, &signature.unwrap()).unwrap();
                }
            }
        }
    }
}

/// A fault that only crypto_mb meets: the signature is aws-lc's then.
#[test]
fn what_crypto_mb_computes_wrong_is_computed_again() {
    let mut signer = together();
    for key in
        [PrivateKey::generate(KeyKind::Rsa2048).unwrap(), PrivateKey::with_exponent(KeyKind::Rsa2048, 65_539)]
    {
        let mut key = key;
        key.damage_parts();
        for size in [1, 3, LANES] {
            let tasks: Vec<_> =
                (0..size).map(|lane| (&key, (Mechanism::RsaPkcs, vec![lane as u8; 51]))).collect();
            for (signature, (_, (mechanism, data))) in sign(&mut signer, &tasks).into_iter().zip(&tasks) {
                public(&key).verify(*mechanism, data, &signature.unwrap()).unwrap();
            }
            if has_crypto_mb() {
                let mut signature = Signature::empty();
                let mut order = Order {
                    key: &key,
                    mechanism: Mechanism::RsaPkcs,
                    data: &[1; 51],
                    signature: &mut signature,
                    outcome: Ok(()),
                };
                let mut lanes: Lanes<'_, '_> = [const { None }; LANES];
                lanes[3] = Some(&mut order);
                let mut workshop = Workshop::new(CryptoMb::detect().ok());
                workshop.sign_together(KeyKind::Rsa2048, &mut lanes, Moment::now(), 0);
                assert!(lanes[3].is_some(), "a wrong signature was taken for a right one");
                assert!(workshop.is_wiped());
                assert!(signature.bytes().is_empty());
            }
        }
    }
}

#[test]
fn nonces_are_prepared_used_once_and_forgotten() {
    let mut signer = together();
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let one = |signer: &mut Signer| {
        let digest = random_array::<32>().to_vec();
        sign(signer, &[(&key, (Mechanism::Ecdsa, digest))]).remove(0).unwrap()[..32].to_vec()
    };
    assert!(!signer.prepare(), "nobody has signed yet");
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    for _ in 0..30 {
        assert!(seen.insert(one(&mut signer)));
        while signer.prepare() {}
        assert!(seen.insert(one(&mut signer)));
        signer.forget();
    }
    if let Some(bench) = signer.workshop.bench(KeyKind::P256) {
        assert_eq!(bench.pool.left(), 0);
        one(&mut signer);
        assert!(signer.workshop.bench(KeyKind::P256).unwrap().pool.left() > 0);
    }
}

#[test]
fn the_known_answers_hold_and_wrong_ones_do_not() {
    let library = CryptoMb::detect().ok();
    let mut workshop = Workshop::new(library);
    for kind in KeyKind::BATCHED {
        let known = known_answers::KnownAnswer::of(kind).unwrap();
        assert!(known.holds_for_aws_lc().unwrap(), "{kind}");
        let wrong = known_answers::KnownAnswer::of(kind).unwrap().changed();
        assert!(!wrong.holds_for_aws_lc().unwrap(), "{kind}");
        if let Some(library) = library {
            assert!(known.holds_for_crypto_mb(library, &mut workshop), "{kind}");
            assert!(!wrong.holds_for_crypto_mb(library, &mut workshop), "{kind}");
        }
    }
}
