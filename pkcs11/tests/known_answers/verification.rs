//! Signatures of the Wycheproof project, right and wrong, with public keys that were brought in.

use cryptoki_sys::*;
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use crate::support::application::{FALSE, TRUE, attribute, number, plain};
use crate::token::{Token, with};

/// The curve and the point in a SubjectPublicKeyInfo.
fn curve_key(token: &Token, key_type: CK_KEY_TYPE, der: &[u8]) -> CK_OBJECT_HANDLE {
    let info = spki::SubjectPublicKeyInfoRef::from_der(der).unwrap();
    let curve: ObjectIdentifier = match info.algorithm.parameters {
        Some(curve) => curve.decode_as().unwrap(),
        None => info.algorithm.oid,
    };
    let point = OctetStringRef::new(info.subject_public_key.as_bytes().unwrap()).unwrap().to_der().unwrap();
    token
        .create(&mut [
            attribute(CKA_CLASS, number(CKO_PUBLIC_KEY)),
            attribute(CKA_KEY_TYPE, number(key_type)),
            attribute(CKA_TOKEN, FALSE),
            attribute(CKA_VERIFY, TRUE),
            attribute(CKA_EC_PARAMS, &curve.to_der().unwrap()),
            attribute(CKA_EC_POINT, &point),
        ])
        .unwrap()
}

fn rsa_key(token: &Token, modulus: &[u8], exponent: &[u8]) -> CK_OBJECT_HANDLE {
    token
        .create(&mut [
            attribute(CKA_CLASS, number(CKO_PUBLIC_KEY)),
            attribute(CKA_KEY_TYPE, number(CKK_RSA)),
            attribute(CKA_TOKEN, FALSE),
            attribute(CKA_VERIFY, TRUE),
            attribute(CKA_MODULUS, modulus),
            attribute(CKA_PUBLIC_EXPONENT, exponent),
        ])
        .unwrap()
}

pub fn verification(token: &Token) {
    elliptic_curves(token);
    edwards_curves(token);
    pkcs1(token);
    pss(token);
}

fn elliptic_curves(token: &Token) {
    use ecdsa::TestName::*;
    for (name, mechanism) in [
        (EcdsaSecp256r1Sha256P1363, CKM_ECDSA_SHA256),
        (EcdsaSecp256r1Sha512P1363, CKM_ECDSA_SHA512),
        (EcdsaSecp384r1Sha384P1363, CKM_ECDSA_SHA384),
        (EcdsaSecp521r1Sha512P1363, CKM_ECDSA_SHA512),
        (EcdsaSecp256k1Sha256P1363, CKM_ECDSA_SHA256),
        (EcdsaSecp224r1Sha224P1363, CKM_ECDSA_SHA224),
        (EcdsaSecp224r1Sha512P1363, CKM_ECDSA_SHA512),
        (EcdsaBrainpool256r1Sha256P1363, CKM_ECDSA_SHA256),
        (EcdsaBrainpool320r1Sha384P1363, CKM_ECDSA_SHA384),
        (EcdsaBrainpool384r1Sha384P1363, CKM_ECDSA_SHA384),
        (EcdsaBrainpool512r1Sha512P1363, CKM_ECDSA_SHA512),
    ] {
        let (mut good, mut wrong) = (0, 0);
        for group in ecdsa::TestSet::load(name).unwrap().test_groups.into_iter().step_by(9) {
            let key = curve_key(token, CKK_EC, &group.der);
            for test in group.tests {
                let verified = token.verify(plain(mechanism), key, &test.msg, &test.sig);
                match test.result {
                    TestResult::Invalid => {
                        wrong += 1;
                        let refused = verified.unwrap_err();
                        let expected = [CKR_SIGNATURE_INVALID, CKR_SIGNATURE_LEN_RANGE];
                        assert!(expected.contains(&refused), "{name:?} {}: {refused:#x}", test.tc_id);
                    }
                    _ => {
                        good += 1;
                        assert_eq!(verified, Ok(()), "{name:?} {}", test.tc_id);
                    }
                }
            }
        }
        assert!(good > 5 && wrong > 5, "{name:?} {good} {wrong}");
    }
}

fn edwards_curves(token: &Token) {
    for (name, least) in [(eddsa::TestName::Ed25519, 50), (eddsa::TestName::Ed448, 10)] {
        edwards_curve(token, name, least);
    }
}

