//! PBKDF2 (RFC 8018, 5.2; NIST SP 800-132).

use crate::crypto::aws_lc;
use crate::crypto::{CryptoError, Hash};
use crate::memory::SecretBytes;

/// The most that one derivation may cost: iterations times blocks of the hash. About two seconds' work.
pub const MAX_WORK: u64 = 4_000_000;

/// PBKDF2 with HMAC.
#[derive(Debug)]
pub struct Pbkdf2<'a> {
    /// The hash of its HMAC.
    pub hash: Hash,
    /// The salt.
    pub salt: &'a [u8],
    /// The iterations.
    pub iterations: u32,
}

impl Pbkdf2<'_> {
    /// Checks that the derivation is possible, and not too much work.
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`].
    pub fn check(&self, length: usize) -> Result<(), CryptoError> {
        let work = u64::from(self.iterations).saturating_mul(length.div_ceil(self.hash.length()) as u64);
        if work == 0 || work > MAX_WORK {
            return Err(CryptoError::ParameterWrong(format!(
                "PBKDF2 with {} iterations for {length} bytes: 1 to {MAX_WORK} are carried out, times the blocks of {} \
                 bytes that are wanted",
                self.iterations,
                self.hash.length()
            )));
        }
        Ok(())
    }

    /// Makes `length` bytes from a password. Blocks for up to seconds.
    ///
    /// # Errors
    ///
    /// As for [`Pbkdf2::check`], and [`CryptoError::Library`].
    pub fn derive(&self, password: &[u8], length: usize) -> Result<SecretBytes, CryptoError> {
        self.check(length)?;
        aws_lc::pbkdf2(self.hash, password, self.salt, self.iterations, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_bounded() {
        let of = |iterations| Pbkdf2 { hash: Hash::Sha256, salt: b"salt", iterations };
        assert!(of(1).check(1).is_ok() && of(4_000_000).check(32).is_ok());
        assert!(of(4_000_000).check(33).is_err() && of(u32::MAX).check(usize::MAX).is_err());
        assert!(of(0).check(32).is_err() && of(1).check(0).is_err());
    }
}
