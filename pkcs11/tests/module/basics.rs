//! Slots, mechanisms, users by name, certificates' attributes: what every application asks for first.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use cryptoki_sys::*;
use strongroom_pkcs11::mechanism::MECHANISMS;

use crate::call;
use crate::logged_in;
use crate::support::application::{Application, TRUE, attribute, number, plain};
use crate::support::{Daemon, OFFICER, USER};

pub fn basics(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    slots(&application, slot.into());
    certificates(&application, session);
    older_mechanisms(&application, session);
    assert_eq!(
        call!(application, C_SeedRandom, session, [1; 4].as_mut_ptr(), 4),
        CKR_RANDOM_SEED_NOT_SUPPORTED
    );
    assert_eq!(call!(application, C_GetFunctionStatus, session), CKR_FUNCTION_NOT_PARALLEL);
    assert_eq!(call!(application, C_CancelFunction, session), CKR_FUNCTION_NOT_PARALLEL);
    users(&application, session);
    application.finalize();
}

fn slots(application: &Application, slot: CK_SLOT_ID) {
    // SAFETY: structures of numbers and bytes.
    let (mut info, mut mechanism): (CK_SLOT_INFO, CK_MECHANISM_INFO) = unsafe { std::mem::zeroed() };
    assert_eq!(call!(application, C_GetSlotInfo, slot, &mut info), CKR_OK);
    assert_eq!(info.flags, CKF_TOKEN_PRESENT);
    assert!(info.slotDescription.starts_with(format!("Strongroom partition {slot} ").as_bytes()));
    assert!(info.manufacturerID.ends_with(b" "), "padded with blanks");
    let mut count = 0;
    assert_eq!(call!(application, C_GetMechanismList, slot, std::ptr::null_mut(), &mut count), CKR_OK);
    let mut list = vec![0; count as usize];
    assert_eq!(call!(application, C_GetMechanismList, slot, list.as_mut_ptr(), &mut count), CKR_OK);
    assert_eq!(list, MECHANISMS.iter().map(|entry| entry.mechanism).collect::<Vec<_>>());
    for number in list {
        assert_eq!(call!(application, C_GetMechanismInfo, slot, number, &mut mechanism), CKR_OK);
        assert!(mechanism.flags != 0 && mechanism.ulMinKeySize <= mechanism.ulMaxKeySize);
    }
}

/// A certificate's skeleton: every field in place and almost empty.
fn certificate() -> Vec<u8> {
    let sequence = |inner: &[u8]| [&[0x30, inner.len() as u8], inner].concat();
    let fields = b"\x02\x01\x07\x30\x00\x30\x02\x05\x00\x30\x00\x30\x03\x02\x01\x01\x30\x03\x02\x01\x02";
    sequence(&[sequence(fields), b"\x30\x00\x03\x01\x00".to_vec()].concat())
}