fn edwards_curve(token: &Token, name: eddsa::TestName, least: usize) {
    let (mut good, mut wrong) = (0, 0);
    for group in eddsa::TestSet::load(name).unwrap().test_groups {
        let key = curve_key(token, CKK_EC_EDWARDS, &group.der);
        for test in group.tests {
            let verified = token.verify(plain(CKM_EDDSA), key, &test.msg, &test.sig);
            match test.result {
                TestResult::Invalid => {
                    wrong += 1;
                    let refused = verified.unwrap_err();
                    let expected = [CKR_SIGNATURE_INVALID, CKR_SIGNATURE_LEN_RANGE];
                    assert!(expected.contains(&refused), "{}: {refused:#x}", test.tc_id);
                }
                _ => {
                    good += 1;
                    assert_eq!(verified, Ok(()), "{}", test.tc_id);
                }
            }
        }
    }
    assert!(good > least && wrong > 40, "{good} {wrong}");
}

fn pkcs1(token: &Token) {
    use rsa_pkcs1_verify::TestName::*;
    for (name, mechanism) in [
        (Rsa2048Sha224, CKM_SHA224_RSA_PKCS),
        (Rsa2048Sha256, CKM_SHA256_RSA_PKCS),
        (Rsa2048Sha3_224, CKM_SHA3_224_RSA_PKCS),
        (Rsa2048Sha3_256, CKM_SHA3_256_RSA_PKCS),
        (Rsa2048Sha3_384, CKM_SHA3_384_RSA_PKCS),
        (Rsa2048Sha3_512, CKM_SHA3_512_RSA_PKCS),
        (Rsa3072Sha384, CKM_SHA384_RSA_PKCS),
        (Rsa4096Sha512, CKM_SHA512_RSA_PKCS),
    ] {
        let (mut good, mut wrong) = (0, 0);
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let key = rsa_key(token, &group.key.n, &group.key.e);
            for test in group.tests {
                let verified = token.verify(plain(mechanism), key, &test.msg, &test.sig);
                match test.result {
                    TestResult::Invalid => {
                        wrong += 1;
                        assert!(verified.is_err(), "{name:?} {}", test.tc_id);
                    }
                    TestResult::Valid => {
                        good += 1;
                        assert_eq!(verified, Ok(()), "{name:?} {}", test.tc_id);
                    }
                    // A DigestInfo without NULL: either is allowed.
                    TestResult::Acceptable => {}
                }
            }
        }
        assert!(good > 5 && wrong > 50, "{name:?} {good} {wrong}");
    }
}

fn pss(token: &Token) {
    let mut tried = 0;
    for name in rsa_pss_verify::TestName::all() {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let parts = |hash: &str| {
                Some(match hash {
                    "Sha1" => (CKM_SHA_1, CKG_MGF1_SHA1, CKM_SHA1_RSA_PKCS_PSS),
                    "Sha2_224" => (CKM_SHA224, CKG_MGF1_SHA224, CKM_SHA224_RSA_PKCS_PSS),
                    "Sha2_256" => (CKM_SHA256, CKG_MGF1_SHA256, CKM_SHA256_RSA_PKCS_PSS),
                    "Sha2_384" => (CKM_SHA384, CKG_MGF1_SHA384, CKM_SHA384_RSA_PKCS_PSS),
                    "Sha2_512" => (CKM_SHA512, CKG_MGF1_SHA512, CKM_SHA512_RSA_PKCS_PSS),
                    _ => return None,
                })
            };
            let hash = parts(&format!("{:?}", group.hash));
            let mask = group.mgf_hash.as_ref().and_then(|hash| parts(&format!("{hash:?}")));
            let (Some((hash, _, mechanism)), Some((_, mask, _))) = (hash, mask) else { continue };
            if !matches!(group.key_size, 2048 | 3072 | 4096) {
                continue;
            }
            let key = rsa_key(token, &group.key.n, &group.key.e);
            let parameters =
                CK_RSA_PKCS_PSS_PARAMS { hashAlg: hash, mgf: mask, sLen: group.salt_size as CK_ULONG };
            for test in group.tests.iter().step_by(7) {
                let verified = token.verify(with(mechanism, &parameters), key, &test.msg, &test.sig);
                match test.result {
                    TestResult::Invalid => assert!(verified.is_err(), "{name:?} {}", test.tc_id),
                    TestResult::Valid => assert_eq!(verified, Ok(()), "{name:?} {}", test.tc_id),
                    TestResult::Acceptable => {}
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}
