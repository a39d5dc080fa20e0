//! Random bytes (provider-rand(7)) from the token, for applications that ask for the algorithm PKCS11-RAND by its name:
//! `random = PKCS11-RAND` in the section that openssl.cnf's `random` names.
//!
//! Nothing in libcrypto comes here by itself.

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;

use super::{Algorithms, LAST, algorithm, operation, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::params::{Answers, Descriptions, END, describe};
use crate::provider::Provider;

/// The generator. It has pkcs11-provider's name.
pub static ALGORITHMS: Algorithms<2> = Algorithms([
    algorithm(c"PKCS11-RAND", c"provider=strongroom", TABLE, c"Random bytes of a PKCS#11 token"),
    LAST,
]);

static TABLE: &[OSSL_DISPATCH] = table![
    OSSL_FUNC_RAND_NEWCTX: OSSL_FUNC_rand_newctx_fn = newctx,
    OSSL_FUNC_RAND_FREECTX: OSSL_FUNC_rand_freectx_fn = operation::free::<Context>,
    OSSL_FUNC_RAND_INSTANTIATE: OSSL_FUNC_rand_instantiate_fn = instantiate,
    OSSL_FUNC_RAND_UNINSTANTIATE: OSSL_FUNC_rand_uninstantiate_fn = uninstantiate,
    OSSL_FUNC_RAND_GENERATE: OSSL_FUNC_rand_generate_fn = generate,
    OSSL_FUNC_RAND_RESEED: OSSL_FUNC_rand_reseed_fn = reseed,
    OSSL_FUNC_RAND_ENABLE_LOCKING: OSSL_FUNC_rand_enable_locking_fn = enable_locking,
    OSSL_FUNC_RAND_LOCK: OSSL_FUNC_rand_lock_fn = lock,
    OSSL_FUNC_RAND_UNLOCK: OSSL_FUNC_rand_unlock_fn = unlock,
    OSSL_FUNC_RAND_GET_CTX_PARAMS: OSSL_FUNC_rand_get_ctx_params_fn = get_ctx_params,
    OSSL_FUNC_RAND_GETTABLE_CTX_PARAMS: OSSL_FUNC_rand_gettable_ctx_params_fn = gettable_ctx_params,
];

/// The most bytes that are asked for at once; libcrypto asks again for more.
const MOST: c_int = 1 << 16;

/// What the application is told of a token's generator: the strength of OpenSSL's own, in bits.
const STRENGTH: c_int = 256;

/// A generator: what libcrypto's `ctx` points to. It has no state of its own, so that several threads may use it.
struct Context {
    provider: Arc<Provider>,
}

impl Context {
    fn generate(&self, buffer: &mut [u8]) -> Result<()> {
        if self.provider.tokens.are_in_use_here() {
            return self.provider.openssl.random(buffer);
        }
        self.provider.tokens.random(buffer)
    }
}

unsafe extern "C" fn newctx(
    provider: *mut c_void,
    _parent: *mut c_void,
    _parent_functions: *const OSSL_DISPATCH,
) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-rand(7) describes it.
    unsafe { operation::new(provider, |provider| Context { provider }) }
}

/// The token's generator needs no beginning.
unsafe extern "C" fn instantiate(
    _context: *mut c_void,
    _strength: c_uint,
    _prediction_resistance: c_int,
    _personalisation: *const c_uchar,
    _length: usize,
    _params: *const OSSL_PARAM,
) -> c_int {
    fence(0, || 1)
}

unsafe extern "C" fn uninstantiate(_context: *mut c_void) -> c_int {
    fence(0, || 1)
}

unsafe extern "C" fn generate(
    context: *mut c_void,
    out: *mut c_uchar,
    length: usize,
    strength: c_uint,
    _prediction_resistance: c_int,
    _additional: *const c_uchar,
    _additional_length: usize,
) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a context of ours, which may be in use by other threads too.
        let Some(context) = (unsafe { pointer::reference(context.cast::<Context>()) }) else { return 0 };
        // SAFETY: libcrypto's buffer, of that many bytes.
        let made = match unsafe { pointer::slice_mut(out, length) } {
            _ if strength > STRENGTH as c_uint => {
                Err(Error::Unsupported(format!("random bytes of a strength of {strength} bits")))
            }
            Some(buffer) => context.generate(buffer),
            None => Err(Error::Unsupported("random bytes at a null pointer".into())),
        };
        context.provider.status(made)
    })
}

/// The token seeds its generator itself; what the application adds is left out.
unsafe extern "C" fn reseed(
    _context: *mut c_void,
    _prediction_resistance: c_int,
    _entropy: *const c_uchar,
    _length: usize,
    _additional: *const c_uchar,
    _additional_length: usize,
) -> c_int {
    fence(0, || 1)
}

/// Nothing is to be locked: libcrypto wants to hear that it may.
unsafe extern "C" fn enable_locking(_context: *mut c_void) -> c_int {
    fence(0, || 1)
}

unsafe extern "C" fn lock(_context: *mut c_void) -> c_int {
    fence(0, || 1)
}

unsafe extern "C" fn unlock(_context: *mut c_void) {
    fence((), || ());
}

unsafe extern "C" fn get_ctx_params(_context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: a terminated list from libcrypto.
        let answers = unsafe { Answers::new(params) };
        c_int::from(
            answers.integer(OSSL_RAND_PARAM_STATE, EVP_RAND_STATE_READY as c_int)
                && answers.integer(OSSL_RAND_PARAM_STRENGTH, STRENGTH)
                && answers.integer(OSSL_RAND_PARAM_MAX_REQUEST, MOST),
        )
    })
}

unsafe extern "C" fn gettable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<4> = Descriptions::new([
            describe(OSSL_RAND_PARAM_STATE, OSSL_PARAM_INTEGER),
            describe(OSSL_RAND_PARAM_STRENGTH, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_RAND_PARAM_MAX_REQUEST, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}
