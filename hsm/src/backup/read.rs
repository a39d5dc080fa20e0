//! Reading a backup: every byte is checked before what it says is used.

use std::sync::Arc;

use strongroom_protocol::v1::{BackupHead, Quorum};

use super::{ChunkNames, MAX_CHUNK, MAX_RECORD, open_key, parse_head};
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::quorum;
use crate::records::{HeaderRecord, Names};
use crate::seal::{KEY_LENGTH, SealingKey, SetHash, SetKey};
use prost::Message;

/// A backup that is being read, piece by piece.
pub struct Reader {
    head: BackupHead,
    key: SealingKey,
    names: ChunkNames,
    number: u64,
    /// Bytes of the file that are no whole chunk yet.
    file: Vec<u8>,
    /// Bytes of records that are no whole record yet.
    content: Vec<u8>,
    source: Option<Source>,
    ended: bool,
}

/// What the manifest says.
struct Source {
    names: Names,
    key: SealingKey,
    set_key: SetKey,
    domain_key: Option<SealingKey>,
    set_hash: SetHash,
    expected: Option<(SetHash, HeaderRecord)>,
}

/// A record that was opened.
pub struct Kept {
    /// Its name behind the partition's prefix.
    pub suffix: String,
    /// The revision that wrote it.
    pub revision: u64,
    /// Its content.
    pub plain: SecretBytes,
    /// Its name and its bytes, as they were.
    pub is_header: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("label", &self.head.label).finish_non_exhaustive()
    }
}

fn wrong<T>(what: &str) -> Result<T, Failure> {
    refuse!(BackupWrong, "the backup is damaged or was changed: {what}; nothing of it is used")
}

impl Reader {
    /// Begins with the file up to the end of its head: opened by one of the node's keys, or by shares of its security domain.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG, UNSEAL_WRONG.
    pub fn begin(
        bytes: &[u8],
        node_keys: &[Arc<SealingKey>],
        shares: &[SecretBytes],
    ) -> Result<Self, Failure> {
        let head = parse_head(bytes)?;
        let key = match (&head.domain, shares.is_empty()) {
            (_, true) => node_keys.iter().find_map(|key| open_key(&head, &head.for_node, key)),
            (Some(domain), false) => {
                let domain_key = quorum::combine(domain, shares)?;
                open_key(&head, &head.for_domain, &domain_key)
            }
            (None, false) => {
                return refuse!(
                    BackupWrong,
                    "partition \"{}\" had no security domain when this backup was made: only the node that made it can \
                     restore it",
                    head.label
                );
            }
        };
        let Some(key) = key else { return Err(not_for_us(&head, shares.is_empty())) };
        Ok(Self {
            names: ChunkNames::of(bytes),
            head,
            key,
            number: 0,
            file: Vec::new(),
            content: Vec::new(),
            source: None,
            ended: false,
        })
    }

    /// What the file says of itself.
    pub fn head(&self) -> &BackupHead {
        &self.head
    }

    /// The key of the security domain, when the manifest was read.
    pub fn domain(&self) -> Option<(&Quorum, &SealingKey)> {
        self.head.domain.as_ref().zip(self.source.as_ref()?.domain_key.as_ref())
    }

    /// Takes the next bytes of the file, and shows the records that are whole to `keep`.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG, and those of `keep`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        keep: &mut dyn FnMut(Kept) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.file.extend_from_slice(bytes);
        let file = std::mem::take(&mut self.file);
        let mut rest = file.as_slice();
        while let Some((length, last, after)) = chunk_head(rest) {
            if self.ended {
                return wrong("there is more behind its end");
            }
            if length > MAX_CHUNK || last > 1 {
                return wrong("a chunk is larger than any can be");
            }
            let Some((sealed, after)) = after.split_at_checked(length) else { break };
            self.chunk(last == 1, sealed, keep)?;
            rest = after;
        }
        if self.ended && !rest.is_empty() {
            return wrong("there is more behind its end");
        }
        self.file = rest.to_vec();
        Ok(())
    }

    fn chunk(
        &mut self,
        last: bool,
        sealed: &[u8],
        keep: &mut dyn FnMut(Kept) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let opened = self.key.open(self.names.name(last), sealed);
        let content = match opened {
            Ok((number, content)) if number == self.number => content,
            _ => return wrong(&format!("chunk {} is not what was written there", self.number)),
        };
        self.number += 1;
        self.ended = last;
        let Some(source) = self.source.as_mut() else {
            self.source = Some(Source::of(&self.head, &content)?);
            return Ok(());
        };
        self.content.extend_from_slice(&content);
        let content = std::mem::take(&mut self.content);
        let mut rest = content.as_slice();
        while let Some((name, record, after)) = next_record(rest)? {
            keep(source.open(name, record)?)?;
            rest = after;
        }
        if last && !rest.is_empty() {
            return wrong("its last record is cut");
        }
        self.content = rest.to_vec();
        Ok(())
    }

    /// Whether the whole file was read, and everything in it is what the partition had. Of a whole partition: its
    /// header.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG.
    pub fn finish(&self) -> Result<Option<HeaderRecord>, Failure> {
        let Some(source) = self.source.as_ref().filter(|_| self.ended) else {
            return wrong("it is cut: its end is missing");
        };
        match &source.expected {
            _ if !self.head.key.is_empty() => Ok(None),
            Some((expected, header)) if *expected == source.set_hash => Ok(Some(header.clone())),
            _ => wrong("its records are not the ones that the partition had"),
        }
    }
}

