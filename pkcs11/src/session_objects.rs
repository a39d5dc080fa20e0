//! Session objects: what lives as long as a session of this process.
//!
//! Some of them the partition has, in its memory only: private keys, secret keys that cannot be read, and all with which something is to
//! be done. Its daemon gives each of them out sealed as well, and gets it back when it has it no more (it was restarted, or others took
//! the room); only who made it can bring it back. The others this process has alone: data, certificates, public keys, and secrets that
//! were derived to be read. They are given to the daemon when they are first used as keys.
//!
//! They end with their session, the private ones with the log-in, and what can be read of them is wiped then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use cryptoki_sys::*;
use strongroom_protocol::v1::{ObjectClass, ObjectInfo};

use crate::brief::{Briefs, Key};
use crate::error::{Outcome, read, write};
use crate::object::{Object, ObjectId};
use crate::template::Template;

/// The most that a process keeps.
const MOST: usize = 1 << 16;

/// Set in the handles of these objects, and of no others. Not the highest bit: to Java a handle is a signed number.
const MARK: CK_OBJECT_HANDLE = 1 << 62;

/// The session objects of a process.
#[derive(Debug)]
pub struct SessionObjects {
    next: AtomicU64,
    table: RwLock<Table>,
    /// What an operation needs of those that the daemon knows, found without the lock.
    briefs: Briefs,
}

#[derive(Debug, Default)]
struct Table {
    kept: HashMap<CK_OBJECT_HANDLE, Kept>,
    /// Those that the daemon knows.
    by_identity: HashMap<(u32, ObjectId), CK_OBJECT_HANDLE>,
    /// Places whose handle was forgotten.
    free: Vec<usize>,
    /// Places that were ever used.
    used: usize,
}

#[derive(Debug)]
struct Kept {
    session: CK_SESSION_HANDLE,
    partition: u32,
    object: Arc<Object>,
    /// What the daemon takes it back for; nothing of those that it does not know.
    sealed: Vec<u8>,
    /// Of a public key that was given to the daemon: as it was before. It outlives the log-in under which it was given.
    own: Option<Arc<Object>>,
}

/// Whether a handle is a session object's.
pub fn is_one(handle: CK_OBJECT_HANDLE) -> bool {
    handle & MARK != 0
}

/// The part of a handle that says where it is found.
fn place(handle: CK_OBJECT_HANDLE) -> usize {
    (handle % MOST as CK_OBJECT_HANDLE) as usize
}

impl SessionObjects {
    /// None yet; handles go on after those of a parent process.
    pub fn after(parent: Option<&SessionObjects>) -> Self {
        let next = parent.map_or(1, |parent| parent.next.load(Ordering::Relaxed));
        SessionObjects { next: AtomicU64::new(next), table: RwLock::default(), briefs: Briefs::new(MOST) }
    }

    /// Keeps an object that the daemon described, as long as a session. One that is kept already is replaced, and keeps its handle and
    /// its session.
    ///
    /// # Errors
    ///
    /// `CKR_HOST_MEMORY` if the process has too many.
    pub fn keep(
        &self,
        session: CK_SESSION_HANDLE,
        partition: u32,
        object: Object,
        sealed: Vec<u8>,
    ) -> Outcome<CK_OBJECT_HANDLE> {
        let mut table = write(&self.table);
        let known = table.by_identity.get(&(partition, object.id)).copied();
        let handle = match known {
            Some(handle) => handle,
            None => self.handle(&mut table)?,
        };
        let before = table.kept.get(&handle);
        let own = before.and_then(|kept| kept.own.clone());
        let session = before.map_or(session, |kept| kept.session);
        self.put(&mut table, handle, Kept { session, partition, object: object.into(), sealed, own });
        Ok(handle)
    }

    /// Keeps an object that this process alone has, as long as a session.
    ///
    /// # Errors
    ///
    /// `CKR_HOST_MEMORY` if the process has too many.
    pub fn keep_local(
        &self,
        session: CK_SESSION_HANDLE,
        partition: u32,
        mut info: ObjectInfo,
    ) -> Outcome<CK_OBJECT_HANDLE> {
        let mut table = write(&self.table);
        let handle = self.handle(&mut table)?;
        info.session = true;
        // Unlike any other's of this process; the daemon never hears of it.
        info.object = u128::from(handle).to_be_bytes().to_vec();
        let object = Object::local(info).ok_or(CKR_FUNCTION_FAILED)?;
        let (object, sealed) = (object.into(), Vec::new());
        self.put(&mut table, handle, Kept { session, partition, object, sealed, own: None });
        Ok(handle)
    }

