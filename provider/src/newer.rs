//! Functions of newer OpenSSLs than the one whose headers this was built with: their numbers and types in core_dispatch.h. Numbers were
//! only ever added to it, from 3.0 to 4.0, and a libcrypto passes over those that it does not know. So one build offers all.
//!
//! Where the installed headers have them, theirs are used: these come by a glob, which names of the file itself go before.
#![allow(non_camel_case_types)] // OpenSSL's own names

use std::ffi::{c_char, c_int, c_uchar, c_void};

use crate::bindings::{OSSL_CALLBACK, OSSL_PARAM, OSSL_PASSPHRASE_CALLBACK};

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

/// OSSL_FUNC_MAC_INIT_SKEY, from 3.5 on.
pub const OSSL_FUNC_MAC_INIT_SKEY: u32 = 13;
/// Begins a code with a secret key that is managed (provider-mac(7)).
pub type OSSL_FUNC_mac_init_skey_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, key: *mut c_void, params: *const OSSL_PARAM) -> c_int>;

/// OSSL_OP_SKEYMGMT, from 3.5 on.
pub const OSSL_OP_SKEYMGMT: u32 = 15;
/// The part of a secret key that is secret (provider-skeymgmt(7)).
pub const OSSL_SKEYMGMT_SELECT_SECRET_KEY: u32 = 2;

/// OSSL_FUNC_SKEYMGMT_FREE, from 3.5 on.
pub const OSSL_FUNC_SKEYMGMT_FREE: u32 = 1;
/// Gives a key back (provider-skeymgmt(7)).
pub type OSSL_FUNC_skeymgmt_free_fn = Option<unsafe extern "C" fn(key: *mut c_void)>;

/// OSSL_FUNC_SKEYMGMT_IMPORT, from 3.5 on.
pub const OSSL_FUNC_SKEYMGMT_IMPORT: u32 = 2;
/// Makes a key of parameters (provider-skeymgmt(7)).
pub type OSSL_FUNC_skeymgmt_import_fn = Option<
    unsafe extern "C" fn(provider: *mut c_void, selection: c_int, params: *const OSSL_PARAM) -> *mut c_void,
>;

/// OSSL_FUNC_SKEYMGMT_EXPORT, from 3.5 on.
pub const OSSL_FUNC_SKEYMGMT_EXPORT: u32 = 3;
/// Hands out a key's parameters (provider-skeymgmt(7)).
pub type OSSL_FUNC_skeymgmt_export_fn = Option<
    unsafe extern "C" fn(
        key: *mut c_void,
        selection: c_int,
        callback: OSSL_CALLBACK,
        argument: *mut c_void,
    ) -> c_int,
>;

/// OSSL_FUNC_SKEYMGMT_GENERATE, from 3.5 on.
pub const OSSL_FUNC_SKEYMGMT_GENERATE: u32 = 4;
/// Makes a new key (provider-skeymgmt(7)).
pub type OSSL_FUNC_skeymgmt_generate_fn =
    Option<unsafe extern "C" fn(provider: *mut c_void, params: *const OSSL_PARAM) -> *mut c_void>;

/// OSSL_FUNC_SKEYMGMT_GET_KEY_ID, from 3.5 on.
pub const OSSL_FUNC_SKEYMGMT_GET_KEY_ID: u32 = 5;
/// Names a key (provider-skeymgmt(7)).
pub type OSSL_FUNC_skeymgmt_get_key_id_fn = Option<unsafe extern "C" fn(key: *mut c_void) -> *const c_char>;

/// OSSL_FUNC_SKEYMGMT_IMP_SETTABLE_PARAMS, from 3.5 on.
pub const OSSL_FUNC_SKEYMGMT_IMP_SETTABLE_PARAMS: u32 = 6;
/// Describes the parameters of an import (provider-skeymgmt(7)).
pub type OSSL_FUNC_skeymgmt_imp_settable_params_fn =
    Option<unsafe extern "C" fn(provider: *mut c_void) -> *const OSSL_PARAM>;

/// OSSL_FUNC_SKEYMGMT_GEN_SETTABLE_PARAMS, from 3.5 on.
pub const OSSL_FUNC_SKEYMGMT_GEN_SETTABLE_PARAMS: u32 = 7;
/// Describes the parameters of a generation (provider-skeymgmt(7)).
pub type OSSL_FUNC_skeymgmt_gen_settable_params_fn = OSSL_FUNC_skeymgmt_imp_settable_params_fn;

/// OSSL_OBJECT_SKEY, from 4.0 on: a secret key, as an object of the store (provider-object(7)).
pub const OSSL_OBJECT_SKEY: u32 = 5;
/// OSSL_STORE_INFO_SKEY, from 4.0 on: secret keys are expected (OSSL_STORE_expect(3)).
pub const OSSL_STORE_INFO_SKEY: u32 = 7;

/// OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT, from 3.5 on.
pub const OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT: u32 = 19;
/// Begins an encryption with a secret key that is managed (provider-cipher(7)).
pub type OSSL_FUNC_cipher_encrypt_skey_init_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        key: *mut c_void,
        iv: *const c_uchar,
        iv_length: usize,
        params: *const OSSL_PARAM,
    ) -> c_int,
>;

/// OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT, from 3.5 on.
pub const OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT: u32 = 20;
/// Begins a decryption with a secret key that is managed (provider-cipher(7)).
pub type OSSL_FUNC_cipher_decrypt_skey_init_fn = OSSL_FUNC_cipher_encrypt_skey_init_fn;

/// OSSL_FUNC_KDF_SET_SKEY, from 4.0 on.
pub const OSSL_FUNC_KDF_SET_SKEY: u32 = 12;
/// Sets a secret key that is managed in place of a parameter (provider-kdf(7)).
pub type OSSL_FUNC_kdf_set_skey_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, key: *mut c_void, parameter: *const c_char) -> c_int>;
