//! Ed25519 signatures.

use std::ptr::{null, null_mut};

use crate::{CryptoMb, Ed25519Lane, LANES, declarations as c};

impl CryptoMb {
    /// Signs in each lane (`mbx_ed25519_sign_mb8`). A message of 2 GiB or more is not signed: the library hashes
    /// with lengths of type int.
    pub fn ed25519_sign(self, lanes: &mut [Option<Ed25519Lane<'_>>; LANES]) {
        let (mut sign_r, mut sign_s) = ([null_mut(); LANES], [null_mut(); LANES]);
        let (mut messages, mut lengths) = ([null(); LANES], [0; LANES]);
        let (mut seeds, mut publics) = ([null(); LANES], [null(); LANES]);
        let outputs = sign_r.iter_mut().zip(&mut sign_s);
        let inputs = messages.iter_mut().zip(&mut lengths).zip(seeds.iter_mut().zip(&mut publics));
        for (lane, ((sign_r, sign_s), ((message, length), (seed, public)))) in
            lanes.iter_mut().zip(outputs.zip(inputs))
        {
            let Some(lane) = lane else { continue };
            lane.done = false;
            let Ok(fits) = i32::try_from(lane.message.len()) else { continue };
            let (first, second) = lane.signature.split_at_mut(32);
            (*sign_r, *sign_s) = (first.as_mut_ptr().cast(), second.as_mut_ptr().cast());
            // Not null for an empty message either: a slice's pointer never is.
            (*message, *length) = (lane.message.as_ptr(), fits.cast_unsigned());
            (*seed, *public) = (std::ptr::from_ref(lane.seed), std::ptr::from_ref(lane.public));
        }
        // SAFETY: each pointer is null or to 32 bytes, the messages to as many as their length says, borrowed for
        // this call, the outputs exclusively.
        let status = unsafe {
            c::mbx_ed25519_sign_mb8(
                sign_r.as_ptr(),
                sign_s.as_ptr(),
                messages.as_ptr(),
                lengths.as_ptr(),
                seeds.as_ptr(),
                publics.as_ptr(),
            )
        };
        for (number, (lane, seed)) in lanes.iter_mut().zip(&seeds).enumerate() {
            if let Some(lane) = lane {
                lane.done = !seed.is_null() && c::lane_is_done(status, number);
            }
        }
    }
}
