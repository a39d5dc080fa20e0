//! A key's numbers, as crypto_mb takes them, and the blocks that RSA works on.

use super::sys as c;
use strongroom_crypto_mb::{CryptoMb, Curve, RsaSize};

use super::owned::Pkey;
use super::sign::{digest, pss_salt};
use super::{PrivateKey, check, library_error};
use crate::crypto::{CryptoError, KeyKind, Mechanism};
use crate::memory::SecretWords;

/// The numbers of a private key as arrays of 64-bit words, the least first.
#[derive(Debug)]
pub enum Parts {
    /// Of an RSA key.
    Rsa {
        /// The modulus's size.
        size: RsaSize,
        /// p, q, d mod (p-1), d mod (q-1), q^-1 mod p, one after the other.
        private: SecretWords,
        /// The modulus, where the public exponent is 65537.
        modulus: Option<Vec<u64>>,
    },
    /// Of a key on a NIST curve.
    Ecdsa {
        /// The curve.
        curve: Curve,
        /// The private number.
        key: SecretWords,
    },
}

impl Parts {
    /// Takes the parts of a key. `None` if crypto_mb is not used, or has no use for this key: an Ed25519 key is
    /// kept in the form that both engines take, and RSA keys whose primes have different sizes fit no lane.
    pub(super) fn of(pkey: &Pkey, kind: KeyKind) -> Result<Option<Self>, CryptoError> {
        if CryptoMb::detect().is_err() {
            return Ok(None);
        }
        match kind {
            KeyKind::Rsa2048 => rsa(pkey, RsaSize::Bits2048),
            KeyKind::Rsa3072 => rsa(pkey, RsaSize::Bits3072),
            KeyKind::Rsa4096 => rsa(pkey, RsaSize::Bits4096),
            KeyKind::P256 => ecdsa(pkey, Curve::P256).map(Some),
            KeyKind::P384 => ecdsa(pkey, Curve::P384).map(Some),
            KeyKind::P521 => ecdsa(pkey, Curve::P521).map(Some),
            // What is not batched, and Ed25519.
            _ => Ok(None),
        }
    }
}

fn rsa(pkey: &Pkey, size: RsaSize) -> Result<Option<Parts>, CryptoError> {
    // SAFETY: called for RSA keys only; all numbers are borrowed from the key, which outlives this function.
    let (numbers, n, fits, is_f4) = unsafe {
        let rsa = c::EVP_PKEY_get0_RSA(pkey.as_ptr());
        let (p, q) = (c::RSA_get0_p(rsa), c::RSA_get0_q(rsa));
        let numbers = [p, q, c::RSA_get0_dmp1(rsa), c::RSA_get0_dmq1(rsa), c::RSA_get0_iqmp(rsa)];
        let half = (size.bits() / 2) as u32;
        let fits = numbers.iter().all(|number| !number.is_null())
            && [p, q].iter().all(|prime| c::BN_num_bits(*prime) == half);
        (numbers, c::RSA_get0_n(rsa), fits, c::BN_is_word(c::RSA_get0_e(rsa), c::RSA_F4 as u64) == 1)
    };
    if !fits {
        return Ok(None);
    }
    let half = size.words() / 2;
    let mut private = SecretWords::zeroed(numbers.len() * half);
    for (number, words) in numbers.into_iter().zip(private.chunks_exact_mut(half)) {
        // SAFETY: not null, see above.
        unsafe { write(number, words) }?;
    }
    let modulus = match is_f4 {
        true => {
            let mut modulus = vec![0; size.words()];
            // SAFETY: an RSA key has its modulus.
            unsafe { write(n, &mut modulus) }?;
            Some(modulus)
        }
        false => None,
    };
    Ok(Some(Parts::Rsa { size, private, modulus }))
}

fn ecdsa(pkey: &Pkey, curve: Curve) -> Result<Parts, CryptoError> {
    let mut key = SecretWords::zeroed(curve.words());
    // SAFETY: called for private EC keys only; the number is borrowed from the key.
    unsafe {
        let number = c::EC_KEY_get0_private_key(c::EVP_PKEY_get0_EC_KEY(pkey.as_ptr()));
        if number.is_null() {
            return Err(library_error("reading an EC key"));
        }
        write(number, &mut key)?;
    }
    Ok(Parts::Ecdsa { curve, key })
}

