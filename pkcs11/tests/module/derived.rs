//! Keys that say what is derived of them, and with which mechanisms; several keys of one derivation, all or none.

use std::ptr::{from_mut, null_mut};

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, FALSE, P256, TRUE, attribute, number, plain};

struct Token {
    application: Application,
    session: CK_SESSION_HANDLE,
}

type Made = Result<CK_OBJECT_HANDLE, CK_RV>;

fn with<T>(mechanism: CK_MECHANISM_TYPE, parameter: &mut T) -> CK_MECHANISM {
    let length = size_of::<T>() as CK_ULONG;
    CK_MECHANISM { mechanism, pParameter: from_mut(parameter).cast(), ulParameterLen: length }
}

fn nested(kind: CK_ATTRIBUTE_TYPE, inner: &[CK_ATTRIBUTE]) -> CK_ATTRIBUTE {
    let length = size_of_val(inner) as CK_ULONG;
    CK_ATTRIBUTE { type_: kind, pValue: inner.as_ptr().cast_mut().cast(), ulValueLen: length }
}

impl Token {
    fn base(&self, more: &[CK_ATTRIBUTE]) -> CK_OBJECT_HANDLE {
        let common = [attribute(CKA_VALUE_LEN, number(32)), attribute(CKA_DERIVE, TRUE)];
        let (mut template, mut made) = ([&common[..], more].concat(), 0);
        let (generator, count) = (&mut plain(CKM_GENERIC_SECRET_KEY_GEN), template.len() as CK_ULONG);
        let place = template.as_mut_ptr();
        let code = call!(self.application, C_GenerateKey, self.session, generator, place, count, &mut made);
        assert_eq!(code, CKR_OK);
        made
    }

    fn derive(&self, mut mechanism: CK_MECHANISM, base: CK_OBJECT_HANDLE, template: &[CK_ATTRIBUTE]) -> Made {
        let (mut template, mut made) = (template.to_vec(), 0);
        let (place, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        let code =
            call!(self.application, C_DeriveKey, self.session, &mut mechanism, base, place, count, &mut made);
        if code == CKR_OK { Ok(made) } else { Err(code) }
    }

    fn get(&self, key: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Vec<u8> {
        self.application.get(self.session, key, kind).unwrap()
    }

    fn labelled(&self, label: &[u8]) -> usize {
        self.application.find(self.session, &mut [attribute(CKA_LABEL, label)]).len()
    }
}

fn hkdf() -> CK_HKDF_PARAMS {
    CK_HKDF_PARAMS {
        bExtract: CK_TRUE,
        bExpand: CK_TRUE,
        prfHashMechanism: CKM_SHA256,
        ulSaltType: CKF_HKDF_SALT_NULL,
        pSalt: null_mut(),
        ulSaltLen: 0,
        hSaltKey: 0,
        pInfo: null_mut(),
        ulInfoLen: 0,
    }
}

pub fn derived(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let token = Token { application, session };
    templates(&token);
    mechanisms(&token);
    all_or_none(&token);
    token.application.finalize();
}

/// What `CKA_DERIVE_TEMPLATE` says need not be said again, and nothing else can be.
fn templates(token: &Token) {
    let inner = [attribute(CKA_SENSITIVE, TRUE), attribute(CKA_LABEL, b"of the base")];
    let base = token.base(&[nested(CKA_DERIVE_TEMPLATE, &inner)]);
    let (mut given, length) = (hkdf(), attribute(CKA_VALUE_LEN, number(32)));
    let mut derive = |more: &[CK_ATTRIBUTE]| {
        token.derive(with(CKM_HKDF_DERIVE, &mut given), base, &[&[length], more].concat())
    };
    let made = derive(&[]).unwrap();
    assert_eq!((token.get(made, CKA_SENSITIVE), token.get(made, CKA_LABEL)), (TRUE.into(), inner_label()));
    assert!(derive(&[attribute(CKA_SENSITIVE, TRUE)]).is_ok());
    assert_eq!(derive(&[attribute(CKA_SENSITIVE, FALSE)]), Err(CKR_TEMPLATE_INCONSISTENT));
    assert_eq!(derive(&[attribute(CKA_LABEL, b"other")]), Err(CKR_TEMPLATE_INCONSISTENT));

    // A secret that was agreed on.
    let inner = [attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET))];
    let public = vec![attribute(CKA_EC_PARAMS, P256)];
    let private = vec![attribute(CKA_DERIVE, TRUE), nested(CKA_DERIVE_TEMPLATE, &inner)];
    let pair = token.application.generate_from(token.session, CKM_EC_KEY_PAIR_GEN, public, private);
    let (base, peer) = pair.unwrap();
    let mut point = token.get(peer, CKA_EC_POINT);
    let mut ecdh = CK_ECDH1_DERIVE_PARAMS {
        kdf: CKD_NULL,
        ulSharedDataLen: 0,
        pSharedData: null_mut(),
        ulPublicDataLen: point.len() as CK_ULONG,
        pPublicData: point.as_mut_ptr(),
    };
    let mut agree = |key_type| {
        let template = [attribute(CKA_KEY_TYPE, number(key_type)), attribute(CKA_SENSITIVE, TRUE)];
        token.derive(with(CKM_ECDH1_DERIVE, &mut ecdh), base, &template)
    };
    assert!(agree(CKK_GENERIC_SECRET).is_ok());
    assert_eq!(agree(CKK_AES), Err(CKR_TEMPLATE_INCONSISTENT));
}

