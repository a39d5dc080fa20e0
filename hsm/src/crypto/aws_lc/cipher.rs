//! Block ciphers in the library's generic form, which expands the key for each operation, in protected memory.

use std::ffi::c_int;

use super::sys as c;

use super::owned::CipherContext;
use super::{check, library_error, prepare};
use crate::crypto::CryptoError;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From plaintext to ciphertext.
    Encrypt,
    /// Back.
    Decrypt,
}

impl Direction {
    fn number(self) -> c_int {
        c_int::from(self == Direction::Encrypt)
    }
}

/// A block cipher and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as everywhere")]
pub enum BlockCipher {
    AesEcb,
    AesCbc,
    AesCtr,
    Des3Ecb,
    Des3Cbc,
}

fn cipher(cipher: BlockCipher, key: usize) -> Option<*const c::EVP_CIPHER> {
    // SAFETY: all of them return pointers to constants.
    unsafe {
        Some(match (cipher, key) {
            (BlockCipher::AesEcb, 16) => c::EVP_aes_128_ecb(),
            (BlockCipher::AesEcb, 24) => c::EVP_aes_192_ecb(),
            (BlockCipher::AesEcb, 32) => c::EVP_aes_256_ecb(),
            (BlockCipher::AesCbc, 16) => c::EVP_aes_128_cbc(),
            (BlockCipher::AesCbc, 24) => c::EVP_aes_192_cbc(),
            (BlockCipher::AesCbc, 32) => c::EVP_aes_256_cbc(),
            (BlockCipher::AesCtr, 16) => c::EVP_aes_128_ctr(),
            (BlockCipher::AesCtr, 24) => c::EVP_aes_192_ctr(),
            (BlockCipher::AesCtr, 32) => c::EVP_aes_256_ctr(),
            (BlockCipher::Des3Ecb, 24) => c::EVP_des_ede3_ecb(),
            (BlockCipher::Des3Cbc, 24) => c::EVP_des_ede3_cbc(),
            _ => return None,
        })
    }
}

/// A length as the library takes it.
fn length(bytes: usize) -> Result<c_int, CryptoError> {
    c_int::try_from(bytes).map_err(|_| CryptoError::Library("too much data for one operation".to_owned()))
}

/// Encrypts or decrypts whole blocks (of CTR any number of bytes) to `out`, which is as long.
///
/// # Errors
///
/// [`CryptoError::Library`] for lengths of the key, the IV or the output that do not fit.
pub fn run_blocks(
    which: BlockCipher,
    direction: Direction,
    key: &[u8],
    iv: &[u8],
    data: &[u8],
    out: &mut [u8],
) -> Result<(), CryptoError> {
    prepare();
    let wrong = || CryptoError::Library("a block cipher's key, IV or output of another length".to_owned());
    let cipher = cipher(which, key.len()).ok_or_else(wrong)?;
    let context = CipherContext::make()?;
    let none = std::ptr::null_mut();
    let mut written = 0;
    // SAFETY: the context is ours. Key and IV have the lengths that the cipher reads: the key's was looked at above, the IV's is
    // compared here. Without padding whole blocks come out, as many bytes as go in; the output has room for them.
    unsafe {
        if c::EVP_CIPHER_iv_length(cipher) as usize != iv.len() || out.len() != data.len() {
            return Err(wrong());
        }
        let begun = c::EVP_CipherInit_ex(
            context.as_ptr(),
            cipher,
            none,
            key.as_ptr(),
            iv.as_ptr(),
            direction.number(),
        );
        check(begun, "expanding a key")?;
        check(c::EVP_CIPHER_CTX_set_padding(context.as_ptr(), 0), "leaving out the padding")?;
        let (to, from) = (out.as_mut_ptr(), data.as_ptr());
        let done = c::EVP_CipherUpdate(context.as_ptr(), to, &mut written, from, length(data.len())?);
        check(done, "a block cipher")?;
    }
    match written as usize == data.len() {
        true => Ok(()),
        false => Err(wrong()),
    }
}

