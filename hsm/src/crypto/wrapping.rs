//! How keys go out and come in: wrapped with another key.
//!
//! What is wrapped stands in protected memory on this side, and is parsed there.

use std::sync::Arc;

use super::CryptoError;
use super::aws_lc::{self, Direction, Padding, PrivateKey, PublicKey};
use super::symmetric::{BlockMode, SecretKey};
use crate::memory::SecretBytes;

/// A way to wrap a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping<'a> {
    /// AES key wrap (NIST SP 800-38F, KW), of multiples of 8 bytes.
    KeyWrap,
    /// AES key wrap with padding (SP 800-38F, KWP).
    KeyWrapPadded,
    /// RSA of the key itself, with OAEP or with PKCS#1 v1.5's padding: short ones.
    Rsa(Padding<'a>),
    /// RSA-OAEP of an AES key of so many bytes (16, 24 or 32) that is made for the purpose, followed by KWP with that
    /// (PKCS#11 3.0, 6.1.20). Unwrapping takes any of the three sizes.
    RsaAes(Padding<'a>, usize),
    /// AES-CBC with PKCS#7's padding, and its IV, as PKCS#12 files have it. Keys come in this way and do not go out: nothing in it tells
    /// whether it was changed.
    CbcPadded(&'a [u8]),
}

impl Wrapping<'_> {
    fn name(self) -> &'static str {
        match self {
            Wrapping::KeyWrap => "AES key wrap",
            Wrapping::KeyWrapPadded => "AES key wrap with padding",
            Wrapping::Rsa(Padding::Oaep { .. }) => "RSA-OAEP",
            Wrapping::Rsa(_) => "RSA",
            Wrapping::RsaAes(..) => "RSA-OAEP with AES key wrap",
            Wrapping::CbcPadded(_) => "AES-CBC with padding",
        }
    }
}

/// A key that wraps.
#[derive(Debug)]
pub enum WrappingKey {
    /// For AES key wrap.
    Secret(Arc<SecretKey>),
    /// For what begins with RSA.
    Public(PublicKey),
}

/// A key that unwraps.
#[derive(Debug)]
pub enum UnwrappingKey {
    /// For what AES alone unwraps.
    Secret(Arc<SecretKey>),
    /// For what begins with RSA.
    Private(Arc<PrivateKey>),
}

fn does_not_fit<T>(wrapping: Wrapping<'_>, key: &str) -> Result<T, CryptoError> {
    Err(CryptoError::ParameterWrong(format!("{} is not done with {key}", wrapping.name())))
}

impl WrappingKey {
    /// Wraps a key: PKCS#8 of a private key, the value of a secret one.
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`] if this is no key for that way, [`CryptoError::DataLength`] if the key to wrap is
    /// too long for it or, without padding, no multiple of 8 bytes.
    pub fn wrap(&self, wrapping: Wrapping<'_>, key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        match (wrapping, self) {
            (Wrapping::KeyWrap, Self::Secret(with)) => {
                aws_lc::wrap_with_aes(with.aes(wrapping.name())?, false, key)
            }
            (Wrapping::KeyWrapPadded, Self::Secret(with)) => {
                aws_lc::wrap_with_aes(with.aes(wrapping.name())?, true, key)
            }
            (Wrapping::Rsa(padding), Self::Public(with)) => with.encrypt(padding, key),
            (Wrapping::RsaAes(padding, size), Self::Public(with)) => {
                let mut between = SecretBytes::zeroed(size);
                aws_lc::random(&mut between);
                let mut wrapped = with.encrypt(padding, &between)?;
                wrapped.append(&mut aws_lc::wrap_with_aes(&between, true, key)?);
                Ok(wrapped)
            }
            (_, Self::Secret(_)) => does_not_fit(wrapping, "an AES key"),
            (_, Self::Public(_)) => does_not_fit(wrapping, "a public key"),
        }
    }
}

impl UnwrappingKey {
    /// Unwraps a key, as it stands in [`WrappingKey::wrap`], into protected memory.
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`] if this is no key for that way; [`CryptoError::CiphertextWrong`], whatever it is that
    /// does not fit: who sends chosen bytes learns nothing of which step failed.
    pub fn unwrap(&self, wrapping: Wrapping<'_>, wrapped: &[u8]) -> Result<SecretBytes, CryptoError> {
        match (wrapping, self) {
            (Wrapping::KeyWrap, Self::Secret(with)) => {
                aws_lc::unwrap_with_aes(with.aes(wrapping.name())?, false, wrapped)
            }
            (Wrapping::KeyWrapPadded, Self::Secret(with)) => {
                aws_lc::unwrap_with_aes(with.aes(wrapping.name())?, true, wrapped)
            }
            (Wrapping::CbcPadded(iv), Self::Secret(with)) => without_padding(with, iv, wrapped),
            (Wrapping::Rsa(padding), Self::Private(with)) => decrypted(with, padding, wrapped),
            (Wrapping::RsaAes(padding, _), Self::Private(with)) => {
                let size = with.kind().rsa_bits().map_or(0, |bits| bits as usize / 8);
                let Some((encrypted, rest)) = wrapped.split_at_checked(size) else {
                    return Err(CryptoError::CiphertextWrong);
                };
                let between = decrypted(with, padding, encrypted)?;
                // Another length is no AES key's.
                aws_lc::unwrap_with_aes(&between, true, rest).map_err(|_| CryptoError::CiphertextWrong)
            }
            (_, Self::Secret(_)) => does_not_fit(wrapping, "an AES key"),
            (_, Self::Private(_)) => does_not_fit(wrapping, "a private key"),
        }
    }
}

