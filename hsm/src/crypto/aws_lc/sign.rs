//! Signatures made and verified by the library.
//!
//! RSA signatures are verified with the public key before they leave, and blinding is on: AWS-LC's
//! `rsa_default_private_transform` does both for every key that has its public exponent, which all keys here
//! have (`kind_of`). A test with a damaged CRT parameter holds it to that.

use super::sys as c;

use super::keys::Kept;
use super::owned::{Bignum, EcdsaSig};
use super::{PrivateKey, PublicKey, library_error};
use crate::crypto::{CryptoError, Hash, Mechanism};

/// Ed25519 signatures have this many bytes.
const ED25519_SIGNATURE: usize = 64;

impl PrivateKey {
    /// Signs `data`. Blocks for the time of the computation: 15 µs to several milliseconds.
    ///
    /// # Errors
    ///
    /// What [`Mechanism::check`] says, and [`CryptoError::Library`].
    pub fn sign(&self, mechanism: Mechanism, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut signature = vec![0; self.kind().signature_length()];
        self.sign_into(mechanism, data, &mut signature)?;
        Ok(signature)
    }

    /// Signs like [`PrivateKey::sign`], into a buffer of [`signature_length`](crate::crypto::KeyKind::signature_length) bytes. After an error the
    /// buffer is zero.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::sign`].
    pub fn sign_into(
        &self,
        mechanism: Mechanism,
        data: &[u8],
        signature: &mut [u8],
    ) -> Result<(), CryptoError> {
        mechanism.check(self.kind(), data.len())?;
        if signature.len() != self.kind().signature_length() {
            return Err(CryptoError::Library("a signature's buffer has another length".to_owned()));
        }
        let made = match mechanism {
            Mechanism::RsaPkcs => self.sign_rsa(signature, |rsa, out, out_length, room| {
                // SAFETY: `rsa` is this key's, `out` has `room` bytes, and `data` is a valid slice.
                unsafe {
                    c::RSA_sign_raw(
                        rsa,
                        out_length,
                        out,
                        room,
                        data.as_ptr(),
                        data.len(),
                        c::RSA_PKCS1_PADDING,
                    )
                }
            }),
            Mechanism::RsaPss { hash, mgf1_hash, salt_length } => {
                let salt_length = pss_salt(salt_length)?;
                self.sign_rsa(signature, |rsa, out, out_length, room| {
                    // SAFETY: as above; the digest functions are static.
                    unsafe {
                        c::RSA_sign_pss_mgf1(
                            rsa,
                            out_length,
                            out,
                            room,
                            data.as_ptr(),
                            data.len(),
                            digest(hash),
                            digest(mgf1_hash),
                            salt_length,
                        )
                    }
                })
            }
            Mechanism::Ecdsa => self.sign_ecdsa(data, signature),
            Mechanism::EdDsa => match &self.kept {
                Kept::Library(_) => self.sign_ed25519(data, signature),
                Kept::Curve448(key) => key.sign_into(data, signature),
            },
            Mechanism::MlDsa => self.sign_ml_dsa(data, signature),
        };
        if made.is_err() {
            // What was computed may be faulty and reveal the key.
            zeroize::Zeroize::zeroize(signature);
        }
        made
    }

    fn sign_rsa(
        &self,
        signature: &mut [u8],
        sign: impl FnOnce(*mut c::RSA, *mut u8, *mut usize, usize) -> std::ffi::c_int,
    ) -> Result<(), CryptoError> {
        // SAFETY: the mechanism fits the key, so that this is an RSA key; the pointer is borrowed from it.
        let rsa = unsafe { c::EVP_PKEY_get0_RSA(self.kept.pkey()?.as_ptr()) };
        let (size, mut length) = (signature.len(), 0);
        if sign(rsa, signature.as_mut_ptr(), &mut length, size) != 1 || length != size {
            return Err(library_error("signing with an RSA key"));
        }
        Ok(())
    }

