//! What all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::crypto::KeyKind;
use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::engine::Engine;
use crate::failure::{Failure, refuse};
use crate::users::PasswordHash;
use crate::vault::Vault;

/// Passwords hashed at the same time: each takes 19 MiB.
const HASHING: usize = 2;

/// The daemon's state and its workers.
#[derive(Debug)]
pub struct Service {
    /// The partitions.
    pub vault: Vault,
    /// Makes signatures.
    pub engine: Engine,
    /// Different for every start.
    pub instance: [u8; 16],
    /// When the daemon started.
    pub started: Instant,
    /// For Status.
    pub counters: Counters,
    hashing: Arc<Semaphore>,
    generating: Arc<Semaphore>,
}

/// What Status counts, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open now.
    pub connections: AtomicUsize,
    /// Requests that arrived.
    pub requests: AtomicU64,
    /// Requests that were refused.
    pub errors: AtomicU64,
}

impl Service {
    /// Puts the parts together. `cores` bounds how many keys are generated at the same time.
    pub fn new(vault: Vault, engine: Engine, cores: usize) -> Self {
        Self {
            vault,
            engine,
            instance: crate::crypto::aws_lc::random_array(),
            started: Instant::now(),
            counters: Counters::default(),
            hashing: Arc::new(Semaphore::new(HASHING)),
            generating: Arc::new(Semaphore::new(cores.max(1))),
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
}

/// Runs slow work on a thread made for that, as many at once as there are permits. The permit goes with the
/// work: a client that leaves does not make room for another one before its work is done.
async fn bounded<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let permit = Arc::clone(permits).acquire_owned().await;
    blocking(move || {
        let result = work();
        drop(permit);
        result
    })
    .await
}

/// Runs what waits for the disk or computes for long on a thread made for that.
///
/// # Errors
///
/// Those of the work, and INTERNAL if it panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!("a request failed inside: {error}");
            refuse!(Internal, "strongroomd failed inside; its log says more")
        }
    }
}
