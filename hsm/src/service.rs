//! What all connections share.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinError;
use zeroize::Zeroizing;

use crate::audit::Audit;
use crate::connection::LargeFrames;
use crate::crypto::KeyKind;
use crate::crypto::aws_lc::PrivateKey;
use crate::engine::Engine;
use crate::failure::{Failure, refuse};
use crate::places::Places;
use crate::users::PasswordHash;
use crate::vault::Vault;
use crate::web::Passes;

/// Passwords hashed at the same time: each takes 19 MiB.
const HASHING: usize = 2;

/// Computations that may wait, of all user ids and of one, as for signatures: the others' wait behind so many at most.
const MOST_COMPUTATIONS: usize = 32_768;
const MOST_COMPUTATIONS_OF_ONE: usize = 4_096;

/// The daemon's state and its workers.
#[derive(Debug)]
pub struct Service {
    /// The partitions.
    pub vault: Arc<Vault>,
    /// Makes signatures.
    pub engine: Engine,
    /// Who did what.
    pub audit: Arc<Audit>,
    /// Different for every start.
    pub instance: [u8; 16],
    /// When the daemon started.
    pub started: Instant,
    /// For Status.
    pub counters: Counters,
    /// Where the page is to be had, as links; set once, before the first connection.
    pub pages: OnceLock<Vec<String>>,
    /// The passes for it.
    pub passes: Passes,
    /// The permits for large frames.
    pub large_frames: LargeFrames,
    hashing: Arc<Semaphore>,
    generating: Arc<Semaphore>,
    computing: Computing,
}

/// What is computed with keys, apart from the engine's signatures.
#[derive(Debug)]
struct Computing {
    permits: Arc<Semaphore>,
    waiting: Arc<PerUid>,
}

/// A place among those who wait for a computation or have it.
struct Turn(Arc<PerUid>, u32);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl Computing {
    fn new(cores: usize) -> Self {
        Computing { permits: Arc::new(Semaphore::new(cores.max(1))), waiting: Arc::default() }
    }

    async fn run<T: Send + 'static>(
        &self,
        uid: u32,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if !self.waiting.enter(uid, MOST_COMPUTATIONS, MOST_COMPUTATIONS_OF_ONE) {
            return refuse!(Limit, "too many requests wait for the processor; try again");
        }
        let turn = Turn(Arc::clone(&self.waiting), uid);
        bounded(&self.permits, move || {
            let result = work();
            drop(turn);
            result
        })
        .await
    }
}

/// What Status counts, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open now.
    pub connections: Arc<Places>,
    /// Passwords that are being checked now, or wait for it.
    pub passwords: PerUid,
    /// Connections that were turned away because there were too many.
    pub turned_away: AtomicU64,
    /// Requests that arrived.
    pub requests: AtomicU64,
    /// Requests that were refused.
    pub errors: AtomicU64,
}

/// Counts what is there at the same time, all and by user id, so that one user does not take all of it.
#[derive(Debug, Default)]
pub struct PerUid(Mutex<HashMap<u32, usize>>);

