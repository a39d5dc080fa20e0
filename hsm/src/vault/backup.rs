//! Security domains, backups, and what is restored from them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strongroom_protocol::v1::{BackupHead, Quorum};

use super::load::Opened;
use super::{MAX_LABEL, Slot, Vault, check_room};
use crate::backup::{Kept, Reader, Writer, parse_head};
use crate::changes;
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::ObjectId;
use crate::partition::{Partition, restored};
use crate::quorum;
use crate::records::{self, DomainRecord, HeaderRecord, Names, PartitionRecord, RootRecord};
use crate::seal::{SealingKey, SetHash, SetKey};
use crate::service::now;
use crate::store::{Batch, Store};
use prost::Message;

/// The name under which the key of a partition's security domain is sealed.
fn domain_name(number: u32) -> String {
    format!("{}domain", Names::of(number).prefix())
}

impl Vault {
    /// What the root says of a partition.
    pub fn record(&self, number: u32) -> Option<PartitionRecord> {
        self.opened().ok()?.noted(number)
    }

    /// Changes what the root says of a partition, durably.
    fn edit_record(
        &self,
        number: u32,
        edit: impl FnOnce(&Opened, &mut PartitionRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let opened = self.opened()?;
        let mut root = opened.root();
        let mut changed = root.clone();
        match changed.partitions.iter_mut().find(|p| p.number == number) {
            Some(record) => edit(&opened, record)?,
            None => return refuse!(NoSuchPartition, "partition {number} was deleted"),
        }
        Ok(opened.write_root(&mut root, changed, Batch::default())?)
    }

    /// Makes a partition's security domain. Blocks.
    ///
    /// # Errors
    ///
    /// EXISTS: it is made once. ATTRIBUTE_WRONG as [`quorum::create`], STORE.
    pub fn create_domain(
        &self,
        partition: &Partition,
        holders: &[Vec<u8>],
        needed: u32,
    ) -> Result<Quorum, Failure> {
        let (key, quorum) = quorum::create(partition.label(), holders, needed)?;
        let made = quorum.clone();
        self.edit_record(partition.number(), |opened, record| {
            if record.domain.is_some() {
                return refuse!(
                    Exists,
                    "partition \"{}\" has its security domain already: it is made once, so that nobody can put own keys \
                     in the place of the holders'; 'strongroom security-domain show' writes its file again",
                    record.label
                );
            }
            let name = domain_name(record.number);
            let sealed_key = opened.node_key.seal(&name, 0, SecretBytes::from(key.bytes()))?;
            record.domain = Some(DomainRecord { quorum: Some(made), sealed_key });
            Ok(())
        })?;
        Ok(quorum)
    }

    /// A partition's security domain.
    ///
    /// # Errors
    ///
    /// NO_SUCH_OBJECT if it has none.
    pub fn domain(&self, partition: &Partition) -> Result<Quorum, Failure> {
        match self.record(partition.number()).and_then(|record| record.domain?.quorum) {
            Some(quorum) => Ok(quorum),
            None => refuse!(
                NoSuchObject,
                "partition \"{}\" has no security domain: make it with 'strongroom security-domain create'",
                partition.label()
            ),
        }
    }

    /// Begins a backup of a partition as it is now, or of some objects of it, called by their title.
    ///
    /// # Errors
    ///
    /// STORE, and those of [`Vault::ready`].
    pub fn begin_backup(
        &self,
        partition: &Arc<Partition>,
        only: Option<(String, Vec<ObjectId>)>,
    ) -> Result<Writer, Failure> {
        let opened = self.opened()?;
        let record = self.record(partition.number());
        let domain = record.as_ref().and_then(|record| record.domain.as_ref());
        let domain = match domain {
            Some(domain) => {
                let name = domain_name(partition.number());
                let (_, bytes) = opened.node_key.open(&name, &domain.sealed_key)?;
                SealingKey::new(bytes).map(|key| (domain, key))
            }
            None => None,
        };
        let snapshot = opened.ledger.snapshot()?;
        Writer::begin(Arc::clone(partition), snapshot, &opened.node_key, domain, only)
    }

    /// Notes that a backup of a partition was read to its end. Blocks.
    ///
    /// # Errors
    ///
    /// STORE.
    pub fn backed_up(&self, number: u32) -> Result<(), Failure> {
        let time = now();
        self.edit_record(number, |_, record| {
            record.last_backup = time;
            Ok(())
        })?;
        self.partition(number)?.meter().last_backup.store(time, Ordering::Relaxed);
        Ok(())
    }

    /// Begins to restore a backup as a partition, in an old one's place if `replace`. Blocks.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG, UNSEAL_WRONG, EXISTS, LIMIT, STORE.
    pub fn begin_restore(
        &self,
        bytes: &[u8],
        shares: &[SecretBytes],
        label: &str,
        replace: bool,
        only_verify: bool,
        into: Option<Arc<Partition>>,
    ) -> Result<Restore, Failure> {
        let head = parse_head(bytes)?;
        let opened = self.opened()?;
        let reader = Reader::begin(bytes, &opened.node_key, shares)?;
        let target = match (only_verify, head.key.is_empty(), into) {
            (true, ..) => Target::None,
            (_, false, Some(partition)) => Target::Objects(partition, Vec::new()),
            (_, false, None) => {
                return refuse!(
                    BackupWrong,
                    "this is a backup of key \"{}\": name the partition that it goes into with --partition",
                    head.key
                );
            }
            (_, true, _) => {
                let label = if label.is_empty() { &head.label } else { label };
                Target::Partition(Box::new(begin_partition(&opened, &head, label, replace)?))
            }
        };
        Ok(Restore { opened, reader, target })
    }
}

/// A restore that has begun. What is not finished is undone by the next one, or the next start.
#[derive(Debug)]
pub struct Restore {
    opened: Arc<Opened>,
    reader: Reader,
    target: Target,
}

enum Target {
    /// A look whether the file is whole and sound.
    None,
    /// A partition.
    Partition(Box<NewPartition>),
    /// Objects for a partition that is there.
    Objects(Arc<Partition>, Vec<SecretBytes>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Target(..)")
    }
}

/// A partition that is being restored: under a new number and a new key.
struct NewPartition {
    opened: Arc<Opened>,
    record: PartitionRecord,
    replaces: Option<u32>,
    names: Names,
    key: SealingKey,
    set_key: SetKey,
    set_hash: SetHash,
}

impl Drop for NewPartition {
    fn drop(&mut self) {
        self.opened.restoring.store(false, Ordering::Release);
    }
}

fn begin_partition(
    opened: &Arc<Opened>,
    head: &BackupHead,
    label: &str,
    replace: bool,
) -> Result<NewPartition, Failure> {
    if label.is_empty() || label.len() > MAX_LABEL || label.chars().any(char::is_control) {
        return refuse!(AttributeWrong, "a partition's label has 1 to {MAX_LABEL} bytes of printable text");
    }
    let mut root = opened.root();
    let replaces = root.partitions.iter().find(|p| p.label == label).map(|p| p.number);
    match (replaces, replace) {
        (Some(_), false) => {
            return refuse!(
                Exists,
                "a partition \"{label}\" is there already: give --label for another one beside it, or --replace to \
                 destroy the one that is there"
            );
        }
        (None, true) => {
            return refuse!(NoSuchPartition, "there is no partition \"{label}\" that could be replaced");
        }
        (Some(_), true) => {}
        (None, false) => check_room(&root, label)?,
    }
    if opened.restoring.swap(true, Ordering::AcqRel) {
        return refuse!(Limit, "another backup is being restored: wait for its end");
    }
    // Ours from here on: dropped, it lets the next one begin.
    let key = SealingKey::generate();
    let set_key = key.set_key().inspect_err(|_| opened.restoring.store(false, Ordering::Release))?;
    let used = root.partitions.iter().any(|p| p.serial == head.serial && Some(p.number) != replaces);
    let serial = if used { records::hex(&aws_lc::random_array::<8>()) } else { head.serial.clone() };
    let number = root.next_number;
    let new = NewPartition {
        opened: Arc::clone(opened),
        record: PartitionRecord { number, label: label.to_owned(), serial, ..PartitionRecord::default() },
        replaces,
        names: Names::of(number),
        key,
        set_key,
        set_hash: SetHash::default(),
    };
    let mut changed = root.clone();
    let mut batch = Batch::default();
    for unfinished in std::mem::take(&mut changed.restoring) {
        delete_records(&*opened.ledger, unfinished, &mut batch)?;
    }
    changed.next_number += 1;
    changed.restoring = vec![number];
    opened.write_root(&mut root, changed, batch)?;
    Ok(new)
}

/// Adds to a batch that all records of a partition go.
fn delete_records(store: &dyn Store, number: u32, batch: &mut Batch) -> Result<(), Failure> {
    for (name, _) in all_records(store, number)? {
        batch.delete(name);
    }
    Ok(())
}

/// All records of a partition.
fn all_records(store: &dyn Store, number: u32) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let (names, mut snapshot) = (Names::of(number), store.snapshot()?);
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = snapshot.page(names.prefix(), &after, 1 << 20)?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after.clone_from(last);
        all.extend(page);
    }
}

