//! 64 threads on the same provider: keys shared, contexts duplicated in the middle, keys freed while signatures are made with them,
//! sessions lost under way.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing)]

use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use openssl_sys as ffi;

mod libcrypto;
mod stub;

use libcrypto::{Context, EVP_DigestSignInit_ex, Key, last_error};
use stub::{URI, context, signed_digest, stub};

const THREADS: u64 = 64;

/// What each thread signs differs, so that a signature that went to the wrong one shows.
fn message(thread: u64, round: u64) -> Vec<u8> {
    let mut message = vec![thread as u8; 100];
    message.extend_from_slice(&round.to_ne_bytes());
    message
}

/// SHA-256 by libcrypto, without the provider.
fn digest(message: &[u8]) -> Vec<u8> {
    let mut digest = vec![0; 32];
    let mut size = 0;
    let (name, none) = (c"SHA256".as_ptr(), ptr::null());
    let made = unsafe {
        ffi::EVP_Q_digest(
            ptr::null_mut(),
            name,
            none,
            message.as_ptr().cast(),
            message.len(),
            digest.as_mut_ptr(),
            &mut size,
        )
    };
    assert_eq!((made, size), (1, 32));
    digest
}

/// A context that signs; dropping it frees it.
struct Signing(*mut ffi::EVP_MD_CTX);

impl Drop for Signing {
    fn drop(&mut self) {
        unsafe { ffi::EVP_MD_CTX_free(self.0) };
    }
}

impl Signing {
    fn begin(context: &Context, key: &Key) -> Self {
        unsafe {
            let signing = Signing(ffi::EVP_MD_CTX_new());
            let (none, null) = (ptr::null_mut(), ptr::null());
            let sha256 = c"SHA256".as_ptr();
            let begun = EVP_DigestSignInit_ex(signing.0, none, sha256, context.0, null, key.key, null.cast());
            assert_eq!(begun, 1, "{}", last_error());
            signing
        }
    }

    fn update(&self, data: &[u8]) {
        assert_eq!(unsafe { ffi::EVP_DigestUpdate(self.0, data.as_ptr().cast(), data.len()) }, 1);
    }

    fn copy(&self) -> Self {
        unsafe {
            let copy = Signing(ffi::EVP_MD_CTX_new());
            assert_eq!(ffi::EVP_MD_CTX_copy_ex(copy.0, self.0), 1, "{}", last_error());
            copy
        }
    }

    fn end(self) -> Vec<u8> {
        let mut signature = vec![0; 256];
        let mut size = signature.len();
        let made = unsafe { ffi::EVP_DigestSignFinal(self.0, signature.as_mut_ptr(), &mut size) };
        assert_eq!(made, 1, "{}", last_error());
        signature.truncate(size);
        signature
    }
}

fn run(time: Duration) {
    let (stub, _alone) = stub();
    let context = &context("");
    let shared = &context.key(URI).unwrap();
    // A key that whoever comes replaces.
    let passed_on = &Mutex::new(context.key(URI).unwrap());
    let (rounds, until) = (&AtomicU64::new(0), Instant::now() + time);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut round = 0;
                while Instant::now() < until {
                    round += 1;
                    let message = message(thread, round);
                    let (first, second) = message.split_at(50);
                    let signature = match (thread + round) % 4 {
                        0 => shared.sign(&message).unwrap(),
                        // Both copies sign what both have seen, and go on alone.
                        1 => {
                            let one = Signing::begin(context, shared);
                            one.update(first);
                            let other = one.copy();
                            one.update(second);
                            other.update(b"something else");
                            let last = one.copy();
                            assert_eq!(
                                signed_digest(&other.end()),
                                digest(&[first, b"something else"].concat())
                            );
                            assert_eq!(signed_digest(&one.end()), digest(&message));
                            last.end()
                        }
                        // The application lets go of the key before the signature is made.
                        2 => {
                            let key = context.key(URI).unwrap();
                            let signing = Signing::begin(context, &key);
                            drop(key);
                            signing.update(&message);
                            signing.end()
                        }
                        // Somebody else frees it.
                        _ => {
                            let fresh = context.key(URI).unwrap();
                            let signing = {
                                let mut current = passed_on.lock().unwrap();
                                let signing = Signing::begin(context, &current);
                                *current = fresh;
                                signing
                            };
                            signing.update(&message);
                            signing.end()
                        }
                    };
                    assert_eq!(signed_digest(&signature), digest(&message));
                    rounds.fetch_add(1, Relaxed);
                }
            });
        }
        scope.spawn(move || {
            // Once: an operation is done again once.
            thread::sleep(time / 2);
            stub.restart();
        });
    });
    assert!(rounds.load(Relaxed) > THREADS * 4, "{rounds:?}");
}

#[test]
fn threads_share_keys_and_contexts() {
    run(Duration::from_secs(1));
}

#[test]
#[ignore = "a minute"]
fn threads_share_keys_and_contexts_for_long() {
    run(Duration::from_secs(60));
}
