//! The one way to a signature: short operations at once, long ones on signing threads.
//!
//! P-256 and Ed25519 cost 15 to 40 µs, less than waking another thread and being woken by it, so they are
//! computed where the request is. The others would hold up the requests beside them: they wait in a queue per
//! key type. A signing thread takes the request whose arrival plus its kind's patience is earliest: short
//! operations overtake long ones, and no long one waits for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::sync::oneshot;

use super::aws_lc::PrivateKey;
use super::{CryptoError, KeyKind, Mechanism};

/// Requests that may wait, over all kinds. Above it a caller is told to try again.
const MOST_WAITING: usize = 32_768;

/// Requests of one user id that may wait: the others' wait behind so many at most.
const MOST_WAITING_OF_ONE: usize = 4_096;

/// Messages above this many bytes are hashed on a signing thread, whatever the key.
const LONG: usize = 16 * 1024;

/// Makes signatures.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    made: AtomicU64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: [VecDeque<Job>; KeyKind::ALL.len()],
    length: usize,
    by_uid: HashMap<u32, usize>,
    stopping: bool,
}

struct Job {
    uid: u32,
    key: Arc<PrivateKey>,
    mechanism: Mechanism,
    data: Vec<u8>,
    arrived: Instant,
    reply: oneshot::Sender<Result<Vec<u8>, CryptoError>>,
}

impl Engine {
    /// Starts `threads` signing threads (at least one).
    ///
    /// # Errors
    ///
    /// The system's, if it has no thread to give.
    pub fn start(threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), arrived: Condvar::new() });
        let mut engine = Engine { shared, threads: Vec::new(), made: AtomicU64::new(0) };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&engine.shared);
            let thread =
                thread::Builder::new().name(format!("sign-{number}")).spawn(move || shared.work())?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }

    /// Signs `data` with `key`, for a client of user id `uid`.
    ///
    /// # Errors
    ///
    /// What the key and mechanism say, and [`CryptoError::Busy`].
    pub async fn sign(
        &self,
        uid: u32,
        key: Arc<PrivateKey>,
        mechanism: Mechanism,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, CryptoError> {
        let signature = if patience(key.kind()).is_zero() && data.len() <= LONG {
            key.sign(mechanism, &data)
        } else {
            mechanism.check(key.kind(), data.len())?;
            let (reply, signature) = oneshot::channel();
            self.shared.enqueue(Job { uid, key, mechanism, data, arrived: Instant::now(), reply })?;
            signature.await.unwrap_or_else(|_| Err(CryptoError::Library("a signing thread failed".into())))
        };
        if signature.is_ok() {
            self.made.fetch_add(1, Ordering::Relaxed);
        }
        signature
    }

    /// How many signatures were made since the start.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// What computes signatures, one line per key type, for people.
    pub fn describe(&self) -> Vec<String> {
        let threads = self.threads.len();
        KeyKind::ALL
            .iter()
            .map(|kind| match patience(*kind).is_zero() {
                true => format!("{kind}: aws-lc, at once"),
                false => format!("{kind}: aws-lc, {threads} signing threads"),
            })
            .collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to give.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, job: Job) -> Result<(), CryptoError> {
        let mut queue = self.lock();
        queue.push(job)?;
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.pop() {
                drop(queue);
                job.run();
                queue = self.lock();
            } else if queue.stopping {
                return;
            } else {
                queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Queue {
    fn push(&mut self, job: Job) -> Result<(), CryptoError> {
        let own = self.by_uid.get(&job.uid).copied().unwrap_or_default();
        if self.length >= MOST_WAITING || own >= MOST_WAITING_OF_ONE {
            return Err(CryptoError::Busy(own));
        }
        if let Some(waiting) = self.waiting.get_mut(job.key.kind() as usize) {
            self.by_uid.insert(job.uid, own + 1);
            waiting.push_back(job);
            self.length += 1;
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Job> {
        let next = self
            .waiting
            .iter_mut()
            .filter(|waiting| !waiting.is_empty())
            .min_by_key(|waiting| waiting.front().map(|job| job.arrived + patience(job.key.kind())))?;
        let job = next.pop_front()?;
        self.length -= 1;
        match self.by_uid.get_mut(&job.uid) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(self.by_uid.remove(&job.uid)),
        }
        Some(job)
    }
}

impl Job {
    fn run(self) {
        // The client may have gone.
        if !self.reply.is_closed() {
            let _ = self.reply.send(self.key.sign(self.mechanism, &self.data));
        }
    }
}

/// How long a request of this kind lets shorter ones go first: ten times what it costs. Zero: computed at once.
fn patience(kind: KeyKind) -> Duration {
    Duration::from_micros(match kind {
        KeyKind::P256 | KeyKind::Ed25519 => 0,
        KeyKind::P384 => 1_000,
        KeyKind::P521 => 2_000,
        KeyKind::Rsa2048 => 2_500,
        KeyKind::Rsa3072 => 7_500,
        KeyKind::Rsa4096 => 16_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(key: &Arc<PrivateKey>, arrived: Instant) -> Job {
        let (reply, _) = oneshot::channel();
        Job { uid: 33, key: Arc::clone(key), mechanism: Mechanism::Ecdsa, data: vec![0; 32], arrived, reply }
    }

    #[test]
    fn shorter_operations_go_first_but_nobody_waits_for_ever() {
        let long = Arc::new(PrivateKey::generate(KeyKind::Rsa2048).unwrap());
        let short = Arc::new(PrivateKey::generate(KeyKind::P384).unwrap());
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.push(job(&long, start)).unwrap();
        queue.push(job(&short, start + Duration::from_millis(1))).unwrap();
        queue.push(job(&short, start + Duration::from_millis(2))).unwrap();
        let order: Vec<KeyKind> = std::iter::from_fn(|| queue.pop()).map(|job| job.key.kind()).collect();
        assert_eq!(order, [KeyKind::P384, KeyKind::Rsa2048, KeyKind::P384]);
        assert_eq!(queue.length, 0);
    }

    #[test]
    fn one_user_does_not_fill_the_queue_for_the_others() {
        let key = Arc::new(PrivateKey::generate(KeyKind::P384).unwrap());
        let mut queue = Queue::default();
        let start = Instant::now();
        while queue.push(job(&key, start)).is_ok() {}
        assert_eq!(queue.length, MOST_WAITING_OF_ONE);
        queue.push(Job { uid: 34, ..job(&key, start) }).unwrap();
        while queue.pop().is_some() {}
        assert!(queue.by_uid.is_empty());
    }

    #[tokio::test]
    async fn every_kind_is_signed_and_counted() {
        let engine = Engine::start(2).unwrap();
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521] {
            let key = Arc::new(PrivateKey::generate(kind).unwrap());
            let signature = engine.sign(33, key, Mechanism::Ecdsa, vec![1; 32]).await.unwrap();
            assert_eq!(signature.len(), 2 * kind.ec_scalar().unwrap());
        }
        assert_eq!(engine.made(), 3);
    }
}
