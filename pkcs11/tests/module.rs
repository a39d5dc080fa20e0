//! The C library as an application sees it: loaded, called through the function list, forked, with the daemon
//! coming and going.

#![allow(clippy::macro_metavars_in_unsafe, reason = "the application's calls are what is unsafe")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::mem::offset_of;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use cryptoki_sys::*;
use support::application::{Application, FALSE, P256, TRUE, attribute, number, plain};
use support::{Daemon, OFFICER, USER, in_own_process};

/// Runs one of the scenarios below, in the process that [`in_own_process`] starts for it.
#[test]
#[ignore = "the other tests run it, each in a process of its own"]
fn scenario() {
    let Some((name, daemon)) = support::scenario() else { return };
    match name.as_str() {
        "null pointers" => null_pointers(&daemon),
        "sessions" => sessions(&daemon),
        "objects" => objects(&daemon),
        "templates" => templates(&daemon),
        "signatures" => signatures(&daemon),
        "fork" => fork(&daemon),
        "fork while busy" => fork_while_busy(&daemon),
        "restart" => restart(daemon),
        "password changed" => password_changed(daemon),
        "away" => away(daemon),
        other => panic!("no scenario {other}"),
    }
}

macro_rules! scenarios {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            in_own_process($name);
        }
    )*};
}

scenarios! {
    null_pointers_are_errors: "null pointers";
    sessions_and_log_in_follow_the_standard: "sessions";
    objects_are_found_and_read_attribute_by_attribute: "objects";
    wrong_templates_are_refused: "templates";
    signatures_are_made_in_parts_and_verified: "signatures";
    a_child_starts_anew_and_leaves_its_parent_alone: "fork";
    a_fork_while_other_threads_sign_blocks_nobody: "fork while busy";
    a_restart_of_the_daemon_is_not_noticed: "restart";
    a_password_that_no_longer_fits_is_tried_once: "password changed";
    a_daemon_that_is_away_is_an_error_until_it_is_back: "away";
}

/// A partition and an application with a writable session on it, logged in.
fn logged_in(daemon: &Daemon) -> (Application, u32, CK_SESSION_HANDLE) {
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    application.initialize();
    let session = application.open_writable(slot);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    (application, slot, session)
}

// ---------------------------------------------------------------- bad arguments

type AnyFunction =
    unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize, usize) -> CK_RV;

/// Calls each function of the list with `first` and zeros, but for those at the offsets in `except`.
fn call_all(application: &Application, first: CK_ULONG, except: &[usize]) {
    let list = std::ptr::from_ref(application.list).cast::<usize>();
    let words = size_of::<CK_FUNCTION_LIST_3_0>() / size_of::<usize>();
    for word in 1..words {
        if except.contains(&(word * size_of::<usize>())) {
            continue;
        }
        // SAFETY: after the version the list consists of function pointers. Each is called with at least as
        // many arguments as it has, all passed as words, as the C calling conventions of Linux allow.
        let code = unsafe {
            let function = std::mem::transmute::<usize, AnyFunction>(*list.add(word));
            function(first as usize, 0, 0, 0, 0, 0, 0, 0, 0)
        };
        assert_ne!(code, CKR_OK, "function {word} of the list with {first:#x} and nulls");
        assert_ne!(code, CKR_GENERAL_ERROR, "function {word} of the list panicked");
    }
}

macro_rules! offsets {
    ($($function:ident),*) => { [$(offset_of!(CK_FUNCTION_LIST_3_0, $function)),*] };
}

