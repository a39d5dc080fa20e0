//! What the contexts of all operations have in common: libcrypto makes one, works with it, copies it and gives it back.
//!
//! The debug log names the file whose context it is, not this one: `cipher::free`.

use std::ffi::{c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::output::{self, Output};
use strongroom_ffi::pointer;

use crate::error::{Error, Result};
use crate::fence::{fence, fence_as};
use crate::provider::Provider;

/// One operation: what libcrypto's `ctx` points to.
pub trait Operation: Sized {
    /// Where its errors are reported.
    fn provider(&self) -> &Provider;

    /// A copy that goes its own way from here.
    ///
    /// # Errors
    ///
    /// What the operation says: what a token has in the making cannot always be copied.
    fn duplicate(&self) -> Result<Self>;
}

/// Gives libcrypto what `make` makes.
///
/// # Safety
///
/// `provider` is null or libcrypto's pointer to our provider.
pub unsafe fn new<C, F: FnOnce(Arc<Provider>) -> C>(provider: *mut c_void, make: F) -> *mut c_void {
    fence_as::<F, _>(ptr::null_mut(), || {
        // SAFETY: by the contract.
        match unsafe { Provider::from_context(provider) } {
            Some(provider) => hand_over(make(provider)),
            None => ptr::null_mut(),
        }
    })
}

fn hand_over<C>(context: C) -> *mut c_void {
    Box::into_raw(Box::new(context)).cast()
}

/// Takes a context back; null is none.
///
/// # Safety
///
/// `context` is null or was made by [`new`] or [`duplicate`] with the same `C`, and is given back this once.
pub unsafe extern "C" fn free<C>(context: *mut c_void) {
    fence((), || {
        if !context.is_null() {
            // SAFETY: by the contract.
            drop(unsafe { Box::from_raw(context.cast::<C>()) });
        }
    });
}

/// Copies a context.
///
/// # Safety
///
/// As for [`with`].
pub unsafe extern "C" fn duplicate<C: Operation>(context: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: by the contract.
        let Some(context) = (unsafe { pointer::reference(context.cast::<C>()) }) else {
            return ptr::null_mut();
        };
        context.provider().report(context.duplicate()).map_or(ptr::null_mut(), hand_over)
    })
}

/// Runs `operation` on a context inside the fence, in the name of the function that the closure is in, and reports its error.
///
/// # Safety
///
/// `context` is null or was made by [`new`] or [`duplicate`] with the same `C`, was not freed, and no other thread uses it now.
pub unsafe fn with<C: Operation, F: FnOnce(&mut C) -> Result<()>>(
    context: *mut c_void,
    operation: F,
) -> c_int {
    fence_as::<F, _>(0, || {
        // SAFETY: by the contract.
        let Some(context) = (unsafe { pointer::reference_mut(context.cast::<C>()) }) else { return 0 };
        let result = operation(context);
        context.provider().status(result)
    })
}

/// Where the length of a result goes.
///
/// # Errors
///
/// [`Error::Unsupported`] if there is no place.
///
/// # Safety
///
/// `length` is null or can be written, and nobody else uses it during this call.
pub unsafe fn place_for_length<'a>(length: *mut usize) -> Result<&'a mut usize> {
    // SAFETY: by the contract.
    unsafe { pointer::reference_mut(length) }
        .ok_or_else(|| Error::Unsupported("a result without a place for its length".into()))
}

/// Where a result of `needed` bytes goes.
///
/// # Errors
///
/// [`Error::Buffer`] if there is no room.
///
/// # Safety
///
/// `out` is null or can be written for `size` bytes, and nobody else uses them during this call.
pub unsafe fn place_for<'a>(needed: usize, out: *mut c_uchar, size: usize) -> Result<&'a mut [u8]> {
    // SAFETY: by the contract.
    let out = unsafe { pointer::slice_mut(out, size) };
    out.and_then(|out| out.get_mut(..needed)).ok_or(Error::Buffer { room: size, needed })
}

/// Gives a result to libcrypto, which may be nothing.
///
/// # Errors
///
/// As [`place_for_length`] and [`place_for`].
///
/// # Safety
///
/// As for both of these; `result` is elsewhere.
pub unsafe fn give(result: &[u8], out: *mut c_uchar, length: *mut usize, size: usize) -> Result<()> {
    // SAFETY: by the contract.
    let length = unsafe { place_for_length(length) }?;
    *length = size;
    let mut nothing = 0;
    let out = if result.is_empty() { ptr::from_mut(&mut nothing) } else { out };
    // SAFETY: by the contract; of nothing, nothing is written.
    match unsafe { output::write(result, out, length) } {
        Some(Output::Written) => Ok(()),
        _ => Err(Error::Buffer { room: size, needed: result.len() }),
    }
}
