//! The provider in a process of its own making: threads, forks, sizes, unloading, wrong PINs. The token is
//! SoftHSM2, so that what is tested here is the provider and nothing else of this project.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::process::Command;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::{env, fs, thread};

use openssl_sys as ffi;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

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
    fn EVP_DigestSignInit_ex(
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

/// One test at a time: a child of a fork would find the locks of SoftHSM2 as another test's thread holds them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A library context with the provider on a token of SoftHSM2's that has the keys "rsa", "ec" and "ed".
struct Context(*mut ffi::OSSL_LIB_CTX);

unsafe impl Send for Context {}
unsafe impl Sync for Context {}

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        fs::create_dir(folder.join("tokens")).unwrap();
        let configuration = folder.join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", folder.join("tokens").display());
        fs::write(&configuration, text).unwrap();
        // The module reads its environment in this process.
        unsafe { env::set_var("SOFTHSM2_CONF", &configuration) };
        run("softhsm2-util", &["--init-token", "--free", "--label", "soft", "--so-pin", "12345678", "--pin", "1234"]);
        for (kind, label, id) in [("rsa:2048", "rsa", "01"), ("EC:prime256v1", "ec", "02"), ("EC:edwards25519", "ed", "03")] {
            let pair = ["--module", MODULE, "--login", "--pin", "1234", "--keypairgen"];
            run("pkcs11-tool", &[&pair[..], &["--key-type", kind, "--label", label, "--id", id]].concat());
        }
        let library = env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("libstrongroom_provider.so");
        assert!(library.exists(), "{} is not built: cargo build -p strongroom-provider", library.display());
        let text = format!(
            "openssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = own\nstrongroom = token\n\
             [own]\nactivate = 1\n[token]\nmodule = {}\npkcs11-module-path = {MODULE}\nactivate = 1\n",
            library.display()
        );
        fs::write(folder.join("openssl.cnf"), text).unwrap();
        folder
    })
}

