//! Log-ins as a token sees them, and settings whose effect only libcrypto's functions show.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use openssl_sys as ffi;

mod libcrypto;
mod stub;

use stub::URI;

const LOGIN_REQUIRED: u64 = 0x4;
const COUNT_LOW: u64 = 0x1_0000;
const FINAL_TRY: u64 = 0x2_0000;
const LOCKED: u64 = 0x4_0000;
const OK: u64 = 0;
const PIN_INCORRECT: u64 = 0xa0;
const PIN_LOCKED: u64 = 0xa4;
const GENERAL_ERROR: u64 = 5;

/// A provider that knows nothing of the token from another test: those with the same settings share what they know.
fn context(more: &str) -> libcrypto::Context {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    stub::context(&format!("pkcs11-module-init-args = {number}\n{more}"))
}

fn with_pin(pin: &str) -> String {
    format!("{URI}?pin-value={pin}")
}

#[test]
fn a_wrong_pin_is_tried_once_and_another_one_may_be_right() {
    let (stub, _alone) = stub::stub();
    let context = context("");
    let before = stub.logins();
    stub.login(LOGIN_REQUIRED | COUNT_LOW, PIN_INCORRECT);
    let said = context.key(&with_pin("1")).err().unwrap();
    assert!(said.contains("CKR_PIN_INCORRECT") && said.contains("a few more"), "{said}");
    for _ in 0..6 {
        let said = context.key(&with_pin("1")).err().unwrap();
        assert!(said.contains("tried before"), "{said}");
    }
    assert_eq!(stub.logins() - before, 1);
    stub.login(LOGIN_REQUIRED, OK);
    assert!(context.key(&with_pin("1")).is_err());
    context.key(&with_pin("2")).unwrap().sign(b"message").unwrap();
    assert_eq!(stub.logins() - before, 2);
}

