//! What the provider's tests ask of libcrypto.
// Each test program uses a part of it.
#![allow(dead_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::{env, fs, ptr};

use openssl_sys as ffi;

unsafe extern "C" {
    fn OSSL_LIB_CTX_load_config(context: *mut ffi::OSSL_LIB_CTX, file: *const c_char) -> c_int;
    fn OSSL_STORE_open_ex(
        uri: *const c_char,
        context: *mut ffi::OSSL_LIB_CTX,
        properties: *const c_char,
        ui: *const c_void,
        ui_data: *mut c_void,
        params: *const c_void,
        post_process: *const c_void,
        post_process_data: *mut c_void,
    ) -> *mut c_void;
    fn OSSL_STORE_load(store: *mut c_void) -> *mut c_void;
    fn OSSL_STORE_eof(store: *mut c_void) -> c_int;
    fn OSSL_STORE_close(store: *mut c_void) -> c_int;
    fn OSSL_STORE_INFO_get1_PKEY(info: *mut c_void) -> *mut ffi::EVP_PKEY;
    fn OSSL_STORE_INFO_free(info: *mut c_void);
    pub fn EVP_DigestSignInit_ex(
        context: *mut ffi::EVP_MD_CTX,
        pkey_context: *mut *mut ffi::EVP_PKEY_CTX,
        digest: *const c_char,
        libctx: *mut ffi::OSSL_LIB_CTX,
        properties: *const c_char,
        key: *mut ffi::EVP_PKEY,
        params: *const c_void,
    ) -> c_int;
    fn EVP_DigestVerifyInit_ex(
        context: *mut ffi::EVP_MD_CTX,
        pkey_context: *mut *mut ffi::EVP_PKEY_CTX,
        digest: *const c_char,
        libctx: *mut ffi::OSSL_LIB_CTX,
        properties: *const c_char,
        key: *mut ffi::EVP_PKEY,
        params: *const c_void,
    ) -> c_int;
    fn ERR_peek_last_error_all(
        file: *mut *const c_char,
        line: *mut c_int,
        function: *mut *const c_char,
        data: *mut *const c_char,
        flags: *mut c_int,
    ) -> std::ffi::c_ulong;
}

/// A library context with the provider.
pub struct Context(pub *mut ffi::OSSL_LIB_CTX);

unsafe impl Send for Context {}
unsafe impl Sync for Context {}

/// A file that cargo built, beside the test program's folder.
pub fn built(file: &str) -> PathBuf {
    let path = env::current_exe().unwrap().parent().unwrap().parent().unwrap().join(file);
    assert!(
        path.exists(),
        "{} is not built: cargo build -p strongroom-provider --lib --examples",
        path.display()
    );
    path
}

/// Writes an openssl.cnf for the provider on `module`, with more lines for its section.
pub fn configuration(file: &Path, module: &str, more: &str) {
    let library = built("libstrongroom_provider.so");
    let text = format!(
        "openssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = own\nstrongroom = token\n\
         [own]\nactivate = 1\n[token]\nmodule = {}\npkcs11-module-path = {module}\n{more}activate = 1\n",
        library.display()
    );
    fs::write(file, text).unwrap();
}

impl Context {
    /// Loads the configuration file.
    pub fn load(file: &Path) -> Self {
        let file = CString::new(file.to_str().unwrap()).unwrap();
        unsafe {
            let context = ffi::OSSL_LIB_CTX_new();
            assert_eq!(OSSL_LIB_CTX_load_config(context, file.as_ptr()), 1, "{}", last_error());
            Context(context)
        }
    }

