//! Takes RSA's paddings away (RFC 8017, 7), in a time that does not tell what was there.
//!
//! Whoever can tell a ciphertext with a good padding from one with a bad one can decrypt others by asking a million times
//! (Bleichenbacher, Manger). So every function here goes over all of the bytes, whatever they are, and chooses without a
//! branch. What each does reveal stands at the function.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater, ConstantTimeLess};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};
use crate::openssl::{Context, Digest, Hash};

/// The size of TLS's premaster secret in bytes.
pub const PREMASTER: usize = 48;

/// The least that PKCS#1 v1.5 puts before a message: 0, 2, eight bytes that are not 0, and 0.
const LEAST: usize = 11;

/// TLS's premaster secret out of `encoded` (RFC 5246, 7.4.7.1), or `random` if the padding, the length or the version in
/// it is wrong: which of the two it was shows only to a client that knows the right one. `versions` are those that may stand in
/// it.
///
/// Reveals nothing but the size of `encoded`, which is the key's.
pub fn tls_premaster(
    encoded: &[u8],
    versions: [Option<u16>; 2],
    random: &[u8; PREMASTER],
) -> Zeroizing<[u8; PREMASTER]> {
    let mut secret = Zeroizing::new(*random);
    let Some((head, premaster)) = encoded.split_last_chunk::<PREMASTER>() else { return secret };
    let [first, second, padding @ .., separator] = head else { return secret };
    let mut is_good = first.ct_eq(&0) & second.ct_eq(&2) & separator.ct_eq(&0);
    for byte in padding {
        is_good &= !byte.ct_eq(&0);
    }
    is_good &= Choice::from(u8::from(padding.len() >= LEAST - 3));
    is_good &= is_version(premaster, versions);
    choose(secret.as_mut_slice(), premaster, is_good);
    secret
}

/// The same of a premaster secret without padding: what a token made that took the padding away itself. `size` is the size of
/// what it made, and `is_decrypted` whether it made anything.
///
/// Reveals nothing; the token may, by the time that it takes.
pub fn tls_premaster_unpadded(
    message: &[u8],
    size: usize,
    is_decrypted: bool,
    versions: [Option<u16>; 2],
    random: &[u8; PREMASTER],
) -> Zeroizing<[u8; PREMASTER]> {
    let mut secret = Zeroizing::new(*random);
    let Some(premaster) = message.first_chunk::<PREMASTER>() else { return secret };
    let is_good = Choice::from(u8::from(is_decrypted))
        & (size as u64).ct_eq(&(PREMASTER as u64))
        & is_version(premaster, versions);
    choose(secret.as_mut_slice(), premaster, is_good);
    secret
}

fn is_version(premaster: &[u8; PREMASTER], versions: [Option<u16>; 2]) -> Choice {
    let [major, minor, ..] = *premaster;
    let version = u16::from_be_bytes([major, minor]);
    let mut fits = Choice::from(0);
    for allowed in versions.into_iter().flatten() {
        fits |= version.ct_eq(&allowed);
    }
    fits
}

fn choose(target: &mut [u8], other: &[u8], is_other: Choice) {
    for (to, from) in target.iter_mut().zip(other) {
        to.conditional_assign(from, is_other);
    }
}

/// A message out of PKCS#1 v1.5's padding, or, if the padding is wrong, the one that `rejection` makes up for this
/// ciphertext.
///
/// Reveals the size of what is returned, as it must: of the message, or of what was made up.
pub fn pkcs1_or_made_up(encoded: &[u8], rejection: &MadeUp) -> Zeroizing<Vec<u8>> {
    let (start, is_good) = pkcs1_start(encoded);
    let size = encoded.len() as u32;
    let start = u32::conditional_select(&(size - rejection.size.min(size)), &start, is_good);
    let mut message = Zeroizing::new(rejection.bytes.to_vec());
    choose(&mut message, encoded, is_good);
    message.drain(..(start as usize).min(encoded.len())).for_each(drop);
    message
}

/// A message out of PKCS#1 v1.5's padding.
///
/// Reveals whether there was one.
///
/// # Errors
///
/// [`Error::Undecryptable`] for whatever is wrong with the padding.
pub fn pkcs1(encoded: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let (start, is_good) = pkcs1_start(encoded);
    match encoded.get(start as usize..) {
        Some(message) if bool::from(is_good) => Ok(Zeroizing::new(message.to_vec())),
        _ => Err(Error::Undecryptable),
    }
}

