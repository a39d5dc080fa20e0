//! HMAC, and CMAC, of messages that come in parts.

use super::sys as c;

use super::cipher::{BlockCipher, Direction, run_blocks};
use super::sign::digest;
use super::{library_error, prepare};
use crate::crypto::{CryptoError, Hash};
use crate::memory::SecretBytes;

/// HMAC of a message as a whole.
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn hmac(hash: Hash, key: &[u8], data: &[u8]) -> Result<SecretBytes, CryptoError> {
    prepare();
    let mut code = SecretBytes::zeroed(c::EVP_MAX_MD_SIZE as usize);
    let mut length = 0;
    // SAFETY: the slices are valid for the lengths passed, the output has room for the longest digest.
    let made = unsafe {
        let (key, size) = (key.as_ptr().cast(), key.len());
        c::HMAC(digest(hash), key, size, data.as_ptr(), data.len(), code.as_mut_ptr(), &mut length)
    };
    match code.get(..length as usize) {
        Some(code) if !made.is_null() && code.len() == hash.length() => Ok(SecretBytes::from(code)),
        _ => Err(library_error("HMAC")),
    }
}

/// The three functions of a hash of SHA-1 and SHA-2, over its context in protected memory.
struct Functions {
    size: usize,
    block: usize,
    init: fn(*mut u8),
    update: fn(*mut u8, &[u8]),
    finish: fn(*mut u8, *mut u8),
}

macro_rules! functions {
    ($context:ty, $block:expr, $init:path, $update:path, $finish:path) => {
        Functions {
            size: size_of::<$context>(),
            block: $block as usize,
            // SAFETY: `Hashing` gives them a context of this size, aligned to 16 bytes, which the first writes as a whole.
            init: |context| unsafe {
                $init(context.cast::<$context>());
            },
            // SAFETY: as above; the context was begun.
            update: |context, data| unsafe {
                $update(context.cast::<$context>(), data.as_ptr().cast(), data.len());
            },
            // SAFETY: as above; the output has room for the digest.
            finish: |context, out| unsafe {
                $finish(out, context.cast::<$context>());
            },
        }
    };
}

fn functions(hash: Hash) -> Option<Functions> {
    Some(match hash {
        Hash::Sha1 => functions!(c::SHA_CTX, c::SHA_CBLOCK, c::SHA1_Init, c::SHA1_Update, c::SHA1_Final),
        Hash::Sha224 => {
            functions!(c::SHA256_CTX, c::SHA224_CBLOCK, c::SHA224_Init, c::SHA224_Update, c::SHA224_Final)
        }
        Hash::Sha256 => {
            functions!(c::SHA256_CTX, c::SHA256_CBLOCK, c::SHA256_Init, c::SHA256_Update, c::SHA256_Final)
        }
        Hash::Sha384 => {
            functions!(c::SHA512_CTX, c::SHA384_CBLOCK, c::SHA384_Init, c::SHA384_Update, c::SHA384_Final)
        }
        Hash::Sha512 => {
            functions!(c::SHA512_CTX, c::SHA512_CBLOCK, c::SHA512_Init, c::SHA512_Update, c::SHA512_Final)
        }
        // The library does not show what it keeps of them.
        Hash::Sha3_224 | Hash::Sha3_256 | Hash::Sha3_384 | Hash::Sha3_512 => return None,
    })
}

/// A hash in progress over something secret.
struct Hashing {
    hash: Hash,
    functions: Functions,
    context: SecretBytes,
}

impl Hashing {
    fn new(hash: Hash) -> Option<Self> {
        prepare();
        let functions = functions(hash)?;
        let mut context = SecretBytes::zeroed(functions.size);
        (functions.init)(context.as_mut_ptr());
        Some(Self { hash, functions, context })
    }

    fn update(&mut self, data: &[u8]) {
        (self.functions.update)(self.context.as_mut_ptr(), data);
    }

    fn finish(mut self) -> SecretBytes {
        let mut out = SecretBytes::zeroed(self.hash.length());
        (self.functions.finish)(self.context.as_mut_ptr(), out.as_mut_ptr());
        out
    }

    /// The digest of a block of the key, each byte with `pad` (FIPS 198-1, 4), begun.
    fn of_key(hash: Hash, key: &[u8], pad: u8) -> Option<Self> {
        let mut hashing = Self::new(hash)?;
        let mut block = SecretBytes::zeroed(hashing.functions.block);
        let size = block.len();
        if key.len() > size {
            let mut short = Self::new(hash)?;
            short.update(key);
            block.get_mut(..hash.length())?.copy_from_slice(&short.finish());
        } else {
            block.get_mut(..key.len())?.copy_from_slice(key);
        }
        block.iter_mut().for_each(|byte| *byte ^= pad);
        hashing.update(&block);
        Some(hashing)
    }
}

