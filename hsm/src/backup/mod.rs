//! Backups: one encrypted, authenticated file of a partition, or of a key in it.
//!
//! ```text
//! "strongroom backup\n" ‖ length of the head (4, little-endian) ‖ BackupHead
//! then chunks: length (4) ‖ last (1) ‖ sealed (see `seal`)
//! ```
//!
//! Each file has a key of its own, which is sealed twice: by the node's key (so the node that made it can restore it)
//! and by the partition's security domain (so a quorum of its holders can, on a bare machine). Nobody who makes a backup
//! chooses for whom it is: who may make backups must not be able to take keys out.
//!
//! A chunk is sealed under the name of the file's head (its SHA-256) and its number, the last one as the last: nothing
//! can be changed, left out, added, put elsewhere or cut. The first chunk is the manifest:
//!
//! ```text
//! the partition's number (4, little-endian) ‖ its key (32) ‖ the security domain's key (32), or nothing
//! ```
//!
//! The others are the partition's records as the store has them, still sealed under the partition's key:
//!
//! ```text
//! length of the name (2) ‖ name ‖ length of the record (4) ‖ record, and so on, across chunks
//! ```
//!
//! Of one key they are its objects (all versions, their halves, certificates) and the users whom it names.

mod read;
mod write;

pub use read::{Kept, Reader};
pub use write::{OneKey, Writer};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use strongroom_protocol::v1::BackupHead;

use crate::failure::{Failure, refuse};
use crate::records::hex;
use crate::seal::SealingKey;

const MAGIC: &[u8] = b"strongroom backup\n";
const FORMAT: u32 = 1;
/// The largest head, in bytes: a domain of 16 holders with RSA-8192 keys has 40 KiB.
const MAX_HEAD: usize = 256 * 1024;
/// Content of a chunk, in bytes, about: it ends behind the record that fills it.
const CHUNK: usize = 256 * 1024;
/// The largest chunk in a file, in bytes.
const MAX_CHUNK: usize = CHUNK + 64 * 1024;
/// The largest record, in bytes: an object is at most a frame of the protocol.
const MAX_RECORD: usize = 4 << 20;

/// The name under which the file's key is sealed.
fn key_name(head: &BackupHead) -> String {
    format!("backup/{}/key", hex(&head.id))
}

/// The names of chunks: one for the last, one for the others.
struct ChunkNames([String; 2]);

impl ChunkNames {
    /// Of the file with this beginning.
    fn of(beginning: &[u8]) -> Self {
        let head = hex(digest(&SHA256, beginning).as_ref());
        Self([format!("backup/{head}/chunk"), format!("backup/{head}/last chunk")])
    }

    fn name(&self, last: bool) -> &str {
        let [more, end] = &self.0;
        if last { end } else { more }
    }
}

/// The bytes of a file up to the end of its head.
fn beginning(head: &BackupHead) -> Vec<u8> {
    let head = head.encode_to_vec();
    [MAGIC, &(head.len() as u32).to_le_bytes(), &head].concat()
}

/// Reads the beginning of a file.
///
/// # Errors
///
/// BACKUP_WRONG: it is no backup, or of a later release.
pub fn parse_head(bytes: &[u8]) -> Result<BackupHead, Failure> {
    let rest = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first_chunk::<4>);
    let head = rest.and_then(|(length, head)| {
        let length = u32::from_le_bytes(*length) as usize;
        (length == head.len() && length <= MAX_HEAD).then_some(head)
    });
    let head = head.and_then(|head| BackupHead::decode(head).ok());
    match head {
        Some(head) if head.format == FORMAT && head.id.len() == 16 => Ok(head),
        Some(head) => refuse!(BackupWrong, "the backup has format {}: a later release made it", head.format),
        None => refuse!(BackupWrong, "this is no backup: its beginning is wrong"),
    }
}

/// Opens the file's key with the key of the node or of the security domain.
fn open_key(head: &BackupHead, sealed: &[u8], key: &SealingKey) -> Option<SealingKey> {
    let (_, bytes) = key.open(&key_name(head), sealed).ok()?;
    SealingKey::new(bytes)
}
