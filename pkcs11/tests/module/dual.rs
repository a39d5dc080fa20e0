//! Two operations of a session on the same data, digests that are saved and restored, and signatures that are known before
//! the data.

use std::ptr::null_mut;

use aws_lc_rs::digest;
use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, FALSE, TRUE, attribute, ecdh_with, number, plain, with};

/// What a function with an output gives, in a buffer of `room` bytes.
macro_rules! out {
    ($application:expr, $room:expr, $function:ident $(, $argument:expr)*) => {{
        let (mut buffer, mut length) = (vec![0u8; $room], $room as CK_ULONG);
        match call!($application, $function $(, $argument)*, buffer.as_mut_ptr(), &mut length) {
            CKR_OK => {
                buffer.truncate(length as usize);
                Ok(buffer)
            }
            code => Err(code),
        }
    }};
}

fn bytes(data: &[u8]) -> (*mut CK_BYTE, CK_ULONG) {
    (data.as_ptr().cast_mut(), data.len() as CK_ULONG)
}

fn aes(application: &Application, session: CK_SESSION_HANDLE) -> CK_OBJECT_HANDLE {
    let mut template = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(32))];
    let mut key = 0;
    let mut mechanism = plain(CKM_AES_KEY_GEN);
    let code = call!(application, C_GenerateKey, session, &mut mechanism, template.as_mut_ptr(), 2, &mut key);
    assert_eq!(code, CKR_OK);
    key
}

fn cbc(iv: &mut [u8; 16]) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism: CKM_AES_CBC_PAD,
        pParameter: iv.as_mut_ptr().cast(),
        ulParameterLen: iv.len() as CK_ULONG,
    }
}

const DATA: &[u8] =
    b"What is encrypted here is also digested, or signed, and comes back the same way it went.";

pub fn dual(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let key = aes(&application, session);
    let (private, public) = application.generate(session, "web").unwrap();
    let (mut iv, sha256) = ([7; 16], digest::digest(&digest::SHA256, DATA));

    // Without one of the two nothing happens to the other.
    assert_eq!(call!(application, C_DigestInit, session, &mut plain(CKM_SHA256)), CKR_OK);
    let (start, size) = bytes(DATA);
    let none = Err(CKR_OPERATION_NOT_INITIALIZED);
    assert_eq!(out!(application, 200, C_DigestEncryptUpdate, session, start, size), none);
    assert_eq!(call!(application, C_EncryptInit, session, &mut cbc(&mut iv), key), CKR_OK);
    assert_eq!(out!(application, 200, C_SignEncryptUpdate, session, start, size), none);

    // Encrypted in the place of the plaintext; the digest is of the plaintext.
    let mut sealed = Vec::new();
    for part in DATA.chunks(33) {
        let (mut place, mut length) = ([0; 64], 0);
        place[..part.len()].copy_from_slice(part);
        let size = part.len() as CK_ULONG;
        let update = |place: &mut [u8; 64], length: &mut CK_ULONG| {
            let start = place.as_mut_ptr();
            call!(application, C_DigestEncryptUpdate, session, start, size, start, length)
        };
        // A buffer that is too small, and the size: nothing is taken.
        assert_eq!(update(&mut place, &mut length), CKR_BUFFER_TOO_SMALL);
        let start = place.as_mut_ptr();
        let code = call!(application, C_DigestEncryptUpdate, session, start, size, null_mut(), &mut length);
        assert_eq!((code, length % 16), (CKR_OK, 0));
        length = 64;
        assert_eq!(update(&mut place, &mut length), CKR_OK);
        sealed.extend_from_slice(&place[..length as usize]);
    }
    sealed.extend(out!(application, 16, C_EncryptFinal, session).unwrap());
    assert_eq!(out!(application, 64, C_DigestFinal, session).unwrap(), sha256.as_ref());

    // The other way.
    assert_eq!(call!(application, C_DecryptInit, session, &mut cbc(&mut iv), key), CKR_OK);
    assert_eq!(call!(application, C_DigestInit, session, &mut plain(CKM_SHA256)), CKR_OK);
    let (start, size) = bytes(&sealed);
    let mut plaintext = out!(application, 200, C_DecryptDigestUpdate, session, start, size).unwrap();
    let last = out!(application, 16, C_DecryptFinal, session).unwrap();
    let (start, size) = bytes(&last);
    assert_eq!(call!(application, C_DigestUpdate, session, start, size), CKR_OK);
    plaintext.extend(last);
    assert_eq!(plaintext, DATA);
    assert_eq!(out!(application, 64, C_DigestFinal, session).unwrap(), sha256.as_ref());

    // Signed and encrypted; decrypted and verified.
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OK);
    assert_eq!(call!(application, C_EncryptInit, session, &mut cbc(&mut iv), key), CKR_OK);
    let (start, size) = bytes(DATA);
    let mut sealed = out!(application, 200, C_SignEncryptUpdate, session, start, size).unwrap();
    sealed.extend(out!(application, 16, C_EncryptFinal, session).unwrap());
    let signature = out!(application, 64, C_SignFinal, session).unwrap();
    assert_eq!(application.verify(session, public, DATA, &signature), CKR_OK);
    for changed in [false, true] {
        assert_eq!(call!(application, C_DecryptInit, session, &mut cbc(&mut iv), key), CKR_OK);
        assert_eq!(call!(application, C_VerifyInit, session, &mut plain(CKM_ECDSA_SHA256), public), CKR_OK);
        sealed[0] ^= u8::from(changed);
        let (start, size) = bytes(&sealed);
        out!(application, 200, C_DecryptVerifyUpdate, session, start, size).unwrap();
        let last = out!(application, 16, C_DecryptFinal, session).unwrap();
        let (start, size) = bytes(&last);
        assert_eq!(call!(application, C_VerifyUpdate, session, start, size), CKR_OK);
        let (start, size) = bytes(&signature);
        let code = call!(application, C_VerifyFinal, session, start, size);
        assert_eq!(code, if changed { CKR_SIGNATURE_INVALID } else { CKR_OK });
    }

    // A failure of one ends both.
    assert_eq!(application.sign_init(session, CKM_ECDSA, private), CKR_OK);
    assert_eq!(call!(application, C_EncryptInit, session, &mut cbc(&mut iv), key), CKR_OK);
    let (start, size) = bytes(DATA);
    let outcome = out!(application, 200, C_SignEncryptUpdate, session, start, size);
    assert_eq!(outcome, Err(CKR_DATA_LEN_RANGE), "more than CKM_ECDSA signs");
    assert_eq!(out!(application, 64, C_SignFinal, session), none);
    assert_eq!(out!(application, 64, C_EncryptFinal, session), none);
    application.finalize();
}

