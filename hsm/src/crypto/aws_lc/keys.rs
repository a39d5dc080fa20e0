//! Keys: generated, parsed from and written to their standard encodings, and checked.

use std::fmt;

use super::sys as c;

use super::owned::{Bignum, Pkey, Rsa, Written};
use super::{Parts, check, curves, lacks, library_error, library_reason, ml_dsa, ml_kem, prepare};
use crate::crypto::{Algorithm, CryptoError, KeyKind, Mechanism, curve448};
use crate::memory::SecretBytes;

/// Who keeps a key, and computes with it.
pub(super) enum Kept<T> {
    /// The library.
    Library(Pkey),
    /// [`curve448`].
    Curve448(T),
}

impl<T> Kept<T> {
    /// The library's key.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`] if it is none of the library's: whoever asks has checked the key's kind.
    pub(super) fn pkey(&self) -> Result<&Pkey, CryptoError> {
        match self {
            Kept::Library(pkey) => Ok(pkey),
            Kept::Curve448(_) => Err(CryptoError::Library("it does not have such keys".to_owned())),
        }
    }
}

/// A private key, ready to sign. Its secret parts are the library's, in protected memory, wiped on drop.
pub struct PrivateKey {
    pub(super) kept: Kept<curve448::PrivateKey>,
    kind: KeyKind,
    /// Ed25519 only: seed and public key, 64 bytes, the form that ED25519_sign takes.
    pub(super) ed25519: Option<SecretBytes>,
    /// What crypto_mb takes of the key.
    pub(super) parts: Option<Parts>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// Makes a new key and checks that it signs what its public half verifies.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`] if the library fails, or the new key is faulty.
    pub fn generate(kind: KeyKind) -> Result<Self, CryptoError> {
        prepare();
        let pkey = match kind.algorithm() {
            Algorithm::Rsa(bits) => generate_rsa(bits, c::RSA_F4 as u64)?,
            Algorithm::Ec(_) => curves::generate(kind)?,
            Algorithm::Ed25519 => generate_raw(c::EVP_PKEY_ED25519)?,
            Algorithm::X25519 => generate_raw(c::EVP_PKEY_X25519)?,
            Algorithm::Ed448 | Algorithm::X448 => {
                return Self::on_curve448(curve448::PrivateKey::generate(kind)?);
            }
            Algorithm::MlDsa(_) => ml_dsa::generate(kind)?,
            Algorithm::MlKem(_) => ml_kem::generate(kind)?,
        };
        let key = Self::new(pkey)?;
        key.check().map_err(|e| CryptoError::Library(format!("a new key is faulty: {e}")))?;
        Ok(key)
    }

    /// Parses a DER PKCS#8 PrivateKeyInfo (RFC 5958) and checks the key: its size, its parts against each
    /// other, and that it signs what its public half verifies.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`], [`CryptoError::NotInBuild`].
    pub fn import(pkcs8: &[u8]) -> Result<Self, CryptoError> {
        let key = match ml_kem::both_forms(pkcs8) {
            // The FIPS module's release does not know seeds.
            Some((_, expanded)) if cfg!(feature = "fips") => Self::new(ml_kem::from_expanded(expanded)?)?,
            Some((seed, expanded)) => Self::from_pkcs8(&seed)?.with_expanded(expanded)?,
            None => Self::from_pkcs8(pkcs8)?,
        };
        key.check()?;
        Ok(key)
    }

    /// Parses a PKCS#8 that [`PrivateKey::to_pkcs8`] wrote and the store has authenticated.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`].
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, CryptoError> {
        if let Some(key) = curve448::PrivateKey::from_pkcs8(pkcs8) {
            return Self::on_curve448(key?);
        }
        let pkey = parse(pkcs8, "private key (PKCS#8)", c::EVP_parse_private_key)?;
        Self::new(if cfg!(feature = "fips") { ml_kem::with_public_half(pkey)? } else { pkey })
    }