/// Where the message begins, and whether the padding before it is right.
fn pkcs1_start(encoded: &[u8]) -> (u32, Choice) {
    let [first, second, rest @ ..] = encoded else { return (0, Choice::from(0)) };
    let mut start: u32 = 0;
    let mut is_found = Choice::from(0);
    for (byte, after) in rest.iter().zip(3u32..) {
        let is_end = byte.ct_eq(&0) & !is_found;
        start.conditional_assign(&after, is_end);
        is_found |= is_end;
    }
    let is_long_enough = !start.ct_lt(&(LEAST as u32));
    (start, first.ct_eq(&0) & second.ct_eq(&2) & is_found & is_long_enough)
}

/// A message out of OAEP (RFC 8017, 7.1.2).
///
/// Reveals whether there was one, and its size.
///
/// # Errors
///
/// [`Error::Undecryptable`] for whatever is wrong with the padding; [`Error::Unsupported`] for a hash that libcrypto does not
/// have.
pub fn oaep(
    context: &Context,
    encoded: &[u8],
    hash: Hash,
    mgf1: Hash,
    label: &[u8],
) -> Result<Zeroizing<Vec<u8>>> {
    let size = hash.size();
    // The key's size is no secret.
    let [first, rest @ ..] = encoded else { return Err(Error::Undecryptable) };
    let (Some(seed), Some(data)) = (rest.get(..size), rest.get(size..)) else {
        return Err(Error::Undecryptable);
    };
    let (mut seed, mut data) = (Zeroizing::new(seed.to_vec()), Zeroizing::new(data.to_vec()));
    mask(context, mgf1, &data, &mut seed)?;
    mask(context, mgf1, &seed, &mut data)?;
    let mut expected = Digest::new(context, hash)?;
    expected.update(label)?;
    let (expected, _) = expected.finish()?;
    let (Some(found), Some(message)) = (data.get(..size), data.get(size..)) else {
        return Err(Error::Undecryptable);
    };
    let mut is_good = first.ct_eq(&0) & found.ct_eq(expected.get(..size).unwrap_or_default());
    // Zeros, a one, the message.
    let mut start: u32 = 0;
    let mut is_found = Choice::from(0);
    for (byte, after) in message.iter().zip(1u32..) {
        let is_one = byte.ct_eq(&1) & !is_found;
        start.conditional_assign(&after, is_one);
        is_good &= is_found | is_one | byte.ct_eq(&0);
        is_found |= is_one;
    }
    match message.get(start as usize..) {
        Some(message) if bool::from(is_good & is_found) => Ok(Zeroizing::new(message.to_vec())),
        _ => Err(Error::Undecryptable),
    }
}

/// PSS's encoding of a digest (RFC 8017, 9.1.1), as long as a modulus of `bits` bits: for a token that has the bare operation
/// but not PSS with these hashes.
///
/// # Errors
///
/// [`Error::Unsupported`] if the modulus is too small for digest and salt; [`Error::Libcrypto`] without random bytes.
pub fn pss(
    context: &Context,
    digest: &[u8],
    hash: Hash,
    mgf1: Hash,
    salt_size: usize,
    bits: usize,
) -> Result<Vec<u8>> {
    let too_small =
        || Error::Unsupported(format!("a key of {bits} bits is too small for RSA-PSS with {hash:?}"));
    let encoded_bits = bits.saturating_sub(1);
    let zeros = encoded_bits.div_ceil(8).checked_sub(hash.size() + salt_size + 2).ok_or_else(too_small)?;
    let mut salt = vec![0; salt_size];
    context.random(&mut salt)?;
    let mut salted = Digest::new(context, hash)?;
    salted.update(&[0; 8])?;
    salted.update(digest)?;
    salted.update(&salt)?;
    let (salted, size) = salted.finish()?;
    let salted = salted.get(..size).unwrap_or_default();
    let mut data = [vec![0; zeros], vec![1], salt].concat();
    mask(context, mgf1, salted, &mut data)?;
    if let Some(first) = data.first_mut() {
        *first &= 0xff >> (8 * encoded_bits.div_ceil(8) - encoded_bits);
    }
    // Of a modulus with one bit more than whole bytes, the first byte is 0.
    let leading = vec![0; bits.div_ceil(8) - encoded_bits.div_ceil(8)];
    Ok([&leading, data.as_slice(), salted, &[0xbc]].concat())
}