pub fn saved_digests(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let other = application.open(slot, 0).unwrap();
    let state = |session| out!(application, 600, C_GetOperationState, session);
    let restore = |session, state: &[u8], key: CK_OBJECT_HANDLE| {
        let (start, size) = bytes(state);
        call!(application, C_SetOperationState, session, start, size, key, 0)
    };
    assert_eq!(state(session), Err(CKR_OPERATION_NOT_INITIALIZED));
    let (head, tail) = DATA.split_at(40);
    for (mechanism, algorithm) in [
        (CKM_SHA_1, &digest::SHA1_FOR_LEGACY_USE_ONLY),
        (CKM_SHA256, &digest::SHA256),
        (CKM_SHA512, &digest::SHA512),
        (CKM_SHA3_384, &digest::SHA3_384),
    ] {
        assert_eq!(call!(application, C_DigestInit, session, &mut plain(mechanism)), CKR_OK);
        let (start, size) = bytes(head);
        assert_eq!(call!(application, C_DigestUpdate, session, start, size), CKR_OK);
        let mut short = 10;
        let mut buffer = [0; 10];
        let code = call!(application, C_GetOperationState, session, buffer.as_mut_ptr(), &mut short);
        assert_eq!((code, buffer), (CKR_BUFFER_TOO_SMALL, [0; 10]));
        let saved = state(session).unwrap();
        assert_eq!(saved.len(), short as usize);
        // Both go on, each by itself; what was under way in the other session has ended.
        assert_eq!(call!(application, C_DigestInit, other, &mut plain(CKM_SHA224)), CKR_OK);
        assert_eq!(restore(other, &saved, 0), CKR_OK);
        for (session, rest) in [(session, b"else".as_slice()), (other, tail)] {
            let expected = digest::digest(algorithm, &[head, rest].concat());
            let (start, size) = bytes(rest);
            assert_eq!(call!(application, C_DigestUpdate, session, start, size), CKR_OK);
            assert_eq!(out!(application, 64, C_DigestFinal, session).unwrap(), expected.as_ref());
        }
        assert_eq!(restore(other, &saved, 1), CKR_KEY_NOT_NEEDED);
        assert_eq!(restore(other, &saved[1..], 0), CKR_SAVED_STATE_INVALID);
        assert_eq!(restore(other, &[], 0), CKR_SAVED_STATE_INVALID);
    }
    assert_eq!(call!(application, C_SetOperationState, other, null_mut(), 9, 0, 0), CKR_ARGUMENTS_BAD);
    // What a key is in cannot be saved, and goes on.
    let (private, _) = application.generate(session, "web").unwrap();
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OK);
    assert_eq!(state(session), Err(CKR_STATE_UNSAVEABLE));
    assert_eq!(call!(application, C_DigestInit, session, &mut plain(CKM_SHA256)), CKR_OK);
    assert_eq!(state(session), Err(CKR_STATE_UNSAVEABLE));
    let (start, size) = bytes(DATA);
    assert!(out!(application, 64, C_Sign, session, start, size).is_ok());
    assert!(state(session).is_ok());
    application.finalize();
}

