//! C_WaitForSlotEvent: partitions that come, daemons that go, and the end of the wait.

use std::ptr::null_mut;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use crate::call;
use crate::support::Daemon;
use crate::support::application::Application;

fn wait(application: &Application, flags: CK_FLAGS) -> (CK_RV, CK_SLOT_ID) {
    let mut slot = 0;
    (call!(application, C_WaitForSlotEvent, flags, &mut slot, null_mut()), slot)
}

pub fn events(mut daemon: Daemon) {
    let first: CK_SLOT_ID = daemon.create_partition("first").into();
    let application = Application::load();
    application.initialize();
    let mut slot = 0;
    let reserved = (&raw mut slot).cast();
    assert_eq!(call!(application, C_WaitForSlotEvent, 0, &mut slot, reserved), CKR_ARGUMENTS_BAD);
    assert_eq!(wait(&application, CKF_DONT_BLOCK), (CKR_NO_EVENT, 0));
    // A partition is made, and is one event.
    let second: CK_SLOT_ID = daemon.create_partition("second").into();
    assert_eq!(wait(&application, CKF_DONT_BLOCK), (CKR_OK, second));
    assert_eq!(wait(&application, CKF_DONT_BLOCK), (CKR_NO_EVENT, 0));
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let application = &application;
        let waiting = scope.spawn(move || {
            loop {
                let (code, slot) = wait(application, 0);
                if code != CKR_OK {
                    return code;
                }
                tell.send(slot).unwrap();
            }
        });
        let next = || told.recv_timeout(Duration::from_secs(60)).unwrap();
        let third: CK_SLOT_ID = daemon.create_partition("third").into();
        assert_eq!(next(), third);
        // Without a daemon no slot has a token; with it all have one again.
        daemon.kill();
        for _ in 0..2 {
            let mut slots = [next(), next(), next()];
            slots.sort_unstable();
            assert_eq!(slots, [first, second, third]);
            if daemon.is_stopped() {
                daemon.run();
            }
        }
        application.finalize();
        let until = Instant::now() + Duration::from_secs(60);
        while !waiting.is_finished() {
            assert!(Instant::now() < until, "C_Finalize has not ended the wait");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(waiting.join().unwrap(), CKR_CRYPTOKI_NOT_INITIALIZED);
    });
    assert_eq!(wait(&application, CKF_DONT_BLOCK).0, CKR_CRYPTOKI_NOT_INITIALIZED);
}
