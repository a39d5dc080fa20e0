//! ML-KEM (FIPS 203): keys, and secrets that travel encapsulated.

use super::sys as c;

use super::owned::{Pkey, PkeyContext};
use super::{PrivateKey, PublicKey, check, library_error};
use crate::crypto::{CryptoError, KeyKind};
use crate::memory::SecretBytes;

/// The size of a shared secret, in bytes (FIPS 203, table 3).
const SECRET: usize = 32;

/// The library's number for a kind.
fn number(kind: KeyKind) -> std::ffi::c_int {
    match kind {
        KeyKind::MlKem512 => c::NID_MLKEM512,
        KeyKind::MlKem768 => c::NID_MLKEM768,
        KeyKind::MlKem1024 => c::NID_MLKEM1024,
        _ => c::NID_undef,
    }
}

/// The kind of a key that is one of the library's KEM keys.
pub(super) fn kind_of(pkey: &Pkey) -> Option<KeyKind> {
    // The FIPS module's release has no function that tells a key's type. Each has a size of its own.
    let mut length = 0;
    // SAFETY: the key is valid; without an output the function tells the size, of a public key too.
    let told = unsafe { c::EVP_PKEY_get_raw_private_key(pkey.as_ptr(), std::ptr::null_mut(), &mut length) };
    SIZES.iter().find(|(_, expanded, _)| told == 1 && *expanded == length).map(|(kind, ..)| *kind)
}

pub(super) fn generate(kind: KeyKind) -> Result<Pkey, CryptoError> {
    let mut made = std::ptr::null_mut();
    // SAFETY: the context is owned at once and outlives the calls; the key that is made is the caller's.
    unsafe {
        let context = PkeyContext::new(c::EVP_PKEY_CTX_new_id(c::EVP_PKEY_KEM, std::ptr::null_mut()))
            .ok_or_else(|| library_error("EVP_PKEY_CTX_new_id"))?;
        check(c::EVP_PKEY_CTX_kem_set_params(context.as_ptr(), number(kind)), "choosing ML-KEM's size")?;
        check(c::EVP_PKEY_keygen_init(context.as_ptr()), "beginning to make an ML-KEM key")?;
        check(c::EVP_PKEY_keygen(context.as_ptr(), &mut made), "making an ML-KEM key")?;
        Pkey::new(made).ok_or_else(|| library_error("making an ML-KEM key"))
    }
}

/// The size of a seed (d and z), in bytes (FIPS 203, 7.1).
const SEED: usize = 64;

/// The sizes of the expanded private keys and of the public ones, in bytes (FIPS 203, table 3).
const SIZES: [(KeyKind, usize, usize); 3] =
    [(KeyKind::MlKem512, 1632, 800), (KeyKind::MlKem768, 2400, 1184), (KeyKind::MlKem1024, 3168, 1568)];

/// A key from its expanded form, in which the public half lies before a hash and a secret of 32 bytes each (FIPS 203,
/// algorithm 16).
///
/// # Errors
///
/// [`CryptoError::KeyMalformed`].
pub(super) fn from_expanded(expanded: &[u8]) -> Result<Pkey, CryptoError> {
    let malformed = || CryptoError::KeyMalformed("no ML-KEM key has this size".to_owned());
    let (kind, public) = SIZES
        .iter()
        .find(|(_, size, _)| *size == expanded.len())
        .and_then(|(kind, size, public)| Some((*kind, expanded.get(size - 64 - public..size - 64)?)))
        .ok_or_else(malformed)?;
    // SAFETY: both slices have the lengths passed, which the library compares with those of the kind; the result is null
    // or the caller's.
    let key = unsafe {
        Pkey::new(c::EVP_PKEY_kem_new_raw_key(
            number(kind),
            public.as_ptr(),
            public.len(),
            expanded.as_ptr(),
            expanded.len(),
        ))
    };
    key.ok_or_else(|| library_error("taking an ML-KEM key"))
}

/// A private key of any type as it is, and one of ML-KEM with its public half: the FIPS module's release reads such a key
/// from the expanded form, and leaves the public half out.
///
/// # Errors
///
/// [`CryptoError::Library`].
pub(super) fn with_public_half(pkey: Pkey) -> Result<Pkey, CryptoError> {
    let kind = kind_of(&pkey);
    let Some((_, size, _)) = SIZES.iter().find(|(of, ..)| Some(*of) == kind) else { return Ok(pkey) };
    let mut expanded = SecretBytes::zeroed(*size);
    let mut length = *size;
    // SAFETY: the key is valid; the output has the length passed.
    let read = unsafe { c::EVP_PKEY_get_raw_private_key(pkey.as_ptr(), expanded.as_mut_ptr(), &mut length) };
    check(read, "reading an ML-KEM key")?;
    from_expanded(&expanded)
}