    fn new(pkey: Pkey) -> Result<Self, CryptoError> {
        let kind = kind_of(&pkey)?;
        let ed25519 = match kind {
            KeyKind::Ed25519 => Some(ed25519_pair(&pkey)?),
            _ => None,
        };
        let parts = Parts::of(&pkey, kind)?;
        Ok(Self { kept: Kept::Library(pkey), kind, ed25519, parts })
    }

    fn on_curve448(key: curve448::PrivateKey) -> Result<Self, CryptoError> {
        let key = Self { kind: key.kind(), kept: Kept::Curve448(key), ed25519: None, parts: None };
        key.check()?;
        Ok(key)
    }

    /// The key's type.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key as DER PKCS#8 PrivateKeyInfo, in protected memory.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn to_pkcs8(&self) -> Result<SecretBytes, CryptoError> {
        let pkey = match &self.kept {
            Kept::Library(pkey) => pkey,
            Kept::Curve448(key) => return Ok(key.to_pkcs8()),
        };
        // SAFETY: the CBB is valid during the call, the key as long as self.
        let written = Written::by(|cbb| unsafe { c::EVP_marshal_private_key(cbb, pkey.as_ptr()) == 1 })
            .ok_or_else(|| library_error("writing a private key"))?;
        Ok(SecretBytes::from(written.bytes()))
    }

    /// The public half as DER SubjectPublicKeyInfo (RFC 5280, 4.1).
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn public_spki(&self) -> Result<Vec<u8>, CryptoError> {
        let pkey = match &self.kept {
            Kept::Library(pkey) => pkey,
            Kept::Curve448(key) => return Ok(key.public_spki()),
        };
        // SAFETY: as in to_pkcs8.
        let written = Written::by(|cbb| unsafe { c::EVP_marshal_public_key(cbb, pkey.as_ptr()) == 1 })
            .ok_or_else(|| library_error("writing a public key"))?;
        Ok(written.bytes().to_vec())
    }

    /// Checks the key's parts against each other and signs and verifies once (a pairwise consistency test,
    /// FIPS 140-3 IG 10.3.A).
    fn check(&self) -> Result<(), CryptoError> {
        let unsound = |what: &str| CryptoError::KeyMalformed(format!("{what}: {}", library_reason()));
        match self.kind.algorithm() {
            Algorithm::Rsa(_) => {
                self.check_exponent()?;
                // SAFETY: the kind says that this is an RSA key; the pointer is borrowed from the key.
                let sound =
                    unsafe { c::RSA_check_fips(c::EVP_PKEY_get0_RSA(self.kept.pkey()?.as_ptr())) == 1 };
                if !sound {
                    return Err(unsound("the RSA key's parts do not belong together"));
                }
            }
            Algorithm::Ec(_) => {
                // SAFETY: as above, for an EC key.
                let key = unsafe { c::EVP_PKEY_get0_EC_KEY(self.kept.pkey()?.as_ptr()) };
                // SAFETY: as above.
                let sound = unsafe { c::EC_KEY_check_fips(key) == 1 };
                if !sound {
                    return Err(unsound("the EC key's public point does not belong to its private number"));
                }
            }
            // Parsing has compared the public half; what is left is the pairwise test.
            Algorithm::Ed25519 => {
                let public = PublicKey::from_spki(&self.public_spki()?)?;
                let message = b"pairwise consistency";
                let mut signature = [0; 64];
                self.sign_ed25519(message, &mut signature)?;
                public.verify_ed25519(message, &signature).map_err(|_| {
                    CryptoError::KeyMalformed("the Ed25519 key's halves do not belong together".to_owned())
                })?;
            }
            // A signature is verified when it is made.
            Algorithm::Ed448 => {
                self.sign(Mechanism::EdDsa, b"pairwise consistency")?;
            }
            // Any 32, or 56, bytes are one, and its public half was computed from them.
            Algorithm::X25519 | Algorithm::X448 => {}
            Algorithm::MlDsa(_) => self.check_ml_dsa()?,
            Algorithm::MlKem(_) => self.check_ml_kem()?,
        }
        Ok(())
    }

    /// FIPS 186-5 (A.1.1) has exponents above 2^16.
    fn check_exponent(&self) -> Result<(), CryptoError> {
        // SAFETY: called for RSA keys only; the pointers are borrowed from the key.
        let (bits, word) = unsafe {
            let e = c::RSA_get0_e(c::EVP_PKEY_get0_RSA(self.kept.pkey()?.as_ptr()));
            (c::BN_num_bits(e), c::BN_get_word(e))
        };
        match bits > 16 {
            true => Ok(()),
            false => Err(CryptoError::KeyMalformed(format!(
                "the RSA key's public exponent is {word}: keys with 65537 or a larger exponent are kept"
            ))),
        }
    }
}

