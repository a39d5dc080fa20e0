//! The C functions: one table, from which each function that the library exports is made.
//!
//! Every one of them runs inside the fence, turns the outcome into a `CK_RV`, and, but for the few that work
//! without it, finds the process's state first.

// The contract is the standard's, the same for all (see `crate::api`).
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments, non_snake_case)]

use std::ffi::c_void;

use cryptoki_sys::*;
use strongroom_ffi::fence;

use crate::api::{
    copy, decrypt, derive, digest, dual, encapsulation, encrypt, events, find, general, init_token, keys,
    message, message_signature, object, operation_state, pin, random, recover, session, sign, slot, verify,
    verify_signature, wrap,
};
use crate::error::Outcome;
use crate::lists;
use crate::state::{self, Process};

type Bytes = *mut CK_BYTE;
type Length = *mut CK_ULONG;
type Mechanism = *mut CK_MECHANISM;
type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;
type Pointer = *mut c_void;

fn code(body: impl FnOnce() -> Outcome) -> CK_RV {
    fence(CKR_GENERAL_ERROR, || body().err().unwrap_or(CKR_OK))
}

fn enter(body: impl FnOnce(&'static Process) -> Outcome) -> CK_RV {
    code(|| body(state::current()?))
}

/// One C function, for those who list them: docs/pkcs11-mirror.md.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The function of [`crate::api`] that carries it out; `None`: it is not offered.
    pub path: Option<&'static str>,
}

/// Functions that need `C_Initialize` first.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) => $function:path;)*) => {
        /// The functions that need `C_Initialize` first.
        pub const AFTER_INITIALIZE: &[Function] =
            &[$(Function { name: stringify!($name), path: Some(stringify!($function)) }),*];
    $(
        #[doc = concat!("`", stringify!($name), "`: see [`", stringify!($function), "`].")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            // SAFETY: the application keeps the standard's contract.
            enter(|process| unsafe { $function(process, $($argument),*) })
        }
    )*};
}

/// Functions that work without it.
macro_rules! functions_before_initialize {
    ($($name:ident($($argument:ident: $type:ty),*) => $function:path;)*) => {
        /// The functions that work before `C_Initialize`.
        pub const BEFORE_INITIALIZE: &[Function] =
            &[$(Function { name: stringify!($name), path: Some(stringify!($function)) }),*];
    $(
        #[doc = concat!("`", stringify!($name), "`: see [`", stringify!($function), "`].")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            // SAFETY: the application keeps the standard's contract.
            code(|| unsafe { $function($($argument),*) })
        }
    )*};
}

/// Functions that the partition does not offer.
macro_rules! unsupported {
    ($($name:ident($($type:ty),*);)*) => {
        /// The functions that are not offered.
        pub const UNSUPPORTED: &[Function] =
            &[$(Function { name: stringify!($name), path: None }),*];
    $(
        #[doc = concat!("`", stringify!($name), "`: always `CKR_FUNCTION_NOT_SUPPORTED`.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($(_: $type),*) -> CK_RV {
            CKR_FUNCTION_NOT_SUPPORTED
        }
    )*};
}

functions_before_initialize! {
    C_Initialize(arguments: Pointer) => general::initialize;
    C_Finalize(reserved: Pointer) => general::finalize;
    C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) => lists::get_function_list;
    C_GetInterfaceList(list: *mut CK_INTERFACE, count: Length) => lists::get_interface_list;
    C_GetInterface(
        name: *mut CK_UTF8CHAR, version: *mut CK_VERSION, interface: *mut *mut CK_INTERFACE, flags: CK_FLAGS
    ) => lists::get_interface;
}

