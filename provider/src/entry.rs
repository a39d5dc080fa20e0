//! The one symbol of the library: OSSL_provider_init (provider(7)).

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use crate::bindings::{OSSL_CORE_HANDLE, OSSL_DISPATCH};
use strongroom_ffi::pointer;

use crate::core::Core;
use crate::dispatch;
use crate::error::Error;
use crate::fence::fence;
use crate::libcrypto;
use crate::provider::Provider;
use crate::trace;

/// Makes the provider: libcrypto calls this once for each library context that loads it.
///
/// # Safety
///
/// Called by libcrypto: `handle` and `upcalls` as [`Core::new`] wants them, `out` and `context` can be written.
/// What `context` receives belongs to libcrypto until it calls the teardown function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OSSL_provider_init(
    handle: *const OSSL_CORE_HANDLE,
    upcalls: *const OSSL_DISPATCH,
    out: *mut *const OSSL_DISPATCH,
    context: *mut *mut c_void,
) -> c_int {
    fence(0, || {
        if out.is_null() || context.is_null() {
            return 0;
        }
        // SAFETY: `upcalls` has at least its end, whose function is null.
        let upcall = unsafe { pointer::reference(upcalls) }.and_then(|first| first.function);
        // SAFETY: by this function's contract.
        let core = unsafe { Core::new(handle, upcalls) };
        trace::open(&core);
        // Nothing of libcrypto but the core is called before.
        if let Err(missing) = libcrypto::resolve(upcall) {
            core.raise(&Error::Incompatible(missing));
            return 0;
        }
        match Provider::new(core) {
            Ok(provider) => {
                // SAFETY: both can be written, by this function's contract.
                unsafe {
                    *out = dispatch::provider::TABLE.as_ptr();
                    *context = Arc::into_raw(provider).cast_mut().cast();
                }
                1
            }
            Err(error) => {
                core.raise(&error);
                0
            }
        }
    })
}
