//! AES-GCM (NIST SP 800-38D).

use strongroom_protocol::frame::MAX_CIPHER;

use super::SecretKey;
use crate::crypto::CryptoError;

/// The longest IV, in bytes. SP 800-38D has much longer ones, and recommends 12.
const MAX_IV: usize = 256;

/// The length of a tag: one of those that SP 800-38D has for general use (5.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TagLength(u8);

impl TagLength {
    /// How many there are: 96, 104, 112, 120 and 128 bits.
    pub(super) const COUNT: usize = 5;
    const SHORTEST: usize = 12;

    fn from_bits(bits: u32) -> Option<Self> {
        let index = bits.checked_sub(96)?;
        (index.is_multiple_of(8) && index <= 32).then_some(Self((index / 8) as u8))
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn bytes(self) -> usize {
        Self::SHORTEST + self.index()
    }
}

/// The parameters of one operation, checked.
#[derive(Debug, Clone, Copy)]
pub struct GcmParameters<'a> {
    iv: &'a [u8],
    aad: &'a [u8],
    tag: TagLength,
}

impl<'a> GcmParameters<'a> {
    /// Checks the IV (1 to 256 bytes) and the length of the tag (96, 104, 112, 120 or 128 bits).
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`].
    pub fn new(iv: &'a [u8], aad: &'a [u8], tag_bits: u32) -> Result<Self, CryptoError> {
        if iv.is_empty() || iv.len() > MAX_IV {
            let what = format!("an IV for AES-GCM has 1 to {MAX_IV} bytes, not {}", iv.len());
            return Err(CryptoError::ParameterWrong(what));
        }
        let Some(tag) = TagLength::from_bits(tag_bits) else {
            let what = format!("a tag of AES-GCM has 96, 104, 112, 120 or 128 bits, not {tag_bits}");
            return Err(CryptoError::ParameterWrong(what));
        };
        Ok(Self { iv, aad, tag })
    }

    /// The length of the tag, in bytes.
    pub fn tag_length(&self) -> usize {
        self.tag.bytes()
    }

    fn check(&self, given: usize) -> Result<(), CryptoError> {
        let parameters = self.iv.len() + self.aad.len();
        match given.checked_add(parameters) {
            Some(all) if all <= MAX_CIPHER => Ok(()),
            _ => wrong_length(format!("at most {}", MAX_CIPHER.saturating_sub(parameters)), given),
        }
    }
}

fn wrong_length<T>(expected: String, got: usize) -> Result<T, CryptoError> {
    Err(CryptoError::DataLength { mechanism: "AES-GCM", expected, got })
}

/// Encrypts `plain`: writes the ciphertext and then the tag to the beginning of `out`, and returns their length.
/// Allocates nothing once the key was used with tags of this length.
///
/// # Errors
///
/// [`CryptoError::DataLength`] if the data is too long, or `out` too short for the ciphertext and the tag.
pub fn encrypt(
    key: &SecretKey,
    parameters: GcmParameters<'_>,
    plain: &[u8],
    out: &mut [u8],
) -> Result<usize, CryptoError> {
    parameters.check(plain.len())?;
    let length = plain.len() + parameters.tag_length();
    let room = out.len();
    let Some((ciphertext, tag)) = out.get_mut(..length).and_then(|out| out.split_at_mut_checked(plain.len()))
    else {
        return wrong_length(format!("a place of {length}"), room);
    };
    key.gcm(parameters.tag)?.seal(parameters.iv, parameters.aad, plain, ciphertext, tag)?;
    Ok(length)
}

/// Checks the tag at the end of `sealed` and decrypts what is before it: writes the plaintext to the beginning of
/// `out`, and returns its length. If the tag does not fit, that part of `out` is all zeros; but it had plaintext in
/// it before that was known, so `out` must be memory that the client cannot see until this returns. Allocates
/// as [`encrypt`].
///
/// # Errors
///
/// [`CryptoError::CiphertextWrong`], also if `sealed` is shorter than a tag; [`CryptoError::DataLength`] if it
/// is too long, or `out` too short for the plaintext.
pub fn decrypt(
    key: &SecretKey,
    parameters: GcmParameters<'_>,
    sealed: &[u8],
    out: &mut [u8],
) -> Result<usize, CryptoError> {
    parameters.check(sealed.len())?;
    let length = sealed.len().checked_sub(parameters.tag_length()).ok_or(CryptoError::CiphertextWrong)?;
    let room = out.len();
    let (Some((ciphertext, tag)), Some(plain)) = (sealed.split_at_checked(length), out.get_mut(..length))
    else {
        return wrong_length(format!("a place of {length}"), room);
    };
    key.gcm(parameters.tag)?.open(parameters.iv, parameters.aad, ciphertext, tag, plain)?;
    Ok(length)
}

#[cfg(test)]
mod tests;