/// A context for AES-CCM with everything but the data in it. For decrypting `tag` is the one to compare with; for
/// encrypting only its length counts.
fn ccm(
    direction: Direction,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    data: usize,
    tag: &[u8],
) -> Result<CipherContext, CryptoError> {
    prepare();
    let context = CipherContext::make()?;
    let none = std::ptr::null_mut();
    let mut ignored = 0;
    // SAFETY: the context is ours; the key has the length that the cipher reads, and the nonce the one that is set before it is
    // given; setting a tag copies it; a null output with a null input says how long the data will be, one with data that they are
    // associated.
    unsafe {
        let cipher = match key.len() {
            16 => c::EVP_aes_128_ccm(),
            24 => c::EVP_aes_192_ccm(),
            32 => c::EVP_aes_256_ccm(),
            _ => return Err(CryptoError::Library("an AES key of another length".to_owned())),
        };
        let number = direction.number();
        let begun =
            c::EVP_CipherInit_ex(context.as_ptr(), cipher, none, std::ptr::null(), std::ptr::null(), number);
        check(begun, "beginning AES-CCM")?;
        let set = |what, length, value| c::EVP_CIPHER_CTX_ctrl(context.as_ptr(), what, length, value);
        check(set(c::EVP_CTRL_AEAD_SET_IVLEN, length(nonce.len())?, none.cast()), "AES-CCM's nonce")?;
        let given = match direction {
            Direction::Encrypt => none.cast(),
            Direction::Decrypt => tag.as_ptr().cast_mut().cast(),
        };
        check(set(c::EVP_CTRL_AEAD_SET_TAG, length(tag.len())?, given), "AES-CCM's tag")?;
        let (key, nonce) = (key.as_ptr(), nonce.as_ptr());
        let keyed = c::EVP_CipherInit_ex(context.as_ptr(), std::ptr::null(), none, key, nonce, number);
        check(keyed, "expanding a key")?;
        let (no_output, no_input) = (std::ptr::null_mut(), std::ptr::null());
        let told = c::EVP_CipherUpdate(context.as_ptr(), no_output, &mut ignored, no_input, length(data)?);
        check(told, "AES-CCM's length")?;
        if !aad.is_empty() {
            let (from, size) = (aad.as_ptr(), length(aad.len())?);
            let added = c::EVP_CipherUpdate(context.as_ptr(), no_output, &mut ignored, from, size);
            check(added, "AES-CCM's associated data")?;
        }
    }
    Ok(context)
}

/// Gives the data to an operation of AES-CCM. An empty message is one too.
fn ccm_data(context: &CipherContext, data: &[u8], out: &mut Vec<u8>) -> Result<bool, CryptoError> {
    // The library takes the address of no data for none.
    let (nothing, mut nowhere) = ([0u8; 1], [0u8; 1]);
    let mut written = 0;
    let size = length(data.len())?;
    let (from, to) = match data.is_empty() {
        true => (nothing.as_ptr(), nowhere.as_mut_ptr()),
        false => (data.as_ptr(), out.as_mut_ptr()),
    };
    // SAFETY: as many bytes come out as go in, for which there is room.
    Ok(unsafe { c::EVP_CipherUpdate(context.as_ptr(), to, &mut written, from, size) } == 1)
}

/// AES-CCM (NIST SP 800-38C): the ciphertext, and then a tag of `tag` bytes.
///
/// # Errors
///
/// [`CryptoError::Library`] for lengths that do not fit.
pub fn seal_ccm(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    plain: &[u8],
    tag: usize,
) -> Result<Vec<u8>, CryptoError> {
    let mut place = vec![0; tag];
    let context = ccm(Direction::Encrypt, key, nonce, aad, plain.len(), &place)?;
    let mut out = Vec::with_capacity(plain.len() + tag);
    out.resize(plain.len(), 0);
    if !ccm_data(&context, plain, &mut out)? {
        return Err(library_error("AES-CCM"));
    }
    // SAFETY: the place has as many bytes as are asked for.
    let got = unsafe {
        let (to, size) = (place.as_mut_ptr().cast(), length(tag)?);
        c::EVP_CIPHER_CTX_ctrl(context.as_ptr(), c::EVP_CTRL_AEAD_GET_TAG, size, to)
    };
    check(got, "AES-CCM's tag")?;
    out.extend_from_slice(&place);
    Ok(out)
}

/// Opens what [`seal_ccm`] made, its tag apart.
///
/// # Errors
///
/// [`CryptoError::CiphertextWrong`]; nothing of the plaintext is left then.
pub fn open_ccm(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let context = ccm(Direction::Decrypt, key, nonce, aad, ciphertext.len(), tag)?;
    let mut out = vec![0; ciphertext.len()];
    if ccm_data(&context, ciphertext, &mut out)? {
        return Ok(out);
    }
    zeroize::Zeroize::zeroize(&mut out);
    // SAFETY: clears this thread's error queue.
    unsafe { c::ERR_clear_error() };
    Err(CryptoError::CiphertextWrong)
}

/// Gives each byte of DES keys its parity.
pub fn set_parity(key: &mut [u8]) {
    for byte in key {
        let odd = (*byte >> 1).count_ones() & 1 == 0;
        *byte = (*byte & 0xfe) | u8::from(odd);
    }
}
