//! What an RSA key decrypts.
//!
//! The private operation is blinded, and its result checked with the public exponent before anything is made of it, as
//! for signatures (sign.rs). The padding is looked at in constant time: neither the time nor the error tells which
//! byte of it was wrong. What is told, because PKCS#11 has a code for it, is whether it was right; and then the
//! plaintext's length. For [`Padding::Pkcs1`] that is enough to decrypt with some ten thousand questions (Bleichenbacher,
//! 1998): an application that answers strangers asks for [`Padding::None`] and hides what it finds, or uses OAEP.

use super::sys as c;

use super::owned::PkeyContext;
use super::sign::digest;
use super::{PrivateKey, check, library_error};
use crate::crypto::{CryptoError, Hash, KeyKind};
use crate::memory::SecretBytes;

/// How a plaintext was padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding<'a> {
    /// Not at all: the plaintext is as long as the modulus.
    None,
    /// RSAES-PKCS1-v1_5 (RFC 8017, 7.2).
    Pkcs1,
    /// RSAES-OAEP (RFC 8017, 7.1).
    Oaep {
        /// Hash of the label.
        hash: Hash,
        /// Hash of the mask generation function.
        mgf1_hash: Hash,
        /// The label.
        label: &'a [u8],
    },
}

impl PrivateKey {
    /// Decrypts, and returns the plaintext's length in `plaintext`, which is as long as the modulus. Blocks for the time
    /// of the computation: up to several milliseconds.
    ///
    /// # Errors
    ///
    /// [`CryptoError::MechanismDoesNotFit`] for a key that is no RSA key, [`CryptoError::DataLength`],
    /// [`CryptoError::ParameterWrong`] for hashes that are too long for the key, and
    /// [`CryptoError::CiphertextWrong`] for whatever else is wrong. `plaintext` is to be wiped in any case.
    pub fn decrypt(
        &self,
        padding: Padding<'_>,
        ciphertext: &[u8],
    ) -> Result<(SecretBytes, usize), CryptoError> {
        let size = self.check_ciphertext(ciphertext.len())?;
        let context = self.decryption(padding)?;
        let mut plaintext = SecretBytes::zeroed(size);
        let mut length = plaintext.len();
        // SAFETY: the context was prepared above and has its key; the output has the length passed, as many bytes as
        // the modulus; the input is a valid slice.
        let done = unsafe {
            c::EVP_PKEY_decrypt(
                context.as_ptr(),
                plaintext.as_mut_ptr(),
                &mut length,
                ciphertext.as_ptr(),
                ciphertext.len(),
            ) == 1
        };
        if done && length <= size {
            return Ok((plaintext, length));
        }
        // SAFETY: clears this thread's error queue: why is nobody's business.
        unsafe { c::ERR_clear_error() };
        Err(CryptoError::CiphertextWrong)
    }

    /// Checks that this is an RSA key and that its ciphertexts have `length` bytes, which it returns: as many as the modulus.
    ///
    /// # Errors
    ///
    /// [`CryptoError::MechanismDoesNotFit`], [`CryptoError::DataLength`].
    pub fn check_ciphertext(&self, length: usize) -> Result<usize, CryptoError> {
        let (mechanism, kind) = ("RSA decryption", self.kind());
        match kind.rsa_bits().map(|bits| bits as usize / 8) {
            None => Err(CryptoError::MechanismDoesNotFit { mechanism, kind }),
            Some(size) if size == length => Ok(size),
            Some(size) => Err(CryptoError::DataLength { mechanism, expected: size.to_string(), got: length }),
        }
    }

    fn decryption(&self, padding: Padding<'_>) -> Result<PkeyContext, CryptoError> {
        let context = PkeyContext::of(self.kept.pkey()?)?;
        let number = match padding {
            Padding::None => c::RSA_NO_PADDING,
            Padding::Pkcs1 => c::RSA_PKCS1_PADDING,
            Padding::Oaep { .. } => c::RSA_PKCS1_OAEP_PADDING,
        };
        // SAFETY: the context is valid, of an RSA key.
        unsafe {
            check(c::EVP_PKEY_decrypt_init(context.as_ptr()), "beginning to decrypt")?;
            check(c::EVP_PKEY_CTX_set_rsa_padding(context.as_ptr(), number), "choosing a padding")?;
        }
        if let Padding::Oaep { hash, mgf1_hash, label } = padding {
            choose_oaep(&context, self.kind(), hash, mgf1_hash, label)?;
        }
        Ok(context)
    }
}