impl Restore {
    /// The number of the partition that it makes; 0 if it makes none.
    pub fn number(&self) -> u32 {
        match &self.target {
            Target::Partition(new) => new.record.number,
            Target::Objects(partition, _) => partition.number(),
            Target::None => 0,
        }
    }

    /// What the file says of itself.
    pub fn head(&self) -> &BackupHead {
        self.reader.head()
    }

    /// Takes the next bytes of the file. Blocks.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG, STORE: the restore is over then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut batch = Batch::default();
        let target = &mut self.target;
        self.reader.push(bytes, &mut |kept| match target {
            Target::None => Ok(()),
            Target::Partition(new) => new.keep(kept, &mut batch),
            Target::Objects(_, objects) => {
                if objects.len() >= MAX_OBJECTS_OF_A_KEY {
                    return refuse!(Limit, "the backup of a key has more objects than any key has");
                }
                objects.push(kept.plain);
                Ok(())
            }
        })?;
        if !batch.changes.is_empty() {
            self.opened.ledger.commit(&batch)?;
        }
        Ok(())
    }

    /// Makes what was restored usable, all at once. `None`: it was only a look. Blocks.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG if the file's end is missing, EXISTS, STORE: nothing is there then.
    pub fn finish(self) -> Result<Option<Arc<Partition>>, Failure> {
        let header = self.reader.finish()?;
        match (self.target, header) {
            (Target::None, _) => Ok(None),
            (Target::Objects(partition, objects), _) => {
                restored::add_objects(&partition, &objects)?;
                Ok(Some(partition))
            }
            (Target::Partition(new), Some(header)) => {
                new.finish(header, self.reader.domain(), self.reader.head().created).map(Some)
            }
            (Target::Partition(_), None) => refuse!(BackupWrong, "the backup has no header"),
        }
    }
}