fn inner_label() -> Vec<u8> {
    b"of the base".to_vec()
}

/// A mechanism that the key does not allow is none, as everywhere.
fn mechanisms(token: &Token) {
    let only = CKM_SP800_108_COUNTER_KDF.to_ne_bytes();
    let base = token.base(&[attribute(CKA_ALLOWED_MECHANISMS, &only)]);
    let made =
        token.derive(with(CKM_HKDF_DERIVE, &mut hkdf()), base, &[attribute(CKA_VALUE_LEN, number(32))]);
    assert_eq!(made, Err(CKR_MECHANISM_INVALID));
    let only = CKM_ECDSA.to_ne_bytes();
    let public = vec![attribute(CKA_EC_PARAMS, P256)];
    let private = vec![attribute(CKA_DERIVE, TRUE), attribute(CKA_ALLOWED_MECHANISMS, &only)];
    let pair = token.application.generate_from(token.session, CKM_EC_KEY_PAIR_GEN, public, private);
    assert_eq!(token.derive(plain(CKM_ECDH1_DERIVE), pair.unwrap().0, &[]), Err(CKR_MECHANISM_INVALID));
    let set = number(CKP_ML_KEM_512);
    let only = CKM_ECDH1_DERIVE.to_ne_bytes();
    let public = vec![attribute(CKA_PARAMETER_SET, set), attribute(CKA_ALLOWED_MECHANISMS, &only)];
    let pair = token.application.generate_from(token.session, CKM_ML_KEM_KEY_PAIR_GEN, public, Vec::new());
    let (mut length, mut secret, public) = (0, 0, pair.unwrap().1);
    let code = call!(
        token.application,
        C_EncapsulateKey,
        token.session,
        &mut plain(CKM_ML_KEM),
        public,
        null_mut(),
        0,
        null_mut(),
        &mut length,
        &mut secret
    );
    assert_eq!(code, CKR_MECHANISM_INVALID);
}

fn all_or_none(token: &Token) {
    let base = token.base(&[]);
    let mut format = CK_SP800_108_COUNTER_FORMAT { bLittleEndian: CK_FALSE, ulWidthInBits: 32 };
    let mut parts = [CK_PRF_DATA_PARAM {
        type_: CK_SP800_108_ITERATION_VARIABLE,
        pValue: from_mut(&mut format).cast(),
        ulValueLen: size_of_val(&format) as CK_ULONG,
    }];
    // An array, to have a place that is not aligned in it.
    let mut places = [0 as CK_OBJECT_HANDLE; 2];
    let mut derive = |first: &[CK_ATTRIBUTE], second: &[CK_ATTRIBUTE], shift: usize| {
        let (length, mut second) = (attribute(CKA_VALUE_LEN, number(32)), second.to_vec());
        second.push(length);
        let mut more = [CK_DERIVED_KEY {
            pTemplate: second.as_mut_ptr(),
            ulAttributeCount: second.len() as CK_ULONG,
            phKey: places.as_mut_ptr().wrapping_byte_add(shift),
        }];
        let mut given = CK_SP800_108_KDF_PARAMS {
            prfType: CKM_SHA256_HMAC,
            ulNumberOfDataParams: 1,
            pDataParams: parts.as_mut_ptr(),
            ulAdditionalDerivedKeys: 1,
            pAdditionalDerivedKeys: more.as_mut_ptr(),
        };
        token.derive(with(CKM_SP800_108_COUNTER_KDF, &mut given), base, &[&[length], first].concat())
    };
    let named = [attribute(CKA_LABEL, b"set"), attribute(CKA_TOKEN, TRUE)];
    let fixed = [&named[..], &[attribute(CKA_DESTROYABLE, FALSE)]].concat();
    assert_eq!(derive(&named, &named, 1), Err(CKR_MECHANISM_PARAM_INVALID));
    assert_eq!(token.labelled(b"set"), 0);
    assert_eq!(derive(&fixed, &named, 0), Err(CKR_TEMPLATE_INCONSISTENT));
    assert_eq!(token.labelled(b"set"), 0);
    // The daemon refuses the second: this one is taken back, though of the session and not destroyable.
    let session = [attribute(CKA_LABEL, b"set"), attribute(CKA_DESTROYABLE, FALSE)];
    let id = vec![7; 100_000];
    assert!(derive(&session, &[attribute(CKA_ID, &id)], 0).is_err());
    assert_eq!(token.labelled(b"set"), 0);
    assert!(derive(&named, &named, 0).is_ok());
    assert_eq!(token.labelled(b"set"), 2);
}
