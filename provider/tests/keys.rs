//! Key management through libcrypto: what comes in, what goes out, and key pairs that are made.
// What is called is called as C would call it; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod libcrypto;
mod stub;

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use cryptoki_sys::*;
use libcrypto::{Context, last_error};
use openssl_sys as ffi;
use stub::{context, stub};

unsafe extern "C" {
    fn EVP_PKEY_CTX_set_cb(
        context: *mut ffi::EVP_PKEY_CTX,
        callback: Option<unsafe extern "C" fn(*mut ffi::EVP_PKEY_CTX) -> c_int>,
    );
    fn EVP_PKEY_Q_keygen(
        context: *mut ffi::OSSL_LIB_CTX,
        properties: *const c_char,
        kind: *const c_char,
        ...
    ) -> *mut ffi::EVP_PKEY;
    fn EVP_PKEY_dup(key: *mut ffi::EVP_PKEY) -> *mut ffi::EVP_PKEY;
    fn EVP_PKEY_CTX_ctrl_str(
        context: *mut ffi::EVP_PKEY_CTX,
        name: *const c_char,
        value: *const c_char,
    ) -> c_int;
}

const OURS: &CStr = c"provider=strongroom";
const KEYPAIR: c_int = 0x87;
const PUBLIC: c_int = 0x86;

unsafe extern "C" fn stop(_context: *mut ffi::EVP_PKEY_CTX) -> c_int {
    0
}

/// EVP_PKEY_generate in our provider, with these options.
fn generate(context: &Context, kind: &CStr, options: &[(&CStr, &CStr)], stops: bool) -> Result<(), String> {
    unsafe {
        let ctx = ffi::EVP_PKEY_CTX_new_from_name(context.0, kind.as_ptr(), OURS.as_ptr());
        assert_eq!(ffi::EVP_PKEY_keygen_init(ctx), 1, "{}", last_error());
        if stops {
            EVP_PKEY_CTX_set_cb(ctx, Some(stop));
        }
        let mut key = ptr::null_mut();
        let made = options
            .iter()
            .all(|(name, value)| EVP_PKEY_CTX_ctrl_str(ctx, name.as_ptr(), value.as_ptr()) == 1)
            && ffi::EVP_PKEY_keygen(ctx, &mut key) == 1;
        ffi::EVP_PKEY_CTX_free(ctx);
        ffi::EVP_PKEY_free(key);
        if made { Ok(()) } else { Err(last_error()) }
    }
}

const IN_THE_STUB: (&CStr, &CStr) = (c"pkcs11_uri", c"pkcs11:token=stub");

/// The token may have made a pair although it says that something failed: to ask again would make a second one.
#[test]
fn a_generation_whose_outcome_is_unknown_is_not_repeated() {
    let (stub, _alone) = stub();
    let context = context("");
    for (rv, calls) in [
        (CKR_GENERAL_ERROR, 1),
        (CKR_DEVICE_ERROR, 1),
        (CKR_FUNCTION_FAILED, 1),
        (CKR_DEVICE_MEMORY, 1),
        // Nothing was begun: the session, or the log-in, was not what it had been.
        (CKR_SESSION_HANDLE_INVALID, 2),
        (CKR_USER_NOT_LOGGED_IN, 2),
    ] {
        let before = stub.generations();
        stub.fail(rv, 1);
        let made = generate(&context, c"EC", &[IN_THE_STUB], false);
        assert_eq!(stub.generations() - before, calls, "{rv:#x} {made:?}");
        assert_eq!(made.is_ok(), calls == 2, "{made:?}");
        if let Err(error) = made {
            assert!(error.contains("C_GenerateKeyPair on EC pair in token \"stub\": CKR_"), "{error}");
        }
        stub.fail(0, 0);
    }
    assert_eq!(stub.sessions(), 1, "the one that is kept");
}

/// A key that is not restricted would be another one than was asked for.
#[test]
fn a_token_that_cannot_restrict_a_key_to_pss_makes_none() {
    let (stub, _alone) = stub();
    stub.fail(CKR_ATTRIBUTE_TYPE_INVALID, u64::MAX);
    let error = generate(&context(""), c"RSA-PSS", &[IN_THE_STUB], false).unwrap_err();
    assert!(error.contains("token \"stub\" cannot restrict a key to RSA-PSS"), "{error}");
}

