//! Requests that may come again, because their answers were lost: they make something once.
//!
//! An object is kept with the name of the request that has made it (`Request.once`), in the same record. So it is known as long as
//! the object is: after a crash, and on whichever node of a cluster has the object.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};

use crate::object::ObjectId;
use crate::service;

/// What the client has named its request by.
pub type Once = [u8; 16];

/// So many requests of a partition are known. A client sends a request again within seconds.
const KNOWN: usize = 4096;

/// Objects whose request may come again when they are loaded, in seconds: another node's clock may be wrong, too.
const AGAIN: u64 = 60 * 60;

/// What requests have made.
#[derive(Debug, Default)]
pub struct Made {
    by: HashMap<Once, Vec<ObjectId>>,
    /// The oldest first.
    order: VecDeque<Once>,
}

impl Made {
    /// Notes an object.
    pub fn note(&mut self, once: Once, object: ObjectId) {
        let objects = self.by.entry(once).or_default();
        if objects.is_empty() {
            self.order.push_back(once);
        }
        if !objects.contains(&object) {
            objects.push(object);
        }
        if self.order.len() > KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.by.remove(&oldest);
        }
    }

    /// Whether a request was carried out.
    pub fn has(&self, once: &Once) -> bool {
        self.by.contains_key(once)
    }

    /// What a request has made; nothing if it was not carried out.
    pub fn objects(&self, once: &Once) -> &[ObjectId] {
        self.by.get(once).map(Vec::as_slice).unwrap_or_default()
    }
}

thread_local! {
    /// A change is made by one thread, for one request.
    static CURRENT: Cell<Option<Once>> = const { Cell::new(None) };
}

/// Forgets the request, also after a panic.
struct Current;

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Makes the changes of `work` for this request.
pub fn during<T>(once: Option<Once>, work: impl FnOnce() -> T) -> T {
    CURRENT.set(once);
    let _current = Current;
    work()
}

/// The request for which this thread changes something.
pub(super) fn current() -> Option<Once> {
    CURRENT.get()
}

/// The name of the request that has made an object, if it may come again.
pub(super) fn may_come_again(once: &[u8], created: u64) -> Option<Once> {
    let once = Once::try_from(once).ok()?;
    (created.saturating_add(AGAIN) >= service::now()).then_some(once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_requests_are_known() {
        let mut made = Made::default();
        let once = |number: usize| u128::to_be_bytes(number as u128);
        for number in 0..KNOWN + 3 {
            made.note(once(number), once(2 * number));
            made.note(once(number), once(2 * number + 1));
            made.note(once(number), once(2 * number));
        }
        assert!(!made.has(&once(2)) && made.has(&once(3)));
        assert_eq!(made.objects(&once(7)), [once(14), once(15)]);
        assert_eq!((made.by.len(), made.order.len()), (KNOWN, KNOWN));
        let old = service::now() - AGAIN - 9;
        assert_eq!(may_come_again(&[1; 16], old), None);
        assert_eq!(may_come_again(&[], service::now()), None);
        assert_eq!(may_come_again(&[1; 16], service::now()), Some([1; 16]));
    }
}