/// XORs `target` with MGF1 of `seed` (RFC 8017, B.2.1).
fn mask(context: &Context, hash: Hash, seed: &[u8], target: &mut [u8]) -> Result<()> {
    for (block, counter) in target.chunks_mut(hash.size()).zip(0u32..) {
        let mut digest = Digest::new(context, hash)?;
        digest.update(seed)?;
        digest.update(&counter.to_be_bytes())?;
        let (mut bytes, _) = digest.finish()?;
        for (to, from) in block.iter_mut().zip(&bytes) {
            *to ^= from;
        }
        bytes.zeroize();
    }
    Ok(())
}

/// What PKCS#1 v1.5 decryption answers to a ciphertext without a padding: a message that looks random, and is always the same
/// for the same ciphertext and key (implicit rejection, draft-irtf-cfrg-rsa-guidance; OpenSSL does so since 3.2).
pub struct MadeUp {
    /// As many bytes as the modulus has.
    bytes: Zeroizing<Vec<u8>>,
    /// How many of them, from the end, are the message.
    size: u32,
}

impl MadeUp {
    /// Makes up the answer to `ciphertext`, for a modulus of `size` bytes. `secret` belongs to the key, and nobody else may
    /// know it.
    ///
    /// # Errors
    ///
    /// [`Error::Undecryptable`] for a modulus that has no room for a padding.
    pub fn new(secret: &[u8; 32], ciphertext: &[u8], size: usize) -> Result<Self> {
        let most = size.checked_sub(LEAST).filter(|_| size <= 0xffff).ok_or(Error::Undecryptable)? as u32;
        let mut mac = keyed(secret)?;
        mac.update(ciphertext);
        let key = finished(mac);
        // Of 128 numbers with as many bits as the largest size has, the last that is a possible size: all are equally likely.
        let bits = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        let mut numbers = Zeroizing::new([0; 256]);
        expand(&key, b"length", numbers.as_mut_slice())?;
        let mut chosen: u32 = 0;
        for pair in numbers.chunks_exact(2) {
            let [high, low] = *pair else { continue };
            let number = u32::from(u16::from_be_bytes([high, low])) & bits;
            chosen.conditional_assign(&number, !number.ct_gt(&most));
        }
        let mut bytes = Zeroizing::new(vec![0; size]);
        expand(&key, b"message", &mut bytes)?;
        Ok(MadeUp { bytes, size: chosen })
    }
}

/// HMAC-SHA-256 over a counter, the label and the size in bits, as often as it takes to fill `target`.
fn expand(key: &[u8; 32], label: &[u8], target: &mut [u8]) -> Result<()> {
    let bits = (target.len() as u32).saturating_mul(8);
    for (block, counter) in target.chunks_mut(32).zip(0u16..) {
        let mut mac = keyed(key)?;
        mac.update(&counter.to_be_bytes());
        mac.update(label);
        mac.update(&bits.to_be_bytes());
        let bytes = finished(mac);
        for (to, from) in block.iter_mut().zip(bytes.iter()) {
            *to = *from;
        }
    }
    Ok(())
}

/// The code, which is a secret here, and nowhere else.
fn finished(mac: Hmac<Sha256>) -> Zeroizing<[u8; 32]> {
    let mut code = Zeroizing::new([0; 32]);
    // What it is taken from is wiped, as are the states (the crates' feature `zeroize`).
    code.copy_from_slice(mac.finalize().as_bytes());
    code
}

fn keyed(key: &[u8; 32]) -> Result<Hmac<Sha256>> {
    Hmac::<Sha256>::new_from_slice(key).map_err(|_| Error::Undecryptable)
}

