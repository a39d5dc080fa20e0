//! Objects that stand for what the module is, the classes that it does not have, and what a token says of itself.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, FALSE, TRUE, attribute, number, plain};

fn class(class: CK_OBJECT_CLASS) -> CK_ATTRIBUTE {
    attribute(CKA_CLASS, number(class))
}

pub fn built_in(daemon: &Daemon) {
    let slot = daemon.create_partition("tls");
    let approved = daemon.create_fips_partition("fips");
    let application = Application::load();
    application.initialize();
    // No log-in.
    let session = application.open_writable(slot);
    let find = |template: &[CK_ATTRIBUTE]| application.find(session, &mut template.to_vec());
    let get = |object, kind| application.get(session, object, kind);

    let in_token = attribute(CKA_TOKEN, TRUE);
    let profiles = find(&[class(CKO_PROFILE), in_token]);
    let named: Vec<_> = profiles.iter().map(|object| get(*object, CKA_PROFILE_ID).unwrap()).collect();
    assert_eq!(named, [CKP_BASELINE_PROVIDER, CKP_EXTENDED_PROVIDER].map(|id| number(id).to_vec()));
    let baseline = attribute(CKA_PROFILE_ID, number(CKP_BASELINE_PROVIDER));
    assert_eq!(find(&[class(CKO_PROFILE), baseline]), profiles[..1]);
    let complete = attribute(CKA_PROFILE_ID, number(CKP_COMPLETE_PROVIDER));
    assert_eq!(find(&[class(CKO_PROFILE), complete]), []);
    for kind in [CKA_PRIVATE, CKA_MODIFIABLE, CKA_COPYABLE, CKA_DESTROYABLE] {
        assert_eq!(get(profiles[0], kind), Ok(FALSE.to_vec()), "{kind:#x}");
    }
    assert_eq!(get(profiles[0], CKA_LABEL), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    assert_eq!(get(profiles[0], CKA_MECHANISM_TYPE), Err(CKR_ATTRIBUTE_TYPE_INVALID));

    // A mechanism's object for each mechanism that the partition names.
    let mechanisms = |session| {
        let found = application.find(session, &mut [class(CKO_MECHANISM)]);
        let of = |object: &CK_OBJECT_HANDLE| application.get(session, *object, CKA_MECHANISM_TYPE).unwrap();
        (
            found.iter().map(of).map(|number| CK_ULONG::from_ne_bytes(number.try_into().unwrap())).collect(),
            found,
        )
    };
    let (types, objects): (Vec<_>, _) = mechanisms(session);
    assert_eq!(types, list(&application, slot.into()));
    let des3 = attribute(CKA_MECHANISM_TYPE, number(CKM_DES3_CBC));
    let of_des3 = find(&[class(CKO_MECHANISM), des3]);
    assert_eq!(of_des3.len(), 1);
    let elsewhere = application.open_writable(approved);
    let (types, left): (Vec<_>, Vec<_>) = mechanisms(elsewhere);
    assert_eq!(types, list(&application, approved.into()));
    assert!(!types.contains(&CKM_DES3_CBC) && left.len() < objects.len());
    assert_eq!(application.get(elsewhere, of_des3[0], CKA_CLASS), Err(CKR_OBJECT_HANDLE_INVALID));

    // They are found by their class only; of the other classes there is nothing, and nothing can be made.
    let without = find(&[in_token]);
    assert!(profiles.iter().chain(&objects).all(|object| !without.contains(object)));
    for other in [CKO_HW_FEATURE, CKO_DOMAIN_PARAMETERS, CKO_OTP_KEY, CKO_VALIDATION, CKO_TRUST] {
        assert_eq!(find(&[class(other)]), [], "{other:#x}");
    }
    for other in
        [CKO_HW_FEATURE, CKO_PROFILE, CKO_MECHANISM, CKO_VALIDATION, CKO_TRUST, CKO_DOMAIN_PARAMETERS]
    {
        let (mut template, mut made) = ([class(other), in_token], 0);
        let code = call!(application, C_CreateObject, session, template.as_mut_ptr(), 2, &mut made);
        assert_eq!(code, CKR_ATTRIBUTE_VALUE_INVALID, "{other:#x}");
    }

    // Nobody changes them, and no operation takes them for a key.
    for object in [profiles[0], objects[0]] {
        let (mut label, mut copy, mut size) = (attribute(CKA_LABEL, b"mine"), 0, 99);
        let prohibited = [
            call!(application, C_DestroyObject, session, object),
            call!(application, C_SetAttributeValue, session, object, &mut label, 1),
            call!(application, C_CopyObject, session, object, &mut label, 1, &mut copy),
        ];
        assert_eq!(prohibited, [CKR_ACTION_PROHIBITED; 3]);
        assert_eq!((call!(application, C_GetObjectSize, session, object, &mut size), size), (CKR_OK, 0));
        assert_eq!(application.sign_init(session, CKM_ECDSA, object), CKR_KEY_HANDLE_INVALID);
    }
    application.finalize();
}

fn list(application: &Application, slot: CK_SLOT_ID) -> Vec<CK_MECHANISM_TYPE> {
    let mut count = 0;
    assert_eq!(call!(application, C_GetMechanismList, slot, null_mut(), &mut count), CKR_OK);
    let mut list = vec![0; count as usize];
    assert_eq!(call!(application, C_GetMechanismList, slot, list.as_mut_ptr(), &mut count), CKR_OK);
    list
}

fn token_info(application: &Application, slot: u32) -> CK_TOKEN_INFO {
    // SAFETY: a structure of numbers and bytes.
    let mut info: CK_TOKEN_INFO = unsafe { std::mem::zeroed() };
    assert_eq!(call!(application, C_GetTokenInfo, slot.into(), &mut info), CKR_OK);
    info
}

/// What a token says of itself, against what is so.
pub fn token(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let reader = application.open(slot, 0).unwrap();
    let info = token_info(&application, slot);
    assert_eq!((info.ulSessionCount, info.ulRwSessionCount), (2, 1));
    assert!(info.ulMaxSessionCount >= 16_384 && info.ulMaxRwSessionCount == info.ulMaxSessionCount);
    let unavailable = [
        info.ulTotalPublicMemory,
        info.ulFreePublicMemory,
        info.ulTotalPrivateMemory,
        info.ulFreePrivateMemory,
    ];
    assert_eq!(unavailable, [CK_UNAVAILABLE_INFORMATION; 4]);
    let expected = CKF_RNG
        | CKF_LOGIN_REQUIRED
        | CKF_USER_PIN_INITIALIZED
        | CKF_TOKEN_INITIALIZED
        | CKF_DUAL_CRYPTO_OPERATIONS
        | CKF_RESTORE_KEY_NOT_NEEDED;
    assert_eq!(info.flags, expected, "no clock, no asynchronous sessions, nobody has mistyped a password");
    assert_eq!(info.utcTime, [b' '; 16], "no clock");
    assert!(info.label.starts_with(b"tls ") && info.label.ends_with(b" "));
    let mut said = CK_SESSION_INFO { slotID: 0, state: 99, flags: 0, ulDeviceError: 9 };
    for (open, flags, state) in [
        (session, CKF_SERIAL_SESSION | CKF_RW_SESSION, CKS_RW_USER_FUNCTIONS),
        (reader, CKF_SERIAL_SESSION, CKS_RO_USER_FUNCTIONS),
    ] {
        assert_eq!(call!(application, C_GetSessionInfo, open, &mut said), CKR_OK);
        assert_eq!((said.slotID, said.flags, said.state, said.ulDeviceError), (slot.into(), flags, state, 0));
    }
    assert_eq!(application.open(slot, CKF_ASYNC_SESSION), Err(CKR_SESSION_ASYNC_NOT_SUPPORTED));
    assert_eq!(token_info(&application, slot).ulSessionCount, 2, "one that was refused does not count");
    assert_eq!(call!(application, C_CloseSession, reader), CKR_OK);
    assert_eq!(token_info(&application, slot).ulSessionCount, 1);

    // A key is found by a template in it, in whatever order, and by nothing that is like it.
    let nested = |kind, inner: &[CK_ATTRIBUTE]| CK_ATTRIBUTE {
        type_: kind,
        pValue: inner.as_ptr().cast_mut().cast(),
        ulValueLen: size_of_val(inner) as CK_ULONG,
    };
    let (encrypts, aes) = (attribute(CKA_ENCRYPT, TRUE), attribute(CKA_KEY_TYPE, number(CKK_AES)));
    let given = [encrypts, aes];
    let mut template = [
        attribute(CKA_VALUE_LEN, number(32)),
        attribute(CKA_WRAP, TRUE),
        attribute(CKA_TOKEN, TRUE),
        nested(CKA_WRAP_TEMPLATE, &given),
    ];
    let (mut key, mut generate) = (0, plain(CKM_AES_KEY_GEN));
    let start = template.as_mut_ptr();
    assert_eq!(call!(application, C_GenerateKey, session, &mut generate, start, 4, &mut key), CKR_OK);
    let find = |inner: &[CK_ATTRIBUTE]| application.find(session, &mut [nested(CKA_WRAP_TEMPLATE, inner)]);
    assert_eq!((find(&given), find(&[aes, encrypts])), (vec![key], vec![key]));
    assert_eq!((find(&[encrypts]), find(&[])), (vec![], vec![]));
    assert_eq!(find(&[attribute(CKA_ENCRYPT, FALSE), aes]), []);
    assert_eq!(application.find(session, &mut [nested(CKA_UNWRAP_TEMPLATE, &given)]), []);
    // No key is marked as validated.
    let marks = application.get(session, key, CKA_OBJECT_VALIDATION_FLAGS);
    assert_eq!(marks, Ok(number(0).to_vec()));
    application.finalize();
}
