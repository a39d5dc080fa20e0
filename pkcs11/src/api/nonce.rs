//! The parameter of one message (`CK_GCM_MESSAGE_PARAMS`, `CK_CCM_MESSAGE_PARAMS`), and how its IV is made.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::frame::MAX_CIPHER;
use strongroom_protocol::v1::{CcmParameters, GcmParameters, Mechanism};

use super::cipher::Method;
use super::random;
use crate::error::Outcome;
use crate::session::Session;
use crate::state::Process;

/// The longest IV that the partition takes, in bytes.
const MAX_IV: usize = 256;

/// The fewest bits that are drawn, or counted from a drawn beginning: two of so many IVs are the same once in 2^32 sets of
/// 2^16 messages.
const FEWEST_DRAWN: usize = 64;

/// The fewest bits that are counted from nought.
const FEWEST_COUNTED: usize = 32;

/// The most bits that are counted.
const MOST_COUNTED: usize = 64;

/// What the parameter of a message says, with pointers into the application's memory.
pub struct Parameters {
    mechanism: Mechanism,
    nonce: *mut CK_BYTE,
    length: usize,
    /// The first bits of the IV, which stay as the application gives them.
    fixed: usize,
    generator: CK_GENERATOR_FUNCTION,
    tag: *mut CK_BYTE,
    /// In bytes.
    tag_length: usize,
}

/// What has been counted for the messages of an operation. Each message says how its IV is made, so each way has a count of its own.
#[derive(Debug, Default)]
pub struct Counter {
    /// Of `CKG_GENERATE_COUNTER`; `None` until its beginning was drawn.
    drawn: Option<Count>,
    /// Of `CKG_GENERATE_COUNTER_XOR`.
    added: Count,
    /// What that is added to: the IV of the first message of that kind.
    base: Option<Vec<u8>>,
}

/// Numbers, none of which comes twice.
#[derive(Debug, Default)]
struct Count {
    start: u64,
    made: u64,
}

impl Parameters {
    /// Reads the parameter of a message.
    ///
    /// # Errors
    ///
    /// `CKR_MECHANISM_PARAM_INVALID` if it is missing, or the partition cannot do it.
    ///
    /// # Safety
    ///
    /// `parameter`, if not null, has the length that stands beside it; and what it points to has the length that stands
    /// beside that, and can be read and written as long as the value is used.
    pub unsafe fn read(
        mechanism: Mechanism,
        parameter: *const std::ffi::c_void,
        length: CK_ULONG,
    ) -> Outcome<Self> {
        let invalid = CKR_MECHANISM_PARAM_INVALID;
        let is_of = |size: usize| usize::try_from(length) == Ok(size);
        let (parameters, is_sound) = match mechanism {
            Mechanism::AesGcm if is_of(size_of::<CK_GCM_MESSAGE_PARAMS>()) => {
                // SAFETY: of this type by its length; by the contract.
                let given = unsafe { pointer::reference(parameter.cast::<CK_GCM_MESSAGE_PARAMS>()) };
                let given = given.ok_or(invalid)?;
                let is_tag = (96..=128).contains(&given.ulTagBits) && given.ulTagBits.is_multiple_of(8);
                let parameters = Parameters {
                    mechanism,
                    nonce: given.pIv,
                    length: given.ulIvLen as usize,
                    fixed: given.ulIvFixedBits as usize,
                    generator: given.ivGenerator,
                    tag: given.pTag,
                    tag_length: given.ulTagBits as usize / 8,
                };
                let is_length = (1..=MAX_IV).contains(&parameters.length);
                (parameters, is_tag && is_length)
            }
            Mechanism::AesCcm if is_of(size_of::<CK_CCM_MESSAGE_PARAMS>()) => {
                // SAFETY: as above.
                let given = unsafe { pointer::reference(parameter.cast::<CK_CCM_MESSAGE_PARAMS>()) };
                let given = given.ok_or(invalid)?;
                let is_tag = (4..=16).contains(&given.ulMACLen) && given.ulMACLen.is_multiple_of(2);
                // ulDataLen is not read, as of CK_CCM_PARAMS: the partition has the data as a whole.
                let parameters = Parameters {
                    mechanism,
                    nonce: given.pNonce,
                    length: given.ulNonceLen as usize,
                    fixed: given.ulNonceFixedBits as usize,
                    generator: given.nonceGenerator,
                    tag: given.pMAC,
                    tag_length: given.ulMACLen as usize,
                };
                let is_length = (7..=13).contains(&parameters.length);
                (parameters, is_tag && is_length)
            }
            _ => return Err(invalid),
        };
        let free = parameters.length.saturating_mul(8).checked_sub(parameters.fixed);
        let is_enough = match parameters.generator {
            CKG_NO_GENERATE => true,
            CKG_GENERATE | CKG_GENERATE_RANDOM | CKG_GENERATE_COUNTER => free >= Some(FEWEST_DRAWN),
            CKG_GENERATE_COUNTER_XOR => free >= Some(FEWEST_COUNTED),
            _ => false,
        };
        let is_there = !parameters.nonce.is_null() && !parameters.tag.is_null();
        if is_sound && is_enough && is_there { Ok(parameters) } else { Err(invalid) }
    }

