//! AES-CCM (NIST SP 800-38C).

use strongroom_protocol::frame::MAX_CIPHER;

use super::SecretKey;
use crate::crypto::CryptoError;
use crate::crypto::aws_lc;

/// The parameters of one operation, checked.
#[derive(Debug, Clone, Copy)]
pub struct CcmParameters<'a> {
    nonce: &'a [u8],
    aad: &'a [u8],
    tag: usize,
}

impl<'a> CcmParameters<'a> {
    /// Checks the nonce (7 to 13 bytes) and the length of the tag (32, 48, … 128 bits).
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`].
    pub fn new(nonce: &'a [u8], aad: &'a [u8], tag_bits: u32) -> Result<Self, CryptoError> {
        if !(7..=13).contains(&nonce.len()) {
            let what = format!("a nonce for AES-CCM has 7 to 13 bytes, not {}", nonce.len());
            return Err(CryptoError::ParameterWrong(what));
        }
        if !(32..=128).contains(&tag_bits) || !tag_bits.is_multiple_of(16) {
            let what = format!("a tag of AES-CCM has 32, 48, 64, 80, 96, 112 or 128 bits, not {tag_bits}");
            return Err(CryptoError::ParameterWrong(what));
        }
        Ok(Self { nonce, aad, tag: tag_bits as usize / 8 })
    }

    /// The longest plaintext, in bytes: its length has as many bytes as the nonce leaves of 15.
    fn most(&self) -> usize {
        let of_request = MAX_CIPHER.saturating_sub(self.nonce.len() + self.aad.len());
        let length_bits = 8 * (15 - self.nonce.len() as u32);
        1usize.checked_shl(length_bits).map_or(of_request, |end| of_request.min(end - 1))
    }

    fn check(&self, length: usize) -> Result<(), CryptoError> {
        match length <= self.most() {
            true => Ok(()),
            false => Err(CryptoError::DataLength {
                mechanism: "AES-CCM",
                expected: format!("at most {}", self.most()),
                got: length,
            }),
        }
    }

    /// Encrypts: the ciphertext, and then the tag.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SecretKeyDoesNotFit`], [`CryptoError::DataLength`].
    pub fn encrypt(&self, key: &SecretKey, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.check(plain.len())?;
        aws_lc::seal_ccm(key.aes("AES-CCM")?, self.nonce, self.aad, plain, self.tag)
    }

    /// Checks the tag at the end of `sealed`, and decrypts what is before it.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SecretKeyDoesNotFit`], [`CryptoError::DataLength`], and [`CryptoError::CiphertextWrong`], also if there is no
    /// room for a tag.
    pub fn decrypt(&self, key: &SecretKey, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let at = sealed.len().checked_sub(self.tag).ok_or(CryptoError::CiphertextWrong)?;
        self.check(at)?;
        let (ciphertext, tag) = sealed.split_at_checked(at).ok_or(CryptoError::CiphertextWrong)?;
        aws_lc::open_ccm(key.aes("AES-CCM")?, self.nonce, self.aad, ciphertext, tag)
    }
}
