//! A panic anywhere in the provider is one call's failure, and the process lives. The panics are put there by a hook that
//! builds with debug assertions have (src/inject.rs).
#![cfg(debug_assertions)]
// What is called is called as C would call it; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod libcrypto;
mod stub;
mod tables;

use libcrypto::built;
use stub::{URI, context, signed_digest, stub};
use tables::{Call, Tables};

const MESSAGE: &[u8] = b"message";

/// Where digests, ciphers, codes and key derivations are given back or reset: operation and function.
const FREE: [(&str, &str); 5] = [("1 ", " 6"), ("2 ", " 7"), ("3 ", " 3"), ("4 ", " 3"), ("4 ", " 4")];

/// Every function of every table fails when it panics, whichever it is. They are found in the tables: a new one is tested without
/// being named here.
#[test]
fn a_panic_in_any_function_is_its_failure() {
    let (_, _alone) = stub();
    let tables = Tables::load(&built("examples/libstub_token.so").display().to_string());
    let inject: extern "C" fn(bool) -> bool = tables.symbol(c"strongroom_inject_at_entry");
    // The library is loaded once, and for the other tests too.
    assert!(!inject(false));
    let all = tables.all();
    assert!(all.len() > 150, "{} functions", all.len());
    let mut outside = Vec::new();
    for entry in &all {
        let function: Call = unsafe { std::mem::transmute(entry.function) };
        inject(true);
        let result = unsafe { function(0, 0, 0, 0, 0, 0, 0, 0) };
        if inject(false) {
            outside.push(entry.name.clone());
        } else {
            // Void functions leave anything in the register; the third is the generator's unlock. 1 is the failure of the store's
            // eof (24 in operation 22).
            let is_void = [" 1", " 1024", "RAND 10"].iter().any(|end| entry.name.ends_with(end))
                || FREE
                    .iter()
                    .any(|(operation, end)| entry.name.starts_with(operation) && entry.name.ends_with(end));
            let is_failure = result as i32 == 0 || entry.name == "22 pkcs11 6" && result as i32 == 1;
            assert!(is_failure || is_void || entry.name.contains("free"), "{}: {result}", entry.name);
        }
    }
    assert!(outside.is_empty(), "not in the fence: {outside:?}");
}

/// A panic in the middle of a signature or a search leaves nothing behind that the next one falls over: no lock that is held, no
/// session that is lost, no gate that is counted wrong.
#[test]
fn a_panic_between_token_calls_leaves_the_rest_working() {
    let (stub, _alone) = stub();
    let context = context("");
    let tables = Tables::load(&built("examples/libstub_token.so").display().to_string());
    let inject: extern "C" fn(u64) -> u64 = tables.symbol(c"strongroom_inject_at_token");
    let mut searches = 0;
    let mut signatures = 0;
    for call in 1..60 {
        inject(call);
        let key = context.key(URI);
        let in_search = inject(0) == 0;
        searches += u64::from(in_search);
        assert_eq!(key.is_err(), in_search, "call {call}");
        let key = context.key(URI).unwrap();
        // Everything is looked up again, so that there are many calls.
        stub.restart();
        inject(call);
        let signed = key.sign(MESSAGE);
        let in_signature = inject(0) == 0;
        signatures += u64::from(in_signature);
        match signed {
            Err(error) if in_signature => assert!(error.contains("internal error"), "{error}"),
            other => assert!(other.is_ok() && !in_signature, "call {call}: {other:?}"),
        }
        let signature = key.sign(MESSAGE).unwrap();
        assert_eq!(signed_digest(&signature).len(), 32);
    }
    assert!(searches > 5 && signatures > 5, "{searches} {signatures}");
    // The sessions that were in use went with their panics, closed.
    assert!(stub.sessions() < 10, "{}", stub.sessions());
}
