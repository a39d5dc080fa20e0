//! The parameter sets of lattice keys (ML-DSA, ML-KEM), as PKCS#11 3.2 and as DER name them.

use cryptoki_sys::*;
use der::Encode;
use der::asn1::{BitStringRef, ObjectIdentifier};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use strongroom_protocol::v1::KeyType;

use crate::error::Outcome;
use crate::key::{self, Family, KeyFacts};

/// `CKA_PARAMETER_SET`, and the identifier in SubjectPublicKeyInfo and PKCS#8 (RFC 9881, 2; RFC 9935, 3). The numbers
/// of one family mean other sets in the other.
const PARAMETER_SETS: [(KeyType, CK_ULONG, ObjectIdentifier); 6] = [
    (KeyType::MlDsa44, CKP_ML_DSA_44, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17")),
    (KeyType::MlDsa65, CKP_ML_DSA_65, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18")),
    (KeyType::MlDsa87, CKP_ML_DSA_87, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19")),
    (KeyType::MlKem512, CKP_ML_KEM_512, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.1")),
    (KeyType::MlKem768, CKP_ML_KEM_768, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.2")),
    (KeyType::MlKem1024, CKP_ML_KEM_1024, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.3")),
];

/// The value of `CKA_PARAMETER_SET`; `None` for other keys.
pub fn parameter_set(key_type: KeyType) -> Option<CK_ULONG> {
    PARAMETER_SETS.iter().find(|(other, ..)| *other == key_type).map(|(_, set, _)| *set)
}

/// The identifier of the algorithm; `None` for other keys.
pub fn identifier(key_type: KeyType) -> Option<ObjectIdentifier> {
    PARAMETER_SETS.iter().find(|(other, ..)| *other == key_type).map(|(.., identifier)| *identifier)
}

/// The key type of a `CKA_PARAMETER_SET`.
///
/// # Errors
///
/// `CKR_PARAMETER_SET_NOT_SUPPORTED` if there is none.
pub fn of_parameter_set(family: Family, set: CK_ULONG) -> Outcome<&'static KeyFacts> {
    PARAMETER_SETS
        .iter()
        .filter(|(_, other, _)| *other == set)
        .find_map(|(key_type, ..)| key::facts(*key_type).filter(|facts| facts.family == family))
        .ok_or(CKR_PARAMETER_SET_NOT_SUPPORTED)
}

/// The DER SubjectPublicKeyInfo of a public key (`CKA_VALUE`).
///
/// # Errors
///
/// `CKR_ATTRIBUTE_VALUE_INVALID` for a value of another size than the parameter set's.
pub fn spki(facts: &KeyFacts, value: &[u8]) -> Outcome<Vec<u8>> {
    let invalid = CKR_ATTRIBUTE_VALUE_INVALID;
    let oid = identifier(facts.key_type).filter(|_| value.len() * 8 == facts.bits).ok_or(invalid)?;
    let spki = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef { oid, parameters: None },
        subject_public_key: BitStringRef::from_bytes(value).map_err(|_| invalid)?,
    };
    spki.to_der().map_err(|_| invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_have_the_size_of_their_set() {
        for (family, set, size) in
            [(Family::MlDsa, CKP_ML_DSA_44, 1312), (Family::MlKem, CKP_ML_KEM_512, 800)]
        {
            let facts = of_parameter_set(family, set).unwrap();
            assert_eq!(spki(facts, &vec![5; size]).unwrap().len(), size + 22);
            assert_eq!(spki(facts, &vec![5; size - 1]).unwrap_err(), CKR_ATTRIBUTE_VALUE_INVALID);
            assert_eq!(of_parameter_set(family, 4).unwrap_err(), CKR_PARAMETER_SET_NOT_SUPPORTED);
        }
    }
}