impl Source {
    fn of(head: &BackupHead, manifest: &SecretBytes) -> Result<Self, Failure> {
        let (number, keys) = match manifest.split_first_chunk::<4>() {
            Some((number, keys)) if keys.len() >= KEY_LENGTH => (u32::from_le_bytes(*number), keys),
            _ => return wrong("its manifest has another form"),
        };
        // The partition's key, that of the security domain, and those that the partition had before.
        let (key, rest) = keys.split_at(KEY_LENGTH);
        let of_domain = if head.domain.is_some() { KEY_LENGTH } else { 0 };
        let Some((domain_key, earlier)) = rest.split_at_checked(of_domain) else {
            return wrong("its head names another security domain");
        };
        let domain_key = SealingKey::new(SecretBytes::from(domain_key));
        let mut keys = SecretBytes::zeroed(key.len() + earlier.len());
        keys.iter_mut().zip(key.iter().chain(earlier)).for_each(|(to, from)| *to = *from);
        let Some(key) = SealingKey::with_earlier(&keys) else {
            return wrong("its manifest has another form");
        };
        Ok(Self {
            names: Names::of(number),
            set_key: key.set_key()?,
            key,
            domain_key,
            set_hash: SetHash::default(),
            expected: None,
        })
    }

    fn open(&mut self, name: &str, record: &[u8]) -> Result<Kept, Failure> {
        let Some(suffix) = name.strip_prefix(self.names.prefix()) else {
            return wrong(&format!("the record {name} is of another partition"));
        };
        let Ok((revision, plain)) = self.key.open(name, record) else {
            return wrong(&format!("the record {name} does not open"));
        };
        let is_header = name == self.names.header();
        if is_header {
            let header = HeaderRecord::decode(&*plain).ok();
            let sum = header.as_ref().and_then(|header| SetHash::from_bytes(&header.set_hash));
            self.expected = sum.zip(header);
        } else {
            self.set_hash.toggle(self.set_key.element(name, record));
        }
        Ok(Kept { suffix: suffix.to_owned(), revision, plain, is_header })
    }
}

fn not_for_us(head: &BackupHead, by_node: bool) -> Failure {
    let message = match (&head.domain, by_node) {
        (Some(domain), true) => format!(
            "this backup of partition \"{}\" was made by another node: give shares of its security domain, {} of its {} \
             holders",
            head.label,
            domain.needed,
            domain.holders.len()
        ),
        (None, true) => format!(
            "this backup of partition \"{}\" was made by another node, and the partition had no security domain: only \
             that node's key opens it",
            head.label
        ),
        (_, false) => "the backup's head was changed: the security domain's key does not open it".to_owned(),
    };
    Failure::new(strongroom_protocol::v1::ErrorCode::BackupWrong, message)
}

/// The length of the next chunk, whether it is the last, and what follows; `None` if that is not there yet.
fn chunk_head(bytes: &[u8]) -> Option<(usize, u8, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (last, rest) = rest.split_first()?;
    Some((u32::from_le_bytes(*length) as usize, *last, rest))
}

/// A record's name and bytes, and what follows it.
type Next<'a> = (&'a str, &'a [u8], &'a [u8]);

/// The next record; `None` if it is not whole yet.
fn next_record(bytes: &[u8]) -> Result<Option<Next<'_>>, Failure> {
    let split = || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        Some((name, u32::from_le_bytes(*length) as usize, rest))
    };
    let Some((name, length, rest)) = split() else { return Ok(None) };
    if length > MAX_RECORD {
        return wrong("a record is larger than any can be");
    }
    let Ok(name) = std::str::from_utf8(name) else { return wrong("a record's name is no text") };
    Ok(rest.split_at_checked(length).map(|(record, after)| (name, record, after)))
}
