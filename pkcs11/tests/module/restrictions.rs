//! What a key's maker rules out: mechanisms, other keys, use without the password; and signatures that give back what was signed.

use std::ptr::{from_mut, null_mut};

use cryptoki_sys::*;
use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::v1::{self, ErrorCode, Login, Role, request::Op};

use crate::call;
use crate::logged_in;
use crate::support::application::{
    Application, FALSE, P256, TRUE, attribute, ecdh_with, number, plain, with,
};
use crate::support::{Daemon, USER};

fn bytes(data: &[u8]) -> (*mut CK_BYTE, CK_ULONG) {
    (data.as_ptr().cast_mut(), data.len() as CK_ULONG)
}

/// The bytes of a list of mechanisms.
fn list(mechanisms: &[CK_MECHANISM_TYPE]) -> Vec<u8> {
    mechanisms.iter().flat_map(|mechanism| mechanism.to_ne_bytes()).collect()
}

/// A template as an attribute's value.
fn nested(kind: CK_ATTRIBUTE_TYPE, inner: &[CK_ATTRIBUTE]) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: kind,
        pValue: inner.as_ptr().cast_mut().cast(),
        ulValueLen: size_of_val(inner) as CK_ULONG,
    }
}

fn rsa(
    application: &Application,
    session: CK_SESSION_HANDLE,
    more: &[CK_ATTRIBUTE],
    public: &[CK_ATTRIBUTE],
) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), CK_RV> {
    let common = [attribute(CKA_TOKEN, TRUE), attribute(CKA_MODULUS_BITS, number(2048))];
    let public = [&common[..], public].concat();
    let private = [&common[..1], more].concat();
    application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, private)
}

/// Signs with a mechanism without parameter.
fn sign(
    application: &Application,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    key: CK_OBJECT_HANDLE,
    data: &[u8],
) -> Result<Vec<u8>, CK_RV> {
    match application.sign_init(session, mechanism, key) {
        CKR_OK => finish(application, session, data),
        code => Err(code),
    }
}

fn finish(application: &Application, session: CK_SESSION_HANDLE, data: &[u8]) -> Result<Vec<u8>, CK_RV> {
    let ((start, size), mut signature, mut length) = (bytes(data), vec![0; 512], 512);
    match call!(application, C_Sign, session, start, size, signature.as_mut_ptr(), &mut length) {
        CKR_OK => {
            signature.truncate(length as usize);
            Ok(signature)
        }
        code => Err(code),
    }
}

/// The daemon itself, as one without the module in between would use it.
fn daemon_says(daemon: &Daemon, partition: u32, op: Op) -> Option<ErrorCode> {
    let mut connection = Connection::open(&daemon.socket(), "test", Deadlines::default()).unwrap();
    let login = Login {
        role: Role::CryptoUser.into(),
        user: USER.0.into(),
        password: USER.1.into(),
        ticket: Vec::new(),
    };
    connection.call(partition, Op::Login(login)).unwrap();
    connection.call(partition, op).err().map(|error| error.code().unwrap())
}

