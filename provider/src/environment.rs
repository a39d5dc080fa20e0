//! Environment variables.

use std::ffi::CStr;

/// The value of a variable, if it is set, not empty, and text. None in a program that runs with more rights than the one who
/// started it (set-user-id and the like): there the environment is that user's, and not to be trusted.
pub fn variable(name: &CStr) -> Option<String> {
    unsafe extern "C" {
        fn secure_getenv(name: *const std::ffi::c_char) -> *const std::ffi::c_char;
    }
    // SAFETY: a NUL-terminated name; the value is NUL-terminated, and copied before anybody can change it: the provider is
    // loaded while the program starts.
    let value = unsafe { strongroom_ffi::pointer::text(secure_getenv(name.as_ptr())) };
    value.filter(|value| !value.is_empty()).map(str::to_owned)
}
