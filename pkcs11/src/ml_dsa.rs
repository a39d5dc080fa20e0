//! ML-DSA as PKCS#11 3.2 has it (chapter "ML-DSA"): parameter sets, the mechanism's parameter, and the message
//! representative, which is made here so that the message itself never travels.

use cryptoki_sys::*;
use der::Encode;
use der::asn1::{BitStringRef, ObjectIdentifier};
use shake::{ExtendableOutput, Shake256, Update};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use strongroom_ffi::pointer;
use strongroom_protocol::v1::KeyType;

use crate::error::Outcome;
use crate::key::{self, KeyFacts};

/// The size of the seed that a private key is made from, in bytes (FIPS 204, algorithm 1).
pub const SEED: usize = 32;

/// The size of the message representative, in bytes (FIPS 204, algorithm 7).
const REPRESENTATIVE: usize = 64;

/// The longest context, in bytes (FIPS 204, 5.2).
const MAX_CONTEXT: usize = 255;

/// `CKA_PARAMETER_SET`, and the identifier in SubjectPublicKeyInfo and PKCS#8 (RFC 9881, 2).
const PARAMETER_SETS: [(KeyType, CK_ML_DSA_PARAMETER_SET_TYPE, ObjectIdentifier); 3] = [
    (KeyType::MlDsa44, CKP_ML_DSA_44, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17")),
    (KeyType::MlDsa65, CKP_ML_DSA_65, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18")),
    (KeyType::MlDsa87, CKP_ML_DSA_87, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19")),
];

/// The value of `CKA_PARAMETER_SET`; `None` for other keys.
pub fn parameter_set(key_type: KeyType) -> Option<CK_ML_DSA_PARAMETER_SET_TYPE> {
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
pub fn of_parameter_set(set: CK_ULONG) -> Outcome<&'static KeyFacts> {
    let found = PARAMETER_SETS.iter().find(|(_, other, _)| *other == set);
    found.and_then(|(key_type, ..)| key::facts(*key_type)).ok_or(CKR_PARAMETER_SET_NOT_SUPPORTED)
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

/// Reads and copies the context in the parameter of `CKM_ML_DSA`, to sign or to verify; empty without parameter.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is malformed, or wants to sign deterministically: the partition's signatures are
/// hedged.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so has the context that it points to.
pub unsafe fn context(mechanism: &CK_MECHANISM, signs: bool) -> Outcome<Vec<u8>> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    match mechanism.ulParameterLen as usize {
        0 => return Ok(Vec::new()),
        length if length == size_of::<CK_SIGN_ADDITIONAL_CONTEXT>() => {}
        _ => return Err(invalid),
    }
    let parameter = mechanism.pParameter.cast_const().cast::<CK_SIGN_ADDITIONAL_CONTEXT>();
    // SAFETY: of this type by its length; by the contract.
    let given = unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
    let length = usize::try_from(given.ulContextLen).map_err(|_| invalid)?;
    let can = match given.hedgeVariant {
        CKH_HEDGE_PREFERRED | CKH_HEDGE_REQUIRED => true,
        CKH_DETERMINISTIC_REQUIRED => !signs,
        _ => false,
    };
    if !can || length > MAX_CONTEXT {
        return Err(invalid);
    }
    // SAFETY: by the contract.
    let context = unsafe { pointer::slice(given.pContext.cast_const(), length) }.ok_or(invalid)?;
    Ok(context.to_vec())
}

/// A message on its way into its representative.
#[derive(Clone)]
pub struct Message(Shake256);

impl Message {
    /// Begins (FIPS 204, algorithms 2, line 10, and 7, line 6). `public_key` is `CKA_VALUE`; `context` has at most 255
    /// bytes, see [`context`].
    pub fn new(public_key: &[u8], context: &[u8]) -> Self {
        let mut state = Shake256::default();
        state.update(&digest(Shake256::default().chain(public_key)));
        // Pure ML-DSA, not HashML-DSA.
        state.update(&[0, context.len() as u8]);
        state.update(context);
        Message(state)
    }

    /// Takes a part of the message.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The representative of all parts.
    pub fn finalize(&self) -> [u8; REPRESENTATIVE] {
        digest(self.0.clone())
    }
}

fn digest(state: Shake256) -> [u8; REPRESENTATIVE] {
    let mut digest = [0; REPRESENTATIVE];
    state.finalize_xof_into(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(given: &mut CK_SIGN_ADDITIONAL_CONTEXT, length: usize) -> Outcome<Vec<u8>> {
        let mechanism = CK_MECHANISM {
            mechanism: CKM_ML_DSA,
            pParameter: std::ptr::from_mut(given).cast(),
            ulParameterLen: length as CK_ULONG,
        };
        // SAFETY: a local of the length that is said.
        unsafe { context(&mechanism, true) }
    }

    #[test]
    fn contexts_are_read_and_deterministic_signatures_refused() {
        let mut bytes = [7u8; 256];
        let size = size_of::<CK_SIGN_ADDITIONAL_CONTEXT>();
        let given = CK_SIGN_ADDITIONAL_CONTEXT {
            hedgeVariant: CKH_HEDGE_REQUIRED,
            pContext: bytes.as_mut_ptr(),
            ulContextLen: 255,
        };
        assert_eq!(with(&mut given.clone(), size), Ok(vec![7; 255]));
        assert_eq!(with(&mut given.clone(), 0), Ok(Vec::new()));
        let wrong = Err(CKR_MECHANISM_PARAM_INVALID);
        assert_eq!(with(&mut given.clone(), size - 1), wrong);
        for change in [
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.hedgeVariant = CKH_DETERMINISTIC_REQUIRED,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.hedgeVariant = 3,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.ulContextLen = 256,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.ulContextLen = CK_ULONG::MAX,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.pContext = std::ptr::null_mut(),
        ] {
            let mut changed = given;
            change(&mut changed);
            assert_eq!(with(&mut changed, size), wrong, "{changed:?}");
        }
    }

    #[test]
    fn parts_make_the_same_as_the_whole() {
        let mut whole = Message::new(&[1; 1312], b"context");
        whole.update(b"a message");
        let mut parts = Message::new(&[1; 1312], b"context");
        parts.update(b"a mes");
        parts.update(b"sage");
        assert_eq!(whole.finalize(), parts.finalize());
        let mut other = Message::new(&[1; 1312], b"contex");
        other.update(b"ta message");
        assert_ne!(whole.finalize(), other.finalize());
    }

    #[test]
    fn public_keys_have_the_size_of_their_set() {
        let facts = of_parameter_set(CKP_ML_DSA_44).unwrap();
        assert_eq!(spki(facts, &[5; 1312]).unwrap().len(), 1334);
        assert_eq!(spki(facts, &[5; 1311]).unwrap_err(), CKR_ATTRIBUTE_VALUE_INVALID);
        assert_eq!(of_parameter_set(4).unwrap_err(), CKR_PARAMETER_SET_NOT_SUPPORTED);
    }
}