    fn handle(&self, table: &mut Table) -> Outcome<CK_OBJECT_HANDLE> {
        if table.kept.len() >= MOST {
            return Err(CKR_HOST_MEMORY);
        }
        let place = table.free.pop().unwrap_or_else(|| {
            table.used += 1;
            table.used - 1
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed) as CK_OBJECT_HANDLE;
        Ok(MARK | (number * MOST as CK_OBJECT_HANDLE + place as CK_OBJECT_HANDLE))
    }

    fn put(&self, table: &mut Table, handle: CK_OBJECT_HANDLE, kept: Kept) {
        if !kept.object.is_local() {
            table.by_identity.insert((kept.partition, kept.object.id), handle);
            self.briefs.put(kept.partition, handle, place(handle), &Key::of(&kept.object));
        }
        table.kept.insert(handle, kept);
    }

    /// Puts a changed object in the place of one that this process alone has; whether it was still there, and still so.
    pub fn change_local(&self, handle: CK_OBJECT_HANDLE, info: ObjectInfo) -> bool {
        self.replace(handle, Object::local(info), Vec::new())
    }

    /// Notes that the daemon knows an object now which this process alone had; not if it was gone, or known meanwhile.
    pub fn is_known(&self, handle: CK_OBJECT_HANDLE, object: Object, sealed: Vec<u8>) -> bool {
        self.replace(handle, Some(object), sealed)
    }

    fn replace(&self, handle: CK_OBJECT_HANDLE, object: Option<Object>, sealed: Vec<u8>) -> bool {
        let mut table = write(&self.table);
        let before = table.kept.get(&handle).filter(|kept| kept.object.is_local());
        let place = before.map(|kept| (kept.session, kept.partition, Arc::clone(&kept.object)));
        let (Some((session, partition, before)), Some(object)) = (place, object) else { return false };
        let outlives = !object.is_local() && !before.info.private;
        let own = (outlives && before.info.class() == ObjectClass::PublicKey).then_some(before);
        self.put(&mut table, handle, Kept { session, partition, object: object.into(), sealed, own });
        true
    }

    /// What an operation needs to know of the key behind a handle, if the daemon knows it.
    pub fn brief(&self, partition: u32, handle: CK_OBJECT_HANDLE) -> Option<Key> {
        self.briefs.get(partition, handle, place(handle))
    }

    /// The object behind a handle.
    ///
    /// # Errors
    ///
    /// `CKR_OBJECT_HANDLE_INVALID`.
    pub fn get(&self, partition: u32, handle: CK_OBJECT_HANDLE) -> Outcome<Arc<Object>> {
        let table = read(&self.table);
        let kept = table.kept.get(&handle).filter(|kept| kept.partition == partition);
        kept.map(|kept| Arc::clone(&kept.object)).ok_or(CKR_OBJECT_HANDLE_INVALID)
    }

    /// Those that fit a search template.
    pub fn find(&self, partition: u32, template: &Template<'_>) -> Vec<CK_OBJECT_HANDLE> {
        let table = read(&self.table);
        let fits = |kept: &Kept| kept.partition == partition && kept.object.matches(template);
        let mut found: Vec<_> =
            table.kept.iter().filter(|(_, kept)| fits(kept)).map(|(handle, _)| *handle).collect();
        // In the order in which they were made.
        found.sort_unstable();
        found
    }

    /// What the daemon takes these objects back for, of those that are among them.
    pub fn sealed<'a>(&self, partition: u32, identities: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let table = read(&self.table);
        let handle = |identity: &[u8]| table.by_identity.get(&(partition, identity.try_into().ok()?));
        let kept = identities.filter_map(handle).filter_map(|handle| table.kept.get(handle));
        kept.map(|kept| kept.sealed.clone()).collect()
    }

    /// Whether one of this identity is kept, which the daemon knows or knew.
    pub fn has(&self, partition: u32, identity: &ObjectId) -> bool {
        read(&self.table).by_identity.contains_key(&(partition, *identity))
    }