/// Writes a number as words. Constant-time for what the number is.
///
/// # Safety
///
/// `number` is a valid number.
unsafe fn write(number: *const c::BIGNUM, words: &mut [u64]) -> Result<(), CryptoError> {
    // SAFETY: the output has as many bytes as are passed; u64 may have any bits.
    let written = unsafe { c::BN_bn2le_padded(words.as_mut_ptr().cast(), size_of_val(words), number) };
    words.iter_mut().for_each(|word| *word = u64::from_le(*word));
    check(written, "reading a key's numbers")
}

impl PrivateKey {
    /// What crypto_mb takes of this key.
    pub fn parts(&self) -> Option<&Parts> {
        self.parts.as_ref()
    }

    /// Seed and public key of an Ed25519 key.
    pub fn ed25519(&self) -> Option<(&[u8; 32], &[u8; 32])> {
        let (seed, public) = self.ed25519.as_ref()?.split_first_chunk()?;
        Some((seed, public.first_chunk()?))
    }

    /// Makes of what is signed the block that an RSA key's private operation is done on (RFC 8017, 9.1.1 and 9.2
    /// from step 3 on), as long as the modulus.
    ///
    /// # Errors
    ///
    /// What [`Mechanism::check`] says, and [`CryptoError::Library`].
    pub fn pad(&self, mechanism: Mechanism, data: &[u8], block: &mut [u8]) -> Result<(), CryptoError> {
        mechanism.check(self.kind(), data.len())?;
        match mechanism {
            Mechanism::RsaPkcs => pad_pkcs1(data, block),
            Mechanism::RsaPss { hash, mgf1_hash, salt_length } => {
                let salt_length = pss_salt(salt_length)?;
                if block.len() != self.kind().signature_length() || data.len() != hash.length() {
                    return Err(CryptoError::Library("a block of another length".to_owned()));
                }
                // SAFETY: the mechanism fits the key, so that this is an RSA key; the block is as long as its
                // modulus and the digest as its hash says (checked above).
                let padded = unsafe {
                    c::RSA_padding_add_PKCS1_PSS_mgf1(
                        c::EVP_PKEY_get0_RSA(self.kept.pkey()?.as_ptr()),
                        block.as_mut_ptr(),
                        data.as_ptr(),
                        digest(hash),
                        digest(mgf1_hash),
                        salt_length,
                    )
                };
                check(padded, "padding for RSA-PSS")
            }
            Mechanism::Ecdsa | Mechanism::EdDsa | Mechanism::MlDsa => {
                Err(CryptoError::Library("a block for a key without blocks".to_owned()))
            }
        }
    }

    /// Whether an RSA key's public operation makes `block` of `signature`.
    pub fn gives(&self, signature: &[u8], block: &[u8]) -> bool {
        let mut opened = [0; 512];
        let size = self.kind().signature_length();
        let Some(opened) = opened.get_mut(..size) else { return false };
        if self.kind().rsa_bits().is_none() || signature.len() != size {
            return false;
        }
        let Ok(pkey) = self.kept.pkey() else { return false };
        let mut length = 0;
        // SAFETY: an RSA key, see above; the output has as many bytes as are passed, as many as the modulus.
        let done = unsafe {
            c::RSA_verify_raw(
                c::EVP_PKEY_get0_RSA(pkey.as_ptr()),
                &mut length,
                opened.as_mut_ptr(),
                size,
                signature.as_ptr(),
                size,
                c::RSA_NO_PADDING,
            ) == 1
        };
        if !done {
            // SAFETY: clears this thread's error queue; the caller is told.
            unsafe { c::ERR_clear_error() };
        }
        done && length == size && *opened == *block
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017, 9.2): 00 01 ff … ff 00 and the DigestInfo.
fn pad_pkcs1(digest_info: &[u8], block: &mut [u8]) -> Result<(), CryptoError> {
    let padding = block.len().checked_sub(digest_info.len() + 3).filter(|padding| *padding >= 8);
    let too_long = || CryptoError::Library("a DigestInfo that does not fit its block".to_owned());
    let (head, tail) = block.split_at_mut_checked(padding.ok_or_else(too_long)? + 3).ok_or_else(too_long)?;
    head.fill(0xff);
    if let [first, second, .., last] = head {
        (*first, *second, *last) = (0, 1, 0);
    }
    tail.copy_from_slice(digest_info);
    Ok(())
}
