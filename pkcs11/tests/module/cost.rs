//! What a signature costs, in things that can be counted.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::ptr::null_mut;

use cryptoki_sys::*;
use libloading::os::unix::Library;
use tempfile::TempDir;

use crate::call;
use crate::logged_in;
use crate::support::application::{Application, TRUE, attribute, number, plain};
use crate::support::{Daemon, open_bells, text};

/// The application's side of one signature, which allocates nothing either.
fn sign(
    application: &Application,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    key: CK_OBJECT_HANDLE,
) {
    let (mut data, mut signature, mut length) = ([7; 32], [0; 256], 256);
    assert_eq!(call!(application, C_SignInit, session, &mut plain(mechanism), key), CKR_OK);
    assert_eq!(
        call!(application, C_Sign, session, data.as_mut_ptr(), 32, signature.as_mut_ptr(), &mut length),
        CKR_OK
    );
    assert!(signature.iter().any(|byte| *byte != 0));
}

/// In two parts.
fn sign_parts(application: &Application, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) {
    let (mut data, mut signature, mut length) = ([7; 16], [0; 64], 64);
    assert_eq!(call!(application, C_SignInit, session, &mut plain(CKM_ECDSA), key), CKR_OK);
    for _ in 0..2 {
        assert_eq!(call!(application, C_SignUpdate, session, data.as_mut_ptr(), 16), CKR_OK);
    }
    assert_eq!(call!(application, C_SignFinal, session, signature.as_mut_ptr(), &mut length), CKR_OK);
}

/// AES-GCM of 4 KiB, in place.
fn encrypt(
    application: &Application,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    place: &mut [u8; 4112],
) {
    let mut iv = [3; 12];
    let mut parameters = CK_GCM_PARAMS {
        pIv: iv.as_mut_ptr(),
        ulIvLen: 12,
        ulIvBits: 96,
        pAAD: null_mut(),
        ulAADLen: 0,
        ulTagBits: 128,
    };
    let mut mechanism = CK_MECHANISM {
        mechanism: CKM_AES_GCM,
        pParameter: (&raw mut parameters).cast(),
        ulParameterLen: size_of_val(&parameters) as CK_ULONG,
    };
    let (start, mut length) = (place.as_mut_ptr(), 4112);
    assert_eq!(call!(application, C_EncryptInit, session, &mut mechanism, key), CKR_OK);
    assert_eq!(call!(application, C_Encrypt, session, start, 4096, start, &mut length), CKR_OK);
}

/// Keys on P-256 and of RSA, and the mechanisms that are counted.
fn keys(application: &Application, session: CK_SESSION_HANDLE) -> [(CK_MECHANISM_TYPE, CK_OBJECT_HANDLE); 4] {
    let (ec, _) = application.generate(session, "web").unwrap();
    let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_MODULUS_BITS, number(2048))];
    let private = vec![attribute(CKA_TOKEN, TRUE)];
    let (rsa, _) = application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, private).unwrap();
    [(CKM_ECDSA, ec), (CKM_ECDSA_SHA256, ec), (CKM_RSA_PKCS, rsa), (CKM_SHA256_RSA_PKCS, rsa)]
}

/// That the signatures went the way that the environment asks for.
fn check_way() {
    let wanted = if std::env::var("STRONGROOM_CHANNEL").unwrap() == "off" { 0 } else { 1 };
    assert_eq!(open_bells(), wanted, "channels");
}

/// Compiles the counter, and runs something with its path.
pub fn counting_allocations(run: impl FnOnce(&str)) {
    let directory = TempDir::new().unwrap();
    let library = directory.path().join("allocations.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/module/allocations.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", text(&library), source]).status();
    assert!(compiled.expect("a C compiler: demo/install tests").success());
    run(text(&library));
}

pub fn allocations(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    // SAFETY: the preloaded library's function has this type.
    let count =
        unsafe { Library::this().get::<unsafe extern "C" fn() -> u64>(b"allocations_of_this_thread") };
    let count = count.expect("the counter is preloaded");
    // SAFETY: only reads a number of this thread.
    let counted = || unsafe { count() };
    let before = counted();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(counted() >= before + 2, "the counter counts");
    for (mechanism, key) in keys(&application, session) {
        for _ in 0..20 {
            sign(&application, session, mechanism, key);
        }
        let before = counted();
        for _ in 0..100 {
            sign(&application, session, mechanism, key);
        }
        assert_eq!(counted() - before, 0, "allocations in 100 signatures with {mechanism:#x}");
        if mechanism == CKM_ECDSA {
            sign_parts(&application, session, key);
            let before = counted();
            for _ in 0..100 {
                sign_parts(&application, session, key);
            }
            assert_eq!(counted() - before, 0, "allocations in 100 signatures in parts");
        }
    }
    check_way();
}

pub fn system_calls(daemon: &Daemon) {
    const SIGNATURES: u64 = 500;
    let (application, _, session) = logged_in(daemon);
    for (mechanism, key) in keys(&application, session) {
        for _ in 0..20 {
            sign(&application, session, mechanism, key);
        }
        let calls = traced(|| (0..SIGNATURES).for_each(|_| sign(&application, session, mechanism, key)));
        // A few are strace's own doing.
        let most = 2 * SIGNATURES + 10;
        assert!(
            calls > 0 && calls < most,
            "{calls} system calls in {SIGNATURES} signatures with {mechanism:#x}"
        );
    }
    let mut template = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(32))];
    let (mut key, mut place) = (0, [5; 4112]);
    let mechanism = &mut plain(CKM_AES_KEY_GEN);
    assert_eq!(
        call!(application, C_GenerateKey, session, mechanism, template.as_mut_ptr(), 2, &mut key),
        CKR_OK
    );
    let mut many = |number| (0..number).for_each(|_| encrypt(&application, session, key, &mut place));
    many(20);
    let calls = traced(|| many(SIGNATURES));
    assert!(calls > 0 && calls < 2 * SIGNATURES + 10, "{calls} system calls in {SIGNATURES} encryptions");
    check_way();
}

/// How many system calls this thread makes in `action`.
fn traced(action: impl FnOnce()) -> u64 {
    // SAFETY: plain system calls. The kernel may let only ancestors trace a process.
    let thread = unsafe {
        libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY);
        libc::gettid()
    };
    let strace = Command::new("strace")
        .args(["-c", "-U", "calls", "-p", &thread.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut strace = strace.expect("strace: demo/install tests");
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("attached"), "strace: {line}");
    action();
    // SAFETY: our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(strace.id() as libc::pid_t, libc::SIGINT) }, 0);
    let mut summary = String::new();
    said.read_to_string(&mut summary).unwrap();
    strace.wait().unwrap();
    let total = summary.lines().find_map(|line| line.trim().strip_suffix("total")?.trim().parse().ok());
    total.unwrap_or_else(|| panic!("strace's summary: {summary}"))
}