/// A ciphertext that belongs to a key, without anybody knowing what it decrypts to: as large as the modulus, and smaller in
/// value. What the token makes of it is the secret for [`MadeUp`], in every process that uses the key the same.
pub fn nothing_up_our_sleeve(public: &[u8], size: usize) -> Vec<u8> {
    let mut value = vec![0; size];
    // The first byte stays 0, which makes it smaller than the modulus.
    for (block, counter) in value.get_mut(1..).unwrap_or_default().chunks_mut(32).zip(0u32..) {
        let digest = Sha256::new()
            .chain_update(b"strongroom implicit rejection")
            .chain_update(counter.to_be_bytes())
            .chain_update(public)
            .finalize();
        for (to, from) in block.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSIONS: [Option<u16>; 2] = [Some(0x0303), None];
    const RANDOM: [u8; PREMASTER] = [0xee; PREMASTER];

    /// 256 bytes: 0, 2, padding, 0, message.
    fn padded(message: &[u8]) -> Vec<u8> {
        let mut encoded = vec![7; 256];
        encoded[..2].copy_from_slice(&[0, 2]);
        let start = 256 - message.len();
        encoded[start - 1] = 0;
        encoded[start..].copy_from_slice(message);
        encoded
    }

    fn premaster(version: [u8; 2]) -> [u8; PREMASTER] {
        let mut secret = [0x55; PREMASTER];
        secret[..2].copy_from_slice(&version);
        secret
    }

    #[test]
    fn a_premaster_secret_or_the_random_one() {
        let secret = premaster([3, 3]);
        let good = padded(&secret);
        assert_eq!(*tls_premaster(&good, VERSIONS, &RANDOM), secret);
        for at in [0, 1, 2, 9, 100, 206, 207, 208, 209] {
            let mut bad = good.clone();
            bad[at] = if (2..207).contains(&at) { 0 } else { bad[at] ^ 1 };
            assert_eq!(*tls_premaster(&bad, VERSIONS, &RANDOM), RANDOM, "{at}");
        }
        for length in [0, 1, 47, 49, 100] {
            assert_eq!(*tls_premaster(&padded(&vec![3; length]), VERSIONS, &RANDOM), RANDOM, "{length}");
        }
        assert_eq!(*tls_premaster(&[], VERSIONS, &RANDOM), RANDOM);
        // The version of a client that was talked down counts only if the application says so.
        let old = padded(&premaster([3, 1]));
        assert_eq!(*tls_premaster(&old, VERSIONS, &RANDOM), RANDOM);
        assert_eq!(*tls_premaster(&old, [Some(0x0303), Some(0x0301)], &RANDOM), premaster([3, 1]));
    }

    #[test]
    fn a_premaster_secret_of_which_the_token_took_the_padding() {
        let mut message = [0; 256];
        message[..PREMASTER].copy_from_slice(&premaster([3, 3]));
        let made = |size, decrypted| *tls_premaster_unpadded(&message, size, decrypted, VERSIONS, &RANDOM);
        assert_eq!(made(48, true), premaster([3, 3]));
        assert_eq!(made(47, true), RANDOM);
        assert_eq!(made(49, true), RANDOM);
        assert_eq!(made(48, false), RANDOM);
        message[1] = 2;
        assert_eq!(*tls_premaster_unpadded(&message, 48, true, VERSIONS, &RANDOM), RANDOM);
    }

    #[test]
    fn pkcs1_messages_of_every_size() {
        for size in [0, 1, 100, 245] {
            let message = vec![0x31; size];
            assert_eq!(*pkcs1(&padded(&message)).unwrap(), message);
        }
        let mut bad: Vec<Vec<u8>> = [246, 250, 253].map(|size| padded(&vec![0x31; size])).into();
        bad.extend([(0, 1), (1, 1), (5, 0)].map(|(at, value)| {
            let mut encoded = padded(b"message");
            encoded[at] = value;
            encoded
        }));
        bad.push(vec![7; 256]);
        bad.push([vec![0, 2], vec![7; 254]].concat());
        bad.push(Vec::new());
        for encoded in bad {
            assert_eq!(pkcs1(&encoded), Err(Error::Undecryptable), "{encoded:?}");
        }
    }

    #[test]
    fn what_is_made_up_is_the_same_for_the_same_ciphertext() {
        let made_up = |ciphertext: &[u8]| {
            let rejection = MadeUp::new(&[9; 32], ciphertext, 256).unwrap();
            (pkcs1_or_made_up(&padded(b"a message"), &rejection), pkcs1_or_made_up(&[7; 256], &rejection))
        };
        let mut sizes = std::collections::BTreeSet::new();
        for ciphertext in 0..200u8 {
            let (good, bad) = made_up(&[ciphertext]);
            assert_eq!(*good, b"a message");
            assert!(bad.len() <= 245);
            assert_eq!(bad, made_up(&[ciphertext]).1);
            assert_ne!(bad, made_up(&[ciphertext, 0]).1);
            sizes.insert(bad.len());
        }
        assert!(sizes.len() > 50 && *sizes.last().unwrap() > 200, "{sizes:?}");
        assert!(MadeUp::new(&[9; 32], &[1], 10).is_err());
    }

    #[test]
    fn a_ciphertext_without_a_known_message() {
        let value = nothing_up_our_sleeve(b"key", 256);
        assert_eq!((value.len(), value[0]), (256, 0));
        assert_ne!(value, nothing_up_our_sleeve(b"another", 256));
        assert!(value[200..].iter().any(|byte| *byte != 0));
    }
}