fn certificates(application: &Application, session: CK_SESSION_HANDLE) {
    let der = certificate();
    let date = b"20261231";
    let given = [
        attribute(CKA_CLASS, number(CKO_CERTIFICATE)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_VALUE, &der),
        attribute(CKA_END_DATE, date),
        attribute(CKA_URL, b"https://example.org/certificate"),
        attribute(CKA_HASH_OF_SUBJECT_PUBLIC_KEY, &[1; 20]),
        attribute(CKA_HASH_OF_ISSUER_PUBLIC_KEY, &[2; 20]),
        attribute(CKA_NAME_HASH_ALGORITHM, number(CKM_SHA256)),
        attribute(CKA_CERTIFICATE_CATEGORY, number(CK_CERTIFICATE_CATEGORY_AUTHORITY)),
        attribute(CKA_JAVA_MIDP_SECURITY_DOMAIN, number(CK_SECURITY_DOMAIN_OPERATOR)),
    ];
    let create = |template: &[CK_ATTRIBUTE]| {
        let (mut template, mut object) = (template.to_vec(), 0);
        let count = template.len() as CK_ULONG;
        match call!(application, C_CreateObject, session, template.as_mut_ptr(), count, &mut object) {
            CKR_OK => Ok(object),
            code => Err(code),
        }
    };
    let object = create(&given).unwrap();
    for wanted in &given {
        let found = application.get(session, object, wanted.type_).unwrap();
        // SAFETY: the template's own values, which live.
        let wanted =
            unsafe { std::slice::from_raw_parts(wanted.pValue.cast::<u8>(), wanted.ulValueLen as usize) };
        assert_eq!(found, wanted);
    }
    // What stands in the certificate.
    let check = digest(&SHA1_FOR_LEGACY_USE_ONLY, &der);
    for (kind, expected) in [
        (CKA_CERTIFICATE_TYPE, number(CKC_X_509)),
        (CKA_ISSUER, b"\x30\x02\x05\x00"),
        (CKA_SUBJECT, b"\x30\x03\x02\x01\x01"),
        (CKA_SERIAL_NUMBER, b"\x02\x01\x07"),
        (CKA_CHECK_VALUE, &check.as_ref()[..3]),
    ] {
        assert_eq!(application.get(session, object, kind).unwrap(), expected, "{kind:#x}");
    }
    let other = attribute(CKA_ISSUER, b"\x30\x00");
    assert_eq!(create(&[&given[..3], &[other]].concat()), Err(CKR_TEMPLATE_INCONSISTENT));
    // An attribute certificate.
    let other = attribute(CKA_CERTIFICATE_TYPE, number(CKC_X_509_ATTR_CERT));
    assert_eq!(create(&[&given[..3], &[other]].concat()), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    // Data, with the identifier of what it is; and how much there is of it.
    let identifier = b"\x06\x03\x2a\x03\x04";
    let data = create(&[
        attribute(CKA_CLASS, number(CKO_DATA)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_OBJECT_ID, identifier),
        attribute(CKA_VALUE, &[7; 1000]),
    ])
    .unwrap();
    assert_eq!(application.get(session, data, CKA_OBJECT_ID).unwrap(), identifier);
    let mut size = 0;
    assert_eq!(call!(application, C_GetObjectSize, session, data, &mut size), CKR_OK);
    assert!((1000..2000).contains(&size), "{size}");
}

fn signature(
    application: &Application,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    key: CK_OBJECT_HANDLE,
) -> Vec<u8> {
    assert_eq!(application.sign_init(session, mechanism, key), CKR_OK);
    let (mut signature, mut length) = (vec![0; 512], 512);
    let place = signature.as_mut_ptr();
    let code = call!(application, C_Sign, session, b"data".as_ptr().cast_mut(), 4, place, &mut length);
    assert_eq!(code, CKR_OK);
    signature.truncate(length as usize);
    signature
}

/// What another library verifies.
fn older_mechanisms(application: &Application, session: CK_SESSION_HANDLE) {
    let token = attribute(CKA_TOKEN, TRUE);
    let public = vec![token, attribute(CKA_MODULUS_BITS, number(2048))];
    let (key, public) =
        application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, vec![token]).unwrap();
    let made = signature(application, session, CKM_SHA1_RSA_PKCS, key);
    let [n, e] =
        [CKA_MODULUS, CKA_PUBLIC_EXPONENT].map(|kind| application.get(session, public, kind).unwrap());
    RsaPublicKeyComponents { n, e }
        .verify(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, b"data", &made)
        .unwrap();
    // On curves the digest is a number: of SHA-1 and of SHA-224 the module makes the one, and verifies what it made elsewhere.
    let (key, public) = application.generate(session, "web").unwrap();
    for mechanism in [CKM_ECDSA_SHA1, CKM_ECDSA_SHA224] {
        let made = signature(application, session, mechanism, key);
        let hashed = match mechanism {
            CKM_ECDSA_SHA1 => digest(&SHA1_FOR_LEGACY_USE_ONLY, b"data"),
            _ => digest(&aws_lc_rs::digest::SHA224, b"data"),
        };
        assert_eq!(call!(application, C_VerifyInit, session, &mut plain(CKM_ECDSA), public), CKR_OK);
        let (start, size) = (hashed.as_ref().as_ptr().cast_mut(), hashed.as_ref().len() as CK_ULONG);
        let (mark, length) = (made.as_ptr().cast_mut(), made.len() as CK_ULONG);
        assert_eq!(call!(application, C_Verify, session, start, size, mark, length), CKR_OK);
    }
    let point = application.get(session, public, CKA_EC_POINT).unwrap()[2..].to_vec();
    let made = application.sign(session, key, b"data").unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(b"data", &made).unwrap();
    let public = vec![token, attribute(CKA_EC_PARAMS, b"\x06\x03\x2b\x65\x70")];
    let (key, public) =
        application.generate_from(session, CKM_EC_EDWARDS_KEY_PAIR_GEN, public, vec![token]).unwrap();
    let point = application.get(session, public, CKA_EC_POINT).unwrap()[2..].to_vec();
    let made = signature(application, session, CKM_EDDSA, key);
    UnparsedPublicKey::new(&ED25519, point).verify(b"data", &made).unwrap();
}

/// Users by name, and their passwords as the standard's PINs.
fn users(application: &Application, session: CK_SESSION_HANDLE) {
    let bytes = |text: &str| (text.as_ptr().cast_mut(), text.len() as CK_ULONG);
    let login = |kind, name: &str, password: &str| {
        let ((pin, length), (user, size)) = (bytes(password), bytes(name));
        call!(application, C_LoginUser, session, kind, pin, length, user, size)
    };
    let logout = || assert_eq!(call!(application, C_Logout, session), CKR_OK);
    logout();
    assert_eq!(login(CKU_USER, "nobody", USER.1), CKR_PIN_INCORRECT);
    // The officer makes a user, whose PIN has to be changed first.
    assert_eq!(login(CKU_SO, OFFICER.0, OFFICER.1), CKR_OK);
    let (pin, length) = bytes("carol:carols-first-one");
    assert_eq!(call!(application, C_InitPIN, session, pin, length), CKR_OK);
    logout();
    assert_eq!(login(CKU_USER, "carol", "carols-first-one"), CKR_OK);
    assert_eq!(application.generate(session, "too early").err(), Some(CKR_PIN_EXPIRED));
    let ((old, old_length), (new, new_length)) = (bytes("carols-first-one"), bytes("carols-second-one"));
    assert_eq!(call!(application, C_SetPIN, session, old, old_length, new, new_length), CKR_OK);
    assert!(application.generate(session, "carol's").is_ok());
    logout();
    assert_eq!(login(CKU_USER, "carol", "carols-first-one"), CKR_PIN_INCORRECT);
    assert_eq!(login(CKU_USER, "carol", "carols-second-one"), CKR_OK);
    logout();
    // The others' are theirs; a password with a colon needs no care here.
    assert_eq!(login(CKU_USER, USER.0, "carols-second-one"), CKR_PIN_INCORRECT);
    assert_eq!(login(CKU_USER, USER.0, USER.1), CKR_OK);
}
