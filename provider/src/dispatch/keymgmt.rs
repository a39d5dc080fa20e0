//! Key management (provider-keymgmt(7)).
//!
//! A private key cannot leave, so an export that asks for one is refused. That refusal also makes libcrypto
//! sign with this provider: it tries another provider's signature first, and needs an export for that.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;

use super::{Algorithms, MAX_LIST, generate, key, operation, share, table};
use crate::bindings::*;
use crate::error::Error;
use crate::fence::fence;
use crate::key::Key;
use crate::params::{Answers, Descriptions, END, Params, describe};
use crate::provider::Provider;
use crate::token::kinds::ForEach;
use crate::token::{Functions, KeyKind, Kind, Table};

/// The key types.
pub static ALGORITHMS: Algorithms<MAX_LIST> =
    Algorithms::of_key_types(&[], &ForEach::<Keymgmt>::TABLES, OSSL_OP_KEYMGMT, c"provider=strongroom");

struct Keymgmt;

impl<K: Kind> Table<K> for Keymgmt {
    const TABLE: Functions = table![
        OSSL_FUNC_KEYMGMT_NEW: OSSL_FUNC_keymgmt_new_fn = new::<K>,
        OSSL_FUNC_KEYMGMT_FREE: OSSL_FUNC_keymgmt_free_fn = free,
        OSSL_FUNC_KEYMGMT_LOAD: OSSL_FUNC_keymgmt_load_fn = load::<K>,
        OSSL_FUNC_KEYMGMT_DUP: OSSL_FUNC_keymgmt_dup_fn = dup,
        OSSL_FUNC_KEYMGMT_HAS: OSSL_FUNC_keymgmt_has_fn = has,
        OSSL_FUNC_KEYMGMT_MATCH: OSSL_FUNC_keymgmt_match_fn = matches,
        OSSL_FUNC_KEYMGMT_VALIDATE: OSSL_FUNC_keymgmt_validate_fn = validate,
        OSSL_FUNC_KEYMGMT_IMPORT: OSSL_FUNC_keymgmt_import_fn = import,
        OSSL_FUNC_KEYMGMT_IMPORT_TYPES: OSSL_FUNC_keymgmt_import_types_fn = types::<K>,
        OSSL_FUNC_KEYMGMT_EXPORT: OSSL_FUNC_keymgmt_export_fn = export,
        OSSL_FUNC_KEYMGMT_EXPORT_TYPES: OSSL_FUNC_keymgmt_export_types_fn = types::<K>,
        OSSL_FUNC_KEYMGMT_GET_PARAMS: OSSL_FUNC_keymgmt_get_params_fn = get_params,
        OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS: OSSL_FUNC_keymgmt_gettable_params_fn = gettable_params::<K>,
        OSSL_FUNC_KEYMGMT_SET_PARAMS: OSSL_FUNC_keymgmt_set_params_fn = set_params,
        OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS: OSSL_FUNC_keymgmt_settable_params_fn = settable_params::<K>,
        OSSL_FUNC_KEYMGMT_GEN_INIT: OSSL_FUNC_keymgmt_gen_init_fn = generate::gen_init::<K>,
        OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS: OSSL_FUNC_keymgmt_gen_set_params_fn = generate::gen_set_params,
        OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS: OSSL_FUNC_keymgmt_gen_settable_params_fn = generate::gen_settable_params::<K>,
        OSSL_FUNC_KEYMGMT_GEN: OSSL_FUNC_keymgmt_gen_fn = generate::r#gen,
        OSSL_FUNC_KEYMGMT_GEN_CLEANUP: OSSL_FUNC_keymgmt_gen_cleanup_fn = operation::free::<generate::Generation>,
        OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME: OSSL_FUNC_keymgmt_query_operation_name_fn = query_operation_name::<K>,
    ];
}

/// An empty key, for an import.
unsafe extern "C" fn new<K: Kind>(context: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to our provider.
        match unsafe { Provider::from_context(context) } {
            Some(provider) => Arc::into_raw(Arc::new(Key::new(provider, K::KIND))).cast_mut().cast(),
            None => ptr::null_mut(),
        }
    })
}

unsafe extern "C" fn free(keydata: *mut c_void) {
    fence((), || {
        if !keydata.is_null() {
            // SAFETY: made by Arc::into_raw; libcrypto gives its reference back this once.
            drop(unsafe { Arc::from_raw(keydata.cast_const().cast::<Key>()) });
        }
    });
}

