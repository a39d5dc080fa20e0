//! What an application finds on OpenSSL's error queue: which function, which token and key, which PKCS#11 error, by name.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing)]

use cryptoki_sys::*;

mod libcrypto;
mod stub;

use libcrypto::{Context, configuration};
use stub::{URI, context, stub};

#[test]
fn a_failed_signature_names_function_key_and_error() {
    let (stub, _alone) = stub();
    let context = context("");
    let key = context.key(URI).unwrap();
    for (rv, name) in [
        (CKR_HOST_MEMORY, "CKR_HOST_MEMORY"),
        (CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR; the token is away: is its service (strongroomd) running?"),
        (CKR_KEY_FUNCTION_NOT_PERMITTED, "CKR_KEY_FUNCTION_NOT_PERMITTED; the key's policy does not allow"),
        (CKR_MECHANISM_INVALID, "CKR_MECHANISM_INVALID"),
        (CKR_KEY_EXHAUSTED, "CKR_KEY_EXHAUSTED"),
        (CKR_VENDOR_DEFINED | 0x1234, "CKR 0x80001234"),
    ] {
        stub.fail(rv, 10);
        let error = key.sign(b"message").unwrap_err();
        stub.fail(CKR_OK, 0);
        let expected = format!("C_Sign on pkcs11:token=stub;object=key;id=%31: {name}");
        assert!(error.contains(&expected), "{error}\n{expected}");
    }
    key.sign(b"message").unwrap();
}

#[test]
fn what_cannot_be_found_is_named_with_what_there_is() {
    let (_, _alone) = stub();
    let context = context("");
    for (uri, texts) in [
        (
            "pkcs11:token=other;object=key",
            ["no token for pkcs11:token=other;object=key", "the module shows \"stub\""],
        ),
        ("pkcs11:token=stub;object=key;slot-id=9", ["no token for pkcs11:", "the module shows \"stub\""]),
        (
            "pkcs11:token=stub;object=key;type=cert",
            ["pkcs11:token=stub;object=key;type=cert not found", "list them"],
        ),
        ("pkcs11:token=stub;colour=red", ["colour", ""]),
    ] {
        let error = context.key(uri).err().unwrap();
        assert!(texts.iter().all(|text| error.contains(text)), "{uri}: {error}");
    }
}

#[test]
fn a_module_that_is_not_there_is_named_with_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openssl.cnf");
    configuration(&file, "/nowhere/module.so", "");
    let error = Context::load(&file).key(URI).err().unwrap();
    let texts = ["PKCS#11 module /nowhere/module.so", "No such file", "pkcs11-module-path"];
    assert!(texts.iter().all(|text| error.contains(text)), "{error}");
}