    /// The IV as it stands in the application's memory.
    ///
    /// # Safety
    ///
    /// By the contract of [`Parameters::read`].
    pub unsafe fn nonce(&self) -> Outcome<&[u8]> {
        // SAFETY: by the contract.
        unsafe { pointer::slice(self.nonce.cast_const(), self.length) }.ok_or(CKR_MECHANISM_PARAM_INVALID)
    }

    /// The IV of the next message to be encrypted: the application's, or one that is made and written to its place.
    ///
    /// # Errors
    ///
    /// What the daemon says, asked for random bytes; `CKR_TOKEN_RESOURCE_EXCEEDED` when all counts are used.
    ///
    /// # Safety
    ///
    /// By the contract of [`Parameters::read`].
    pub unsafe fn next_nonce(
        &self,
        counter: &mut Counter,
        process: &'static Process,
        session: &Session,
    ) -> Outcome<Vec<u8>> {
        // SAFETY: by the contract.
        let given = unsafe { self.nonce() }?.to_vec();
        let free = self.length * 8 - self.fixed.min(self.length * 8);
        let made = match self.generator {
            CKG_GENERATE | CKG_GENERATE_RANDOM => {
                let mut drawn = vec![0; self.length];
                random::fill(process, session, &mut drawn)?;
                mixed(&given, &drawn, free)
            }
            CKG_GENERATE_COUNTER => {
                let count = match &mut counter.drawn {
                    Some(count) => count,
                    None => {
                        let mut start = [0; 8];
                        random::fill(process, session, &mut start)?;
                        counter.drawn.insert(Count { start: u64::from_ne_bytes(start), made: 0 })
                    }
                };
                let count = count.next(MOST_COUNTED)?;
                mixed(&given, &padded(count, self.length), MOST_COUNTED)
            }
            CKG_GENERATE_COUNTER_XOR => {
                let counted = free.min(MOST_COUNTED);
                let count = padded(counter.added.next(counted)?, self.length);
                let base = counter.base.get_or_insert(given);
                if base.len() != self.length {
                    return Err(CKR_MECHANISM_PARAM_INVALID);
                }
                base.iter().zip(&count).map(|(base, count)| base ^ count).collect()
            }
            _ => return Ok(given),
        };
        // SAFETY: by the contract; the slice that was read is not used any more.
        let place = unsafe { pointer::slice_mut(self.nonce, self.length) };
        place.ok_or(CKR_MECHANISM_PARAM_INVALID)?.copy_from_slice(&made);
        Ok(made)
    }

