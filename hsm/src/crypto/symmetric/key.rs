//! Secret keys: AES, triple DES, and bytes without an algorithm of their own.

use std::fmt;
use std::sync::OnceLock;

use strongroom_protocol::v1::KeyType;

use super::gcm::TagLength;
use crate::crypto::CryptoError;
use crate::crypto::aws_lc::{self, AesGcm};
use crate::memory::SecretBytes;

/// The longest generic secret, in bytes.
pub const MAX_SECRET: usize = 1024;

/// The kinds of secret keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// 16 bytes.
    Aes128,
    /// 24 bytes.
    Aes192,
    /// 32 bytes.
    Aes256,
    /// Three DES keys of 8 bytes each, the lowest bit of each byte for parity.
    Des3,
    /// 1 to [`MAX_SECRET`] bytes: for HMAC, and to derive keys from.
    Generic,
}

impl SecretKind {
    /// Every kind.
    pub const ALL: [SecretKind; 5] =
        [SecretKind::Aes128, SecretKind::Aes192, SecretKind::Aes256, SecretKind::Des3, SecretKind::Generic];

    /// The kind that a message names; `None` if that is no type of secret keys.
    pub fn from_wire(key_type: KeyType) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_wire() == key_type)
    }

    /// The kind as messages name it.
    pub fn to_wire(self) -> KeyType {
        match self {
            SecretKind::Aes128 => KeyType::Aes128,
            SecretKind::Aes192 => KeyType::Aes192,
            SecretKind::Aes256 => KeyType::Aes256,
            SecretKind::Des3 => KeyType::Des3,
            SecretKind::Generic => KeyType::GenericSecret,
        }
    }

    /// The size of a key in bytes; `None` if keys of this kind have different sizes.
    pub fn length(self) -> Option<usize> {
        match self {
            SecretKind::Aes128 => Some(16),
            SecretKind::Aes192 | SecretKind::Des3 => Some(24),
            SecretKind::Aes256 => Some(32),
            SecretKind::Generic => None,
        }
    }

    /// Whether a key of this kind can have so many bytes.
    pub fn takes(self, length: usize) -> bool {
        self.length().map_or((1..=MAX_SECRET).contains(&length), |only| only == length)
    }

    fn is_aes(self) -> bool {
        matches!(self, SecretKind::Aes128 | SecretKind::Aes192 | SecretKind::Aes256)
    }

    /// Whether such keys encrypt and decrypt.
    pub fn encrypts(self) -> bool {
        self != SecretKind::Generic
    }

    /// Whether such keys wrap and unwrap others.
    pub fn wraps(self) -> bool {
        self.is_aes()
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SecretKind::Aes128 => "AES-128",
            SecretKind::Aes192 => "AES-192",
            SecretKind::Aes256 => "AES-256",
            SecretKind::Des3 => "3DES",
            SecretKind::Generic => "generic secret",
        })
    }
}

