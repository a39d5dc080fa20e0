//! Another key in the place of a partition's: what is written from then on nobody reads who only knew the one before. Records from before
//! stay as they are, and are opened by the key of their time; which they are, the header says with a hash under the new key. So who knew
//! the one before can put nothing in their place either.

use std::sync::{Arc, PoisonError};

use super::load::Loading;
use super::{Contents, Header, Keys, Partition};
use crate::changes;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::Objects;
use crate::records::PartitionRecord;
use crate::seal::{SealingKey, SetHash, revision_of};
use crate::store::{Batch, StoreError};

/// So much is read of a store at a time, in bytes.
const PAGE: usize = 1 << 20;

impl Partition {
    /// Gives the partition another key. `also` makes of its bytes what else is written in the same moment: its record, and what refers
    /// to it. Connections stay logged in; tickets from before are worth nothing. Blocks.
    ///
    /// # Errors
    ///
    /// Those of `also`; STORE, NO_SUCH_PARTITION, LIMIT. The key is the one before then.
    pub fn renew_key(
        &self,
        also: impl FnOnce(SecretBytes, &mut Batch) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let _turn = self.store.turn()?;
        let mut header = self.lock_header()?;
        header.revision += 1;
        let revision = header.revision;
        let (records, last) = (self.read_all()?, self.keys());
        let sum = |keys: &Keys| {
            let mut sum = SetHash::default();
            records.iter().for_each(|(name, record)| sum.toggle(keys.set.element(name, record)));
            sum
        };
        if sum(&last) != header.set_hash {
            let location = self.store.location();
            let reason =
                format!("the records of partition {} are not the ones that it last had", self.number);
            return Err(StoreError::Damaged { location, reason }.into());
        }
        let oldest = records.iter().filter_map(|(_, record)| revision_of(record)).min().unwrap_or(revision);
        let Some(renewed) = last.sealing.renewed(revision, oldest) else {
            return refuse!(
                Limit,
                "partition \"{}\" has objects from before too many changes of its key: restore it from a backup, which seals \
                 all of them anew",
                self.label
            );
        };
        let keys = Keys::of(renewed)?;
        let after = Header { set_hash: sum(&keys), ..header.clone() };
        let time = self.age.to_store();
        let sealed = self.seal_header(&keys, &after, time)?;
        let (bytes, key) = (keys.sealing.with_earlier_bytes(), keys.sealing.copy());
        let loading = self.load_anew(key, &sealed, records)?;
        let mut batch = Batch::default();
        batch.put(self.names.header(), sealed);
        also(bytes, &mut batch)?;
        self.store.commit(&batch)?;
        self.age.is_stored(time.age);
        *header = after;
        self.take_over(loading)
    }

    /// Takes in another key that another node has given the partition: with it, and all its records.
    ///
    /// # Errors
    ///
    /// What is wrong with them. Nothing was taken in then.
    pub fn adopt_key(&self, key: SealingKey, mut records: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
        let mut header = self.lock_header()?;
        let name = self.names.header();
        let sealed = records.iter().position(|(found, _)| *found == name).map(|at| records.swap_remove(at).1);
        records.retain(|(name, _)| *name != self.names.key());
        let loading = self.load_anew(Some(key), &sealed.unwrap_or_default(), records)?;
        let revision = header.revision.max(loading.header.revision);
        *header = Header { revision, ..loading.header.clone() };
        self.take_over(loading)
    }

    /// All users and objects, as the store has them.
    fn read_all(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (mut snapshot, mut all, mut after) = (self.store.snapshot()?, Vec::new(), String::new());
        let beside = [self.names.key(), self.names.header()];
        loop {
            let page = snapshot.page(self.names.prefix(), &after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after.clone_from(last);
            all.extend(page.into_iter().filter(|(name, _)| !beside.contains(name)));
        }
    }

    fn load_anew(
        &self,
        key: Option<SealingKey>,
        header: &[u8],
        records: Vec<(String, Vec<u8>)>,
    ) -> Result<Loading, Failure> {
        let Some(key) = key else { return refuse!(Internal, "a key of another form") };
        let damaged = |error: super::LoadError| {
            let (location, reason) = (self.store.location(), format!("partition {}: {error}", self.number));
            Failure::from(StoreError::Damaged { location, reason })
        };
        let record = PartitionRecord { number: self.number, ..PartitionRecord::default() };
        let mut loading = Loading::begin(&record, key, Some(header)).map_err(damaged)?;
        records.into_iter().try_for_each(|(name, record)| loading.take(name, record)).map_err(damaged)?;
        loading.check().map_err(damaged)?;
        Ok(loading)
    }

    /// Puts what was loaded in the place of what there is. The header is locked.
    fn take_over(&self, loading: Loading) -> Result<(), Failure> {
        let Loading { keys, contents: next, header, .. } = loading;
        let ticket_key = keys.sealing.ticket_key()?;
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        // Keys that were used are open, and stay so.
        keep_open(&next.objects, &contents.objects);
        let session = std::mem::take(&mut contents.session);
        let last = std::mem::replace(&mut *contents, Contents { session, ..next });
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        drop(contents);
        self.meter.limits.set(&header.settings);
        self.tickets().use_key(ticket_key);
        changes::announce();
        // Many objects take a while, and nobody waits for it.
        drop(last);
        Ok(())
    }
}

fn keep_open(next: &Objects, last: &Objects) {
    for object in next.find(crate::object::Search::default()) {
        let known = last.get(&object.id).filter(|known| known.info == object.info);
        if let Some(key) = known.and_then(|known| known.key.get()) {
            let _ = object.key.set(key.clone());
        }
    }
}
