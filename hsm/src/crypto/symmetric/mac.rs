//! Message authentication codes: HMAC, CMAC, GMAC; of long messages in parts.

use super::{GcmParameters, SecretKey, encrypt};
use crate::crypto::aws_lc::{self, CmacState, HmacState};
use crate::crypto::{CryptoError, Hash};
use crate::memory::SecretBytes;

/// A way to make a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac<'a> {
    /// HMAC (FIPS 198-1), with a key of any kind but 3DES.
    Hmac(Hash),
    /// AES-CMAC (NIST SP 800-38B).
    Cmac,
    /// The tag of AES-GCM without a plaintext, with this IV (NIST SP 800-38D).
    Gmac(&'a [u8]),
}

/// What is kept between the parts of a message.
enum MacState {
    /// Of HMAC.
    Hmac(HmacState),
    /// Of CMAC.
    Cmac(CmacState),
}

impl Mac<'_> {
    fn name(self) -> &'static str {
        match self {
            Mac::Hmac(_) => "HMAC",
            Mac::Cmac => "AES-CMAC",
            Mac::Gmac(_) => "AES-GMAC",
        }
    }

    /// The size of a whole code in bytes.
    pub fn length(self) -> usize {
        match self {
            Mac::Hmac(hash) => hash.length(),
            Mac::Cmac | Mac::Gmac(_) => 16,
        }
    }

    /// What the parts of a message have in common with blocks: all but the last have a multiple of so many bytes.
    pub const BLOCK: usize = 128;

    /// The key's bytes, if it is one for this way.
    fn key(self, key: &SecretKey) -> Result<&[u8], CryptoError> {
        match self {
            Mac::Hmac(_) if key.kind() != super::SecretKind::Des3 => Ok(key.value()),
            Mac::Hmac(_) => key.does_not_fit("HMAC"),
            other => key.aes(other.name()),
        }
    }

    /// Takes a part of a message that is not the last, after `before`; gives the state in which the next goes on, as bytes in
    /// protected memory.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SecretKeyDoesNotFit`], [`CryptoError::DataLength`] for a part that is no multiple of [`Mac::BLOCK`],
    /// [`CryptoError::ParameterWrong`] if this way takes messages as a whole only.
    pub fn part(
        self,
        key: &SecretKey,
        before: Option<&SecretBytes>,
        data: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        let bytes = self.key(key)?;
        if data.is_empty() || !data.len().is_multiple_of(Self::BLOCK) {
            return Err(CryptoError::DataLength {
                mechanism: self.name(),
                expected: format!("a multiple of {} in parts that are not the last", Self::BLOCK),
                got: data.len(),
            });
        }
        Ok(match self.state(bytes, before)? {
            MacState::Hmac(mut state) => {
                state.update(data);
                state.into_bytes()
            }
            MacState::Cmac(mut state) => {
                state.update(bytes, data)?;
                state.into_bytes()
            }
        })
    }

    /// The code of a message: `data` after the parts that led to `before`.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SecretKeyDoesNotFit`], [`CryptoError::ParameterWrong`], [`CryptoError::DataLength`].
    pub fn finish(
        self,
        key: &SecretKey,
        before: Option<&SecretBytes>,
        data: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        let bytes = self.key(key)?;
        if let (Mac::Gmac(iv), None) = (self, before) {
            let mut tag = SecretBytes::zeroed(self.length());
            encrypt(key, GcmParameters::new(iv, data, 128)?, &[], &mut tag)?;
            return Ok(tag);
        }
        if let (Mac::Hmac(hash), None) = (self, before) {
            return aws_lc::hmac(hash, bytes, data);
        }
        match self.state(bytes, before)? {
            MacState::Hmac(mut state) => {
                state.update(data);
                state.finish(bytes)
            }
            MacState::Cmac(state) => state.finish(bytes, data),
        }
    }

    fn state(self, key: &[u8], before: Option<&SecretBytes>) -> Result<MacState, CryptoError> {
        let state = match (self, before) {
            (Mac::Hmac(hash), None) => HmacState::new(hash, key)?.map(MacState::Hmac),
            (Mac::Hmac(hash), Some(before)) => HmacState::from_bytes(hash, before).map(MacState::Hmac),
            (Mac::Cmac, None) => Some(MacState::Cmac(CmacState::new())),
            (Mac::Cmac, Some(before)) => CmacState::from_bytes(before).map(MacState::Cmac),
            (Mac::Gmac(_), _) => None,
        };
        state
            .ok_or_else(|| CryptoError::ParameterWrong(format!("{} takes a message as a whole", self.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::symmetric::SecretKind;

    #[test]
    fn parts_and_wholes_give_the_same_code() {
        let message: Vec<u8> = (0..1000u32).map(|number| number as u8).collect();
        let aes = SecretKey::generate(SecretKind::Aes256, 0).unwrap();
        let long = SecretKey::generate(SecretKind::Generic, 200).unwrap();
        let hashes = [Hash::Sha1, Hash::Sha224, Hash::Sha256, Hash::Sha384, Hash::Sha512];
        let ways = hashes.map(|hash| (Mac::Hmac(hash), &long)).into_iter().chain([(Mac::Cmac, &aes)]);
        for (way, key) in ways {
            let whole = way.finish(key, None, &message).unwrap();
            assert_eq!(whole.len(), way.length());
            for cut in [128, 384, 896] {
                let first = way.part(key, None, &message[..128]).unwrap();
                let state = match cut {
                    128 => first,
                    cut => way.part(key, Some(&first), &message[128..cut]).unwrap(),
                };
                assert_eq!(&*way.finish(key, Some(&state), &message[cut..]).unwrap(), &*whole, "{way:?}");
                assert_ne!(&*way.finish(key, Some(&state), &message[cut + 1..]).unwrap(), &*whole);
            }
            assert!(way.part(key, None, &message[..100]).is_err() && way.part(key, None, &[]).is_err());
        }
        for way in [Mac::Gmac(&[1; 12]), Mac::Hmac(Hash::Sha3_256)] {
            assert!(matches!(way.part(&aes, None, &message[..128]), Err(CryptoError::ParameterWrong(_))));
        }
        let des = SecretKey::generate(SecretKind::Des3, 0).unwrap();
        for way in [Mac::Gmac(&[1; 12]), Mac::Hmac(Hash::Sha256), Mac::Cmac] {
            assert!(matches!(way.finish(&des, None, b""), Err(CryptoError::SecretKeyDoesNotFit { .. })));
        }
    }
}
