//! The provider takes and frees no memory on the way of a signature. This program's malloc, which all of its libraries use,
//! counts the calls that come from the provider: directly, or through what it calls in libcrypto.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::missing_safety_doc,
    clippy::indexing_slicing
)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fs;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use openssl_sys as ffi;

mod libcrypto;
mod stub;

use libcrypto::{EVP_DigestSignInit_ex, last_error};

/// Calls while a thread counts: all, and those with the provider among their callers.
static ALL: AtomicU64 = AtomicU64::new(0);
static OURS: AtomicU64 = AtomicU64::new(0);

/// Where the provider is loaded.
static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread's calls are counted.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_free(memory: *mut c_void);
    fn backtrace(frames: *mut *mut c_void, size: c_int) -> c_int;
}

fn count() {
    // Taking the call's own callers may take memory.
    if !COUNTS.replace(false) {
        return;
    }
    let mut frames = [ptr::null_mut(); 64];
    let depth = unsafe { backtrace(frames.as_mut_ptr(), frames.len() as c_int) };
    let provider = START.load(Relaxed)..END.load(Relaxed);
    ALL.fetch_add(1, Relaxed);
    if frames.iter().take(depth as usize).any(|frame| provider.contains(&(*frame as usize))) {
        OURS.fetch_add(1, Relaxed);
    }
    COUNTS.set(true);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    count();
    unsafe { __libc_malloc(size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(number: usize, size: usize) -> *mut c_void {
    count();
    unsafe { __libc_calloc(number, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
    count();
    unsafe { __libc_realloc(memory, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(memory: *mut c_void) {
    if !memory.is_null() {
        count();
    }
    unsafe { __libc_free(memory) }
}

/// Counts what `operation` does: (all, the provider's).
fn counted(operation: impl FnOnce()) -> (u64, u64) {
    let (all, ours) = (ALL.load(Relaxed), OURS.load(Relaxed));
    COUNTS.set(true);
    operation();
    COUNTS.set(false);
    (ALL.load(Relaxed) - all, OURS.load(Relaxed) - ours)
}

/// Finds the provider in this process's memory.
fn find_provider() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ranges: Vec<(usize, usize)> = maps
        .lines()
        .filter(|line| line.ends_with("libstrongroom_provider.so"))
        .map(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            (usize::from_str_radix(start, 16).unwrap(), usize::from_str_radix(end, 16).unwrap())
        })
        .collect();
    START.store(ranges.iter().map(|range| range.0).min().unwrap(), Relaxed);
    END.store(ranges.iter().map(|range| range.1).max().unwrap(), Relaxed);
}

/// A signature as libssl makes it: a probe whether the key can, the size, the signature.
unsafe fn sign(libctx: *mut ffi::OSSL_LIB_CTX, key: *mut ffi::EVP_PKEY) {
    unsafe {
        let (null, null_mut) = (ptr::null(), ptr::null_mut());
        for is_probe in [true, false] {
            let context = ffi::EVP_MD_CTX_new();
            let begun =
                EVP_DigestSignInit_ex(context, null_mut, c"SHA256".as_ptr(), libctx, ptr::null(), key, null);
            assert_eq!(begun, 1, "{}", last_error());
            if !is_probe {
                let (message, mut signature) = ([7u8; 130], [0u8; 512]);
                let mut size = 0;
                let asked =
                    ffi::EVP_DigestSign(context, ptr::null_mut(), &mut size, message.as_ptr(), message.len());
                assert_eq!(asked, 1);
                size = signature.len();
                let signed = ffi::EVP_DigestSign(
                    context,
                    signature.as_mut_ptr(),
                    &mut size,
                    message.as_ptr(),
                    message.len(),
                );
                assert_eq!(signed, 1, "{}", last_error());
            }
            ffi::EVP_MD_CTX_free(context);
        }
    }
}

#[test]
fn a_signature_takes_no_memory() {
    const ROUNDS: u64 = 100;
    let (_stub, _alone) = stub::stub();
    let context = stub::context("");
    find_provider();
    // The first takes what it needs itself.
    counted(|| ());
    unsafe { backtrace([ptr::null_mut(); 4].as_mut_ptr(), 4) };
    let mut key = None;
    let (_, loading) = counted(|| key = Some(context.key(stub::URI).unwrap()));
    assert!(loading > 20, "the count sees the provider: {loading}");
    let key = key.unwrap();
    let (_, first) = counted(|| unsafe { sign(context.0, key.key) });
    assert!(first > 0, "the first signature takes a session and looks the key up: {first}");

    let (all, ours) = counted(|| (0..ROUNDS).for_each(|_| unsafe { sign(context.0, key.key) }));
    assert_eq!(ours, 0, "calls of malloc and free by the provider in {ROUNDS} signatures; {all} by all");

    // In another thread too, after its own first.
    let (libctx, pkey) = (context.0 as usize, key.key as usize);
    let elsewhere = move || unsafe {
        sign(libctx as *mut _, pkey as *mut _);
        counted(|| sign(libctx as *mut _, pkey as *mut _)).1
    };
    assert_eq!(std::thread::spawn(elsewhere).join().unwrap(), 0);

    let file = unsafe { ffi::EVP_PKEY_Q_keygen(context.0, ptr::null(), c"EC".as_ptr(), c"P-256".as_ptr()) };
    assert!(!file.is_null(), "{}", last_error());
    unsafe { sign(context.0, file) };
    let (file_all, file_ours) = counted(|| (0..ROUNDS).for_each(|_| unsafe { sign(context.0, file) }));
    unsafe { ffi::EVP_PKEY_free(file) };
    assert_eq!(file_ours, 0);
    assert!(all < file_all, "{all} in all, {file_all} with OpenSSL's own key");
}
