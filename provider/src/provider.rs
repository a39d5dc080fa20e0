//! The provider: what one `activate = 1` in openssl.cnf makes.

use std::ffi::c_void;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::dispatch::signature;
use crate::error::Result;
use crate::openssl::Context;
use crate::settings::Settings;
use crate::spares::Spares;
use crate::token::{Object, Tokens};

/// The provider's state. It is shared by reference counts with every key and operation, so that what is left
/// over at exit, when libcrypto has torn the provider down already, finds it still there.
pub struct Provider {
    /// libcrypto's functions.
    pub core: Core,
    /// Signature contexts for their next use. They hold digests of `openssl`, so they go first.
    pub spares: Spares<signature::Context>,
    /// OpenSSL's own algorithms.
    pub openssl: Context,
    /// The tokens.
    pub tokens: Tokens,
    /// A key on its way from the first stage of the decoders to the second.
    found: Mutex<Option<Found>>,
}

/// How long a key that a decoder found is kept for the next decoder.
const FOUND: Duration = Duration::from_secs(1);

/// What a decoder found.
struct Found {
    thread: ThreadId,
    since: Instant,
    /// The reference's DER.
    reference: Vec<u8>,
    key: Object,
}

impl Provider {
    /// Reads the settings and loads the PKCS#11 module.
    ///
    /// # Errors
    ///
    /// [`Libcrypto`](crate::error::Error::Libcrypto) without memory. A bad setting or a missing module is reported
    /// when it is used: failing here would take OpenSSL away from programs that use no key of ours. Unless
    /// `pkcs11-module-load-behavior = early` asks for it.
    pub fn new(core: Core) -> Result<Arc<Self>> {
        let tokens = Tokens::new(Settings::read(&core));
        if tokens.settings.load_early {
            tokens.start()?;
        }
        Ok(Arc::new(Provider {
            core,
            spares: Spares::new(),
            openssl: Context::new()?,
            tokens,
            found: Mutex::new(None),
        }))
    }

    /// From the pointer that libcrypto passes back, without taking its reference.
    ///
    /// # Safety
    ///
    /// `context` is null or was made by `Arc::into_raw` and its reference has not been given back.
    pub unsafe fn from_context(context: *mut c_void) -> Option<Arc<Self>> {
        let provider = context.cast_const().cast::<Provider>();
        if provider.is_null() {
            return None;
        }
        // SAFETY: by the contract; the reference that is added is the one that is returned.
        unsafe {
            Arc::increment_strong_count(provider);
            Some(Arc::from_raw(provider))
        }
    }

    /// Puts a failure on the error queue; the value of a success.
    pub fn report<T>(&self, result: Result<T>) -> Option<T> {
        result.inspect_err(|error| self.core.raise(error)).ok()
    }

    /// As [`report`](Self::report), for functions that return 1 or 0.
    pub fn status(&self, result: Result<()>) -> i32 {
        i32::from(self.report(result).is_some())
    }

    /// Keeps a key that a decoder found for the decoder that takes it, which follows in the same call. If the place is taken (another thread is loading) or cannot be had (a fork came in between), the
    /// second stage asks the token again.
    pub fn keep_found(&self, reference: &[u8], key: Object) {
        if let Ok(mut found) = self.found.try_lock()
            && found.as_ref().is_none_or(|found| found.since.elapsed() >= FOUND)
        {
            let thread = thread::current().id();
            *found = Some(Found { thread, since: Instant::now(), reference: reference.to_vec(), key });
        }
    }

    /// Takes what [`keep_found`](Self::keep_found) kept in this thread for this reference.
    pub fn take_found(&self, reference: &[u8]) -> Option<Object> {
        let mut found = self.found.try_lock().ok()?;
        found
            .take_if(|found| {
                found.thread == thread::current().id()
                    && found.reference == reference
                    && found.since.elapsed() < FOUND
            })
            .map(|found| found.key)
    }
}
