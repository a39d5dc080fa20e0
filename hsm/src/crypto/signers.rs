//! The two crypto engines behind one type: batches of up to eight signatures of one key type.
//!
//! aws-lc signs everything, one after the other. crypto_mb ([`strongroom_crypto_mb`]) signs up to eight at once where
//! it is there, and for ECDSA everything that does not depend on the message is done ahead ([`nonces`]). Which one is
//! used is decided by a measurement at start ([`choices`]), after both have given known answers ([`known_answers`]).
//! Whatever crypto_mb does not compute, or computes wrong (RSA signatures are checked, [`rsa`]), aws-lc computes.
//!
//! Nothing here allocates or takes a lock on the way of a signature with crypto_mb, and no secret leaves protected
//! pages: keys, nonces and working memory lie in the arena, and both engines run on a stack of this thread's in such
//! pages, which is wiped after each batch ([`workshop`]). Neither library makes a system call, so that the daemon's
//! confinement does not concern them; aws-lc asks the kernel for random bytes now and then.

mod choices;
mod ecdsa;
mod ed25519;
mod known_answers;
mod nonces;
mod rsa;
#[cfg(test)]
mod tests;
mod workshop;

use std::fmt;
use std::sync::Arc;

use nonces::Moment;
use workshop::Workshop;

use super::aws_lc::PrivateKey;
use super::{CryptoError, KeyKind, Mechanism};

pub use choices::Choices;
pub use strongroom_crypto_mb::LANES;

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

impl Order<'_> {
    fn fail(&mut self, error: CryptoError) {
        self.signature.room(0);
        self.outcome = Err(error);
    }
}

/// The orders of a batch; those that are done are taken out.
type Lanes<'o, 'a> = [Option<&'o mut Order<'a>>; LANES];

/// The kinds whose nonces are made ahead, the quickest first.
const WITH_NONCES: [KeyKind; 3] = [KeyKind::P256, KeyKind::P384, KeyKind::P521];

/// Computes signatures: one for each signing thread.
#[derive(Debug)]
pub struct Signer {
    choices: Arc<Choices>,
    workshop: Workshop,
}

impl Signer {
    /// A signer that goes by these choices. Takes about 400 KiB of protected memory.
    pub fn new(choices: Arc<Choices>) -> Self {
        let workshop = Workshop::new(choices.library());
        Self { choices, workshop }
    }

    /// Signs 1 to 8 orders of one key type; each gets its own outcome. (More are signed in batches of 8, and keys of
    /// another type than the first are signed by aws-lc.)
    pub fn sign(&mut self, orders: &mut [Order<'_>]) {
        for orders in orders.chunks_mut(LANES) {
            self.sign_batch(orders);
        }
    }

    fn sign_batch(&mut self, orders: &mut [Order<'_>]) {
        let Some(kind) = orders.first().map(|order| order.key.kind()) else { return };
        let mut lanes: Lanes<'_, '_> = [const { None }; LANES];
        let mut together = 0;
        for (order, lane) in orders.iter_mut().zip(&mut lanes) {
            match order.mechanism.check(order.key.kind(), order.data.len()) {
                Ok(()) => {
                    together += usize::from(fits_lane(order, kind));
                    *lane = Some(order);
                }
                Err(error) => order.fail(error),
            }
        }
        if together > 0 && self.choices.is_together(kind, together) {
            let now = Moment::now();
            if self.has_nonces(kind, together, now) {
                let mut fit: Lanes<'_, '_> = [const { None }; LANES];
                for (lane, fit) in lanes.iter_mut().zip(&mut fit) {
                    *fit = lane.take_if(|order| fits_lane(order, kind));
                }
                self.workshop.sign_together(kind, &mut fit, now, self.choices.skew(kind));
                // What was not done comes back for the other engine.
                for (lane, fit) in lanes.iter_mut().zip(fit) {
                    *lane = lane.take().or(fit);
                }
            }
        }
        if lanes.iter().any(Option::is_some) {
            self.workshop.sign_one_by_one(lanes.into_iter().flatten());
        }
    }

    /// Whether crypto_mb should sign as far as nonces are concerned: they are there, or worth making now. A lone
    /// request after a silence is answered sooner by aws-lc, and what would be left of the nonces made for it would
    /// be thrown away.
    fn has_nonces(&mut self, kind: KeyKind, wanted: usize, now: Moment) -> bool {
        let is_sooner_alone = self.choices.is_sooner_alone(kind, wanted);
        let Some(bench) = self.workshop.bench(kind) else { return true };
        bench.pool.forget_old(now);
        let missed = bench.pool.left() < wanted;
        let alone = missed && is_sooner_alone && bench.pool.is_cold(now);
        bench.pool.note_use(now, missed);
        !alone
    }

    /// Does work ahead while nothing waits: makes eight nonces for ECDSA, if requests within the last second say that
    /// they will be used. False if there is nothing left to prepare.
    pub fn prepare(&mut self) -> bool {
        let now = Moment::now();
        WITH_NONCES.into_iter().any(|kind| {
            let wants = self.choices.is_together(kind, LANES)
                && self.workshop.bench(kind).is_some_and(|bench| bench.pool.wants_more(now));
            wants && self.workshop.prepare(kind, now)
        })
    }

    /// Forgets all that was prepared.
    pub fn forget(&mut self) {
        for kind in WITH_NONCES {
            if let Some(bench) = self.workshop.bench(kind) {
                bench.pool.forget();
            }
        }
    }
}

/// Whether crypto_mb can take an order in a batch of this kind.
fn fits_lane(order: &Order<'_>, kind: KeyKind) -> bool {
    order.key.kind() == kind && (order.key.parts().is_some() || order.key.ed25519().is_some())
}
