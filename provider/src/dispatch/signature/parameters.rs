//! What may be set of a signature and asked of it, and of its digest.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::super::algorithm_identifier::algorithm_identifier;
use super::super::scheme::Salt;
use super::context::{SIGNATURE, with};
use crate::bindings::*;
use crate::error::Error;
use crate::fence::fence;
use crate::params::{Answers, Descriptions, END, Params, describe};
use crate::token::Kind;

pub unsafe extern "C" fn get_ctx_md_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            context.begin()?;
            match &context.digest {
                Some(digest) => digest.answer(&Answers::new(params)),
                None => Ok(()),
            }
        })
    }
}

pub unsafe extern "C" fn set_ctx_md_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            context.begin()?;
            match &mut context.digest {
                Some(digest) => digest.set(Params::new(params)),
                None => Ok(()),
            }
        })
    }
}

/// None of the hashes has parameters of its own.
static NO_PARAMS: Descriptions<1> = Descriptions::new([END]);

pub unsafe extern "C" fn gettable_ctx_md_params(_context: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || NO_PARAMS.as_ptr())
}

pub unsafe extern "C" fn settable_ctx_md_params(_context: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || NO_PARAMS.as_ptr())
}

pub unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.set(Params::new(params))) }
}

pub unsafe extern "C" fn settable_ctx_params<K: Kind>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static RSA: Descriptions<6> = Descriptions::new([
            describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, OSSL_PARAM_UTF8_STRING),
            describe(SIGNATURE, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        static EC: Descriptions<3> = Descriptions::new([
            describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(SIGNATURE, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        // Their names are not in 3.0's headers.
        static WITH_CONTEXT: Descriptions<5> = Descriptions::new([
            describe(c"context-string", OSSL_PARAM_OCTET_STRING),
            describe(c"message-encoding", OSSL_PARAM_INTEGER),
            describe(c"deterministic", OSSL_PARAM_INTEGER),
            describe(SIGNATURE, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        static MESSAGES: Descriptions<2> =
            Descriptions::new([describe(SIGNATURE, OSSL_PARAM_OCTET_STRING), END]);
        match K::KIND {
            kind if kind.is_rsa() => RSA.as_ptr(),
            kind if kind.takes_context() => WITH_CONTEXT.as_ptr(),
            kind if kind.signs_messages() => MESSAGES.as_ptr(),
            _ => EC.as_ptr(),
        }
    })
}

pub unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            let scheme = &context.scheme;
            let answers = Answers::new(params);
            let too_small = || Error::Unsupported("a parameter's buffer is too small".into());
            if Params::new(params).has(OSSL_SIGNATURE_PARAM_ALGORITHM_ID) {
                let der = algorithm_identifier(context.key()?, scheme)?;
                if !answers.octets(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, &der) {
                    return Err(too_small());
                }
            }
            let mut answered = true;
            if let Some(hash) = scheme.hash {
                answered &= answers.text(OSSL_SIGNATURE_PARAM_DIGEST, hash.name());
            }
            if context.kind.is_rsa() {
                let (name, number) = scheme.padding.name_and_number();
                answered &= answers.choice(OSSL_SIGNATURE_PARAM_PAD_MODE, name, number);
                if let Some(hash) = scheme.mgf1.or(scheme.hash) {
                    answered &= answers.text(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, hash.name());
                }
                answered &= match scheme.salt {
                    Salt::Digest => answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"digest", -1),
                    Salt::Auto => answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"auto", -2),
                    Salt::Max => answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"max", -3),
                    Salt::AutoDigestMax => {
                        answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"auto-digestmax", -4)
                    }
                    Salt::Bytes(bytes) => answers.integer(
                        OSSL_SIGNATURE_PARAM_PSS_SALTLEN,
                        c_int::try_from(bytes).unwrap_or(c_int::MAX),
                    ),
                };
            }
            if answered { Ok(()) } else { Err(too_small()) }
        })
    }
}

pub unsafe extern "C" fn gettable_ctx_params<K: Kind>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static RSA: Descriptions<6> = Descriptions::new([
            describe(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        static OTHER: Descriptions<3> = Descriptions::new([
            describe(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        if K::KIND.is_rsa() { RSA.as_ptr() } else { OTHER.as_ptr() }
    })
}

/// Of an algorithm that says the rest itself.
pub unsafe extern "C" fn settable_of_fixed(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<2> = Descriptions::new([describe(SIGNATURE, OSSL_PARAM_OCTET_STRING), END]);
        LIST.as_ptr()
    })
}
