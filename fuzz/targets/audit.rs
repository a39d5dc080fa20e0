//! Audit logs from anywhere: verified, or found out. Whatever is made of a log as it was written, no entry that was not in it is
//! taken for the daemon's.
#![no_main]

use std::sync::OnceLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use libfuzzer_sys::fuzz_target;
use strongroom_audit::chain::Head;
use strongroom_audit::{CHECKPOINT, Collected, Entry, PublicKey, Verifier};

/// Lines as the daemon writes them, signed at the end; and the key that verifies them.
fn written() -> &'static (Vec<String>, PublicKey) {
    static WRITTEN: OnceLock<(Vec<String>, PublicKey)> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let spki = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], pair.public_key().as_ref()];
        let mut head = Head::default();
        let lines = (0..6).map(|number| {
            let action = if number == 5 { CHECKPOINT } else { "sign" };
            let entry = Entry { log: "node".into(), key: "web".into(), ..Entry::new(action, "success") };
            head.append(entry, |message| Some(pair.sign(message).as_ref().to_vec()))
        });
        (lines.collect(), PublicKey::from_spki(&spki.concat()).unwrap())
    })
}

/// Changes the log: each instruction is a line, a place in it, and a byte.
fn changed(lines: &[String], instructions: &[u8]) -> Vec<Vec<u8>> {
    let mut changed: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
    for instruction in instructions.chunks_exact(4) {
        let [what, line, place, byte] = [0, 1, 2, 3].map(|at| instruction[at]);
        if changed.is_empty() {
            break;
        }
        let line = usize::from(line) % changed.len();
        let at = usize::from(place) * 3;
        match what % 5 {
            0 => {
                if let Some(old) = changed[line].get_mut(at) {
                    *old = byte;
                }
            }
            1 => drop(changed.remove(line)),
            2 => {
                let again = changed[line].clone();
                changed.push(again);
            }
            3 => {
                let other = usize::from(byte) % changed.len();
                changed.swap(line, other);
            }
            _ => changed[line].truncate(at),
        }
    }
    changed
}

fuzz_target!(|bytes: &[u8]| {
    let (lines, key) = written();
    // Whatever the bytes are as a log.
    for key in [None, Some(key.clone())] {
        let (mut verifier, mut collected) = (Verifier::new(key.clone()), Collected::new(key));
        for line in bytes.split(|byte| *byte == b'\n') {
            let _ = collected.line(line);
            if verifier.line(line).is_err() {
                break;
            }
        }
        let _ = (verifier.finish(), collected.finish());
    }
    // What is verified of a changed log, from its first to its last signature, was written so.
    let mut verifier = Verifier::new(Some(key.clone()));
    let mut collected = Collected::new(Some(key.clone()));
    let log = changed(lines, bytes);
    let mut sound = true;
    let mut all = true;
    for line in &log {
        sound = sound && verifier.line(line).is_ok();
        all = all && collected.line(line).is_ok();
    }
    let original = |line: &Vec<u8>| lines.iter().any(|known| known.as_bytes() == &line[..]);
    if sound && let Ok(summary) = verifier.finish() {
        let signed = log.len() - summary.unsigned as usize;
        assert!(log[..signed].iter().all(original), "an entry was changed");
        assert_eq!(summary.last - summary.first + 1, log.len() as u64);
    }
    if all && let Ok(summaries) = collected.finish() {
        for summary in summaries {
            let signed = summary.last - summary.unsigned;
            for line in &log {
                let begin = line.windows(5).position(|bytes| bytes == b"{\"v\":");
                let Some(line) = begin.map(|begin| line[begin..].to_vec()) else { continue };
                let entry: Entry = serde_json::from_slice(&line).unwrap();
                assert!(entry.seq > signed || original(&line), "an entry was changed");
            }
        }
    }
});