/// A secret key, ready to use from any number of threads. All of it lies in protected memory.
pub struct SecretKey {
    kind: SecretKind,
    value: SecretBytes,
    /// By the length of the tag, each made when it is first asked for.
    gcm: [OnceLock<AesGcm>; TagLength::COUNT],
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl SecretKey {
    /// Makes a new key; of a generic secret `length` says how many bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`] for a length that the kind does not have.
    pub fn generate(kind: SecretKind, length: usize) -> Result<Self, CryptoError> {
        let length = kind.length().unwrap_or(length);
        // Before so much memory is taken.
        check_length(kind, length)?;
        let mut value = SecretBytes::zeroed(length);
        loop {
            aws_lc::random(&mut value);
            if kind != SecretKind::Des3 {
                break;
            }
            aws_lc::set_parity(&mut value);
            if !is_degenerate(&value) {
                break;
            }
        }
        Self::new(kind, value)
    }

    /// Takes a key's bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`] if they are too few or too many, or, of triple DES, if two of its keys are the same, so
    /// that it is no more than DES.
    pub fn new(kind: SecretKind, value: SecretBytes) -> Result<Self, CryptoError> {
        check_length(kind, value.len())?;
        if kind == SecretKind::Des3 && is_degenerate(&value) {
            return Err(CryptoError::KeyMalformed(
                "a 3DES key whose parts are the same is one of DES".into(),
            ));
        }
        Ok(Self { kind, value, gcm: Default::default() })
    }

    /// The key's kind.
    pub fn kind(&self) -> SecretKind {
        self.kind
    }

    /// The key's bytes, to be sealed or wrapped.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The bytes of an AES key, for `mechanism`, which takes no others.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SecretKeyDoesNotFit`].
    pub fn aes(&self, mechanism: &'static str) -> Result<&[u8], CryptoError> {
        match self.kind.is_aes() {
            true => Ok(&self.value),
            false => self.does_not_fit(mechanism),
        }
    }

    pub(super) fn does_not_fit<T>(&self, mechanism: &'static str) -> Result<T, CryptoError> {
        Err(CryptoError::SecretKeyDoesNotFit { mechanism, kind: self.kind })
    }

    /// The expanded key for tags of this length.
    pub(super) fn gcm(&self, tag: TagLength) -> Result<&AesGcm, CryptoError> {
        let place = self.gcm.get(tag.index()).ok_or_else(|| CryptoError::Library("no such tag".into()))?;
        if let Some(context) = place.get() {
            return Ok(context);
        }
        let context = AesGcm::new(self.aes("AES-GCM")?, tag.bytes())?;
        Ok(place.get_or_init(|| context))
    }
}

fn check_length(kind: SecretKind, length: usize) -> Result<(), CryptoError> {
    if kind.takes(length) {
        return Ok(());
    }
    let expected = kind.length().map_or(format!("1 to {MAX_SECRET}"), |length| length.to_string());
    Err(CryptoError::KeyMalformed(format!("a key of type {kind} has {expected} bytes, not {length}")))
}

/// Whether two neighbouring parts of a triple DES key are the same (NIST SP 800-67, 3.2), parity aside. Not in constant time: such
/// a key is refused.
fn is_degenerate(value: &[u8]) -> bool {
    let same = |(one, other): (&[u8], &[u8])| one.iter().zip(other).all(|(a, b)| (a ^ b) & 0xfe == 0);
    let parts = value.chunks_exact(8);
    parts.clone().zip(parts.skip(1)).any(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_size_and_shows_nothing() {
        for kind in SecretKind::ALL {
            let length = kind.length().unwrap_or(20);
            let key = SecretKey::generate(kind, 20).unwrap();
            assert_eq!((key.kind(), key.value().len()), (kind, length));
            assert_eq!(SecretKind::from_wire(kind.to_wire()), Some(kind));
            assert!(SecretKey::new(kind, SecretBytes::from(key.value())).is_ok());
            for wrong in [0, kind.length().map_or(MAX_SECRET, |length| length) + 1] {
                assert!(SecretKey::new(kind, SecretBytes::zeroed(wrong)).is_err());
            }
            assert_eq!(format!("{key:?}"), format!("SecretKey {{ kind: {kind:?}, .. }}"));
        }
        assert!(SecretKey::generate(SecretKind::Generic, usize::MAX).is_err());
        assert_eq!(SecretKind::from_wire(KeyType::P256), None);
        let new = || SecretKey::generate(SecretKind::Aes256, 0).unwrap();
        assert_ne!(new().value(), new().value());
    }

    #[test]
    fn triple_des_is_no_single_des() {
        let key = SecretKey::generate(SecretKind::Des3, 0).unwrap();
        assert!(key.value().iter().all(|byte| byte.count_ones() % 2 == 1));
        let mut twice = SecretBytes::from(key.value());
        let (first, rest) = twice.split_at_mut(8);
        rest[..8].copy_from_slice(first);
        // The parity does not tell two keys apart.
        rest[0] ^= 1;
        assert!(SecretKey::new(SecretKind::Des3, twice).is_err());
        assert!(matches!(key.aes("AES-GCM"), Err(CryptoError::SecretKeyDoesNotFit { .. })));
    }
}
