//! Passes: links to the page that also show what their holder may see.
//!
//! The loopback address says nothing of who asks, so to anybody the page shows what `strongroom status` shows to anybody: the
//! node, its partitions, and how much is done. Which keys there are is for those who act in the partition. Whoever does, over
//! the daemon's socket, gets a pass (`strongroom page`): the page sends it with each request, and sees what its holder may see
//! at that moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::crypto::aws_lc;
use crate::records::hex;
use crate::session::Session;

/// How long a pass is good for.
const LIFE: Duration = Duration::from_secs(8 * 3600);

/// Passes at the same time, and of one user id: the oldest goes.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;

/// The passes that are good now.
#[derive(Debug, Default)]
pub struct Passes(Mutex<Vec<Pass>>);

struct Pass {
    secret: String,
    session: Arc<Session>,
    until: Instant,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("uid", &self.session.uid).finish_non_exhaustive()
    }
}

impl Passes {
    /// Makes a pass for a session: 32 hexadecimal digits. Its log-ins count as long as they would on its connection.
    pub fn issue(&self, session: Arc<Session>, now: Instant) -> String {
        let secret = hex(&aws_lc::random_array::<16>());
        let mut passes = self.lock();
        passes.retain(|pass| pass.until > now);
        let own = passes.iter().filter(|pass| pass.session.uid == session.uid).count();
        let oldest = match own >= MOST_OF_ONE {
            true => passes.iter().position(|pass| pass.session.uid == session.uid),
            false if passes.len() >= MOST => Some(0),
            false => None,
        };
        if let Some(oldest) = oldest {
            passes.remove(oldest);
        }
        passes.push(Pass { secret: secret.clone(), session, until: now + LIFE });
        secret
    }

    /// Whose pass this is, if it is good. Every pass is compared in constant time.
    pub fn holder(&self, secret: &str, now: Instant) -> Option<Arc<Session>> {
        let passes = self.lock();
        let fits = |pass: &&Pass| verify_slices_are_equal(pass.secret.as_bytes(), secret.as_bytes()).is_ok();
        passes.iter().filter(fits).find(|pass| pass.until > now).map(|pass| Arc::clone(&pass.session))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_ends_and_nobody_has_more_than_a_few() {
        let passes = Passes::default();
        let now = Instant::now();
        let session = |uid| Arc::new(Session::new(uid, false, None));
        let other = passes.issue(session(2), now);
        let first = passes.issue(session(1), now);
        assert_eq!(passes.holder(&first, now).unwrap().uid, 1);
        assert!(passes.holder("", now).is_none() && passes.holder(&first[1..], now).is_none());
        assert!(passes.holder(&first, now + LIFE).is_none());
        let later: Vec<String> = (0..MOST_OF_ONE).map(|_| passes.issue(session(1), now)).collect();
        assert!(passes.holder(&first, now).is_none(), "the oldest of this user id has gone");
        assert!(later.iter().all(|pass| passes.holder(pass, now).is_some()));
        assert_eq!(passes.holder(&other, now).unwrap().uid, 2);
        assert!(!format!("{passes:?}").contains(&other));
    }
}
