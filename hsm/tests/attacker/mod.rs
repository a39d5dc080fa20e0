//! What root reads of a process, and what a key looks like there.
#![allow(dead_code)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use aho_corasick::AhoCorasick;

/// How many bytes of a number are looked for, at its start, in its middle and at its end.
const PIECE: usize = 24;

const PAGE: usize = 4096;

pub fn openssl(folder: &Path, arguments: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The secret numbers of a private key in a file, as openssl prints them.
pub fn numbers(folder: &Path, file: &str) -> Vec<Vec<u8>> {
    let text = String::from_utf8(openssl(folder, &format!("pkey -in {file} -noout -text"))).unwrap();
    let secrets = ["privateExponent", "prime1", "prime2", "exponent1", "exponent2", "coefficient", "priv"];
    let found: Vec<Vec<u8>> = secrets
        .iter()
        .map(|name| {
            let lines = text.lines().skip_while(|line| line.trim() != format!("{name}:")).skip(1);
            let hex: String = lines.take_while(|line| line.starts_with("    ")).map(str::trim).collect();
            let bytes: Vec<u8> = hex
                .split(':')
                .filter(|byte| !byte.is_empty())
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect();
            bytes.into_iter().skip_while(|byte| *byte == 0).collect()
        })
        .filter(|number: &Vec<u8>| !number.is_empty())
        .collect();
    assert!(matches!(found.len(), 1 | 6) && found.iter().all(|number| number.len() >= 31), "{text}");
    found
}

/// Pieces of a secret number in each form that it may have in memory: big-endian as it is stored, little-endian as it is
/// computed with, and in words of 64 bits the other way round.
pub fn forms(number: &[u8]) -> Vec<Vec<u8>> {
    let even = &number[number.len() % 8..];
    let little: Vec<u8> = number.iter().rev().copied().collect();
    let swapped: Vec<u8> = even.chunks(8).flat_map(|word| word.iter().rev().copied()).collect();
    let pieces = |bytes: Vec<u8>| {
        let last = bytes.len() - PIECE;
        let middle = (last / 2).next_multiple_of(8).min(last);
        [0, middle, last].map(|start| bytes[start..start + PIECE].to_vec())
    };
    [number.to_vec(), little, swapped].into_iter().flat_map(pieces).collect()
}

/// Looks for all of them at once: they are hundreds, and the memory is large.
fn search(needles: &[Vec<u8>]) -> AhoCorasick {
    AhoCorasick::new(needles).unwrap()
}

pub fn found(haystack: &[u8], needles: &[Vec<u8>]) -> usize {
    search(needles).find_iter(haystack).count()
}

/// How often bytes occur in the memory of a process that can be read from outside.
pub fn occurrences(process: u32, needles: &[Vec<u8>]) -> usize {
    let search = search(needles);
    let found = |memory: &[u8]| search.find_iter(memory).count();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let (mut times, mut read_bytes) = (0, 0);
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        // Pages that lie beside each other, so that what lies across two is found. Empty ones are left out.
        let mut together = Vec::new();
        for page in (from..to).step_by(PAGE) {
            let mut bytes = [0; PAGE];
            if memory.read_exact_at(&mut bytes, page).is_ok() {
                read_bytes += PAGE;
                if bytes != [0; PAGE] {
                    together.extend(bytes);
                    continue;
                }
            }
            times += found(&std::mem::take(&mut together));
        }
        times += found(&together);
    }
    assert!(read_bytes > 100_000, "the memory was not read");
    times
}
