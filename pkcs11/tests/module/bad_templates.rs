//! Templates that are wrong in themselves, in every function that takes one: each gets what the standard names, and nothing is made.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, FALSE, P256, TRUE, attribute, number, plain};

/// No memory is so long.
const HUGE: CK_ULONG = 1 << 63;

/// A function with all that it needs but for its template; the attributes that make it complete.
struct Function<'a> {
    name: &'static str,
    class: CK_OBJECT_CLASS,
    complete: Vec<CK_ATTRIBUTE>,
    call: Box<dyn Fn(*mut CK_ATTRIBUTE, CK_ULONG) -> CK_RV + 'a>,
}

impl Function<'_> {
    fn with(&self, more: &[CK_ATTRIBUTE]) -> CK_RV {
        let mut template = [&self.complete, more].concat();
        (self.call)(template.as_mut_ptr(), template.len() as CK_ULONG)
    }
}

/// Keys for the functions that need some.
struct Keys {
    aes: CK_OBJECT_HANDLE,
    base: CK_OBJECT_HANDLE,
    curve: (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
    kem: (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
    wrapped: Vec<u8>,
    ciphertext: Vec<u8>,
    agreement: CK_ECDH1_DERIVE_PARAMS,
    extraction: CK_HKDF_PARAMS,
}

fn keys(a: &Application, s: CK_SESSION_HANDLE) -> Keys {
    let secret = |mechanism, uses: &[CK_ATTRIBUTE_TYPE]| {
        let mut template = vec![attribute(CKA_VALUE_LEN, number(32)), attribute(CKA_SENSITIVE, TRUE)];
        template.extend(uses.iter().map(|use_| attribute(*use_, TRUE)));
        let (start, count, mut key) = (template.as_mut_ptr(), template.len() as CK_ULONG, 0);
        assert_eq!(call!(a, C_GenerateKey, s, &mut plain(mechanism), start, count, &mut key), CKR_OK);
        key
    };
    let aes = secret(CKM_AES_KEY_GEN, &[CKA_WRAP, CKA_UNWRAP]);
    let base = secret(CKM_GENERIC_SECRET_KEY_GEN, &[CKA_DERIVE]);
    let traveller = secret(CKM_AES_KEY_GEN, &[CKA_EXTRACTABLE]);
    let curve = a
        .generate_from(
            s,
            CKM_EC_KEY_PAIR_GEN,
            vec![attribute(CKA_EC_PARAMS, P256)],
            vec![attribute(CKA_DERIVE, TRUE)],
        )
        .unwrap();
    let set = vec![attribute(CKA_PARAMETER_SET, number(CKP_ML_KEM_512))];
    let kem = a.generate_from(s, CKM_ML_KEM_KEY_PAIR_GEN, set, vec![]).unwrap();
    let (mut wrapped, mut length) = (vec![0; 100], 100);
    let mut kwp = plain(CKM_AES_KEY_WRAP_KWP);
    let place = wrapped.as_mut_ptr();
    assert_eq!(call!(a, C_WrapKey, s, &mut kwp, aes, traveller, place, &mut length), CKR_OK);
    wrapped.truncate(length as usize);
    let (mut ciphertext, mut length, mut secret) = (vec![0; 768], 768, 0);
    let (place, mut mechanism) = (ciphertext.as_mut_ptr(), plain(CKM_ML_KEM));
    let code =
        call!(a, C_EncapsulateKey, s, &mut mechanism, kem.1, null_mut(), 0, place, &mut length, &mut secret);
    assert_eq!((code, length), (CKR_OK, 768));
    let point = a.get(s, curve.1, CKA_EC_POINT).unwrap().leak();
    let agreement = CK_ECDH1_DERIVE_PARAMS {
        kdf: CKD_NULL,
        ulSharedDataLen: 0,
        pSharedData: null_mut(),
        ulPublicDataLen: point.len() as CK_ULONG,
        pPublicData: point.as_mut_ptr(),
    };
    let extraction = CK_HKDF_PARAMS {
        bExtract: CK_TRUE,
        bExpand: CK_TRUE,
        prfHashMechanism: CKM_SHA256,
        ulSaltType: CKF_HKDF_SALT_NULL,
        pSalt: null_mut(),
        ulSaltLen: 0,
        hSaltKey: 0,
        pInfo: null_mut(),
        ulInfoLen: 0,
    };
    Keys { aes, base, curve, kem, wrapped, ciphertext, agreement, extraction }
}

/// Every function that takes the template of an object to be made, or of one that is there.
fn functions<'a>(a: &'a Application, s: CK_SESSION_HANDLE, keys: &'a Keys) -> Vec<Function<'a>> {
    let with = |mechanism, parameter: *const std::ffi::c_void, size: usize| CK_MECHANISM {
        mechanism,
        pParameter: parameter.cast_mut(),
        ulParameterLen: size as CK_ULONG,
    };
    let agreement = std::ptr::from_ref(&keys.agreement).cast();
    let extraction = std::ptr::from_ref(&keys.extraction).cast();
    let ecdh = with(CKM_ECDH1_DERIVE, agreement, size_of::<CK_ECDH1_DERIVE_PARAMS>());
    let hkdf = with(CKM_HKDF_DERIVE, extraction, size_of::<CK_HKDF_PARAMS>());
    let (secret, aes) =
        (attribute(CKA_CLASS, number(CKO_SECRET_KEY)), attribute(CKA_KEY_TYPE, number(CKK_AES)));
    let length = attribute(CKA_VALUE_LEN, number(32));
    let curve = attribute(CKA_EC_PARAMS, P256);
    let (sealed, size) = (keys.wrapped.as_ptr().cast_mut(), keys.wrapped.len() as CK_ULONG);
    let (capsule, capsule_size) = (keys.ciphertext.as_ptr().cast_mut(), keys.ciphertext.len() as CK_ULONG);
    let function = |name, class, complete: &[CK_ATTRIBUTE], call| Function {
        name,
        class,
        complete: complete.to_vec(),
        call,
    };
    vec![
        function(
            "C_CreateObject",
            CKO_SECRET_KEY,
            &[secret, aes, attribute(CKA_VALUE, &[7; 16])],
            Box::new(move |t, n| call!(a, C_CreateObject, s, t, n, &mut { 0 })),
        ),
        function(
            "C_CopyObject",
            CKO_SECRET_KEY,
            &[],
            Box::new(move |t, n| call!(a, C_CopyObject, s, keys.aes, t, n, &mut { 0 })),
        ),
        function(
            "C_SetAttributeValue",
            CKO_SECRET_KEY,
            &[],
            Box::new(move |t, n| call!(a, C_SetAttributeValue, s, keys.aes, t, n)),
        ),
        function(
            "C_GenerateKey",
            CKO_SECRET_KEY,
            &[length],
            Box::new(move |t, n| call!(a, C_GenerateKey, s, &mut plain(CKM_AES_KEY_GEN), t, n, &mut { 0 })),
        ),
        function(
            "C_GenerateKeyPair, public",
            CKO_PUBLIC_KEY,
            &[curve],
            Box::new(move |t, n| {
                let mut mechanism = plain(CKM_EC_KEY_PAIR_GEN);
                call!(a, C_GenerateKeyPair, s, &mut mechanism, t, n, null_mut(), 0, &mut { 0 }, &mut { 0 })
            }),
        ),
        function(
            "C_GenerateKeyPair, private",
            CKO_PRIVATE_KEY,
            &[],
            Box::new(move |t, n| {
                let (mut mechanism, mut public) =
                    (plain(CKM_EC_KEY_PAIR_GEN), [attribute(CKA_EC_PARAMS, P256)]);
                let public = public.as_mut_ptr();
                call!(a, C_GenerateKeyPair, s, &mut mechanism, public, 1, t, n, &mut { 0 }, &mut { 0 })
            }),
        ),
        function(
            "C_UnwrapKey",
            CKO_SECRET_KEY,
            &[secret, aes],
            Box::new(move |t, n| {
                let mut mechanism = plain(CKM_AES_KEY_WRAP_KWP);
                call!(a, C_UnwrapKey, s, &mut mechanism, keys.aes, sealed, size, t, n, &mut { 0 })
            }),
        ),
        function(
            "C_DeriveKey, ECDH",
            CKO_SECRET_KEY,
            &[],
            Box::new(move |t, n| call!(a, C_DeriveKey, s, &mut { ecdh }, keys.curve.0, t, n, &mut { 0 })),
        ),
        function(
            "C_DeriveKey, HKDF",
            CKO_SECRET_KEY,
            &[length],
            Box::new(move |t, n| call!(a, C_DeriveKey, s, &mut { hkdf }, keys.base, t, n, &mut { 0 })),
        ),
        function(
            "C_EncapsulateKey",
            CKO_SECRET_KEY,
            &[],
            Box::new(move |t, n| {
                let (mut mechanism, mut out) = (plain(CKM_ML_KEM), [0; 768]);
                let out = out.as_mut_ptr();
                call!(a, C_EncapsulateKey, s, &mut mechanism, keys.kem.1, t, n, out, &mut { 768 }, &mut { 0 })
            }),
        ),
        function(
            "C_DecapsulateKey",
            CKO_SECRET_KEY,
            &[],
            Box::new(move |t, n| {
                let mut mechanism = plain(CKM_ML_KEM);
                call!(a, C_DecapsulateKey, s, &mut mechanism, keys.kem.0, t, n, capsule, capsule_size, &mut {
                    0
                })
            }),
        ),
        // What fits no object is found by nobody, and is no error.
        function(
            "C_FindObjectsInit",
            CKO_DATA,
            &[],
            Box::new(move |t, n| {
                let code = call!(a, C_FindObjectsInit, s, t, n);
                let (mut found, mut count) = (0, 0);
                if code == CKR_OK {
                    assert_eq!(call!(a, C_FindObjects, s, &mut found, 1, &mut count), CKR_OK);
                    assert_eq!(call!(a, C_FindObjectsFinal, s), CKR_OK);
                }
                code
            }),
        ),
    ]
}

fn nested(kind: CK_ATTRIBUTE_TYPE, inner: &[CK_ATTRIBUTE]) -> CK_ATTRIBUTE {
    let value = inner.as_ptr().cast_mut().cast();
    CK_ATTRIBUTE { type_: kind, pValue: value, ulValueLen: size_of_val(inner) as CK_ULONG }
}

pub fn table(daemon: &Daemon) {
    let (a, _, s) = logged_in(daemon);
    let keys = keys(&a, s);
    let functions = functions(&a, s, &keys);
    let before = a.find(s, &mut []).len();
    let label = attribute(CKA_LABEL, b"a label");
    let lost = CK_ATTRIBUTE { pValue: null_mut(), ..label };
    let inner = [attribute(CKA_ENCRYPT, TRUE)];
    let deep = [nested(CKA_UNWRAP_TEMPLATE, &inner)];
    let inner_lost = [CK_ATTRIBUTE { pValue: null_mut(), ..inner[0] }];
    let inner_huge = [CK_ATTRIBUTE { ulValueLen: HUGE, ..inner[0] }];
    let (invalid, bad) = (CKR_ATTRIBUTE_VALUE_INVALID, CKR_ARGUMENTS_BAD);
    let (unknown, inconsistent) = (CKR_ATTRIBUTE_TYPE_INVALID, CKR_TEMPLATE_INCONSISTENT);
    // What is read before it is asked what it is for.
    let read: [(&str, Vec<CK_ATTRIBUTE>, CK_RV); 9] = [
        ("a value that is null", vec![lost], bad),
        ("a value of 2^63 bytes", vec![CK_ATTRIBUTE { ulValueLen: HUGE, ..label }], invalid),
        ("an unavailable value", vec![CK_ATTRIBUTE { ulValueLen: CK_ULONG::MAX, ..label }], invalid),
        ("twice, differently", vec![label, attribute(CKA_LABEL, b"another")], inconsistent),
        ("a template in a template", vec![nested(CKA_UNWRAP_TEMPLATE, &deep)], invalid),
        ("null in a template", vec![nested(CKA_UNWRAP_TEMPLATE, &inner_lost)], bad),
        ("2^63 bytes in a template", vec![nested(CKA_UNWRAP_TEMPLATE, &inner_huge)], invalid),
        (
            "half of an attribute",
            vec![CK_ATTRIBUTE { ulValueLen: 12, ..nested(CKA_UNWRAP_TEMPLATE, &inner) }],
            invalid,
        ),
        ("too many attributes", vec![label; 257], bad),
    ];
    let mut wrong = Vec::new();
    let mut expect = |function: &Function<'_>, what: &str, more: &[CK_ATTRIBUTE], expected: CK_RV| {
        let code = function.with(more);
        if code != expected {
            wrong.push(format!("{}, {what}: {code:#x}, not {expected:#x}", function.name));
        }
    };
    for function in &functions {
        for (what, more, expected) in &read {
            expect(function, what, more, *expected);
        }
        for count in [HUGE, CK_ULONG::MAX] {
            let code = (function.call)([label].as_mut_ptr(), count);
            assert_eq!(code, CKR_ARGUMENTS_BAD, "{} of {count:#x}", function.name);
        }
        assert_eq!((function.call)(null_mut(), 1), CKR_ARGUMENTS_BAD, "{}", function.name);
    }
    // What is wrong for the object that is to be made, or changed.
    let (last, makes) = functions.split_last().unwrap();
    assert_eq!(last.with(&[attribute(0x8000_1234, TRUE), attribute(CKA_TOKEN, &[2])]), CKR_OK);
    let class = |class| attribute(CKA_CLASS, number(class));
    for function in makes {
        let is_there = ["C_CopyObject", "C_SetAttributeValue"].contains(&function.name);
        let is_set = function.name == "C_SetAttributeValue";
        // Of what is there, and cannot be changed to this.
        let or_read_only = |code| if is_there { CKR_ATTRIBUTE_READ_ONLY } else { code };
        let use_ = match function.class {
            CKO_PUBLIC_KEY => CKA_VERIFY,
            CKO_PRIVATE_KEY => CKA_SIGN,
            _ => CKA_ENCRYPT,
        };
        expect(function, "unknown", &[attribute(0x8000_1234, TRUE)], unknown);
        expect(function, "another class's", &[attribute(CKA_APPLICATION, b"x")], unknown);
        expect(
            function,
            "the partition's",
            &[attribute(CKA_KEY_GEN_MECHANISM, &[1; 8])],
            CKR_ATTRIBUTE_READ_ONLY,
        );
        expect(function, "a label that is no text", &[attribute(CKA_LABEL, b"\xff")], invalid);
        expect(function, "a boolean of 2", &[attribute(use_, &[2])], or_read_only(invalid));
        expect(function, "a boolean of no bytes", &[attribute(use_, &[])], or_read_only(invalid));
        expect(function, "a boolean of 8 bytes", &[attribute(use_, &[1; 8])], or_read_only(invalid));
        let token = if is_set { CKR_ATTRIBUTE_READ_ONLY } else { invalid };
        expect(function, "in the token, or what", &[attribute(CKA_TOKEN, &[9])], token);
        // The class in which C_CreateObject makes something stands in its template already.
        expect(function, "another class", &[class(CKO_CERTIFICATE)], or_read_only(inconsistent));
        expect(function, "no class", &[class(77)], or_read_only(inconsistent));
        let rsa = attribute(CKA_KEY_TYPE, number(CKK_RSA));
        expect(function, "another type", &[rsa], or_read_only(inconsistent));
        let odd = attribute(CKA_ALLOWED_MECHANISMS, &[1; 7]);
        expect(function, "7 bytes of mechanisms", &[odd], if is_there { unknown } else { invalid });
        let none = attribute(CKA_ALLOWED_MECHANISMS, &[]);
        expect(function, "no mechanism", &[none], if is_there { unknown } else { invalid });
        if function.class != CKO_PUBLIC_KEY && !is_there {
            let public = [attribute(CKA_PRIVATE, FALSE), attribute(CKA_SENSITIVE, TRUE)];
            expect(function, "for everybody, and hidden", &public, inconsistent);
        }
        if function.class == CKO_SECRET_KEY && !is_there {
            let trusted = attribute(CKA_TRUSTED, TRUE);
            expect(function, "trusted by whoever makes it", &[trusted], inconsistent);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(a.find(s, &mut []).len(), before, "nothing was made");
    // What is said twice in the same way is said once.
    for function in &functions {
        assert_eq!(function.with(&[label, label]), CKR_OK, "{}", function.name);
    }
    absent(&a, s, &keys);
    a.finalize();
}

/// The standard's attributes that no object here has.
fn absent(a: &Application, s: CK_SESSION_HANDLE, keys: &Keys) {
    let absent = [
        CKA_OWNER,
        CKA_AC_ISSUER,
        CKA_ATTR_TYPES,
        CKA_ENCAPSULATE_TEMPLATE,
        CKA_DECAPSULATE_TEMPLATE,
        CKA_PUBLIC_CRC64_VALUE,
        CKA_PRIME,
        CKA_SUBPRIME,
        CKA_BASE,
        CKA_PRIME_BITS,
        CKA_SUBPRIME_BITS,
        CKA_VALUE_BITS,
        CKA_PROFILE_ID,
        CKA_MECHANISM_TYPE,
        CKA_HW_FEATURE_TYPE,
    ];
    for kind in absent {
        for object in [keys.aes, keys.curve.0, keys.curve.1] {
            assert_eq!(a.get(s, object, kind), Err(CKR_ATTRIBUTE_TYPE_INVALID), "{kind:#x}");
            let mut given = attribute(kind, TRUE);
            let set = call!(a, C_SetAttributeValue, s, object, &mut given, 1);
            assert_eq!(set, CKR_ATTRIBUTE_TYPE_INVALID, "{kind:#x}");
        }
        assert_eq!(a.find(s, &mut [attribute(kind, TRUE)]), [], "{kind:#x}");
    }
}
