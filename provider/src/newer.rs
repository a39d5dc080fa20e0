//! Functions of newer OpenSSLs than the one whose headers this was built with: their numbers and types in core_dispatch.h. Numbers were
//! only ever added to it, from 3.0 to 4.0, and a libcrypto passes over those that it does not know. So one build offers all.
//!
//! Where the installed headers have them, theirs are used: these come by a glob, which names of the file itself go before.
#![allow(non_camel_case_types)] // OpenSSL's own names

use std::ffi::{c_char, c_int, c_uchar, c_void};

use crate::bindings::{OSSL_PARAM, OSSL_PASSPHRASE_CALLBACK};

/// OSSL_FUNC_STORE_OPEN_EX, from 3.2 on.
pub const OSSL_FUNC_STORE_OPEN_EX: u32 = 10;
/// Opens with parameters (provider-storemgmt(7)).
pub type OSSL_FUNC_store_open_ex_fn = Option<
    unsafe extern "C" fn(
        provider: *mut c_void,
        uri: *const c_char,
        params: *const OSSL_PARAM,
        pin_callback: OSSL_PASSPHRASE_CALLBACK,
        pin_argument: *mut c_void,
    ) -> *mut c_void,
>;

/// OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT, from 3.4 on.
pub const OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT: u32 = 27;
/// Begins a signature over a whole message (provider-signature(7)).
pub type OSSL_FUNC_signature_sign_message_init_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, key: *mut c_void, params: *const OSSL_PARAM) -> c_int>;

/// OSSL_FUNC_SIGNATURE_QUERY_KEY_TYPES, from 3.4 on.
pub const OSSL_FUNC_SIGNATURE_QUERY_KEY_TYPES: u32 = 26;
/// The types of key that an algorithm is for, where its name does not tell (provider-signature(7)).
pub type OSSL_FUNC_signature_query_key_types_fn = Option<unsafe extern "C" fn() -> *mut *const c_char>;

/// OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE, from 3.4 on.
pub const OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE: u32 = 28;
/// Takes a part of a message (provider-signature(7)).
pub type OSSL_FUNC_signature_sign_message_update_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, data: *const c_uchar, length: usize) -> c_int>;

/// OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL, from 3.4 on.
pub const OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL: u32 = 29;
/// Signs the message of the parts (provider-signature(7)).
pub type OSSL_FUNC_signature_sign_message_final_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        signature: *mut c_uchar,
        length: *mut usize,
        size: usize,
    ) -> c_int,
>;

/// OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE, from 3.4 on.
pub const OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE: u32 = 31;
/// Takes a part of a message (provider-signature(7)).
pub type OSSL_FUNC_signature_verify_message_update_fn = OSSL_FUNC_signature_sign_message_update_fn;

/// OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL, from 3.4 on.
pub const OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL: u32 = 32;
/// Verifies the signature that was set over the message of the parts (provider-signature(7)).
pub type OSSL_FUNC_signature_verify_message_final_fn =
    Option<unsafe extern "C" fn(context: *mut c_void) -> c_int>;

/// OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT, from 3.4 on.
pub const OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT: u32 = 30;
/// Begins the verification of a signature over a whole message (provider-signature(7)).
pub type OSSL_FUNC_signature_verify_message_init_fn = OSSL_FUNC_signature_sign_message_init_fn;
