//! AES key wrap (NIST SP 800-38F), and RSA-OAEP the way that the owner of a public key goes.

use super::sys as c;

use super::decrypt::{Padding, choose_oaep};
use super::owned::PkeyContext;
use super::{PublicKey, check, library_error, prepare};
use crate::crypto::CryptoError;
use crate::memory::SecretBytes;

/// Half a block: what key wrap counts in, and what it adds.
const SEMIBLOCK: usize = 8;

/// The direction in which an AES key is expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Wrap,
    Unwrap,
}

/// An expanded AES key in protected memory, wiped on drop.
struct Schedule(SecretBytes);

impl Schedule {
    fn new(key: &[u8], direction: Direction) -> Result<Self, CryptoError> {
        prepare();
        // Aligned to 16 bytes, as all that lies there.
        let mut schedule = SecretBytes::zeroed(size_of::<c::AES_KEY>());
        let bits = (key.len() * 8) as std::ffi::c_uint;
        let to = schedule.as_mut_ptr().cast::<c::AES_KEY>();
        // SAFETY: the key is a slice of as many bits; the place has the size and alignment of an AES_KEY, and is
        // written as a whole. A length that no AES key has is refused.
        let result = unsafe {
            match direction {
                Direction::Wrap => c::AES_set_encrypt_key(key.as_ptr(), bits, to),
                Direction::Unwrap => c::AES_set_decrypt_key(key.as_ptr(), bits, to),
            }
        };
        match result {
            0 => Ok(Self(schedule)),
            _ => Err(CryptoError::KeyMalformed(format!(
                "an AES key has 16, 24 or 32 bytes, not {}",
                key.len()
            ))),
        }
    }

    fn as_ptr(&self) -> *const c::AES_KEY {
        self.0.as_ptr().cast()
    }
}

/// Wraps `plain` with an AES key: KW (SP 800-38F, 6.2), or, `padded`, KWP (6.3). Both begin with the value that the
/// standard gives, so that a key of another kind is noticed.
///
/// # Errors
///
/// [`CryptoError::DataLength`] for what is empty and, without padding, is not a multiple of 8 bytes of at least 16.
pub fn wrap_with_aes(key: &[u8], padded: bool, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let schedule = Schedule::new(key, Direction::Wrap)?;
    let fits = match padded {
        true => !plain.is_empty(),
        false => plain.len() >= 2 * SEMIBLOCK && plain.len().is_multiple_of(SEMIBLOCK),
    };
    if !fits {
        return wrong_length(padded, plain.len());
    }
    let mut wrapped = vec![0; plain.len().next_multiple_of(SEMIBLOCK) + SEMIBLOCK];
    let mut length = 0;
    // SAFETY: the schedule is one for encryption; input and output are distinct slices, the output as long as the
    // standard says; a null value is the standard's.
    let done = unsafe {
        match padded {
            true => {
                let (to, room) = (wrapped.as_mut_ptr(), wrapped.len());
                let from = plain.as_ptr();
                c::AES_wrap_key_padded(schedule.as_ptr(), to, &mut length, room, from, plain.len()) == 1
            }
            false => {
                let (to, from) = (wrapped.as_mut_ptr(), plain.as_ptr());
                let written = c::AES_wrap_key(schedule.as_ptr(), std::ptr::null(), to, from, plain.len());
                length = usize::try_from(written).unwrap_or_default();
                written > 0
            }
        }
    };
    match done && length == wrapped.len() {
        true => Ok(wrapped),
        false => Err(library_error("AES key wrap")),
    }
}

/// Unwraps what [`wrap_with_aes`] wrapped, into protected memory.
///
/// # Errors
///
/// [`CryptoError::CiphertextWrong`] if it was changed, or wrapped with another key or in the other way.
pub fn unwrap_with_aes(key: &[u8], padded: bool, wrapped: &[u8]) -> Result<SecretBytes, CryptoError> {
    let schedule = Schedule::new(key, Direction::Unwrap)?;
    // Without padding three semiblocks are the least (SP 800-38F, table 1).
    let least = if padded { 2 } else { 3 } * SEMIBLOCK;
    if wrapped.len() < least || !wrapped.len().is_multiple_of(SEMIBLOCK) {
        return Err(CryptoError::CiphertextWrong);
    }
    let mut plain = SecretBytes::zeroed(wrapped.len());
    let mut length = 0;
    // SAFETY: the schedule is one for decryption; input and output are distinct slices, the output as long as the
    // input, which is more than is written.
    let done = unsafe {
        match padded {
            true => {
                let (to, room) = (plain.as_mut_ptr(), plain.len());
                let from = wrapped.as_ptr();
                c::AES_unwrap_key_padded(schedule.as_ptr(), to, &mut length, room, from, wrapped.len()) == 1
            }
            false => {
                let (to, from) = (plain.as_mut_ptr(), wrapped.as_ptr());
                let written = c::AES_unwrap_key(schedule.as_ptr(), std::ptr::null(), to, from, wrapped.len());
                length = usize::try_from(written).unwrap_or_default();
                written > 0
            }
        }
    };
    match plain.get(..length) {
        Some(plain) if done => Ok(SecretBytes::from(plain)),
        _ => {
            // SAFETY: clears this thread's error queue.
            unsafe { c::ERR_clear_error() };
            Err(CryptoError::CiphertextWrong)
        }
    }
}

fn wrong_length<T>(padded: bool, got: usize) -> Result<T, CryptoError> {
    let (mechanism, expected) = match padded {
        true => ("AES key wrap with padding", "at least 1".to_owned()),
        false => ("AES key wrap without padding", "a multiple of 8 of at least 16".to_owned()),
    };
    Err(CryptoError::DataLength { mechanism, expected, got })
}

