//! The daemon comes and goes.

use std::fs::File;
use std::ptr::null_mut;
use std::time::{Duration, Instant};
use std::{iter, thread};

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::session_objects;
use crate::support::application::{Application, attribute, number};
use crate::support::{Daemon, USER};

pub fn restart(mut daemon: Daemon) {
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
    // Nor was the PIN sent a second time: the ticket of the log-in is good after a restart. That the last key was made is
    // written, and so is every log-in with a password before it.
    let log = daemon.audit_log();
    let entries = |action: &str, user: &str| {
        let is_it = |line: &&str| {
            line.contains(&format!("\"action\":\"{action}\""))
                && line.contains(&format!("\"user\":\"{user}\""))
        };
        log.lines().filter(is_it).count()
    };
    assert_eq!((entries("login", USER.0), entries("generate_key_pair", USER.0)), (1, 4));

    // A call waits for a daemon that is just restarting: for two seconds, and how long a start takes is the machine's to say. So it
    // is made ready aside, and what remains takes an instant, or on a busy machine a try or two. Each has an absence of its own:
    // who has waited in vain for one does not wait for the same again.
    let waited = (0..20).any(|_| {
        assert!(application.sign(session, key, b"data").is_ok());
        daemon.kill();
        daemon.run_aside();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| application.sign(session, key, b"data"));
            // A call that does not wait is over by then.
            thread::sleep(Duration::from_millis(100));
            daemon.appear();
            waiting.join().unwrap().is_ok()
        })
    });
    assert!(waited, "no call has waited");

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

pub fn password_changed(mut daemon: Daemon) {
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

pub fn away(mut daemon: Daemon) {
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    daemon.kill();
    application.initialize();
    // Never seen: no slots, at once. An error would make p11-kit drop all modules.
    let mut count = 7;
    assert_eq!(call!(application, C_GetSlotList, CK_TRUE, null_mut(), &mut count), CKR_OK);
    assert_eq!(count, 0);
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

pub fn hung(daemon: Daemon) {
    let (application, slot, session) = logged_in(&daemon);
    let second = daemon.create_partition("mail");
    let other = application.open_writable(second);
    assert_eq!(application.login(other, CKU_USER, USER.1), CKR_OK);
    // More than are forgotten with one request. They are in the daemon's memory and out of it again: which, does not matter.
    let objects = session_objects::Session { application: &application, handle: other };
    let first = objects.aes(&[]).unwrap();
    for _ in 0..1_100 {
        objects.aes(&[]).unwrap();
    }
    daemon.pause();
    let start = Instant::now();
    // Nobody waits for a log-out that can just as well be forgotten, or for the end of session objects: otherwise it takes 10 seconds
    // each.
    assert_eq!(objects.destroy(first), CKR_OK);
    assert_eq!(call!(application, C_CloseSession, other), CKR_OK);
    assert_eq!(call!(application, C_Logout, session), CKR_OK);
    assert_eq!(application.state(session), CKS_RW_PUBLIC_SESSION);
    application.finalize();
    assert!(start.elapsed() < Duration::from_secs(8));
    daemon.resume();
    application.initialize();
    assert!(application.open(slot, 0).is_ok());
}

/// With a signal every 10 ms: none of them prolongs the wait.
pub fn hung_signature(daemon: Daemon) {
    extern "C" fn ignore(_: libc::c_int) {}
    let (application, _, session) = logged_in(&daemon);
    let (key, _) = application.generate(session, "web").unwrap();
    for _ in 0..3 {
        assert!(application.sign(session, key, b"data").is_ok());
    }
    let often = libc::timeval { tv_sec: 0, tv_usec: 10_000 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: plain system calls; the handler does nothing.
    unsafe {
        let handler: extern "C" fn(libc::c_int) = ignore;
        assert_ne!(libc::signal(libc::SIGALRM, handler as libc::sighandler_t), libc::SIG_ERR);
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, null_mut()), 0);
    }
    daemon.pause();
    let start = Instant::now();
    assert_eq!(application.sign(session, key, b"data"), Err(CKR_DEVICE_ERROR));
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    daemon.resume();
    assert!(application.sign(session, key, b"data").is_ok());
}

pub fn out_of_descriptors(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let (key, _) = application.generate(session, "web").unwrap();
    let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let files: Vec<_> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One connection is open, and serves all.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let session = application.open(slot, 0).unwrap();
                for _ in 0..20 {
                    application.sign(session, key, b"data").unwrap();
                }
            });
        }
    });
    application.finalize();
    application.initialize();
    let taken: Vec<_> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert_eq!(application.open(slot, 0), Err(CKR_HOST_MEMORY), "there is none to wait for");
    drop((files, taken));
    assert!(application.open(slot, 0).is_ok());
}
