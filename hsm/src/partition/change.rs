//! Changes of a partition: gathered, sealed, committed, then visible.

use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};

use prost::Message;
use strongroom_protocol::v1::ObjectInfo;

use super::once;
use super::room::Room;
use super::{Contents, Header, Keys, MAX_USERS, Partition, Settings};
use crate::access::Access;
use crate::approval;
use crate::changes;
use crate::crypto::KeyKind;
use crate::failure::{Failure, refuse};
use crate::life::Policy;
use crate::life::age::Written;
use crate::memory::SecretBytes;
use crate::object::{self, Key, Object, ObjectId, Search};
use crate::records::{self, HeaderRecord, ObjectRecord};
use crate::store::Batch;
use crate::users::{User, Users};

/// Changes that are made together, in memory and in the store.
pub struct Change<'a> {
    partition: &'a Partition,
    before: &'a Contents,
    header: Header,
    batch: Batch,
    edits: Vec<Edit>,
    /// What no change may do was asked for: the set hash would no longer be that of the records.
    inconsistent: Option<String>,
    /// Of [`Contents::stale`]: those that are written anew.
    mended: Vec<ObjectId>,
    room: Room,
    /// The request that asks for it, if it may come again.
    once: Option<once::Once>,
    /// Objects that were not there before.
    made: Vec<ObjectId>,
}

enum Edit {
    PutObject(Arc<Object>),
    PutDeleted(Arc<Object>),
    Recover(Arc<Object>),
    Purge(ObjectId),
    SetLife(Policy),
    DeleteObject(ObjectId),
    PutUser(Arc<User>),
    DeleteUser(String),
}

impl Partition {
    /// Lets `plan` look at the contents and say what changes, and makes it durable; an empty plan commits
    /// too. Blocks for the store's commit: not for an I/O thread.
    ///
    /// # Errors
    ///
    /// What `plan` says, or STORE; nothing was changed then.
    pub fn change<T>(&self, plan: impl FnOnce(&mut Change<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        // Of a store that several nodes share: all that others have changed is in memory, and they wait.
        let _turn = self.store.turn()?;
        let mut header = self.lock_header()?;
        // A failed commit leaves a gap, so that no two records ever have the same revision.
        header.revision += 1;
        let contents = self.contents();
        let mut change = Change {
            partition: self,
            before: &contents,
            header: header.clone(),
            batch: Batch::default(),
            edits: Vec::new(),
            inconsistent: None,
            mended: Vec::new(),
            room: Room::taken_by(&contents),
            once: once::current(),
            made: Vec::new(),
        };
        if change.once.is_some_and(|once| contents.once.has(&once)) {
            return refuse!(Exists, "what this request makes was made when it was sent before");
        }
        let value = plan(&mut change)?;
        let Change { header: after, mut batch, edits, inconsistent, mended, once, made, .. } = change;
        if let Some(name) = inconsistent {
            tracing::error!(
                partition = self.label,
                name,
                "a change of a record twice, or of an old one, was refused"
            );
            return refuse!(
                Internal,
                "the record {name} would be changed twice at once: nothing was changed"
            );
        }
        drop(contents);
        let time = self.age.to_store();
        batch.put(self.names.header(), self.seal_header(&self.keys(), &after, time)?);
        self.store.commit(&batch)?;
        self.age.is_stored(time.age);
        let has_new_settings = !Arc::ptr_eq(&header.settings, &after.settings);
        *header = after;
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        if has_new_settings {
            contents.roles.set(&header.settings.roles);
            contents.settings = Arc::clone(&header.settings);
            self.meter.limits.set(&header.settings);
        }
        for id in mended {
            contents.stale.remove(&id);
        }
        if let Some(once) = once {
            made.into_iter().for_each(|id| contents.once.note(once, id));
        }
        for edit in edits {
            match edit {
                Edit::PutObject(object) => contents.objects.put(object),
                Edit::PutDeleted(object) => {
                    drop(contents.objects.remove(&object.id));
                    contents.deleted.put(object);
                }
                Edit::Recover(object) => {
                    drop(contents.deleted.remove(&object.id));
                    contents.objects.put(object);
                }
                Edit::Purge(id) => drop(contents.deleted.remove(&id)),
                Edit::SetLife(life) => contents.life = life,
                Edit::DeleteObject(id) => drop(contents.objects.remove(&id)),
                Edit::PutUser(user) => contents.users.put(user),
                Edit::DeleteUser(name) => {
                    if let Some(user) = contents.users.remove(&name) {
                        contents.session.remove_owner(user.identity);
                    }
                }
            }
        }
        drop(contents);
        changes::announce();
        Ok(value)
    }

    /// Deletes the partition's key and header, together with what `also` adds to the batch, if `permitted` says so of its users.
    /// Its other records are noise from then on, and left for whoever removes them. Blocks.
    ///
    /// # Errors
    ///
    /// Those of `permitted`, PURGE_PROTECTED, NO_SUCH_PARTITION, STORE; nothing was changed then.
    pub fn give_up(
        &self,
        permitted: impl FnOnce(&Users) -> Result<(), Failure>,
        also: impl FnOnce(&mut Batch),
    ) -> Result<(), Failure> {
        let _turn = self.store.turn()?;
        let mut header = self.lock_header()?;
        let mut batch = Batch::default();
        // Nothing changes while the header is locked. Readers go on while the store commits.
        let contents = self.contents();
        batch.delete(self.names.key());
        batch.delete(self.names.header());
        permitted(&contents.users)?;
        also(&mut batch);
        let holds_keys = contents.objects.find(Search::default()).any(|o| object::is_key(o.info.class()));
        if header.life.purge_protection && (holds_keys || !contents.deleted.is_empty()) {
            return refuse!(
                PurgeProtected,
                "partition \"{}\" has purge protection: delete its keys, and it when their time is over",
                self.label
            );
        }
        drop(contents);
        self.store.commit(&batch)?;
        header.deleted = true;
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let deleted = std::mem::take(&mut *contents);
        drop(contents);
        changes::announce();
        // Many objects take a while, and nobody waits for it.
        drop(deleted);
        Ok(())
    }

    pub(super) fn lock_header(&self) -> Result<MutexGuard<'_, Header>, Failure> {
        let header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        match header.deleted {
            true => refuse!(NoSuchPartition, "partition {} \"{}\" was deleted", self.number, self.label),
            false => Ok(header),
        }
    }