fn null_pointers(daemon: &Daemon) {
    let application = Application::load();
    call_all(&application, 0, &offsets!(C_Initialize));
    let slot = daemon.create_partition("tls");
    application.initialize();
    call_all(&application, 0, &offsets!(C_Initialize, C_Finalize));
    // With a session or slot that exists, everything that needs more than that.
    let session = application.open_writable(slot);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    // These need no more, or take nothing for an answer (an empty template finds all).
    let complete = offsets!(
        C_Initialize,
        C_Finalize,
        C_CloseSession,
        C_CloseAllSessions,
        C_Logout,
        C_SessionCancel,
        C_FindObjectsInit,
        C_FindObjectsFinal
    );
    call_all(&application, session, &complete);
    call_all(&application, slot.into(), &complete);
    call_all(&application, CK_ULONG::MAX, &offsets!(C_Initialize, C_Finalize));

    // Operations that are under way.
    let (private, public) = application.generate(session, "web").unwrap();
    assert_eq!(application.sign_init(session, CKM_ECDSA, private), CKR_OK);
    assert_eq!(call!(application, C_Sign, session, null_mut(), 4, null_mut(), null_mut()), CKR_ARGUMENTS_BAD);
    assert_eq!(application.sign_init(session, CKM_ECDSA, private), CKR_OK, "an error ends the operation");
    assert_eq!(call!(application, C_SignUpdate, session, null_mut(), 4), CKR_ARGUMENTS_BAD);
    assert_eq!(call!(application, C_VerifyInit, session, &mut plain(CKM_ECDSA), public), CKR_OK);
    assert_eq!(call!(application, C_Verify, session, null_mut(), 4, null_mut(), 64), CKR_ARGUMENTS_BAD);
    assert_eq!(call!(application, C_DigestInit, session, &mut plain(CKM_SHA256)), CKR_OK);
    assert_eq!(call!(application, C_DigestFinal, session, null_mut(), null_mut()), CKR_ARGUMENTS_BAD);
    assert_eq!(call!(application, C_FindObjectsInit, session, null_mut(), 0), CKR_OK);
    assert_eq!(call!(application, C_FindObjects, session, null_mut(), 1, null_mut()), CKR_ARGUMENTS_BAD);
    let mut count = 0;
    assert_eq!(call!(application, C_FindObjects, session, null_mut(), 1, &mut count), CKR_ARGUMENTS_BAD);
    application.finalize();
}

// ---------------------------------------------------------------- sessions

