//! Session objects: in memory only, for the user who made them, and with the client sealed.
//!
//! The client can bring one back at any time, so the daemon need not know when a session ends, nor keep more of them than it
//! has room for: the oldest go first. Each has the identity under which a key in the store would be found, so that whatever
//! uses keys finds it too; nobody else can guess it, and it serves nobody but its owner.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use strongroom_protocol::v1::ObjectInfo;

use super::{Contents, Partition, not_parsed, parse};
use crate::approval;
use crate::changes;
use crate::crypto::KeyKind;
use crate::failure::{Failure, refuse};
use crate::object::{Key, Object, ObjectId, holds_key};
use crate::records::{self, SessionRecord};
use crate::seal::Element;

/// Session objects of a partition that are kept in memory.
const MOST: usize = 4_096;

/// The same together, in bytes. No quota counts them: they are bounded by this, and taken from by the oldest.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// How long one is kept at most; its client then brings it back.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The session objects of a partition, by the identities of their owners. Where there is no room, who has the most loses the oldest: who
/// makes many of them takes the room from nobody else.
#[derive(Debug, Default)]
pub struct SessionObjects {
    owners: HashMap<u64, Owned>,
    count: usize,
    bytes: usize,
}

/// One user's.
#[derive(Debug, Default)]
struct Owned {
    kept: HashMap<ObjectId, Kept>,
    bytes: usize,
    /// In the order in which they came; also of some that have gone.
    order: VecDeque<(Instant, ObjectId)>,
}

#[derive(Debug)]
struct Kept {
    object: Arc<Object>,
    since: Instant,
}

impl SessionObjects {
    /// The object of this identity, if it is this user's.
    pub fn get(&self, identity: &[u8], owner: u64) -> Option<&Arc<Object>> {
        let identity: &ObjectId = identity.try_into().ok()?;
        self.owners.get(&owner)?.kept.get(identity).map(|kept| &kept.object)
    }

    /// How many are in memory.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Wipes all of a user's.
    pub fn remove_owner(&mut self, owner: u64) {
        let gone = self.owners.remove(&owner).unwrap_or_default();
        self.count -= gone.kept.len();
        self.bytes -= gone.bytes;
    }

    /// Keeps an object; whether others went for it, or one that was in its place.
    fn put(&mut self, object: Arc<Object>, owner: u64, now: Instant) -> bool {
        let (id, size) = (object.id, object.size());
        let owned = self.owners.entry(owner).or_default();
        owned.order.push_back((now, id));
        let replaced = owned.kept.insert(id, Kept { object, since: now });
        let before = replaced.as_ref().map_or(0, |replaced| replaced.object.size());
        owned.bytes = owned.bytes + size - before;
        self.bytes = self.bytes + size - before;
        self.count += usize::from(replaced.is_none());
        let mut has_gone = replaced.is_some();
        while self.count > MOST || self.bytes > MOST_BYTES {
            let most = self.owners.iter_mut().max_by_key(|(_, owned)| owned.share());
            let Some((owner, (_, oldest))) = most.and_then(|(owner, owned)| Some((*owner, owned.oldest()?)))
            else {
                break;
            };
            has_gone |= self.take(oldest, owner);
        }
        has_gone
    }

    /// Wipes those whose time is over; whether there were any.
    fn expire(&mut self, now: Instant) -> bool {
        let owners: Vec<u64> = self.owners.keys().copied().collect();
        let before = self.count;
        for owner in owners {
            while let Some((since, id)) = self.owners.get_mut(&owner).and_then(Owned::oldest) {
                if now.saturating_duration_since(since) < LONGEST {
                    break;
                }
                self.take(id, owner);
            }
        }
        self.count < before
    }

    fn remove(&mut self, identity: &[u8], owner: u64) -> bool {
        identity.try_into().is_ok_and(|id| self.take(id, owner))
    }

