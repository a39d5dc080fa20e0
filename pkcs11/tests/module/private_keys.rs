//! What private keys do other than signing.

use std::ptr::{from_mut, null_mut};

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::application::{Application, FALSE, P256, TRUE, attribute, number, plain};
use crate::support::{Daemon, USER};

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
    assert_eq!(application.sign_init(session, CKM_RSA_X_509, signs), CKR_KEY_FUNCTION_NOT_PERMITTED);
    assert_eq!(application.sign_init(session, CKM_RSA_X_509, key), CKR_KEY_FUNCTION_NOT_PERMITTED);
    let (both, both_public) = make(&[attribute(CKA_DECRYPT, TRUE)]);
    let encrypt = call!(application, C_EncryptInit, session, &mut plain(CKM_RSA_PKCS), public_key);
    assert_eq!(encrypt, CKR_KEY_FUNCTION_NOT_PERMITTED);
    assert_eq!(init(&mut plain(CKM_RSA_PKCS_OAEP), key), CKR_MECHANISM_PARAM_INVALID);
    assert_eq!(init(&mut plain(CKM_SHA256_RSA_PKCS), key), CKR_MECHANISM_INVALID);

    // Without padding a decryption could be a signature.
    assert_eq!(init(&mut plain(CKM_RSA_X_509), key), CKR_KEY_FUNCTION_NOT_PERMITTED);
    assert_eq!(init(&mut plain(CKM_RSA_PKCS), key), CKR_OK);
    assert_eq!(call!(application, C_DecryptInit, session, null_mut(), key), CKR_OK);

    // The bare operation takes numbers between 1 and the modulus, both excluded, and gives the same each time.
    let (key, modulus) = (both, application.get(session, both, CKA_MODULUS).unwrap());
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

    // What may do both signs without padding: shorter data are filled up with zeros in front.
    let sign = |data: &[u8]| {
        assert_eq!(application.sign_init(session, CKM_RSA_X_509, both), CKR_OK);
        let (mut made, mut length) = (vec![0; 256], 256);
        let (data, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        match call!(application, C_Sign, session, data, size, made.as_mut_ptr(), &mut length) {
            CKR_OK => Ok(made),
            code => Err(code),
        }
    };
    let made_of_two = sign(&two).unwrap();
    assert_eq!(sign(&[2]), Ok(made_of_two.clone()));
    let verify = |data: &[u8], signature: &[u8]| {
        let begun = call!(application, C_VerifyInit, session, &mut plain(CKM_RSA_X_509), both_public);
        assert_eq!(begun, CKR_OK);
        let (data, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let (signature, length) = (signature.as_ptr().cast_mut(), signature.len() as CK_ULONG);
        call!(application, C_Verify, session, data, size, signature, length)
    };
    assert_eq!(verify(&two, &made_of_two), CKR_OK);
    assert_eq!(verify(&[2], &made_of_two), CKR_OK);
    assert_eq!(verify(&[3], &made_of_two), CKR_SIGNATURE_INVALID);
    assert_eq!(init(&mut plain(CKM_RSA_X_509), both), CKR_OK);
    let mut opened = vec![0; 256];
    length = 256;
    assert_eq!(decrypt(&two, opened.as_mut_ptr(), &mut length), CKR_OK);
    assert_eq!(opened, made_of_two);
    let modulus_of_both = application.get(session, both, CKA_MODULUS).unwrap();
    assert_eq!(sign(&modulus_of_both), Err(CKR_DATA_INVALID));
    assert_eq!(sign(&[1; 257]), Err(CKR_DATA_LEN_RANGE));

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

/// Secrets of both sides, the life of session objects, and what is refused. With openssl on the other side it is tested in
/// `pkcs11_tool.rs`.
pub fn derivation(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let token = attribute(CKA_TOKEN, TRUE);
    let may = attribute(CKA_DERIVE, TRUE);
    let x25519 = [6, 3, 0x2b, 0x65, 0x6e];
    for (mechanism, curve, size, asked) in [
        (CKM_EC_KEY_PAIR_GEN, P256, 32, &[token, may][..]),
        (CKM_EC_MONTGOMERY_KEY_PAIR_GEN, &x25519, 32, &[token]),
    ] {
        let make = |private: &[CK_ATTRIBUTE]| {
            let public = vec![token, attribute(CKA_EC_PARAMS, curve)];
            application.generate_from(session, mechanism, public, private.to_vec()).unwrap()
        };
        let (one, other) = (make(asked), make(asked));
        assert_eq!(application.get(session, one.0, CKA_DERIVE), Ok(TRUE.to_vec()));
        let point = |public| application.get(session, public, CKA_EC_POINT).unwrap();
        let derive = |key, public: &[u8], kdf, template: &[CK_ATTRIBUTE]| {
            derive(&application, session, (key, public), (CKM_ECDH1_DERIVE, kdf, b""), template)
        };
        let value = |secret| application.get(session, secret, CKA_VALUE).unwrap();
        let secret = derive(one.0, &point(other.1), CKD_NULL, &[]).unwrap();
        let same = derive(other.0, &point(one.1), CKD_NULL, &[attribute(CKA_LABEL, b"shared")]).unwrap();
        assert_eq!((value(secret).len(), value(secret)), (size, value(same)));
        // The point bare, as newer applications give it.
        let bare = &point(other.1)[2..];
        let again = derive(one.0, bare, CKD_SHA256_KDF, &[attribute(CKA_VALUE_LEN, number(80))]).unwrap();
        assert_eq!(value(again).len(), 80);

        // An object like others, but of the session.
        for (attribute, expected) in [
            (CKA_CLASS, number(CKO_SECRET_KEY)),
            (CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
            (CKA_TOKEN, FALSE),
            (CKA_SENSITIVE, FALSE),
            (CKA_EXTRACTABLE, TRUE),
            (CKA_LABEL, b"shared"),
            (CKA_VALUE_LEN, number(32)),
        ] {
            assert_eq!(application.get(session, same, attribute).unwrap(), expected);
        }
        let mut by_label = [attribute(CKA_TOKEN, FALSE), attribute(CKA_LABEL, b"shared")];
        assert_eq!(application.find(session, &mut by_label), [same]);
        assert_eq!(call!(application, C_DestroyObject, session, same), CKR_OK);
        assert_eq!(application.get(session, same, CKA_VALUE), Err(CKR_OBJECT_HANDLE_INVALID));
        assert_eq!(application.find(session, &mut by_label), [0; 0]);
        assert_eq!(application.sign_init(session, CKM_ECDSA, secret), CKR_KEY_TYPE_INCONSISTENT);

        // What is not to be read the partition keeps: as a key that it can be used as, for the session or for good.
        let aes = attribute(CKA_KEY_TYPE, number(CKK_AES));
        for template in [
            &[attribute(CKA_SENSITIVE, TRUE), aes][..],
            &[attribute(CKA_EXTRACTABLE, FALSE), aes],
            &[token, aes],
            &[token, attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET))],
        ] {
            let key = derive(one.0, bare, CKD_NULL, template).unwrap();
            assert_eq!(application.get(session, key, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
            assert_eq!(application.get(session, key, CKA_VALUE_LEN).unwrap(), number(32));
            assert_eq!(application.get(session, key, CKA_ALWAYS_SENSITIVE).unwrap(), FALSE);
            let is_kept = template[0].type_ == CKA_TOKEN;
            let kept = application.get(session, key, CKA_TOKEN).unwrap();
            assert_eq!(kept, if is_kept { TRUE } else { FALSE });
            assert_eq!(call!(application, C_DestroyObject, session, key), CKR_OK);
        }
        let too_long = [aes, attribute(CKA_VALUE_LEN, number(31))];
        assert_eq!(derive(one.0, bare, CKD_NULL, &too_long), Err(CKR_KEY_SIZE_RANGE));
        for template in [[attribute(CKA_KEY_TYPE, number(CKK_EC))], [attribute(CKA_VALUE, b"chosen")]] {
            let refused = derive(one.0, bare, CKD_NULL, &template);
            assert_eq!(refused, Err(CKR_TEMPLATE_INCONSISTENT));
        }
        let longer = [attribute(CKA_VALUE_LEN, number(33))];
        assert_eq!(derive(one.0, bare, CKD_NULL, &longer), Err(CKR_KEY_SIZE_RANGE));
        assert_eq!(derive(one.0, &bare[1..], CKD_NULL, &[]), Err(CKR_MECHANISM_PARAM_INVALID));
        assert_eq!(derive(one.0, bare, CKD_CPDIVERSIFY_KDF, &[]), Err(CKR_MECHANISM_PARAM_INVALID));
        assert_eq!(derive(one.1, bare, CKD_NULL, &[]), Err(CKR_KEY_TYPE_INCONSISTENT));
        assert_eq!(derive(secret, bare, CKD_NULL, &[]), Err(CKR_KEY_TYPE_INCONSISTENT));
        if mechanism == CKM_EC_KEY_PAIR_GEN {
            let mut off_the_curve = bare.to_vec();
            off_the_curve[64] ^= 1;
            assert_eq!(derive(one.0, &off_the_curve, CKD_NULL, &[]), Err(CKR_MECHANISM_PARAM_INVALID));
            let (signs, _) = make(&[token]);
            assert_eq!(derive(signs, bare, CKD_NULL, &[]), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
        } else {
            assert_eq!(derive(one.0, &[0; 32], CKD_NULL, &[]), Err(CKR_MECHANISM_PARAM_INVALID));
            assert_eq!(application.sign_init(session, CKM_EDDSA, one.0), CKR_KEY_FUNCTION_NOT_PERMITTED);
        }

        // A read-only session derives too, and its secrets end with it; all private ones with the log-in.
        let second = application.open(slot, 0).unwrap();
        let agreement = (CKM_ECDH1_COFACTOR_DERIVE, CKD_NULL, &b""[..]);
        let short = self::derive(&application, second, (one.0, bare), agreement, &[]).unwrap();
        assert_eq!(application.get(session, short, CKA_VALUE), Ok(value(secret)));
        assert_eq!(call!(application, C_CloseSession, second), CKR_OK);
        assert_eq!(application.get(session, short, CKA_VALUE), Err(CKR_OBJECT_HANDLE_INVALID));
        assert_eq!(call!(application, C_Logout, session), CKR_OK);
        assert_eq!(application.get(session, secret, CKA_VALUE), Err(CKR_OBJECT_HANDLE_INVALID));
        assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
        assert_eq!(application.get(session, secret, CKA_VALUE), Err(CKR_OBJECT_HANDLE_INVALID));
    }
}

/// Derives a secret with a public key (`CKA_EC_POINT`), by a mechanism, a derivation function and what is shared.
fn derive(
    application: &Application,
    session: CK_SESSION_HANDLE,
    (key, public): (CK_OBJECT_HANDLE, &[u8]),
    (mechanism, kdf, shared): (CK_MECHANISM_TYPE, CK_EC_KDF_TYPE, &[u8]),
    template: &[CK_ATTRIBUTE],
) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let mut parameters = CK_ECDH1_DERIVE_PARAMS {
        kdf,
        ulSharedDataLen: shared.len() as CK_ULONG,
        pSharedData: shared.as_ptr().cast_mut(),
        ulPublicDataLen: public.len() as CK_ULONG,
        pPublicData: public.as_ptr().cast_mut(),
    };
    let mut mechanism = CK_MECHANISM {
        mechanism,
        pParameter: from_mut(&mut parameters).cast(),
        ulParameterLen: size_of_val(&parameters) as CK_ULONG,
    };
    let usual = [attribute(CKA_CLASS, number(CKO_SECRET_KEY))];
    let mut template = [&usual[..], template].concat();
    let (pointer, count, mut derived) = (template.as_mut_ptr(), template.len() as CK_ULONG, 0);
    match call!(application, C_DeriveKey, session, &mut mechanism, key, pointer, count, &mut derived) {
        CKR_OK => Ok(derived),
        code => Err(code),
    }
}
