//! A digest in progress as bytes, and back: `C_GetOperationState`.
//!
//! The format: a name, the hash's number in the protocol, the state as the hash's library writes it, and the first bytes of
//! the SHA-256 of all that, so that what is no such state is told from one. It is a state's own application that keeps it;
//! the sum protects against accidents, not against that application.

use cryptoki_sys::{CK_RV, CKR_SAVED_STATE_INVALID};
use sha1::Sha1;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};
use strongroom_protocol::v1::Hash;
use zeroize::Zeroizing;

use crate::error::Outcome;
use crate::hash::Digest;

/// What a saved state begins with: the format's name and version.
const NAME: [u8; 8] = *b"SRdigst1";

/// How much of the sum is kept, in bytes.
const SUM: usize = 16;

const INVALID: CK_RV = CKR_SAVED_STATE_INVALID;

/// The state of a digest.
pub fn save(digest: &Digest) -> Zeroizing<Vec<u8>> {
    fn of(hash: Hash, state: &impl SerializableState) -> Zeroizing<Vec<u8>> {
        let state = state.serialize();
        let mut saved = Zeroizing::new(Vec::with_capacity(NAME.len() + 1 + state.len() + SUM));
        saved.extend_from_slice(&NAME);
        // One of nine.
        saved.push(i32::from(hash) as u8);
        saved.extend_from_slice(&state);
        let sum = sum(&saved);
        saved.extend_from_slice(&sum);
        saved
    }
    match digest {
        Digest::Sha1(state) => of(Hash::Sha1, state),
        Digest::Sha224(state) => of(Hash::Sha224, state),
        Digest::Sha256(state) => of(Hash::Sha256, state),
        Digest::Sha384(state) => of(Hash::Sha384, state),
        Digest::Sha512(state) => of(Hash::Sha512, state),
        Digest::Sha3_224(state) => of(Hash::Sha3224, state),
        Digest::Sha3_256(state) => of(Hash::Sha3256, state),
        Digest::Sha3_384(state) => of(Hash::Sha3384, state),
        Digest::Sha3_512(state) => of(Hash::Sha3512, state),
    }
}

/// Whether a digest has taken no data yet.
pub fn is_new(digest: &Digest) -> bool {
    let mut new = digest.clone();
    // What follows begins anew.
    new.finalize();
    save(&new) == save(digest)
}

/// The digest of a state.
///
/// # Errors
///
/// `CKR_SAVED_STATE_INVALID` if the bytes are none that [`save`] has made.
pub fn restore(saved: &[u8]) -> Outcome<Digest> {
    fn of<T: SerializableState>(state: &[u8]) -> Outcome<T> {
        let state = SerializedState::<T>::try_from(state).map_err(|_| INVALID)?;
        T::deserialize(&state).map_err(|_| INVALID)
    }
    let (rest, found) = saved.split_last_chunk::<SUM>().ok_or(INVALID)?;
    let (hash, state) = rest.strip_prefix(&NAME).and_then(<[u8]>::split_first).ok_or(INVALID)?;
    if *found != sum(rest) {
        return Err(INVALID);
    }
    Ok(match Hash::try_from(i32::from(*hash)).map_err(|_| INVALID)? {
        Hash::Unspecified => return Err(INVALID),
        Hash::Sha1 => Digest::Sha1(of::<Sha1>(state)?),
        Hash::Sha224 => Digest::Sha224(of::<Sha224>(state)?),
        Hash::Sha256 => Digest::Sha256(of::<Sha256>(state)?),
        Hash::Sha384 => Digest::Sha384(of::<Sha384>(state)?),
        Hash::Sha512 => Digest::Sha512(of::<Sha512>(state)?),
        Hash::Sha3224 => Digest::Sha3_224(of::<Sha3_224>(state)?),
        Hash::Sha3256 => Digest::Sha3_256(of::<Sha3_256>(state)?),
        Hash::Sha3384 => Digest::Sha3_384(of::<Sha3_384>(state)?),
        Hash::Sha3512 => Digest::Sha3_512(of::<Sha3_512>(state)?),
    })
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    for (place, byte) in sum.iter_mut().zip(Sha256::digest(bytes)) {
        *place = byte;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    #[test]
    fn a_digest_goes_on_where_it_was_saved() {
        for number in 1..=9 {
            let hash = Hash::try_from(number).unwrap();
            let mut whole = hash::start(hash).unwrap();
            assert!(is_new(&whole));
            // In the middle of a block, and at its end.
            for part in [&[1; 77][..], &[2; 59], &[3; 200]] {
                whole.update(part);
                let saved = save(&whole);
                assert!(!is_new(&whole));
                let mut again = restore(&saved).unwrap();
                again.update(b"the rest");
                let mut expected = whole.clone();
                expected.update(b"the rest");
                assert_eq!(*again.finalize(), *expected.finalize(), "{hash:?}");
            }
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let mut digest = hash::start(Hash::Sha3512).unwrap();
        digest.update(b"some data");
        let saved = save(&digest).to_vec();
        assert!(restore(&saved).is_ok());
        for at in 0..saved.len() {
            let mut changed = saved.clone();
            changed[at] ^= 1;
            assert_eq!(restore(&changed).err(), Some(CKR_SAVED_STATE_INVALID));
            assert!(restore(&saved[..at]).is_err());
        }
        // A right sum over what is none: another hash, and any number of bytes.
        for (hash, length) in [(1, 8), (3, 1000), (200, 105), (0, 105)] {
            let mut made = [&NAME[..], &[hash], &vec![0xff; length]].concat();
            let end = sum(&made);
            made.extend(end);
            assert!(restore(&made).is_err());
        }
        for hash in 1..=9 {
            for length in 0..600 {
                let mut made = [&NAME[..], &[hash], &vec![0xff; length]].concat();
                let end = sum(&made);
                made.extend(end);
                // Taken or not: it does not panic, and what was taken hashes.
                if let Ok(mut digest) = restore(&made) {
                    digest.update(b"data");
                    digest.finalize();
                }
            }
        }
    }
}