impl PerUid {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().values().sum()
    }

    /// Counts one of this user id, unless there are `most` already, or the user id has `most_of_one`.
    pub fn enter(&self, uid: u32, most: usize, most_of_one: usize) -> bool {
        let mut by_uid = self.lock();
        let all: usize = by_uid.values().sum();
        let own = by_uid.get(&uid).copied().unwrap_or_default();
        let room = all < most && own < most_of_one;
        if room {
            by_uid.insert(uid, own + 1);
        }
        room
    }

    /// Takes one out of the count.
    pub fn leave(&self, uid: u32) {
        let mut by_uid = self.lock();
        match by_uid.get_mut(&uid) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(by_uid.remove(&uid)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Puts the parts together. `instance` is different for every start; `cores` bounds how many keys are generated at the same time.
    pub fn new(
        vault: Arc<Vault>,
        engine: Engine,
        audit: Arc<Audit>,
        instance: [u8; 16],
        cores: usize,
    ) -> Self {
        Self {
            vault,
            engine,
            audit,
            instance,
            started: Instant::now(),
            counters: Counters::default(),
            pages: OnceLock::new(),
            passes: Passes::default(),
            large_frames: LargeFrames::default(),
            hashing: Arc::new(Semaphore::new(HASHING)),
            generating: Arc::new(Semaphore::new(cores.max(1))),
            computing: Computing::new(cores),
        }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    ///
    /// INTERNAL.
    pub async fn hash_password(&self, password: Zeroizing<String>) -> Result<PasswordHash, Failure> {
        bounded(&self.hashing, move || PasswordHash::new(&password)).await
    }

    /// Whether a hash is that of a password.
    ///
    /// # Errors
    ///
    /// INTERNAL.
    pub async fn verify_password(
        &self,
        hash: PasswordHash,
        password: Zeroizing<String>,
    ) -> Result<bool, Failure> {
        bounded(&self.hashing, move || hash.verify(&password)).await
    }

    /// Generates a key.
    ///
    /// # Errors
    ///
    /// INTERNAL.
    pub async fn generate(&self, kind: KeyKind) -> Result<PrivateKey, Failure> {
        bounded(&self.generating, move || Ok(PrivateKey::generate(kind)?)).await
    }

    /// Does with a key what takes longer than an I/O thread should, and is not a signature of the engine's: verifies,
    /// decrypts, derives. For a client of user id `uid`.
    ///
    /// # Errors
    ///
    /// Those of the work, LIMIT if too many wait already, INTERNAL.
    pub async fn compute<T: Send + 'static>(
        &self,
        uid: u32,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.computing.run(uid, work).await
    }
}

/// Runs slow work on a thread made for that, as many at once as there are permits. The permit goes with the
/// work: a client that leaves does not make room for another one before its work is done.
async fn bounded<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let permits = Arc::clone(permits);
    detached(async move {
        let permit = permits.acquire_owned().await;
        blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
    })
    .await
}

/// Carries `work` out to its end, also while its caller is not polled: the requests of a connection rest while
/// its client does not take a reply, and what they hold that others wait for must not rest with them.
///
/// # Errors
///
/// Those of the work, and INTERNAL if it panics.
pub async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    joined(tokio::spawn(work).await)
}

/// Runs what waits for the disk or computes for long on a thread made for that.
///
/// # Errors
///
/// Those of the work, and INTERNAL if it panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// Seconds since 1970, UTC.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn joined<T>(result: Result<Result<T, Failure>, JoinError>) -> Result<T, Failure> {
    result.unwrap_or_else(|error| {
        tracing::error!("a request failed inside: {error}");
        refuse!(Internal, "strongroomd failed inside; its log says more")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_of_the_processor() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        runtime.block_on(async {
            let computing = Arc::new(Computing::new(1));
            let (release, held) = std::sync::mpsc::channel::<()>();
            let run = |uid, work: Box<dyn FnOnce() + Send>| {
                let computing = Arc::clone(&computing);
                tokio::spawn(async move {
                    let work = move || {
                        work();
                        Ok(())
                    };
                    computing.run(uid, work).await
                })
            };
            let mut waiting = vec![run(1, Box::new(move || assert!(held.recv().is_err())))];
            waiting.extend((1..MOST_COMPUTATIONS_OF_ONE).map(|_| run(1, Box::new(|| {}))));
            while computing.waiting.count() < MOST_COMPUTATIONS_OF_ONE {
                tokio::task::yield_now().await;
            }
            let refused = run(1, Box::new(|| {})).await.unwrap();
            assert_eq!(refused.unwrap_err().code, strongroom_protocol::v1::ErrorCode::Limit);
            let other = run(2, Box::new(|| {}));
            drop(release);
            other.await.unwrap().unwrap();
            for one in waiting {
                one.await.unwrap().unwrap();
            }
            assert_eq!(computing.waiting.count(), 0);
        });
    }

    #[test]
    fn one_user_cannot_take_all_connections() {
        let connections = PerUid::default();
        assert!(connections.enter(1, 4, 2) && connections.enter(1, 4, 2));
        assert!(!connections.enter(1, 4, 2));
        assert!(connections.enter(2, 4, 2) && connections.enter(3, 4, 2));
        assert!(!connections.enter(4, 4, 2));
        connections.leave(1);
        assert!(connections.enter(4, 4, 2));
        assert_eq!(connections.count(), 4);
        for uid in 1..=4 {
            connections.leave(uid);
        }
        assert!(connections.lock().is_empty());
    }
}
