//! Key types: what PKCS#11 says of them, and their public keys in DER.

use cryptoki_sys::*;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use strongroom_protocol::v1::KeyType;

use crate::curve;
use crate::error::Outcome;
use crate::parameter_set;

/// Keys that share mechanisms and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `CKK_RSA`.
    Rsa,
    /// `CKK_EC`.
    Ec,
    /// `CKK_EC_EDWARDS`.
    Edwards,
    /// `CKK_EC_MONTGOMERY`.
    Montgomery,
    /// `CKK_ML_DSA`.
    MlDsa,
    /// `CKK_ML_KEM`.
    MlKem,
    /// `CKK_AES`.
    Aes,
    /// `CKK_GENERIC_SECRET`.
    Generic,
    /// `CKK_DES3`.
    Des3,
}

impl Family {
    /// The value of `CKA_KEY_TYPE`.
    pub fn key_type(self) -> CK_KEY_TYPE {
        match self {
            Family::Rsa => CKK_RSA,
            Family::Ec => CKK_EC,
            Family::Edwards => CKK_EC_EDWARDS,
            Family::Montgomery => CKK_EC_MONTGOMERY,
            Family::MlDsa => CKK_ML_DSA,
            Family::MlKem => CKK_ML_KEM,
            Family::Aes => CKK_AES,
            Family::Generic => CKK_GENERIC_SECRET,
            Family::Des3 => CKK_DES3,
        }
    }

    /// The family of a `CKA_KEY_TYPE`, if the partition has such keys.
    pub fn of_key_type(key_type: CK_KEY_TYPE) -> Option<Self> {
        if is_for_one_use(key_type) {
            return Some(Family::Generic);
        }
        KEYS.iter().map(|facts| facts.family).find(|family| family.key_type() == key_type)
    }

    /// Whether such keys are pairs.
    pub fn is_pair(self) -> bool {
        !matches!(self, Family::Aes | Family::Generic | Family::Des3)
    }

    /// Whether such private keys sign.
    pub fn signs(self) -> bool {
        self.is_pair() && !matches!(self, Family::Montgomery | Family::MlKem)
    }

    /// Whether such secret keys encrypt and decrypt.
    pub fn encrypts(self) -> bool {
        matches!(self, Family::Aes | Family::Des3)
    }

    /// Whether such secret keys wrap and unwrap others.
    pub fn wraps(self) -> bool {
        self == Family::Aes
    }

    /// Whether such private keys agree on secrets.
    pub fn derives(self) -> bool {
        matches!(self, Family::Ec | Family::Montgomery)
    }

    /// Whether such private keys decapsulate secrets.
    pub fn decapsulates(self) -> bool {
        self == Family::MlKem
    }

    /// The size in bytes of the seed that a private key is made from (FIPS 204, algorithm 1; FIPS 203, 7.1: d and z), of
    /// families whose keys are named by a parameter set.
    pub fn seed(self) -> Option<usize> {
        match self {
            Family::MlDsa => Some(32),
            Family::MlKem => Some(64),
            _ => None,
        }
    }

    /// The mechanism that makes such keys: `CKA_KEY_GEN_MECHANISM`.
    pub fn generator(self) -> CK_MECHANISM_TYPE {
        match self {
            Family::Rsa => CKM_RSA_PKCS_KEY_PAIR_GEN,
            Family::Ec => CKM_EC_KEY_PAIR_GEN,
            Family::Edwards => CKM_EC_EDWARDS_KEY_PAIR_GEN,
            Family::Montgomery => CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
            Family::MlDsa => CKM_ML_DSA_KEY_PAIR_GEN,
            Family::MlKem => CKM_ML_KEM_KEY_PAIR_GEN,
            Family::Aes => CKM_AES_KEY_GEN,
            Family::Generic => CKM_GENERIC_SECRET_KEY_GEN,
            Family::Des3 => CKM_DES3_KEY_GEN,
        }
    }
}

