//! ECDSA with crypto_mb: nonces from the pool, and the rest of the signature.
//!
//! What is left to compute when a nonce is there is seven multiplications modulo the group's order, for eight
//! signatures at once: less than a microsecond. The signatures are not verified before they are released. FIPS 186-5
//! does not ask for it, and a fault reveals far less than with RSA, because every signature has a nonce of its own:
//! of a flipped bit of the key, that bit. A verification would cost a hundred times the signature.

use strongroom_crypto_mb::{CryptoMb, Curve, EcdsaLane, LANES};

use super::Lanes;
use super::nonces::{Moment, Pool};
use crate::crypto::aws_lc::Parts;
use crate::memory::SecretWords;

/// The most words of a number, and bytes of a digest: P-521's.
const WORDS: usize = 9;
const BYTES: usize = 66;

/// One curve's nonces and working memory, for one thread.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) pool: Pool,
    curve: Curve,
    /// Of each lane: k^-1 and r of the nonce that is being used.
    taken: SecretWords,
}

impl Bench {
    pub(super) fn new(curve: Curve) -> Self {
        Self { pool: Pool::new(curve), curve, taken: SecretWords::zeroed(LANES * 2 * WORDS) }
    }

    /// Signs, in the lanes that have an order with a key on this curve and its parts; nonces that are missing are
    /// made, a batch at a time. Lanes whose order is done are empty afterwards. Left are those whose digest the
    /// library does not take (zero, or not below the order), and those without a nonce.
    pub(super) fn sign(&mut self, library: CryptoMb, lanes: &mut Lanes<'_, '_>, now: Moment) {
        let wanted = lanes.iter().flatten().count();
        self.pool.forget_old(now);
        while self.pool.left() < wanted && self.pool.fill(library, now) {}
        let (words, bytes) = (self.curve.words(), self.curve.bytes());
        let mut digests = [[0; BYTES]; LANES];
        let mut batch = [const { None }; LANES];
        let parts = self.taken.chunks_exact_mut(2 * WORDS).zip(&mut digests);
        for ((lane, place), (taken, digest)) in lanes.iter_mut().zip(&mut batch).zip(parts) {
            let Some(order) = lane else { continue };
            let Some(Parts::Ecdsa { key, .. }) = order.key.parts() else { continue };
            let (inverse, r) = taken.split_at_mut(WORDS);
            let (Some(inverse), Some(r)) = (inverse.get_mut(..words), r.get_mut(..words)) else { continue };
            // Taken and wiped from the pool before anything is computed with it.
            if !self.pool.take(inverse, r) {
                continue;
            }
            let Some(digest) = digest.get_mut(..bytes) else { continue };
            fit(order.data, digest);
            let signature = order.signature.room(2 * bytes);
            *place = Some(EcdsaLane { key, inverse, r, digest, signature, done: false });
        }
        library.ecdsa_complete(self.curve, &mut batch);
        let done = batch.map(|lane| lane.is_some_and(|lane| lane.done));
        self.taken.wipe(LANES * 2 * WORDS);
        for (lane, done) in lanes.iter_mut().zip(done) {
            if done && let Some(order) = lane.take() {
                order.outcome = Ok(());
            }
        }
    }
}

/// The digest as a number of the order's length (FIPS 186-5, 6.4.1 step 2): its leftmost bytes, or zeros before it.
/// P-521's order has 521 bits, and no digest has as many.
fn fit(data: &[u8], digest: &mut [u8]) {
    match data.get(..digest.len()) {
        Some(leftmost) => digest.copy_from_slice(leftmost),
        None => {
            let (zeros, end) = digest.split_at_mut(digest.len() - data.len());
            zeros.fill(0);
            end.copy_from_slice(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_cut_or_padded_on_the_left() {
        let mut digest = [9; 4];
        fit(&[1, 2, 3, 4, 5, 6], &mut digest);
        assert_eq!(digest, [1, 2, 3, 4]);
        fit(&[1, 2, 3, 4], &mut digest);
        assert_eq!(digest, [1, 2, 3, 4]);
        fit(&[7, 8], &mut digest);
        assert_eq!(digest, [0, 0, 7, 8]);
    }
}
