//! One signature that somebody waits for.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::seat::{Counters, Seat};
use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::{CryptoError, KeyKind, Mechanism};
use crate::failure::Failure;
use crate::rounds::Origin;

/// What is signed, up to this many bytes, lies in the job itself: digests, DigestInfos, TLS's messages.
pub(super) const INLINE: usize = 256;

/// A request for a signature, checked and permitted.
pub(super) struct Job {
    /// Of whoever asks.
    pub(super) origin: Origin,
    pub(super) key: Arc<PrivateKey>,
    pub(super) mechanism: Mechanism,
    pub(super) data: Data,
    pub(super) arrived: Instant,
    pub(super) answer: Answer,
}

/// What is signed.
#[expect(clippy::large_enum_variant, reason = "most are inline, and a box would be an allocation for each")]
pub(super) enum Data {
    Inline { bytes: [u8; INLINE], length: usize },
    Long(Vec<u8>),
}

/// Where the signature goes.
pub(super) enum Answer {
    /// To a task of the runtime: the request came over a socket.
    Task(oneshot::Sender<Result<Vec<u8>, CryptoError>>),
    /// Into a slot of shared memory. It is counted by the engine, where what comes over a socket is counted with its request.
    Slot { seat: Arc<Seat>, number: usize, counters: Arc<Counters> },
}

impl Job {
    pub(super) fn kind(&self) -> KeyKind {
        self.key.kind()
    }
}

impl Data {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Data::Inline { bytes, length } => bytes.get(..*length).unwrap_or_default(),
            Data::Long(bytes) => bytes,
        }
    }
}

impl Answer {
    /// Whether somebody still waits, as far as is known.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Answer::Task(reply) => !reply.is_closed(),
            Answer::Slot { .. } => true,
        }
    }

    pub(super) fn send(self, outcome: Result<&[u8], CryptoError>) {
        match self {
            // Whoever asked may have gone.
            Answer::Task(reply) => drop(reply.send(outcome.map(<[u8]>::to_vec))),
            Answer::Slot { seat, number, .. } => match outcome {
                Ok(signature) => seat.region.reply(number, signature),
                Err(error) => seat.refuse(number, &Failure::from(error)),
            },
        }
    }
}
