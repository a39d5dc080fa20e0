//! Making a backup: chunk after chunk from a snapshot of the store, while the partition goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use strongroom_protocol::v1::BackupHead;

use super::{CHUNK, ChunkNames, FORMAT, beginning, key_name};
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::ObjectId;
use crate::partition::Partition;
use crate::partition::restored::MOST_OF_A_KEY;
use crate::records::{DomainRecord, Names};
use crate::seal::{KEY_LENGTH, SealingKey};
use crate::service::now;
use crate::store::Snapshot;

/// A key and what belongs to it.
#[derive(Debug)]
pub struct OneKey {
    /// Its label.
    pub title: String,
    /// Its versions, their halves and certificates.
    pub objects: BTreeSet<ObjectId>,
    /// The names of users whom it names.
    pub users: Vec<String>,
}

impl OneKey {
    /// The names of its records.
    fn records(&self, names: &Names) -> Vec<String> {
        let objects = self.objects.iter().map(|object| names.object(object));
        objects.chain(self.users.iter().map(|user| names.user(user))).collect()
    }
}

/// A backup that is being made. Holds as much memory as a chunk has.
pub struct Writer {
    partition: Arc<Partition>,
    snapshot: Box<dyn Snapshot>,
    /// Of a single key: the names of its records that are not written yet.
    only: Option<Vec<String>>,
    is_whole: bool,
    /// Of records, so far.
    bytes: usize,
    beginning: Vec<u8>,
    key: SealingKey,
    names: ChunkNames,
    number: u64,
    manifest: Option<SecretBytes>,
    after: String,
    done: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("partition", &self.partition.label()).finish_non_exhaustive()
    }
}

impl Writer {
    /// Begins a backup of a partition as `snapshot` has it, or of one key of it.
    ///
    /// # Errors
    ///
    /// INTERNAL.
    pub fn begin(
        partition: Arc<Partition>,
        snapshot: Box<dyn Snapshot>,
        node_key: &SealingKey,
        domain: Option<(&DomainRecord, SealingKey)>,
        only: Option<OneKey>,
    ) -> Result<Self, Failure> {
        let key = SealingKey::generate();
        let names = Names::of(partition.number());
        let title = only.as_ref().map(|only| only.title.clone()).unwrap_or_default();
        let mut head = BackupHead {
            format: FORMAT,
            id: aws_lc::random_array::<16>().to_vec(),
            label: partition.label().to_owned(),
            serial: partition.serial().to_owned(),
            created: now(),
            key: title,
            domain: domain.as_ref().and_then(|(record, _)| record.quorum.clone()),
            ..BackupHead::default()
        };
        head.for_node = node_key.seal(&key_name(&head), 0, SecretBytes::from(key.bytes()))?;
        let domain_key = domain.map(|(_, domain_key)| domain_key);
        if let Some(domain_key) = &domain_key {
            head.for_domain = domain_key.seal(&key_name(&head), 0, SecretBytes::from(key.bytes()))?;
        }
        let beginning = beginning(&head);
        let manifest = manifest(partition.number(), &partition.keys().sealing, domain_key.as_ref());
        Ok(Self {
            is_whole: only.is_none(),
            only: only.map(|only| only.records(&names)),
            bytes: 0,
            names: ChunkNames::of(&beginning),
            beginning,
            partition,
            snapshot,
            key,
            number: 0,
            manifest: Some(manifest),
            after: String::new(),
            done: false,
        })
    }

    /// The partition.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Whether it holds the partition as a whole.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The beginning of the file.
    pub fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// The next bytes of the file, and whether they are the last. Blocks.
    ///
    /// # Errors
    ///
    /// STORE if the store cannot be read, LIMIT if a key has more than can be restored.
    pub fn next_bytes(&mut self) -> Result<(Vec<u8>, bool), Failure> {
        if let Some(manifest) = self.manifest.take() {
            return Ok((self.chunk(false, manifest)?, false));
        }
        let (names, mut content) = (Names::of(self.partition.number()), Vec::with_capacity(CHUNK));
        while !self.done && content.len() < CHUNK {
            for (name, record) in self.next_records(&names, CHUNK - content.len())? {
                self.bytes += record.len();
                content.extend_from_slice(&(name.len() as u16).to_le_bytes());
                content.extend_from_slice(name.as_bytes());
                content.extend_from_slice(&(record.len() as u32).to_le_bytes());
                content.extend_from_slice(&record);
            }
            if !self.is_whole && self.bytes > MOST_OF_A_KEY {
                return refuse!(
                    Limit,
                    "the key and what belongs to it have more than {MOST_OF_A_KEY} bytes: make a backup of the whole \
                     partition"
                );
            }
        }
        // A record larger than a chunk goes on in the next ones.
        let mut file = Vec::new();
        let mut pieces = content.chunks(CHUNK).peekable();
        if pieces.peek().is_none() {
            return Ok((self.chunk(true, SecretBytes::zeroed(0))?, true));
        }
        while let Some(piece) = pieces.next() {
            let last = self.done && pieces.peek().is_none();
            file.extend(self.chunk(last, SecretBytes::from(piece))?);
        }
        Ok((file, self.done))
    }

    /// Some of the records that are next; with the last ones it is done.
    fn next_records(&mut self, names: &Names, bytes: usize) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let Some(only) = &mut self.only else {
            let mut page = self.snapshot.page(names.prefix(), &self.after, bytes)?;
            match page.last() {
                Some((last, _)) => self.after.clone_from(last),
                None => self.done = true,
            }
            // The partition's key goes with the manifest: this one is sealed for the node.
            page.retain(|(name, _)| *name != names.key());
            return Ok(page);
        };
        let Some(wanted) = only.pop() else {
            self.done = true;
            return Ok(Vec::new());
        };
        let mut page = self.snapshot.page(&wanted, "", 1)?;
        page.retain(|(name, _)| *name == wanted);
        Ok(page)
    }

    fn chunk(&mut self, last: bool, content: SecretBytes) -> Result<Vec<u8>, Failure> {
        let sealed = self.key.seal(self.names.name(last), self.number, content)?;
        self.number += 1;
        Ok([&(sealed.len() as u32).to_le_bytes(), &[u8::from(last)][..], &sealed].concat())
    }
}

fn manifest(number: u32, key: &SealingKey, domain_key: Option<&SealingKey>) -> SecretBytes {
    let domain_key = domain_key.map(SealingKey::bytes).unwrap_or_default();
    let (number, keys) = (number.to_le_bytes(), key.with_earlier_bytes());
    let mut manifest = SecretBytes::zeroed(number.len() + keys.len() + domain_key.len());
    let (key, earlier) = keys.split_at_checked(KEY_LENGTH).unwrap_or_default();
    for (to, from) in manifest.iter_mut().zip(number.iter().chain(key).chain(domain_key).chain(earlier)) {
        *to = *from;
    }
    manifest
}
