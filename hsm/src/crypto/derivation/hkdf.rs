//! HKDF (RFC 5869; NIST SP 800-56C).

use super::MAX_MATERIAL;
use crate::crypto::aws_lc;
use crate::crypto::{CryptoError, Hash};
use crate::memory::SecretBytes;

/// HKDF, or one of its two steps.
#[derive(Debug)]
pub struct Hkdf<'a> {
    /// The hash of its HMAC.
    pub hash: Hash,
    /// Begin with the extraction; otherwise the key is a pseudorandom key already.
    pub extract: bool,
    /// End with the expansion; otherwise what was extracted is the result, as many bytes as the hash has.
    pub expand: bool,
    /// Of the extraction. Empty: as many zeros as the hash has bytes.
    pub salt: &'a [u8],
    /// Of the expansion.
    pub info: &'a [u8],
}

impl Hkdf<'_> {
    /// Makes `length` bytes from `key`.
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`] for neither step, or more bytes than the steps give; [`CryptoError::Library`].
    pub fn derive(&self, key: &[u8], length: usize) -> Result<SecretBytes, CryptoError> {
        let most = match (self.extract, self.expand) {
            (false, false) => {
                return Err(CryptoError::ParameterWrong("HKDF extracts, expands, or both".into()));
            }
            (_, true) => (255 * self.hash.length()).min(MAX_MATERIAL),
            (true, false) => self.hash.length(),
        };
        if length == 0 || length > most {
            return Err(CryptoError::ParameterWrong(format!(
                "HKDF makes 1 to {most} bytes here, not {length}"
            )));
        }
        let extracted = match self.extract {
            true => Some(aws_lc::hkdf_extract(self.hash, key, self.salt)?),
            false => None,
        };
        let key = extracted.as_deref().unwrap_or(key);
        match self.expand {
            true => aws_lc::hkdf_expand(self.hash, key, self.info, length),
            false => Ok(SecretBytes::from(key.get(..length).unwrap_or_default())),
        }
    }
}