    fn sign_ecdsa(&self, digest: &[u8], signature: &mut [u8]) -> Result<(), CryptoError> {
        let size = signature.len() / 2;
        let (r_bytes, s_bytes) = signature.split_at_mut(size);
        // SAFETY: the mechanism fits the key, so that this is an EC key, borrowed from `pkey`; r and s are
        // borrowed from the signature object; the halves of the buffer have `size` bytes each.
        let written = unsafe {
            let key = c::EVP_PKEY_get0_EC_KEY(self.kept.pkey()?.as_ptr());
            let made = EcdsaSig::new(c::ECDSA_do_sign(digest.as_ptr(), digest.len(), key))
                .ok_or_else(|| library_error("signing with an EC key"))?;
            let (mut r, mut s) = (std::ptr::null(), std::ptr::null());
            c::ECDSA_SIG_get0(made.as_ptr(), &mut r, &mut s);
            c::BN_bn2bin_padded(r_bytes.as_mut_ptr(), size, r) == 1
                && c::BN_bn2bin_padded(s_bytes.as_mut_ptr(), size, s) == 1
        };
        if written { Ok(()) } else { Err(library_error("writing an ECDSA signature")) }
    }

    pub(super) fn sign_ed25519(&self, message: &[u8], signature: &mut [u8]) -> Result<(), CryptoError> {
        let (Some(pair), ED25519_SIGNATURE) = (self.ed25519.as_ref(), signature.len()) else {
            return Err(CryptoError::Library("no Ed25519 key, or no room for its signature".to_owned()));
        };
        // SAFETY: the output has 64 bytes, the key 64 (see keys.rs), the message is a valid slice.
        let result = unsafe {
            c::ED25519_sign(signature.as_mut_ptr(), message.as_ptr(), message.len(), pair.as_ptr())
        };
        if result == 1 { Ok(()) } else { Err(library_error("signing with an Ed25519 key")) }
    }
}

impl PublicKey {
    /// Verifies a signature in the form that [`PrivateKey::sign`] makes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SignatureWrong`], and what [`Mechanism::check`] says.
    pub fn verify(&self, mechanism: Mechanism, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        mechanism.check(self.kind(), data.len())?;
        let right = match mechanism {
            Mechanism::RsaPkcs => {
                self.public_operation(signature, c::RSA_PKCS1_PADDING).is_some_and(|signed| signed == data)
            }
            Mechanism::RsaPss { hash, mgf1_hash, salt_length } => {
                let salt_length = pss_salt(salt_length)?;
                // SAFETY: the mechanism fits the key; all slices are valid for the lengths passed.
                unsafe {
                    c::RSA_verify_pss_mgf1(
                        c::EVP_PKEY_get0_RSA(self.kept.pkey()?.as_ptr()),
                        data.as_ptr(),
                        data.len(),
                        digest(hash),
                        digest(mgf1_hash),
                        salt_length,
                        signature.as_ptr(),
                        signature.len(),
                    ) == 1
                }
            }
            Mechanism::Ecdsa => self.verify_ecdsa(data, signature),
            Mechanism::EdDsa => {
                return match &self.kept {
                    Kept::Library(_) => self.verify_ed25519(data, signature),
                    Kept::Curve448(key) => key.verify(data, signature),
                };
            }
            Mechanism::MlDsa => self.verify_ml_dsa(data, signature),
        };
        wrong_unless(right)
    }

    /// Verifies a signature that was made without padding (CKM_RSA_X_509): of `data` with zeros before it.
    ///
    /// # Errors
    ///
    /// [`CryptoError::MechanismDoesNotFit`] if this is no RSA key; [`CryptoError::SignatureWrong`].
    pub fn verify_without_padding(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        Mechanism::RsaPkcs.check(self.kind(), 0)?;
        let mut block = vec![0; signature.len().saturating_sub(data.len())];
        block.extend_from_slice(data);
        wrong_unless(self.public_operation(signature, c::RSA_NO_PADDING).as_ref() == Some(&block))
    }

    /// What was signed: with PKCS#1 v1.5's padding taken away, or the block as it is.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SignatureWrong`], and [`CryptoError::MechanismDoesNotFit`] if this is no RSA key.
    pub fn recover(&self, is_padded: bool, signature: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Mechanism::RsaPkcs.check(self.kind(), 0)?;
        if signature.len() != self.kind().signature_length() {
            return Err(CryptoError::SignatureWrong);
        }
        let padding = if is_padded { c::RSA_PKCS1_PADDING } else { c::RSA_NO_PADDING };
        self.public_operation(signature, padding).ok_or(CryptoError::SignatureWrong)
    }