/// A public key, ready to verify.
pub struct PublicKey {
    pub(super) kept: Kept<curve448::PublicKey>,
    kind: KeyKind,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo of a kind that the partition keeps.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, CryptoError> {
        if let Some(key) = curve448::PublicKey::from_spki(spki) {
            let key = key?;
            return Ok(Self { kind: key.kind(), kept: Kept::Curve448(key) });
        }
        let pkey = parse(spki, "public key (SubjectPublicKeyInfo)", c::EVP_parse_public_key)?;
        let kind = kind_of(&pkey)?;
        Ok(Self { kept: Kept::Library(pkey), kind })
    }

    /// The key's type.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }
}

fn parse(
    der: &[u8],
    what: &str,
    parser: unsafe extern "C" fn(*mut c::CBS) -> *mut c::EVP_PKEY,
) -> Result<Pkey, CryptoError> {
    prepare();
    let mut cbs = std::mem::MaybeUninit::<c::CBS>::uninit();
    // SAFETY: CBS_init writes the CBS, which borrows `der` and is used only in this block; the parser returns
    // null or an object that the caller owns.
    let (pkey, rest) = unsafe {
        c::CBS_init(cbs.as_mut_ptr(), der.as_ptr(), der.len());
        (Pkey::new(parser(cbs.as_mut_ptr())), c::CBS_len(cbs.as_ptr()))
    };
    match pkey {
        None => {
            let reason = library_reason();
            Err(lacks::encoded(der)
                .unwrap_or_else(|| CryptoError::KeyMalformed(format!("not a sound {what}: {reason}"))))
        }
        Some(_) if rest > 0 => {
            Err(CryptoError::KeyMalformed(format!("{rest} bytes too many after the {what}")))
        }
        Some(pkey) => Ok(pkey),
    }
}

/// Decides which kind a key is, and refuses what the partition does not keep.
fn kind_of(pkey: &Pkey) -> Result<KeyKind, CryptoError> {
    let refuse = |what: String| Err(CryptoError::KeyMalformed(what));
    // SAFETY: the key is valid; the get0 functions borrow from it and return null for another type.
    unsafe {
        match c::EVP_PKEY_id(pkey.as_ptr()) {
            c::EVP_PKEY_RSA => {
                let rsa = c::EVP_PKEY_get0_RSA(pkey.as_ptr());
                let e = c::RSA_get0_e(rsa);
                if e.is_null() || c::BN_is_odd(e) != 1 || c::BN_cmp_word(e, 3) < 0 {
                    return refuse("the RSA key's public exponent is not an odd number of at least 3".into());
                }
                match c::RSA_bits(rsa) {
                    2048 => Ok(KeyKind::Rsa2048),
                    3072 => Ok(KeyKind::Rsa3072),
                    4096 => Ok(KeyKind::Rsa4096),
                    bits => refuse(format!("an RSA key of {bits} bits: 2048, 3072 and 4096 are kept")),
                }
            }
            c::EVP_PKEY_EC => curves::kind_of(pkey),
            c::EVP_PKEY_ED25519 => Ok(KeyKind::Ed25519),
            c::EVP_PKEY_X25519 => Ok(KeyKind::X25519),
            c::EVP_PKEY_PQDSA => match ml_dsa::kind_of(pkey) {
                Some(kind) => Ok(kind),
                None => refuse("a lattice key that is not one of ML-DSA".into()),
            },
            c::EVP_PKEY_KEM => match ml_kem::kind_of(pkey) {
                Some(kind) => Ok(kind),
                None => refuse("a lattice key that is not one of ML-KEM".into()),
            },
            _ => refuse("neither an RSA, an EC, an Ed25519, an Ed448, an X25519, an X448, an ML-DSA nor an ML-KEM key".into()),
        }
    }
}