/// The types of generic secrets that say what they are for, and what makes them. The partition keeps the type with the key, and does
/// not look at it.
const FOR_ONE_USE: [(CK_KEY_TYPE, CK_MECHANISM_TYPE); 10] = [
    (CKK_HKDF, CKM_HKDF_KEY_GEN),
    (CKK_SHA_1_HMAC, CKM_SHA_1_KEY_GEN),
    (CKK_SHA224_HMAC, CKM_SHA224_KEY_GEN),
    (CKK_SHA256_HMAC, CKM_SHA256_KEY_GEN),
    (CKK_SHA384_HMAC, CKM_SHA384_KEY_GEN),
    (CKK_SHA512_HMAC, CKM_SHA512_KEY_GEN),
    (CKK_SHA3_224_HMAC, CKM_SHA3_224_KEY_GEN),
    (CKK_SHA3_256_HMAC, CKM_SHA3_256_KEY_GEN),
    (CKK_SHA3_384_HMAC, CKM_SHA3_384_KEY_GEN),
    (CKK_SHA3_512_HMAC, CKM_SHA3_512_KEY_GEN),
];

/// Whether a `CKA_KEY_TYPE` is of generic secrets that say what they are for.
pub fn is_for_one_use(key_type: CK_KEY_TYPE) -> bool {
    generator_for_one_use(key_type).is_some()
}

/// What makes generic secrets of such a type.
pub fn generator_for_one_use(key_type: CK_KEY_TYPE) -> Option<CK_MECHANISM_TYPE> {
    FOR_ONE_USE.iter().find(|(of, _)| *of == key_type).map(|(_, generator)| *generator)
}

/// The type of the generic secrets that a mechanism makes, if it makes them for one use.
pub fn made_for_one_use(generator: CK_MECHANISM_TYPE) -> Option<CK_KEY_TYPE> {
    FOR_ONE_USE.iter().find(|(_, by)| *by == generator).map(|(key_type, _)| *key_type)
}

/// What is fixed by a key type.
#[derive(Debug)]
pub struct KeyFacts {
    /// The protocol's name for it.
    pub key_type: KeyType,
    /// Its family.
    pub family: Family,
    /// The size of the modulus, of the curve's field, of a lattice's public key, or of the secret key, in bits; 0 of
    /// generic secrets.
    pub bits: usize,
    /// The size of its signatures in bytes (ECDSA: r and s together); 0 of keys that do not sign.
    pub signature: usize,
    /// The curve.
    pub curve: Option<ObjectIdentifier>,
}

impl KeyFacts {
    /// Whether the partition signs with such keys through a channel.
    pub fn has_channel(&self) -> bool {
        use KeyType::{Ed25519, P256, P384, P521};
        self.family == Family::Rsa || matches!(self.key_type, P256 | P384 | P521 | Ed25519)
    }

    /// The size of an EC scalar, or of a private key of the curves of Edwards and Montgomery, in bytes.
    pub fn scalar(&self) -> usize {
        match self.key_type {
            // The sign of x is in a byte of its own.
            KeyType::Ed448 => 57,
            _ => self.bits.div_ceil(8),
        }
    }
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

const fn rsa_of(key_type: KeyType, bits: usize) -> KeyFacts {
    KeyFacts { key_type, family: Family::Rsa, bits, signature: bits / 8, curve: None }
}

const fn ec(key_type: KeyType, bits: usize, curve: ObjectIdentifier) -> KeyFacts {
    let signature = 2 * bits.div_ceil(8);
    KeyFacts { key_type, family: Family::Ec, bits, signature, curve: Some(curve) }
}

/// With a public key of so many bytes.
const fn lattice(key_type: KeyType, family: Family, public: usize, signature: usize) -> KeyFacts {
    KeyFacts { key_type, family, bits: 8 * public, signature, curve: None }
}

const fn secret_of(key_type: KeyType, family: Family, bits: usize) -> KeyFacts {
    KeyFacts { key_type, family, bits, signature: 0, curve: None }
}

/// All key types of the partition.
pub static KEYS: [KeyFacts; 27] = [
    rsa_of(KeyType::Rsa2048, 2048),
    rsa_of(KeyType::Rsa3072, 3072),
    rsa_of(KeyType::Rsa4096, 4096),
    ec(KeyType::P224, 224, curve::P224),
    ec(KeyType::P256, 256, curve::P256),
    ec(KeyType::P384, 384, curve::P384),
    ec(KeyType::P521, 521, curve::P521),
    ec(KeyType::Secp256k1, 256, curve::SECP256K1),
    ec(KeyType::BrainpoolP256r1, 256, curve::BRAINPOOL_P256R1),
    ec(KeyType::BrainpoolP320r1, 320, curve::BRAINPOOL_P320R1),
    ec(KeyType::BrainpoolP384r1, 384, curve::BRAINPOOL_P384R1),
    ec(KeyType::BrainpoolP512r1, 512, curve::BRAINPOOL_P512R1),
    KeyFacts {
        key_type: KeyType::Ed25519,
        family: Family::Edwards,
        bits: 255,
        signature: 64,
        curve: Some(curve::ED25519),
    },
    KeyFacts {
        key_type: KeyType::X25519,
        family: Family::Montgomery,
        bits: 255,
        signature: 0,
        curve: Some(curve::X25519),
    },
    KeyFacts {
        key_type: KeyType::Ed448,
        family: Family::Edwards,
        bits: 448,
        signature: 114,
        curve: Some(curve::ED448),
    },
    KeyFacts {
        key_type: KeyType::X448,
        family: Family::Montgomery,
        bits: 448,
        signature: 0,
        curve: Some(curve::X448),
    },
    // FIPS 204, table 2.
    lattice(KeyType::MlDsa44, Family::MlDsa, 1312, 2420),
    lattice(KeyType::MlDsa65, Family::MlDsa, 1952, 3309),
    lattice(KeyType::MlDsa87, Family::MlDsa, 2592, 4627),
    // FIPS 203, table 3.
    lattice(KeyType::MlKem512, Family::MlKem, 800, 0),
    lattice(KeyType::MlKem768, Family::MlKem, 1184, 0),
    lattice(KeyType::MlKem1024, Family::MlKem, 1568, 0),
    secret_of(KeyType::Aes128, Family::Aes, 128),
    secret_of(KeyType::Aes192, Family::Aes, 192),
    secret_of(KeyType::Aes256, Family::Aes, 256),
    // They have different sizes.
    secret_of(KeyType::GenericSecret, Family::Generic, 0),
    secret_of(KeyType::Des3, Family::Des3, 192),
];

/// The facts of a key type; `None` for one that this release does not know.
pub fn facts(key_type: KeyType) -> Option<&'static KeyFacts> {
    KEYS.iter().find(|facts| facts.key_type == key_type)
}