/// Takes a key from our store or decoder. The reference is the address of their pointer to it; taking it sets that
/// to null, so that they know that it has a new owner.
unsafe extern "C" fn load<K: Kind>(reference: *const c_void, size: usize) -> *mut c_void {
    fence(ptr::null_mut(), || {
        if size != size_of::<*const Key>() {
            return ptr::null_mut();
        }
        // SAFETY: a reference of this size is one of ours (dispatch::store::deliver): a pointer that can be written, to
        // null or a live key.
        unsafe {
            let Some(slot) = pointer::reference_mut(reference.cast_mut().cast::<*const Key>()) else {
                return ptr::null_mut();
            };
            match slot.as_ref() {
                Some(key) if key.kind == K::KIND => std::mem::replace(slot, ptr::null()).cast_mut().cast(),
                _ => ptr::null_mut(),
            }
        }
    })
}

/// Keys never change once they have content, so a copy of all of it is the same key; a copy of the public half does
/// not sign.
unsafe extern "C" fn dup(keydata: *const c_void, selection: c_int) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to a key of ours.
        let Some(key) = (unsafe { share(keydata) }) else { return ptr::null_mut() };
        let copy = if selects(selection, OSSL_KEYMGMT_SELECT_PRIVATE_KEY) {
            key
        } else if selects(selection, OSSL_KEYMGMT_SELECT_PUBLIC_KEY) {
            match key.public() {
                Ok(public) => Arc::new(Key::from_public(key.provider.clone(), key.kind, public.clone())),
                Err(_) => return ptr::null_mut(),
            }
        } else {
            // Parameters without a key are nothing that we keep.
            return ptr::null_mut();
        };
        Arc::into_raw(copy).cast_mut().cast()
    })
}

fn selects(selection: c_int, part: u32) -> bool {
    selection as u32 & part != 0
}

unsafe extern "C" fn has(keydata: *const c_void, selection: c_int) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a key of ours.
        let Some(key) = (unsafe { key(keydata) }) else { return 0 };
        let private = !selects(selection, OSSL_KEYMGMT_SELECT_PRIVATE_KEY) || key.has_private();
        let rest = OSSL_KEYMGMT_SELECT_PUBLIC_KEY | OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS;
        let public = !selects(selection, rest) || key.has_public();
        c_int::from(private && public)
    })
}

unsafe extern "C" fn matches(one: *const c_void, other: *const c_void, selection: c_int) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointers to keys of ours.
        let (Some(one), Some(other)) = (unsafe { (key(one), key(other)) }) else { return 0 };
        match (one.public(), other.public()) {
            (Ok(one), Ok(other)) if selects(selection, OSSL_KEYMGMT_SELECT_KEYPAIR) => {
                c_int::from(one.equals(other))
            }
            (Ok(one), Ok(other)) => c_int::from(one.has_parameters_of(other)),
            _ => 0,
        }
    })
}

/// The public half is checked by OpenSSL's own provider; the private half is the token's to vouch for.
unsafe extern "C" fn validate(keydata: *const c_void, selection: c_int, _check: c_int) -> c_int {
    fence(0, || {
        // SAFETY: as for `has`.
        if unsafe { has(keydata, selection) } != 1 {
            return 0;
        }
        // SAFETY: libcrypto's pointer to a key of ours.
        let Some(key) = (unsafe { key(keydata) }) else { return 0 };
        let public = selects(selection, OSSL_KEYMGMT_SELECT_PUBLIC_KEY);
        c_int::from(!public || key.public().is_ok_and(|half| half.is_sound(&key.provider.openssl)))
    })
}

/// Takes a public key. Private keys are refused: they belong into a token, not into this process. What counts is whether
/// there is one: OpenSSL 3.0 says "all" when it hands over the public key of a key exchange's peer.
unsafe extern "C" fn import(keydata: *mut c_void, selection: c_int, params: *const OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a key of ours.
        let Some(key) = (unsafe { key(keydata) }) else { return 0 };
        // SAFETY: a terminated list from libcrypto.
        let params = unsafe { Params::new(params) };
        // The names under which every type of key has its private half.
        let has_private = params.has(OSSL_PKEY_PARAM_PRIV_KEY) || params.has(OSSL_PKEY_PARAM_RSA_D);
        if has_private || !selects(selection, OSSL_KEYMGMT_SELECT_PUBLIC_KEY) {
            return 0;
        }
        key.provider.status(key.import(params))
    })
}

unsafe extern "C" fn export(
    keydata: *mut c_void,
    selection: c_int,
    callback: OSSL_CALLBACK,
    argument: *mut c_void,
) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a key of ours.
        let Some(key) = (unsafe { key(keydata) }) else { return 0 };
        if selects(selection, OSSL_KEYMGMT_SELECT_PRIVATE_KEY)
            || !key.provider.tokens.settings.public_keys_leave
        {
            return 0;
        }
        match key.public() {
            // SAFETY: libcrypto's callback with its argument.
            Ok(public) => c_int::from(unsafe { public.export(callback, argument) }),
            Err(_) => 0,
        }
    })
}