fn sessions(daemon: &Daemon) {
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    assert_eq!(call!(application, C_GetSlotList, CK_TRUE, null_mut(), &mut 0), CKR_CRYPTOKI_NOT_INITIALIZED);
    application.initialize();
    assert_eq!(call!(application, C_Initialize, null_mut()), CKR_CRYPTOKI_ALREADY_INITIALIZED);

    let (mut slots, mut count) = ([0; 4], 0);
    assert_eq!(call!(application, C_GetSlotList, CK_TRUE, null_mut(), &mut count), CKR_OK);
    assert_eq!(count, 1);
    count = 0;
    assert_eq!(
        call!(application, C_GetSlotList, CK_TRUE, slots.as_mut_ptr(), &mut count),
        CKR_BUFFER_TOO_SMALL
    );
    count = 4;
    assert_eq!(call!(application, C_GetSlotList, CK_TRUE, slots.as_mut_ptr(), &mut count), CKR_OK);
    assert_eq!((count, slots[0]), (1, slot.into()));

    assert_eq!(application.open(slot + 7, 0), Err(CKR_SLOT_ID_INVALID));
    let mut session = 0;
    assert_eq!(
        call!(application, C_OpenSession, slot.into(), 0, null_mut(), None, &mut session),
        CKR_SESSION_PARALLEL_NOT_SUPPORTED
    );
    let reader = application.open(slot, 0).unwrap();
    let writer = application.open_writable(slot);
    assert_eq!(
        (application.state(reader), application.state(writer)),
        (CKS_RO_PUBLIC_SESSION, CKS_RW_PUBLIC_SESSION)
    );
    assert_eq!(call!(application, C_Logout, writer), CKR_USER_NOT_LOGGED_IN);
    assert_eq!(application.generate(writer, "web"), Err(CKR_USER_NOT_LOGGED_IN));
    assert_eq!(application.login(reader, CKU_USER, "wrong-secret"), CKR_PIN_INCORRECT);
    assert_eq!(application.login(reader, CKU_USER, ""), CKR_PIN_INCORRECT);
    assert_eq!(application.login(reader, CKU_CONTEXT_SPECIFIC, USER.1), CKR_OPERATION_NOT_INITIALIZED);
    assert_eq!(application.login(reader, 77, USER.1), CKR_USER_TYPE_INVALID);
    assert_eq!(application.login(reader, CKU_SO, OFFICER.1), CKR_SESSION_READ_ONLY_EXISTS);
    assert_eq!(application.login(reader, CKU_USER, "user:user-secret"), CKR_OK);
    assert_eq!(
        (application.state(reader), application.state(writer)),
        (CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS)
    );
    assert_eq!(application.login(writer, CKU_USER, USER.1), CKR_USER_ALREADY_LOGGED_IN);
    assert_eq!(application.login(writer, CKU_SO, OFFICER.1), CKR_USER_ANOTHER_ALREADY_LOGGED_IN);
    assert_eq!(application.generate(reader, "web"), Err(CKR_SESSION_READ_ONLY));
    let (key, _) = application.generate(writer, "web").unwrap();
    assert!(application.sign(reader, key, b"data").is_ok());

    // After log-out the key is there for nobody.
    assert_eq!(call!(application, C_Logout, writer), CKR_OK);
    assert_eq!(application.state(writer), CKS_RW_PUBLIC_SESSION);
    assert_eq!(application.sign(reader, key, b"data"), Err(CKR_KEY_HANDLE_INVALID));
    assert_eq!(application.find(reader, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))]), []);

    // The log-in ends with the last session.
    assert_eq!(application.login(writer, CKU_USER, USER.1), CKR_OK);
    assert_eq!(call!(application, C_CloseSession, reader), CKR_OK);
    assert_eq!(call!(application, C_CloseSession, reader), CKR_SESSION_HANDLE_INVALID);
    assert_eq!(application.state(writer), CKS_RW_USER_FUNCTIONS);
    assert_eq!(call!(application, C_CloseAllSessions, slot.into()), CKR_OK);
    let writer = application.open_writable(slot);
    assert_eq!(application.state(writer), CKS_RW_PUBLIC_SESSION);

    // The crypto officer.
    assert_eq!(application.login(writer, CKU_SO, OFFICER.1), CKR_OK);
    assert_eq!(application.state(writer), CKS_RW_SO_FUNCTIONS);
    assert_eq!(application.open(slot, 0), Err(CKR_SESSION_READ_WRITE_SO_EXISTS));
    assert_eq!(application.generate(writer, "web"), Err(CKR_USER_NOT_LOGGED_IN));

    application.finalize();
    assert_eq!(call!(application, C_Finalize, null_mut()), CKR_CRYPTOKI_NOT_INITIALIZED);
    application.initialize();
    let mut info = CK_SESSION_INFO { slotID: 0, state: 0, flags: 0, ulDeviceError: 0 };
    assert_eq!(call!(application, C_GetSessionInfo, writer, &mut info), CKR_SESSION_HANDLE_INVALID);
}

// ---------------------------------------------------------------- objects

