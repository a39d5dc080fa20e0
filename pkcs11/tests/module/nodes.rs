//! Two nodes with the same partition: what one of them alone knows, and what becomes of it when that node dies.

use std::ptr::null_mut;
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use crate::call;
use crate::support::application::{Application, FALSE, P256, TRUE, attribute, number, plain};
use crate::support::{Daemon, USER};

pub fn two_nodes(mut first: Daemon) {
    let slot = first.create_partition("tls");
    let mut second = first.second_node();
    let application = Application::load();
    application.initialize();
    let session = application.open_writable(slot);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    let confirm = || application.login(session, CKU_CONTEXT_SPECIFIC, USER.1);
    let mechanism = CKM_ECDSA_SHA256;

    // Objects of the session are known to the node that made them, and to another one when it is asked for them.
    let asking = [attribute(CKA_TOKEN, FALSE), attribute(CKA_ALWAYS_AUTHENTICATE, TRUE)];
    let public = vec![attribute(CKA_TOKEN, FALSE), attribute(CKA_EC_PARAMS, P256)];
    let make = |private: &[CK_ATTRIBUTE]| {
        application.generate_from(session, CKM_EC_KEY_PAIR_GEN, public.clone(), private.to_vec()).unwrap()
    };
    let ((key, _), (plain_key, plain_public)) = (make(&asking), make(&asking[..1]));
    let finish = || {
        let (mut signature, mut length) = ([0; 128], 128);
        let data = b"data";
        let (start, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        call!(application, C_Sign, session, start, size, signature.as_mut_ptr(), &mut length)
    };

    // The password goes to one node, which is slower for it than the other; the signature goes to the same.
    for _ in 0..6 {
        let signature = application.sign(session, plain_key, b"data").unwrap();
        assert_eq!(application.verify(session, plain_public, b"data", &signature), CKR_OK);
        assert_eq!(application.sign_init(session, mechanism, key), CKR_OK);
        assert_eq!(confirm(), CKR_OK);
        assert_eq!(finish(), CKR_OK);
    }

    // The node that was given the password dies: nobody else can say that it was right.
    for node in 0..2 {
        assert_eq!(application.sign_init(session, mechanism, key), CKR_OK);
        assert_eq!(confirm(), CKR_OK);
        first.kill();
        second.kill();
        let survivor = if node == 0 { &mut first } else { &mut second };
        survivor.run();
        let code = finish();
        // Away, or started anew, which has forgotten it.
        assert!(matches!(code, CKR_DEVICE_REMOVED | CKR_USER_NOT_LOGGED_IN), "{code:#x}");
        // And with the password for the one that is there, as soon as it has time for us.
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            assert_eq!(application.sign_init(session, mechanism, key), CKR_OK);
            if confirm() == CKR_OK
                && finish() == CKR_OK
                && application.sign(session, plain_key, b"data").is_ok()
            {
                break;
            }
            assert!(Instant::now() < until, "the one that is there does not serve");
            assert_eq!(call!(application, C_SessionCancel, session, CKF_SIGN), CKR_OK);
        }
        if node == 0 { &mut second } else { &mut first }.run();
    }

    // Nobody is there: the same, at last.
    assert_eq!(application.sign_init(session, mechanism, key), CKR_OK);
    assert_eq!(confirm(), CKR_OK);
    first.kill();
    second.kill();
    assert_eq!(finish(), CKR_DEVICE_REMOVED);
    assert_eq!(application.sign(session, plain_key, b"data"), Err(CKR_DEVICE_REMOVED));
    let mut template = [attribute(CKA_TOKEN, FALSE), attribute(CKA_VALUE_LEN, number(16))];
    let mut made = 0;
    let mut generate = plain(CKM_AES_KEY_GEN);
    let code = call!(application, C_GenerateKey, session, &mut generate, template.as_mut_ptr(), 2, &mut made);
    assert_eq!((code, made), (CKR_DEVICE_REMOVED, 0));
    assert_eq!(call!(application, C_CloseSession, session), CKR_OK);
    assert_eq!(call!(application, C_Finalize, null_mut()), CKR_OK);
}
