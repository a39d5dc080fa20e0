//! Log-outs and C_Finalize while other threads sign.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::application::{Application, attribute, number};
use crate::support::{Daemon, USER, open_bells, open_sockets};

fn private_key(application: &Application, session: CK_SESSION_HANDLE) -> CK_OBJECT_HANDLE {
    application.find(session, &mut [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY))])[0]
}

/// Signs in threads of their own while `end` runs, until it returned; the codes of what failed.
fn meanwhile(application: &Application, slot: u32, end: impl FnOnce()) -> Vec<CK_RV> {
    const THREADS: usize = 6;
    let (stop, ready) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let sign = || {
            let session = application.open(slot, 0).unwrap();
            let key = private_key(application, session);
            ready.fetch_add(1, Ordering::Relaxed);
            let mut codes = Vec::new();
            while !stop.load(Ordering::Relaxed) && codes.len() < 100 {
                codes.extend(application.sign(session, key, b"data").err());
            }
            codes
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(sign)).collect();
        let until = Instant::now() + Duration::from_secs(60);
        while open_bells() == 0 || ready.load(Ordering::Relaxed) < THREADS {
            assert!(Instant::now() < until, "no channel, or no session");
            thread::sleep(Duration::from_millis(5));
        }
        end();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Another log-in is another channel, and nobody signs as who has logged out.
pub fn another_user(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    application.generate(session, "web").unwrap();
    daemon.create_user(slot, ("other", "other-secret"));
    let user = format!("{}:{}", USER.0, USER.1);
    assert_eq!(call!(application, C_Logout, session), CKR_OK);
    for pin in [user.as_str(), "other:other-secret"].repeat(3) {
        assert_eq!(application.login(session, CKU_USER, pin), CKR_OK);
        let key = private_key(&application, session);
        let mut bells = 0;
        let codes = meanwhile(&application, slot, || {
            bells = open_bells();
            assert_eq!(call!(application, C_Logout, session), CKR_OK);
        });
        assert_eq!(bells, 1, "a channel for the log-in");
        let ended = [CKR_USER_NOT_LOGGED_IN, CKR_KEY_HANDLE_INVALID];
        assert!(codes.iter().all(|code| ended.contains(code)), "{codes:x?}");
        assert!(ended.contains(&application.sign(session, key, b"data").unwrap_err()));
        assert_eq!(open_bells(), 0, "none without one");
    }
    application.finalize();
}

pub fn finalized_while_signing(daemon: &Daemon) {
    let before = open_sockets();
    let (application, slot, session) = logged_in(daemon);
    application.generate(session, "web").unwrap();
    for _ in 0..5 {
        // After it: no session, no log-in, or a signature that was answered before.
        meanwhile(&application, slot, || application.finalize());
        assert_eq!((open_bells(), open_sockets()), (0, before));
        application.initialize();
        let session = application.open_writable(slot);
        assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
        assert!(application.sign(session, private_key(&application, session), b"data").is_ok());
    }
}