fn objects(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let (private, public) = application.generate(session, "web").unwrap();
    let (other, _) = application.generate(session, "mail").unwrap();

    let class = attribute(CKA_CLASS, number(CKO_PRIVATE_KEY));
    assert_eq!(application.find(session, &mut [class]), [private, other]);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_LABEL, b"web")]), [private]);
    assert_eq!(application.find(session, &mut [attribute(CKA_LABEL, b"web")]).len(), 2);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_LABEL, b"we")]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_LABEL, &[0xff])]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_KEY_TYPE, number(CKK_RSA))]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_DECRYPT, TRUE)]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_TOKEN, FALSE)]), []);
    assert_eq!(application.find(session, &mut [attribute(CKA_CLASS, number(CKO_SECRET_KEY))]), []);
    let point = application.get(session, public, CKA_EC_POINT).unwrap();
    assert_eq!(application.find(session, &mut [class, attribute(CKA_EC_POINT, &point)]), [private]);
    assert_eq!(application.find(session, &mut []).len(), 4);

    // Many objects take several pages of the daemon's answers.
    let mut template = [
        attribute(CKA_CLASS, number(CKO_DATA)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_VALUE, b"value"),
        attribute(CKA_APPLICATION, b"test"),
    ];
    let mut data = 0;
    for _ in 0..300 {
        assert_eq!(call!(application, C_CreateObject, session, template.as_mut_ptr(), 4, &mut data), CKR_OK);
    }
    let mut found = application.find(session, &mut template[..1]);
    assert_eq!((found.len(), found.last()), (300, Some(&data)));
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 300);

    // All attributes are answered, whatever the others are.
    let (mut label, mut id) = ([0; 2], [0; 64]);
    let mut attributes = [
        CK_ATTRIBUTE { type_: CKA_VALUE, pValue: null_mut(), ulValueLen: 0 },
        CK_ATTRIBUTE { type_: CKA_MODULUS, pValue: null_mut(), ulValueLen: 0 },
        CK_ATTRIBUTE { type_: CKA_LABEL, pValue: label.as_mut_ptr().cast(), ulValueLen: 2 },
        CK_ATTRIBUTE { type_: CKA_ID, pValue: id.as_mut_ptr().cast(), ulValueLen: 64 },
        CK_ATTRIBUTE { type_: CKA_EC_POINT, pValue: null_mut(), ulValueLen: 0 },
    ];
    let code = call!(application, C_GetAttributeValue, session, private, attributes.as_mut_ptr(), 5);
    assert!([CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL].contains(&code));
    let lengths = attributes.map(|attribute| attribute.ulValueLen);
    let none = CK_UNAVAILABLE_INFORMATION;
    assert_eq!(lengths, [none, none, none, 20, 67], "the id is chosen by the daemon");
    assert_eq!(application.get(session, private, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
    assert_eq!(application.get(session, private, CKA_MODULUS), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    assert_eq!(application.get(session, private, CKA_LOCAL).unwrap(), TRUE);
    assert_eq!(application.get(session, 9999, CKA_LABEL), Err(CKR_OBJECT_HANDLE_INVALID));

    // What may be changed, and what not.
    let mut new = [attribute(CKA_LABEL, b"new"), attribute(CKA_ID, b"\x01")];
    let reader = application.open(slot, 0).unwrap();
    assert_eq!(
        call!(application, C_SetAttributeValue, reader, private, new.as_mut_ptr(), 2),
        CKR_SESSION_READ_ONLY
    );
    assert_eq!(call!(application, C_SetAttributeValue, session, private, new.as_mut_ptr(), 2), CKR_OK);
    assert_eq!(application.get(session, private, CKA_LABEL).unwrap(), b"new");
    assert_eq!(application.get(session, private, CKA_ID).unwrap(), b"\x01");
    let mut extractable = attribute(CKA_EXTRACTABLE, TRUE);
    assert_eq!(
        call!(application, C_SetAttributeValue, session, private, &mut extractable, 1),
        CKR_ATTRIBUTE_READ_ONLY
    );

    assert_eq!(call!(application, C_DestroyObject, reader, private), CKR_SESSION_READ_ONLY);
    assert_eq!(call!(application, C_DestroyObject, session, private), CKR_OK);
    assert_eq!(call!(application, C_DestroyObject, session, private), CKR_OBJECT_HANDLE_INVALID);
    assert_eq!(application.sign(session, private, b"data"), Err(CKR_KEY_HANDLE_INVALID));
}

fn templates(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let token = attribute(CKA_TOKEN, TRUE);
    let curve = attribute(CKA_EC_PARAMS, P256);
    let ec = |public: &[CK_ATTRIBUTE], private: &[CK_ATTRIBUTE]| {
        application.generate_from(session, CKM_EC_KEY_PAIR_GEN, public.to_vec(), private.to_vec()).err()
    };
    assert_eq!(ec(&[token], &[token]), Some(CKR_TEMPLATE_INCOMPLETE), "no curve");
    assert_eq!(ec(&[curve], &[token]), Some(CKR_TEMPLATE_INCONSISTENT), "a session object");
    assert_eq!(ec(&[token, curve], &[attribute(CKA_TOKEN, FALSE)]), Some(CKR_TEMPLATE_INCONSISTENT));
    let koblitz = attribute(CKA_EC_PARAMS, &[6, 5, 0x2b, 0x81, 4, 0, 10]);
    assert_eq!(ec(&[token, koblitz], &[token]), Some(CKR_CURVE_NOT_SUPPORTED));
    assert_eq!(ec(&[token, attribute(CKA_EC_PARAMS, b"junk")], &[token]), Some(CKR_DOMAIN_PARAMS_INVALID));
    for (kind, value) in [(CKA_PRIVATE, FALSE), (CKA_SENSITIVE, FALSE), (CKA_ALWAYS_AUTHENTICATE, TRUE)] {
        assert_eq!(ec(&[token, curve], &[token, attribute(kind, value)]), Some(CKR_TEMPLATE_INCONSISTENT));
    }
    assert_eq!(ec(&[token, curve], &[token, attribute(CKA_SIGN, &[7])]), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    let only_pss = attribute(CKA_ALLOWED_MECHANISMS, number(CKM_ECDSA_SHA256));
    assert_eq!(ec(&[token, curve], &[token, only_pss]), Some(CKR_ATTRIBUTE_TYPE_INVALID));
    assert_eq!(ec(&[token, curve], &[token, attribute(CKA_LOCAL, FALSE)]), Some(CKR_ATTRIBUTE_READ_ONLY));
    let wrong_type = attribute(CKA_KEY_TYPE, number(CKK_RSA));
    assert_eq!(ec(&[token, curve], &[token, wrong_type]), Some(CKR_TEMPLATE_INCONSISTENT));

    let rsa = |public: &[CK_ATTRIBUTE]| {
        application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public.to_vec(), vec![token]).err()
    };
    assert_eq!(rsa(&[token]), Some(CKR_TEMPLATE_INCOMPLETE), "no size");
    let bits = |bits| attribute(CKA_MODULUS_BITS, number(bits));
    assert_eq!(rsa(&[token, bits(1024)]), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    let exponent = attribute(CKA_PUBLIC_EXPONENT, &[3]);
    assert_eq!(rsa(&[token, bits(2048), exponent]), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    assert_eq!(
        application.generate_from(session, CKM_ECDSA, vec![token, curve], vec![token]).err(),
        Some(CKR_MECHANISM_INVALID)
    );

    let create = |template: &[CK_ATTRIBUTE]| {
        let (mut template, mut handle) = (template.to_vec(), 0);
        let count = template.len() as CK_ULONG;
        call!(application, C_CreateObject, session, template.as_mut_ptr(), count, &mut handle)
    };
    let class = |class| attribute(CKA_CLASS, number(class));
    assert_eq!(create(&[token]), CKR_TEMPLATE_INCOMPLETE);
    assert_eq!(create(&[token, class(CKO_SECRET_KEY)]), CKR_ATTRIBUTE_VALUE_INVALID);
    assert_eq!(create(&[class(CKO_CERTIFICATE)]), CKR_TEMPLATE_INCONSISTENT, "a session object");
    assert_eq!(create(&[token, class(CKO_CERTIFICATE)]), CKR_TEMPLATE_INCOMPLETE);
    let junk = attribute(CKA_VALUE, b"junk");
    assert_eq!(create(&[token, class(CKO_CERTIFICATE), junk]), CKR_ATTRIBUTE_VALUE_INVALID);
    let key_type = attribute(CKA_KEY_TYPE, number(CKK_EC));
    assert_eq!(create(&[token, class(CKO_PRIVATE_KEY), key_type]), CKR_TEMPLATE_INCOMPLETE);
    // A scalar above the curve's order is no key.
    let scalar = attribute(CKA_VALUE, &[0xff; 32]);
    let code = create(&[token, class(CKO_PRIVATE_KEY), key_type, curve, scalar]);
    assert_eq!(code, CKR_ATTRIBUTE_VALUE_INVALID);
    let scalar = attribute(CKA_VALUE, &[7]);
    assert_eq!(create(&[token, class(CKO_PRIVATE_KEY), key_type, curve, scalar]), CKR_OK);
    // An Ed25519 seed, which pkcs11-tool 0.23 cannot hand in.
    let edwards = attribute(CKA_KEY_TYPE, number(CKK_EC_EDWARDS));
    let named = attribute(CKA_EC_PARAMS, b"\x13\x0cedwards25519");
    let seed = attribute(CKA_VALUE, &[9; 32]);
    assert_eq!(create(&[token, class(CKO_PRIVATE_KEY), edwards, named, seed]), CKR_OK);
}

// ---------------------------------------------------------------- signatures

fn signatures(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let (private, public) = application.generate(session, "web").unwrap();

    // Sizes are answered without ending the operation.
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OK);
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OPERATION_ACTIVE);
    let mut data = *b"the data";
    let (mut signature, mut length) = ([0; 64], 0);
    let sign = |signature: *mut u8, length: &mut CK_ULONG, data: &mut [u8]| {
        call!(application, C_Sign, session, data.as_mut_ptr(), data.len() as CK_ULONG, signature, length)
    };
    assert_eq!(sign(null_mut(), &mut length, &mut data), CKR_OK);
    assert_eq!(length, 64);
    length = 63;
    assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), CKR_BUFFER_TOO_SMALL);
    assert_eq!(length, 64);
    assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), CKR_OK);
    assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), CKR_OPERATION_NOT_INITIALIZED);
    assert_eq!(application.verify(session, public, &data, &signature), CKR_OK);
    assert_eq!(application.verify(session, public, b"other data", &signature), CKR_SIGNATURE_INVALID);
    assert_eq!(application.verify(session, public, &data, &signature[..63]), CKR_SIGNATURE_LEN_RANGE);
    assert_eq!(application.verify(session, private, &data, &signature), CKR_KEY_TYPE_INCONSISTENT);

    // A signature is one round trip.
    let before = daemon.requests();
    for _ in 0..10 {
        assert!(application.sign(session, private, &data).is_ok());
    }
    assert_eq!(daemon.requests() - before, 10 + Daemon::OWN_REQUESTS);

    // In parts.
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OK);
    for part in data.chunks_mut(3) {
        assert_eq!(
            call!(application, C_SignUpdate, session, part.as_mut_ptr(), part.len() as CK_ULONG),
            CKR_OK
        );
    }
    assert_eq!(call!(application, C_SignFinal, session, null_mut(), &mut length), CKR_OK);
    assert_eq!(call!(application, C_SignFinal, session, signature.as_mut_ptr(), &mut length), CKR_OK);
    assert_eq!(application.verify(session, public, &data, &signature), CKR_OK);

    // What does not fit.
    assert_eq!(application.sign_init(session, CKM_SHA256_RSA_PKCS, private), CKR_KEY_TYPE_INCONSISTENT);
    assert_eq!(application.sign_init(session, CKM_AES_CBC, private), CKR_MECHANISM_INVALID);
    assert_eq!(application.sign_init(session, CKM_ECDSA, public), CKR_KEY_TYPE_INCONSISTENT);
    assert_eq!(application.sign_init(session, CKM_ECDSA, 4711), CKR_KEY_HANDLE_INVALID);
    let mut cancel = application.sign_init(session, CKM_ECDSA, private);
    assert_eq!(cancel, CKR_OK);
    cancel = call!(application, C_SessionCancel, session, CKF_SIGN);
    assert_eq!(cancel, CKR_OK);

    // A key that may not sign.
    let common = [attribute(CKA_TOKEN, TRUE)];
    let public = [&common[..], &[attribute(CKA_EC_PARAMS, P256)]].concat();
    let private = [&common[..], &[attribute(CKA_SIGN, FALSE), attribute(CKA_DERIVE, TRUE)]].concat();
    let (private, _) = application.generate_from(session, CKM_EC_KEY_PAIR_GEN, public, private).unwrap();
    assert_eq!(application.sign_init(session, CKM_ECDSA, private), CKR_KEY_FUNCTION_NOT_PERMITTED);

    // RSA: the padding leaves room for 245 bytes.
    let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_MODULUS_BITS, number(2048))];
    let private = vec![attribute(CKA_TOKEN, TRUE)];
    let (private, _) =
        application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, private).unwrap();
    for (size, code) in [(245, CKR_OK), (246, CKR_DATA_LEN_RANGE)] {
        assert_eq!(application.sign_init(session, CKM_RSA_PKCS, private), CKR_OK);
        let (mut data, mut signature, mut length) = (vec![1; size], [0; 256], 256);
        assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), code);
    }
    let mut random = [0; 100_000];
    assert_eq!(call!(application, C_GenerateRandom, session, random.as_mut_ptr(), 100_000), CKR_OK);
    assert!(random.rchunks(16).all(|chunk| chunk != [0; 16]));
}

