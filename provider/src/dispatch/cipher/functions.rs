//! The functions that libcrypto calls.

use std::ffi::{c_int, c_uchar, c_void};
use std::ptr;

use super::Of;
use super::chained::Context;
use crate::bindings::*;
use crate::dispatch::input;
use crate::dispatch::operation::{self, give, with};
use crate::error::Result;
use crate::fence::fence;
use crate::params::{Answers, Descriptions, END, Params, describe};
use crate::token::BLOCK;

pub unsafe extern "C" fn newctx<const N: usize>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-cipher(7) describes it.
    unsafe { operation::new(provider, |provider| Context::new(provider, Of::<N>::FACTS)) }
}

/// # Safety
///
/// `data` is null or can be read for `length` bytes during this call.
unsafe fn optional<'a>(data: *const c_uchar, length: usize) -> Result<Option<&'a [u8]>> {
    // SAFETY: by the contract.
    if data.is_null() { Ok(None) } else { unsafe { input(data, length) }.map(Some) }
}

pub unsafe extern "C" fn encrypt_init(
    context: *mut c_void,
    key: *const c_uchar,
    key_length: usize,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-cipher(7) describes them.
    unsafe {
        with(context, |context: &mut Context| {
            context.init(optional(key, key_length)?, optional(iv, iv_length)?, Params::new(params), true)
        })
    }
}

pub unsafe extern "C" fn decrypt_init(
    context: *mut c_void,
    key: *const c_uchar,
    key_length: usize,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut Context| {
            context.init(optional(key, key_length)?, optional(iv, iv_length)?, Params::new(params), false)
        })
    }
}

/// The result may be written over the data.
pub unsafe extern "C" fn update(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above; the data is not looked at any more when the result is written.
    unsafe {
        with(context, |context: &mut Context| {
            let result = context.update(input(data, data_length)?)?;
            give(&result, out, length, size)
        })
    }
}

/// As [`update`].
pub unsafe extern "C" fn cipher(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as for `update`.
    unsafe {
        with(context, |context: &mut Context| {
            let result = context.at_once(input(data, data_length)?)?;
            give(&result, out, length, size)
        })
    }
}

pub unsafe extern "C" fn finish(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut Context| {
            let result = context.finish()?;
            give(&result, out, length, size)
        })
    }
}

pub unsafe extern "C" fn get_params<const N: usize>(params: *mut OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: a terminated list from libcrypto.
        let answers = unsafe { Answers::new(params) };
        let facts = Of::<N>::FACTS;
        c_int::from(
            answers.integer(OSSL_CIPHER_PARAM_MODE, facts.number())
                && answers.integer(OSSL_CIPHER_PARAM_KEYLEN, facts.key as c_int)
                && answers.integer(OSSL_CIPHER_PARAM_IVLEN, facts.iv_size() as c_int)
                && answers.integer(
                    OSSL_CIPHER_PARAM_BLOCK_SIZE,
                    if facts.is_blocks() { BLOCK as c_int } else { 1 },
                )
                && [
                    OSSL_CIPHER_PARAM_AEAD,
                    OSSL_CIPHER_PARAM_CUSTOM_IV,
                    OSSL_CIPHER_PARAM_CTS,
                    OSSL_CIPHER_PARAM_TLS1_MULTIBLOCK,
                    OSSL_CIPHER_PARAM_HAS_RAND_KEY,
                ]
                .iter()
                .all(|name| answers.integer(name, 0)),
        )
    })
}

pub unsafe extern "C" fn gettable_params(_provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<10> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_MODE, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_BLOCK_SIZE, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_AEAD, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_CUSTOM_IV, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_CTS, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_TLS1_MULTIBLOCK, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_HAS_RAND_KEY, OSSL_PARAM_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}

pub unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.answer(&Answers::new(params))) }
}

pub unsafe extern "C" fn gettable_ctx_params(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<7> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_PADDING, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_NUM, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IV, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_CIPHER_PARAM_UPDATED_IV, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        LIST.as_ptr()
    })
}

pub unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.set(Params::new(params))) }
}

pub unsafe extern "C" fn settable_ctx_params(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<3> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_PADDING, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}