fn identity(application: &Application, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Vec<u8> {
    let text = String::from_utf8(application.get(session, key, CKA_UNIQUE_ID).unwrap()).unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub fn allowed_mechanisms(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let allowed = list(&[CKM_SHA256_RSA_PKCS, CKM_RSA_PKCS_OAEP]);
    let only = [attribute(CKA_ALLOWED_MECHANISMS, &allowed), attribute(CKA_DECRYPT, TRUE)];
    let (key, _) = rsa(&application, session, &only, &[]).unwrap();
    assert_eq!(application.get(session, key, CKA_ALLOWED_MECHANISMS).unwrap(), allowed);
    assert!(sign(&application, session, CKM_SHA256_RSA_PKCS, key, b"data").is_ok());
    for other in [CKM_RSA_PKCS, CKM_SHA384_RSA_PKCS, CKM_SHA1_RSA_PKCS] {
        assert_eq!(sign(&application, session, other, key, b"data"), Err(CKR_MECHANISM_INVALID));
    }
    let code = call!(application, C_DecryptInit, session, &mut plain(CKM_RSA_PKCS), key);
    assert_eq!(code, CKR_MECHANISM_INVALID);
    let mut oaep = CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: CKM_SHA256,
        mgf: CKG_MGF1_SHA256,
        source: CKZ_DATA_SPECIFIED,
        pSourceData: null_mut(),
        ulSourceDataLen: 0,
    };
    let mut oaep = CK_MECHANISM {
        mechanism: CKM_RSA_PKCS_OAEP,
        pParameter: from_mut(&mut oaep).cast(),
        ulParameterLen: size_of::<CK_RSA_PKCS_OAEP_PARAMS>() as CK_ULONG,
    };
    assert_eq!(call!(application, C_DecryptInit, session, &mut oaep, key), CKR_OK);
    // The module does not have to be believed.
    let raw = |data: &[u8]| {
        let (key, mechanism) = (identity(&application, session, key), v1::Mechanism::RsaPkcs.into());
        Op::Sign(v1::Sign { key, mechanism, data: data.to_vec(), ..v1::Sign::default() })
    };
    assert_eq!(daemon_says(daemon, slot, raw(b"data")), Some(ErrorCode::KeyMayNot));
    let sha256 = [strongroom_protocol::pkcs11::digest_info(v1::Hash::Sha256), &[7; 32]].concat();
    assert_eq!(daemon_says(daemon, slot, raw(&sha256)), None);
    let sha384 = [strongroom_protocol::pkcs11::digest_info(v1::Hash::Sha384), &[7; 48]].concat();
    assert_eq!(daemon_says(daemon, slot, raw(&sha384)), Some(ErrorCode::KeyMayNot));

    // A secret key, whose messages would go through the channel; and a copy of it.
    let gcm_alone = list(&[CKM_AES_CBC_PAD]);
    let mut template = [
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_VALUE_LEN, number(16)),
        attribute(CKA_ALLOWED_MECHANISMS, &gcm_alone),
    ];
    let mut secret = 0;
    let mut generate = plain(CKM_AES_KEY_GEN);
    let code =
        call!(application, C_GenerateKey, session, &mut generate, template.as_mut_ptr(), 3, &mut secret);
    assert_eq!(code, CKR_OK);
    assert_eq!(
        call!(application, C_EncryptInit, session, &mut plain(CKM_AES_ECB), secret),
        CKR_MECHANISM_INVALID
    );
    let code = call!(application, C_MessageEncryptInit, session, &mut plain(CKM_AES_GCM), secret);
    assert_eq!(code, CKR_MECHANISM_INVALID);
    let encrypt = Op::Encrypt(v1::Encrypt {
        key: identity(&application, session, secret),
        mechanism: v1::Mechanism::AesEcb.into(),
        data: vec![0; 16],
        ..v1::Encrypt::default()
    });
    assert_eq!(daemon_says(daemon, slot, encrypt), Some(ErrorCode::KeyMayNot));

    // A list of nothing, or of no mechanisms.
    for wrong in [&[][..], &[1; 7]] {
        let only = [attribute(CKA_ALLOWED_MECHANISMS, wrong)];
        assert_eq!(rsa(&application, session, &only, &[]).err(), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    }
    let mut change = attribute(CKA_ALLOWED_MECHANISMS, &gcm_alone);
    let code = call!(application, C_SetAttributeValue, session, key, &mut change, 1);
    assert_eq!(code, CKR_ATTRIBUTE_READ_ONLY);
    application.finalize();
}

pub fn always_authenticate(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let asks = [attribute(CKA_ALWAYS_AUTHENTICATE, TRUE), attribute(CKA_DECRYPT, TRUE)];
    let (key, public) = rsa(&application, session, &asks, &[attribute(CKA_ENCRYPT, TRUE)]).unwrap();
    assert_eq!(application.get(session, key, CKA_ALWAYS_AUTHENTICATE).unwrap(), TRUE);
    let confirm = |pin: &str| application.login(session, CKU_CONTEXT_SPECIFIC, pin);
    assert_eq!(confirm(USER.1), CKR_OPERATION_NOT_INITIALIZED);
    let none = Err(CKR_USER_NOT_LOGGED_IN);
    assert_eq!(sign(&application, session, CKM_SHA256_RSA_PKCS, key, b"data"), none);
    // Each password is good for one signature.
    for pin in [USER.1.to_owned(), format!("{}:{}", USER.0, USER.1)] {
        assert_eq!(application.sign_init(session, CKM_SHA256_RSA_PKCS, key), CKR_OK);
        assert_eq!(confirm("a wrong one"), CKR_PIN_INCORRECT);
        assert_eq!(confirm(&format!("another:{}", USER.1)), CKR_PIN_INCORRECT);
        assert_eq!(confirm(&pin), CKR_OK);
        let signature = finish(&application, session, b"data").unwrap();
        let code = call!(application, C_VerifyInit, session, &mut plain(CKM_SHA256_RSA_PKCS), public);
        assert_eq!(code, CKR_OK);
        let ((start, size), (mark, length)) = (bytes(b"data"), bytes(&signature));
        assert_eq!(call!(application, C_Verify, session, start, size, mark, length), CKR_OK);
        assert_eq!(sign(&application, session, CKM_SHA256_RSA_PKCS, key, b"data"), none);
    }
    // So it is for decryption, in parts and in one, and for many messages.
    assert_eq!(call!(application, C_EncryptInit, session, &mut plain(CKM_RSA_PKCS), public), CKR_OK);
    let ((start, size), mut sealed, mut length) = (bytes(b"secret"), [0; 256], 256);
    let code = call!(application, C_Encrypt, session, start, size, sealed.as_mut_ptr(), &mut length);
    assert_eq!((code, length), (CKR_OK, 256));
    for expected in [CKR_OK, CKR_USER_NOT_LOGGED_IN] {
        assert_eq!(call!(application, C_DecryptInit, session, &mut plain(CKM_RSA_PKCS), key), CKR_OK);
        if expected == CKR_OK {
            assert_eq!(confirm(USER.1), CKR_OK);
        }
        let (mut opened, mut length) = ([0; 256], 256);
        let (start, size) = bytes(&sealed);
        let code = call!(application, C_Decrypt, session, start, size, opened.as_mut_ptr(), &mut length);
        assert_eq!(code, expected);
        assert!(code != CKR_OK || &opened[..length as usize] == b"secret");
    }
    // Who asks for the size, or has too little room, gives the password once for all of it.
    for in_parts in [false, true] {
        assert_eq!(call!(application, C_DecryptInit, session, &mut plain(CKM_RSA_PKCS), key), CKR_OK);
        assert_eq!(confirm(USER.1), CKR_OK);
        let ((start, size), mut opened, mut length) = (bytes(&sealed), [0; 256], 0);
        if in_parts {
            let place = opened.as_mut_ptr();
            assert_eq!(call!(application, C_DecryptUpdate, session, start, size, place, &mut length), CKR_OK);
        }
        let mut open = |place: *mut CK_BYTE, room: CK_ULONG| {
            length = room;
            let code = match in_parts {
                false => call!(application, C_Decrypt, session, start, size, place, &mut length),
                true => call!(application, C_DecryptFinal, session, place, &mut length),
            };
            (code, length)
        };
        assert_eq!(open(null_mut(), 0).0, CKR_OK);
        for _ in 0..2 {
            assert_eq!(open(opened.as_mut_ptr(), 5), (CKR_BUFFER_TOO_SMALL, 6));
        }
        assert_eq!(open(opened.as_mut_ptr(), 6), (CKR_OK, 6));
        assert_eq!(open(opened.as_mut_ptr(), 6).0, CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(&opened[..6], b"secret");
    }
    // What was made for one log-in is not for the next.
    assert_eq!(call!(application, C_DecryptInit, session, &mut plain(CKM_RSA_PKCS), key), CKR_OK);
    assert_eq!(confirm(USER.1), CKR_OK);
    let ((start, size), mut opened) = (bytes(&sealed), [0; 256]);
    let mut open = |mut room: CK_ULONG| {
        call!(application, C_Decrypt, session, start, size, opened.as_mut_ptr(), &mut room)
    };
    assert_eq!(open(5), CKR_BUFFER_TOO_SMALL);
    assert_eq!(call!(application, C_Logout, session), CKR_OK);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    assert_eq!(open(6), CKR_USER_NOT_LOGGED_IN);
    // Nor is the handle.
    let code = call!(application, C_MessageSignInit, session, &mut plain(CKM_SHA256_RSA_PKCS), key);
    assert_eq!(code, CKR_KEY_HANDLE_INVALID);
    let mut asking =
        [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)), attribute(CKA_ALWAYS_AUTHENTICATE, TRUE)];
    let key = application.find(session, &mut asking)[0];
    let code = call!(application, C_MessageSignInit, session, &mut plain(CKM_SHA256_RSA_PKCS), key);
    assert_eq!(code, CKR_OK);
    for expected in [CKR_OK, CKR_USER_NOT_LOGGED_IN, CKR_OK] {
        if expected == CKR_OK {
            assert_eq!(confirm(USER.1), CKR_OK);
        }
        let ((start, size), mut mark, mut length) = (bytes(b"data"), [0; 256], 256);
        let place = mark.as_mut_ptr();
        let code = call!(application, C_SignMessage, session, null_mut(), 0, start, size, place, &mut length);
        assert_eq!(code, expected);
    }
    // The daemon asks too: with no ticket, with any bytes, and over the channel's way the module does not even try.
    for ticket in [Vec::new(), vec![7; 32]] {
        let request = v1::Sign {
            key: identity(&application, session, key),
            mechanism: v1::Mechanism::RsaPkcs.into(),
            data: vec![1; 20],
            ticket,
            ..v1::Sign::default()
        };
        assert_eq!(daemon_says(daemon, slot, Op::Sign(request)), Some(ErrorCode::UseNotAuthenticated));
    }
    // What has no place for a password is not for such a key.
    let derives = vec![
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_ALWAYS_AUTHENTICATE, TRUE),
        attribute(CKA_DERIVE, TRUE),
    ];
    let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_EC_PARAMS, P256)];
    let refused = application.generate_from(session, CKM_EC_KEY_PAIR_GEN, public, derives);
    assert_eq!(refused.err(), Some(CKR_TEMPLATE_INCONSISTENT));
    application.finalize();
}

