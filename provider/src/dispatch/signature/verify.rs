//! Verifying, by OpenSSL's own provider: a digest or a message, at once or in parts.

use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::ptr;

use super::context::{Over, init, with};
use super::sign::{bytes, produce};
use crate::bindings::OSSL_PARAM;

pub unsafe extern "C" fn verify_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-signature(7) describes them.
    unsafe { init(context, ptr::null(), key, params, Over::Digest, false) }
}

/// EVP_PKEY_verify_message_init(3)
pub unsafe extern "C" fn verify_message_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, ptr::null(), key, params, Over::Message, false) }
}

pub unsafe extern "C" fn digest_verify_init(
    context: *mut c_void,
    hash: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, hash, key, params, Over::Digest, false) }
}

pub unsafe extern "C" fn verify(
    context: *mut c_void,
    signature: *const c_uchar,
    length: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.verify(bytes(data, data_length)?, bytes(signature, length)?)) }
}

pub unsafe extern "C" fn digest_verify_final(
    context: *mut c_void,
    signature: *const c_uchar,
    length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.verify_updates(bytes(signature, length)?)) }
}

/// The signature was set (EVP_PKEY_CTX_set_signature(3)).
pub unsafe extern "C" fn verify_message_final(context: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.verify_set()) }
}

pub unsafe extern "C" fn digest_verify(
    context: *mut c_void,
    signature: *const c_uchar,
    length: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| context.verify_message(bytes(data, data_length)?, bytes(signature, length)?))
    }
}

pub unsafe extern "C" fn verify_recover_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, ptr::null(), key, params, Over::Digest, false) }
}

pub unsafe extern "C" fn verify_recover(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    signature: *const c_uchar,
    signature_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        produce(context, out, length, size, |context, recovered| {
            context.scheme.recover(context.key()?, bytes(signature, signature_length)?, recovered)
        })
    }
}