/// The RSA key of this many bits.
pub fn rsa(bits: usize) -> Option<&'static KeyFacts> {
    KEYS.iter().find(|facts| facts.family == Family::Rsa && facts.bits == bits)
}

/// The longest generic secret, in bytes.
pub const MAX_SECRET: usize = 1024;

/// The secret key of a family of this many bytes.
pub fn secret(family: Family, length: usize) -> Option<&'static KeyFacts> {
    let fits = |facts: &&KeyFacts| match family {
        Family::Generic => (1..=MAX_SECRET).contains(&length),
        _ => facts.bits / 8 == length,
    };
    KEYS.iter().filter(|facts| facts.family == family && !family.is_pair()).find(fits)
}

/// PKCS#1's RSAPublicKey.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// A public key as PKCS#11 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`, big-endian without leading zeros.
    Rsa {
        /// n.
        modulus: Vec<u8>,
        /// e.
        exponent: Vec<u8>,
    },
    /// Of all kinds of curves.
    Curve {
        /// `CKA_EC_PARAMS`: the curve's identifier in DER.
        parameters: Vec<u8>,
        /// `CKA_EC_POINT`: the point (or Ed25519's and X25519's 32 bytes) in a DER OCTET STRING.
        point: Vec<u8>,
    },
    /// `CKA_VALUE`, of lattices.
    Lattice(Vec<u8>),
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo. `None` if it is not one of a type that we know.
    pub fn of_spki(facts: &KeyFacts, der: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        let bits = info.subject_public_key.as_bytes()?;
        match facts.curve {
            None if facts.family.seed().is_some() => Some(PublicKey::Lattice(bits.to_vec())),
            None if facts.family != Family::Rsa => None,
            None => {
                let key = RsaPublicKey::from_der(bits).ok()?;
                Some(PublicKey::Rsa {
                    modulus: key.modulus.as_bytes().to_vec(),
                    exponent: key.exponent.as_bytes().to_vec(),
                })
            }
            Some(curve) => Some(PublicKey::Curve {
                parameters: curve.to_der().ok()?,
                point: OctetStringRef::new(bits).ok()?.to_der().ok()?,
            }),
        }
    }
}

