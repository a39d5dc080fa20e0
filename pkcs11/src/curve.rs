//! The curves that keys lie on, and all that applications call them in `CKA_EC_PARAMS`.

use cryptoki_sys::*;
use der::Decode;
use der::asn1::{AnyRef, ObjectIdentifier};
use strongroom_protocol::v1::KeyType;

use crate::error::Outcome;
use crate::key::{self, Family, KeyFacts};

const fn identifier(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// FIPS 186-4's names, and those of SEC 2 and ANSI X9.62.
pub const P224: ObjectIdentifier = identifier("1.3.132.0.33");
/// See [`P224`].
pub const P256: ObjectIdentifier = identifier("1.2.840.10045.3.1.7");
/// See [`P224`].
pub const P384: ObjectIdentifier = identifier("1.3.132.0.34");
/// See [`P224`].
pub const P521: ObjectIdentifier = identifier("1.3.132.0.35");
/// SEC 2, A.2.1.
pub const SECP256K1: ObjectIdentifier = identifier("1.3.132.0.10");
/// RFC 5639, 4.1.
pub const BRAINPOOL_P256R1: ObjectIdentifier = identifier("1.3.36.3.3.2.8.1.1.7");
/// See [`BRAINPOOL_P256R1`].
pub const BRAINPOOL_P320R1: ObjectIdentifier = identifier("1.3.36.3.3.2.8.1.1.9");
/// See [`BRAINPOOL_P256R1`].
pub const BRAINPOOL_P384R1: ObjectIdentifier = identifier("1.3.36.3.3.2.8.1.1.11");
/// See [`BRAINPOOL_P256R1`].
pub const BRAINPOOL_P512R1: ObjectIdentifier = identifier("1.3.36.3.3.2.8.1.1.13");
/// RFC 8410, which PKCS#11 3.0 names for Ed25519.
pub const ED25519: ObjectIdentifier = identifier("1.3.101.112");
/// RFC 8410's name for X25519.
pub const X25519: ObjectIdentifier = identifier("1.3.101.110");

/// See [`ED25519`].
pub const ED448: ObjectIdentifier = identifier("1.3.101.113");
/// See [`X25519`].
pub const X448: ObjectIdentifier = identifier("1.3.101.111");

/// Other identifiers: GnuPG's, and older OpenSC's, for Ed25519 and X25519.
const OTHERS: [(ObjectIdentifier, KeyType); 2] = [
    (identifier("1.3.6.1.4.1.11591.15.1"), KeyType::Ed25519),
    (identifier("1.3.6.1.4.1.3029.1.5.1"), KeyType::X25519),
];

/// `curveName`, a PrintableString: PKCS#11 3.0 has it for the curves of Edwards and Montgomery, and leaves open what others
/// are called. These are the names that standards give them.
const NAMES: [(&str, KeyType); 18] = [
    ("secp224r1", KeyType::P224),
    ("secp256r1", KeyType::P256),
    ("prime256v1", KeyType::P256),
    ("secp384r1", KeyType::P384),
    ("secp521r1", KeyType::P521),
    ("P-224", KeyType::P224),
    ("P-256", KeyType::P256),
    ("P-384", KeyType::P384),
    ("P-521", KeyType::P521),
    ("secp256k1", KeyType::Secp256k1),
    ("brainpoolP256r1", KeyType::BrainpoolP256r1),
    ("brainpoolP320r1", KeyType::BrainpoolP320r1),
    ("brainpoolP384r1", KeyType::BrainpoolP384r1),
    ("brainpoolP512r1", KeyType::BrainpoolP512r1),
    ("edwards25519", KeyType::Ed25519),
    ("edwards448", KeyType::Ed448),
    ("curve25519", KeyType::X25519),
    ("curve448", KeyType::X448),
];

/// The tag of a PrintableString.
const PRINTABLE: u8 = 0x13;

/// The key type on the curve that `CKA_EC_PARAMS` names, by identifier or by name.
///
/// # Errors
///
/// `CKR_DOMAIN_PARAMS_INVALID` for bytes that name no curve, `CKR_CURVE_NOT_SUPPORTED` for another curve.
pub fn of_parameters(family: Family, parameters: &[u8]) -> Outcome<&'static KeyFacts> {
    let key_type = match parameters {
        // The length is not looked at: OpenSC 0.23 says one too many for "curve25519".
        [PRINTABLE, _, name @ ..] => of_name(name)?,
        _ => {
            // Explicit parameters, implicit ones and junk are no identifiers.
            let invalid = |_| CKR_DOMAIN_PARAMS_INVALID;
            let any = AnyRef::from_der(parameters).map_err(invalid)?;
            of_identifier(any.decode_as().map_err(invalid)?)?
        }
    };
    key::facts(key_type).filter(|facts| facts.family == family).ok_or(CKR_CURVE_NOT_SUPPORTED)
}