pub fn digested_keys(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let (private, public) = application.generate(session, "web").unwrap();
    // A secret that the application can read.
    let point = application.get(session, public, CKA_EC_POINT).unwrap();
    let mut parameters = ecdh_with(&point);
    let mut ecdh = with(CKM_ECDH1_DERIVE, &mut parameters);
    let common = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_DERIVE, TRUE)];
    let pair = [&common[..1], &[attribute(CKA_EC_PARAMS, crate::support::application::P256)]].concat();
    let (agreeing, _) = application.generate_from(session, CKM_EC_KEY_PAIR_GEN, pair, common).unwrap();
    let mut template = [
        attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
        attribute(CKA_SENSITIVE, FALSE),
        attribute(CKA_EXTRACTABLE, TRUE),
        attribute(CKA_VALUE_LEN, number(32)),
    ];
    let mut secret = 0;
    let code =
        call!(application, C_DeriveKey, session, &mut ecdh, agreeing, template.as_mut_ptr(), 5, &mut secret);
    assert_eq!(code, CKR_OK);
    let value = application.get(session, secret, CKA_VALUE).unwrap();
    let digest_of = |key| {
        assert_eq!(call!(application, C_DigestInit, session, &mut plain(CKM_SHA384)), CKR_OK);
        let (start, size) = bytes(b"and ");
        assert_eq!(call!(application, C_DigestUpdate, session, start, size), CKR_OK);
        match call!(application, C_DigestKey, session, key) {
            CKR_OK => out!(application, 64, C_DigestFinal, session),
            code => Err(code),
        }
    };
    let expected = digest::digest(&digest::SHA384, &[b"and ", &value[..]].concat());
    assert_eq!(digest_of(secret).unwrap(), expected.as_ref());
    // What stays in the partition is not digested here.
    let key = aes(&application, session);
    for stays in [key, private, public] {
        assert_eq!(digest_of(stays), Err(CKR_KEY_INDIGESTIBLE));
    }
    assert_eq!(digest_of(12345), Err(CKR_KEY_HANDLE_INVALID));
    assert_eq!(call!(application, C_DigestKey, session, secret), CKR_OPERATION_NOT_INITIALIZED);
    application.finalize();
}

pub fn known_signatures(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let (private, public) = application.generate(session, "web").unwrap();
    let signature = application.sign(session, private, DATA).unwrap();
    let init = |signature: &[u8]| {
        let (start, size) = bytes(signature);
        let mut mechanism = plain(CKM_ECDSA_SHA256);
        call!(application, C_VerifySignatureInit, session, &mut mechanism, public, start, size)
    };
    assert_eq!(init(&signature[1..]), CKR_SIGNATURE_LEN_RANGE);
    for (data, expected) in [(DATA, CKR_OK), (&DATA[1..], CKR_SIGNATURE_INVALID)] {
        assert_eq!(init(&signature), CKR_OK);
        assert_eq!(init(&signature), CKR_OPERATION_ACTIVE);
        let (start, size) = bytes(data);
        assert_eq!(call!(application, C_VerifySignature, session, start, size), expected);
        assert_eq!(init(&signature), CKR_OK);
        for part in data.chunks(11) {
            let (start, size) = bytes(part);
            assert_eq!(call!(application, C_VerifySignatureUpdate, session, start, size), CKR_OK);
        }
        assert_eq!(call!(application, C_VerifySignatureFinal, session), expected);
    }
    assert_eq!(call!(application, C_VerifySignatureFinal, session), CKR_OPERATION_NOT_INITIALIZED);
    let mut flags = 7;
    let code = call!(application, C_GetSessionValidationFlags, session, CKS_LAST_VALIDATION_OK, &mut flags);
    assert_eq!((code, flags), (CKR_OK, 0));
    application.finalize();
}