fn generate_rsa(bits: u32, exponent: u64) -> Result<Pkey, CryptoError> {
    let bits = bits as std::ffi::c_int;
    // SAFETY: new objects are owned at once and outlive the calls that use them; EVP_PKEY_set1_RSA takes a
    // reference of its own.
    unsafe {
        let rsa = Rsa::new(c::RSA_new()).ok_or_else(|| library_error("RSA_new"))?;
        let e = Bignum::new(c::BN_new()).ok_or_else(|| library_error("BN_new"))?;
        check(c::BN_set_word(e.as_ptr(), exponent), "BN_set_word")?;
        check(
            c::RSA_generate_key_ex(rsa.as_ptr(), bits, e.as_ptr(), std::ptr::null_mut()),
            "generating an RSA key",
        )?;
        let pkey = Pkey::new(c::EVP_PKEY_new()).ok_or_else(|| library_error("EVP_PKEY_new"))?;
        check(c::EVP_PKEY_set1_RSA(pkey.as_ptr(), rsa.as_ptr()), "EVP_PKEY_set1_RSA")?;
        Ok(pkey)
    }
}

/// Of a type whose keys are any 32 bytes.
fn generate_raw(key_type: std::ffi::c_int) -> Result<Pkey, CryptoError> {
    let mut seed = SecretBytes::zeroed(32);
    super::random(&mut seed);
    // SAFETY: the pointer and length are the seed's; the result is null or owned by the caller.
    unsafe {
        Pkey::new(c::EVP_PKEY_new_raw_private_key(key_type, std::ptr::null_mut(), seed.as_ptr(), seed.len()))
    }
    .ok_or_else(|| library_error("generating a key of 32 bytes"))
}

/// Seed and public key in the 64 bytes that ED25519_sign takes.
fn ed25519_pair(pkey: &Pkey) -> Result<SecretBytes, CryptoError> {
    let mut seed = SecretBytes::zeroed(32);
    let mut public = [0u8; 32];
    let mut pair = SecretBytes::zeroed(64);
    let mut length = seed.len();
    // SAFETY: each buffer has the size that the functions document (32, 32 and 64 bytes), and the length
    // passed is the seed's.
    unsafe {
        check(
            c::EVP_PKEY_get_raw_private_key(pkey.as_ptr(), seed.as_mut_ptr(), &mut length),
            "reading an Ed25519 key",
        )?;
        c::ED25519_keypair_from_seed(public.as_mut_ptr(), pair.as_mut_ptr(), seed.as_ptr());
    }
    Ok(pair)
}

#[cfg(test)]
impl PrivateKey {
    /// A copy of an RSA key with a damaged CRT parameter.
    pub(in crate::crypto) fn with_a_faulty_half(&self) -> Self {
        // SAFETY: the getters borrow from this key; the setters take the copies, which are valid numbers.
        let pkey = unsafe {
            let rsa = c::EVP_PKEY_get0_RSA(self.kept.pkey().unwrap().as_ptr());
            let mut parts = [std::ptr::null(); 8];
            let [n, e, d, p, q, dmp1, dmq1, iqmp] = &mut parts;
            c::RSA_get0_key(rsa, n, e, d);
            c::RSA_get0_factors(rsa, p, q);
            c::RSA_get0_crt_params(rsa, dmp1, dmq1, iqmp);
            let [n, e, d, p, q, dmp1, dmq1, iqmp] = parts.map(|part| c::BN_dup(part));
            assert_eq!(c::BN_add_word(dmp1, 2), 1);
            let rsa = Rsa::new(c::RSA_new()).unwrap();
            assert_eq!(c::RSA_set0_key(rsa.as_ptr(), n, e, d), 1);
            assert_eq!(c::RSA_set0_factors(rsa.as_ptr(), p, q), 1);
            assert_eq!(c::RSA_set0_crt_params(rsa.as_ptr(), dmp1, dmq1, iqmp), 1);
            let pkey = Pkey::new(c::EVP_PKEY_new()).unwrap();
            assert_eq!(c::EVP_PKEY_set1_RSA(pkey.as_ptr(), rsa.as_ptr()), 1);
            pkey
        };
        Self::new(pkey).unwrap()
    }