    /// What the partition is told.
    ///
    /// # Errors
    ///
    /// `CKR_ARGUMENTS_BAD` for associated data that no request takes.
    pub fn method(&self, nonce: Vec<u8>, aad: &[u8]) -> Outcome<Method> {
        if aad.len() > MAX_CIPHER - MAX_IV {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let aad = aad.to_vec();
        // At most 128.
        let tag_bits = self.tag_length as u32 * 8;
        Ok(match self.mechanism {
            Mechanism::AesCcm => Method::Ccm(CcmParameters { nonce, aad, tag_bits }),
            _ => Method::Gcm(GcmParameters { iv: nonce, aad, tag_bits }),
        })
    }

    /// The tag of a message that is to be decrypted.
    ///
    /// # Safety
    ///
    /// By the contract of [`Parameters::read`].
    pub unsafe fn tag(&self) -> Outcome<&[u8]> {
        // SAFETY: by the contract.
        unsafe { pointer::slice(self.tag.cast_const(), self.tag_length) }.ok_or(CKR_MECHANISM_PARAM_INVALID)
    }

    /// Writes the tag of a message that was encrypted.
    ///
    /// # Safety
    ///
    /// By the contract of [`Parameters::read`].
    pub unsafe fn put_tag(&self, tag: &[u8]) -> Outcome {
        if tag.len() != self.tag_length {
            return Err(CKR_DEVICE_ERROR);
        }
        // SAFETY: by the contract.
        let place = unsafe { pointer::slice_mut(self.tag, self.tag_length) };
        place.ok_or(CKR_MECHANISM_PARAM_INVALID)?.copy_from_slice(tag);
        Ok(())
    }
}

impl Count {
    /// The next number of `bits` bits.
    fn next(&mut self, bits: usize) -> Outcome<u64> {
        let mask = u64::MAX >> (64 - bits.clamp(1, 64));
        let made =
            self.made.checked_add(1).filter(|made| made - 1 <= mask).ok_or(CKR_TOKEN_RESOURCE_EXCEEDED)?;
        let count = self.start.wrapping_add(self.made) & mask;
        self.made = made;
        Ok(count)
    }
}

/// A number at the end of so many bytes.
fn padded(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (place, byte) in bytes.iter_mut().rev().zip(number.to_le_bytes()) {
        *place = byte;
    }
    bytes
}

/// The first bits of one, and the last `free` bits of the other.
fn mixed(fixed: &[u8], other: &[u8], free: usize) -> Vec<u8> {
    let bits = fixed.len() * 8;
    let mask = |at: usize| -> u8 {
        // How many of this byte's bits are free: the last ones.
        let after = bits - (at + 1) * 8;
        match free.saturating_sub(after) {
            0 => 0,
            some if some >= 8 => 0xff,
            some => 0xff >> (8 - some),
        }
    };
    fixed.iter().zip(other).enumerate().map(|(at, (a, b))| (a & !mask(at)) | (b & mask(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_bits_stay_whatever_their_number() {
        assert_eq!(mixed(&[0xff; 3], &[0; 3], 24), [0, 0, 0]);
        assert_eq!(mixed(&[0xff; 3], &[0; 3], 0), [0xff; 3]);
        assert_eq!(mixed(&[0xff; 3], &[0; 3], 11), [0xff, 0xf8, 0]);
        assert_eq!(mixed(&[0; 3], &[0xff; 3], 1), [0, 0, 1]);
        assert_eq!(mixed(&[0; 2], &[0xff; 2], 1000), [0xff; 2]);
    }

    #[test]
    fn counts_go_round_once_and_end() {
        let mut counter = Count { start: 250, made: 0 };
        let all: Vec<_> = (0..256).map(|_| counter.next(8).unwrap()).collect();
        assert_eq!(all[..8], [250, 251, 252, 253, 254, 255, 0, 1]);
        let mut sorted = all.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 256);
        assert_eq!(counter.next(8), Err(CKR_TOKEN_RESOURCE_EXCEEDED));
        assert_eq!(padded(0x0102, 4), [0, 0, 1, 2]);
        assert_eq!(padded(0x0102, 1), [2]);
        let mut last = Count { start: 0, made: u64::MAX };
        assert_eq!(last.next(64), Err(CKR_TOKEN_RESOURCE_EXCEEDED));
    }

    #[test]
    fn parameters_that_make_no_unique_iv_are_refused() {
        let (mut iv, mut tag) = ([0; 12], [0; 16]);
        let mut gcm = CK_GCM_MESSAGE_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: 12,
            ulIvFixedBits: 32,
            ivGenerator: CKG_GENERATE,
            pTag: tag.as_mut_ptr(),
            ulTagBits: 128,
        };
        let read = |gcm: &CK_GCM_MESSAGE_PARAMS, size: usize| {
            // SAFETY: a local, of at least the length that it says it has.
            unsafe { Parameters::read(Mechanism::AesGcm, std::ptr::from_ref(gcm).cast(), size as CK_ULONG) }
                .map(|_| ())
        };
        let size = size_of::<CK_GCM_MESSAGE_PARAMS>();
        assert_eq!(read(&gcm, size), Ok(()));
        let invalid = Err(CKR_MECHANISM_PARAM_INVALID);
        assert_eq!(read(&gcm, size - 1), invalid);
        for (generator, fixed) in [
            (CKG_GENERATE, 33),
            (CKG_GENERATE_RANDOM, 96),
            (CKG_GENERATE_COUNTER, CK_ULONG::MAX),
            (CKG_GENERATE_COUNTER_XOR, 65),
            (77, 0),
        ] {
            gcm.ivGenerator = generator;
            gcm.ulIvFixedBits = fixed;
            assert_eq!(read(&gcm, size), invalid, "{generator} with {fixed} fixed bits");
        }
        gcm.ivGenerator = CKG_NO_GENERATE;
        assert_eq!(read(&gcm, size), Ok(()), "the application's own");
        for length in [0, 257, 1 << 63] {
            gcm.ulIvLen = length;
            assert_eq!(read(&gcm, size), invalid);
        }
    }
}