    /// Destroys one; its identity if the daemon knows it.
    pub fn destroy(&self, handle: CK_OBJECT_HANDLE) -> Option<ObjectId> {
        let mut table = write(&self.table);
        let kept = table.kept.remove(&handle)?;
        self.gone(&mut table, handle, &kept)
    }

    /// Destroys those of a session; the identities of those that the daemon knows.
    pub fn end_session(&self, session: CK_SESSION_HANDLE) -> Vec<ObjectId> {
        self.end(|kept| kept.session == session)
    }

    /// Destroys those of a partition when all sessions with it were closed. The identities of those that the daemon knows.
    pub fn end_partition(&self, partition: u32) -> Vec<ObjectId> {
        self.end(|kept| kept.partition == partition)
    }

    /// Destroys the private ones of a partition when its log-in has ended; public keys that were given to the daemon are this process's
    /// alone again, for whoever logs in next. The identities of those that the daemon knows.
    pub fn end_log_in(&self, partition: u32) -> Vec<ObjectId> {
        let mut over = self.end(|kept| kept.partition == partition && kept.object.info.private);
        if read(&self.table).kept.is_empty() {
            return over;
        }
        let mut table = write(&self.table);
        let of_partition = table.kept.iter_mut().filter(|(_, kept)| kept.partition == partition);
        let given = of_partition.filter_map(|(handle, kept)| {
            let mut info = kept.own.take()?.info.clone();
            // These may have been changed since.
            let now = &kept.object.info;
            (info.label, info.id, info.attributes) =
                (now.label.clone(), now.id.clone(), now.attributes.clone());
            let own = Object::local(info)?;
            kept.sealed.clear();
            Some((*handle, std::mem::replace(&mut kept.object, own.into()).id))
        });
        let given: Vec<_> = given.collect();
        for (handle, id) in given {
            self.briefs.forget(place(handle));
            table.by_identity.remove(&(partition, id));
            over.push(id);
        }
        over
    }

    /// Destroys all.
    pub fn clear(&self) {
        self.end(|_| true);
    }

    fn end(&self, mut ends: impl FnMut(&Kept) -> bool) -> Vec<ObjectId> {
        if read(&self.table).kept.is_empty() {
            return Vec::new();
        }
        let mut table = write(&self.table);
        let ended: Vec<_> = table.kept.extract_if(|_, kept| ends(kept)).collect();
        ended.iter().filter_map(|(handle, kept)| self.gone(&mut table, *handle, kept)).collect()
    }

