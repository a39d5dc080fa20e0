//! Secrets that were derived: session objects, which are kept in this process and nowhere else.
//!
//! The partition has handed them out, as the application asked for a value that it can read. They end with their session,
//! with the log-in, or when they are destroyed, and are wiped then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cryptoki_sys::*;

use crate::error::{Outcome, lock};
use crate::object::Object;
use crate::template::Template;

/// The most that a process keeps.
const MOST: usize = 1 << 16;

/// Set in the handles of these objects, and of no others. Not the highest bit: to Java a handle is a signed number.
const MARK: CK_OBJECT_HANDLE = 1 << 62;

/// The derived secrets of a process.
#[derive(Debug)]
pub struct Derived {
    next: AtomicU64,
    kept: Mutex<HashMap<CK_OBJECT_HANDLE, Kept>>,
}

#[derive(Debug)]
struct Kept {
    session: CK_SESSION_HANDLE,
    partition: u32,
    object: Arc<Object>,
}

impl Derived {
    /// None yet; handles go on after those of a parent process.
    pub fn after(parent: Option<&Derived>) -> Self {
        let next = parent.map_or(1, |parent| parent.next.load(Ordering::Relaxed));
        Derived { next: AtomicU64::new(next), kept: Mutex::default() }
    }

    /// Keeps an object as long as a session.
    ///
    /// # Errors
    ///
    /// `CKR_HOST_MEMORY` if the process has too many.
    pub fn keep(
        &self,
        session: CK_SESSION_HANDLE,
        partition: u32,
        object: Object,
    ) -> Outcome<CK_OBJECT_HANDLE> {
        let mut kept = lock(&self.kept);
        if kept.len() >= MOST {
            return Err(CKR_HOST_MEMORY);
        }
        let handle = MARK | self.next.fetch_add(1, Ordering::Relaxed);
        kept.insert(handle, Kept { session, partition, object: object.into() });
        Ok(handle)
    }

    /// The object behind a handle; `None` if the handle is not of one of these.
    pub fn get(&self, partition: u32, handle: CK_OBJECT_HANDLE) -> Option<Outcome<Arc<Object>>> {
        if handle & MARK == 0 {
            return None;
        }
        let kept = lock(&self.kept);
        let object = kept.get(&handle).filter(|kept| kept.partition == partition);
        Some(object.map(|kept| Arc::clone(&kept.object)).ok_or(CKR_OBJECT_HANDLE_INVALID))
    }

    /// Those that fit a search template.
    pub fn find(&self, partition: u32, template: &Template<'_>) -> Vec<CK_OBJECT_HANDLE> {
        let kept = lock(&self.kept);
        let fits = |kept: &Kept| kept.partition == partition && kept.object.matches(template);
        let mut found: Vec<_> =
            kept.iter().filter(|(_, kept)| fits(kept)).map(|(handle, _)| *handle).collect();
        found.sort_unstable();
        found
    }

    /// Destroys one; whether it was there.
    pub fn destroy(&self, handle: CK_OBJECT_HANDLE) -> bool {
        lock(&self.kept).remove(&handle).is_some()
    }

    /// Destroys those of a session.
    pub fn end_session(&self, session: CK_SESSION_HANDLE) {
        lock(&self.kept).retain(|_, kept| kept.session != session);
    }

    /// Destroys those of a partition: all sessions with it were closed, or (`private`) its log-in has ended.
    pub fn end_partition(&self, partition: u32, private: bool) {
        lock(&self.kept)
            .retain(|_, kept| kept.partition != partition || (private && !kept.object.info.private));
    }

    /// Destroys all.
    pub fn clear(&self) {
        lock(&self.kept).clear();
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::{ObjectClass, ObjectInfo};

    use super::*;

    fn secret(private: bool) -> Object {
        Object::derived(ObjectInfo {
            object: vec![7; 16],
            class: ObjectClass::SecretKey.into(),
            value: vec![9; 32],
            private,
            ..ObjectInfo::default()
        })
        .unwrap()
    }

    #[test]
    fn they_end_with_their_session_log_in_and_partition() {
        let derived = Derived::after(None);
        let keep = |session, partition, private| derived.keep(session, partition, secret(private)).unwrap();
        let [a, b, c] = [keep(1, 1, true), keep(2, 1, false), keep(3, 2, true)];
        let is_there = |partition, handle| derived.get(partition, handle).unwrap().is_ok();
        assert!(is_there(1, a) && !is_there(2, a) && derived.get(1, a & !MARK).is_none());
        derived.end_partition(1, true);
        assert!(!is_there(1, a) && is_there(1, b) && is_there(2, c));
        derived.end_session(2);
        assert!(!is_there(1, b) && is_there(2, c));
        assert!(derived.destroy(c) && !derived.destroy(c));
        assert!(keep(1, 1, true) > c, "a handle is never used again");
        assert!(Derived::after(Some(&derived)).keep(1, 1, secret(true)).unwrap() > c);
    }

    #[test]
    fn a_secret_is_read_and_no_object_of_the_token() {
        let object = secret(true);
        let is = |attribute, value: &[u8]| matches!(object.attribute(attribute), crate::object::Value::Bytes(bytes) if bytes == value);
        assert!(is(CKA_VALUE, &[9; 32]) && is(CKA_TOKEN, &[CK_FALSE]) && is(CKA_SENSITIVE, &[CK_FALSE]));
        assert!(is(CKA_KEY_TYPE, &CKK_GENERIC_SECRET.to_ne_bytes()) && is(CKA_LOCAL, &[CK_FALSE]));
        assert!(is(CKA_VALUE_LEN, &(32 as CK_ULONG).to_ne_bytes()) && is(CKA_NEVER_EXTRACTABLE, &[CK_FALSE]));
    }
}
