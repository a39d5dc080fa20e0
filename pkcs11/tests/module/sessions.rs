//! Slots, sessions and log-in.

use std::ptr::null_mut;
use std::thread;
use std::time::Duration;

use cryptoki_sys::*;
use strongroom_protocol::v1::{DeletePartition, request::Op};

use crate::call;
use crate::logged_in;
use crate::support::application::{Application, attribute, number};
use crate::support::{Daemon, OFFICER, USER, open_sockets};

pub fn sessions(daemon: &Daemon) {
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
    let (key, public) = application.generate(writer, "web").unwrap();
    assert!(application.sign(reader, key, b"data").is_ok());

    // After log-out the key is there for nobody.
    assert_eq!(call!(application, C_Logout, writer), CKR_OK);
    assert_eq!(application.state(writer), CKS_RW_PUBLIC_SESSION);
    assert_eq!(application.sign(reader, key, b"data"), Err(CKR_KEY_HANDLE_INVALID));
    assert_eq!(application.find(reader, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))]), []);
    // "Even if a user logs into the token at a later point, those handles remain invalid."
    assert_eq!(application.login(writer, CKU_USER, USER.1), CKR_OK);
    assert_eq!(application.sign(reader, key, b"data"), Err(CKR_KEY_HANDLE_INVALID));
    assert_eq!(application.get(reader, key, CKA_LABEL), Err(CKR_OBJECT_HANDLE_INVALID));
    let again = application.find(reader, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))])[0];
    assert!(again != key && application.sign(reader, again, b"data").is_ok());
    assert!(application.get(reader, public, CKA_LABEL).is_ok(), "a public object's goes on");
    assert_eq!(call!(application, C_Logout, writer), CKR_OK);

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

/// A partition that is deleted while a session with it is open.
pub fn deleted_partition(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    // SAFETY: a structure of numbers and bytes.
    let mut info: CK_TOKEN_INFO = unsafe { std::mem::zeroed() };
    assert_eq!(call!(application, C_GetTokenInfo, slot.into(), &mut info), CKR_OK);
    daemon.as_officer(slot, Op::DeletePartition(DeletePartition { label: "tls".into() }));
    assert_eq!(call!(application, C_GetTokenInfo, slot.into(), &mut info), CKR_TOKEN_NOT_PRESENT);
    assert_eq!(call!(application, C_CloseSession, session), CKR_OK);
    assert_eq!(call!(application, C_GetTokenInfo, slot.into(), &mut info), CKR_SLOT_ID_INVALID);
    application.finalize();
}

pub fn closed_while_logging_in(daemon: &Daemon) {
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    application.initialize();
    for _ in 0..2 {
        let session = application.open_writable(slot);
        thread::scope(|scope| {
            let login = scope.spawn(|| application.login(session, CKU_USER, USER.1));
            // The daemon takes its time for a password. If this is too late, the log-in is there, and ends.
            thread::sleep(Duration::from_millis(30));
            assert_eq!(call!(application, C_CloseSession, session), CKR_OK);
            assert!([CKR_OK, CKR_SESSION_HANDLE_INVALID].contains(&login.join().unwrap()));
        });
        let session = application.open_writable(slot);
        assert_eq!(application.state(session), CKS_RW_PUBLIC_SESSION, "logged in by nobody");
        assert_eq!(call!(application, C_CloseSession, session), CKR_OK);
    }
}

/// C_Finalize in one thread, C_Initialize in another as soon as it can: then the module has to work.
pub fn initialized_while_finalized(daemon: &Daemon) {
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    application.initialize();
    for _ in 0..200 {
        for _ in 0..200 {
            application.open(slot, 0).unwrap();
        }
        thread::scope(|scope| {
            scope.spawn(|| application.finalize());
            let session = scope.spawn(|| {
                while call!(application, C_Initialize, null_mut()) != CKR_OK {}
                application.open(slot, 0).unwrap()
            });
            let session = session.join().unwrap();
            application.state(session);
        });
        let before = open_sockets();
        application.find(application.open(slot, 0).unwrap(), &mut []);
        assert!(before > 0 || open_sockets() > 0, "connections are kept");
    }
}
