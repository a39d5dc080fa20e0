//! The provider in a process of its own making: threads, forks, sizes, unloading, wrong PINs. The token is
//! SoftHSM2, so that what is tested here is the provider and nothing else of this project.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::{CString, c_int, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use openssl_sys as ffi;

mod libcrypto;
mod softhsm;

use libcrypto::Context;
use softhsm::{MODULE, uri};

/// One test at a time: a child of a fork would find the locks of SoftHSM2 as another test's thread holds them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The provider on a token of SoftHSM2's that has the keys "rsa", "ec" and "ed".
fn context() -> Context {
    Context::load(&folder().join("openssl.cnf"))
}

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = softhsm::token(&[
            ("rsa:2048", "rsa", "01"),
            ("EC:prime256v1", "ec", "02"),
            ("EC:edwards25519", "ed", "03"),
        ]);
        libcrypto::configuration(&folder.join("openssl.cnf"), MODULE, "");
        folder
    })
}

/// pkcs11-tool on the token.
fn tool(arguments: &[&str]) {
    folder();
    softhsm::tool(arguments);
}

#[test]
fn threads_sign_at_the_same_time() {
    let _alone = alone();
    let context = context();
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
    let context = context();
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
    let context = context();
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
    let context = context();
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
        let context = context();
        let signature = context.key(&uri("ec")).unwrap().sign(b"message").unwrap();
        assert!(context.key(&uri("ec")).unwrap().verify(b"message", &signature));
        // Every object is gone, so this tears the provider down.
        unsafe { ffi::OSSL_LIB_CTX_free(context.0) };
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_loops() {
    let _alone = alone();
    let context = context();
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
    let context = context();
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
    let context = context();
    assert!(context.key("pkcs11:token=soft;type=private?pin-value=1234").is_ok());
    let error = context.key(&uri("half")).err().unwrap();
    assert!(error.contains("has no public half"), "{error}");
    tool(&["--delete-object", "--type", "privkey", "--label", "half"]);
}

#[test]
fn a_module_that_the_application_finalised_is_initialised_again() {
    let _alone = alone();
    let context = context();
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