    /// An RSA key whose public exponent is not 65537.
    pub(in crate::crypto) fn with_exponent(kind: KeyKind, exponent: u64) -> Self {
        prepare();
        Self::new(generate_rsa(kind.rsa_bits().unwrap(), exponent).unwrap()).unwrap()
    }

    /// Flips a bit of what crypto_mb gets of the key.
    pub(in crate::crypto) fn damage_parts(&mut self) {
        if let Some(Parts::Rsa { private, .. }) = &mut self.parts {
            private[40] ^= 1 << 17;
        }
    }

    /// Lets crypto_mb have nothing of the key.
    pub(in crate::crypto) fn drop_parts(&mut self) {
        self.parts = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Hash;

    #[test]
    fn every_kind_survives_pkcs8() {
        for kind in KeyKind::ALL.into_iter().filter(|kind| crate::crypto::aws_lc::has(*kind)) {
            let key = PrivateKey::generate(kind).unwrap();
            let pkcs8 = key.to_pkcs8().unwrap();
            let again = PrivateKey::import(&pkcs8).unwrap();
            assert_eq!(again.kind(), kind);
            assert_eq!(again.public_spki().unwrap(), key.public_spki().unwrap());
            assert_eq!(&*again.to_pkcs8().unwrap(), &*pkcs8);
            assert_eq!(PublicKey::from_spki(&key.public_spki().unwrap()).unwrap().kind(), kind);
            assert!(PrivateKey::from_pkcs8(&pkcs8[..pkcs8.len() - 1]).is_err());
        }
    }

    /// RFC 8410, 10.3: the second example has an attribute and a public key, here another key's.
    #[test]
    fn an_ed25519_key_with_anothers_public_half_is_refused() {
        let (one, other) = (
            PrivateKey::generate(KeyKind::Ed25519).unwrap(),
            PrivateKey::generate(KeyKind::Ed25519).unwrap(),
        );
        let seed = one.ed25519.as_ref().unwrap().get(..32).unwrap().to_vec();
        let v2 = |public: &[u8]| {
            let inner = [
                &[0x02, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..],
                &seed,
                &[0x81, 0x21, 0],
                public,
            ]
            .concat();
            [&[0x30, inner.len() as u8][..], &inner].concat()
        };
        let public_of = |key: &PrivateKey| key.ed25519.as_ref().unwrap()[32..].to_vec();
        PrivateKey::import(&v2(&public_of(&one))).unwrap();
        assert!(matches!(
            PrivateKey::import(&v2(&public_of(&other))).unwrap_err(),
            CryptoError::KeyMalformed(_)
        ));
    }

    /// The attack of Boneh, DeMillo and Lipton: one faulty half of a CRT signature reveals the key.
    #[test]
    fn a_faulty_rsa_signature_is_not_released() {
        let sound = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let faulty = sound.with_a_faulty_half();
        let pss = Mechanism::RsaPss { hash: Hash::Sha256, mgf1_hash: Hash::Sha256, salt_length: 32 };
        for mechanism in [Mechanism::RsaPkcs, pss] {
            sound.sign(mechanism, &[1; 32]).unwrap();
            let error = faulty.sign(mechanism, &[1; 32]).unwrap_err();
            assert!(matches!(error, CryptoError::Library(_)), "{error}");
        }
        // Nor is such a key imported.
        assert!(faulty.check().is_err());
    }

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn ed25519_published_vector() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap())
                .collect()
        };
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let der =
            [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &seed].concat();
        let key = PrivateKey::import(&der).unwrap();
        assert_eq!(
            key.sign(Mechanism::EdDsa, &[0x72]).unwrap(),
            hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
        );
    }
}