#[test]
fn the_last_try_is_not_made() {
    let (stub, _alone) = stub::stub();
    let context = context("");
    let before = stub.logins();
    for (flags, says) in [(FINAL_TRY, "one more wrong PIN would lock it"), (LOCKED, "unlock it first")] {
        stub.login(LOGIN_REQUIRED | flags, OK);
        let said = context.key(&with_pin("1")).err().unwrap();
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(stub.logins(), before);
    // Somebody has logged in by hand: the PIN was never tried, and is.
    stub.login(LOGIN_REQUIRED, OK);
    context.key(&with_pin("1")).unwrap();
    // It was right: after a restart of the token it is used although somebody else was wrong.
    stub.restart();
    stub.login(LOGIN_REQUIRED | FINAL_TRY, OK);
    context.key(&with_pin("1")).unwrap().sign(b"message").unwrap();
    assert_eq!(stub.logins() - before, 2);
}

/// A log-in that fails without a word on the PIN is not repeated without end: it may count. One PIN for each case, because what
/// became of it is remembered.
#[test]
fn a_log_in_that_may_have_counted_is_tried_three_times() {
    let (stub, _alone) = stub::stub();
    let context = context("");
    // Nobody is logged in from before.
    stub.restart();
    for (pin, flags, tries) in [("doubt", COUNT_LOW, 3), ("doubt without a count", 0, 10)] {
        stub.login(LOGIN_REQUIRED | flags, GENERAL_ERROR);
        let before = stub.logins();
        let mut said = String::new();
        for _ in 0..20 {
            said = context.key(&with_pin(pin)).err().unwrap();
        }
        assert_eq!(stub.logins() - before, tries, "{pin}: {said}");
        assert!(said.contains("the PIN may be wrong"), "{said}");
    }
    // One that the token took before is right, whatever happens to the token.
    stub.login(LOGIN_REQUIRED, OK);
    context.key(&with_pin("good")).unwrap();
    for _ in 0..6 {
        stub.restart();
        stub.login(LOGIN_REQUIRED | COUNT_LOW, GENERAL_ERROR);
        assert!(context.key(&with_pin("good")).is_err());
        stub.login(LOGIN_REQUIRED, OK);
        context.key(&with_pin("good")).unwrap().sign(b"message").unwrap();
    }
}

/// That the token is locked says nothing of the PIN: when it has been unlocked the same one is tried.
#[test]
fn a_token_that_was_unlocked_is_used_again() {
    let (stub, _alone) = stub::stub();
    let context = context("");
    stub.login(LOGIN_REQUIRED, PIN_LOCKED);
    assert!(context.key(&with_pin("1")).err().unwrap().contains("CKR_PIN_LOCKED"));
    stub.login(LOGIN_REQUIRED, OK);
    context.key(&with_pin("1")).unwrap().sign(b"message").unwrap();
}

/// The token's PIN was changed, or a second URI has it wrong: only the token knows.
#[test]
fn another_pin_than_the_one_that_is_logged_in_is_asked_of_the_token() {
    let (stub, _alone) = stub::stub();
    let context = context("");
    stub.login(LOGIN_REQUIRED, OK);
    let key = context.key(&with_pin("1")).unwrap();
    let before = stub.logins();
    context.key(&with_pin("2")).unwrap();
    assert_eq!(stub.logins() - before, 1);
    stub.login(LOGIN_REQUIRED, PIN_INCORRECT);
    assert!(context.key(&with_pin("3")).err().unwrap().contains("CKR_PIN_INCORRECT"));
    // Users of a partition are another matter: PKCS#11 has one log-in.
    stub.login(LOGIN_REQUIRED, OK);
    context.key(&with_pin("one:1")).unwrap();
    let said = context.key(&with_pin("two:1")).err().unwrap();
    assert!(said.contains("another user"), "{said}");
    key.sign(b"message").unwrap();
}

#[test]
fn the_settings_say_when_to_log_in_and_as_whom() {
    let (stub, _alone) = stub::stub();
    let pin = "pkcs11-module-token-pin = 1\n";
    // The token asks for no log-in.
    for (behavior, logins) in [("auto", 0), ("never", 0), ("always", 1)] {
        let context = context(&format!("{pin}pkcs11-module-login-behavior = {behavior}\n"));
        let before = stub.logins();
        context.key(URI).unwrap();
        assert_eq!(stub.logins() - before, logins, "{behavior}");
    }
    stub.login(LOGIN_REQUIRED, OK);
    context(pin).key(URI).unwrap();
    assert_eq!(stub.user(), 1);
    context(&format!("{pin}pkcs11-module-quirks = luna-non-standard-cku-user\n")).key(URI).unwrap();
    assert_eq!(stub.user(), 0x8000_0001);
}

/// As a partition does that admits the process's user id to some keys: the others are seen after a log-in.
#[test]
fn who_finds_nothing_logs_in_where_no_log_in_is_asked_for() {
    let (stub, _alone) = stub::stub();
    stub.hide(true);
    let before = stub.logins();
    assert!(context("").key(URI).is_err(), "there is no PIN");
    assert!(context("pkcs11-module-login-behavior = never\n").key(&with_pin("1")).is_err());
    assert_eq!(stub.logins(), before);

    let configured = context("pkcs11-module-token-pin = 1\n");
    let key = configured.key(URI).unwrap();
    assert_eq!(stub.logins() - before, 1);
    configured.key(URI).unwrap().sign(b"message").unwrap();
    assert_eq!(stub.logins() - before, 1, "it is logged in");
    // After a restart the key is found again in the same way.
    stub.restart();
    stub.hide(true);
    key.sign(b"message").unwrap();
    assert_eq!(stub.logins() - before, 2);

    // Nor is anybody logged in later who never is.
    stub.restart();
    let never = context("pkcs11-module-login-behavior = never\n");
    let key = never.key(&with_pin("1")).unwrap();
    stub.restart();
    stub.hide(true);
    assert!(key.sign(b"message").is_err());
    assert_eq!(stub.logins() - before, 2);

    // A PIN that is refused is what the error says, once.
    stub.restart();
    stub.hide(true);
    stub.login(0, PIN_INCORRECT);
    let context = context("");
    for says in ["CKR_PIN_INCORRECT", "tried before"] {
        let said = context.key(&with_pin("2")).err().unwrap();
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(stub.logins() - before, 3);
    // And it hides nothing.
    stub.hide(false);
    context.key(&with_pin("2")).unwrap();
}

#[test]
fn as_many_sessions_are_kept_as_the_setting_says() {
    let (stub, _alone) = stub::stub();
    for (setting, kept) in [("0", 1), ("2", 2)] {
        stub.restart();
        let context = context(&format!("pkcs11-module-cache-sessions = {setting}\n"));
        let key = context.key(URI).unwrap();
        stub.delay(50);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| key.sign(b"message").unwrap());
            }
        });
        stub.delay(0);
        assert_eq!(stub.sessions(), kept, "{setting}");
    }
}

/// libcrypto hands a public key to OpenSSL's own provider by exporting it.
#[test]
fn a_public_key_is_exported_unless_the_setting_forbids_it() {
    let (_stub, _alone) = stub::stub();
    const PUBLIC: c_int = 0x86;
    for (setting, exported) in
        [("", true), ("pkcs11-module-allow-export = 0\n", true), ("pkcs11-module-allow-export = 1\n", false)]
    {
        let context = context(setting);
        let key = context.key(URI).unwrap();
        let mut list = ptr::null_mut();
        unsafe {
            assert_eq!(ffi::EVP_PKEY_todata(key.key, PUBLIC, &mut list) == 1, exported, "{setting}");
            ffi::OSSL_PARAM_free(list);
        }
        key.sign(b"message").unwrap();
    }
}