pub fn recovery(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let private =
        [attribute(CKA_SIGN_RECOVER, TRUE), attribute(CKA_SIGN, FALSE), attribute(CKA_DECRYPT, TRUE)];
    let public = [attribute(CKA_VERIFY_RECOVER, TRUE)];
    let (key, other) = rsa(&application, session, &private, &public).unwrap();
    assert_eq!(application.get(session, key, CKA_SIGN_RECOVER).unwrap(), TRUE);
    assert_eq!(application.get(session, other, CKA_VERIFY_RECOVER).unwrap(), TRUE);
    let not = CKR_KEY_FUNCTION_NOT_PERMITTED;
    assert_eq!(application.sign_init(session, CKM_RSA_PKCS, key), not, "CKA_SIGN is another permission");
    let block = [&[0; 200][..], &[7; 56]].concat();
    for (mechanism, data, recovered) in [
        (CKM_RSA_PKCS, b"what was signed".as_slice(), b"what was signed".as_slice()),
        (CKM_RSA_X_509, &[7; 56], &block),
    ] {
        assert_eq!(call!(application, C_SignRecoverInit, session, &mut plain(mechanism), key), CKR_OK);
        let ((start, size), mut signature, mut length) = (bytes(data), [0; 256], 0);
        let code = call!(application, C_SignRecover, session, start, size, null_mut(), &mut length);
        assert_eq!((code, length), (CKR_OK, 256));
        let code =
            call!(application, C_SignRecover, session, start, size, signature.as_mut_ptr(), &mut length);
        assert_eq!(code, CKR_OK);
        for changed in [false, true] {
            signature[200] ^= u8::from(changed);
            let code = call!(application, C_VerifyRecoverInit, session, &mut plain(mechanism), other);
            assert_eq!(code, CKR_OK);
            let ((mark, size), mut out, mut length) = (bytes(&signature), [0; 256], 3);
            let mut recover = |length: &mut CK_ULONG| {
                call!(application, C_VerifyRecover, session, mark, size, out.as_mut_ptr(), length)
            };
            match changed {
                false => {
                    assert_eq!(recover(&mut length), CKR_BUFFER_TOO_SMALL);
                    assert_eq!((recover(&mut length), &out[..length as usize]), (CKR_OK, recovered));
                }
                true if mechanism == CKM_RSA_PKCS => assert_eq!(recover(&mut length), CKR_SIGNATURE_INVALID),
                // Without padding anything is a signature of something.
                true => assert!(matches!(recover(&mut length), CKR_BUFFER_TOO_SMALL | CKR_SIGNATURE_INVALID)),
            }
            let cancel = CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER;
            assert_eq!(call!(application, C_SessionCancel, session, cancel), CKR_OK);
        }
    }
    let code = call!(application, C_SignRecoverInit, session, &mut plain(CKM_SHA256_RSA_PKCS), key);
    assert_eq!(code, CKR_MECHANISM_INVALID);
    // Only where somebody has said so.
    let (plain_key, plain_public) = rsa(&application, session, &[], &[]).unwrap();
    assert_eq!(call!(application, C_SignRecoverInit, session, &mut plain(CKM_RSA_PKCS), plain_key), not);
    assert_eq!(call!(application, C_VerifyRecoverInit, session, &mut plain(CKM_RSA_PKCS), plain_public), not);
    application.finalize();
}

