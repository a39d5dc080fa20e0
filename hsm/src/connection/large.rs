//! Large frames: only so many at the same time, so that nobody else's memory pays for a flood of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Large frames at the same time, over all connections.
const MOST: usize = 64;

/// Large frames at the same time from one user id.
const MOST_OF_ONE: usize = 16;

/// The permits for large frames that all connections of a daemon share.
#[derive(Debug)]
pub struct LargeFrames {
    all: Arc<Semaphore>,
    /// Of user ids that are connected.
    by_uid: Mutex<HashMap<u32, Weak<Semaphore>>>,
}

impl Default for LargeFrames {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MOST)), by_uid: Mutex::default() }
    }
}

impl LargeFrames {
    /// Those that a connection of this user id may have.
    pub(super) fn of(&self, uid: u32) -> Share {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_uid.get(&uid).and_then(Weak::upgrade).unwrap_or_else(|| {
            by_uid.retain(|_, own| own.strong_count() > 0);
            let own = Arc::new(Semaphore::new(MOST_OF_ONE));
            by_uid.insert(uid, Arc::downgrade(&own));
            own
        });
        Share { own, all: Arc::clone(&self.all) }
    }
}

/// What one user id has of the permits.
#[derive(Debug, Clone)]
pub(super) struct Share {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Share {
    /// For a connection that has no need of large frames.
    pub(super) fn none() -> Self {
        Self { own: Arc::new(Semaphore::new(0)), all: Arc::new(Semaphore::new(0)) }
    }

    #[cfg(test)]
    pub(super) fn of_one() -> Self {
        Self { own: Arc::new(Semaphore::new(1)), all: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self) -> Permit {
        // The semaphores are never closed.
        let own = Arc::clone(&self.own).acquire_owned().await.ok();
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        Permit { _own: own, _all: all }
    }
}

/// One large frame's.
#[derive(Debug)]
pub(super) struct Permit {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_user_leaves_permits_for_the_others() {
        let frames = LargeFrames::default();
        let one = frames.of(33);
        let mut permits = Vec::new();
        for _ in 0..MOST_OF_ONE {
            permits.push(frames.of(33).acquire().await);
        }
        assert!((one.own.available_permits(), one.all.available_permits()) == (0, MOST - MOST_OF_ONE));
        permits.push(frames.of(34).acquire().await);
        drop((one, permits));
        assert_eq!(frames.of(33).all.available_permits(), MOST);
        frames.of(35);
        assert_eq!(frames.by_uid.lock().unwrap().len(), 1);
    }
}