    /// After it was taken out; its identity if the daemon knows it.
    fn gone(&self, table: &mut Table, handle: CK_OBJECT_HANDLE, kept: &Kept) -> Option<ObjectId> {
        self.briefs.forget(place(handle));
        table.free.push(place(handle));
        if kept.object.is_local() {
            return None;
        }
        table.by_identity.remove(&(kept.partition, kept.object.id));
        Some(kept.object.id)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::{KeyPolicy, KeyType};

    use super::*;
    use crate::object::Value;

    fn secret(private: bool) -> ObjectInfo {
        let policy = KeyPolicy { not_sensitive: true, extractable: true, ..KeyPolicy::default() };
        ObjectInfo {
            class: ObjectClass::SecretKey.into(),
            key_type: KeyType::GenericSecret.into(),
            value: vec![9; 32],
            value_length: 32,
            policy: Some(policy),
            private,
            ..ObjectInfo::default()
        }
    }

    fn known(id: u8, label: &str) -> Object {
        let (object, label) = (vec![id; 16], label.to_owned());
        Object::new(ObjectInfo { object, label, session: true, private: true, ..ObjectInfo::default() })
            .unwrap()
    }

    #[test]
    fn they_end_with_their_session_log_in_and_partition() {
        let objects = SessionObjects::after(None);
        let keep =
            |session, partition, private| objects.keep_local(session, partition, secret(private)).unwrap();
        let [a, b, c] = [keep(1, 1, true), keep(2, 1, false), keep(3, 2, true)];
        let is_there = |partition, handle| objects.get(partition, handle).is_ok();
        assert!(is_one(a) && is_there(1, a) && !is_there(2, a));
        objects.end_log_in(1);
        assert!(!is_there(1, a) && is_there(1, b) && is_there(2, c));
        objects.end_session(2);
        assert!(!is_there(1, b) && is_there(2, c));
        assert!(objects.destroy(c).is_none() && !is_there(2, c));
        let again = keep(1, 1, true);
        assert!(![a, b, c].contains(&again), "a handle is never used again");
        let child = SessionObjects::after(Some(&objects));
        assert!(![a, b, c, again].contains(&child.keep_local(1, 1, secret(true)).unwrap()));
    }

    #[test]
    fn those_that_the_daemon_knows_are_brought_back_and_forgotten_by_their_identity() {
        let objects = SessionObjects::after(None);
        let handle = objects.keep(1, 1, known(7, "a"), vec![1]).unwrap();
        assert_eq!(objects.brief(1, handle).unwrap().id, [7; 16]);
        assert_eq!(
            objects.keep(2, 1, known(7, "b"), vec![2]).unwrap(),
            handle,
            "changed, by another session"
        );
        assert_eq!(objects.get(1, handle).unwrap().info.label, "b");
        let sealed = |partition, id: &[u8]| objects.sealed(partition, [id].into_iter());
        assert_eq!(sealed(1, &[7; 16]), [[2]]);
        assert!(
            sealed(2, &[7; 16]).is_empty() && sealed(1, &[8; 16]).is_empty() && sealed(1, b"").is_empty()
        );

        let local = objects.keep_local(2, 1, secret(true)).unwrap();
        assert!(objects.brief(1, local).is_none());
        assert!(
            objects.is_known(local, known(8, "c"), vec![3])
                && !objects.is_known(local, known(9, "d"), vec![4])
        );
        assert_eq!(objects.brief(1, local).unwrap().id, [8; 16]);
        assert_eq!(objects.end_session(2), [[8; 16]]);
        assert_eq!(objects.end_session(1), [[7; 16]], "it stays with the session that made it");
        assert!(objects.brief(1, handle).is_none() && sealed(1, &[7; 16]).is_empty());
    }

    #[test]
    fn a_public_key_outlives_the_log_in_under_which_it_was_given() {
        let objects = SessionObjects::after(None);
        let info =
            ObjectInfo { class: ObjectClass::PublicKey.into(), label: "a".into(), ..ObjectInfo::default() };
        let handle = objects.keep_local(1, 1, info).unwrap();
        let given = |id: u8, label: &str| {
            let (object, label, class) = (vec![id; 16], label.to_owned(), ObjectClass::PublicKey.into());
            Object::new(ObjectInfo { object, label, class, session: true, ..ObjectInfo::default() }).unwrap()
        };
        for id in [7, 8] {
            assert!(objects.is_known(handle, given(id, "a"), vec![1]));
            // Renamed at the daemon.
            assert_eq!(objects.keep(1, 1, given(id, "b"), vec![2]).unwrap(), handle);
            assert!(objects.end_log_in(2).is_empty());
            assert_eq!(objects.end_log_in(1), [[id; 16]]);
            let own = objects.get(1, handle).unwrap();
            assert!(own.is_local() && own.info.label == "b" && objects.brief(1, handle).is_none());
            assert!(!objects.has(1, &[id; 16]));
        }
        assert!(objects.end_log_in(1).is_empty() && objects.end_partition(1).is_empty());
        assert!(objects.get(1, handle).is_err());
    }

    #[test]
    fn a_secret_is_read_and_no_object_of_the_token() {
        let objects = SessionObjects::after(None);
        let handle = objects.keep_local(1, 1, secret(true)).unwrap();
        let object = objects.get(1, handle).unwrap();
        let is = |attribute, value: &[u8]| matches!(object.attribute(attribute), Value::Bytes(bytes) if bytes == value);
        assert!(is(CKA_VALUE, &[9; 32]) && is(CKA_TOKEN, &[CK_FALSE]) && is(CKA_SENSITIVE, &[CK_FALSE]));
        assert!(is(CKA_KEY_TYPE, &CKK_GENERIC_SECRET.to_ne_bytes()) && is(CKA_LOCAL, &[CK_FALSE]));
        assert!(is(CKA_VALUE_LEN, &(32 as CK_ULONG).to_ne_bytes()) && is(CKA_NEVER_EXTRACTABLE, &[CK_FALSE]));
    }
}
