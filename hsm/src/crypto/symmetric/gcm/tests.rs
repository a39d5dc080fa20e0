use super::*;
use crate::crypto::aws_lc;
use crate::crypto::symmetric::SecretKind;
use crate::memory::SecretBytes;

const VECTORS: &str = include_str!("../../../../tests/vectors/gcm.rsp");

/// One of the vectors: fields by name, as bytes.
fn vectors() -> Vec<Vec<(&'static str, Vec<u8>)>> {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let field = |line: &'static str| match line.split_once(" =") {
        Some((name, value)) => (name, hex(value.trim())),
        None => (line, Vec::new()),
    };
    let blocks = VECTORS.split("\n\n").skip(1);
    blocks.map(|block| block.lines().map(field).collect()).collect()
}

fn key(value: &[u8]) -> SecretKey {
    let kind = SecretKind::ALL.into_iter().find(|kind| kind.length() == Some(value.len())).unwrap();
    SecretKey::new(kind, SecretBytes::from(value)).unwrap()
}

#[test]
fn nist_vectors() {
    let (mut good, mut forged) = (0, 0);
    for vector in vectors() {
        let field = |name| vector.iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes.as_slice());
        let [secret, iv, aad, ciphertext, tag] =
            ["Key", "IV", "AAD", "CT", "Tag"].map(|name| field(name).unwrap());
        let key = key(secret);
        let parameters = GcmParameters::new(iv, aad, tag.len() as u32 * 8).unwrap();
        let sealed = [ciphertext, tag].concat();
        let mut out = vec![0xaa; ciphertext.len()];
        let opened = decrypt(&key, parameters, &sealed, &mut out);
        if field("FAIL").is_some() {
            assert_eq!(opened, Err(CryptoError::CiphertextWrong));
            assert!(out.iter().all(|byte| *byte == 0));
            forged += 1;
            continue;
        }
        let plain = field("PT").unwrap();
        assert_eq!((opened, out.as_slice()), (Ok(plain.len()), plain));
        let mut out = vec![0; sealed.len() + 3];
        assert_eq!(encrypt(&key, parameters, plain, &mut out), Ok(sealed.len()));
        assert_eq!(out, [&sealed[..], &[0; 3]].concat());
        good += 1;
    }
    assert_eq!((good, forged), (27, 12));
}

#[test]
fn what_was_changed_does_not_open() {
    let key = SecretKey::generate(SecretKind::Aes256, 0).unwrap();
    let (iv, aad) = ([7; 12], *b"header");
    let parameters = GcmParameters::new(&iv, &aad, 128).unwrap();
    let mut sealed = [0; 5 + 16];
    encrypt(&key, parameters, b"plain", &mut sealed).unwrap();
    let mut out = [0xaa; 5];
    assert_eq!((decrypt(&key, parameters, &sealed, &mut out), &out), (Ok(5), b"plain"));
    let refused = |parameters, sealed: &[u8]| {
        let mut out = [0xaa; 21];
        assert_eq!(decrypt(&key, parameters, sealed, &mut out), Err(CryptoError::CiphertextWrong));
        assert!(out.iter().all(|byte| [0, 0xaa].contains(byte)));
    };
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed;
        changed[bit / 8] ^= 1 << (bit % 8);
        refused(parameters, &changed);
    }
    for length in 0..sealed.len() {
        refused(parameters, &sealed[..length]);
    }
    refused(GcmParameters::new(&[8; 12], &aad, 128).unwrap(), &sealed);
    refused(GcmParameters::new(&[7; 13], &aad, 128).unwrap(), &sealed);
    refused(GcmParameters::new(&iv, b"headers", 128).unwrap(), &sealed);
    refused(GcmParameters::new(&iv, &aad, 120).unwrap(), &sealed);
    let mut out = [0xaa; 5];
    let other = SecretKey::generate(SecretKind::Aes256, 0).unwrap();
    assert_eq!(decrypt(&other, parameters, &sealed, &mut out), Err(CryptoError::CiphertextWrong));
}

#[test]
fn sizes_are_bounded() {
    let key = SecretKey::generate(SecretKind::Aes128, 0).unwrap();
    for wrong in [0, MAX_IV + 1] {
        assert!(matches!(GcmParameters::new(&vec![1; wrong], b"", 128), Err(CryptoError::ParameterWrong(_))));
    }
    for bits in [0, 32, 64, 95, 97, 136, u32::MAX] {
        assert!(matches!(GcmParameters::new(&[1; 12], b"", bits), Err(CryptoError::ParameterWrong(_))));
    }
    let (iv, aad) = (vec![1; MAX_IV], vec![2; 1000]);
    let parameters = GcmParameters::new(&iv, &aad, 96).unwrap();
    let most = MAX_CIPHER - iv.len() - aad.len();
    let (plain, mut out) = (vec![3; most + 1], vec![0; most + 100]);
    let is_length = |outcome| matches!(outcome, Err(CryptoError::DataLength { .. }));
    assert_eq!(encrypt(&key, parameters, &plain[..most], &mut out), Ok(most + 12));
    assert!(is_length(encrypt(&key, parameters, &plain, &mut out)));
    assert!(is_length(decrypt(&key, parameters, &plain, &mut out)));
    assert!(is_length(encrypt(&key, parameters, &plain[..16], &mut out[..27])));
    assert!(is_length(decrypt(&key, parameters, &plain[..16], &mut out[..3])));
}

#[test]
fn one_key_serves_many_threads() {
    let key = SecretKey::generate(SecretKind::Aes192, 0).unwrap();
    let work = |seed: u8| {
        let key = &key;
        move || {
            for round in 0..500u32 {
                let iv: [u8; 12] = aws_lc::random_array();
                let plain = vec![seed; 1 + round as usize % 300];
                let aad = [seed];
                let parameters = GcmParameters::new(&iv, &aad, 96 + round % 5 * 8).unwrap();
                let (mut sealed, mut out) = ([0; 400], [0; 400]);
                let length = encrypt(key, parameters, &plain, &mut sealed).unwrap();
                let length = decrypt(key, parameters, &sealed[..length], &mut out).unwrap();
                assert_eq!(out[..length], plain);
            }
        }
    };
    std::thread::scope(|scope| (1..=4).for_each(|seed| drop(scope.spawn(work(seed)))));
}