    pub(super) fn seal_header(
        &self,
        keys: &Keys,
        header: &Header,
        time: Written,
    ) -> Result<Vec<u8>, Failure> {
        let record = HeaderRecord {
            revision: header.revision,
            set_hash: header.set_hash.to_bytes().to_vec(),
            next_sequence: header.next_sequence,
            age: time.age,
            wall: time.wall,
            age_doubt: time.doubt,
            age_served: time.served,
            retention_days: header.life.retention_days,
            purge_protection: header.life.purge_protection,
            destroy_at_once: header.life.destroy_at_once,
            ..header.settings.to_record()
        };
        let plain = SecretBytes::from(record.encode_to_vec().as_slice());
        Ok(keys.sealing.seal(&self.names.header(), header.revision, plain)?)
    }
}

impl Change<'_> {
    /// The contents before the change.
    pub fn before(&self) -> &Contents {
        self.before
    }

    /// The revision that this change makes.
    pub fn revision(&self) -> u64 {
        self.header.revision
    }

    /// What holds for the whole partition, to be changed.
    pub fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.header.settings)
    }

    /// Also writes a record that is not among the partition's users and objects.
    pub fn also(&mut self, name: String, sealed: Vec<u8>) {
        self.put(name, sealed);
    }

    /// Writes a record. Of a name it is the only change.
    fn put(&mut self, name: String, sealed: Vec<u8>) {
        if self.batch.changes.contains_key(&name) {
            self.inconsistent.get_or_insert_with(|| name.clone());
        }
        self.batch.put(name, sealed);
    }

    /// Deletes a record, as [`Change::put`].
    fn delete(&mut self, name: String) {
        if self.batch.changes.contains_key(&name) {
            self.inconsistent.get_or_insert_with(|| name.clone());
        }
        self.batch.delete(name);
    }

    /// Takes the object's record out of the set hash, which has the one that is there now.
    fn take_out(&mut self, object: &Object) {
        if self.before.known(&object.id).is_none_or(|known| known.element != object.element) {
            self.inconsistent.get_or_insert_with(|| self.partition.names.object(&object.id));
        }
        self.header.set_hash.toggle(object.element);
    }

    /// Adds an object with the key in it, if it is to hold one.
    ///
    /// # Errors
    ///
    /// LIMIT if the partition is full or has its quota; NOT_APPROVED for a key that FIPS state 2 refuses.
    pub fn add_object(
        &mut self,
        info: ObjectInfo,
        kind: Option<KeyKind>,
        key: Option<&Key>,
    ) -> Result<Arc<Object>, Failure> {
        self.add_named(info, Access::default(), kind, key)
    }

    /// As [`Change::add_object`], for an object that names others.
    ///
    /// # Errors
    ///
    /// As [`Change::add_object`].
    pub fn add_named(
        &mut self,
        info: ObjectInfo,
        access: Access,
        kind: Option<KeyKind>,
        key: Option<&Key>,
    ) -> Result<Arc<Object>, Failure> {
        if self.header.settings.fips {
            approval::key_type(info.key_type())?;
        }
        let sequence = self.header.next_sequence;
        self.header.next_sequence += 1;
        self.put_object(sequence, info, access, kind, key, Edit::PutObject)
    }

    /// Puts a changed description in the place of an object's.
    ///
    /// # Errors
    ///
    /// INTERNAL if the object's record does not open.
    pub fn replace_object(&mut self, object: &Object, info: ObjectInfo) -> Result<Arc<Object>, Failure> {
        let key = self.partition.key(object)?;
        self.take_out(object);
        let access = object.access.clone();
        self.put_object(object.sequence, info, access, object.kind, key.as_ref(), Edit::PutObject)
    }

    /// Names others in a key.
    ///
    /// # Errors
    ///
    /// INTERNAL if the object's record does not open.
    pub fn set_access(&mut self, object: &Object, access: Access) -> Result<Arc<Object>, Failure> {
        let key = self.partition.key(object)?;
        self.take_out(object);
        let info = object.info.clone();
        self.put_object(object.sequence, info, access, object.kind, key.as_ref(), Edit::PutObject)
    }

    /// The partition's age, in seconds.
    pub fn age(&self) -> u64 {
        self.partition.age.now()
    }

    /// Changes what is done with deleted keys.
    pub fn set_life(&mut self, life: Policy) {
        self.header.life = life;
        self.edits.push(Edit::SetLife(life));
    }

    /// Deletes a key softly: it stays for as long as the partition keeps deleted keys.
    ///
    /// # Errors
    ///
    /// INTERNAL if the object's record does not open.
    pub fn soft_delete(&mut self, object: &Object) -> Result<Arc<Object>, Failure> {
        let info = ObjectInfo {
            deleted_at: self.partition.age.clocks().wall().max(1),
            purge_due: self.age().saturating_add(self.header.life.retention()),
            ..object.info.clone()
        };
        let key = self.partition.key(object)?;
        self.take_out(object);
        let access = object.access.clone();
        self.put_object(object.sequence, info, access, object.kind, key.as_ref(), Edit::PutDeleted)
    }

    /// Writes an object's record anew where it is, also a deleted key's, with this description.
    ///
    /// # Errors
    ///
    /// As [`Change::soft_delete`].
    pub fn rewrite(&mut self, object: &Object, info: ObjectInfo) -> Result<Arc<Object>, Failure> {
        let key = self.partition.key(object)?;
        self.take_out(object);
        let edit = if info.deleted_at == 0 { Edit::PutObject } else { Edit::PutDeleted };
        self.put_object(object.sequence, info, object.access.clone(), object.kind, key.as_ref(), edit)
    }

    /// Brings a deleted key back, with this description.
    ///
    /// # Errors
    ///
    /// As [`Change::soft_delete`].
    pub fn recover(&mut self, object: &Object, info: ObjectInfo) -> Result<Arc<Object>, Failure> {
        let key = self.partition.key(object)?;
        self.take_out(object);
        let access = object.access.clone();
        self.put_object(object.sequence, info, access, object.kind, key.as_ref(), Edit::Recover)
    }

    /// Destroys a deleted key.
    pub fn purge(&mut self, object: &Object) {
        self.take_out(object);
        self.room.remove(object);
        self.delete(self.partition.names.object(&object.id));
        self.edits.push(Edit::Purge(object.id));
    }

    fn put_object(
        &mut self,
        sequence: u64,
        info: ObjectInfo,
        access: Access,
        kind: Option<KeyKind>,
        key: Option<&Key>,
        edit: fn(Arc<Object>) -> Edit,
    ) -> Result<Arc<Object>, Failure> {
        let Ok(id) = ObjectId::try_from(info.object.as_slice()) else {
            return refuse!(Internal, "an object without an identity");
        };
        let name = self.partition.names.object(&id);
        let record_is_alive = info.deleted_at == 0;
        let once = self.once.filter(|_| self.before.known(&id).is_none());
        if once.is_some() {
            self.made.push(id);
        }
        let once = once.map(Vec::from).unwrap_or_default();
        let record = ObjectRecord { sequence, info: Some(info), access: access.to_records(), once };
        let bytes = key.map(Key::to_bytes).transpose()?;
        let plain = records::join_object(&record, bytes.as_deref().unwrap_or_default());
        let sealed = self.partition.keys().sealing.seal(&name, self.header.revision, plain)?;
        let element = self.partition.keys().set.element(&name, &sealed);
        self.header.set_hash.toggle(element);
        let object = Arc::new(Object {
            id,
            sequence,
            info: record.info.unwrap_or_default(),
            access,
            kind,
            sealed: key.is_some().then(|| sealed.clone()),
            // A deleted key lies nowhere in the clear.
            key: key
                .filter(|_| record_is_alive)
                .map_or_else(OnceLock::new, |key| OnceLock::from(key.clone())),
            element,
        });
        if let Some(replaced) = self.before.known(&id) {
            self.room.remove(&replaced);
        }
        self.room.add(&object);
        if record_is_alive {
            let (before, settings) = (Room::taken_by(self.before), &self.header.settings);
            match self.before.deleted.get(&id) {
                Some(_) => self.room.check_count(before, settings, &self.partition.label)?,
                None => self.room.check(before, settings, &self.partition.label)?,
            }
        }
        self.put(name, sealed);
        if self.before.stale.contains(&id) {
            self.mended.push(id);
        }
        self.edits.push(edit(Arc::clone(&object)));
        Ok(object)
    }

    /// Deletes an object.
    pub fn delete_object(&mut self, object: &Object) {
        self.take_out(object);
        self.room.remove(object);
        self.delete(self.partition.names.object(&object.id));
        self.edits.push(Edit::DeleteObject(object.id));
    }

    /// Adds a user, or puts a changed one in the place of the one of the same name.
    ///
    /// # Errors
    ///
    /// LIMIT if the partition has as many users as it may.
    pub fn put_user(&mut self, mut user: User) -> Result<Arc<User>, Failure> {
        match self.before.users.get(&user.name) {
            Some(before) => self.header.set_hash.toggle(before.element),
            None if self.before.users.len() >= MAX_USERS => {
                return refuse!(
                    Limit,
                    "partition \"{}\" has {MAX_USERS} users: delete one first",
                    self.partition.label
                );
            }
            None => {}
        }
        let name = self.partition.names.user(&user.name);
        let plain = SecretBytes::from(user.to_record().encode_to_vec().as_slice());
        let sealed = self.partition.keys().sealing.seal(&name, self.header.revision, plain)?;
        user.element = self.partition.keys().set.element(&name, &sealed);
        self.header.set_hash.toggle(user.element);
        self.put(name, sealed);
        let user = Arc::new(user);
        self.edits.push(Edit::PutUser(Arc::clone(&user)));
        Ok(user)
    }

    /// Deletes a user.
    pub fn delete_user(&mut self, user: &User) {
        let name = self.partition.names.user(&user.name);
        if self.before.users.get(&user.name).is_none_or(|known| known.element != user.element) {
            self.inconsistent.get_or_insert_with(|| name.clone());
        }
        self.header.set_hash.toggle(user.element);
        self.delete(name);
        self.edits.push(Edit::DeleteUser(user.name.clone()));
    }
}
