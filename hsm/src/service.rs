//! What all connections share.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::task::JoinError;
use zeroize::Zeroizing;

use crate::audit::Audit;
use crate::connection::LargeFrames;
use crate::crypto::KeyKind;
use crate::crypto::aws_lc::PrivateKey;
use crate::engine::Engine;
use crate::failure::{Failure, refuse};
use crate::places::Places;
use crate::rounds::Origin;
use crate::seal::SealingKey;
use crate::turns::{Order, Turns};
use crate::users::PasswordHash;
use crate::vault::Vault;
use crate::web::Passes;

/// Passwords hashed at the same time: each takes 19 MiB.
const HASHING: usize = 2;

/// Changes at the same time. The store writes one after the other; the next ones are sealed meanwhile.
const CHANGING: usize = 4;

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
    /// Seals what clients keep of operations in parts, see [`crate::request`]. Another one for each start.
    pub states: SealingKey,
    /// The permits for large frames.
    pub large_frames: LargeFrames,
    hashing: Arc<Turns>,
    generating: Arc<Turns>,
    computing: Arc<Turns>,
    changing: Arc<Turns>,
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
            states: SealingKey::generate(),
            // Before anybody knows who it is.
            hashing: Turns::new(HASHING, Order::ByUser),
            generating: Turns::new(cores, Order::ByPartition),
            computing: Turns::new(cores, Order::ByPartition),
            changing: Turns::new(CHANGING, Order::ByPartition),
        }
    }

    /// Hashes a new password, for a client of this origin.
    ///
    /// # Errors
    ///
    /// INTERNAL, and LIMIT if too many wait already.
    pub async fn hash_password(
        &self,
        origin: Origin,
        password: Zeroizing<String>,
    ) -> Result<PasswordHash, Failure> {
        self.hashing.run(origin, password.len(), move || PasswordHash::new(&password)).await
    }

    /// Whether a hash is that of a password, for a client of this origin: a flood of log-ins from one does not make the
    /// others wait.
    ///
    /// # Errors
    ///
    /// As for [`Service::hash_password`].
    pub async fn verify_password(
        &self,
        origin: Origin,
        hash: PasswordHash,
        password: Zeroizing<String>,
    ) -> Result<bool, Failure> {
        self.hashing.run(origin, password.len(), move || hash.verify(&password)).await
    }

    /// Generates a key, for a client of this origin.
    ///
    /// # Errors
    ///
    /// As for [`Service::hash_password`].
    pub async fn generate(&self, origin: Origin, kind: KeyKind) -> Result<PrivateKey, Failure> {
        self.generating.run(origin, 0, move || Ok(PrivateKey::generate(kind)?)).await
    }

    /// Makes a key of a password, which takes as long as making an RSA key.
    ///
    /// # Errors
    ///
    /// Those of the work, and as for [`Service::hash_password`].
    pub async fn stretch<T: Send + 'static>(
        &self,
        origin: Origin,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.generating.run(origin, bytes, work).await
    }

    /// Does with a key what takes longer than an I/O thread should, and is not a signature of the engine's: verifies,
    /// decrypts, derives. For a client of this origin, with `bytes` of data. It is not done if the client leaves before
    /// its turn.
    ///
    /// # Errors
    ///
    /// Those of the work, LIMIT if too much waits already, INTERNAL.
    pub async fn compute<T: Send + 'static>(
        &self,
        origin: Origin,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.computing.run(origin, bytes, work).await
    }

    /// Changes what is in the store, for a client of this origin: who changes much makes the other partitions wait for
    /// one of these changes at a time, not for all.
    ///
    /// # Errors
    ///
    /// As for [`Service::compute`].
    pub async fn change<T: Send + 'static>(
        &self,
        origin: Origin,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.changing.run(origin, 0, work).await
    }
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
