//! Object handles: numbers of this process for objects of the partitions.
//!
//! The identity behind a handle is the daemon's and outlives the daemon's restart, so a handle does too. What
//! the daemon said of the object is kept with it, so that beginning a signature asks nobody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use cryptoki_sys::*;
use strongroom_protocol::v1::{FindObjects, request::Op, response};

use crate::brief::{Briefs, Key};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, read, write};
use crate::object::{Object, ObjectId};
use crate::session_objects;
use crate::state::Process;
use crate::token::Token;

/// The most handles of a process.
pub const MAX_HANDLES: usize = 1 << 20;

/// The most objects that are kept; of others only the identity is.
const MAX_KEPT: usize = 1 << 14;

/// The largest object that is kept, in bytes. Keys and certificates have 1 to 3 KiB.
const MAX_SIZE: usize = 8 * 1024;

/// The handles of a process.
#[derive(Debug)]
pub struct Handles {
    next: AtomicU64,
    table: RwLock<Table>,
    /// What signing needs of it, found without the lock.
    briefs: Briefs,
}

#[derive(Debug, Default)]
struct Table {
    by_handle: HashMap<CK_OBJECT_HANDLE, Known>,
    by_identity: HashMap<(u32, ObjectId), CK_OBJECT_HANDLE>,
    kept: usize,
    /// Places whose handle was forgotten.
    free: Vec<usize>,
    /// Places that were ever used.
    used: usize,
}

/// The part of a handle that says where it is found. Above it stands a number that is never used again.
fn place(handle: CK_OBJECT_HANDLE) -> usize {
    (handle % MAX_HANDLES as CK_OBJECT_HANDLE) as usize
}

#[derive(Debug)]
struct Known {
    partition: u32,
    id: ObjectId,
    /// Its handle ends with the log-in.
    private: bool,
    object: Option<Arc<Object>>,
}

impl Handles {
    /// No handles yet; numbers go on after those of a parent process.
    pub fn after(parent: Option<&Handles>) -> Self {
        let next = parent.map_or(1, |parent| parent.next.load(Ordering::Relaxed));
        Handles { next: AtomicU64::new(next), table: RwLock::default(), briefs: Briefs::new(MAX_HANDLES) }
    }

    /// The handle of an object, the same as before if it had one. What was kept of it is replaced.
    ///
    /// # Errors
    ///
    /// `CKR_HOST_MEMORY` if the process has too many.
    pub fn remember(&self, partition: u32, object: Arc<Object>) -> Outcome<CK_OBJECT_HANDLE> {
        let id = object.id;
        let private = object.info.private;
        let mut table = write(&self.table);
        let handle = match table.by_identity.get(&(partition, id)) {
            Some(handle) => *handle,
            None if table.by_handle.len() >= MAX_HANDLES => return Err(CKR_HOST_MEMORY),
            None => {
                let place = table.free.pop().unwrap_or_else(|| {
                    table.used += 1;
                    table.used - 1
                });
                let number = self.next.fetch_add(1, Ordering::Relaxed) as CK_OBJECT_HANDLE;
                let handle = number * MAX_HANDLES as CK_OBJECT_HANDLE + place as CK_OBJECT_HANDLE;
                table.by_handle.insert(handle, Known { partition, id, private, object: None });
                table.by_identity.insert((partition, id), handle);
                handle
            }
        };
        self.briefs.put(partition, handle, place(handle), &Key::of(&object));
        let room = table.kept < MAX_KEPT;
        if let Some(known) = table.by_handle.get_mut(&handle) {
            let had = known.object.is_some();
            let keep = (had || room) && object.size() <= MAX_SIZE;
            known.private = private;
            known.object = keep.then_some(object);
            table.kept = table.kept + usize::from(keep) - usize::from(had);
        }
        Ok(handle)
    }

    /// The identity behind a handle, and what is kept of the object.
    fn known(&self, partition: u32, handle: CK_OBJECT_HANDLE) -> Option<(ObjectId, Option<Arc<Object>>)> {
        let table = read(&self.table);
        let known = table.by_handle.get(&handle).filter(|known| known.partition == partition)?;
        Some((known.id, known.object.clone()))
    }

    /// Makes a handle invalid: its object is gone.
    pub fn forget(&self, handle: CK_OBJECT_HANDLE) {
        let mut table = write(&self.table);
        if let Some(known) = table.by_handle.remove(&handle) {
            self.gone(&mut table, handle, &known);
        }
    }

    /// Makes the handles of a partition's private objects invalid, for good, at log-out: "even if a user logs into the token at a later
    /// point, those handles remain invalid" (PKCS#11 3.0, 5.6.10).
    pub fn forget_private(&self, partition: u32) {
        let mut table = write(&self.table);
        let is_private = |known: &Known| known.partition == partition && known.private;
        let over: Vec<_> = table.by_handle.extract_if(|_, known| is_private(known)).collect();
        for (handle, known) in &over {
            self.gone(&mut table, *handle, known);
        }
    }