/// HMAC of a message in parts, after some of them.
pub struct HmacState(Hashing);

impl HmacState {
    /// Before the first part; `None` for a hash whose progress cannot be kept.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn new(hash: Hash, key: &[u8]) -> Result<Option<Self>, CryptoError> {
        Ok(Hashing::of_key(hash, key, 0x36).map(Self))
    }

    /// What [`HmacState::into_bytes`] gave. These bytes come back from outside only as they were sealed here.
    pub fn from_bytes(hash: Hash, bytes: &SecretBytes) -> Option<Self> {
        let mut hashing = Hashing::new(hash)?;
        if bytes.len() != hashing.context.len() {
            return None;
        }
        hashing.context.copy_from_slice(bytes);
        Some(Self(hashing))
    }

    /// The state, to be sealed.
    pub fn into_bytes(self) -> SecretBytes {
        self.0.context
    }

    /// Takes a part.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The code.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn finish(self, key: &[u8]) -> Result<SecretBytes, CryptoError> {
        let outer = Hashing::of_key(self.0.hash, key, 0x5c);
        let mut outer = outer.ok_or_else(|| CryptoError::Library("HMAC".to_owned()))?;
        outer.update(&self.0.finish());
        Ok(outer.finish())
    }
}

const BLOCK: usize = 16;

/// AES-CMAC (NIST SP 800-38B) of a message in parts: the block that the next is added to.
pub struct CmacState(SecretBytes);

impl Default for CmacState {
    fn default() -> Self {
        Self::new()
    }
}

impl CmacState {
    /// Before the first part.
    pub fn new() -> Self {
        Self(SecretBytes::zeroed(BLOCK))
    }

    /// As [`HmacState::from_bytes`].
    pub fn from_bytes(bytes: &SecretBytes) -> Option<Self> {
        (bytes.len() == BLOCK).then(|| Self(SecretBytes::from(&**bytes)))
    }

    /// The state, to be sealed.
    pub fn into_bytes(self) -> SecretBytes {
        self.0
    }

    /// Takes whole blocks, after which others come.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn update(&mut self, key: &[u8], data: &[u8]) -> Result<(), CryptoError> {
        let mut chained = SecretBytes::zeroed(data.len().min(64 * BLOCK));
        for piece in data.chunks(64 * BLOCK) {
            let out = chained.get_mut(..piece.len()).unwrap_or_default();
            run_blocks(BlockCipher::AesCbc, Direction::Encrypt, key, &self.0, piece, out)?;
            if let Some(last) = out.last_chunk::<BLOCK>() {
                self.0.copy_from_slice(last);
            }
        }
        Ok(())
    }

    /// The code of the message that ends with `data`, which is empty only if all of the message is.
    ///
    /// # Errors
    ///
    /// [`CryptoError::DataLength`] if the last part is missing; [`CryptoError::Library`].
    pub fn finish(mut self, key: &[u8], data: &[u8]) -> Result<SecretBytes, CryptoError> {
        // The last block is another one's: a whole one too.
        let before = data.len().saturating_sub(1) / BLOCK * BLOCK;
        let (blocks, last) = data.split_at_checked(before).unwrap_or_default();
        self.update(key, blocks)?;
        let mut block = SecretBytes::zeroed(BLOCK);
        run_blocks(BlockCipher::AesEcb, Direction::Encrypt, key, &[], &[0; BLOCK], &mut block)?;
        // K1, and K2 for a block that is not whole (6.1).
        double(&mut block);
        if last.len() < BLOCK {
            double(&mut block);
            if let Some(end) = block.get_mut(last.len()) {
                *end ^= 0x80;
            }
        }
        for (byte, of_message) in block.iter_mut().zip(last) {
            *byte ^= of_message;
        }
        let mut code = SecretBytes::zeroed(BLOCK);
        run_blocks(BlockCipher::AesCbc, Direction::Encrypt, key, &self.0, &block, &mut code)?;
        Ok(code)
    }
}

/// Doubles in GF(2^128), without a branch on what is doubled (SP 800-38B, 5.3).
fn double(block: &mut [u8]) {
    let mut carry = 0;
    for byte in block.iter_mut().rev() {
        let next = *byte >> 7;
        *byte = *byte << 1 | carry;
        carry = next;
    }
    if let Some(last) = block.last_mut() {
        *last ^= 0x87 & carry.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38B, D.1: AES-128, messages of 0, 16, 40 and 64 bytes.
    #[test]
    fn cmac_published_vectors() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let message = hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        for (length, code) in [
            (0, "bb1d6929e95937287fa37d129b756746"),
            (16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (40, "dfa66747de9ae63030ca32611497c827"),
            (64, "51f0bebf7e3b9d92fc49741779363cfe"),
        ] {
            assert_eq!(CmacState::new().finish(&key, &message[..length]).unwrap().to_vec(), hex(code));
        }
    }
}
