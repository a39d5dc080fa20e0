//! The provider's own functions (provider-base(7)): what it is, what it offers, its end.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use super::{
    asym_cipher, cipher, decoder, digest, encapsulation, encoder, kdf, key_exchange, keymgmt, mac,
    properties, random, secret_keys, signature, store, table,
};
use crate::bindings::*;
use crate::error::REASONS;
use crate::fence::fence;
use crate::jobs;
use crate::params::{Answers, Descriptions, END, describe};
use crate::provider::Provider;

/// The table that OSSL_provider_init returns.
pub static TABLE: &[OSSL_DISPATCH] = table![
    OSSL_FUNC_PROVIDER_TEARDOWN: OSSL_FUNC_provider_teardown_fn = teardown,
    OSSL_FUNC_PROVIDER_GETTABLE_PARAMS: OSSL_FUNC_provider_gettable_params_fn = gettable_params,
    OSSL_FUNC_PROVIDER_GET_PARAMS: OSSL_FUNC_provider_get_params_fn = get_params,
    OSSL_FUNC_PROVIDER_QUERY_OPERATION: OSSL_FUNC_provider_query_operation_fn = query_operation,
    OSSL_FUNC_PROVIDER_GET_REASON_STRINGS: OSSL_FUNC_provider_get_reason_strings_fn = get_reason_strings,
];

/// Gives back libcrypto's reference, when no job of an application that is gone is being signed any more. Sessions are left to the end of the process: at exit the module's own
/// destructors may have run already, and in a forked child they are the parent's.
unsafe extern "C" fn teardown(context: *mut c_void) {
    fence((), || {
        jobs::rest();
        if !context.is_null() {
            // SAFETY: made by Arc::into_raw in OSSL_provider_init, given back this once.
            drop(unsafe { Arc::from_raw(context.cast_const().cast::<Provider>()) });
        }
    });
}

unsafe extern "C" fn gettable_params(_context: *mut c_void) -> *const OSSL_PARAM {
    fence(std::ptr::null(), || {
        static LIST: Descriptions<5> = Descriptions::new([
            describe(OSSL_PROV_PARAM_NAME, OSSL_PARAM_UTF8_PTR),
            describe(OSSL_PROV_PARAM_VERSION, OSSL_PARAM_UTF8_PTR),
            describe(OSSL_PROV_PARAM_BUILDINFO, OSSL_PARAM_UTF8_PTR),
            describe(OSSL_PROV_PARAM_STATUS, OSSL_PARAM_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}

unsafe extern "C" fn get_params(_context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: a terminated list from libcrypto.
        let answers = unsafe { Answers::new(params) };
        c_int::from(
            answers.text(OSSL_PROV_PARAM_NAME, c"Strongroom PKCS#11 provider")
                && answers.text(OSSL_PROV_PARAM_VERSION, VERSION)
                && answers.text(OSSL_PROV_PARAM_BUILDINFO, VERSION)
                && answers.integer(OSSL_PROV_PARAM_STATUS, 1),
        )
    })
}

/// The release, as a C string.
const VERSION: &std::ffi::CStr =
    match std::ffi::CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// The lists are complete from the start, whatever the token can do: libcrypto remembers them.
unsafe extern "C" fn query_operation(
    context: *mut c_void,
    operation: c_int,
    no_cache: *mut c_int,
) -> *const OSSL_ALGORITHM {
    fence(std::ptr::null(), || {
        // SAFETY: null or one int of libcrypto's.
        if let Some(no_cache) = unsafe { strongroom_ffi::pointer::reference_mut(no_cache) } {
            *no_cache = 0;
        }
        let operation = operation as u32;
        let list = match operation {
            OSSL_OP_DIGEST => digest::ALGORITHMS.as_ptr(),
            OSSL_OP_KDF => kdf::ALGORITHMS.as_ptr(),
            OSSL_OP_MAC => mac::ALGORITHMS.as_ptr(),
            OSSL_OP_CIPHER => cipher::ALGORITHMS.as_ptr(),
            OSSL_OP_KEYMGMT => keymgmt::ALGORITHMS.as_ptr(),
            OSSL_OP_SIGNATURE => signature::ALGORITHMS.as_ptr(),
            OSSL_OP_RAND => random::ALGORITHMS.as_ptr(),
            OSSL_OP_KEYEXCH => key_exchange::ALGORITHMS.as_ptr(),
            OSSL_OP_KEM => encapsulation::ALGORITHMS.as_ptr(),
            OSSL_OP_ASYM_CIPHER => asym_cipher::ALGORITHMS.as_ptr(),
            OSSL_OP_SKEYMGMT => secret_keys::ALGORITHMS.as_ptr(),
            OSSL_OP_STORE => store::ALGORITHMS.as_ptr(),
            OSSL_OP_DECODER => decoder::ALGORITHMS.as_ptr(),
            OSSL_OP_ENCODER => encoder::ALGORITHMS.as_ptr(),
            _ => return std::ptr::null(),
        };
        // SAFETY: libcrypto's pointer to our provider, which lives for the call.
        let provider = unsafe { strongroom_ffi::pointer::reference(context.cast_const().cast::<Provider>()) };
        let Some(settings) = provider.map(|provider| &provider.tokens.settings) else { return list };
        match &settings.properties {
            _ if !settings.offers(operation) => std::ptr::null(),
            // SAFETY: the list is one of ours, which are terminated.
            Some(properties) => unsafe { properties::replace(list, properties) },
            None => list,
        }
    })
}

unsafe extern "C" fn get_reason_strings(_context: *mut c_void) -> *const OSSL_ITEM {
    fence(std::ptr::null(), || {
        const LENGTH: usize = REASONS.len() + 1;
        struct Items([OSSL_ITEM; LENGTH]);
        // SAFETY: pointers to string literals that nobody writes.
        unsafe impl Sync for Items {}
        static ITEMS: Items = Items({
            let mut items = [const { OSSL_ITEM { id: 0, ptr: std::ptr::null_mut() } }; LENGTH];
            let mut at = 0;
            while at < REASONS.len() {
                #[allow(clippy::indexing_slicing)] // in a constant: out of bounds would not compile
                {
                    items[at] =
                        OSSL_ITEM { id: REASONS[at].0, ptr: REASONS[at].1.as_ptr().cast_mut().cast() };
                }
                at += 1;
            }
            items
        });
        ITEMS.0.as_ptr()
    })
}
