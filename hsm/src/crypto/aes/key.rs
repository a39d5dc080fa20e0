//! AES keys.

use std::fmt;
use std::sync::OnceLock;

use strongroom_protocol::v1::KeyType;

use super::gcm::TagLength;
use crate::crypto::CryptoError;
use crate::crypto::aws_lc::{self, AesGcm};
use crate::memory::SecretBytes;

/// The sizes of AES keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AesKind {
    /// 16 bytes.
    Aes128,
    /// 24 bytes.
    Aes192,
    /// 32 bytes.
    Aes256,
}

impl AesKind {
    /// Every kind.
    pub const ALL: [AesKind; 3] = [AesKind::Aes128, AesKind::Aes192, AesKind::Aes256];

    /// The kind that a message names; `None` if that is no type of AES keys.
    pub fn from_wire(key_type: KeyType) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_wire() == key_type)
    }

    /// The kind as messages name it.
    pub fn to_wire(self) -> KeyType {
        match self {
            AesKind::Aes128 => KeyType::Aes128,
            AesKind::Aes192 => KeyType::Aes192,
            AesKind::Aes256 => KeyType::Aes256,
        }
    }

    /// The size of a key in bytes.
    pub fn length(self) -> usize {
        match self {
            AesKind::Aes128 => 16,
            AesKind::Aes192 => 24,
            AesKind::Aes256 => 32,
        }
    }
}

impl fmt::Display for AesKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AES-{}", self.length() * 8)
    }
}

/// An AES key, ready to use from any number of threads. All of it lies in protected memory.
pub struct AesKey {
    kind: AesKind,
    value: SecretBytes,
    /// By the length of the tag, each made when it is first asked for.
    gcm: [OnceLock<AesGcm>; TagLength::COUNT],
}

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl AesKey {
    /// Makes a new key.
    pub fn generate(kind: AesKind) -> Self {
        let mut value = SecretBytes::zeroed(kind.length());
        aws_lc::random(&mut value);
        Self { kind, value, gcm: Default::default() }
    }

    /// Takes a key's bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`] if they are too few or too many.
    pub fn new(kind: AesKind, value: SecretBytes) -> Result<Self, CryptoError> {
        match value.len() == kind.length() {
            true => Ok(Self { kind, value, gcm: Default::default() }),
            false => Err(CryptoError::KeyMalformed(format!(
                "a key of type {kind} has {} bytes, not {}",
                kind.length(),
                value.len()
            ))),
        }
    }

    /// The key's size.
    pub fn kind(&self) -> AesKind {
        self.kind
    }

    /// The key's bytes, to be sealed.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The expanded key for tags of this length.
    pub(super) fn gcm(&self, tag: TagLength) -> Result<&AesGcm, CryptoError> {
        let place = self.gcm.get(tag.index()).ok_or_else(|| CryptoError::Library("no such tag".into()))?;
        if let Some(context) = place.get() {
            return Ok(context);
        }
        let context = AesGcm::new(&self.value, tag.bytes())?;
        Ok(place.get_or_init(|| context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_size_and_shows_nothing() {
        for kind in AesKind::ALL {
            let key = AesKey::generate(kind);
            assert_eq!((key.kind(), key.value().len()), (kind, kind.length()));
            assert_eq!(AesKind::from_wire(kind.to_wire()), Some(kind));
            assert!(AesKey::new(kind, SecretBytes::zeroed(kind.length())).is_ok());
            for wrong in [0, kind.length() - 1, kind.length() + 1] {
                assert!(AesKey::new(kind, SecretBytes::zeroed(wrong)).is_err());
            }
            assert_eq!(format!("{key:?}"), format!("AesKey {{ kind: {kind:?}, .. }}"));
        }
        assert_eq!(AesKind::from_wire(KeyType::P256), None);
        assert_ne!(AesKey::generate(AesKind::Aes256).value(), AesKey::generate(AesKind::Aes256).value());
    }
}