functions! {
    C_GetInfo(info: *mut CK_INFO) => general::get_info;
    C_GetFunctionStatus(session: Session) => general::not_parallel;
    C_CancelFunction(session: Session) => general::not_parallel;

    C_GetSlotList(with_token: CK_BBOOL, list: *mut CK_SLOT_ID, count: Length) => slot::get_slot_list;
    C_GetSlotInfo(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) => slot::get_slot_info;
    C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) => slot::get_token_info;
    C_GetMechanismList(
        slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: Length
    ) => slot::get_mechanism_list;
    C_GetMechanismInfo(
        slot: CK_SLOT_ID, mechanism: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO
    ) => slot::get_mechanism_info;
    C_WaitForSlotEvent(flags: CK_FLAGS, slot: *mut CK_SLOT_ID, reserved: Pointer) => events::wait_for_slot_event;

    C_InitToken(slot: CK_SLOT_ID, pin: Bytes, length: CK_ULONG, label: Bytes) => init_token::init_token;
    C_InitPIN(session: Session, pin: Bytes, length: CK_ULONG) => pin::init_pin;
    C_SetPIN(
        session: Session, old: Bytes, old_length: CK_ULONG, new: Bytes, new_length: CK_ULONG
    ) => pin::set_pin;

    C_OpenSession(
        slot: CK_SLOT_ID, flags: CK_FLAGS, application: Pointer, notify: CK_NOTIFY, session: *mut Session
    ) => session::open_session;
    C_CloseSession(session: Session) => session::close_session;
    C_CloseAllSessions(slot: CK_SLOT_ID) => session::close_all_sessions;
    C_GetSessionInfo(session: Session, info: *mut CK_SESSION_INFO) => session::get_session_info;
    C_SessionCancel(session: Session, flags: CK_FLAGS) => session::session_cancel;
    C_Login(session: Session, user_type: CK_USER_TYPE, pin: Bytes, length: CK_ULONG) => session::login;
    C_LoginUser(
        session: Session, user_type: CK_USER_TYPE, pin: Bytes, length: CK_ULONG, user: Bytes, user_length: CK_ULONG
    ) => session::login_user;
    C_Logout(session: Session) => session::logout;

    C_CreateObject(
        session: Session, template: *mut CK_ATTRIBUTE, count: CK_ULONG, object: *mut Object
    ) => object::create_object;
    C_CopyObject(
        session: Session, object: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG, copy: *mut Object
    ) => copy::copy_object;
    C_DestroyObject(session: Session, object: Object) => object::destroy_object;
    C_GetObjectSize(session: Session, object: Object, size: Length) => object::get_object_size;
    C_GetAttributeValue(
        session: Session, object: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG
    ) => object::get_attribute_value;
    C_SetAttributeValue(
        session: Session, object: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG
    ) => object::set_attribute_value;
    C_FindObjectsInit(session: Session, template: *mut CK_ATTRIBUTE, count: CK_ULONG) => find::find_objects_init;
    C_FindObjects(session: Session, list: *mut Object, max: CK_ULONG, count: Length) => find::find_objects;
    C_FindObjectsFinal(session: Session) => find::find_objects_final;

    C_EncryptInit(session: Session, mechanism: Mechanism, key: Object) => encrypt::encrypt_init;
    C_Encrypt(
        session: Session, data: Bytes, length: CK_ULONG, ciphertext: Bytes, ciphertext_length: Length
    ) => encrypt::encrypt;
    C_EncryptUpdate(
        session: Session, part: Bytes, length: CK_ULONG, ciphertext: Bytes, ciphertext_length: Length
    ) => encrypt::encrypt_update;
    C_EncryptFinal(session: Session, ciphertext: Bytes, ciphertext_length: Length) => encrypt::encrypt_final;
    C_DecryptInit(session: Session, mechanism: Mechanism, key: Object) => decrypt::decrypt_init;
    C_Decrypt(
        session: Session, ciphertext: Bytes, length: CK_ULONG, plaintext: Bytes, plaintext_length: Length
    ) => decrypt::decrypt;
    C_DecryptUpdate(
        session: Session, part: Bytes, length: CK_ULONG, plaintext: Bytes, plaintext_length: Length
    ) => decrypt::decrypt_update;
    C_DecryptFinal(session: Session, plaintext: Bytes, plaintext_length: Length) => decrypt::decrypt_final;

    C_DigestInit(session: Session, mechanism: Mechanism) => digest::digest_init;
    C_Digest(session: Session, data: Bytes, length: CK_ULONG, digest: Bytes, digest_length: Length) => digest::digest;
    C_DigestUpdate(session: Session, part: Bytes, length: CK_ULONG) => digest::digest_update;
    C_DigestFinal(session: Session, digest: Bytes, digest_length: Length) => digest::digest_final;

    C_SignInit(session: Session, mechanism: Mechanism, key: Object) => sign::sign_init;
    C_Sign(
        session: Session, data: Bytes, length: CK_ULONG, signature: Bytes, signature_length: Length
    ) => sign::sign;
    C_SignUpdate(session: Session, part: Bytes, length: CK_ULONG) => sign::sign_update;
    C_SignFinal(session: Session, signature: Bytes, signature_length: Length) => sign::sign_final;

    C_VerifyInit(session: Session, mechanism: Mechanism, key: Object) => verify::verify_init;
    C_Verify(
        session: Session, data: Bytes, length: CK_ULONG, signature: Bytes, signature_length: CK_ULONG
    ) => verify::verify;
    C_VerifyUpdate(session: Session, part: Bytes, length: CK_ULONG) => verify::verify_update;
    C_VerifyFinal(session: Session, signature: Bytes, signature_length: CK_ULONG) => verify::verify_final;

    C_GenerateKey(
        session: Session, mechanism: Mechanism, template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut Object
    ) => keys::generate_key;
    C_GenerateKeyPair(
        session: Session, mechanism: Mechanism,
        public: *mut CK_ATTRIBUTE, public_count: CK_ULONG, private: *mut CK_ATTRIBUTE, private_count: CK_ULONG,
        public_key: *mut Object, private_key: *mut Object
    ) => keys::generate_key_pair;

    C_WrapKey(
        session: Session, mechanism: Mechanism, wrapping_key: Object, key: Object, wrapped: Bytes, length: Length
    ) => wrap::wrap_key;
    C_UnwrapKey(
        session: Session, mechanism: Mechanism, unwrapping_key: Object, wrapped: Bytes, length: CK_ULONG,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut Object
    ) => wrap::unwrap_key;
    C_DeriveKey(
        session: Session, mechanism: Mechanism, base: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut Object
    ) => derive::derive_key;

    C_SeedRandom(session: Session, seed: Bytes, length: CK_ULONG) => random::seed_random;
    C_EncapsulateKey(
        session: Session, mechanism: Mechanism, public: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        ciphertext: Bytes, ciphertext_length: Length, secret: *mut Object
    ) => encapsulation::encapsulate_key;
    C_DecapsulateKey(
        session: Session, mechanism: Mechanism, private: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        ciphertext: Bytes, ciphertext_length: CK_ULONG, secret: *mut Object
    ) => encapsulation::decapsulate_key;
    C_GenerateRandom(session: Session, random: Bytes, length: CK_ULONG) => random::generate_random;

    C_SignRecoverInit(session: Session, mechanism: Mechanism, key: Object) => recover::sign_recover_init;
    C_SignRecover(
        session: Session, data: Bytes, length: CK_ULONG, signature: Bytes, signature_length: Length
    ) => recover::sign_recover;
    C_VerifyRecoverInit(session: Session, mechanism: Mechanism, key: Object) => recover::verify_recover_init;
    C_VerifyRecover(
        session: Session, signature: Bytes, signature_length: CK_ULONG, data: Bytes, length: Length
    ) => recover::verify_recover;

    C_GetOperationState(session: Session, state: Bytes, length: Length) => operation_state::get_operation_state;
    C_SetOperationState(
        session: Session, state: Bytes, length: CK_ULONG, encryption_key: Object, authentication_key: Object
    ) => operation_state::set_operation_state;
    C_DigestKey(session: Session, key: Object) => digest::digest_key;

    C_DigestEncryptUpdate(
        session: Session, part: Bytes, length: CK_ULONG, ciphertext: Bytes, ciphertext_length: Length
    ) => dual::digest_encrypt_update;
    C_DecryptDigestUpdate(
        session: Session, part: Bytes, length: CK_ULONG, plaintext: Bytes, plaintext_length: Length
    ) => dual::decrypt_digest_update;
    C_SignEncryptUpdate(
        session: Session, part: Bytes, length: CK_ULONG, ciphertext: Bytes, ciphertext_length: Length
    ) => dual::sign_encrypt_update;
    C_DecryptVerifyUpdate(
        session: Session, part: Bytes, length: CK_ULONG, plaintext: Bytes, plaintext_length: Length
    ) => dual::decrypt_verify_update;

    C_MessageEncryptInit(session: Session, mechanism: Mechanism, key: Object) => message::message_encrypt_init;
    C_EncryptMessage(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, aad: Bytes, aad_length: CK_ULONG,
        plaintext: Bytes, plaintext_length: CK_ULONG, ciphertext: Bytes, ciphertext_length: Length
    ) => message::encrypt_message;
    C_EncryptMessageBegin(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, aad: Bytes, aad_length: CK_ULONG
    ) => message::encrypt_message_begin;
    C_EncryptMessageNext(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, part: Bytes, length: CK_ULONG,
        ciphertext: Bytes, ciphertext_length: Length, flags: CK_FLAGS
    ) => message::encrypt_message_next;
    C_MessageEncryptFinal(session: Session) => message::message_encrypt_final;
    C_MessageDecryptInit(session: Session, mechanism: Mechanism, key: Object) => message::message_decrypt_init;
    C_DecryptMessage(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, aad: Bytes, aad_length: CK_ULONG,
        ciphertext: Bytes, ciphertext_length: CK_ULONG, plaintext: Bytes, plaintext_length: Length
    ) => message::decrypt_message;
    C_DecryptMessageBegin(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, aad: Bytes, aad_length: CK_ULONG
    ) => message::decrypt_message_begin;
    C_DecryptMessageNext(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, part: Bytes, length: CK_ULONG,
        plaintext: Bytes, plaintext_length: Length, flags: CK_FLAGS
    ) => message::decrypt_message_next;
    C_MessageDecryptFinal(session: Session) => message::message_decrypt_final;

    C_MessageSignInit(
        session: Session, mechanism: Mechanism, key: Object
    ) => message_signature::message_sign_init;
    C_SignMessage(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, data: Bytes, length: CK_ULONG,
        signature: Bytes, signature_length: Length
    ) => message_signature::sign_message;
    C_SignMessageBegin(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG
    ) => message_signature::sign_message_begin;
    C_SignMessageNext(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, part: Bytes, length: CK_ULONG,
        signature: Bytes, signature_length: Length
    ) => message_signature::sign_message_next;
    C_MessageSignFinal(session: Session) => message_signature::message_sign_final;
    C_MessageVerifyInit(
        session: Session, mechanism: Mechanism, key: Object
    ) => message_signature::message_verify_init;
    C_VerifyMessage(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, data: Bytes, length: CK_ULONG,
        signature: Bytes, signature_length: CK_ULONG
    ) => message_signature::verify_message;
    C_VerifyMessageBegin(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG
    ) => message_signature::verify_message_begin;
    C_VerifyMessageNext(
        session: Session, parameter: Pointer, parameter_length: CK_ULONG, part: Bytes, length: CK_ULONG,
        signature: Bytes, signature_length: CK_ULONG
    ) => message_signature::verify_message_next;
    C_MessageVerifyFinal(session: Session) => message_signature::message_verify_final;

    C_VerifySignatureInit(
        session: Session, mechanism: Mechanism, key: Object, signature: Bytes, signature_length: CK_ULONG
    ) => verify_signature::verify_signature_init;
    C_VerifySignature(session: Session, data: Bytes, length: CK_ULONG) => verify_signature::verify_signature;
    C_VerifySignatureUpdate(
        session: Session, part: Bytes, length: CK_ULONG
    ) => verify_signature::verify_signature_update;
    C_VerifySignatureFinal(session: Session) => verify_signature::verify_signature_final;
    C_GetSessionValidationFlags(
        session: Session, kind: CK_SESSION_VALIDATION_FLAGS_TYPE, flags: *mut CK_FLAGS
    ) => session::get_session_validation_flags;
}

unsupported! {
    C_AsyncComplete(Session, *mut CK_UTF8CHAR, *mut CK_ASYNC_DATA);
    C_AsyncGetID(Session, *mut CK_UTF8CHAR, Length);
    C_AsyncJoin(Session, *mut CK_UTF8CHAR, CK_ULONG, Bytes, CK_ULONG);
    C_WrapKeyAuthenticated(Session, Mechanism, Object, Object, Bytes, CK_ULONG, Bytes, Length);
    C_UnwrapKeyAuthenticated(
        Session, Mechanism, Object, Bytes, CK_ULONG, *mut CK_ATTRIBUTE, CK_ULONG, Bytes, CK_ULONG, *mut Object
    );
}
