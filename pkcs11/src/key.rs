//! Key types: what PKCS#11 says of them, and their public keys in DER.

use cryptoki_sys::*;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, PrintableStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use strongroom_protocol::v1::KeyType;

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
        self.key_type != KeyType::Secp256k1 && self.family != Family::MlDsa
    }

    /// The size of an EC scalar, or of a private key of Ed25519 or X25519, in bytes.
    pub fn scalar(&self) -> usize {
        self.bits.div_ceil(8)
    }
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// SEC 2, A.2.1.
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");
/// RFC 8410, which PKCS#11 3.0 names for Ed25519.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// RFC 8410's name for X25519.
const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
/// What GnuPG calls X25519.
const X25519_GNU: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3029.1.5.1");
/// PKCS#11 3.0's `curveName` for X25519.
const X25519_NAME: &str = "curve25519";
/// What GnuPG, and older OpenSC, call Ed25519.
const ED25519_GNU: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.15.1");
/// PKCS#11 3.0's `curveName` for Ed25519, a PrintableString.
const ED25519_NAME: &str = "edwards25519";

/// All key types of the partition.
pub static KEYS: [KeyFacts; 20] = [
    KeyFacts { key_type: KeyType::Rsa2048, family: Family::Rsa, bits: 2048, signature: 256, curve: None },
    KeyFacts { key_type: KeyType::Rsa3072, family: Family::Rsa, bits: 3072, signature: 384, curve: None },
    KeyFacts { key_type: KeyType::Rsa4096, family: Family::Rsa, bits: 4096, signature: 512, curve: None },
    KeyFacts { key_type: KeyType::P256, family: Family::Ec, bits: 256, signature: 64, curve: Some(P256) },
    KeyFacts { key_type: KeyType::P384, family: Family::Ec, bits: 384, signature: 96, curve: Some(P384) },
    KeyFacts { key_type: KeyType::P521, family: Family::Ec, bits: 521, signature: 132, curve: Some(P521) },
    KeyFacts {
        key_type: KeyType::Secp256k1,
        family: Family::Ec,
        bits: 256,
        signature: 64,
        curve: Some(SECP256K1),
    },
    KeyFacts {
        key_type: KeyType::Ed25519,
        family: Family::Edwards,
        bits: 255,
        signature: 64,
        curve: Some(ED25519),
    },
    KeyFacts {
        key_type: KeyType::X25519,
        family: Family::Montgomery,
        bits: 255,
        signature: 0,
        curve: Some(X25519),
    },
    // FIPS 204, table 2.
    KeyFacts {
        key_type: KeyType::MlDsa44,
        family: Family::MlDsa,
        bits: 8 * 1312,
        signature: 2420,
        curve: None,
    },
    KeyFacts {
        key_type: KeyType::MlDsa65,
        family: Family::MlDsa,
        bits: 8 * 1952,
        signature: 3309,
        curve: None,
    },
    KeyFacts {
        key_type: KeyType::MlDsa87,
        family: Family::MlDsa,
        bits: 8 * 2592,
        signature: 4627,
        curve: None,
    },
    // FIPS 203, table 3.
    KeyFacts { key_type: KeyType::MlKem512, family: Family::MlKem, bits: 8 * 800, signature: 0, curve: None },
    KeyFacts {
        key_type: KeyType::MlKem768,
        family: Family::MlKem,
        bits: 8 * 1184,
        signature: 0,
        curve: None,
    },
    KeyFacts {
        key_type: KeyType::MlKem1024,
        family: Family::MlKem,
        bits: 8 * 1568,
        signature: 0,
        curve: None,
    },
    KeyFacts { key_type: KeyType::Aes128, family: Family::Aes, bits: 128, signature: 0, curve: None },
    KeyFacts { key_type: KeyType::Aes192, family: Family::Aes, bits: 192, signature: 0, curve: None },
    KeyFacts { key_type: KeyType::Aes256, family: Family::Aes, bits: 256, signature: 0, curve: None },
    // They have different sizes.
    KeyFacts {
        key_type: KeyType::GenericSecret,
        family: Family::Generic,
        bits: 0,
        signature: 0,
        curve: None,
    },
    KeyFacts { key_type: KeyType::Des3, family: Family::Des3, bits: 192, signature: 0, curve: None },
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

/// The key type on the curve that `CKA_EC_PARAMS` names, by identifier or, of Edwards curves, by name.
///
/// # Errors
///
/// `CKR_DOMAIN_PARAMS_INVALID` for bytes that name no curve, `CKR_CURVE_NOT_SUPPORTED` for another curve.
pub fn of_curve(family: Family, parameters: &[u8]) -> Outcome<&'static KeyFacts> {
    let any = AnyRef::from_der(parameters).map_err(|_| CKR_DOMAIN_PARAMS_INVALID)?;
    let curve = if let Ok(identifier) = any.decode_as::<ObjectIdentifier>() {
        match identifier {
            ED25519_GNU => ED25519,
            X25519_GNU => X25519,
            identifier => identifier,
        }
    } else if let Ok(name) = any.decode_as::<PrintableStringRef<'_>>() {
        match name.as_str() {
            ED25519_NAME => ED25519,
            X25519_NAME => X25519,
            _ => return Err(CKR_CURVE_NOT_SUPPORTED),
        }
    } else {
        // Explicit curve parameters, or implicit ones.
        return Err(CKR_DOMAIN_PARAMS_INVALID);
    };
    KEYS.iter()
        .find(|facts| facts.family == family && facts.curve == Some(curve))
        .ok_or(CKR_CURVE_NOT_SUPPORTED)
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
        (Family::Edwards, _) => AlgorithmIdentifierRef { oid: ED25519, parameters: None },
        (Family::Montgomery, _) => AlgorithmIdentifierRef { oid: X25519, parameters: None },
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
    fn curves_by_identifier_and_by_name() {
        let p256 = P256.to_der().unwrap();
        assert_eq!(of_curve(Family::Ec, &p256).unwrap().key_type, KeyType::P256);
        assert_eq!(of_curve(Family::Edwards, &p256).unwrap_err(), CKR_CURVE_NOT_SUPPORTED);
        let named = PrintableStringRef::new("edwards25519").unwrap().to_der().unwrap();
        for name in [named, ED25519.to_der().unwrap(), ED25519_GNU.to_der().unwrap()] {
            assert_eq!(of_curve(Family::Edwards, &name).unwrap().key_type, KeyType::Ed25519);
        }
        let named = PrintableStringRef::new("curve25519").unwrap().to_der().unwrap();
        for name in [named, X25519.to_der().unwrap(), X25519_GNU.to_der().unwrap()] {
            assert_eq!(of_curve(Family::Montgomery, &name).unwrap().key_type, KeyType::X25519);
            assert_eq!(of_curve(Family::Edwards, &name).unwrap_err(), CKR_CURVE_NOT_SUPPORTED);
        }
        let other = ObjectIdentifier::new_unwrap("1.3.132.0.33").to_der().unwrap();
        assert_eq!(of_curve(Family::Ec, &other).unwrap_err(), CKR_CURVE_NOT_SUPPORTED);
        assert_eq!(of_curve(Family::Ec, b"junk").unwrap_err(), CKR_DOMAIN_PARAMS_INVALID);
        assert_eq!(of_curve(Family::Ec, &[]).unwrap_err(), CKR_DOMAIN_PARAMS_INVALID);
    }

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
        assert_eq!(parameters, P384.to_der().unwrap());
        assert_eq!(point[..2], [4, 97]);
        assert_eq!(curve_spki(p384, &point).unwrap(), spki, "with and without the OCTET STRING");
        assert_eq!(curve_spki(p384, &[4; 65]).unwrap_err(), CKR_ATTRIBUTE_VALUE_INVALID);
    }

    #[test]
    fn sizes_in_bits() {
        assert_eq!([bits(&[]), bits(&[1]), bits(&[0x80, 0])], [0, 1, 16]);
    }
}
