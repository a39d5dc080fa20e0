//! The provider on the stub token (examples/stub_token.rs), in this process.
// Each test program uses a part of it.
#![allow(dead_code)]

use std::ffi::{CStr, CString, c_ulong, c_void};
use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::libcrypto::{Context, built, configuration};

/// The key's URI.
pub const URI: &str = "pkcs11:token=stub;object=key;type=private";

/// The stub's own functions.
pub struct Stub(*mut c_void);

unsafe impl Send for Stub {}
unsafe impl Sync for Stub {}

/// The stub, for one test at a time.
pub fn stub() -> (&'static Stub, MutexGuard<'static, ()>) {
    static STUB: OnceLock<Stub> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stub = STUB.get_or_init(|| {
        let file = CString::new(module()).unwrap();
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null());
        Stub(handle)
    });
    stub.delay(0);
    stub.fail(0, 0);
    stub.limit_sessions(u64::MAX);
    stub.login(0, 0);
    stub.hide(false);
    stub.remove(false);
    stub.finalize(0);
    stub.most_in_flight();
    (stub, alone)
}

/// A library context with the provider on the stub; `more` are lines for its section.
pub fn context(more: &str) -> Context {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openssl.cnf");
    configuration(&file, &module(), more);
    let context = Context::load(&file);
    fs::remove_file(file).unwrap();
    context
}

/// Whose signature it is: the digest that was signed, which the stub puts into r and s.
pub fn signed_digest(signature: &[u8]) -> Vec<u8> {
    // SEQUENCE, INTEGER of up to 33 bytes: with a leading zero, or without leading zeros of its own.
    let length = usize::from(signature[3]);
    let r = &signature[4..4 + length];
    let start = r.iter().position(|byte| *byte != 0).unwrap();
    let mut digest = vec![0; 32 - (r.len() - start)];
    digest.extend_from_slice(&r[start..]);
    digest
}

fn module() -> String {
    built("examples/libstub_token.so").display().to_string()
}

impl Stub {
    fn function<F: Copy>(&self, name: &CStr) -> F {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
        let function = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!function.is_null());
        unsafe { std::mem::transmute_copy(&function) }
    }

    pub fn delay(&self, milliseconds: u64) {
        self.function::<extern "C" fn(u64)>(c"stub_delay")(milliseconds);
    }

    pub fn fail(&self, rv: c_ulong, times: u64) {
        self.function::<extern "C" fn(c_ulong, u64)>(c"stub_fail")(rv, times);
    }

    pub fn limit_sessions(&self, limit: u64) {
        self.function::<extern "C" fn(u64)>(c"stub_limit_sessions")(limit);
    }

    pub fn restart(&self) {
        self.function::<extern "C" fn()>(c"stub_restart")();
    }

    pub fn remove(&self, away: bool) {
        self.function::<extern "C" fn(u64)>(c"stub_remove")(away.into());
    }

    pub fn finalize(&self, how: u64) {
        self.function::<extern "C" fn(u64)>(c"stub_finalize")(how);
    }

    pub fn signatures(&self) -> u64 {
        self.function::<extern "C" fn() -> u64>(c"stub_signatures")()
    }

    pub fn generations(&self) -> u64 {
        self.function::<extern "C" fn() -> u64>(c"stub_generations")()
    }

    pub fn searches(&self) -> u64 {
        self.function::<extern "C" fn() -> u64>(c"stub_searches")()
    }

    pub fn sessions(&self) -> u64 {
        self.function::<extern "C" fn() -> u64>(c"stub_sessions")()
    }

    pub fn login(&self, flags: c_ulong, rv: c_ulong) {
        self.function::<extern "C" fn(c_ulong, c_ulong)>(c"stub_login")(flags, rv);
    }

    pub fn hide(&self, hidden: bool) {
        self.function::<extern "C" fn(u64)>(c"stub_hide")(hidden.into());
    }

    pub fn user(&self) -> c_ulong {
        self.function::<extern "C" fn() -> c_ulong>(c"stub_user")()
    }

    pub fn logins(&self) -> u64 {
        self.function::<extern "C" fn() -> u64>(c"stub_logins")()
    }

    pub fn most_in_flight(&self) -> u64 {
        self.function::<extern "C" fn() -> u64>(c"stub_most_in_flight")()
    }
}