// ---------------------------------------------------------------- fork

/// Runs `child` in a forked process, which has 20 seconds; the parent waits for its success.
fn in_child(child: impl FnOnce() -> bool) {
    // SAFETY: the child runs the same code, calls the module, and ends with _exit.
    unsafe {
        let id = libc::fork();
        assert!(id >= 0);
        if id == 0 {
            libc::alarm(20);
            let succeeded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
            libc::_exit(if succeeded { 0 } else { 1 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(id, &mut status, 0), id);
        assert_eq!(status, 0, "the child failed, or was stuck");
    }
}

/// How many sockets this process has open.
fn open_sockets() -> usize {
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

fn fork(daemon: &Daemon) {
    let before = open_sockets();
    let (application, slot, session) = logged_in(daemon);
    let (key, public) = application.generate(session, "web").unwrap();
    assert!(application.sign(session, key, b"data").is_ok());
    assert!(open_sockets() > before);
    in_child(|| {
        // Nothing of the parent's is usable.
        let mut info = CK_SESSION_INFO { slotID: 0, state: 0, flags: 0, ulDeviceError: 0 };
        let code = call!(application, C_GetSessionInfo, session, &mut info);
        assert_eq!(code, CKR_CRYPTOKI_NOT_INITIALIZED);
        assert_eq!(application.sign_init(session, CKM_ECDSA, key), CKR_CRYPTOKI_NOT_INITIALIZED);
        assert_eq!(call!(application, C_Finalize, null_mut()), CKR_CRYPTOKI_NOT_INITIALIZED);
        // As in nginx's workers: the environment is gone, and the module still finds the daemon.
        // SAFETY: this process has one thread.
        unsafe { libc::clearenv() };
        application.initialize();
        assert_eq!(open_sockets(), before, "the parent's connections are closed");
        let code = call!(application, C_GetSessionInfo, session, &mut info);
        assert_eq!(code, CKR_SESSION_HANDLE_INVALID, "a handle from before the fork");
        let session = application.open_writable(slot);
        assert_eq!(application.state(session), CKS_RW_PUBLIC_SESSION);
        assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
        assert_eq!(application.sign_init(session, CKM_ECDSA, key), CKR_KEY_HANDLE_INVALID);
        let key = application.find(session, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))])[0];
        assert!(application.sign(session, key, b"data").is_ok());
        // A grandchild, and the end of the child.
        in_child(|| {
            application.initialize();
            application.open(slot, 0).is_ok()
        });
        application.finalize();
        true
    });
    // The parent goes on, on its connection.
    assert_eq!(application.state(session), CKS_RW_USER_FUNCTIONS);
    let signature = application.sign(session, key, b"data").unwrap();
    assert_eq!(application.verify(session, public, b"data", &signature), CKR_OK);
}