/// The DER SubjectPublicKeyInfo of an RSA key.
///
/// # Errors
///
/// `CKR_ATTRIBUTE_VALUE_INVALID` for a size that the partition does not have.
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Outcome<(&'static KeyFacts, Vec<u8>)> {
    let invalid = |_| CKR_ATTRIBUTE_VALUE_INVALID;
    let modulus = UintRef::new(modulus).map_err(invalid)?;
    let facts = rsa(bits(modulus.as_bytes())).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    let key = RsaPublicKey { modulus, exponent: UintRef::new(exponent).map_err(invalid)? };
    let key = key.to_der().map_err(invalid)?;
    let spki = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) },
        subject_public_key: BitStringRef::from_bytes(&key).map_err(invalid)?,
    };
    Ok((facts, spki.to_der().map_err(invalid)?))
}

/// A point as it is, whether it was given so or in a DER OCTET STRING; `None` if it has another size than the curve's.
pub fn bare_point<'a>(facts: &KeyFacts, point: &'a [u8]) -> Option<&'a [u8]> {
    let expected = match facts.family {
        Family::Edwards | Family::Montgomery => facts.scalar(),
        _ => 1 + 2 * facts.scalar(),
    };
    match <&OctetStringRef>::from_der(point) {
        Ok(inner) if inner.as_bytes().len() == expected => Some(inner.as_bytes()),
        _ => Some(point).filter(|point| point.len() == expected),
    }
}

/// The DER SubjectPublicKeyInfo of a key on a curve, from `CKA_EC_POINT`: the point in a DER OCTET STRING,
/// or, as some applications give it, bare.
///
/// # Errors
///
/// `CKR_ATTRIBUTE_VALUE_INVALID` for a point of another size than the curve's.
pub fn curve_spki(facts: &KeyFacts, point: &[u8]) -> Outcome<Vec<u8>> {
    let invalid = |_| CKR_ATTRIBUTE_VALUE_INVALID;
    let point = bare_point(facts, point).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    let spki = SubjectPublicKeyInfoRef {
        algorithm: algorithm(facts),
        subject_public_key: BitStringRef::from_bytes(point).map_err(invalid)?,
    };
    spki.to_der().map_err(invalid)
}

/// The AlgorithmIdentifier of a key type, in SubjectPublicKeyInfo and in PKCS#8.
pub fn algorithm(facts: &KeyFacts) -> AlgorithmIdentifierRef<'_> {
    match (facts.family, &facts.curve) {
        (Family::Ec, Some(curve)) => AlgorithmIdentifierRef { oid: EC, parameters: Some(curve.into()) },
        (Family::Edwards | Family::Montgomery, Some(curve)) => {
            AlgorithmIdentifierRef { oid: *curve, parameters: None }
        }
        (Family::MlDsa | Family::MlKem, _) => AlgorithmIdentifierRef {
            oid: parameter_set::identifier(facts.key_type).unwrap_or(RSA),
            parameters: None,
        },
        _ => AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) },
    }
}

/// The size in bits of a big-endian number without leading zero bytes.
pub fn bits(number: &[u8]) -> usize {
    match number.first() {
        Some(first) => number.len() * 8 - first.leading_zeros() as usize,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_there_and_back() {
        let mut modulus = vec![0xc1; 256];
        modulus[255] = 1;
        let (facts, spki) = rsa_spki(&modulus, &[1, 0, 1]).unwrap();
        assert_eq!(facts.key_type, KeyType::Rsa2048);
        let key = PublicKey::of_spki(facts, &spki).unwrap();
        assert_eq!(key, PublicKey::Rsa { modulus, exponent: vec![1, 0, 1] });
        assert_eq!(rsa_spki(&[1; 100], &[3]).unwrap_err(), CKR_ATTRIBUTE_VALUE_INVALID);

        let p384 = super::facts(KeyType::P384).unwrap();
        let spki = curve_spki(p384, &[4; 97]).unwrap();
        let Some(PublicKey::Curve { parameters, point }) = PublicKey::of_spki(p384, &spki) else { panic!() };
        assert_eq!(parameters, curve::P384.to_der().unwrap());
        assert_eq!(point[..2], [4, 97]);
        assert_eq!(curve_spki(p384, &point).unwrap(), spki, "with and without the OCTET STRING");
        assert_eq!(curve_spki(p384, &[4; 65]).unwrap_err(), CKR_ATTRIBUTE_VALUE_INVALID);
    }

    #[test]
    fn sizes_in_bits() {
        assert_eq!([bits(&[]), bits(&[1]), bits(&[0x80, 0])], [0, 1, 16]);
    }
}
