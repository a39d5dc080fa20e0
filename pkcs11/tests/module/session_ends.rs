//! Where session objects end, and where they go on: children, a node that is sealed, a user who is deleted, keys that FIPS state 2 refuses.

use cryptoki_sys::*;
use strongroom_protocol::v1::{DeleteUser, Seal, Unseal, request::Op};

use crate::call;
use crate::fork::in_child;
use crate::logged_in;
use crate::session_objects::Session;
use crate::support::application::{Application, P256, SECP256K1, TRUE, attribute, number, plain};
use crate::support::{Daemon, USER};

/// A child has none of its parent's, whose objects outlive it.
pub fn in_children(daemon: &Daemon) {
    let (application, slot, handle) = logged_in(daemon);
    let session = Session { application: &application, handle };
    let (private, public) = session.pair();
    let data = session.data("mine", &[]).unwrap();
    let key = session.aes(&[attribute(CKA_SIGN, TRUE), attribute(CKA_LABEL, b"mine")]).unwrap();
    let code = session.code(CKM_AES_CMAC, key).unwrap();
    assert_eq!(session.find("mine"), [data, key]);
    in_child(|| {
        application.initialize();
        let handle = application.open_writable(slot);
        assert_eq!(application.login(handle, CKU_USER, USER.1), CKR_OK);
        let session = Session { application: &application, handle };
        assert_eq!(session.find("mine"), []);
        for object in [private, public, data, key] {
            assert_eq!(session.get(object, CKA_LABEL), Err(CKR_OBJECT_HANDLE_INVALID));
        }
        assert_eq!(session.code(CKM_AES_CMAC, key), Err(CKR_KEY_HANDLE_INVALID));
        assert_eq!(session.destroy(key), CKR_OBJECT_HANDLE_INVALID);
        // Its own have other handles, and end with it.
        let own = session.data("mine", &[]).unwrap();
        assert!(own != data && session.find("mine") == [own]);
        session.pair();
        assert_eq!(call!(application, C_Logout, handle), CKR_OK);
        application.finalize();
        true
    });
    assert_eq!(session.find("mine"), [data, key]);
    assert_eq!(session.code(CKM_AES_CMAC, key), Ok(code));
    let signature = application.sign(handle, private, b"data").unwrap();
    assert_eq!(application.verify(handle, public, b"data", &signature), CKR_OK);
}

/// A node that is sealed has forgotten them, and has them again when it is open.
pub fn sealed(daemon: &Daemon) {
    let (application, _, handle) = logged_in(daemon);
    let session = Session { application: &application, handle };
    let (private, public) = session.pair();
    let key = session.aes(&[attribute(CKA_SIGN, TRUE)]).unwrap();
    let code = session.code(CKM_AES_CMAC, key).unwrap();
    for _ in 0..2 {
        daemon.as_owner(Op::Seal(Seal {}));
        assert_eq!(session.code(CKM_AES_CMAC, key), Err(CKR_DEVICE_REMOVED));
        assert_eq!(application.sign(handle, private, b"data"), Err(CKR_DEVICE_REMOVED));
        daemon.as_owner(Op::Unseal(Unseal::default()));
        assert_eq!(session.code(CKM_AES_CMAC, key).as_ref(), Ok(&code));
        let signature = application.sign(handle, private, b"data").unwrap();
        assert_eq!(application.verify(handle, public, b"data", &signature), CKR_OK);
    }
}

/// They end with the user. A new one of the same name does not get them.
pub fn of_a_deleted_user(daemon: &Daemon) {
    let (application, slot, handle) = logged_in(daemon);
    let (name, password) = ("leaver", "leavers-secret");
    let log_in = || application.login(handle, CKU_USER, &format!("{name}:{password}"));
    daemon.create_user(slot, (name, password));
    assert_eq!(call!(application, C_Logout, handle), CKR_OK);
    assert_eq!(log_in(), CKR_OK);
    let session = Session { application: &application, handle };
    let (private, _) = session.pair();
    let key = session.aes(&[attribute(CKA_SIGN, TRUE)]).unwrap();
    assert!(session.code(CKM_AES_CMAC, key).is_ok());
    daemon.as_officer(slot, Op::DeleteUser(DeleteUser { name: name.into() }));
    daemon.create_user(slot, (name, password));
    // Whether the module finds out at once, or logs in again as the new one: the key is gone.
    for _ in 0..2 {
        assert!(session.code(CKM_AES_CMAC, key).is_err());
        assert!(application.sign(handle, private, b"data").is_err());
        if application.state(handle) == CKS_RW_PUBLIC_SESSION {
            assert_eq!(log_in(), CKR_OK);
        }
    }
    assert!(session.aes(&[]).is_ok(), "the new one makes others");
}

/// What FIPS state 2 refuses in the token it refuses in a session.
pub fn unapproved(daemon: &Daemon) {
    let slot = daemon.create_fips_partition("approved");
    let application = Application::load();
    application.initialize();
    let handle = application.open_writable(slot);
    assert_eq!(application.login(handle, CKU_USER, USER.1), CKR_OK);
    let session = Session { application: &application, handle };
    let pair = |curve| {
        let public = vec![attribute(CKA_EC_PARAMS, curve)];
        application.generate_from(handle, CKM_EC_KEY_PAIR_GEN, public, Vec::new()).map(|_| ())
    };
    assert_eq!(pair(SECP256K1), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    assert_eq!(pair(P256), Ok(()));
    let (generator, mut made) = (&mut plain(CKM_DES3_KEY_GEN), 0);
    let code = call!(application, C_GenerateKey, handle, generator, std::ptr::null_mut(), 0, &mut made);
    assert_eq!(code, CKR_KEY_FUNCTION_NOT_PERMITTED);
    let des = [attribute(CKA_KEY_TYPE, number(CKK_DES3)), attribute(CKA_VALUE, &[7; 24])];
    assert_eq!(session.create(CKO_SECRET_KEY, &des), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    let aes = session.aes(&[attribute(CKA_SIGN, TRUE)]).unwrap();
    assert!(session.code(CKM_AES_CMAC, aes).is_ok());
    // An authentication code with a short key, which is kept for what was made in former times.
    let short = [
        attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
        attribute(CKA_VALUE, &[7; 13]),
        attribute(CKA_SIGN, TRUE),
    ];
    let short = session.create(CKO_SECRET_KEY, &short).unwrap();
    assert_eq!(session.code(CKM_SHA256_HMAC, short), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
}