#[test]
fn the_callback_may_stop_a_generation() {
    let (stub, _alone) = stub();
    let context = context("");
    let before = stub.generations();
    assert!(generate(&context, c"EC", &[IN_THE_STUB], true).is_err());
    assert_eq!(stub.generations(), before);
    generate(&context, c"EC", &[IN_THE_STUB], false).unwrap();
    assert_eq!(stub.generations(), before + 1);
}

#[test]
fn without_a_uri_nothing_is_made() {
    let (stub, _alone) = stub();
    let context = context("");
    let before = stub.generations();
    for kind in [c"RSA", c"RSA-PSS", c"EC", c"ED25519", c"ED448", c"X25519", c"X448"] {
        let error = generate(&context, kind, &[], false).unwrap_err();
        assert!(error.contains("pkcs11_uri"), "{error}");
        let error = generate(&context, kind, &[(c"pkcs11_uri", c"file:/etc/passwd")], false).unwrap_err();
        assert!(error.contains("not a pkcs11: URI"), "{error}");
    }
    unsafe {
        let ctx = ffi::EVP_PKEY_CTX_new_from_name(context.0, c"EC".as_ptr(), OURS.as_ptr());
        assert!(ffi::EVP_PKEY_paramgen_init(ctx) != 1);
        last_error();
        ffi::EVP_PKEY_CTX_free(ctx);
    }
    assert_eq!(stub.generations(), before);
}

/// libcrypto imports the public key of a certificate to compare it with ours; nothing else may come in.
#[test]
fn public_keys_come_in_and_private_keys_do_not() {
    let (_stub, _alone) = stub();
    let context = context("");
    for (kind, argument) in [
        (c"EC", Some(c"P-384")),
        (c"ED25519", None),
        (c"ED448", None),
        (c"X25519", None),
        (c"X448", None),
        (c"RSA", None),
    ] {
        unsafe {
            let (own, name) = (c"provider=default".as_ptr(), kind.as_ptr());
            let key = match argument {
                Some(curve) => EVP_PKEY_Q_keygen(context.0, own, name, curve.as_ptr()),
                None => EVP_PKEY_Q_keygen(context.0, own, name, 2048usize),
            };
            assert!(!key.is_null(), "{}", last_error());
            let import = |given: c_int, wanted: c_int| {
                let (mut list, mut imported) = (ptr::null_mut(), ptr::null_mut());
                assert_eq!(ffi::EVP_PKEY_todata(key, given, &mut list), 1, "{}", last_error());
                let ctx = ffi::EVP_PKEY_CTX_new_from_name(context.0, name, OURS.as_ptr());
                assert_eq!(ffi::EVP_PKEY_fromdata_init(ctx), 1, "{}", last_error());
                let done = ffi::EVP_PKEY_fromdata(ctx, &mut imported, wanted, list);
                ffi::OSSL_PARAM_free(list);
                ffi::EVP_PKEY_CTX_free(ctx);
                (done, imported)
            };
            let (done, public) = import(PUBLIC, PUBLIC);
            assert_eq!(done, 1, "{kind:?} {}", last_error());
            assert_eq!(ffi::EVP_PKEY_eq(public, key), 1, "{kind:?} {}", last_error());
            assert_eq!(ffi::EVP_PKEY_bits(public), ffi::EVP_PKEY_bits(key));
            assert_eq!(ffi::EVP_PKEY_size(public), ffi::EVP_PKEY_size(key));
            // A copy is the same key.
            let copy = EVP_PKEY_dup(public);
            assert_eq!(ffi::EVP_PKEY_eq(copy, key), 1, "{kind:?} {}", last_error());
            ffi::EVP_PKEY_free(copy);
            ffi::EVP_PKEY_free(public);
            for (given, wanted) in [(KEYPAIR, KEYPAIR), (KEYPAIR, 1)] {
                let (done, imported) = import(given, wanted);
                assert!(done != 1 && imported.is_null(), "{kind:?} with its private half was taken");
                last_error();
            }
            ffi::EVP_PKEY_free(key);
        }
    }
}