fn fork_while_busy(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    daemon.admit(slot);
    let (key, _) = application.generate(session, "web").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let session = application.open_writable(slot);
                while !stop.load(Ordering::Relaxed) {
                    application.sign(session, key, b"data").unwrap();
                    let other = application.open(slot, 0).unwrap();
                    application.find(other, &mut [attribute(CKA_LABEL, b"web")]);
                    assert_eq!(call!(application, C_CloseSession, other), CKR_OK);
                }
            });
        }
        for _ in 0..40 {
            in_child(|| {
                application.initialize();
                let session = application.open(slot, 0).unwrap();
                let key = application.find(session, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))])[0];
                let signed = application.sign(session, key, b"data").is_ok();
                application.finalize();
                signed
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
}

// ---------------------------------------------------------------- the daemon comes and goes

fn restart(mut daemon: Daemon) {
    let (application, slot, session) = logged_in(&daemon);
    let (key, public) = application.generate(session, "web").unwrap();
    for _ in 0..2 {
        assert!(application.sign(session, key, b"data").is_ok());
        daemon.kill();
        daemon.run();
        // The first call after it logs in again with the PIN, on its own.
        let signature = application.sign(session, key, b"data").unwrap();
        assert_eq!(application.verify(session, public, b"data", &signature), CKR_OK);
    }
    daemon.kill();
    daemon.run();
    // What must not be sent twice is sent on a connection that is known to be good.
    assert!(application.generate(session, "mail").is_ok());

    // A call waits for a daemon that is just restarting.
    daemon.kill();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| application.sign(session, key, b"data"));
        daemon.run();
        assert!(waiting.join().unwrap().is_ok());
    });

    // Eight threads at once log in anew.
    daemon.kill();
    daemon.run();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let session = application.open(slot, 0).unwrap();
                assert!(application.sign(session, key, b"data").is_ok());
            });
        }
    });
}

