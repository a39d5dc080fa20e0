//! Key derivation (provider-kdf(7)) in a token, where `strongroom-operations` in openssl.cnf says `kdf`: HKDF, TLS 1.3's use of it,
//! and TLS 1.2's pseudorandom function.
//!
//! The secret comes from the application or is a secret key of a token's, and what is derived goes to the application; in between the token does the work.

mod hkdf;
mod tls_prf;

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;

use super::operation::{self, Operation, with};
use super::{Algorithms, LAST, algorithm, secret_keys, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::params::{Answers, Descriptions, END, Params, answered, describe};
use crate::provider::Provider;
use crate::token::{Functions, SecretKey};

/// The derivations.
pub static ALGORITHMS: Algorithms<4> = Algorithms([
    algorithm(c"HKDF", c"provider=strongroom", Of::<hkdf::Context<false>>::TABLE, c"HKDF in a PKCS#11 token"),
    algorithm(
        c"TLS13-KDF",
        c"provider=strongroom",
        Of::<hkdf::Context<true>>::TABLE,
        c"TLS 1.3's HKDF in a PKCS#11 token",
    ),
    algorithm(
        c"TLS1-PRF",
        c"provider=strongroom",
        Of::<tls_prf::Context>::TABLE,
        c"TLS 1.2's PRF in a PKCS#11 token",
    ),
    LAST,
]);

/// A derivation: what libcrypto's `ctx` points to.
trait Derivation: Operation {
    /// What can be set.
    const SETTABLE: *const OSSL_PARAM;

    /// A derivation for which nothing is set.
    fn new(provider: Arc<Provider>) -> Self;

    /// Forgets all that was set.
    fn reset(&mut self);

    /// Applies what an application sets.
    fn set(&mut self, params: Params) -> Result<()>;

    /// Takes a secret key in place of a parameter.
    fn set_key(&mut self, parameter: &CStr, key: SecretKey) -> Result<()>;

    /// Fills `out`.
    fn derive(&self, out: &mut [u8]) -> Result<()>;

    /// How many bytes are derived, if that is not the application's to choose.
    fn size(&self) -> Result<Option<usize>>;
}

/// The functions of a derivation.
struct Of<D>(D);

impl<D: Derivation> Of<D> {
    const TABLE: Functions = table![
        OSSL_FUNC_KDF_NEWCTX: OSSL_FUNC_kdf_newctx_fn = newctx::<D>,
        OSSL_FUNC_KDF_FREECTX: OSSL_FUNC_kdf_freectx_fn = operation::free::<D>,
        OSSL_FUNC_KDF_DUPCTX: OSSL_FUNC_kdf_dupctx_fn = operation::duplicate::<D>,
        OSSL_FUNC_KDF_RESET: OSSL_FUNC_kdf_reset_fn = reset::<D>,
        OSSL_FUNC_KDF_DERIVE: OSSL_FUNC_kdf_derive_fn = derive::<D>,
        OSSL_FUNC_KDF_SET_CTX_PARAMS: OSSL_FUNC_kdf_set_ctx_params_fn = set_ctx_params::<D>,
        OSSL_FUNC_KDF_SET_SKEY: OSSL_FUNC_kdf_set_skey_fn = set_skey::<D>,
        OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS: OSSL_FUNC_kdf_settable_ctx_params_fn = settable_ctx_params::<D>,
        OSSL_FUNC_KDF_GET_CTX_PARAMS: OSSL_FUNC_kdf_get_ctx_params_fn = get_ctx_params::<D>,
        OSSL_FUNC_KDF_GETTABLE_CTX_PARAMS: OSSL_FUNC_kdf_gettable_ctx_params_fn = gettable_ctx_params,
    ];
}

unsafe extern "C" fn newctx<D: Derivation>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-kdf(7) describes it.
    #[allow(clippy::redundant_closure, reason = "the log has the name of the function that a closure is in")]
    unsafe {
        operation::new(provider, |provider| D::new(provider))
    }
}

unsafe extern "C" fn reset<D: Derivation>(context: *mut c_void) {
    fence((), || {
        // SAFETY: libcrypto's pointer to a context of ours, which nobody else uses now.
        if let Some(context) = unsafe { pointer::reference_mut(context.cast::<D>()) } {
            context.reset();
        }
    });
}

unsafe extern "C" fn derive<D: Derivation>(
    context: *mut c_void,
    out: *mut c_uchar,
    length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-kdf(7) describes them: `out` can be written for `length` bytes.
    unsafe {
        with(context, |context: &mut D| {
            context.set(Params::new(params))?;
            let out = pointer::slice_mut(out, length);
            context.derive(out.ok_or_else(|| Error::Unsupported("a derivation to a null pointer".into()))?)
        })
    }
}

unsafe extern "C" fn set_ctx_params<D: Derivation>(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut D| context.set(Params::new(params))) }
}

/// EVP_KDF_CTX_set_SKEY(3)
unsafe extern "C" fn set_skey<D: Derivation>(
    context: *mut c_void,
    key: *mut c_void,
    parameter: *const c_char,
) -> c_int {
    // SAFETY: as above: the key is null or one of ours, and the parameter null or a C string that lives for the call.
    unsafe {
        with(context, |context: &mut D| {
            let parameter = pointer::text(parameter).and_then(|name| CString::new(name).ok());
            match (secret_keys::of(key), parameter) {
                (Some(key), Some(parameter)) => context.set_key(&parameter, key),
                _ => Err(Error::Unsupported("a secret key without a name, or none".into())),
            }
        })
    }
}

/// The error of a secret key for another parameter than the one that takes it.
fn no_key(parameter: &CStr) -> Error {
    Error::Unsupported(format!("a secret key for the parameter {}", parameter.to_string_lossy()))
}

unsafe extern "C" fn settable_ctx_params<D: Derivation>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || D::SETTABLE)
}

unsafe extern "C" fn get_ctx_params<D: Derivation>(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut D| {
            let size = context.size()?;
            answered(Answers::new(params).size(OSSL_KDF_PARAM_SIZE, size.unwrap_or(usize::MAX)))
        })
    }
}

unsafe extern "C" fn gettable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<2> =
            Descriptions::new([describe(OSSL_KDF_PARAM_SIZE, OSSL_PARAM_UNSIGNED_INTEGER), END]);
        LIST.as_ptr()
    })
}