pub fn templates(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let aes = [attribute(CKA_CLASS, number(CKO_SECRET_KEY)), attribute(CKA_KEY_TYPE, number(CKK_AES))];
    let inner_wrap = [attribute(CKA_KEY_TYPE, number(CKK_AES)), attribute(CKA_ENCRYPT, TRUE)];
    let inner_unwrap = [attribute(CKA_EXTRACTABLE, FALSE), attribute(CKA_LABEL, b"came in")];
    let generate = |more: &[CK_ATTRIBUTE]| {
        let common = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(32))];
        let (mut template, mut key) = ([&common[..], more].concat(), 0);
        let count = template.len() as CK_ULONG;
        let mut mechanism = plain(CKM_AES_KEY_GEN);
        match call!(
            application,
            C_GenerateKey,
            session,
            &mut mechanism,
            template.as_mut_ptr(),
            count,
            &mut key
        ) {
            CKR_OK => Ok(key),
            code => Err(code),
        }
    };
    let wrapping = generate(&[
        attribute(CKA_WRAP, TRUE),
        attribute(CKA_UNWRAP, TRUE),
        nested(CKA_WRAP_TEMPLATE, &inner_wrap),
        nested(CKA_UNWRAP_TEMPLATE, &inner_unwrap),
    ])
    .unwrap();
    let wrap = |key| {
        let (mut wrapped, mut length) = (vec![0; 600], 600);
        let mut mechanism = plain(CKM_AES_KEY_WRAP_KWP);
        let place = wrapped.as_mut_ptr();
        match call!(application, C_WrapKey, session, &mut mechanism, wrapping, key, place, &mut length) {
            CKR_OK => {
                wrapped.truncate(length as usize);
                Ok(wrapped)
            }
            code => Err(code),
        }
    };
    let leaves = attribute(CKA_EXTRACTABLE, TRUE);
    let wrapped = wrap(generate(&[leaves]).unwrap()).unwrap();
    let other = generate(&[leaves, attribute(CKA_ENCRYPT, FALSE)]).unwrap();
    assert_eq!(wrap(other), Err(CKR_KEY_HANDLE_INVALID), "the template wants keys that encrypt");

    let unwrap = |more: &[CK_ATTRIBUTE]| {
        let (mut template, mut key) = ([&aes[..], &[attribute(CKA_TOKEN, TRUE)], more].concat(), 0);
        let (mut mechanism, count) = (plain(CKM_AES_KEY_WRAP_KWP), template.len() as CK_ULONG);
        let (start, size) = bytes(&wrapped);
        let code = call!(
            application,
            C_UnwrapKey,
            session,
            &mut mechanism,
            wrapping,
            start,
            size,
            template.as_mut_ptr(),
            count,
            &mut key
        );
        if code == CKR_OK { Ok(key) } else { Err(code) }
    };
    assert_eq!(unwrap(&[leaves]), Err(CKR_TEMPLATE_INCONSISTENT));
    let key = unwrap(&[]).unwrap();
    assert_eq!(application.get(session, key, CKA_EXTRACTABLE).unwrap(), FALSE);
    assert_eq!(application.get(session, key, CKA_LABEL).unwrap(), b"came in");

    // Read as arrays of attributes: how many, then how long each is, then all.
    let mut whole = attribute(CKA_UNWRAP_TEMPLATE, &[]);
    whole.pValue = null_mut();
    let read =
        |whole: &mut CK_ATTRIBUTE| call!(application, C_GetAttributeValue, session, wrapping, whole, 1);
    assert_eq!((read(&mut whole), whole.ulValueLen), (CKR_OK, 2 * size_of::<CK_ATTRIBUTE>() as CK_ULONG));
    let empty = CK_ATTRIBUTE { type_: 0, pValue: null_mut(), ulValueLen: 0 };
    let mut inner = [empty; 2];
    whole.pValue = inner.as_mut_ptr().cast();
    assert_eq!(read(&mut whole), CKR_OK);
    let found: Vec<_> = inner.iter().map(|one| (one.type_, one.ulValueLen)).collect();
    assert_eq!(found, [(CKA_EXTRACTABLE, 1), (CKA_LABEL, 7)]);
    let (mut flag, mut label) = ([9; 1], [0; 7]);
    inner[0].pValue = flag.as_mut_ptr().cast();
    inner[1].pValue = label.as_mut_ptr().cast();
    whole.pValue = inner.as_mut_ptr().cast();
    assert_eq!((read(&mut whole), flag, &label), (CKR_OK, [CK_FALSE], b"came in"));
    inner[1].ulValueLen = 6;
    whole.pValue = inner.as_mut_ptr().cast();
    assert_eq!((read(&mut whole), inner[1].ulValueLen), (CKR_BUFFER_TOO_SMALL, CK_UNAVAILABLE_INFORMATION));
    whole.ulValueLen = 1;
    assert_eq!(read(&mut whole), CKR_BUFFER_TOO_SMALL);

    // Derived keys: what comes out of C_DeriveKey can be read, and this key is for others.
    let inner_derive = [attribute(CKA_EXTRACTABLE, FALSE)];
    let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_EC_PARAMS, P256)];
    let private = vec![
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_DERIVE, TRUE),
        nested(CKA_DERIVE_TEMPLATE, &inner_derive),
    ];
    let (base, peer) = application.generate_from(session, CKM_EC_KEY_PAIR_GEN, public, private).unwrap();
    let point = application.get(session, peer, CKA_EC_POINT).unwrap();
    let mut parameters = ecdh_with(&point);
    let mut ecdh = with(CKM_ECDH1_DERIVE, &mut parameters);
    let mut template = [attribute(CKA_EXTRACTABLE, TRUE), attribute(CKA_SENSITIVE, FALSE)];
    let mut derived = 0;
    let code =
        call!(application, C_DeriveKey, session, &mut ecdh, base, template.as_mut_ptr(), 2, &mut derived);
    assert_eq!(code, CKR_TEMPLATE_INCONSISTENT);

    // What is no template, one in another, one of what no key has.
    let odd = CK_ATTRIBUTE { ulValueLen: 25, ..nested(CKA_WRAP_TEMPLATE, &inner_wrap) };
    assert_eq!(generate(&[odd]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    let deep = [nested(CKA_WRAP_TEMPLATE, &inner_wrap)];
    assert_eq!(generate(&[nested(CKA_UNWRAP_TEMPLATE, &deep)]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    let none = [attribute(CKA_SUBJECT, b"x")];
    assert_eq!(generate(&[nested(CKA_WRAP_TEMPLATE, &none)]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    application.finalize();
}

/// Public keys are used without a log-in.
pub fn without_log_in(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let (key, _) = rsa(
        &application,
        session,
        &[attribute(CKA_DECRYPT, TRUE)],
        &[attribute(CKA_ENCRYPT, TRUE), attribute(CKA_LABEL, b"open")],
    )
    .unwrap();
    assert_eq!(call!(application, C_Logout, session), CKR_OK);
    let public = application.find(session, &mut [attribute(CKA_LABEL, b"open")])[0];
    assert_eq!(call!(application, C_EncryptInit, session, &mut plain(CKM_RSA_PKCS), public), CKR_OK);
    let ((start, size), mut sealed, mut length) = (bytes(b"from anybody"), [0; 256], 256);
    let code = call!(application, C_Encrypt, session, start, size, sealed.as_mut_ptr(), &mut length);
    assert_eq!(code, CKR_OK);
    assert_eq!(
        call!(application, C_DecryptInit, session, &mut plain(CKM_RSA_PKCS), key),
        CKR_KEY_HANDLE_INVALID
    );
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    let key = application.find(session, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))])[0];
    assert_eq!(call!(application, C_DecryptInit, session, &mut plain(CKM_RSA_PKCS), key), CKR_OK);
    let (start, size) = bytes(&sealed);
    let (mut opened, mut length) = ([0; 256], 256);
    let code = call!(application, C_Decrypt, session, start, size, opened.as_mut_ptr(), &mut length);
    assert_eq!((code, &opened[..length as usize]), (CKR_OK, b"from anybody".as_slice()));

    application.finalize();
}
