//! What a signature relies on is looked up once, and again when it has gone stale, from many threads at the same time.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod libcrypto;
mod stub;

use stub::{URI, signed_digest};

const KEY_HANDLE_INVALID: u64 = 0x60;
const DEVICE_REMOVED: u64 = 0x32;
const SESSION_HANDLE_INVALID: u64 = 0xb3;

#[test]
fn a_key_is_looked_up_once() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    key.sign(b"message").unwrap();
    let (searches, sessions) = (stub.searches(), stub.sessions());
    for _ in 0..50 {
        key.sign(b"message").unwrap();
    }
    assert_eq!((stub.searches(), stub.sessions()), (searches, sessions));
    // Another object of the same key finds what is known of it.
    let again = context.key(URI).unwrap();
    let searches = stub.searches();
    again.sign(b"message").unwrap();
    assert_eq!(stub.searches(), searches);
}

#[test]
fn what_has_gone_stale_is_looked_up_again() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    let expected = signed_digest(&key.sign(b"message").unwrap());
    // The token's service was started again: every session is gone.
    let searches = stub.searches();
    stub.restart();
    assert_eq!(signed_digest(&key.sign(b"message").unwrap()), expected);
    assert!(stub.searches() > searches);
    for stale in [KEY_HANDLE_INVALID, SESSION_HANDLE_INVALID, DEVICE_REMOVED] {
        let searches = stub.searches();
        stub.fail(stale, 1);
        assert_eq!(signed_digest(&key.sign(b"message").unwrap()), expected, "{stale:#x}");
        assert!(stub.searches() > searches, "{stale:#x}");
        // And remembered again.
        let searches = stub.searches();
        key.sign(b"message").unwrap();
        assert_eq!(stub.searches(), searches, "{stale:#x}");
    }
    assert!(stub.sessions() <= 2, "what failed was closed: {}", stub.sessions());
}

#[test]
fn threads_share_the_sessions_that_the_token_gives() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    stub.restart();
    stub.limit_sessions(3);
    stub.delay(2);
    thread::scope(|scope| {
        for number in 0..16u8 {
            let key = &key;
            scope.spawn(move || {
                for round in 0..10u8 {
                    key.sign(&[number, round]).unwrap();
                }
            });
        }
    });
    assert_eq!(stub.most_in_flight(), 3);
    // Without any, it does not wait for what never comes.
    stub.restart();
    stub.limit_sessions(0);
    let started = Instant::now();
    let error = key.sign(b"message").unwrap_err();
    assert!(error.contains("C_OpenSession") && error.contains("CKR_SESSION_COUNT"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn threads_go_on_while_the_token_comes_and_goes() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    let expected: Vec<Vec<u8>> =
        (0..6u8).map(|number| signed_digest(&key.sign(&[number]).unwrap())).collect();
    // So that something is always being signed.
    stub.delay(1);
    let ended = AtomicBool::new(false);
    let (mut good, mut bad) = (0, 0);
    thread::scope(|scope| {
        let signers: Vec<_> = (0..6u8)
            .map(|number| {
                let (key, expected, ended) = (&key, &expected, &ended);
                scope.spawn(move || {
                    let (mut good, mut bad) = (0u32, 0u32);
                    while !ended.load(Ordering::SeqCst) {
                        match key.sign(&[number]) {
                            // Never another thread's.
                            Ok(signature) => {
                                assert_eq!(signed_digest(&signature), expected[usize::from(number)]);
                                good += 1;
                            }
                            // A failure of its own, or the token went away twice during one signature.
                            Err(_) => bad += 1,
                        }
                    }
                    (good, bad)
                })
            })
            .collect();
        // Long enough for C_Finalize and C_Initialize, which come at most once a second; the stub ends the process if
        // something is being signed then.
        let until = Instant::now() + Duration::from_millis(3500);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(7));
            stub.restart();
            thread::sleep(Duration::from_millis(7));
            stub.fail(DEVICE_REMOVED, 30);
        }
        stub.fail(0, 0);
        thread::sleep(Duration::from_millis(50));
        ended.store(true, Ordering::SeqCst);
        for signer in signers {
            let (ok, failed) = signer.join().unwrap();
            good += ok;
            bad += failed;
        }
    });
    assert!(good > 100 && good > bad, "{good} good, {bad} bad");
    for number in 0..6u8 {
        key.sign(&[number]).unwrap();
    }
}

#[test]
fn a_token_that_was_removed_is_used_again_when_it_is_back() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    let expected = signed_digest(&key.sign(b"message").unwrap());
    for _ in 0..2 {
        stub.remove(true);
        for _ in 0..3 {
            let error = key.sign(b"message").unwrap_err();
            assert!(error.contains("no token for") || error.contains("the token is away"), "{error}");
        }
        stub.remove(false);
        assert_eq!(signed_digest(&key.sign(b"message").unwrap()), expected);
    }
    // While it is away a key is not found, and afterwards it is.
    stub.remove(true);
    assert!(context.key(URI).is_err());
    stub.remove(false);
    assert!(context.key(URI).is_ok());
}

/// Another process has all sessions, and gives one back.
#[test]
fn a_process_that_gets_no_session_waits_for_one() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    stub.restart();
    stub.limit_sessions(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            stub.limit_sessions(1);
        });
        key.sign(b"message").unwrap();
    });
    // What was scarce is not kept: the next process waits for it.
    assert_eq!(stub.sessions(), 0);
    key.sign(b"message").unwrap();
}

/// As in a worker that ends: exit(3), with all handlers.
#[test]
fn a_module_that_crashes_or_hangs_at_its_end_does_not_matter_at_the_process_s_end() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    for how in [1, 2] {
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(20);
                stub.finalize(how);
                let signed = key.sign(b"message").is_ok();
                libc::exit(i32::from(!signed));
            }
            let mut status = -1;
            assert_eq!((libc::waitpid(child, &mut status, 0), status), (child, 0), "{how}");
        }
    }
}
