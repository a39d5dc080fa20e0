//! Backups from anywhere: the head as it comes; and what stands behind it, sealed under the right keys, as from a node that
//! went mad. Otherwise nothing would get past the first seal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use strongroom_hsm::backup::{Reader, parse_head};
use strongroom_hsm::memory::SecretBytes;
use strongroom_hsm::partition::Loading;
use strongroom_hsm::records::{HeaderRecord, Names, PartitionRecord, hex};
use strongroom_hsm::seal::SealingKey;
use strongroom_protocol::v1::BackupHead;
use sha2::{Digest, Sha256};

fn key(byte: u8) -> SealingKey {
    SealingKey::new(SecretBytes::from([byte; 32].as_slice())).unwrap()
}

fn seal(key: &SealingKey, name: &str, revision: u64, plain: &[u8]) -> Vec<u8> {
    key.seal(name, revision, SecretBytes::from(plain)).unwrap()
}

/// The beginning of a file whose key is `key(2)`, for the node with `key(1)`.
fn beginning(single: bool) -> Vec<u8> {
    let mut head = BackupHead { format: 1, id: vec![7; 16], label: "tls".into(), ..BackupHead::default() };
    head.key = if single { "web".into() } else { String::new() };
    head.for_node = seal(&key(1), &format!("backup/{}/key", hex(&head.id)), 0, key(2).bytes());
    let head = head.encode_to_vec();
    [b"strongroom backup\n", (head.len() as u32).to_le_bytes().as_slice(), &head].concat()
}

/// Reads a file with these contents of its chunks; the records that came out.
fn read(beginning: &[u8], chunks: &[&[u8]], piece: usize) -> Vec<(String, Vec<u8>)> {
    let Ok(mut reader) = Reader::begin(beginning, &[key(1).into()], &[]) else { panic!("a sound head") };
    let name = hex(&Sha256::digest(beginning));
    let mut file = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let last = number + 1 == chunks.len();
        let name = format!("backup/{name}/{}", if last { "last chunk" } else { "chunk" });
        let sealed = seal(&key(2), &name, number as u64, chunk);
        file.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        file.push(last.into());
        file.extend_from_slice(&sealed);
    }
    let mut records = Vec::new();
    for piece in file.chunks(piece) {
        let pushed = reader.push(piece, &mut |kept| {
            records.push((kept.suffix, kept.plain.to_vec()));
            Ok(())
        });
        if pushed.is_err() {
            return records;
        }
    }
    let _ = reader.finish();
    records
}

fuzz_target!(|data: &[u8]| {
    let Some(([mode, piece, cut], data)) = data.split_first_chunk::<3>() else { return };
    let beginning = beginning(mode & 8 != 0);
    let manifest = [&1u32.to_le_bytes(), key(3).bytes()].concat();
    let (first, second) = data.split_at(usize::from(*cut).min(data.len()));
    let piece = usize::from(*piece) + 1;
    match mode % 4 {
        // The file as it comes.
        0 => {
            let _ = parse_head(data);
            assert!(Reader::begin(data, &[key(1).into()], &[]).is_err());
        }
        // The manifest as it comes.
        1 => drop(read(&beginning, &[first, second], piece)),
        // Records as they come, cut into chunks anywhere.
        2 => drop(read(&beginning, &[&manifest, first, second], piece)),
        // The contents of records as they come; what was read is loaded.
        _ => {
            let names = Names::of(1);
            let names = [names.header(), names.object(&[9; 16]), names.user("alice")];
            let mut records = Vec::new();
            for (name, plain) in names.iter().zip([&[][..], first, second]) {
                let sealed = seal(&key(3), name, 1, plain);
                records.extend_from_slice(&(name.len() as u16).to_le_bytes());
                records.extend_from_slice(name.as_bytes());
                records.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
                records.extend_from_slice(&sealed);
            }
            let kept = read(&beginning, &[&manifest, &records], piece);
            assert_eq!(kept.len(), 3, "what was sealed comes out");
            let header = HeaderRecord { revision: 1, set_hash: vec![0; 32], ..HeaderRecord::default() };
            let header = seal(&key(3), &names[0], 1, &header.encode_to_vec());
            let record = PartitionRecord { number: 1, ..PartitionRecord::default() };
            let mut loading = Loading::begin(&record, key(3), Some(&header)).ok().expect("a sound header");
            for (suffix, plain) in kept.into_iter().skip(1) {
                let name = format!("{}{suffix}", Names::of(1).prefix());
                let _ = loading.take(name.clone(), seal(&key(3), &name, 1, &plain));
            }
            // And as the header itself.
            let _ = Loading::begin(&record, key(3), Some(&seal(&key(3), &names[0], 1, first)));
        }
    }
});