/// Of a PKCS#8 with both forms of the private key (RFC 9935, 6), which OpenSSL writes and the library does not read: a
/// PKCS#8 with the seed alone, and the expanded key.
pub(super) fn both_forms(pkcs8: &[u8]) -> Option<(SecretBytes, &[u8])> {
    SIZES.iter().zip(1..).find_map(|((_, expanded, _), arc)| {
        // id-alg-ml-kem-512, -768 and -1024, without parameters.
        let algorithm = [0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 4, arc];
        // An element's tag and length, of more than 255 bytes.
        let header = |tag: u8, length: usize| [tag, 0x82, (length >> 8) as u8, length as u8];
        let both = 2 + SEED + 4 + expanded;
        let before = [
            &header(0x30, 3 + algorithm.len() + 4 + 4 + both)[..],
            &[2, 1, 0],
            &algorithm,
            &header(4, 4 + both),
            &header(0x30, both),
            &[4, SEED as u8],
        ]
        .concat();
        let (seed, rest) = pkcs8.strip_prefix(&before[..])?.split_at_checked(SEED)?;
        let key = rest.strip_prefix(&header(4, *expanded)).filter(|key| key.len() == *expanded)?;
        let inner = [&[2, 1, 0][..], &algorithm, &[4, 2 + SEED as u8, 0x80, SEED as u8]].concat();
        let start = [&[0x30, (inner.len() + SEED) as u8][..], &inner].concat();
        let mut seed_only = SecretBytes::zeroed(start.len() + SEED);
        let (head, tail) = seed_only.split_at_mut_checked(start.len())?;
        head.copy_from_slice(&start);
        tail.copy_from_slice(seed);
        Some((seed_only, key))
    })
}

impl PrivateKey {
    /// This key, if it is the one whose expanded form is this.
    pub(super) fn with_expanded(self, expanded: &[u8]) -> Result<Self, CryptoError> {
        let mut own = SecretBytes::zeroed(expanded.len());
        let mut length = own.len();
        // SAFETY: the key is valid; the output has the length passed.
        let read = unsafe {
            c::EVP_PKEY_get_raw_private_key(self.kept.pkey()?.as_ptr(), own.as_mut_ptr(), &mut length)
        };
        check(read, "reading an ML-KEM key")?;
        // SAFETY: both slices have this length.
        let differs = unsafe { c::CRYPTO_memcmp(own.as_ptr().cast(), expanded.as_ptr().cast(), own.len()) };
        match length == own.len() && differs == 0 {
            true => Ok(self),
            false => {
                let what = "the ML-KEM key's seed and its expanded form do not belong together";
                Err(CryptoError::KeyMalformed(what.to_owned()))
            }
        }
    }

    /// Checks that the key has its seed, without which its public half could not be known, and decapsulates what its
    /// public half encapsulates (FIPS 203, 7.1).
    pub(super) fn check_ml_kem(&self) -> Result<(), CryptoError> {
        let malformed = |what: &str| CryptoError::KeyMalformed(what.to_owned());
        let spki = self.public_spki().map_err(|_| {
            malformed("the ML-KEM key comes without its seed: only keys that are kept as a seed are taken")
        })?;
        let (ciphertext, secret) = PublicKey::from_spki(&spki)?.encapsulate()?;
        match *self.decapsulate(&ciphertext)? == *secret {
            true => Ok(()),
            false => Err(malformed("the ML-KEM key's halves do not belong together")),
        }
    }

    /// Checks that this key decapsulates, and ciphertexts of `length` bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::MechanismDoesNotFit`] for other keys, [`CryptoError::DataLength`] for a ciphertext of another size.
    pub fn check_encapsulated(&self, length: usize) -> Result<(), CryptoError> {
        let (mechanism, kind) = ("ML-KEM", self.kind());
        if !kind.decapsulates() {
            return Err(CryptoError::MechanismDoesNotFit { mechanism, kind });
        }
        if length != kind.ciphertext_length() {
            let expected = kind.ciphertext_length().to_string();
            return Err(CryptoError::DataLength { mechanism, expected, got: length });
        }
        Ok(())
    }

