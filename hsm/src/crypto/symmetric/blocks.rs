//! Block ciphers in the modes that protect no integrity (NIST SP 800-38A).

use super::{SecretKey, SecretKind};
use crate::crypto::CryptoError;
use crate::crypto::aws_lc::{self, BlockCipher, Direction};

/// A block cipher and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockMode {
    /// AES, each block for itself.
    AesEcb,
    /// AES, chained.
    AesCbc,
    /// AES of a counter of 128 bits.
    AesCtr,
    /// Triple DES, each block for itself.
    Des3Ecb,
    /// Triple DES, chained.
    Des3Cbc,
}

impl BlockMode {
    fn name(self) -> &'static str {
        match self {
            BlockMode::AesEcb => "AES-ECB",
            BlockMode::AesCbc => "AES-CBC",
            BlockMode::AesCtr => "AES-CTR",
            BlockMode::Des3Ecb => "3DES-ECB",
            BlockMode::Des3Cbc => "3DES-CBC",
        }
    }

    /// The size of a block in bytes.
    fn block(self) -> usize {
        if matches!(self, BlockMode::Des3Ecb | BlockMode::Des3Cbc) { 8 } else { 16 }
    }

    /// Encrypts or decrypts `data` to `out`, which is as long: whole blocks, of CTR any number of bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SecretKeyDoesNotFit`]; [`CryptoError::ParameterWrong`] for an IV of another length than the block's (none
    /// for ECB); [`CryptoError::DataLength`].
    pub fn run(
        self,
        key: &SecretKey,
        direction: Direction,
        iv: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        let cipher = match (self, key.kind()) {
            (BlockMode::AesEcb, SecretKind::Aes128 | SecretKind::Aes192 | SecretKind::Aes256) => {
                BlockCipher::AesEcb
            }
            (BlockMode::AesCbc, SecretKind::Aes128 | SecretKind::Aes192 | SecretKind::Aes256) => {
                BlockCipher::AesCbc
            }
            (BlockMode::AesCtr, SecretKind::Aes128 | SecretKind::Aes192 | SecretKind::Aes256) => {
                BlockCipher::AesCtr
            }
            (BlockMode::Des3Ecb, SecretKind::Des3) => BlockCipher::Des3Ecb,
            (BlockMode::Des3Cbc, SecretKind::Des3) => BlockCipher::Des3Cbc,
            _ => return key.does_not_fit(self.name()),
        };
        let wanted = match self {
            BlockMode::AesEcb | BlockMode::Des3Ecb => 0,
            _ => self.block(),
        };
        if iv.len() != wanted {
            return Err(CryptoError::ParameterWrong(format!(
                "an IV of {} has {wanted} bytes, not {}",
                self.name(),
                iv.len()
            )));
        }
        if self != BlockMode::AesCtr && !data.len().is_multiple_of(self.block()) {
            return Err(CryptoError::DataLength {
                mechanism: self.name(),
                expected: format!("a multiple of {}", self.block()),
                got: data.len(),
            });
        }
        aws_lc::run_blocks(cipher, direction, key.value(), iv, data, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SecretBytes;

    #[test]
    fn what_does_not_fit_is_refused() {
        let aes = SecretKey::generate(SecretKind::Aes192, 0).unwrap();
        let des = SecretKey::generate(SecretKind::Des3, 0).unwrap();
        // As long as a key of AES.
        let generic = SecretKey::new(SecretKind::Generic, SecretBytes::zeroed(16)).unwrap();
        let run = |mode: BlockMode, key, iv: usize, length: usize| {
            mode.run(key, Direction::Encrypt, &vec![0; iv], &vec![0; length], &mut vec![0; length])
        };
        assert!(run(BlockMode::AesCbc, &aes, 16, 32).is_ok() && run(BlockMode::AesCtr, &aes, 16, 31).is_ok());
        assert!(run(BlockMode::Des3Cbc, &des, 8, 24).is_ok() && run(BlockMode::AesEcb, &aes, 0, 0).is_ok());
        for (mode, key) in [
            (BlockMode::AesCbc, &des),
            (BlockMode::Des3Cbc, &aes),
            (BlockMode::AesCbc, &generic),
            (BlockMode::AesCtr, &generic),
            (BlockMode::Des3Ecb, &generic),
        ] {
            let refused = run(mode, key, mode.block(), 16).unwrap_err();
            assert!(matches!(refused, CryptoError::SecretKeyDoesNotFit { .. }), "{mode:?}");
        }
        for (mode, iv) in [(BlockMode::AesCbc, 8), (BlockMode::AesCtr, 0), (BlockMode::AesEcb, 16)] {
            assert!(matches!(run(mode, &aes, iv, 16), Err(CryptoError::ParameterWrong(_))));
        }
        assert!(matches!(run(BlockMode::AesCbc, &aes, 16, 17), Err(CryptoError::DataLength { .. })));
    }
}
