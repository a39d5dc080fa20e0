//! Many threads at once, each with a session of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::application::{Application, TRUE, attribute, number, plain};
use crate::support::{Daemon, USER, open_bells};

const THREADS: usize = 64;

/// A key of the partition, and its public half, with which a library other than the partition's verifies.
enum Key {
    Ec { key: CK_OBJECT_HANDLE, point: Vec<u8> },
    Rsa { key: CK_OBJECT_HANDLE, modulus: Vec<u8>, exponent: Vec<u8> },
}

impl Key {
    fn sign(&self, application: &Application, session: CK_SESSION_HANDLE, data: &[u8]) -> Vec<u8> {
        let (mechanism, key) = match self {
            Key::Ec { key, .. } => (CKM_ECDSA_SHA256, *key),
            Key::Rsa { key, .. } => (CKM_SHA256_RSA_PKCS, *key),
        };
        assert_eq!(call!(application, C_SignInit, session, &mut plain(mechanism), key), CKR_OK);
        let (mut signature, mut length) = (vec![0; 256], 256);
        let (data, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        assert_eq!(
            call!(application, C_Sign, session, data, size, signature.as_mut_ptr(), &mut length),
            CKR_OK
        );
        signature.truncate(length as usize);
        signature
    }

    fn verify(&self, data: &[u8], signature: &[u8]) {
        match self {
            Key::Ec { point, .. } => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(data, signature)
            }
            Key::Rsa { modulus, exponent, .. } => RsaPublicKeyComponents { n: modulus, e: exponent }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                data,
                signature,
            ),
        }
        .expect("a right signature of this thread's own data");
    }
}

pub fn crowd(mut daemon: Daemon) {
    let (application, slot, session) = logged_in(&daemon);
    let (key, public) = application.generate(session, "web").unwrap();
    // The point stands in an OCTET STRING.
    let point = application.get(session, public, CKA_EC_POINT).unwrap()[2..].to_vec();
    let ec = Key::Ec { key, point };
    let template = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_MODULUS_BITS, number(2048))];
    let private = vec![attribute(CKA_TOKEN, TRUE)];
    let (key, public) =
        application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, template, private).unwrap();
    let [modulus, exponent] =
        [CKA_MODULUS, CKA_PUBLIC_EXPONENT].map(|kind| application.get(session, public, kind).unwrap());
    let rsa = Key::Rsa { key, modulus, exponent };

    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let key = if number % 4 == 0 { &rsa } else { &ec };
            let (application, stop, made) = (&application, &stop, &made);
            scope.spawn(move || {
                let session = application.open(slot, 0).unwrap();
                let mut count = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    let data = format!("thread {number}, signature {count}");
                    key.verify(data.as_bytes(), &key.sign(application, session, data.as_bytes()));
                    count += 1;
                    made.fetch_add(1, Ordering::Relaxed);
                }
                assert!(count > 0);
            });
        }
        let another_thousand = || {
            let (start, until) = (made.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(60));
            while made.load(Ordering::Relaxed) < start + 1_000 {
                assert!(Instant::now() < until, "no signatures");
                thread::sleep(Duration::from_millis(5));
            }
        };
        another_thousand();
        for _ in 0..2 {
            daemon.kill();
            daemon.run();
            another_thousand();
        }
        assert_eq!(open_bells(), 1, "a channel with the new daemon, none with the old ones");
        stop.store(true, Ordering::Relaxed);
    });
    // Nothing is left behind: neither in the process nor in the daemon.
    application.finalize();
    assert_eq!(open_bells(), 0);
}

/// More threads than a web server has, and a thousand sessions, with the locks of the operating system or with none that the
/// application offers.
pub fn sessions(daemon: &Daemon) {
    const THREADS: usize = 200;
    const EACH: usize = 5;
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    let arguments = CK_C_INITIALIZE_ARGS {
        CreateMutex: None,
        DestroyMutex: None,
        LockMutex: None,
        UnlockMutex: None,
        flags: CKF_OS_LOCKING_OK,
        pReserved: std::ptr::null_mut(),
    };
    for pointer in [(&raw const arguments).cast_mut().cast(), std::ptr::null_mut()] {
        assert_eq!(call!(application, C_Initialize, pointer), CKR_OK);
        let session = application.open_writable(slot);
        assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
        let (key, public) = application.generate(session, "web").unwrap();
        let point = application.get(session, public, CKA_EC_POINT).unwrap()[2..].to_vec();
        let key = Key::Ec { key, point };
        // All have their sessions before any closes one.
        let all_open = std::sync::Barrier::new(THREADS + 1);
        let counted = std::sync::Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (application, key, all_open, counted) = (&application, &key, &all_open, &counted);
                scope.spawn(move || {
                    let sessions: Vec<_> = (0..EACH).map(|_| application.open(slot, 0).unwrap()).collect();
                    all_open.wait();
                    counted.wait();
                    for (at, session) in sessions.iter().enumerate() {
                        let data = format!("thread {number}, session {at}");
                        // An operation of another kind goes on in the same session meanwhile.
                        let mut sha256 = plain(CKM_SHA256);
                        assert_eq!(call!(application, C_DigestInit, *session, &mut sha256), CKR_OK);
                        key.verify(data.as_bytes(), &key.sign(application, *session, data.as_bytes()));
                        let (mut digest, mut length) = ([0; 32], 32);
                        let (start, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
                        let place = digest.as_mut_ptr();
                        let code = call!(application, C_Digest, *session, start, size, place, &mut length);
                        assert_eq!(code, CKR_OK);
                        let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data.as_bytes());
                        assert_eq!(digest, expected.as_ref());
                        assert_eq!(call!(application, C_CloseSession, *session), CKR_OK);
                    }
                });
            }
            all_open.wait();
            // SAFETY: the structure is numbers and bytes.
            let mut info: CK_TOKEN_INFO = unsafe { std::mem::zeroed() };
            assert_eq!(call!(application, C_GetTokenInfo, slot.into(), &mut info), CKR_OK);
            assert_eq!(info.ulSessionCount, (THREADS * EACH) as CK_ULONG + 1);
            counted.wait();
        });
        application.finalize();
    }
}