/// RFC 5652, 6.3.
fn without_padding(key: &SecretKey, iv: &[u8], ciphertext: &[u8]) -> Result<SecretBytes, CryptoError> {
    let mut plain = SecretBytes::zeroed(ciphertext.len());
    BlockMode::AesCbc.run(key, Direction::Decrypt, iv, ciphertext, &mut plain).map_err(
        |error| match error {
            CryptoError::DataLength { .. } => CryptoError::CiphertextWrong,
            other => other,
        },
    )?;
    let padding = plain.last().copied().filter(|padding| (1..=16).contains(padding));
    let padding = padding.ok_or(CryptoError::CiphertextWrong)?;
    // Whole blocks, of which there is one.
    let (key, rest) = plain.split_at(plain.len() - usize::from(padding));
    match rest.iter().all(|byte| *byte == padding) {
        true => Ok(SecretBytes::from(key)),
        false => Err(CryptoError::CiphertextWrong),
    }
}

fn decrypted(key: &PrivateKey, padding: Padding<'_>, ciphertext: &[u8]) -> Result<SecretBytes, CryptoError> {
    let (plain, length) = key.decrypt(padding, ciphertext).map_err(|error| match error {
        CryptoError::DataLength { .. } => CryptoError::CiphertextWrong,
        other => other,
    })?;
    Ok(SecretBytes::from(plain.get(..length).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::symmetric::SecretKind;
    use crate::crypto::{Hash, KeyKind};

    fn oaep(hash: Hash) -> Padding<'static> {
        Padding::Oaep { hash, mgf1_hash: hash, label: b"" }
    }

    #[test]
    fn each_way_comes_back_and_no_other_does() {
        let rsa = Arc::new(PrivateKey::generate(KeyKind::Rsa2048).unwrap());
        let public = || PublicKey::from_spki(&rsa.public_spki().unwrap()).unwrap();
        let aes = Arc::new(SecretKey::generate(SecretKind::Aes256, 0).unwrap());
        let ways = [
            (Wrapping::KeyWrap, WrappingKey::Secret(Arc::clone(&aes))),
            (Wrapping::KeyWrapPadded, WrappingKey::Secret(Arc::clone(&aes))),
            (Wrapping::Rsa(oaep(Hash::Sha256)), WrappingKey::Public(public())),
            (Wrapping::Rsa(Padding::Pkcs1), WrappingKey::Public(public())),
            (Wrapping::RsaAes(oaep(Hash::Sha1), 32), WrappingKey::Public(public())),
            (Wrapping::RsaAes(oaep(Hash::Sha384), 16), WrappingKey::Public(public())),
        ];
        for (way, key) in &ways {
            let wrapped = key.wrap(*way, &[9; 32]).unwrap();
            for (other, opener) in &ways {
                let opener = match opener {
                    WrappingKey::Secret(_) => UnwrappingKey::Secret(Arc::clone(&aes)),
                    WrappingKey::Public(_) => UnwrappingKey::Private(Arc::clone(&rsa)),
                };
                match opener.unwrap(*other, &wrapped) {
                    Ok(plain) => assert_eq!((&*plain, way), (&[9; 32][..], other)),
                    Err(error) => assert!(way != other && error == CryptoError::CiphertextWrong),
                }
            }
        }
        // Longer than RSA-OAEP takes, and with AES between them not.
        let [.., oaep_only, with_aes, _] = &ways;
        let long = vec![1; 1000];
        assert!(matches!(oaep_only.1.wrap(oaep_only.0, &long), Err(CryptoError::DataLength { .. })));
        assert_eq!(with_aes.1.wrap(with_aes.0, &long).unwrap().len(), 256 + 1008);
        // In, and not out.
        let iv = [7; 16];
        let mut padded = [16; 48];
        padded[..32].fill(0x99);
        let mut wrapped = [0; 48];
        BlockMode::AesCbc.run(&aes, Direction::Encrypt, &iv, &padded, &mut wrapped).unwrap();
        let opener = UnwrappingKey::Secret(Arc::clone(&aes));
        assert_eq!(&*opener.unwrap(Wrapping::CbcPadded(&iv), &wrapped).unwrap(), &[0x99; 32]);
        for wrong in [&wrapped[..0], &wrapped[..47], &wrapped[..32]] {
            let outcome = opener.unwrap(Wrapping::CbcPadded(&iv), wrong);
            assert_eq!(outcome.err(), Some(CryptoError::CiphertextWrong));
        }
        for wrong in [&iv[..15], &[]] {
            let outcome = opener.unwrap(Wrapping::CbcPadded(wrong), &wrapped);
            assert!(matches!(outcome, Err(CryptoError::ParameterWrong(_))));
        }
        let out = ways[0].1.wrap(Wrapping::CbcPadded(&iv), &[9; 32]);
        assert!(matches!(out, Err(CryptoError::ParameterWrong(_))));
        // Keys of the other kind.
        for (way, key) in [(Wrapping::KeyWrap, &with_aes.1), (with_aes.0, &ways[0].1)] {
            assert!(matches!(key.wrap(way, &[9; 32]), Err(CryptoError::ParameterWrong(_))));
        }
        let secret = UnwrappingKey::Secret(aes);
        assert!(matches!(secret.unwrap(with_aes.0, &[1; 300]), Err(CryptoError::ParameterWrong(_))));
        let private = UnwrappingKey::Private(rsa);
        assert!(matches!(private.unwrap(Wrapping::KeyWrap, &[1; 24]), Err(CryptoError::ParameterWrong(_))));
    }
}