fn of_name(name: &[u8]) -> Outcome<KeyType> {
    let found = NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
    found.map(|(_, key_type)| *key_type).ok_or(CKR_CURVE_NOT_SUPPORTED)
}

fn of_identifier(identifier: ObjectIdentifier) -> Outcome<KeyType> {
    let usual = key::KEYS.iter().find(|facts| facts.curve == Some(identifier)).map(|facts| facts.key_type);
    let other = || OTHERS.iter().find(|(other, _)| *other == identifier).map(|(_, key_type)| *key_type);
    usual.or_else(other).ok_or(CKR_CURVE_NOT_SUPPORTED)
}

#[cfg(test)]
mod tests {
    use der::Encode;
    use der::asn1::PrintableStringRef;

    use super::*;

    fn printable(name: &str) -> Vec<u8> {
        PrintableStringRef::new(name).unwrap().to_der().unwrap()
    }

    #[test]
    fn curves_by_identifier_and_by_name() {
        let p256 = P256.to_der().unwrap();
        assert_eq!(of_parameters(Family::Ec, &p256).unwrap().key_type, KeyType::P256);
        assert_eq!(of_parameters(Family::Edwards, &p256).unwrap_err(), CKR_CURVE_NOT_SUPPORTED);
        for facts in key::KEYS.iter().filter(|facts| facts.curve.is_some()) {
            let parameters = facts.curve.unwrap().to_der().unwrap();
            assert_eq!(of_parameters(facts.family, &parameters).unwrap().key_type, facts.key_type);
        }
        for (name, key_type) in NAMES {
            let family = key::facts(key_type).unwrap().family;
            assert_eq!(of_parameters(family, &printable(name)).unwrap().key_type, key_type);
        }
        for name in [printable("edwards25519"), OTHERS[0].0.to_der().unwrap()] {
            assert_eq!(of_parameters(Family::Edwards, &name).unwrap().key_type, KeyType::Ed25519);
        }
        // OpenSC 0.23's, too.
        let too_long = [&[PRINTABLE, 11][..], b"curve25519"].concat();
        for name in [printable("curve25519"), too_long, OTHERS[1].0.to_der().unwrap()] {
            assert_eq!(of_parameters(Family::Montgomery, &name).unwrap().key_type, KeyType::X25519);
            assert_eq!(of_parameters(Family::Edwards, &name).unwrap_err(), CKR_CURVE_NOT_SUPPORTED);
        }
    }

    #[test]
    fn what_names_no_curve_of_ours_is_refused() {
        let other = identifier("1.3.36.3.3.2.8.1.1.8").to_der().unwrap();
        assert_eq!(of_parameters(Family::Ec, &other).unwrap_err(), CKR_CURVE_NOT_SUPPORTED);
        assert_eq!(of_parameters(Family::Ec, &printable("P-255")).unwrap_err(), CKR_CURVE_NOT_SUPPORTED);
        // NULL: implicitly known; a sequence: explicit.
        for wrong in [&b"junk"[..], &[], &[PRINTABLE], &[5, 0], &[0x30, 0], &[6, 3, 0x2b]] {
            assert_eq!(of_parameters(Family::Ec, wrong).unwrap_err(), CKR_DOMAIN_PARAMS_INVALID, "{wrong:?}");
        }
    }
}