    fn take(&mut self, id: ObjectId, owner: u64) -> bool {
        let Some(owned) = self.owners.get_mut(&owner) else { return false };
        let Some(gone) = owned.kept.remove(&id) else { return false };
        let size = gone.object.size();
        self.count -= 1;
        self.bytes -= size;
        owned.bytes -= size;
        owned.tidy();
        if owned.kept.is_empty() {
            self.owners.remove(&owner);
        }
        true
    }
}

impl Owned {
    /// How much of the room it takes, be it by number or by size.
    fn share(&self) -> usize {
        self.bytes + self.kept.len() * (MOST_BYTES / MOST)
    }

    /// The one that is here longest.
    fn oldest(&mut self) -> Option<(Instant, ObjectId)> {
        while let Some(front @ (since, id)) = self.order.front().copied() {
            // One that came again stands further behind too.
            if self.kept.get(&id).is_some_and(|kept| kept.since == since) {
                return Some(front);
            }
            self.order.pop_front();
        }
        None
    }

    /// Forgets those that have gone when they are the most of those that are remembered.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.kept.len() + 16 {
            let kept = &self.kept;
            self.order.retain(|(since, id)| kept.get(id).is_some_and(|kept| kept.since == *since));
        }
    }
}

impl Partition {
    /// Keeps a session object for its owner, if `still` says in that moment that it may be kept; the object, and what the client
    /// brings it back with.
    ///
    /// # Errors
    ///
    /// Those of `still`; NOT_APPROVED for a key that FIPS state 2 refuses; INTERNAL if it cannot be sealed.
    pub fn keep_for_session(
        &self,
        info: ObjectInfo,
        kind: Option<KeyKind>,
        key: Option<&Key>,
        owner: u64,
        still: impl FnOnce(&Contents) -> Result<(), Failure>,
    ) -> Result<(Arc<Object>, Vec<u8>), Failure> {
        let Ok(id) = ObjectId::try_from(info.object.as_slice()) else {
            return refuse!(Internal, "an object without an identity");
        };
        self.approve_for_session(&info)?;
        let bytes = key.map(Key::to_bytes).transpose()?;
        let record = SessionRecord { info: Some(info.clone()), owner };
        let plain = records::join(&record, bytes.as_deref().unwrap_or_default());
        let keys = self.keys();
        let sealed = keys.sealing.seal(&self.names.session_object(), keys.sealing.since(), plain)?;
        let object = session_object(id, info, kind, key.cloned());
        self.put_for_session(Arc::clone(&object), owner, still)?;
        Ok((object, sealed))
    }

    /// Brings a session object of this owner's back. Opening its key takes up to a millisecond (RSA).
    ///
    /// # Errors
    ///
    /// KEY_MALFORMED if it was not sealed by this partition, NOT_PERMITTED if it is another user's, NOT_APPROVED for a key that FIPS
    /// state 2 refuses.
    pub fn restore_for_session(&self, sealed: &[u8], owner: u64) -> Result<Arc<Object>, Failure> {
        let opened = self.keys().sealing.open(&self.names.session_object(), sealed).ok();
        let parts = opened.as_ref().and_then(|(_, plain)| records::split::<SessionRecord>(plain));
        let Some((SessionRecord { info: Some(info), owner: its_owner }, bytes)) = parts else {
            return refuse!(KeyMalformed, "this is no session object of partition \"{}\"", self.label);
        };
        if its_owner != owner {
            return refuse!(NotPermitted, "a session object serves the user who made it only");
        }
        self.approve_for_session(&info)?;
        let Ok(id) = ObjectId::try_from(info.object.as_slice()) else {
            return refuse!(KeyMalformed, "a session object without an identity");
        };
        let key = match holds_key(info.class()) {
            true => Some(parse(&info, bytes).map_err(|error| {
                let none = Failure::new(
                    strongroom_protocol::v1::ErrorCode::KeyMalformed,
                    "a session object without its key",
                );
                not_parsed(error, none)
            })?),
            false => None,
        };
        let kind = KeyKind::from_wire(info.key_type());
        let object = session_object(id, info, kind, key);
        self.put_for_session(Arc::clone(&object), owner, |_| Ok(()))?;
        Ok(object)
    }