    /// The first key that the URI names.
    pub fn key(&self, uri: &str) -> Result<Key<'_>, String> {
        let uri = CString::new(uri).unwrap();
        let (null, null_mut) = (ptr::null(), ptr::null_mut());
        unsafe {
            let store =
                OSSL_STORE_open_ex(uri.as_ptr(), self.0, ptr::null(), null, null_mut, null, null, null_mut);
            if store.is_null() {
                return Err(last_error());
            }
            let mut key: *mut ffi::EVP_PKEY = ptr::null_mut();
            let mut rounds = 0;
            while OSSL_STORE_eof(store) == 0 && key.is_null() {
                rounds += 1;
                assert!(rounds < 100, "a loader that never ends");
                let info = OSSL_STORE_load(store);
                if !info.is_null() {
                    key = OSSL_STORE_INFO_get1_PKEY(info);
                    OSSL_STORE_INFO_free(info);
                }
            }
            OSSL_STORE_close(store);
            if key.is_null() { Err(last_error()) } else { Ok(Key { context: self, key }) }
        }
    }
}

/// A key of it.
pub struct Key<'a> {
    context: &'a Context,
    /// libcrypto's key.
    pub key: *mut ffi::EVP_PKEY,
}

unsafe impl Send for Key<'_> {}
unsafe impl Sync for Key<'_> {}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        unsafe { ffi::EVP_PKEY_free(self.key) };
    }
}

impl Key<'_> {
    fn digest(&self) -> *const c_char {
        let ed25519 = unsafe { ffi::EVP_PKEY_is_a(self.key, c"ED25519".as_ptr()) == 1 };
        if ed25519 { ptr::null() } else { c"SHA256".as_ptr() }
    }

    /// Signs into a buffer of `room` bytes, the size that libcrypto is told.
    pub fn sign_into(&self, message: &[u8], room: usize) -> Result<Vec<u8>, String> {
        unsafe {
            let context = ffi::EVP_MD_CTX_new();
            let begun = EVP_DigestSignInit_ex(
                context,
                ptr::null_mut(),
                self.digest(),
                self.context.0,
                ptr::null(),
                self.key,
                ptr::null(),
            );
            // Beyond `room` there are bytes that must not change.
            let mut signature = vec![0xa5; room + 64];
            let mut size = room;
            let signed = begun == 1
                && ffi::EVP_DigestSign(
                    context,
                    signature.as_mut_ptr(),
                    &mut size,
                    message.as_ptr(),
                    message.len(),
                ) == 1;
            ffi::EVP_MD_CTX_free(context);
            assert!(signature[room..].iter().all(|byte| *byte == 0xa5), "written past the buffer");
            if !signed {
                return Err(last_error());
            }
            signature.truncate(size);
            Ok(signature)
        }
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.sign_into(message, 512)
    }

    /// Verifies with a public key that went through DER into another library context, without this provider.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        unsafe {
            let mut der = ptr::null_mut();
            let length = ffi::i2d_PUBKEY(self.key, &mut der);
            assert!(length > 0, "{}", last_error());
            let mut position = der.cast_const();
            let public = ffi::d2i_PUBKEY(ptr::null_mut(), &mut position, length.into());
            ffi::CRYPTO_free(der.cast(), c"test".as_ptr(), 0);
            let context = ffi::EVP_MD_CTX_new();
            let null = ptr::null();
            let valid = EVP_DigestVerifyInit_ex(
                context,
                ptr::null_mut(),
                self.digest(),
                ptr::null_mut(),
                ptr::null(),
                public,
                null,
            ) == 1
                && ffi::EVP_DigestVerify(
                    context,
                    signature.as_ptr(),
                    signature.len(),
                    message.as_ptr(),
                    message.len(),
                ) == 1;
            ffi::EVP_MD_CTX_free(context);
            ffi::EVP_PKEY_free(public);
            valid
        }
    }
}

/// The text of the newest entry on this thread's error queue.
pub fn last_error() -> String {
    unsafe {
        let mut data = ptr::null();
        let code = ERR_peek_last_error_all(
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut data,
            ptr::null_mut(),
        );
        let text =
            if data.is_null() { String::new() } else { CStr::from_ptr(data).to_string_lossy().into_owned() };
        ffi::ERR_clear_error();
        format!("{code:x} {text}")
    }
}
