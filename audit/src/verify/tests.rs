#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::entry::SUCCESS;

fn key_pair() -> (Ed25519KeyPair, PublicKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let spki = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], pair.public_key().as_ref()];
    let public = PublicKey::from_spki(&spki.concat()).unwrap();
    (pair, public)
}

/// A log of `count` entries, every fourth a checkpoint.
fn lines(count: u64) -> Vec<String> {
    let (pair, public) = key_pair();
    let mut head = Head::default();
    (1..=count)
        .map(|number| {
            let mut entry = match number {
                1 => Entry::new("audit_file", SUCCESS).with("public_key", chain::hex(&public.to_spki())),
                number if number % 4 == 0 => Entry::new(CHECKPOINT, SUCCESS),
                number => Entry::new("sign", SUCCESS).with("number", number),
            };
            (entry.log, entry.time) = ("node".to_owned(), format!("2026-11-23T06:00:{number:02}.000000Z"));
            head.append(entry, |message| Some(pair.sign(message).as_ref().to_vec()))
        })
        .collect()
}

fn verify(lines: &[String], key: Option<PublicKey>) -> Result<Summary, (usize, Fault)> {
    let mut verifier = Verifier::new(key);
    for (number, line) in lines.iter().enumerate() {
        verifier.line(line.as_bytes()).map_err(|fault| (number, fault))?;
    }
    verifier.finish().map_err(|fault| (lines.len(), fault))
}

#[test]
fn a_log_as_it_was_written_is_sound() {
    let (_, public) = key_pair();
    let summary = verify(&lines(10), Some(public.clone())).unwrap();
    let (last, checkpoints, unsigned) = (summary.last, summary.checkpoints, summary.unsigned);
    assert_eq!((last, checkpoints, unsigned), (10, 2, 2));
    assert!(!summary.key_from_file && summary.key == public.fingerprint());
    let summary = verify(&lines(10), None).unwrap();
    assert!(summary.key_from_file && summary.key == public.fingerprint());
    // From the middle on: what is there fits together.
    let summary = verify(&lines(10)[4..], Some(public)).unwrap();
    assert_eq!((summary.first, summary.checkpoints), (5, 1));
}

#[test]
fn every_single_change_is_found() {
    let (_, public) = key_pair();
    let sound = lines(8);
    for number in 0..sound.len() {
        for at in 0..sound[number].len() {
            let mut damaged = sound.clone();
            let mut bytes = damaged[number].clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            damaged[number] = String::from_utf8(bytes).unwrap();
            let result = verify(&damaged, Some(public.clone()));
            assert!(result.is_err(), "line {number}, byte {at}: {}", damaged[number]);
        }
        let mut without = sound.clone();
        without.remove(number);
        // The last line is a checkpoint, and the one before it then stands at the end, unsigned; the first was there.
        match number {
            0 => assert_eq!(verify(&without, Some(public.clone())).unwrap().first, 2),
            7 => assert_eq!(verify(&without, Some(public.clone())).unwrap().unsigned, 3),
            _ => {
                let seq = number as u64 + 1;
                let missing = Fault::Missing { first: seq, last: seq, found: seq + 1 };
                assert_eq!(verify(&without, Some(public.clone())), Err((number, missing)));
            }
        }
    }
}

#[test]
fn lines_that_were_moved_or_repeated_are_found() {
    let (_, public) = key_pair();
    let sound = lines(8);
    let mut moved = sound.clone();
    moved.swap(2, 3);
    assert_eq!(
        verify(&moved, Some(public.clone())),
        Err((2, Fault::Missing { first: 3, last: 3, found: 4 }))
    );
    let mut repeated = sound.clone();
    repeated.insert(3, sound[2].clone());
    assert_eq!(verify(&repeated, Some(public)), Err((3, Fault::Order { expected: 4, found: 3 })));
}

/// Who writes the whole log anew needs the key.
#[test]
fn a_chain_that_was_made_anew_lacks_the_signature() {
    let (_, public) = key_pair();
    let mut head = Head::default();
    let forged: Vec<String> = (1..=4)
        .map(|number| {
            let mut entry = Entry::new(if number == 4 { CHECKPOINT } else { "sign" }, SUCCESS);
            entry.log = "node".to_owned();
            head.append(entry, |_| Some(vec![0; 64]))
        })
        .collect();
    assert_eq!(verify(&forged, Some(public.clone())), Err((3, Fault::Signature(4))));
    assert_eq!(verify(&forged[..3], Some(public.clone())), Err((3, Fault::Unsigned(3))));
    assert_eq!(verify(&[], Some(public)), Err((0, Fault::Empty)));
    // And who has another key is found by the first line.
    let (_, other) = (0, PublicKey::from_spki(&[&key_pair().1.to_spki()[..43], &[9]].concat()).unwrap());
    assert!(matches!(verify(&lines(4), Some(other)), Err((0, Fault::Key { seq: 1, .. }))));
}

#[test]
fn the_key_as_pem_is_the_one_that_openssl_reads() {
    let (_, public) = key_pair();
    let pem = public.to_pem();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA"), "{pem}");
    assert_eq!(PublicKey::from_pem(&pem), Ok(public));
    assert_eq!(PublicKey::from_pem("no key"), Err(KeyError::Pem));
}

#[test]
fn texts_that_are_too_long_are_cut() {
    let mut head = Head::default();
    let mut entry = Entry::new("login", "password_wrong");
    entry.log = "node".to_owned();
    entry.user = "ä".repeat(100_000);
    for number in 0..1000 {
        entry = entry.with(&format!("{number}"), "x".repeat(1000));
    }
    let line = head.append(entry, |_| None);
    assert!(line.len() < MAX_LINE && parse(line.as_bytes()).unwrap().details.len() == 1);
}

/// Golden bytes: what was written once is read for ever.
#[test]
fn a_line_has_this_form() {
    let mut entry = Entry::new("destroy_object", SUCCESS).with("why", "a \"test\"");
    entry.log = "partition-1".to_owned();
    entry.time = "2026-11-23T06:00:00.000000Z".to_owned();
    (entry.uid, entry.request, entry.key) = (Some(0), Some(5), "web".to_owned());
    let line = Head::default().append(entry, |_| None);
    let zeros = "0".repeat(64);
    assert_eq!(
        line,
        format!(
            "{{\"v\":1,\"log\":\"partition-1\",\"seq\":1,\"time\":\"2026-11-23T06:00:00.000000Z\",\
             \"action\":\"destroy_object\",\"outcome\":\"success\",\"uid\":0,\"request\":5,\"key\":\"web\",\
             \"details\":{{\"why\":\"a \\\"test\\\"\"}},\"prev\":\"{zeros}\"}}"
        )
    );
}

use crate::key::KeyError;