    /// After it was taken out.
    fn gone(&self, table: &mut Table, handle: CK_OBJECT_HANDLE, known: &Known) {
        table.by_identity.remove(&(known.partition, known.id));
        self.briefs.forget(place(handle));
        table.free.push(place(handle));
        table.kept -= usize::from(known.object.is_some());
    }

    /// Makes all handles invalid.
    pub fn clear(&self) {
        let mut table = write(&self.table);
        for handle in table.by_handle.keys() {
            self.briefs.forget(place(*handle));
        }
        *table = Table::default();
    }
}

impl Process {
    /// What an operation needs to know of the key behind a handle. The daemon is asked only if nothing is kept
    /// of it.
    ///
    /// # Errors
    ///
    /// As [`Process::object`].
    pub fn key(&'static self, token: &Token, handle: CK_OBJECT_HANDLE) -> Outcome<Key> {
        match self.handles.briefs.get(token.partition, handle, place(handle)) {
            Some(key) => Ok(key),
            None if session_objects::is_one(handle) => self.session_key(token, handle),
            None => self.object(token, handle).map(|object| Key::of(&object)),
        }
    }

    /// The object behind a handle. The daemon is asked only if nothing is kept of it.
    ///
    /// # Errors
    ///
    /// `CKR_OBJECT_HANDLE_INVALID` if there is none, or none that can be seen without logging in.
    pub fn object(&'static self, token: &Token, handle: CK_OBJECT_HANDLE) -> Outcome<Arc<Object>> {
        if session_objects::is_one(handle) {
            return self.session_objects.get(token.partition, handle);
        }
        let (id, kept) = self.handles.known(token.partition, handle).ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        if let Some(object) = kept {
            return Ok(object);
        }
        let object = self.ask_for(token, &id)?;
        self.handles.remember(token.partition, Arc::clone(&object))?;
        Ok(object)
    }

    /// The object of the token with this identity, of which the daemon is asked.
    ///
    /// # Errors
    ///
    /// `CKR_OBJECT_HANDLE_INVALID` if there is none, or none that can be seen without logging in.
    pub fn ask_for(&'static self, token: &Token, id: &ObjectId) -> Outcome<Arc<Object>> {
        let find = || Op::FindObjects(FindObjects { object: id.to_vec(), ..FindObjects::default() });
        let response::Result::Objects(list) = self.call(Access::of(token), Repeat::Safe, find)? else {
            return Err(CKR_DEVICE_ERROR);
        };
        let info = list.objects.into_iter().next().ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        Object::new(info).filter(|object| object.id == *id).map(Arc::new).ok_or(CKR_DEVICE_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::ObjectInfo;

    use super::*;

    fn object(id: u8, label: &str, private: bool) -> Arc<Object> {
        let info = ObjectInfo { object: vec![id; 16], label: label.into(), private, ..ObjectInfo::default() };
        Arc::new(Object::new(info).unwrap())
    }

    #[test]
    fn an_object_keeps_its_handle_and_a_partition_its_own() {
        let handles = Handles::after(None);
        let first = handles.remember(1, object(7, "a", true)).unwrap();
        assert_eq!(handles.remember(1, object(7, "b", true)).unwrap(), first);
        assert_ne!(handles.remember(2, object(7, "c", true)).unwrap(), first);
        assert_eq!(handles.known(1, first).unwrap().1.unwrap().info.label, "b");
        assert!(handles.known(2, first).is_none());
        handles.forget(first);
        assert!(handles.known(1, first).is_none());
        let again = handles.remember(1, object(7, "d", true)).unwrap();
        assert_ne!(again, first, "a handle is never used again");
        assert!(Handles::after(Some(&handles)).remember(1, object(7, "e", true)).unwrap() > again);
    }

    #[test]
    fn large_objects_are_not_kept() {
        let handles = Handles::after(None);
        let with_value = |size| {
            let info = ObjectInfo { object: vec![1; 16], value: vec![7; size], ..ObjectInfo::default() };
            Arc::new(Object::new(info).unwrap())
        };
        for (size, kept) in [(100, 1), (100_000, 0), (200, 1)] {
            let handle = handles.remember(1, with_value(size)).unwrap();
            assert_eq!(handles.known(1, handle).unwrap().1.is_some(), kept == 1);
            assert_eq!(read(&handles.table).kept, kept);
        }
    }

    #[test]
    fn handles_of_private_objects_end_at_log_out() {
        let handles = Handles::after(None);
        let private = handles.remember(1, object(1, "key", true)).unwrap();
        let public = handles.remember(1, object(2, "certificate", false)).unwrap();
        handles.forget_private(1);
        assert!(
            handles.known(1, private).is_none() && handles.briefs.get(1, private, place(private)).is_none()
        );
        assert!(handles.known(1, public).unwrap().1.is_some());
        assert_eq!(read(&handles.table).kept, 1);
        let again = handles.remember(1, object(1, "key", true)).unwrap();
        assert!(again != private && handles.known(1, private).is_none(), "not in the next log-in either");
    }
}
