//! Security domains, backups, and what is restored from them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use strongroom_protocol::v1::{BackupHead, ErrorCode, Quorum};

use super::load::Opened;
use super::{MAX_LABEL, Slot, Vault, check_room};
use crate::backup::{Kept, OneKey, Reader, Writer, parse_head};
use crate::changes;
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::partition::restored::{self, Gathered};
use crate::partition::{LoadError, Loading, Partition};
use crate::quorum;
use crate::records::{self, DomainRecord, HeaderRecord, Names, PartitionRecord, RestorerRecord, RootRecord};
use crate::seal::{SealError, SealingKey, SetHash, SetKey};
use crate::service::now;
use crate::store::{Batch, Store};
use crate::users::Users;
use prost::Message;

/// So much of a partition is read or deleted at a time, in bytes.
const PAGE: usize = 1 << 20;

/// The name under which the key of a partition's security domain is sealed.
pub(super) fn domain_name(number: u32) -> String {
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
        let _turn = opened.store().turn()?;
        let mut root = opened.root();
        let mut changed = root.clone();
        match changed.partitions.iter_mut().find(|p| p.number == number) {
            Some(record) => edit(&opened, record)?,
            None => return refuse!(NoSuchPartition, "partition {number} was deleted"),
        }
        Ok(opened.write_root(&mut root, changed, Batch::default())?)
    }

    /// As [`Vault::edit_record`], if `permitted` says so of the partition's users in that moment.
    fn edit_record_as(
        &self,
        partition: &Partition,
        permitted: impl FnOnce(&Users) -> Result<(), Failure>,
        edit: impl FnOnce(&Opened, &mut PartitionRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let opened = self.opened()?;
        let _turn = opened.store().turn()?;
        let mut root = opened.root();
        let mut changed = root.clone();
        match changed.partitions.iter_mut().find(|p| p.number == partition.number()) {
            Some(record) => edit(&opened, record)?,
            None => return refuse!(NoSuchPartition, "partition \"{}\" was deleted", partition.label()),
        }
        let sealed = super::seal_root(&opened.node_key(), &changed)?;
        partition.change(|change| {
            permitted(&change.before().users)?;
            change.also(records::ROOT.to_owned(), sealed);
            Ok(())
        })?;
        opened.note(&changed);
        *root = changed;
        Ok(())
    }

    /// Makes a partition's security domain, if `permitted` says so of its users. Blocks.
    ///
    /// # Errors
    ///
    /// Those of `permitted`. EXISTS: it is made once. ATTRIBUTE_WRONG as [`quorum::create`], STORE.
    pub fn create_domain(
        &self,
        partition: &Partition,
        permitted: impl FnOnce(&Users) -> Result<(), Failure>,
        holders: &[Vec<u8>],
        needed: u32,
    ) -> Result<Quorum, Failure> {
        let (key, quorum) = quorum::create(partition.label(), holders, needed)?;
        let made = quorum.clone();
        self.edit_record_as(partition, permitted, |opened, record| {
            if record.domain.is_some() {
                return refuse!(
                    Exists,
                    "partition \"{}\" has its security domain already: it is made once, so that nobody can put own keys \
                     in the place of the holders'; 'strongroom security-domain show' writes its file again, and a quorum \
                     of the holders renews it: 'strongroom security-domain renew'",
                    record.label
                );
            }
            let name = domain_name(record.number);
            let sealed_key = opened.node_key().seal(&name, 0, SecretBytes::from(key.bytes()))?;
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

    /// Renews a partition's security domain: a quorum of its holders gives it to others, or to the same with other keys.
    /// What is backed up from now on is for the new ones only. Blocks.
    ///
    /// # Errors
    ///
    /// Those of `permitted`. UNSEAL_WRONG: the shares are no quorum of the present one. NO_SUCH_OBJECT, ATTRIBUTE_WRONG as
    /// [`quorum::create`], STORE.
    pub fn renew_domain(
        &self,
        partition: &Partition,
        permitted: impl FnOnce(&Users) -> Result<(), Failure>,
        shares: &[SecretBytes],
        holders: &[Vec<u8>],
        needed: u32,
    ) -> Result<Quorum, Failure> {
        let old = self.domain(partition)?;
        // Whoever can put the present key together is a quorum.
        quorum::combine(&old, shares)?;
        let (key, quorum) = quorum::create(partition.label(), holders, needed)?;
        let made = quorum.clone();
        self.edit_record_as(partition, permitted, |opened, record| {
            if record.domain.as_ref().and_then(|domain| domain.quorum.as_ref()) != Some(&old) {
                return refuse!(UnsealWrong, "the security domain was renewed meanwhile");
            }
            let name = domain_name(record.number);
            let sealed_key = opened.node_key().seal(&name, 0, SecretBytes::from(key.bytes()))?;
            record.domain = Some(DomainRecord { quorum: Some(made), sealed_key });
            Ok(())
        })?;
        Ok(quorum)
    }

    /// Begins a backup of a partition as it is now, or of one key of it.
    ///
    /// # Errors
    ///
    /// STORE, and those of [`Vault::ready`].
    pub fn begin_backup(&self, partition: &Arc<Partition>, only: Option<OneKey>) -> Result<Writer, Failure> {
        let opened = self.opened()?;
        let record = self.record(partition.number());
        let domain = record.as_ref().and_then(|record| record.domain.as_ref());
        let domain = match domain {
            Some(domain) => {
                let name = domain_name(partition.number());
                let (_, bytes) = opened.node_key().open(&name, &domain.sealed_key)?;
                SealingKey::new(bytes).map(|key| (domain, key))
            }
            None => None,
        };
        let snapshot = opened.ledger.snapshot()?;
        Writer::begin(Arc::clone(partition), snapshot, &opened.node_key(), domain, only)
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

    /// Begins to restore a backup as a partition, in an old one's place if `replace`; or a key's into a partition. Blocks.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG, UNSEAL_WRONG, NOT_PERMITTED, EXISTS, LIMIT, STORE.
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
        let reader = Reader::begin(bytes, &opened.backup_keys(), shares)?;
        let target = match (only_verify, head.key.is_empty(), into) {
            (true, ..) => Target::None,
            (_, false, Some(partition)) => {
                let is_its_own = partition.serial() == head.serial;
                // The node's key opens every backup of its own: whoever could take a key into a partition of his, would
                // use it there with his own users.
                if !is_its_own && shares.is_empty() {
                    return refuse!(
                        NotPermitted,
                        "key \"{}\" is of partition \"{}\" with serial number {}: it comes into another partition, as \"{}\", \
                         only with a quorum of the holders of the security domain that it was backed up with \
                         (--holder-key, --share); restore it into its own, or let its user wrap it: docs/import.md",
                        head.key,
                        head.label,
                        head.serial,
                        partition.label()
                    );
                }
                let target = restored::Target { partition, is_its_own };
                Target::Objects(target, Gathered::default())
            }
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

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The partition, or the one that the key went into.
    pub partition: Arc<Partition>,
    /// What of a key is not as it was, for people.
    pub left_out: Vec<String>,
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
    /// A key for a partition that is there.
    Objects(restored::Target, Gathered),
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
    let itself = opened.name()?;
    let _turn = opened.store().turn()?;
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
    if let Some(other) = root.restorers.iter().find(|at_it| is_at_it(at_it, &root, &itself)) {
        return refuse!(
            Limit,
            "another backup is being restored, by the node {}: wait for its end, or for an hour if that node does not run",
            other.node
        );
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
    sweep(opened, &mut root)?;
    let mut changed = root.clone();
    changed.next_number += 1;
    changed.restoring = vec![number];
    if opened.ledger.is_shared() {
        changed.restorers = vec![RestorerRecord { number, node: itself, since: now() }];
    }
    opened.write_root(&mut root, changed, Batch::default())?;
    Ok(new)
}

/// For so long a node may be at a restore: an hour, and what clocks may differ by. In seconds.
const LONGEST: u64 = 65 * 60;

/// Whether another node is at what it has begun to restore.
fn is_at_it(at_it: &RestorerRecord, root: &RootRecord, itself: &str) -> bool {
    let is_member = root.members.iter().any(|member| member.name == at_it.node);
    is_member && at_it.node != itself && now().abs_diff(at_it.since) < LONGEST
}

fn given_up<T>() -> Result<T, Failure> {
    refuse!(
        Store,
        "another node has given this restore up, because it took more than an hour: begin it again"
    )
}

/// Deletes what is left of restores that were not finished, and of partitions that were replaced: piece by piece, so
/// that neither takes memory for a whole partition. What is interrupted is ended by the next one, or the next start.
fn sweep(opened: &Opened, root: &mut MutexGuard<'_, RootRecord>) -> Result<(), Failure> {
    for number in root.restoring.clone() {
        sweep_one(opened, root, number)?;
    }
    Ok(())
}

/// As [`sweep`], what is left of one partition.
pub(super) fn sweep_one(
    opened: &Opened,
    root: &mut MutexGuard<'_, RootRecord>,
    number: u32,
) -> Result<(), Failure> {
    each_page(&*opened.ledger, number, |page| {
        let mut batch = Batch::default();
        page.into_iter().for_each(|(name, _)| batch.delete(name));
        Ok(opened.ledger.commit(&batch)?)
    })?;
    let mut changed = (**root).clone();
    changed.restoring.retain(|other| *other != number);
    changed.restorers.retain(|at_it| at_it.number != number);
    Ok(opened.write_root(root, changed, Batch::default())?)
}

/// Some records: names and bytes.
type Page = Vec<(String, Vec<u8>)>;

/// Shows all records of a partition, about a megabyte at a time.
fn each_page(
    store: &dyn Store,
    number: u32,
    mut see: impl FnMut(Page) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (names, mut snapshot, mut after) = (Names::of(number), store.snapshot()?, String::new());
    loop {
        let page = snapshot.page(names.prefix(), &after, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after.clone_from(last);
        see(page)?;
    }
}

impl Restore {
    /// The number of the partition that it makes; 0 if it makes none.
    pub fn number(&self) -> u32 {
        match &self.target {
            Target::Partition(new) => new.record.number,
            Target::Objects(target, _) => target.partition.number(),
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
            Target::Objects(_, gathered) => gathered.take(&kept.suffix, kept.plain),
        })?;
        if !batch.changes.is_empty() {
            // Nothing is written that somebody else has given up: it would be nobody's.
            let _turn = self.opened.store().turn()?;
            if let Target::Partition(new) = &self.target
                && !self.opened.root().restoring.contains(&new.record.number)
            {
                return given_up();
            }
            self.opened.ledger.commit(&batch)?;
        }
        Ok(())
    }

    /// Makes what was restored usable, all at once. `None`: it was only a look. Blocks.
    ///
    /// # Errors
    ///
    /// BACKUP_WRONG if the file's end is missing, EXISTS, STORE: nothing is there then. Those of `by_officer`, which says of a
    /// partition that a key comes back into whether who restores is one of its crypto officers.
    pub fn finish(
        self,
        by_officer: impl Fn(&Partition, &Users) -> Result<bool, Failure>,
    ) -> Result<Option<Restored>, Failure> {
        let header = self.reader.finish()?;
        match (self.target, header) {
            (Target::None, _) => Ok(None),
            (Target::Objects(target, gathered), _) => {
                let left_out = restored::add_objects(&target, &gathered, by_officer)?;
                Ok(Some(Restored { partition: target.partition, left_out }))
            }
            (Target::Partition(new), Some(header)) => {
                new.finish(header, self.reader.domain(), self.reader.head().created).map(Some)
            }
            (Target::Partition(_), None) => refuse!(BackupWrong, "the backup has no header"),
        }
    }
}

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
    ) -> Result<Restored, Failure> {
        let opened = Arc::clone(&self.opened);
        header.set_hash = self.set_hash.to_bytes().to_vec();
        let plain = SecretBytes::from(header.encode_to_vec().as_slice());
        let sealed_header = self.key.seal(&self.names.header(), header.revision, plain)?;
        self.record.last_backup = created;
        let key = self.key.copy().ok_or(SealError::Library)?;
        let loaded = self.load(&sealed_header)?;
        let partition = Arc::new(loaded);
        let _turn = opened.store().turn()?;
        // Not before it is this node's turn: the cluster's key may be another one until then.
        let node_key = &opened.node_key();
        let sealed_key = node_key.seal(&self.names.key(), 0, SecretBytes::from(key.bytes()))?;
        if let Some((quorum, key)) = domain {
            let name = domain_name(self.record.number);
            let sealed_key = node_key.seal(&name, 0, SecretBytes::from(key.bytes()))?;
            self.record.domain = Some(DomainRecord { quorum: Some(quorum.clone()), sealed_key });
        }
        let mut batch = Batch::default();
        batch.put(self.names.header(), sealed_header);
        batch.put(self.names.key(), sealed_key);
        let mut root = opened.root();
        let mut changed = root.clone();
        if !changed.restoring.contains(&self.record.number) {
            return given_up();
        }
        changed.restoring.retain(|number| *number != self.record.number);
        changed.restorers.retain(|at_it| at_it.number != self.record.number);
        let mut left_out = Vec::new();
        let old = self.take_the_place(&opened, &mut changed, &mut left_out)?;
        changed.partitions.push(self.record.clone());
        match old {
            Some(Slot::Sound(old)) => {
                let sealed_root = super::seal_root(node_key, &changed)?;
                let nobody_is_asked = |_: &Users| Ok(());
                old.give_up(nobody_is_asked, |also| {
                    also.put(records::ROOT.to_owned(), sealed_root);
                    also.changes.extend(batch.changes);
                })?;
                opened.note(&changed);
                *root = changed;
            }
            Some(Slot::Damaged { .. }) | None => opened.write_root(&mut root, changed, batch)?,
        }
        if let Some(number) = self.replaces {
            opened.remove(number);
        }
        opened.insert(self.record.number, Slot::Sound(Arc::clone(&partition)));
        changes::announce();
        if let Err(failure) = sweep(&opened, &mut root) {
            tracing::warn!("what is left of the partition that was replaced is deleted later: {failure}");
        }
        Ok(Restored { partition, left_out })
    }

    /// Loads what was written as a start does, and compares it with the header: it is what will be found.
    fn load(&mut self, sealed_header: &[u8]) -> Result<Partition, Failure> {
        let no_sense = |error: LoadError| {
            Failure::new(ErrorCode::BackupWrong, format!("the backup makes no sense: {error}"))
        };
        let key = std::mem::replace(&mut self.key, SealingKey::generate());
        let mut loading = Loading::begin(&self.record, key, Some(sealed_header)).map_err(no_sense)?;
        each_page(&*self.opened.ledger, self.record.number, |page| {
            page.into_iter().try_for_each(|(name, record)| loading.take(name, record).map_err(no_sense))
        })?;
        loading.finish(&self.record, self.opened.store()).map_err(no_sense)
    }

    /// Takes the old partition, if there is one, out of the root. Its records go when the new one is in its place.
    fn take_the_place(
        &mut self,
        opened: &Opened,
        root: &mut RootRecord,
        left_out: &mut Vec<String>,
    ) -> Result<Option<Slot>, Failure> {
        let label = &self.record.label;
        let Some(number) = self.replaces else {
            return match root.partitions.iter().any(|p| p.label == *label) {
                false => Ok(None),
                true => refuse!(Exists, "a partition \"{label}\" was made meanwhile"),
            };
        };
        let Some(at) = root.partitions.iter().position(|p| p.number == number) else {
            return refuse!(NoSuchPartition, "the partition \"{label}\" was deleted meanwhile");
        };
        let old = root.partitions.remove(at);
        root.set_aside.retain(|other| *other != number);
        root.restoring.push(number);
        if let Some(present) = &old.domain
            && self.record.domain.as_ref().is_none_or(|domain| domain.quorum != present.quorum)
        {
            // Who is no holder any more does not become one again by an old backup.
            let name = domain_name(number);
            let (_, bytes) = opened.node_key().open(&name, &present.sealed_key)?;
            let sealed_key = opened.node_key().seal(&domain_name(self.record.number), 0, bytes)?;
            self.record.domain = Some(DomainRecord { quorum: present.quorum.clone(), sealed_key });
            left_out
                .push("the security domain is the present one, not the one of the backup's time".to_owned());
        }
        Ok(opened.slots().get(&number).cloned())
    }
}
