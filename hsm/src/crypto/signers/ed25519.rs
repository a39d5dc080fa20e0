//! Ed25519 with crypto_mb.
//!
//! The signature is deterministic, and a fault in it can reveal the key as with RSA; but both engines compute it the
//! same way, the daemon keeps seed and public key together (the attack on signers that take any public key does not
//! apply), and RFC 8032 asks for no check.

use strongroom_crypto_mb::{CryptoMb, Ed25519Lane, LANES};

use super::Lanes;

/// The size of a signature, in bytes.
const SIGNATURE: usize = 64;

/// Signs, in the lanes that have an order with an Ed25519 key. Lanes whose order is done are empty afterwards.
pub(super) fn sign(library: CryptoMb, lanes: &mut Lanes<'_, '_>) {
    let mut batch = [const { None }; LANES];
    for (lane, place) in lanes.iter_mut().zip(&mut batch) {
        let Some(order) = lane else { continue };
        let (key, data) = (order.key, order.data);
        let signature = order.signature.room(SIGNATURE).first_chunk_mut();
        if let (Some((seed, public)), Some(signature)) = (key.ed25519(), signature) {
            *place = Some(Ed25519Lane { seed, public, message: data, signature, done: false });
        }
    }
    library.ed25519_sign(&mut batch);
    let done = batch.map(|lane| lane.is_some_and(|lane| lane.done));
    for (lane, done) in lanes.iter_mut().zip(done) {
        if done && let Some(order) = lane.take() {
            order.outcome = Ok(());
        }
    }
}