/// pkcs11-tool on the token, logged in: another program that changes what is there.
fn tool(arguments: &[&str]) {
    folder();
    run("pkcs11-tool", &[&["--module", MODULE, "--login", "--pin", "1234"], arguments].concat());
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Context {
    fn new() -> Self {
        let file = CString::new(folder().join("openssl.cnf").to_str().unwrap()).unwrap();
        unsafe {
            let context = ffi::OSSL_LIB_CTX_new();
            assert_eq!(OSSL_LIB_CTX_load_config(context, file.as_ptr()), 1, "{}", last_error());
            Context(context)
        }
    }

    /// The first key that the URI names.
    fn key(&self, uri: &str) -> Result<Key<'_>, String> {
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

struct Key<'a> {
    context: &'a Context,
    key: *mut ffi::EVP_PKEY,
}

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
    fn sign_into(&self, message: &[u8], room: usize) -> Result<Vec<u8>, String> {
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

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.sign_into(message, 512)
    }

    /// Verifies with a public key that went through DER into another library context, without this provider.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
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
fn last_error() -> String {
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

const PIN: &str = "?pin-value=1234";

fn uri(name: &str) -> String {
    format!("pkcs11:token=soft;object={name};type=private{PIN}")
}

#[test]
fn threads_sign_at_the_same_time() {
    let _alone = alone();
    let context = Context::new();
    for name in ["rsa", "ec", "ed"] {
        let key = context.key(&uri(name)).unwrap();
        thread::scope(|scope| {
            for number in 0..8u8 {
                let key = &key;
                scope.spawn(move || {
                    for round in 0..25u8 {
                        let message = [number, round, 7];
                        let signature = key.sign(&message).unwrap();
                        assert!(key.verify(&message, &signature), "{name}");
                        assert!(!key.verify(&[round, number, 8], &signature), "{name}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_child_signs_after_a_fork_and_so_does_its_parent() {
    let _alone = alone();
    let context = Context::new();
    let key = context.key(&uri("rsa")).unwrap();
    key.sign(b"before").unwrap();
    for _ in 0..3 {
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let signed = key.sign(b"child").is_ok_and(|signature| key.verify(b"child", &signature));
                libc::_exit(i32::from(!signed));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0, "the child's signature");
        }
        let signature = key.sign(b"parent").unwrap();
        assert!(key.verify(b"parent", &signature));
    }
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_and_not_written_past() {
    let _alone = alone();
    let context = Context::new();
    for (name, size) in [("rsa", 256), ("ed", 64)] {
        let key = context.key(&uri(name)).unwrap();
        assert_eq!(unsafe { ffi::EVP_PKEY_size(key.key) }, size);
        let error = key.sign_into(b"message", 63).unwrap_err();
        assert!(error.contains("63 bytes") || error.contains("too small"), "{error}");
        assert_eq!(key.sign_into(b"message", size as usize).unwrap().len(), size as usize);
    }
}

#[test]
fn the_private_half_does_not_come_out() {
    let _alone = alone();
    let context = Context::new();
    for (name, parameter) in [("rsa", c"d"), ("rsa", c"rsa-factor1"), ("ec", c"priv")] {
        let key = context.key(&uri(name)).unwrap();
        unsafe {
            const KEYPAIR: c_int = 0x87;
            let mut list = ptr::null_mut();
            assert_eq!(ffi::EVP_PKEY_todata(key.key, KEYPAIR, &mut list), 0);
            let mut number = ptr::null_mut();
            assert_eq!(ffi::EVP_PKEY_get_bn_param(key.key, parameter.as_ptr(), &mut number), 0);
        }
    }
}

#[test]
fn unloading_and_loading_again() {
    let _alone = alone();
    for _ in 0..3 {
        let context = Context::new();
        let signature = context.key(&uri("ec")).unwrap().sign(b"message").unwrap();
        assert!(context.key(&uri("ec")).unwrap().verify(b"message", &signature));
        // Every object is gone, so this tears the provider down.
        unsafe { ffi::OSSL_LIB_CTX_free(context.0) };
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_loops() {
    let _alone = alone();
    let context = Context::new();
    // Wrong and missing PINs are in the end-to-end tests: this process may be logged in already.
    for (uri, words) in [
        ("pkcs11:token=soft;object=none?pin-value=1234", "\"soft\" has no object that fits"),
        ("pkcs11:token=none;object=rsa?pin-value=1234", "the module shows"),
        ("pkcs11:token=soft;object=rsa;type=private?pin-source=/does/not/exist", "/does/not/exist"),
        ("pkcs11:token=soft;colour=red", "unknown attribute"),
    ] {
        let said = context.key(uri).err().unwrap();
        assert!(said.contains(words), "{uri}: {said}");
    }
}

#[test]
fn a_key_that_was_replaced_is_not_used_in_the_old_ones_place() {
    let _alone = alone();
    let pair = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "other", "--id", "09"];
    tool(&pair);
    let context = Context::new();
    let key = context.key(&uri("other")).unwrap();
    assert!(key.verify(b"message", &key.sign(b"message").unwrap()));
    for kind in ["privkey", "pubkey"] {
        tool(&["--delete-object", "--type", kind, "--label", "other"]);
    }
    tool(&pair);
    let error = key.sign(b"message").unwrap_err();
    assert!(error.contains("was replaced by another key"), "{error}");
    let new = context.key(&uri("other")).unwrap();
    assert!(new.verify(b"message", &new.sign(b"message").unwrap()));
}

#[test]
fn a_key_without_a_public_half_does_not_hide_the_others() {
    let _alone = alone();
    tool(&["--keypairgen", "--key-type", "EC:secp384r1", "--label", "half", "--id", "08"]);
    tool(&["--delete-object", "--type", "pubkey", "--label", "half"]);
    let context = Context::new();
    assert!(context.key("pkcs11:token=soft;type=private?pin-value=1234").is_ok());
    let error = context.key(&uri("half")).err().unwrap();
    assert!(error.contains("has no public half"), "{error}");
    tool(&["--delete-object", "--type", "privkey", "--label", "half"]);
}

#[test]
fn a_module_that_the_application_finalised_is_initialised_again() {
    let _alone = alone();
    let context = Context::new();
    let key = context.key(&uri("rsa")).unwrap();
    key.sign(b"before").unwrap();
    let finalize = || unsafe {
        let module = CString::new(MODULE).unwrap();
        let handle = libc::dlopen(module.as_ptr(), libc::RTLD_NOW);
        let function = libc::dlsym(handle, c"C_Finalize".as_ptr());
        let function: extern "C" fn(*mut c_void) -> std::ffi::c_ulong = std::mem::transmute(function);
        assert_eq!(function(ptr::null_mut()), 0);
    };
    // It is not initialised again within a second.
    thread::sleep(std::time::Duration::from_millis(1100));
    finalize();
    let signature = key.sign(b"after").unwrap();
    assert!(key.verify(b"after", &signature));
    thread::sleep(std::time::Duration::from_millis(1100));
    finalize();
    assert!(context.key(&uri("ec")).is_ok());
}
