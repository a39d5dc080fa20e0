//! The application's way to ask for a PIN: ssl_password_file, SSLPassPhraseDialog, a prompt.

use std::ffi::{CStr, c_void};

use crate::bindings::*;
use crate::params;
use crate::pin::Secret;

/// libcrypto's callback and its argument, valid for the call that they came with.
#[derive(Clone, Copy)]
pub struct Passphrase {
    callback: OSSL_PASSPHRASE_CALLBACK,
    argument: *mut c_void,
}

impl Passphrase {
    /// Takes what libcrypto passed.
    ///
    /// # Safety
    ///
    /// `callback` is null or may be called with `argument` as long as this value is used.
    pub unsafe fn new(callback: OSSL_PASSPHRASE_CALLBACK, argument: *mut c_void) -> Self {
        Passphrase { callback, argument }
    }

    /// Asks. `None` if there is nobody to ask, or no answer.
    pub fn ask(self) -> Option<Secret> {
        let callback = self.callback?;
        let info: &CStr = c"PKCS#11 token PIN";
        let list = [params::utf8(OSSL_PASSPHRASE_PARAM_INFO, info), params::END];
        Secret::fill("the application", |room| {
            let mut length = 0;
            // SAFETY: by the contract of `new`; the callback writes at most the buffer's size, and its length.
            let answered = unsafe {
                callback(room.as_mut_ptr().cast(), room.len(), &mut length, list.as_ptr(), self.argument)
            };
            if answered != 1 || length == 0 || length > room.len() {
                return Err("no answer".into());
            }
            Ok(length)
        })
        .ok()
    }
}
