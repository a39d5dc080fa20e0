//! Signing: a digest or a message, at once or in parts.

use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::ptr;

use strongroom_ffi::output::{self, Output};
use strongroom_ffi::pointer;

use super::super::scheme::MAX_SIGNATURE;
use super::context::{Context, Over, init, with, with_as};
use crate::bindings::OSSL_PARAM;
use crate::error::{Error, Result};
use crate::token::KeyKind;

pub unsafe extern "C" fn sign_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-signature(7) describes them.
    unsafe { init(context, ptr::null(), key, params, Over::Digest, true) }
}

/// EVP_PKEY_sign_message_init(3). The hash of key types that need one is in the algorithm's name, such as RSA-SHA256, or set.
pub unsafe extern "C" fn sign_message_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, ptr::null(), key, params, Over::Message, true) }
}

pub unsafe extern "C" fn digest_sign_init(
    context: *mut c_void,
    hash: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, hash, key, params, Over::Digest, true) }
}

/// Answers a size query, or has the signature made by `make` and hands it over.
///
/// # Safety
///
/// `pointer` as `context`; `length` can be written; `buffer` is null or can be written for `size` bytes.
pub unsafe fn produce<M: FnOnce(&mut Context, &mut [u8]) -> Result<usize>>(
    pointer: *mut c_void,
    buffer: *mut c_uchar,
    length: *mut usize,
    size: usize,
    make: M,
) -> c_int {
    // SAFETY: by the contract, for each.
    unsafe {
        with_as::<M>(pointer, |context| {
            let Some(length) = pointer::reference_mut(length) else {
                return Err(Error::Unsupported("a signature without a place for its length".into()));
            };
            let most = context.key()?.public()?.signature_size();
            if buffer.is_null() {
                *length = most;
                return Ok(());
            }
            // Only ECDSA's signatures vary in size: the others need not be made to know that they do not fit.
            if size < most && context.kind != KeyKind::Ec {
                return Err(Error::Buffer { room: size, needed: most });
            }
            // Not in the caller's buffer, which may be where the data is, and not on the stack if it is large: a job's is small.
            let mut small = [0; MAX_SIGNATURE];
            let mut large = Vec::new();
            let signature: &mut [u8] = if most <= MAX_SIGNATURE {
                &mut small
            } else {
                large.resize(most, 0);
                &mut large
            };
            let made = make(context, signature)?;
            *length = size;
            match output::write(signature.get(..made).unwrap_or_default(), buffer, length) {
                Some(Output::Written) => Ok(()),
                _ => Err(Error::Buffer { room: size, needed: made }),
            }
        })
    }
}

/// Bytes that libcrypto passed.
///
/// # Safety
///
/// `data` is null or can be read for `length` bytes during this call.
pub unsafe fn bytes<'a>(data: *const c_uchar, length: usize) -> Result<&'a [u8]> {
    // SAFETY: by the contract.
    unsafe { pointer::slice(data, length) }.ok_or_else(|| Error::Unsupported("data at a null pointer".into()))
}

pub unsafe extern "C" fn sign(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-signature(7) describes them.
    unsafe {
        produce(context, signature, length, size, |context, out| context.sign(bytes(data, data_length)?, out))
    }
}

/// The next part of the message, to be signed or verified.
pub unsafe extern "C" fn update(context: *mut c_void, data: *const c_uchar, length: usize) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.update(bytes(data, length)?)) }
}

pub unsafe extern "C" fn sign_message_final(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe { produce(context, signature, length, size, |context, out| context.sign_updates(out)) }
}

pub unsafe extern "C" fn digest_sign_final(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe { produce(context, signature, length, size, |context, out| context.sign_updates(out)) }
}

pub unsafe extern "C" fn digest_sign(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        produce(context, signature, length, size, |context, out| {
            context.sign_message(bytes(data, data_length)?, out)
        })
    }
}