/// Objects that the backup of one key has at most: its halves, and certificates.
const MAX_OBJECTS_OF_A_KEY: usize = 64;

impl NewPartition {
    fn keep(&mut self, kept: Kept, batch: &mut Batch) -> Result<(), Failure> {
        if kept.is_header {
            return Ok(());
        }
        let name = format!("{}{}", self.names.prefix(), kept.suffix);
        if name == self.names.key() {
            return refuse!(BackupWrong, "the backup has a record that it cannot have: {name}");
        }
        let sealed = self.key.seal(&name, kept.revision, kept.plain)?;
        self.set_hash.toggle(self.set_key.element(&name, &sealed));
        batch.put(name, sealed);
        Ok(())
    }

    fn finish(
        mut self: Box<Self>,
        mut header: HeaderRecord,
        domain: Option<(&Quorum, &SealingKey)>,
        created: u64,
    ) -> Result<Arc<Partition>, Failure> {
        let opened = Arc::clone(&self.opened);
        let node_key = &opened.node_key;
        header.set_hash = self.set_hash.to_bytes().to_vec();
        let plain = SecretBytes::from(header.encode_to_vec().as_slice());
        let sealed_header = self.key.seal(&self.names.header(), header.revision, plain)?;
        let sealed_key = node_key.seal(&self.names.key(), 0, SecretBytes::from(self.key.bytes()))?;
        self.record.last_backup = created;
        if let Some((quorum, key)) = domain {
            let name = domain_name(self.record.number);
            let sealed_key = node_key.seal(&name, 0, SecretBytes::from(key.bytes()))?;
            self.record.domain = Some(DomainRecord { quorum: Some(quorum.clone()), sealed_key });
        }
        // Loaded as at a start, and compared with the header: what was written is what will be found.
        let mut sealed = all_records(&*opened.ledger, self.record.number)?;
        sealed.push((self.names.header(), sealed_header.clone()));
        let key = std::mem::replace(&mut self.key, SealingKey::generate());
        let partition = match Partition::load(&self.record, key, sealed, opened.store()) {
            Ok(partition) => Arc::new(partition),
            Err(error) => return refuse!(BackupWrong, "the backup makes no sense: {error}"),
        };
        let mut batch = Batch::default();
        batch.put(self.names.header(), sealed_header);
        batch.put(self.names.key(), sealed_key);
        let mut root = opened.root();
        let mut changed = root.clone();
        changed.restoring.retain(|number| *number != self.record.number);
        changed.partitions.push(self.record.clone());
        self.swap(&opened, &mut changed, &mut batch)?;
        let replaced = self.replaces.and_then(|number| match opened.slots().get(&number) {
            Some(Slot::Sound(old)) => Some(Arc::clone(old)),
            _ => None,
        });
        match replaced {
            Some(old) => {
                let sealed_root = super::seal_root(node_key, &changed)?;
                old.delete_all(
                    |_| Ok(()),
                    |also| {
                        also.put(records::ROOT.to_owned(), sealed_root);
                        also.changes.extend(batch.changes);
                    },
                )?;
                opened.note(&changed);
                *root = changed;
            }
            None => opened.write_root(&mut root, changed, batch)?,
        }
        if let Some(number) = self.replaces {
            opened.remove(number);
        }
        opened.insert(self.record.number, Slot::Sound(Arc::clone(&partition)));
        changes::announce();
        Ok(partition)
    }

    /// Takes the old partition out of the root.
    fn swap(&self, opened: &Opened, root: &mut RootRecord, batch: &mut Batch) -> Result<(), Failure> {
        let Some(old) = self.replaces else {
            return match root.partitions.iter().filter(|p| p.label == self.record.label).count() {
                1 => Ok(()),
                _ => refuse!(Exists, "a partition \"{}\" was made meanwhile", self.record.label),
            };
        };
        root.partitions.retain(|p| p.number != old);
        root.set_aside.retain(|number| *number != old);
        // Of a damaged one whatever is there.
        delete_records(&*opened.ledger, old, batch)
    }
}
