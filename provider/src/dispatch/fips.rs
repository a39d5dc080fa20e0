//! `pkcs11-module-assume-fips`: the algorithms with the property `fips=yes`, for programs that ask for nothing else.

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::bindings::{OSSL_ALGORITHM, OSSL_OP__HIGHEST};

/// The lists that were made, by operation. libcrypto keeps what it was given, so they live as long as the process.
static LISTS: [AtomicPtr<OSSL_ALGORITHM>; OSSL_OP__HIGHEST as usize + 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; OSSL_OP__HIGHEST as usize + 1];

/// An operation's list with `fips=yes` added to each algorithm's properties; the same list at each call.
///
/// # Safety
///
/// `list` is static, ends with an entry without names, and is the same at each call for an operation.
pub unsafe fn with_property(operation: u32, list: *const OSSL_ALGORITHM) -> *const OSSL_ALGORITHM {
    let Some(made) = LISTS.get(operation as usize) else { return list };
    let known = made.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    let mut copy = Vec::new();
    let mut next = list;
    loop {
        // SAFETY: by the contract, up to the entry without names.
        let mut entry = unsafe { ptr::read(next) };
        let is_last = entry.algorithm_names.is_null();
        if !is_last && !entry.property_definition.is_null() {
            // SAFETY: by the contract, a static string.
            let properties = unsafe { CStr::from_ptr(entry.property_definition) };
            let properties = [properties.to_bytes(), b",fips=yes"].concat();
            // It has no NUL, so this does not fail.
            let Ok(properties) = CString::new(properties) else { return list };
            entry.property_definition = properties.into_raw();
        }
        copy.push(entry);
        if is_last {
            break;
        }
        // SAFETY: that was not the last one.
        next = unsafe { next.add(1) };
    }
    let copy = Vec::leak(copy).as_mut_ptr();
    match made.compare_exchange(ptr::null_mut(), copy, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => copy,
        // Another thread was first; ours stays, once.
        Err(other) => other,
    }
}