    /// The public operation on `signature`, with the padding taken away. This is an RSA key.
    fn public_operation(&self, signature: &[u8], padding: std::ffi::c_int) -> Option<Vec<u8>> {
        let pkey = self.kept.pkey().ok()?;
        // SAFETY: the key is an RSA key; the output buffer is as large as the modulus, and its true length is passed.
        unsafe {
            let rsa = c::EVP_PKEY_get0_RSA(pkey.as_ptr());
            let mut block = vec![0; c::RSA_size(rsa) as usize];
            let mut length = 0;
            let result = c::RSA_verify_raw(
                rsa,
                &mut length,
                block.as_mut_ptr(),
                block.len(),
                signature.as_ptr(),
                signature.len(),
                padding,
            );
            block.truncate(length);
            (result == 1).then_some(block)
        }
    }

    fn verify_ecdsa(&self, digest: &[u8], signature: &[u8]) -> bool {
        let size = self.kind().ec_scalar().unwrap_or_default();
        let halves = signature.split_at_checked(size).filter(|(_, s)| s.len() == size);
        let (Some((r, s)), Ok(pkey)) = (halves, self.kept.pkey()) else { return false };
        // SAFETY: numbers are owned until ECDSA_SIG_set0 has taken both; the slices are valid.
        unsafe {
            let number =
                |bytes: &[u8]| Bignum::new(c::BN_bin2bn(bytes.as_ptr(), bytes.len(), std::ptr::null_mut()));
            let (Some(r), Some(s), Some(made)) = (number(r), number(s), EcdsaSig::new(c::ECDSA_SIG_new()))
            else {
                return false;
            };
            if c::ECDSA_SIG_set0(made.as_ptr(), r.as_ptr(), s.as_ptr()) != 1 {
                return false;
            }
            std::mem::forget((r, s));
            let key = c::EVP_PKEY_get0_EC_KEY(pkey.as_ptr());
            c::ECDSA_do_verify(digest.as_ptr(), digest.len(), made.as_ptr(), key) == 1
        }
    }

    pub(super) fn verify_ed25519(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut public = [0u8; 32];
        let mut length = public.len();
        if signature.len() != ED25519_SIGNATURE {
            return Err(CryptoError::SignatureWrong);
        }
        let pkey = self.kept.pkey()?;
        // SAFETY: the output has the length passed; the signature has 64 bytes, the public key 32.
        let right = unsafe {
            c::EVP_PKEY_get_raw_public_key(pkey.as_ptr(), public.as_mut_ptr(), &mut length) == 1
                && c::ED25519_verify(message.as_ptr(), message.len(), signature.as_ptr(), public.as_ptr())
                    == 1
        };
        wrong_unless(right)
    }
}

fn wrong_unless(right: bool) -> Result<(), CryptoError> {
    if right {
        return Ok(());
    }
    // SAFETY: clears this thread's error queue: what a wrong signature leaves there is not a failure of ours.
    unsafe { c::ERR_clear_error() };
    Err(CryptoError::SignatureWrong)
}

/// The salt's length as the library takes it; its negative values, which have special meanings, never occur.
pub(super) fn pss_salt(length: usize) -> Result<std::ffi::c_int, CryptoError> {
    length
        .try_into()
        .map_err(|_| CryptoError::ParameterWrong(format!("a salt of {length} bytes is too long")))
}

pub(super) fn digest(hash: Hash) -> *const c::EVP_MD {
    // SAFETY: these return pointers to constants.
    unsafe {
        match hash {
            Hash::Sha1 => c::EVP_sha1(),
            Hash::Sha224 => c::EVP_sha224(),
            Hash::Sha256 => c::EVP_sha256(),
            Hash::Sha384 => c::EVP_sha384(),
            Hash::Sha512 => c::EVP_sha512(),
            Hash::Sha3_224 => c::EVP_sha3_224(),
            Hash::Sha3_256 => c::EVP_sha3_256(),
            Hash::Sha3_384 => c::EVP_sha3_384(),
            Hash::Sha3_512 => c::EVP_sha3_512(),
        }
    }
}