    /// Wipes a session object of this owner's; whether it was there.
    pub fn forget_for_session(&self, identity: &[u8], owner: u64) -> bool {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let was_there = contents.session.remove(identity, owner);
        drop(contents);
        if was_there {
            changes::announce();
        }
        was_there
    }

    fn approve_for_session(&self, info: &ObjectInfo) -> Result<(), Failure> {
        if self.meter.limits.is_fips() { approval::key_type(info.key_type()) } else { Ok(()) }
    }

    fn put_for_session(
        &self,
        object: Arc<Object>,
        owner: u64,
        still: impl FnOnce(&Contents) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        still(&contents)?;
        let has_gone = contents.session.put(object, owner, Instant::now());
        drop(contents);
        // What made room for it is found no more. A new one changes nobody's answer.
        if has_gone {
            changes::announce();
        }
        Ok(())
    }

    /// Wipes session objects whose time is over.
    pub fn expire_session_objects(&self) {
        if self.contents().session.is_empty() {
            return;
        }
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let has_gone = contents.session.expire(Instant::now());
        drop(contents);
        if has_gone {
            changes::announce();
        }
    }
}

fn session_object(id: ObjectId, info: ObjectInfo, kind: Option<KeyKind>, key: Option<Key>) -> Arc<Object> {
    Arc::new(Object {
        id,
        sequence: 0,
        info,
        access: crate::access::Access::default(),
        kind,
        sealed: None,
        key: key.map_or_else(OnceLock::new, OnceLock::from),
        element: Element::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: u16) -> Arc<Object> {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_le_bytes());
        session_object(id, ObjectInfo::default(), None, None)
    }

    #[test]
    fn the_oldest_make_room_and_nobody_gets_anothers() {
        let mut objects = SessionObjects::default();
        let start = Instant::now();
        for number in 0..MOST as u16 {
            assert!(!objects.put(object(number), 7, start));
        }
        let first = object(0);
        assert!(objects.get(&first.id, 7).is_some() && objects.get(&first.id, 8).is_none());
        // Brought back, it is the youngest.
        let later = start + Duration::from_secs(1);
        assert!(objects.put(Arc::clone(&first), 7, later) && objects.put(object(MOST as u16), 7, later));
        assert!(objects.get(&first.id, 7).is_some() && objects.get(&object(1).id, 7).is_none());
        assert_eq!(objects.len(), MOST);
        // Another user has room nevertheless, and keeps it.
        assert!(objects.put(object(1), 8, start) && objects.put(object(9_999), 7, later));
        assert!(objects.get(&object(1).id, 8).is_some() && objects.get(&object(3).id, 7).is_none());
        assert!(
            !objects.remove(&first.id, 8) && objects.remove(&first.id, 7) && !objects.remove(&first.id, 7)
        );
        assert!(objects.expire(start + LONGEST));
        assert_eq!(objects.len(), 2, "those that came later");
        assert!(objects.expire(later + LONGEST) && !objects.expire(later + LONGEST));
        assert!(objects.is_empty() && objects.owners.is_empty() && objects.bytes == 0);
    }

    #[test]
    fn they_take_so_much_memory_and_no_more() {
        let mut objects = SessionObjects::default();
        let large = |number: u16| {
            let info = ObjectInfo { value: vec![0; 32 * 1024], ..ObjectInfo::default() };
            let mut id = [1; 16];
            id[..2].copy_from_slice(&number.to_le_bytes());
            session_object(id, info, None, None)
        };
        for number in 0..2_000 {
            objects.put(large(number), 7, Instant::now());
            assert!(objects.bytes <= MOST_BYTES);
        }
        assert!(objects.len() > 900 && objects.get(&large(1_999).id, 7).is_some());
        // What comes and goes leaves nothing behind.
        for number in 0..10_000 {
            objects.put(object(number), 9, Instant::now());
            objects.remove(&object(number).id, 9);
        }
        assert!(!objects.owners.contains_key(&9));
        objects.put(object(1), 8, Instant::now());
        objects.remove_owner(7);
        assert_eq!((objects.len(), objects.bytes), (1, object(1).size()));
    }
}
