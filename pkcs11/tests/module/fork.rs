//! Children: they start anew, and leave their parents alone.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::application::{attribute, number};
use crate::support::{Daemon, USER, open_bells, open_sockets};

/// Runs `child` in a forked process, which has 20 seconds; the parent waits for its success.
pub fn in_child(child: impl FnOnce() -> bool) {
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

pub fn fork(daemon: &Daemon) {
    let before = open_sockets();
    let (application, slot, session) = logged_in(daemon);
    let (key, public) = application.generate(session, "web").unwrap();
    assert!(application.sign(session, key, b"data").is_ok());
    assert!(open_sockets() > before);
    assert_eq!(open_bells(), 1, "the first signature has opened a channel");
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
        assert_eq!(open_bells(), 0, "and its channel's bell");
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

pub fn fork_while_busy(daemon: &Daemon) {
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
                // It ends nothing of the parent's, whatever its threads were doing.
                assert_eq!(call!(application, C_Finalize, null_mut()), CKR_CRYPTOKI_NOT_INITIALIZED);
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

pub fn fork_without_module(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    application.generate(session, "web").unwrap();
    let before = daemon.connections();
    // SAFETY: the child only waits for its end, which comes after 20 seconds if this test fails.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::alarm(20);
            loop {
                libc::pause();
            }
        }
    }
    application.finalize();
    // The child has copies of what the parent closed, and will never know.
    let until = Instant::now() + Duration::from_secs(60);
    while daemon.connections() >= before {
        assert!(Instant::now() < until, "the daemon still sees the parent's connection");
        thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: our own child.
    unsafe {
        assert_eq!(libc::kill(child, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(child, null_mut(), 0), child);
    }
}