impl PublicKey {
    /// Encrypts with an RSA key (RFC 8017, 7.1.1, 7.2.1, 5.1.1); without padding what is shorter than the modulus gets zeros
    /// before it.
    ///
    /// # Errors
    ///
    /// [`CryptoError::MechanismDoesNotFit`] for a key that is no RSA key or another padding,
    /// [`CryptoError::ParameterWrong`] for a hash that is too long for the key, [`CryptoError::DataLength`].
    pub fn encrypt(&self, padding: Padding<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let kind = self.kind();
        let Some(bits) = kind.rsa_bits() else {
            return Err(CryptoError::MechanismDoesNotFit { mechanism: "RSA encryption", kind });
        };
        let size = bits as usize / 8;
        let (number, taken) = match padding {
            Padding::None => (c::RSA_NO_PADDING, 0),
            Padding::Pkcs1 => (c::RSA_PKCS1_PADDING, 11),
            Padding::Oaep { hash, .. } => (c::RSA_PKCS1_OAEP_PADDING, 2 * hash.length() + 2),
        };
        let context = PkeyContext::of(self.kept.pkey()?)?;
        // SAFETY: the context is valid, of an RSA key.
        unsafe {
            check(c::EVP_PKEY_encrypt_init(context.as_ptr()), "beginning to encrypt")?;
            check(c::EVP_PKEY_CTX_set_rsa_padding(context.as_ptr(), number), "choosing a padding")?;
        }
        if let Padding::Oaep { hash, mgf1_hash, label } = padding {
            choose_oaep(&context, kind, hash, mgf1_hash, label)?;
        }
        let most = size.saturating_sub(taken);
        if plain.len() > most {
            let expected = format!("at most {most}");
            return Err(CryptoError::DataLength { mechanism: "RSA encryption", expected, got: plain.len() });
        }
        let mut block;
        let plain = match padding {
            Padding::None => {
                block = SecretBytes::zeroed(size);
                let from = size - plain.len();
                block.get_mut(from..).unwrap_or_default().copy_from_slice(plain);
                &*block
            }
            _ => plain,
        };
        let mut ciphertext = vec![0; size];
        let mut length = size;
        // SAFETY: the context was prepared above; the output has the length passed, as many bytes as the modulus.
        let done = unsafe {
            let (to, from) = (ciphertext.as_mut_ptr(), plain.as_ptr());
            c::EVP_PKEY_encrypt(context.as_ptr(), to, &mut length, from, plain.len()) == 1
        };
        match done && length == size {
            true => Ok(ciphertext),
            // Without padding, a number that is not below the modulus.
            false if matches!(padding, Padding::None) => {
                // SAFETY: clears this thread's error queue; the caller is told what matters of it.
                unsafe { c::ERR_clear_error() };
                Err(CryptoError::CiphertextWrong)
            }
            false => Err(library_error("RSA encryption")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    fn known_answer(padded: bool, key: &str, plain: &str, wrapped: &str) {
        let (key, plain, wrapped) = (hex(key), hex(plain), hex(wrapped));
        assert_eq!(wrap_with_aes(&key, padded, &plain).unwrap(), wrapped);
        assert_eq!(&*unwrap_with_aes(&key, padded, &wrapped).unwrap(), &plain[..]);
        // The other way does not open it.
        assert_eq!(unwrap_with_aes(&key, !padded, &wrapped).err(), Some(CryptoError::CiphertextWrong));
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert_eq!(unwrap_with_aes(&key, padded, &changed).err(), Some(CryptoError::CiphertextWrong));
        }
        for length in 0..wrapped.len() {
            let cut = unwrap_with_aes(&key, padded, &wrapped[..length]);
            assert_eq!(cut.err(), Some(CryptoError::CiphertextWrong));
        }
    }

    /// RFC 3394, 4.1 to 4.6.
    #[test]
    fn key_wrap_published_vectors() {
        let key = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
        let plain = "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F";
        for (kek, data, wrapped) in [
            (16, 16, "1FA68B0A8112B447 AEF34BD8FB5A7B82 9D3E862371D2CFE5"),
            (24, 16, "96778B25AE6CA435 F92B5B97C050AED2 468AB8A17AD84E5D"),
            (32, 16, "64E8C3F9CE0F5BA2 63E9777905818A2A 93C8191E7D6E8AE7"),
            (24, 24, "031D33264E15D332 68F24EC260743EDC E1C6C7DDEE725A93 6BA814915C6762D2"),
            (32, 24, "A8F9BC1612C68B3F F6E6F4FBE30E71E4 769C8B80A32CB895 8CD5D17D6B254DA1"),
            (32, 32, "28C9F404C4B810F4 CBCCB35CFB87F826 3F5786E2D80ED326 CBC7F0E71A99F43B FB988B9B7A02DD21"),
        ] {
            known_answer(false, &key[..2 * kek], &plain[..2 * data], wrapped);
        }
    }

    /// RFC 5649, 6.
    #[test]
    fn key_wrap_with_padding_published_vectors() {
        let key = "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8";
        known_answer(
            true,
            key,
            "c37b7e6492584340bed12207808941155068f738",
            "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
        );
        known_answer(true, key, "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f");
    }

    #[test]
    fn lengths_that_cannot_be_wrapped() {
        for (padded, length) in [(false, 0), (false, 8), (false, 17), (true, 0)] {
            let refused = wrap_with_aes(&[1; 16], padded, &vec![7; length]);
            assert!(matches!(refused, Err(CryptoError::DataLength { .. })), "{length}");
        }
        assert!(matches!(wrap_with_aes(&[1; 17], true, &[7; 16]), Err(CryptoError::KeyMalformed(_))));
    }
}