/// What can be imported and exported: public keys.
unsafe extern "C" fn types<K: Kind>(selection: c_int) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static RSA: Descriptions<3> = Descriptions::new([
            describe(OSSL_PKEY_PARAM_RSA_N, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_PKEY_PARAM_RSA_E, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        static EC: Descriptions<3> = Descriptions::new([
            describe(OSSL_PKEY_PARAM_GROUP_NAME, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        static ONLY_A_KEY: Descriptions<2> =
            Descriptions::new([describe(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING), END]);
        let wanted = OSSL_KEYMGMT_SELECT_PUBLIC_KEY | OSSL_KEYMGMT_SELECT_ALL_PARAMETERS;
        if !selects(selection, wanted) || selects(selection, OSSL_KEYMGMT_SELECT_PRIVATE_KEY) {
            return ptr::null();
        }
        match K::KIND {
            kind if kind.is_rsa() => RSA.as_ptr(),
            kind if kind.facts().curve.is_some() || kind.facts().parameter_set.is_some() => {
                ONLY_A_KEY.as_ptr()
            }
            _ => EC.as_ptr(),
        }
    })
}

unsafe extern "C" fn get_params(keydata: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a key of ours.
        let Some(key) = (unsafe { key(keydata) }) else { return 0 };
        // SAFETY: a terminated list from libcrypto.
        let answers = unsafe { Answers::new(params) };
        match key.written() {
            Ok(public) => c_int::from(public.answer(&answers)),
            Err(_) => 0,
        }
    })
}

/// What may be set is how the point of an EC key is written (openssl ec -conv_form). Its curve is written by its name.
unsafe extern "C" fn set_params(keydata: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a key of ours, and a terminated list.
        let (Some(key), params) = (unsafe { (key(keydata), Params::new(params)) }) else { return 0 };
        let set = || {
            match params.text(OSSL_PKEY_PARAM_EC_ENCODING)? {
                None | Some("named_curve") => {}
                Some(_) => return Err(Error::Unsupported("a curve by explicit parameters".into())),
            }
            match params.text(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT)? {
                None => Ok(()),
                Some(form) => key.set_point_format(form),
            }
        };
        if key.kind == KeyKind::Ec { key.provider.status(set()) } else { 1 }
    })
}

unsafe extern "C" fn settable_params<K: Kind>(_context: *mut c_void) -> *const OSSL_PARAM {
    static EC: Descriptions<3> = Descriptions::new([
        describe(OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, OSSL_PARAM_UTF8_STRING),
        END,
    ]);
    static NONE: Descriptions<1> = Descriptions::new([END]);
    fence(ptr::null(), || if K::KIND == KeyKind::Ec { EC.as_ptr() } else { NONE.as_ptr() })
}

unsafe extern "C" fn gettable_params<K: Kind>(_context: *mut c_void) -> *const OSSL_PARAM {
    static RSA: Descriptions<8> = Descriptions::new([
        describe(OSSL_PKEY_PARAM_BITS, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_SECURITY_BITS, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_MAX_SIZE, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_DEFAULT_DIGEST, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_MANDATORY_DIGEST, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_RSA_N, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_PKEY_PARAM_RSA_E, OSSL_PARAM_UNSIGNED_INTEGER),
        END,
    ]);
    static EC: Descriptions<12> = Descriptions::new([
        describe(OSSL_PKEY_PARAM_BITS, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_SECURITY_BITS, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_MAX_SIZE, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_DEFAULT_DIGEST, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_GROUP_NAME, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, OSSL_PARAM_OCTET_STRING),
        describe(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING),
        describe(OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_PKEY_PARAM_EC_PUB_Y, OSSL_PARAM_UNSIGNED_INTEGER),
        END,
    ]);
    static ONLY_A_KEY: Descriptions<7> = Descriptions::new([
        describe(OSSL_PKEY_PARAM_BITS, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_SECURITY_BITS, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_MAX_SIZE, OSSL_PARAM_INTEGER),
        describe(OSSL_PKEY_PARAM_MANDATORY_DIGEST, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, OSSL_PARAM_OCTET_STRING),
        describe(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING),
        END,
    ]);
    fence(ptr::null(), || match K::KIND {
        kind if kind.is_rsa() => RSA.as_ptr(),
        kind if kind.facts().curve.is_some() || kind.facts().parameter_set.is_some() => ONLY_A_KEY.as_ptr(),
        _ => EC.as_ptr(),
    })
}

unsafe extern "C" fn query_operation_name<K: Kind>(operation: c_int) -> *const c_char {
    fence(ptr::null(), || {
        let facts = K::KIND.facts();
        // Of another operation, libcrypto finds by the type's name that there is none.
        let operation = u32::try_from(operation).unwrap_or(0);
        facts.of_operation(operation).unwrap_or(facts.names).first.as_ptr()
    })
}