/// Gives an operation of an RSA key, for which OAEP is chosen, its parameters.
pub(super) fn choose_oaep(
    context: &PkeyContext,
    kind: KeyKind,
    hash: Hash,
    mgf1_hash: Hash,
    label: &[u8],
) -> Result<(), CryptoError> {
    let size = kind.signature_length();
    if 2 * hash.length() + 2 > size {
        return Err(CryptoError::ParameterWrong("the hash is too long for the key".to_owned()));
    }
    // SAFETY: the context is valid, of an RSA key; the digests are static. The label is copied, and the copy is the
    // context's from the moment that setting it succeeds.
    unsafe {
        check(c::EVP_PKEY_CTX_set_rsa_oaep_md(context.as_ptr(), digest(hash)), "choosing OAEP's hash")?;
        check(c::EVP_PKEY_CTX_set_rsa_mgf1_md(context.as_ptr(), digest(mgf1_hash)), "choosing the mask")?;
        if !label.is_empty() {
            let copy = c::OPENSSL_memdup(label.as_ptr().cast(), label.len());
            if copy.is_null() {
                return Err(library_error("copying a label"));
            }
            if c::EVP_PKEY_CTX_set0_rsa_oaep_label(context.as_ptr(), copy.cast(), label.len()) != 1 {
                c::OPENSSL_free(copy);
                return Err(library_error("setting OAEP's label"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RSA's public operation on a block, by the library's other half.
    fn encrypt(key: &PrivateKey, padding: std::ffi::c_int, data: &[u8]) -> Vec<u8> {
        let mut out = vec![0; key.kind().signature_length()];
        let mut length = 0;
        // SAFETY: an RSA key; the output has as many bytes as are passed.
        let done = unsafe {
            let rsa = c::EVP_PKEY_get0_RSA(key.kept.pkey().unwrap().as_ptr());
            let (to, room) = (out.as_mut_ptr(), out.len());
            c::RSA_encrypt(rsa, &mut length, to, room, data.as_ptr(), data.len(), padding)
        };
        assert_eq!((done, length), (1, out.len()));
        out
    }

    fn opened(key: &PrivateKey, padding: Padding<'_>, ciphertext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        key.decrypt(padding, ciphertext).map(|(plaintext, length)| plaintext[..length].to_vec())
    }

    /// EME-PKCS1-v1_5, by hand.
    fn block(first: [u8; 2], padding: usize, message: &[u8]) -> Vec<u8> {
        [&first[..], &vec![0x5a; padding], &[0], message].concat()
    }

    #[test]
    fn every_flaw_of_a_padding_is_the_same_error() {
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let right = block([0, 2], 250, b"abc");
        assert_eq!(opened(&key, Padding::Pkcs1, &encrypt(&key, c::RSA_NO_PADDING, &right)).unwrap(), b"abc");
        let mut without_end = block([0, 2], 250, b"abc");
        without_end[252] = 1;
        let flawed = [
            block([1, 2], 250, b"abc"),
            block([0, 1], 250, b"abc"),
            // Less than eight bytes of padding.
            block([0, 2], 7, &[1; 246]),
            without_end,
            vec![0; 256],
        ];
        for block in flawed {
            let error = opened(&key, Padding::Pkcs1, &encrypt(&key, c::RSA_NO_PADDING, &block)).unwrap_err();
            assert_eq!(error, CryptoError::CiphertextWrong);
        }
        // No number below the modulus.
        assert_eq!(opened(&key, Padding::Pkcs1, &[0xff; 256]), Err(CryptoError::CiphertextWrong));
        assert_eq!(opened(&key, Padding::None, &[0xff; 256]), Err(CryptoError::CiphertextWrong));
        assert!(matches!(opened(&key, Padding::Pkcs1, &[1; 255]), Err(CryptoError::DataLength { .. })));
    }

    #[test]
    fn without_padding_all_of_the_block_comes_out() {
        let key = PrivateKey::generate(KeyKind::Rsa3072).unwrap();
        let block = block([0, 2], 300, &[9; 81]);
        assert_eq!(opened(&key, Padding::None, &encrypt(&key, c::RSA_NO_PADDING, &block)).unwrap(), block);
    }

    #[test]
    fn oaep_with_the_right_hashes_and_label_only() {
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let sha1 = Padding::Oaep { hash: Hash::Sha1, mgf1_hash: Hash::Sha1, label: b"" };
        let made = encrypt(&key, c::RSA_PKCS1_OAEP_PADDING, b"abc");
        assert_eq!(opened(&key, sha1, &made).unwrap(), b"abc");
        for other in [
            Padding::Oaep { hash: Hash::Sha256, mgf1_hash: Hash::Sha1, label: b"" },
            Padding::Oaep { hash: Hash::Sha1, mgf1_hash: Hash::Sha256, label: b"" },
            Padding::Oaep { hash: Hash::Sha1, mgf1_hash: Hash::Sha1, label: b"x" },
            Padding::Pkcs1,
        ] {
            assert_eq!(opened(&key, other, &made), Err(CryptoError::CiphertextWrong), "{other:?}");
        }
    }

    #[test]
    fn a_faulty_result_is_not_released_and_other_keys_do_not_decrypt() {
        let sound = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let made = encrypt(&sound, c::RSA_PKCS1_PADDING, b"abc");
        assert_eq!(opened(&sound, Padding::Pkcs1, &made).unwrap(), b"abc");
        for padding in [Padding::None, Padding::Pkcs1] {
            assert_eq!(
                opened(&sound.with_a_faulty_half(), padding, &made),
                Err(CryptoError::CiphertextWrong)
            );
        }
        let p256 = PrivateKey::generate(KeyKind::P256).unwrap();
        assert!(matches!(opened(&p256, Padding::None, &made), Err(CryptoError::MechanismDoesNotFit { .. })));
    }
}
