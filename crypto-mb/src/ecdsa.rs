//! ECDSA in two steps: what belongs to the nonce, and what belongs to key and message.

use std::ptr::{null, null_mut};

use crate::{CryptoMb, Curve, EcdsaLane, LANES, NonceLane, declarations as c};

/// The widest number, P-521's, in bytes.
const WIDEST: usize = 66;

/// What unused lanes compute with.
static ONE: [u64; 9] = [1, 0, 0, 0, 0, 0, 0, 0, 0];
static ONE_DIGEST: [u8; WIDEST] = {
    let mut digest = [0; WIDEST];
    digest[WIDEST - 1] = 1;
    digest
};

impl CryptoMb {
    /// Computes `k^-1 mod n` and `r` in each lane (`mbx_nistp*_ecdsa_sign_setup_mb8`). Lanes whose parts have other
    /// lengths than `curve` says are not computed.
    pub fn ecdsa_setup(self, curve: Curve, lanes: &mut [Option<NonceLane<'_>>; LANES]) {
        let setup: c::Setup = match curve {
            Curve::P256 => c::mbx_nistp256_ecdsa_sign_setup_mb8,
            Curve::P384 => c::mbx_nistp384_ecdsa_sign_setup_mb8,
            Curve::P521 => c::mbx_nistp521_ecdsa_sign_setup_mb8,
        };
        let words = curve.words();
        let (mut inverses, mut rs) = ([null_mut(); LANES], [null_mut(); LANES]);
        let mut nonces = [null(); LANES];
        let pointers = inverses.iter_mut().zip(&mut rs).zip(&mut nonces);
        for (lane, ((inverse, r), nonce)) in lanes.iter_mut().zip(pointers) {
            let Some(lane) = lane else { continue };
            lane.done = false;
            if [lane.nonce.len(), lane.inverse.len(), lane.r.len()] == [words; 3] {
                *inverse = lane.inverse.as_mut_ptr();
                *r = lane.r.as_mut_ptr();
                *nonce = lane.nonce.as_ptr();
            }
        }
        // SAFETY: each pointer is null or to as many words as the curve has (checked above), borrowed for this
        // call, the outputs exclusively. The function does not use its last argument.
        let status = unsafe { setup(inverses.as_ptr(), rs.as_ptr(), nonces.as_ptr(), null_mut()) };
        for (number, (lane, nonce)) in lanes.iter_mut().zip(&nonces).enumerate() {
            if let Some(lane) = lane {
                lane.done = !nonce.is_null() && c::lane_is_done(status, number);
            }
        }
    }

    /// Computes `s = k^-1 (digest + key r) mod n` in each lane and writes `r || s`
    /// (`mbx_nistp*_ecdsa_sign_complete_mb8`). Lanes whose parts have other lengths than `curve` says are not
    /// computed.
    pub fn ecdsa_complete(self, curve: Curve, lanes: &mut [Option<EcdsaLane<'_>>; LANES]) {
        let complete: c::Complete = match curve {
            Curve::P256 => c::mbx_nistp256_ecdsa_sign_complete_mb8,
            Curve::P384 => c::mbx_nistp384_ecdsa_sign_complete_mb8,
            Curve::P521 => c::mbx_nistp521_ecdsa_sign_complete_mb8,
        };
        let (words, bytes) = (curve.words(), curve.bytes());
        // Lanes that are not used compute with ones, into memory that nobody reads. With null pointers the library
        // reads through masks at address 0, and a processor that suppresses such faults in microcode takes longer
        // for that than for the signatures.
        let mut nowhere = [0; 2 * WIDEST];
        let (first, second) = nowhere.split_at_mut(WIDEST);
        let (mut sign_r, mut sign_s) = ([first.as_mut_ptr(); LANES], [second.as_mut_ptr(); LANES]);
        let one = ONE.as_ptr();
        let (mut rs, mut inverses, mut keys) = ([one; LANES], [one; LANES], [one; LANES]);
        let one = ONE_DIGEST.get(WIDEST - bytes..).unwrap_or(&ONE_DIGEST).as_ptr();
        let mut digests = [one; LANES];
        let mut used = [false; LANES];
        let outputs = sign_r.iter_mut().zip(&mut sign_s);
        let inputs = rs.iter_mut().zip(&mut inverses).zip(keys.iter_mut().zip(&mut digests));
        for ((lane, used), ((sign_r, sign_s), ((r, inverse), (key, digest)))) in
            lanes.iter_mut().zip(&mut used).zip(outputs.zip(inputs))
        {
            let Some(lane) = lane else { continue };
            lane.done = false;
            *used = [lane.key.len(), lane.inverse.len(), lane.r.len()] == [words; 3]
                && lane.digest.len() == bytes
                && lane.signature.len() == 2 * bytes;
            if *used {
                let (first, second) = lane.signature.split_at_mut(bytes);
                (*sign_r, *sign_s) = (first.as_mut_ptr(), second.as_mut_ptr());
                (*r, *inverse) = (lane.r.as_ptr(), lane.inverse.as_ptr());
                (*key, *digest) = (lane.key.as_ptr(), lane.digest.as_ptr());
            }
        }
        // SAFETY: each pointer is to as many words or bytes as the curve has, or to as many as the widest has, borrowed
        // for this call, the outputs exclusively. The last argument is not used.
        let status = unsafe {
            complete(
                sign_r.as_ptr(),
                sign_s.as_ptr(),
                digests.as_ptr(),
                rs.as_ptr(),
                inverses.as_ptr(),
                keys.as_ptr(),
                null_mut(),
            )
        };
        for (number, (lane, used)) in lanes.iter_mut().zip(used).enumerate() {
            if let Some(lane) = lane {
                lane.done = used && c::lane_is_done(status, number);
            }
        }
    }
}