    /// Gets the secret of a ciphertext (FIPS 203, algorithm 21), 32 bytes. Of a ciphertext that was not made with the
    /// public half another secret comes out. Blocks for the time of the computation, some tens of microseconds.
    ///
    /// # Errors
    ///
    /// Those of [`PrivateKey::check_encapsulated`].
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<SecretBytes, CryptoError> {
        self.check_encapsulated(ciphertext.len())?;
        let context = PkeyContext::of(self.kept.pkey()?)?;
        let mut secret = SecretBytes::zeroed(SECRET);
        let mut length = secret.len();
        // SAFETY: the context is valid and has its key; the output has the length passed, and the ciphertext its own.
        let done = unsafe {
            c::EVP_PKEY_decapsulate(
                context.as_ptr(),
                secret.as_mut_ptr(),
                &mut length,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        };
        if done == 1 && length == SECRET { Ok(secret) } else { Err(library_error("decapsulating")) }
    }
}

impl PublicKey {
    /// Makes a secret of 32 bytes, and the ciphertext from which the private half gets it (FIPS 203, algorithm 20).
    ///
    /// # Errors
    ///
    /// [`CryptoError::MechanismDoesNotFit`] for other keys.
    pub fn encapsulate(&self) -> Result<(Vec<u8>, SecretBytes), CryptoError> {
        let kind = self.kind();
        if !kind.decapsulates() {
            return Err(CryptoError::MechanismDoesNotFit { mechanism: "ML-KEM", kind });
        }
        let context = PkeyContext::of(self.kept.pkey()?)?;
        let mut ciphertext = vec![0; kind.ciphertext_length()];
        let mut secret = SecretBytes::zeroed(SECRET);
        let (mut written, mut length) = (ciphertext.len(), secret.len());
        // SAFETY: the context is valid and has its key; both outputs have the lengths passed.
        let done = unsafe {
            c::EVP_PKEY_encapsulate(
                context.as_ptr(),
                ciphertext.as_mut_ptr(),
                &mut written,
                secret.as_mut_ptr(),
                &mut length,
            )
        };
        let is_whole = written == ciphertext.len() && length == SECRET;
        if done == 1 && is_whole { Ok((ciphertext, secret)) } else { Err(library_error("encapsulating")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expanded_form_has_the_public_half() {
        for kind in KeyKind::ALL.into_iter().filter(|kind| kind.decapsulates()) {
            let key = PrivateKey::generate(kind).unwrap();
            let pkey = key.kept.pkey().unwrap();
            let (_, size, public) = SIZES.into_iter().find(|(of, ..)| *of == kind).unwrap();
            let (mut expanded, mut length) = (vec![0; size], size);
            // SAFETY: the output has the length passed.
            let read =
                unsafe { c::EVP_PKEY_get_raw_private_key(pkey.as_ptr(), expanded.as_mut_ptr(), &mut length) };
            assert_eq!((read, length), (1, size));
            let again = from_expanded(&expanded).unwrap();
            assert_eq!(kind_of(&again), Some(kind));
            let mut halves = [vec![0; public], vec![0; public]];
            for (pkey, half) in [pkey, &again].into_iter().zip(&mut halves) {
                // SAFETY: as above.
                unsafe {
                    assert_eq!(
                        c::EVP_PKEY_get_raw_public_key(pkey.as_ptr(), half.as_mut_ptr(), &mut length),
                        1
                    );
                }
            }
            assert_eq!(halves[0], halves[1]);
            expanded.pop();
            assert!(from_expanded(&expanded).is_err());
        }
    }

    #[test]
    fn what_was_changed_gives_another_secret_and_what_is_too_short_none() {
        for kind in KeyKind::ALL.into_iter().filter(|kind| kind.decapsulates()) {
            let (key, other) = (PrivateKey::generate(kind).unwrap(), PrivateKey::generate(kind).unwrap());
            let public = PublicKey::from_spki(&key.public_spki().unwrap()).unwrap();
            let (mut ciphertext, secret) = public.encapsulate().unwrap();
            assert_eq!(&*key.decapsulate(&ciphertext).unwrap(), &*secret);
            assert_ne!(&*other.decapsulate(&ciphertext).unwrap(), &*secret);
            ciphertext[7] ^= 1;
            let rejected = key.decapsulate(&ciphertext).unwrap();
            assert_ne!(&*rejected, &*secret);
            // Implicit rejection depends on the key and the ciphertext alone (FIPS 203, algorithm 18).
            let again = PrivateKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(&*again.decapsulate(&ciphertext).unwrap(), &*rejected);
            let short = key.decapsulate(&ciphertext[1..]);
            assert!(matches!(short, Err(CryptoError::DataLength { .. })));
        }
        let p256 = PrivateKey::generate(KeyKind::P256).unwrap();
        assert!(matches!(p256.decapsulate(&[0; 768]), Err(CryptoError::MechanismDoesNotFit { .. })));
        let public = PublicKey::from_spki(&p256.public_spki().unwrap()).unwrap();
        assert!(matches!(public.encapsulate(), Err(CryptoError::MechanismDoesNotFit { .. })));
    }
}
