//! The one way to a signature of a kind that is computed in batches: requests of one kind are computed together, up to
//! eight. (ML-DSA and the curves that few use are not; their signatures come from `request::sign`.)
//!
//! Signing threads take turns at the *desk* (`desk.rs`): whoever sits there looks after the clients' shared memory
//! and after what comes over sockets, and computes what is quick (P-256, Ed25519, with crypto_mb P-384) right
//! there. Before a slow batch (RSA) the thread leaves the desk to the next one, so that nothing short ever
//! waits behind it. There is one thread more than may compute slow batches at the same time. Who waits is in
//! `queue.rs`: shorter operations first; and a batch fills while others want the processor, or while as many
//! requests as there were lately have not come.
//!
//! What comes over a socket and is short is computed where it is, on the runtime's thread: handing it over would cost
//! more than the signature.

mod desk;
mod job;
mod queue;
mod seat;
mod watch;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;
use std::{fmt, io};

use strongroom_channel::Region;
use tokio::sync::oneshot;

use self::desk::Shared;
use self::job::{Answer, Data, Job};
use self::seat::Seat;
use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::{Choices, CryptoError, KeyKind, LANES, Mechanism};
use crate::failure::{Failure, refuse};
use crate::rounds::Origin;
use crate::service::{PerUid, Service};
use crate::session::Session;

/// Messages above this many bytes are hashed on a signing thread, whatever the key.
const LONG: usize = 16 * 1024;

/// Channels at the same time, each with up to a megabyte of shared memory if its client uses all slots.
const MOST_CHANNELS: usize = 4_096;

/// Channels of one user id.
const MOST_CHANNELS_OF_ONE: usize = 512;

/// Makes signatures.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    channels: Arc<PerUid>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

/// A client's channel; it ends when this is dropped.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    channels: Arc<PerUid>,
}

/// What a client gets of its channel: the region, the bell and the state.
pub type Descriptors = [OwnedFd; 3];

impl Engine {
    /// Measures the engines and starts signing threads, `cores` of which may compute slow batches at the same
    /// time. Takes some hundred milliseconds.
    ///
    /// # Errors
    ///
    /// The system's, if it has no thread or descriptor to give; and if the crypto library computes a known answer
    /// wrong.
    pub fn start(cores: usize) -> io::Result<Self> {
        let choices = Arc::new(Choices::measure().map_err(io::Error::other)?);
        let cores = cores.max(1);
        let shared = Arc::new(Shared::new(choices, cores)?);
        let mut engine = Engine { shared, threads: Vec::new(), channels: Arc::default() };
        for number in 0..=cores {
            let shared = Arc::clone(&engine.shared);
            let thread =
                thread::Builder::new().name(format!("sign-{number}")).spawn(move || shared.work())?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }

    /// Signs `data` with `key`, of a kind that is [batched](KeyKind::is_batched), for a client of this origin.
    ///
    /// # Errors
    ///
    /// What the key and mechanism say, and [`CryptoError::Busy`].
    pub async fn sign(
        &self,
        origin: Origin,
        key: Arc<PrivateKey>,
        mechanism: Mechanism,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, CryptoError> {
        mechanism.check(key.kind(), data.len())?;
        if !key.kind().is_batched() {
            return Err(CryptoError::Library(format!("{} keys do not sign in batches", key.kind())));
        }
        if is_short(key.kind()) && data.len() <= LONG {
            let signature = key.sign(mechanism, &data);
            self.shared.count(signature.is_ok());
            return signature;
        }
        let (reply, signature) = oneshot::channel();
        let (data, answer) = (Data::Long(data), Answer::Task(reply));
        self.shared.enqueue(Job { origin, key, mechanism, data, arrived: Instant::now(), answer })?;
        signature.await.unwrap_or_else(|_| Err(CryptoError::Library("a signing thread failed".into())))
    }

    /// Gives a client shared memory through which it asks, as `session` says.
    ///
    /// # Errors
    ///
    /// LIMIT if there are too many, or no descriptor or memory is left: its connection serves the client as well.
    pub fn open_channel(
        &self,
        session: &Arc<Session>,
        service: &Service,
    ) -> Result<(Channel, Descriptors), Failure> {
        let uid = session.uid;
        if !self.channels.enter(uid, MOST_CHANNELS, MOST_CHANNELS_OF_ONE) {
            return refuse!(Limit, "there are too many channels; the connection serves without one");
        }
        let made = Region::create().and_then(|(region, memory, bell)| {
            let descriptors = [memory, bell, self.shared.state_descriptor()?];
            let seat = Arc::new(Seat::new(region, session, service));
            self.shared.seat(Arc::clone(&seat))?;
            Ok((seat, descriptors))
        });
        match made {
            Ok((seat, descriptors)) => {
                let (shared, channels) = (Arc::clone(&self.shared), Arc::clone(&self.channels));
                Ok((Channel { shared, seat, channels }, descriptors))
            }
            Err(error) => {
                self.channels.leave(uid);
                refuse!(Limit, "no channel can be made: {error}; the connection serves without one")
            }
        }
    }

    /// Counts a signature that was made elsewhere.
    pub fn count(&self, made: bool) {
        self.shared.count(made);
    }

    /// How many signatures, encryptions and decryptions were made since the start.
    pub fn made(&self) -> u64 {
        self.shared.made()
    }

    /// Requests that came through channels, and how many of them were refused.
    pub fn channel_requests(&self) -> (u64, u64) {
        self.shared.requests()
    }

    /// Batches that were computed, by key type as in [`KeyKind::BATCHED`], and by how many signatures were in them, from one
    /// on.
    pub fn batches(&self) -> [[u64; LANES]; KeyKind::BATCHED.len()] {
        self.shared.batches()
    }

    /// Signatures that wait for a signing thread, by key type as in [`KeyKind::BATCHED`].
    pub fn waiting(&self) -> [u64; KeyKind::BATCHED.len()] {
        self.shared.waiting()
    }

    /// Channels that are open.
    pub fn channels(&self) -> usize {
        self.channels.count()
    }

    /// What computes signatures, one line per key type, for people.
    pub fn describe(&self) -> Vec<String> {
        self.shared.describe()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // None panicked: that ends the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.shared.unseat(&self.seat);
        self.channels.leave(self.seat.session.uid);
    }
}

/// Whether a signature costs no more than waking another thread and being woken by it.
fn is_short(kind: KeyKind) -> bool {
    matches!(kind, KeyKind::P256 | KeyKind::Ed25519)
}

#[cfg(test)]
mod tests;