fn password_changed(mut daemon: Daemon) {
    let (application, slot, session) = logged_in(&daemon);
    let (key, _) = application.generate(session, "web").unwrap();
    daemon.set_password(slot, "another-secret");
    assert_eq!(application.sign(session, key, b"data"), Err(CKR_USER_NOT_LOGGED_IN));
    assert_eq!(application.login(session, CKU_USER, "another-secret"), CKR_OK);
    let key = application.find(session, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))])[0];
    daemon.set_password(slot, "third-secret");
    daemon.kill();
    daemon.run();
    for _ in 0..20 {
        // Refused, and not by the daemon each time: twenty wrong passwords would lock the user.
        let code = application.sign(session, key, b"data").unwrap_err();
        assert!([CKR_USER_NOT_LOGGED_IN, CKR_KEY_HANDLE_INVALID].contains(&code), "{code:#x}");
    }
    assert_eq!(application.state(session), CKS_RW_PUBLIC_SESSION);
    assert_eq!(application.login(session, CKU_USER, "third-secret"), CKR_OK);
    let key = application.find(session, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))])[0];
    assert!(application.sign(session, key, b"data").is_ok());
}

fn away(mut daemon: Daemon) {
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    daemon.kill();
    application.initialize();
    // Never seen: an error at once, and no empty list of slots.
    let mut count = 0;
    assert_eq!(call!(application, C_GetSlotList, CK_TRUE, null_mut(), &mut count), CKR_DEVICE_ERROR);
    assert_eq!(application.open(slot, 0), Err(CKR_TOKEN_NOT_PRESENT));
    daemon.run();
    let session = application.open_writable(slot);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    let (key, _) = application.generate(session, "web").unwrap();

    daemon.kill();
    assert_eq!(application.sign(session, key, b"data"), Err(CKR_DEVICE_REMOVED));
    assert_eq!(application.sign(session, key, b"data"), Err(CKR_DEVICE_REMOVED));
    assert_eq!(application.generate(session, "mail"), Err(CKR_DEVICE_REMOVED));
    let mut info = std::mem::MaybeUninit::uninit();
    assert_eq!(call!(application, C_GetTokenInfo, slot.into(), info.as_mut_ptr()), CKR_TOKEN_NOT_PRESENT);
    // What was seen before is remembered.
    assert_eq!(call!(application, C_GetSlotList, CK_TRUE, null_mut(), &mut count), CKR_OK);
    assert_eq!(count, 1);
    assert!(application.open(slot, 0).is_ok());

    daemon.run();
    assert!(application.sign(session, key, b"data").is_ok(), "the session and the key are what they were");
}
