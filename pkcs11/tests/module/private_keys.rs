//! What private keys do other than signing.

use std::ptr::{from_mut, null_mut};

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{FALSE, TRUE, attribute, number, plain};

/// Sizes and buffers, as applications ask for them. What comes out is compared with openssl's in `pkcs11_tool.rs`.
pub fn decryption(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let make = |usage: &[CK_ATTRIBUTE]| {
        let bits = number(2048);
        let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_MODULUS_BITS, bits)];
        let private = [&[attribute(CKA_TOKEN, TRUE)], usage].concat();
        application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, private).unwrap()
    };
    let (signs, _) = make(&[]);
    let (key, public_key) = make(&[attribute(CKA_DECRYPT, TRUE), attribute(CKA_SIGN, FALSE)]);
    let init = |mechanism: &mut CK_MECHANISM, key| call!(application, C_DecryptInit, session, mechanism, key);

    // Granted only when it is asked for.
    assert_eq!(application.get(session, signs, CKA_DECRYPT), Ok(FALSE.to_vec()));
    assert_eq!(application.get(session, key, CKA_DECRYPT), Ok(TRUE.to_vec()));
    for mechanism in [CKM_RSA_PKCS, CKM_RSA_X_509] {
        assert_eq!(init(&mut plain(mechanism), signs), CKR_KEY_FUNCTION_NOT_PERMITTED);
        assert_eq!(init(&mut plain(mechanism), public_key), CKR_KEY_TYPE_INCONSISTENT);
    }
    assert_eq!(application.sign_init(session, CKM_RSA_PKCS, key), CKR_KEY_FUNCTION_NOT_PERMITTED);
    // Nothing decrypts by signing, and nothing is encrypted here.
    assert_eq!(application.sign_init(session, CKM_RSA_X_509, signs), CKR_MECHANISM_INVALID);
    let encrypt = call!(application, C_EncryptInit, session, &mut plain(CKM_RSA_PKCS), public_key);
    assert_eq!(encrypt, CKR_MECHANISM_INVALID);
    assert_eq!(init(&mut plain(CKM_RSA_PKCS_OAEP), key), CKR_MECHANISM_PARAM_INVALID);
    assert_eq!(init(&mut plain(CKM_SHA256_RSA_PKCS), key), CKR_MECHANISM_INVALID);

    // The bare operation takes numbers between 1 and the modulus, both excluded, and gives the same each time.
    let modulus = application.get(session, key, CKA_MODULUS).unwrap();
    assert_eq!(init(&mut plain(CKM_RSA_X_509), key), CKR_OK);
    let (mut two, mut length) = (vec![0; 256], 0);
    two[255] = 2;
    let decrypt = |data: &[u8], out: *mut CK_BYTE, length: &mut CK_ULONG| {
        let (data, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        call!(application, C_Decrypt, session, data, size, out, from_mut(length))
    };
    assert_eq!(decrypt(&two, null_mut(), &mut length), CKR_OK);
    assert_eq!(length, 256);
    let mut out = vec![0xaa; 257];
    length = 255;
    assert_eq!(decrypt(&two, out.as_mut_ptr(), &mut length), CKR_BUFFER_TOO_SMALL);
    assert_eq!(length, 256);
    assert!(out.iter().all(|byte| *byte == 0xaa), "nothing is written");
    assert_eq!(decrypt(&two, out.as_mut_ptr(), &mut length), CKR_OK);
    assert_eq!((out.pop(), length), (Some(0xaa), 256));
    let made = out.clone();
    assert!(made != two && made < modulus);
    assert_eq!(decrypt(&two, out.as_mut_ptr(), &mut length), CKR_OPERATION_NOT_INITIALIZED);

    // What is wrong ends the operation.
    for (mechanism, data, code) in [
        (CKM_RSA_X_509, &two[1..], CKR_ENCRYPTED_DATA_LEN_RANGE),
        (CKM_RSA_X_509, &modulus, CKR_ENCRYPTED_DATA_INVALID),
        (CKM_RSA_PKCS, &two, CKR_ENCRYPTED_DATA_INVALID),
    ] {
        assert_eq!(init(&mut plain(mechanism), key), CKR_OK);
        length = 256;
        assert_eq!(decrypt(data, out.as_mut_ptr(), &mut length), code);
        assert_eq!(decrypt(data, out.as_mut_ptr(), &mut length), CKR_OPERATION_NOT_INITIALIZED);
    }

    // In parts, and into the place of the data.
    assert_eq!(init(&mut plain(CKM_RSA_X_509), key), CKR_OK);
    for part in two.chunks(100) {
        let (part, size) = (part.as_ptr().cast_mut(), part.len() as CK_ULONG);
        (out, length) = (vec![0; 256], 256);
        let update = call!(application, C_DecryptUpdate, session, part, size, out.as_mut_ptr(), &mut length);
        assert_eq!((update, length), (CKR_OK, 0));
    }
    length = 256;
    assert_eq!(call!(application, C_DecryptFinal, session, out.as_mut_ptr(), &mut length), CKR_OK);
    assert_eq!((&out, length), (&made, 256));
    assert_eq!(init(&mut plain(CKM_RSA_X_509), key), CKR_OK);
    let place = two.as_mut_ptr();
    assert_eq!(call!(application, C_Decrypt, session, place, 256, place, &mut length), CKR_OK);
    assert_eq!((two, length), (made, 256));
}
